//! Extension API servers: which group versions an APIService hands to a Service, and what the cluster's own objects say about
//! whether it answers.
//!
//! Contract: what only a call can tell is left to the shell, which makes it and writes the outcome as the condition `Available`.
//! Upstream: kube-aggregator, pkg/controllers/status/remote.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde_json::{Value, json};
use stead_api::{Object, Request, Resource, User, Verb};
use stead_store::Snapshot;

use crate::backend;
use crate::draft::time_text;

pub const API_SERVICES: &str = "apiservices.apiregistration.k8s.io";

/// A group version that another server answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The APIService's.
    pub name: String,
    pub group: String,
    pub version: String,
    /// The Service behind it.
    pub namespace: String,
    pub service: String,
    pub port: i32,
    /// PEM; empty means the authorities of the machine.
    pub ca_bundle: Arc<[u8]>,
    pub trusts_anyone: bool,
    pub group_priority: i32,
    pub version_priority: i32,
    pub is_available: bool,
}

/// The condition `Available` of an APIService.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Availability {
    pub fn failed(reason: &'static str, message: String) -> Availability {
        Availability { status: "False", reason, message }
    }

    /// The extension was asked, and answered.
    pub fn passed() -> Availability {
        Availability { status: "True", reason: "Passed", message: "all checks passed".into() }
    }
}

impl Extension {
    fn of(object: &Object) -> Option<Extension> {
        let typed = object.view::<APIService>();
        let spec = typed.spec.as_ref()?;
        let service = spec.service.as_ref()?;
        let conditions = typed.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        Some(Extension {
            name: object.meta.name.clone(),
            group: spec.group.clone().unwrap_or_default(),
            version: spec.version.clone().unwrap_or_default(),
            namespace: service.namespace.clone().unwrap_or_default(),
            service: service.name.clone().unwrap_or_default(),
            port: service.port.unwrap_or(443),
            ca_bundle: spec.ca_bundle.as_ref().map_or_else(|| [].into(), |bundle| bundle.0.as_slice().into()),
            trusts_anyone: spec.insecure_skip_tls_verify == Some(true),
            group_priority: spec.group_priority_minimum,
            version_priority: spec.version_priority,
            is_available: conditions.iter().any(|one| one.type_ == "Available" && one.status == "True"),
        })
    }

    /// `/apis/GROUP/VERSION`: what the extension must answer.
    pub fn path(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    /// The name that its certificate must have.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// What its answering depends on; another value is reason to ask again.
    pub fn circumstances(&self, snapshot: &Snapshot) -> Vec<u64> {
        let service = snapshot.find("services", &self.namespace, &self.service);
        let slices = self.slices(snapshot).map(|slice| slice.revision());
        service.map(|service| service.revision()).into_iter().chain(slices).collect()
    }

    fn slices<'a>(&self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let namespace = self.namespace.clone();
        let term = format!("label:kubernetes.io/service-name={}", self.service);
        let all = snapshot.indexed("endpointslices.discovery.k8s.io", &term);
        all.filter(move |slice| *slice.key.namespace == *namespace)
    }

    /// What stands in the way of asking it; None: it can be asked.
    pub fn obstacle(&self, snapshot: &Snapshot) -> Option<Availability> {
        let (name, namespace) = (&self.service, &self.namespace);
        let Some(service) = snapshot.find("services", namespace, name) else {
            let message = format!("service/{name} in \"{namespace}\" is not present");
            return Some(Availability::failed("ServiceNotFound", message));
        };
        let service = service.view::<Service>();
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref().is_some_and(|kind| kind != "ClusterIP") {
            return None;
        }
        let Some(port) = spec.ports.iter().flatten().find(|port| port.port == self.port) else {
            let message = format!("service/{name} in \"{namespace}\" is not listening on port {}", self.port);
            return Some(Availability::failed("ServicePortError", message));
        };
        if self.slices(snapshot).next().is_none() {
            let message = format!("cannot find endpointslices for service/{name} in \"{namespace}\"");
            return Some(Availability::failed("EndpointsNotFound", message));
        }
        if backend::addresses(snapshot, namespace, name, port).is_empty() {
            let port = port.name.as_deref().unwrap_or_default();
            let message = format!(
                "endpointslices for service/{name} in \"{namespace}\" have no addresses with port name \"{port}\""
            );
            return Some(Availability::failed("MissingEndpoints", message));
        }
        None
    }
}

/// The group versions that other servers answer for.
pub fn extensions(snapshot: &Snapshot) -> Vec<Extension> {
    snapshot.list(API_SERVICES, "").filter_map(|object| Extension::of(object)).collect()
}

