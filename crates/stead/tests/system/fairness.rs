//! A greedy client and others: what a level refuses and lets wait, with the headers and columns that clients see.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::hook::HookServer;

/// Every account may do what the others may; greedy's requests have a level of three seats.
const FLOWS: &str = "---
{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: PriorityLevelConfiguration, metadata: {name: small},
 spec: {type: Limited, limited: {nominalConcurrencyShares: 1, borrowingLimitPercent: 0, limitResponse: {type: Reject}}}}
---
{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: FlowSchema, metadata: {name: greedy},
 spec: {priorityLevelConfiguration: {name: small}, matchingPrecedence: 700, distinguisherMethod: {type: ByUser}, rules: [
  {subjects: [{kind: ServiceAccount, serviceAccount: {namespace: default, name: greedy}}],
   resourceRules: [{verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*'], clusterScope: true}]}]}}
";
const SEATS: usize = 3;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_greedy_client_is_held_back_and_nobody_else() {
    let cluster = Cluster::new("fairness");
    cluster.start("--no-node").ok();
    cluster.tells(&[("defaults", defaults_are_there_and_come_back), ("greed", greed_is_refused_then_waits)]);
}

fn defaults_are_there_and_come_back(cluster: &Cluster) {
    // Written behind the server's own first writes.
    cluster.kubectl("create configmap first").ok();
    let schemas = cluster.kubectl("get flowschemas").ok();
    let head = "NAME PRIORITYLEVEL MATCHINGPRECEDENCE DISTINGUISHERMETHOD AGE MISSINGPL";
    assert!(crate::cluster::squeezed(&schemas).starts_with(head), "{schemas}");
    assert_eq!(schemas.lines().count(), 1 + 13, "{schemas}");
    let probes = schemas.lines().find(|line| line.starts_with("probes")).expect("one for probes");
    assert!(crate::cluster::squeezed(probes).starts_with("probes exempt 2 <none>"), "{probes}");
    assert!(probes.trim_end().ends_with("False"), "its level is there: {probes}");
    let levels = cluster.kubectl("get prioritylevelconfigurations").ok();
    assert_eq!(levels.lines().count(), 1 + 8, "{levels}");
    let low = levels.lines().find(|line| line.starts_with("workload-low")).expect("one for accounts");
    assert!(crate::cluster::squeezed(low).starts_with("workload-low Limited 100 128 6 50"), "{low}");

    cluster.kubectl("delete flowschema catch-all global-default").ok();
    cluster.kubectl("get flowschemas catch-all global-default").says("global-default");
    let shares = "{.spec.limited.nominalConcurrencyShares}";
    let patch = |shares: u8| {
        let to = format!(r#"{{"spec":{{"limited":{{"nominalConcurrencyShares":{shares}}}}}}}"#);
        cluster.kubectl(&format!("patch prioritylevelconfiguration system --type merge -p '{to}'")).ok()
    };
    patch(7);
    assert_eq!(cluster.value("prioritylevelconfiguration/system", shares), "30");
    let annotate = "annotate --overwrite prioritylevelconfiguration system apf.kubernetes.io/autoupdate-spec=false";
    cluster.kubectl(annotate).ok();
    patch(7);
    assert_eq!(cluster.value("prioritylevelconfiguration/system", shares), "7");
    let refused =
        cluster.kubectl("patch flowschema exempt --type merge -p '{\"spec\":{\"matchingPrecedence\":3}}'").fails();
    assert!(refused.contains("spec of 'exempt' must equal the fixed value"), "{refused}");
}

/// A client of the API with an account's token.
struct Client<'a> {
    cluster: &'a Cluster,
    token: String,
}

impl<'a> Client<'a> {
    fn new(cluster: &'a Cluster, name: &str) -> Client<'a> {
        cluster.kubectl(&format!("create serviceaccount {name}")).ok();
        cluster
            .kubectl(&format!("create clusterrolebinding {name} --clusterrole edit --serviceaccount default:{name}"))
            .ok();
        Client { cluster, token: cluster.kubectl(&format!("create token {name}")).ok().trim().to_owned() }
    }

    fn command(&self, path: &str, more: &str) -> String {
        let (ca, port) = (self.cluster.data().join("pki/ca.crt"), self.cluster.api_port);
        let token = &self.token;
        format!(
            "exec curl -sS -i --cacert {} -H 'Authorization: Bearer {token}' {more} 'https://127.0.0.1:{port}{path}'",
            ca.display()
        )
    }

    /// Head and body of an answer.
    fn get(&self, path: &str) -> String {
        self.cluster.sh(&self.command(path, "")).ok()
    }

    /// One that is being answered until it is killed.
    fn begin(&self, path: &str, more: &str) -> Running {
        let mut shell = Command::new("bash");
        shell.args(["-c", &self.command(path, more)]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Running(shell.spawn().expect("a shell starts"))
    }

    /// A write that the webhook holds up.
    fn write(&self, name: &str) -> Running {
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"slow":"yes"}}}}}}"#
        );
        self.begin(MAPS, &format!("-H 'Content-Type: application/json' -d '{body}'"))
    }
}

struct Running(Child);

impl Running {
    fn answer(mut self) -> String {
        let mut out = String::new();
        let mut end = self.0.stdout.take().expect("piped");
        std::io::Read::read_to_string(&mut end, &mut out).expect("an answer is text");
        out
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A series of greedy's schema.
fn of_greedy(series: &str) -> String {
    format!("apiserver_flowcontrol_{series}{{flow_schema=\"greedy\",priority_level=\"small\"")
}

/// The value of the first series that begins so.
fn counted(cluster: &Cluster, series: &str) -> usize {
    let metrics = cluster.kubectl("get --raw /metrics").ok();
    let line = metrics.lines().find(|line| line.starts_with(series));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

#[track_caller]
fn wait_for(cluster: &Cluster, series: &str, value: usize) {
    let until = Instant::now() + PATIENCE;
    while counted(cluster, series) != value {
        assert!(Instant::now() < until, "{series} is {} and not {value}", counted(cluster, series));
    }
}

#[track_caller]
fn is_refused(answer: &str) {
    let low = answer.to_lowercase();
    assert!(low.lines().next().is_some_and(|line| line.contains(" 429")), "{answer}");
    assert!(low.contains("\nretry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("too many requests, please try again later"), "{answer}");
    assert!(answer.contains("TooManyRequests"), "{answer}");
}

#[track_caller]
fn is_good(answer: &str) {
    assert!(answer.lines().next().is_some_and(|line| line.contains(" 200")), "{answer}");
}

fn greed_is_refused_then_waits(cluster: &Cluster) {
    // A webhook that never answers holds writes up for as long as is needed here.
    let hook = HookServer::start(&[], |_, _| None);
    let webhook = format!(
        "---\n{{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {{name: slow}}, \
         webhooks: [{{name: slow.example.com, sideEffects: None, admissionReviewVersions: [v1], timeoutSeconds: 30, \
         failurePolicy: Ignore, objectSelector: {{matchLabels: {{slow: 'yes'}}}}, \
         clientConfig: {{url: 'https://127.0.0.1:{}/slow', caBundle: {}}}, \
         rules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}}]}}]}}",
        hook.port, hook.ca_bundle
    );
    cluster.apply(&webhook);
    cluster.apply(FLOWS);
    let (greedy, modest) = (Client::new(cluster, "greedy"), Client::new(cluster, "modest"));
    let uid = |object: &str| cluster.value(object, "{.metadata.uid}");
    let marks = |schema: &str, level: &str| {
        let schema = uid(&format!("flowschema/{schema}"));
        let level = uid(&format!("prioritylevelconfiguration/{level}"));
        [format!("x-kubernetes-pf-flowschema-uid: {schema}"), format!("x-kubernetes-pf-prioritylevel-uid: {level}")]
    };

    // Whose body does not come holds nobody up.
    let stalled: Vec<Running> = (0..SEATS).map(|_| greedy.begin(MAPS, "-X POST -T -")).collect();
    wait_for(cluster, "apiserver_current_inflight_requests{request_kind=\"mutating\"}", SEATS);
    is_good(&greedy.get(MAPS));
    drop(stalled);

    let held: Vec<Running> = (0..SEATS).map(|n| greedy.write(&format!("held-{n}"))).collect();
    wait_for(cluster, &of_greedy("current_executing_requests"), SEATS);
    let refused = greedy.get(MAPS);
    is_refused(&refused);
    assert!(marks("greedy", "small").iter().all(|mark| refused.to_lowercase().contains(mark)), "{refused}");
    let answered = modest.get(MAPS);
    is_good(&answered);
    let of_others = marks("service-accounts", "workload-low");
    assert!(of_others.iter().all(|mark| answered.to_lowercase().contains(mark)), "{answered}");
    assert_eq!(counted(cluster, &of_greedy("rejected_requests_total")), 1);

    // One may wait now.
    let queue = r#"{"spec":{"limited":{"limitResponse":{"type":"Queue","queuing":{"queues":1,"handSize":1,"queueLengthLimit":1}}}}}"#;
    cluster.kubectl(&format!("patch prioritylevelconfiguration small --type merge -p '{queue}'")).ok();
    let waiting = greedy.begin(&format!("{MAPS}?timeout=60s"), "");
    wait_for(cluster, &of_greedy("current_inqueue_requests"), 1);
    is_refused(&greedy.get(MAPS));
    is_good(&modest.get(MAPS));
    // A client that goes away gives its seat back.
    drop(held);
    is_good(&waiting.answer());
    wait_for(cluster, &of_greedy("current_executing_requests"), 0);
    is_good(&greedy.get(MAPS));
    // Without its level the schema says so, and its requests are as everybody's.
    cluster.kubectl("delete prioritylevelconfiguration small").ok();
    cluster.kubectl("get flowschema greedy").says("True");
    let answered = greedy.get(MAPS);
    assert!(of_others.iter().all(|mark| answered.to_lowercase().contains(mark)), "{answered}");
}
