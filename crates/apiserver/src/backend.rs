//! Where a reference to a Service leads: the address behind it that a call from the API server goes to.
//!
//! Webhooks and extension API servers are named by namespace, name and port. A call goes straight to one of the ready endpoints,
//! in turn, as with upstream's `--enable-aggregator-routing`: the API server needs no Service rules of its own. Texts are those of
//! `k8s.io/apiserver/pkg/util/proxy`.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use stead_api::Status;
use stead_store::Snapshot;

/// `host:port` to connect to. `turn` chooses among several endpoints.
///
/// # Errors
/// 404 without the Service, 503 without the port or an endpoint that is ready.
pub fn resolve(snapshot: &Snapshot, namespace: &str, name: &str, port: i32, turn: usize) -> Result<String, Status> {
    // The listers of upstream name it in the singular.
    let found = snapshot.find("services", namespace, name).ok_or_else(|| Status::not_found("", "service", name))?;
    let service = found.view::<Service>();
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        let target = spec.and_then(|spec| spec.external_name.as_deref()).unwrap_or_default();
        return Ok(format!("{target}:{port}"));
    }
    let mut ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default().iter();
    let missing = || Status::unavailable(format!("no service port {port} found for service \"{name}\""));
    let wanted = ports.find(|one| one.port == port).ok_or_else(missing)?;
    let ready = addresses(snapshot, namespace, name, wanted);
    match ready.len() {
        0 => Err(Status::unavailable(format!("no endpoints available for service \"{name}\""))),
        many => Ok(ready[turn % many].clone()),
    }
}

/// The ready endpoints behind a port of a Service, in the order of their slices.
pub fn addresses(snapshot: &Snapshot, namespace: &str, service: &str, port: &ServicePort) -> Vec<String> {
    let wanted = port.name.as_deref().unwrap_or_default();
    let term = format!("label:kubernetes.io/service-name={service}");
    let slices = snapshot.indexed("endpointslices.discovery.k8s.io", &term);
    let mut all = Vec::new();
    for slice in slices.filter(|slice| *slice.key.namespace == *namespace) {
        let slice = slice.view::<EndpointSlice>();
        let is_wanted = |name: Option<&str>| name.unwrap_or_default() == wanted;
        let number = slice.ports.iter().flatten().find(|port| is_wanted(port.name.as_deref())).and_then(|p| p.port);
        let Some(number) = number else { continue };
        let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
            // What is not said means ready (D-13).
            endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
        });
        all.extend(ready.filter_map(|endpoint| endpoint.addresses.first()).map(|host| authority(host, number)));
    }
    all
}

fn authority(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Server;
    use serde_json::{Value, json};

    fn server(spec: Value, endpoints: Value) -> Server {
        let mut server = Server::new();
        let service = json!({"metadata": {"name": "web"}, "spec": spec});
        server.make("/api/v1/namespaces/default/services", service);
        let slice = json!({"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "https", "port": 8443}, {"name": "other", "port": 9}],
            "endpoints": endpoints});
        server.make("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice);
        server
    }

    fn asked(server: &Server, name: &str, port: i32, turn: usize) -> String {
        let head = server.head();
        resolve(&head.store.snapshot, "default", name, port, turn).unwrap_or_else(|status| status.message)
    }

    #[test]
    fn calls_go_to_the_ready_endpoints_in_turn() {
        let server = server(
            json!({"ports": [{"name": "https", "port": 443}, {"name": "gone", "port": 80}]}),
            json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": true}}]),
        );
        let all: Vec<String> = (0..3).map(|turn| asked(&server, "web", 443, turn)).collect();
        assert_eq!(all, ["10.0.0.1:8443", "10.0.0.3:8443", "10.0.0.1:8443"]);
        assert_eq!(asked(&server, "web", 80, 0), "no endpoints available for service \"web\"");
        assert_eq!(asked(&server, "web", 81, 0), "no service port 81 found for service \"web\"");
        assert_eq!(asked(&server, "nobody", 443, 0), "service \"nobody\" not found");
    }

    #[test]
    fn an_external_name_is_asked_under_that_name() {
        let server = server(json!({"type": "ExternalName", "externalName": "example.org"}), json!([]));
        assert_eq!(asked(&server, "web", 8443, 0), "example.org:8443");
    }
}
