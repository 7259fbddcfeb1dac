//! Proxy subresources of pods, services and nodes: which server a request means (N-20, K-24).
//!
//! Names are `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`. Upstream: pkg/registry/core/{pod,service,node} `ResourceLocation`.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use stead_api::{Request, Resource, Status, Target};
use stead_store::Snapshot;

use crate::{Head, access};

/// A request that goes to another server.
#[derive(Debug, PartialEq, Eq)]
pub struct ProxyPlan {
    pub server: ProxiedServer,
    /// The path before the one that is passed on: `/api/v1/namespaces/default/pods/web-0/proxy`.
    pub prefix: String,
    /// What follows it, as sent: empty or with a slash at its start.
    pub path: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum ProxiedServer {
    /// `http` or `https`, and `host:port`.
    Address { scheme: &'static str, authority: String },
    /// The agent of a node.
    Agent { node: String },
}

/// Whether a path leads through a proxy subresource.
pub fn is_proxied(path: &str) -> bool {
    path.contains("/proxy")
        && matches!(stead_api::request::target(path), Target::Resource(resource) if is_ours(&resource))
}

fn is_ours(resource: &Resource) -> bool {
    resource.group.is_empty()
        && resource.version == "v1"
        && resource.subresource == "proxy"
        && matches!(resource.plural.as_str(), "pods" | "services" | "nodes")
}

/// Where a request goes. `path` is the whole one, as sent; `turn` chooses among several endpoints.
///
/// # Errors
/// 403 for those who may not, 404 and 503 where nothing is.
pub fn proxy(head: &Head, request: &Request, path: &str, turn: usize) -> Result<ProxyPlan, Status> {
    let snapshot = &head.store.snapshot;
    access::authorize_request(snapshot, request)?;
    let resource = request.resource().filter(|resource| is_ours(resource)).ok_or_else(Status::no_such_path)?;
    let asked = Asked::of(resource)?;
    let server = match resource.plural.as_str() {
        "pods" => of_pod(snapshot, &resource.namespace, &asked)?,
        "services" => of_service(snapshot, &resource.namespace, &asked, turn)?,
        _ => of_node(snapshot, &asked)?,
    };
    // /api/v1/namespaces/NAMESPACE/pods/NAME/proxy or /api/v1/nodes/NAME/proxy
    let segments = if resource.plural == "nodes" { 5 } else { 7 };
    let (prefix, path) = path.split_at(end_of_segment(path, segments));
    Ok(ProxyPlan { server, prefix: prefix.to_owned(), path: path.to_owned() })
}

/// Where the n-th segment of a path ends; empty ones do not count.
fn end_of_segment(path: &str, n: usize) -> usize {
    let mut seen = 0;
    let mut last = '/';
    for (at, letter) in path.char_indices() {
        if letter == '/' && last != '/' {
            seen += 1;
            if seen == n {
                return at;
            }
        }
        last = letter;
    }
    path.len()
}

struct Asked<'a> {
    /// As it was asked for, for messages.
    whole: &'a str,
    scheme: &'static str,
    name: &'a str,
    port: &'a str,
}

impl Asked<'_> {
    fn of(resource: &Resource) -> Result<Asked<'_>, Status> {
        let whole = resource.name.as_str();
        let parts: Vec<&str> = whole.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => ("none", "", ""),
        };
        let scheme = match scheme {
            "" | "http" => "http",
            "https" => "https",
            _ => "",
        };
        if scheme.is_empty() || name.is_empty() {
            let kind = resource.plural.trim_end_matches('s');
            return Err(Status::bad_request(format!("invalid {kind} request \"{whole}\"")));
        }
        Ok(Asked { whole, scheme, name, port })
    }
}

/// # Errors
/// 400 for addresses that a server must not be led to.
fn proxyable(ip: &str) -> Result<IpAddr, Status> {
    let refused = || Status::bad_request("address not allowed");
    let ip: IpAddr = ip.parse().map_err(|_| refused())?;
    let is_refused = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            ip.is_loopback() || first & 0xffc0 == 0xfe80 || matches!(first & 0xff0f, 0xff01 | 0xff02)
        }
    };
    if is_refused { Err(refused()) } else { Ok(ip) }
}

