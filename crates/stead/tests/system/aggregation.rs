//! Aggregated APIs: a real extension API server behind a Service, used with the real kubectl.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use base64::Engine;

use crate::cluster::Cluster;
use crate::extension::ExtensionServer;

const NAME: &str = "apiservice/v1alpha1.wardle.example.com";
const FLUNDER: &str = "
apiVersion: wardle.example.com/v1alpha1
kind: Flunder
metadata: {name: first}
spec: {colour: blue}
";

#[test]
fn an_extension_server_registers_and_works() {
    let cluster = Cluster::new("aggregation");
    cluster.start("--no-node").says("stead is up");
    let trusted = "jsonpath={.data.requestheader-client-ca-file}";
    let front_proxy_ca =
        cluster.kubectl(&format!("get configmap -n kube-system extension-apiserver-authentication -o {trusted}")).ok();
    let server = ExtensionServer::start("wardle.default.svc", &front_proxy_ca);
    it_is_found_missing_step_by_step(&cluster, &server);
    cluster.tells(&[
        ("discovery", is_discovered),
        ("objects", objects_are_its_own),
        ("callers", callers_are_named),
        ("watches", watches_are_streamed),
        ("upgrades", upgrades_are_carried),
        ("openapi", schemas_are_explained),
        ("namespaces", namespaces_lose_their_content),
    ]);
    drop(server);
    it_holds_namespaces_when_it_is_away(&cluster);
    it_is_told_when_it_is_gone(&cluster);
}

fn register(cluster: &Cluster, ca_pem: &str) {
    let bundle = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    cluster.apply(&format!(
        "
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: v1alpha1.wardle.example.com}}
spec:
  group: wardle.example.com
  version: v1alpha1
  groupPriorityMinimum: 1000
  versionPriority: 15
  caBundle: {bundle}
  service: {{namespace: default, name: wardle}}
"
    ));
}

fn wait_for(cluster: &Cluster, reason: &str) {
    cluster.wait(NAME, &format!("jsonpath={{.status.conditions[0].reason}}={reason}"));
}

fn it_is_found_missing_step_by_step(cluster: &Cluster, server: &ExtensionServer) {
    register(cluster, "");
    wait_for(cluster, "ServiceNotFound");
    cluster.kubectl(&format!("get {NAME}")).says("default/wardle False (ServiceNotFound)");
    let raw = cluster.kubectl("get --raw /apis/wardle.example.com/v1alpha1").fails();
    assert!(raw.contains("the server is currently unable to handle the request"), "{raw}");
    cluster.apply(
        "---\n{apiVersion: v1, kind: Service, metadata: {name: wardle}, spec: {ports: [{name: https, port: 443, targetPort: 8443}]}}",
    );
    wait_for(cluster, "EndpointsNotFound");
    let (ip, port) = (server.address.ip(), server.address.port());
    // The older kind: it is mirrored.
    cluster.apply(&format!(
        "---\n{{apiVersion: v1, kind: Endpoints, metadata: {{name: wardle}}, \
          subsets: [{{addresses: [{{ip: {ip}}}], ports: [{{name: https, port: {port}}}]}}]}}"
    ));
    // Without a bundle it is not believed.
    wait_for(cluster, "FailedDiscoveryCheck");
    let why = cluster.value(NAME, "{.status.conditions[0].message}");
    let url = format!("https://{ip}:{port}/apis/wardle.example.com/v1alpha1");
    assert_eq!(
        why,
        format!(
            "failing or missing response from {url}: Get \"{url}\": tls: failed to verify certificate: x509: certificate \
             signed by unknown authority"
        )
    );
    register(cluster, &server.ca_pem);
    wait_for(cluster, "Passed");
    cluster.kubectl(&format!("get {NAME}")).says("default/wardle True");
}

fn is_discovered(cluster: &Cluster) {
    cluster.kubectl("api-versions").says("wardle.example.com/v1alpha1\n");
    cluster
        .kubectl("api-resources --api-group wardle.example.com")
        .says("flunders fl wardle.example.com/v1alpha1 true Flunder");
    cluster
        .kubectl("get --raw /apis/wardle.example.com")
        .says("\"preferredVersion\":{\"groupVersion\":\"wardle.example.com/v1alpha1\"");
    cluster.kubectl("get --raw /apis/wardle.example.com/v1alpha1").says("\"kind\":\"APIResourceList\"");
}

