//! Rubbish on every port: the right error where there is one, a closed connection otherwise, and a server that goes on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::time::Duration;

use crate::cluster::Cluster;

/// How long a connection that sends nothing sensible is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that look like nothing, the same in each run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn rubbish_is_refused_and_the_server_lives() {
    let cluster = Cluster::up("garbage");
    let pid = cluster.pid();
    cluster.tells(&[
        ("noise on the API's port", noise_on_the_port),
        ("half a request", half_requests),
        ("bodies", bodies),
        ("manifests", manifests),
        ("noise on DNS", noise_on_dns),
        ("noise on the administrator's socket", noise_on_the_socket),
    ]);
    assert_eq!(cluster.pid(), pid, "the same process answers");
    cluster.kubectl("get --raw /readyz").says("ok");
    let log = std::fs::read_to_string(cluster.data().join("stead.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}

fn noise_on_the_port(cluster: &Cluster) {
    let plain: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for bytes in [noise(10), noise(100_000), plain.to_vec(), [vec![22, 3, 1, 2, 0, 1], noise(600)].concat()] {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.api_port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server may close before all is written.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        assert!(
            !matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
            "left open after {} bytes",
            bytes.len()
        );
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
    // Two hundred that say nothing do not keep others out.
    let silent: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(("127.0.0.1", cluster.api_port)).unwrap()).collect();
    cluster.kubectl("get --raw /livez").says("ok");
    drop(silent);
}

fn half_requests(cluster: &Cluster) {
    // A body that ends early, over TLS: curl promises more than it sends, and goes.
    let half = "printf '{\"kind\":' | curl -sk --max-time 3 --cert-type PEM -X POST -H 'Content-Type: application/json' \
        -H 'Content-Length: 100000' --data-binary @- https://127.0.0.1";
    let outcome = cluster.sh(&format!("{half}:{}/api/v1/namespaces/default/configmaps; true", cluster.api_port));
    assert!(!outcome.out.contains("\"status\":\"Success\""), "{outcome}");
    cluster.kubectl("get --raw /livez").says("ok");
}

fn bodies(cluster: &Cluster) {
    let raw = |path: &str, body: &str| cluster.feed(&format!("kubectl create --raw {path} -f -"), body).fails();
    let maps = "/api/v1/namespaces/default/configmaps";
    let huge = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"huge\"}},\"data\":{{\"a\":\"{}\"}}}}",
        "a".repeat(10 << 20)
    );
    let error = raw(maps, &huge);
    assert!(error.contains("equest entity too large") || error.contains("limit is"), "{error}");
    for (body, text) in [
        ("", "rror"),
        ("{", "rror"),
        ("[]", "rror"),
        ("{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":7}}", "rror"),
        ("{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"x\"}}", "cannot be handled as a ConfigMap"),
    ] {
        let error = raw(maps, body);
        assert!(error.contains(text), "{body:?}: {error}");
    }
    let deep = format!("{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{}", "{\"a\":".repeat(100_000));
    raw(maps, &deep);
    cluster.kubectl("get configmap huge").fails();
}

/// X-12 and the like: what a user gets wrong is named, all at once.
fn manifests(cluster: &Cluster) {
    let set = |name: &str, selector: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: {name}}}\nspec: {{replicas: -1, serviceName: s, selector: {{matchLabels: {{app: {selector}}}}}, \
             template: {{metadata: {{labels: {{app: a}}}}, spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}\n"
        )
    };
    let error = cluster.feed("kubectl apply -f -", &set("wrong", "b")).fails();
    for text in [
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        "`selector` does not match template `labels`",
        "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
    ] {
        assert!(error.contains(text), "{text:?} in\n{error}");
    }
    let error = cluster.feed("kubectl apply -f -", &set(&"x".repeat(64), "a")).fails();
    assert!(error.contains("63"), "{error}");
    let error =
        cluster.feed("kubectl apply -f -", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Upper_Case}\n").fails();
    assert!(error.contains("a lowercase RFC 1123 subdomain must consist of"), "{error}");
    let error = cluster
        .feed("kubectl apply --validate=false -f -", "apiVersion: v9\nkind: Thing\nmetadata: {name: x}\n")
        .fails();
    assert!(error.contains("no matches for kind \"Thing\" in version \"v9\""), "{error}");
}

fn noise_on_dns(cluster: &Cluster) {
    let server = cluster.value("service kube-dns -n kube-system", "{.spec.clusterIP}");
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect((server.as_str(), 53)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for length in [0, 1, 11, 12, 13, 100, 512, 4000] {
        let _ = socket.send(&noise(length));
    }
    let mut stream = TcpStream::connect((server.as_str(), 53)).unwrap();
    let _ = stream.write_all(&noise(3000));
    drop(stream);
    // A sane question after all that is answered.
    cluster.sh(&format!("dig +short +time=5 +tries=1 @{server} kubernetes.default.svc.cluster.local A")).says("10.");
    cluster
        .sh(&format!("dig +short +tcp +time=5 +tries=1 @{server} kubernetes.default.svc.cluster.local A"))
        .says("10.");
    cluster.sh(&format!("dig +time=5 +tries=1 @{server} absent.default.svc.cluster.local A")).says("NXDOMAIN");
}

fn noise_on_the_socket(cluster: &Cluster) {
    let mut stream = std::os::unix::net::UnixStream::connect(cluster.data().join("run/api.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(&noise(1000));
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    cluster.stead("status").says("nodes");
}