/// The write that tells how available an APIService is; None when that is known already, or it is gone.
pub fn tell_availability(
    snapshot: &Snapshot,
    user: Arc<User>,
    name: &str,
    now: Timestamp,
    found: &Availability,
) -> Option<Request> {
    let object = snapshot.find(API_SERVICES, "", name)?;
    let mut value = object.value();
    let mut conditions = value["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let last = conditions.iter().position(|one| one["type"] == "Available");
    let mut condition = json!({"type": "Available", "status": found.status, "lastTransitionTime": time_text(now),
        "reason": found.reason, "message": found.message});
    match last {
        Some(at) => {
            let same = |field: &str| conditions[at][field] == condition[field];
            if same("status") && same("reason") && same("message") {
                return None;
            }
            if same("status") {
                condition["lastTransitionTime"] = conditions[at]["lastTransitionTime"].clone();
            }
            conditions[at] = condition;
        }
        None => conditions.push(condition),
    }
    value["status"]["conditions"] = Value::Array(conditions);
    let resource = Resource {
        group: "apiregistration.k8s.io".into(),
        version: "v1".into(),
        plural: "apiservices".into(),
        name: name.into(),
        subresource: "status".into(),
        ..Resource::default()
    };
    let mut request = Request::of(user, Verb::Update, resource, value);
    request.options.field_manager = "kube-apiserver".into();
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Server, admin};

    fn server() -> Server {
        let mut server = Server::new();
        let service = json!({"metadata": {"name": "v1alpha1.wardle.example.com"}, "spec": {"group": "wardle.example.com",
            "version": "v1alpha1", "groupPriorityMinimum": 1000, "versionPriority": 15,
            "service": {"namespace": "default", "name": "wardle", "port": 443}, "insecureSkipTLSVerify": true}});
        server.make("/apis/apiregistration.k8s.io/v1/apiservices", service);
        server
    }

    fn obstacle(server: &Server) -> String {
        let head = server.head();
        let [extension] = &extensions(&head.store.snapshot)[..] else { panic!("one APIService is there") };
        extension
            .obstacle(&head.store.snapshot)
            .map_or_else(|| "none".into(), |one| format!("{} {}", one.reason, one.message))
    }

    #[test]
    fn what_stands_in_the_way_is_told_step_by_step() {
        let mut server = server();
        assert_eq!(obstacle(&server), "ServiceNotFound service/wardle in \"default\" is not present");
        let other = json!({"metadata": {"name": "wardle"}, "spec": {"ports": [{"name": "https", "port": 444}]}});
        server.make("/api/v1/namespaces/default/services", other);
        assert_eq!(obstacle(&server), "ServicePortError service/wardle in \"default\" is not listening on port 443");
        let ports = json!({"spec": {"ports": [{"name": "https", "port": 443}]}});
        server.done("PATCH:merge /api/v1/namespaces/default/services/wardle", ports);
        let none = "EndpointsNotFound cannot find endpointslices for service/wardle in \"default\"";
        assert_eq!(obstacle(&server), none);
        let slice = json!({"metadata": {"name": "w", "labels": {"kubernetes.io/service-name": "wardle"}},
            "addressType": "IPv4", "ports": [{"name": "other", "port": 8443}], "endpoints": [{"addresses": ["10.0.0.1"]}]});
        server.make("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice);
        assert_eq!(
            obstacle(&server),
            "MissingEndpoints endpointslices for service/wardle in \"default\" have no addresses with port name \"https\""
        );
        let right = json!({"ports": [{"name": "https", "port": 8443}]});
        server.done("PATCH:merge /apis/discovery.k8s.io/v1/namespaces/default/endpointslices/w", right);
        assert_eq!(obstacle(&server), "none");
    }

    #[test]
    fn availability_is_written_when_it_changes_and_keeps_its_time() {
        let mut server = server();
        let name = "v1alpha1.wardle.example.com";
        let tell = |server: &mut Server, found: &Availability| -> Option<Value> {
            let head = server.head();
            let write = tell_availability(&head.store.snapshot, admin(), name, server.now, found)?;
            assert!(server.perform(&write).status().is_none());
            let object = server.get(&format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}"));
            Some(object["status"]["conditions"][0].clone())
        };
        let passed = tell(&mut server, &Availability::passed()).expect("it is news");
        assert_eq!(passed["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(tell(&mut server, &Availability::passed()), None);
        assert!(extensions(&server.head().store.snapshot)[0].is_available);
        server.wait(60);
        let failed = |why: &str| Availability::failed("FailedDiscoveryCheck", why.into());
        assert_eq!(tell(&mut server, &failed("a")).expect("news")["lastTransitionTime"], "2026-01-01T00:01:00Z");
        server.wait(60);
        let again = tell(&mut server, &failed("b")).expect("news");
        assert_eq!((&again["message"], &again["lastTransitionTime"]), (&json!("b"), &json!("2026-01-01T00:01:00Z")));
    }
}