fn authority(ip: IpAddr, port: &str) -> String {
    match (ip, port) {
        (IpAddr::V4(ip), "") => ip.to_string(),
        (IpAddr::V6(ip), "") => format!("[{ip}]"),
        (IpAddr::V4(ip), port) => format!("{ip}:{port}"),
        (IpAddr::V6(ip), port) => format!("[{ip}]:{port}"),
    }
}

fn of_pod(snapshot: &Snapshot, namespace: &str, asked: &Asked) -> Result<ProxiedServer, Status> {
    let found = snapshot.find("pods", namespace, asked.name);
    let pod = found.ok_or_else(|| Status::not_found("", "pods", asked.name))?.view::<Pod>();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut declared = containers.filter_map(|container| container.ports.as_ref()?.first());
    let first = declared.next().map(|port| port.container_port.to_string()).unwrap_or_default();
    let port = if asked.port.is_empty() { first.as_str() } else { asked.port };
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or_default();
    Ok(ProxiedServer::Address { scheme: asked.scheme, authority: authority(proxyable(ip)?, port) })
}

fn of_service(snapshot: &Snapshot, namespace: &str, asked: &Asked, turn: usize) -> Result<ProxiedServer, Status> {
    let mut wanted = asked.port.to_owned();
    // A number is the Service's; endpoints are known by the port's name.
    if let Ok(number) = asked.port.parse::<i32>() {
        let found = snapshot.find("services", namespace, asked.name);
        let service = found.ok_or_else(|| Status::not_found("", "services", asked.name))?.view::<Service>();
        let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let missing = || {
            let name = asked.name;
            Status::unavailable(format!("no service port {number} found for service \"{name}\""))
        };
        wanted = ports.find(|port| port.port == number).ok_or_else(missing)?.name.clone().unwrap_or_default();
    }
    let found = snapshot.find("endpoints", namespace, asked.name);
    let endpoints = found.ok_or_else(|| Status::not_found("", "endpoints", asked.name))?.view::<Endpoints>();
    let mut all = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let mut ports = subset.ports.iter().flatten();
        let Some(port) = ports.find(|port| port.name.as_deref().unwrap_or_default() == wanted) else { continue };
        // Only pods are proxied to: an address that somebody wrote down may be anybody's.
        let pods = subset.addresses.iter().flatten().filter(|address| {
            let target = address.target_ref.as_ref().and_then(|target| target.name.as_deref());
            let pod = target.and_then(|name| snapshot.find("pods", namespace, name)).map(|pod| pod.view::<Pod>());
            pod.is_some_and(|pod| pod.status.as_ref().and_then(|s| s.pod_ip.as_deref()) == Some(address.ip.as_str()))
        });
        all.extend(pods.map(|address| (address.ip.clone(), port.port)));
    }
    if all.is_empty() {
        return Err(Status::unavailable(format!("no endpoints available for service \"{}\"", asked.whole)));
    }
    let (ip, port) = &all[turn % all.len()];
    Ok(ProxiedServer::Address { scheme: asked.scheme, authority: authority(proxyable(ip)?, &port.to_string()) })
}

/// Where clients expect an agent without having looked.
const KUBELET_PORT: i32 = 10250;