fn objects_are_its_own(cluster: &Cluster) {
    cluster.feed("kubectl create -f -", FLUNDER).says("flunder.wardle.example.com/first created");
    cluster.kubectl("get fl first -o jsonpath={.spec.colour}").says("blue");
    cluster.kubectl("get flunders -o name").says("flunder.wardle.example.com/first");
    let missing = cluster.kubectl("get flunder other").fails();
    assert_eq!(missing.trim(), "Error from server (NotFound): flunders.wardle.example.com \"other\" not found");
    cluster.kubectl("delete flunder first --wait=false").says("deleted");
    assert_eq!(cluster.kubectl("get flunders -o name").ok(), "");
}

fn callers_are_named(cluster: &Cluster) {
    let who = "get --raw /apis/wardle.example.com/v1alpha1/whoami";
    let admin = cluster.kubectl(who).ok();
    assert_eq!(
        admin,
        r#"{"user":["kubernetes-admin"],"groups":["system:masters","system:authenticated"],"token":false,"for":["127.0.0.1"],"uri":["/apis/wardle.example.com/v1alpha1/whoami"]}"#
    );
    let ann = format!("{who} --as=ann --as-group=team");
    let refused = cluster.kubectl(&ann).fails();
    assert!(
        refused.contains("User \"ann\" cannot list resource \"whoami\" in API group \"wardle.example.com\""),
        "{refused}"
    );
    cluster.apply(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: see-wardle}
rules: [{apiGroups: [wardle.example.com], resources: [whoami], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: see-wardle}
subjects: [{kind: Group, name: team, apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: ClusterRole, name: see-wardle, apiGroup: rbac.authorization.k8s.io}
",
    );
    let told = cluster.kubectl(&ann).ok();
    assert!(told.starts_with(r#"{"user":["ann"],"groups":["team","#), "{told}");
    // A token is ours to check, not the extension's to see; headers that claim to be somebody are not believed.
    cluster.kubectl("create serviceaccount caller").ok();
    cluster.kubectl("create clusterrolebinding caller --clusterrole=see-wardle --serviceaccount=default:caller").ok();
    let url = format!("https://127.0.0.1:{}/apis/wardle.example.com/v1alpha1/whoami", cluster.api_port);
    let token = cluster.kubectl("create token caller").ok();
    let curl = format!(
        "curl -sk -H 'Authorization: Bearer {}' -H 'X-Remote-User: root' -H 'X-Remote-Group: system:masters' {url}",
        token.trim()
    );
    let told = cluster.sh(&curl).ok();
    assert!(told.contains(r#""user":["system:serviceaccount:default:caller"]"#), "{told}");
    assert!(!told.contains("system:masters") && told.contains(r#""token":false"#), "{told}");
}

fn watches_are_streamed(cluster: &Cluster) {
    let watch = "exec kubectl get --raw '/apis/wardle.example.com/v1alpha1/namespaces/default/flunders?watch=true'";
    let mut watch = cluster.shell(watch).stdout(Stdio::piped()).spawn().expect("kubectl starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("it is piped")).lines();
    // A watch that was not there yet misses what happens, so things happen until it tells.
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(lines.next()));
    let mut event = None;
    for n in 0..60 {
        let flunder = FLUNDER.replace("first", &format!("seen-{n}"));
        cluster.feed("kubectl create -f -", &flunder).ok();
        event = told.recv_timeout(std::time::Duration::from_millis(500)).ok();
        if event.is_some() {
            break;
        }
    }
    let line = event.expect("an event came").expect("the watch told something").expect("text");
    assert!(line.starts_with(r#"{"type":"ADDED","object":{"#) && line.contains("seen-"), "{line}");
    end(watch);
}

/// Ends a command and what it started.
fn end(mut command: std::process::Child) {
    let id = command.id().to_string();
    std::process::Command::new("kill").args(["-TERM", &id]).status().expect("kill starts");
    command.wait().expect("it ends");
}

/// A protocol that only the two ends know, through `kubectl proxy`.
fn upgrades_are_carried(cluster: &Cluster) {
    let mut proxy =
        cluster.shell("exec kubectl proxy --port 0").stdout(Stdio::piped()).spawn().expect("kubectl starts");
    let mut line = String::new();
    BufReader::new(proxy.stdout.take().expect("it is piped")).read_line(&mut line).expect("it tells its port");
    let address = line.trim().rsplit(' ').next().expect("a last word").to_owned();
    let mut stream = std::net::TcpStream::connect(&address).expect("it listens");
    let path = "/apis/wardle.example.com/v1alpha1/echo";
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: capitals\r\n\r\n")
        .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101 ") && head.to_lowercase().contains("upgrade: capitals"), "{head}");
    stream.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    reader.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"HELLO");
    end(proxy);
}

fn schemas_are_explained(cluster: &Cluster) {
    cluster.kubectl("explain flunder.spec.colour").says("Its colour.");
}

fn namespaces_lose_their_content(cluster: &Cluster) {
    cluster.kubectl("create namespace short").ok();
    let flunder =
        "{\"apiVersion\": \"wardle.example.com/v1alpha1\", \"kind\": \"Flunder\", \"metadata\": {\"name\": \"brief\"}}";
    cluster.sh(&format!("echo '{flunder}' | kubectl create -n short -f -")).ok();
    cluster.kubectl("delete namespace short --timeout 20s").ok();
    let left = cluster.kubectl("get --raw /apis/wardle.example.com/v1alpha1/namespaces/short/flunders").ok();
    assert!(!left.contains("brief"), "{left}");
}

fn it_holds_namespaces_when_it_is_away(cluster: &Cluster) {
    cluster.kubectl("create namespace held").ok();
    cluster.kubectl("label service wardle away=yes").ok();
    wait_for(cluster, "FailedDiscoveryCheck");
    cluster.kubectl("delete namespace held --wait=false").ok();
    cluster.wait("namespace/held", "condition=NamespaceDeletionDiscoveryFailure");
}

fn it_is_told_when_it_is_gone(cluster: &Cluster) {
    // A change of the Service is a reason to ask again at once.
    cluster.kubectl("label service wardle again=yes").ok();
    wait_for(cluster, "FailedDiscoveryCheck");
    let why = cluster.value(NAME, "{.status.conditions[0].message}");
    assert!(why.ends_with("connect: connection refused"), "{why}");
    let raw = cluster.sh(&format!(
        "kubectl get --raw /apis/wardle.example.com/v1alpha1/whoami; \
         curl -sk -i --cert-type PEM -H \"Authorization: Bearer $(kubectl create token caller)\" \
         https://127.0.0.1:{}/apis/wardle.example.com/v1alpha1/whoami",
        cluster.api_port
    ));
    assert!(raw.out.contains("service unavailable\n") && raw.out.contains(" 503 "), "{raw}");
    // What is listed stays listed, and is said to be old.
    let old = cluster.kubectl("get --raw /apis/wardle.example.com").ok();
    assert!(old.contains("v1alpha1"), "{old}");
    let form = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let url = format!("https://127.0.0.1:{}/apis", cluster.api_port);
    let token = "$(kubectl create token caller)";
    let all = cluster.sh(&format!("curl -sk -H 'Accept: {form}' -H \"Authorization: Bearer {token}\" {url}")).ok();
    let (_, wardle) = all.split_once("\"wardle.example.com\"").expect("it is listed");
    let (version, _) = wardle.split_once("\"metadata\"").unwrap_or((wardle, ""));
    assert!(version.contains("\"Stale\"") && version.contains("flunders"), "{version}");
    cluster.kubectl(&format!("delete {NAME}")).ok();
    cluster.kubectl("wait --for delete namespace/held --timeout 20s").ok();
    let gone = cluster.kubectl("get --raw /apis/wardle.example.com/v1alpha1").fails();
    assert!(gone.contains("NotFound"), "{gone}");
}
