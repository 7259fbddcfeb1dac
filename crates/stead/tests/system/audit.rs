//! The audit log of a cluster whose policy treats each kind of request in another way.

use serde_json::Value;

use crate::cluster::Cluster;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- {level: None, nonResourceURLs: ['/api*', '/openapi*', /version]}
- {level: Metadata, omitStages: [RequestReceived], resources: [{group: '', resources: [secrets]}]}
- {level: RequestResponse, omitStages: [RequestReceived], resources: [{group: '', resources: [configmaps]}], namespaces: [default]}
- {level: Metadata, verbs: [create], omitStages: [RequestReceived], resources: [{group: '', resources: [pods]}]}
- {level: Request, verbs: [create, watch], resources: [{group: '', resources: [serviceaccounts]}]}
- {level: Metadata, users: ['system:anonymous', '']}
";

const ADMISSION: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: sizes}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: ['*'], operations: ['*'], resources: [configmaps]}]}
  validations: [{expression: 'size(object.data) > 1', message: too small}]
  auditAnnotations: [{key: entries, valueExpression: 'string(size(object.data))'}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: sizes}
spec: {policyName: sizes, validationActions: [Audit]}
"#;

#[test]
fn what_the_policy_asks_for_is_written() {
    let cluster = Cluster::new("audit");
    std::fs::write(cluster.dir.join("policy.yaml"), POLICY).expect("the scratch directory is writable");
    let refused = cluster.start("--no-node --audit-policy-file policy.yaml").fails();
    assert!(refused.contains("--audit-policy-file and --audit-log-path need each other"), "{refused}");
    cluster.start("--no-node --audit-policy-file policy.yaml --audit-log-path log/audit.log").ok();

    cluster.kubectl("create secret generic hidden --from-literal word=very-secret").ok();
    cluster.kubectl("create configmap shown --from-literal word=plain").ok();
    cluster.kubectl("create serviceaccount bot").ok();
    cluster.kubectl("delete configmap nothing").fails();
    cluster.kubectl("--as jane get secret hidden").fails();
    cluster.kubectl("create rolebinding bot --clusterrole admin --serviceaccount default:bot").ok();
    cluster.kubectl("--as system:serviceaccount:default:bot get secret hidden").ok();
    cluster.kubectl("label namespace default pod-security.kubernetes.io/audit=baseline").ok();
    cluster.kubectl("run bold --image x --overrides '{\"spec\": {\"hostNetwork\": true}}'").ok();
    std::fs::write(cluster.dir.join("admission.yaml"), ADMISSION).expect("the scratch directory is writable");
    cluster.kubectl("apply -f admission.yaml").ok();
    cluster.kubectl("create configmap noted --from-literal word=plain").ok();
    cluster.sh("timeout 2 kubectl get serviceaccounts --watch-only; true").ok();
    let curl = |more: &str, path: &str| {
        let ca = cluster.data().join("pki/ca.crt");
        cluster
            .sh(&format!("curl -sS -i --cacert {} {more} https://127.0.0.1:{}{path}", ca.display(), cluster.api_port))
            .ok()
    };
    let answer = curl("-H 'Audit-ID: mine'", "/apis/apps/v1/deployments");
    assert!(answer.to_lowercase().contains("audit-id: mine"), "{answer}");
    curl("-H 'Authorization: Bearer rubbish'", "/healthz/x");
    cluster.stead("down").ok();

    let log = cluster.sh("cat log/audit.log").ok();
    assert!(!log.contains("very-secret") && !log.contains("dmVyeS1zZWNyZXQ="), "no content of Secrets");
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("a line is an event")).collect();
    let find = |verb: &str, resource: &str, name: &str, stage: &str| {
        let is_it = |event: &&Value| {
            let about = &event["objectRef"];
            event["verb"] == verb
                && about["resource"] == resource
                && event["stage"] == stage
                && (name.is_empty() || about["name"] == name)
        };
        events.iter().filter(is_it).collect::<Vec<_>>()
    };
    let one = |verb: &str, resource: &str, name: &str, stage: &str| match find(verb, resource, name, stage)[..] {
        [event] => event,
        ref found => panic!("{verb} {resource} {name} {stage}: {found:?} in\n{log}"),
    };
    let secret = one("create", "secrets", "hidden", "ResponseComplete");
    assert_eq!((&secret["level"], &secret["responseStatus"]["code"]), (&"Metadata".into(), &201.into()));
    assert!(secret["requestObject"].is_null() && secret["auditID"].as_str().is_some_and(|id| id.len() == 36));
    assert_eq!(secret["user"]["username"], "kubernetes-admin");
    assert_eq!(secret["sourceIPs"][0], "127.0.0.1");
    assert!(find("create", "secrets", "", "RequestReceived").is_empty(), "omitted");
    let map = one("create", "configmaps", "shown", "ResponseComplete");
    assert_eq!(
        (&map["requestObject"]["data"]["word"], &map["responseObject"]["data"]["word"]),
        (&"plain".into(), &"plain".into())
    );
    assert!(map["responseObject"]["metadata"]["managedFields"].is_null(), "omitted");
    let noted = &one("create", "configmaps", "noted", "ResponseComplete")["annotations"];
    assert_eq!(noted["sizes/entries"], "1");
    let failure = r#"[{"message":"too small","policy":"sizes","binding":"sizes","expressionIndex":0,"validationActions":["Audit"]}]"#;
    assert_eq!(noted["validation.policy.admission.k8s.io/validation_failure"], failure);
    let gone = one("delete", "configmaps", "nothing", "ResponseComplete");
    assert_eq!((&gone["responseStatus"]["code"], &gone["responseStatus"]["reason"]), (&404.into(), &"NotFound".into()));
    one("create", "serviceaccounts", "", "RequestReceived");
    let account = one("create", "serviceaccounts", "bot", "ResponseComplete");
    assert!(account["requestObject"].is_object() && account["responseObject"].is_null());
    one("watch", "serviceaccounts", "", "ResponseStarted");
    one("watch", "serviceaccounts", "", "ResponseComplete");

    let annotations = &one("create", "pods", "bold", "ResponseComplete")["annotations"];
    assert_eq!(annotations["pod-security.kubernetes.io/enforce-policy"], "privileged:latest");
    let why = "would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    let told = annotations["pod-security.kubernetes.io/audit-violations"].as_str().unwrap_or_default();
    assert!(told.starts_with(why), "{told}");

    let reads = find("get", "secrets", "hidden", "ResponseComplete");
    let decisions: Vec<(&Value, &Value, &Value)> = reads
        .iter()
        .map(|event| {
            let annotations = &event["annotations"];
            (
                &event["impersonatedUser"]["username"],
                &annotations["authorization.k8s.io/decision"],
                &annotations["authorization.k8s.io/reason"],
            )
        })
        .collect();
    let why = "RBAC: allowed by RoleBinding \"bot/default\" of ClusterRole \"admin\" to ServiceAccount \"bot/default\"";
    let expected: [(Value, Value, Value); 2] = [
        ("jane".into(), "forbid".into(), "".into()),
        ("system:serviceaccount:default:bot".into(), "allow".into(), why.into()),
    ];
    assert_eq!(decisions, expected.iter().map(|(a, b, c)| (a, b, c)).collect::<Vec<_>>());
    let anonymous = one("list", "deployments", "", "ResponseComplete");
    assert_eq!((&anonymous["auditID"], &anonymous["responseStatus"]["code"]), (&"mine".into(), &403.into()));
    let stranger =
        events.iter().find(|event| event["requestURI"] == "/healthz/x" && event["stage"] == "ResponseComplete");
    assert_eq!(stranger.expect("a request with a wrong token")["responseStatus"]["code"], 401);
}