fn of_node(snapshot: &Snapshot, asked: &Asked) -> Result<ProxiedServer, Status> {
    let found = snapshot.find("nodes", "", asked.name);
    let node = found.ok_or_else(|| Status::not_found("", "nodes", asked.name))?.view::<Node>();
    let status = node.status.as_ref();
    let own = status.and_then(|s| s.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref()).map(|one| one.port);
    let is_agents = |port: i32| port.to_string() == asked.port;
    if asked.port.is_empty() || is_agents(KUBELET_PORT) || own.is_some_and(is_agents) {
        return Ok(ProxiedServer::Agent { node: asked.name.to_owned() });
    }
    let mut addresses = status.iter().flat_map(|status| status.addresses.iter().flatten());
    let address = addresses.find(|one| one.type_ == "InternalIP").map(|one| one.address.clone()).unwrap_or_default();
    Ok(ProxiedServer::Address { scheme: asked.scheme, authority: authority(proxyable(&address)?, asked.port) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Server, admin, pod};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn shown(server: &Server, path: &str) -> String {
        let target = stead_api::request::target(path);
        let verb = stead_api::request::verb_of_others("GET", &target, &Default::default());
        let mut request = Request::of(Arc::clone(&server.user), verb, Resource::default(), Value::Null);
        request.target = target;
        match proxy(&server.head(), &request, path, 0) {
            Ok(plan) => match plan.server {
                ProxiedServer::Address { scheme, authority } => format!("{scheme}://{authority}{}", plan.path),
                ProxiedServer::Agent { node } => format!("agent of {node} {}", plan.path),
            },
            Err(status) => format!("{} {}", status.code, status.message),
        }
    }

    fn server() -> Server {
        let mut server = Server::new();
        let mut web = pod("web-0");
        web["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
        server.make("/api/v1/namespaces/default/pods", web);
        server.make("/api/v1/namespaces/default/pods", pod("later"));
        let status = json!({"status": {"podIP": "10.1.0.7", "podIPs": [{"ip": "10.1.0.7"}]}});
        server.done("PATCH:merge /api/v1/namespaces/default/pods/web-0/status", status);
        let ports = json!([{"name": "http", "port": 80}, {"name": "tls", "port": 443}]);
        let service = json!({"metadata": {"name": "web"}, "spec": {"ports": ports}});
        server.make("/api/v1/namespaces/default/services", service);
        let address = json!({"ip": "10.1.0.7", "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-0"}});
        let subset = json!({"addresses": [{"ip": "10.9.9.9"}, address], "ports": [{"name": "http", "port": 8080}]});
        let endpoints = json!({"metadata": {"name": "web"}, "subsets": [subset]});
        server.make("/api/v1/namespaces/default/endpoints", endpoints);
        server.make("/api/v1/nodes", json!({"metadata": {"name": "n1"}}));
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 6443}}}});
        server.done("PATCH:merge /api/v1/nodes/n1/status", status);
        server
    }

    #[test]
    fn names_lead_to_servers() {
        let server = server();
        for (path, expected) in [
            ("pods/web-0/proxy", "http://10.1.0.7:8080"),
            ("pods/web-0/proxy/", "http://10.1.0.7:8080/"),
            ("pods/web-0:81/proxy/a/b%20c/", "http://10.1.0.7:81/a/b%20c/"),
            ("pods/https:web-0:443/proxy/x", "https://10.1.0.7:443/x"),
            ("pods/ftp:web-0:1/proxy/x", "400 invalid pod request \"ftp:web-0:1\""),
            ("pods/later/proxy/", "400 address not allowed"),
            ("pods/nobody/proxy/", "404 pods \"nobody\" not found"),
            ("services/web:http/proxy/x", "http://10.1.0.7:8080/x"),
            ("services/http:web:80/proxy/x", "http://10.1.0.7:8080/x"),
            ("services/web:81/proxy/", "503 no service port 81 found for service \"web\""),
            ("services/web:443/proxy/", "503 no endpoints available for service \"web:443\""),
            ("services/web/proxy/", "503 no endpoints available for service \"web\""),
            ("services/nobody/proxy/", "404 endpoints \"nobody\" not found"),
            ("services/nobody:80/proxy/", "404 services \"nobody\" not found"),
        ] {
            assert_eq!(shown(&server, &format!("/api/v1/namespaces/default/{path}")), expected, "{path}");
        }
        assert_eq!(shown(&server, "/api/v1/nodes/n1/proxy/healthz"), "agent of n1 /healthz");
        for port in [10250, 6443] {
            assert_eq!(shown(&server, &format!("/api/v1/nodes/n1:{port}/proxy/pods")), "agent of n1 /pods");
        }
        assert_eq!(shown(&server, "/api/v1/nodes/n1:9100/proxy/metrics"), "http://10.0.0.1:9100/metrics");
    }

    #[test]
    fn who_may_not_is_told_the_verb_of_the_method() {
        let mut server = server();
        server.user = Arc::new(stead_api::User { name: "x".into(), ..(*admin()).clone() });
        Arc::make_mut(&mut server.user).groups.clear();
        let refused = shown(&server, "/api/v1/namespaces/default/services/web:http/proxy/x");
        assert_eq!(
            refused,
            "403 services \"web:http\" is forbidden: User \"x\" cannot get resource \"services/proxy\" in API group \"\" in the namespace \"default\""
        );
    }

    #[test]
    fn paths_through_a_proxy_are_known() {
        assert!(is_proxied("/api/v1/namespaces/a/services/proxy/proxy/proxy"));
        assert!(!is_proxied("/api/v1/namespaces/a/services/proxy"));
        assert!(!is_proxied("/apis/apps/v1/namespaces/a/deployments/x/proxy"));
    }
}
