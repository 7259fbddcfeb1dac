//! The Services of a cluster with their EndpointSlices, brought up to date from a head's history.
//!
//! Contract: after [`Catalog::follow`] the catalog holds what the head's snapshot holds, and the answer names every Service
//! and namespace that may have changed. The work is proportional to what changed; only a head whose history does not reach
//! back far enough is read whole. A slice belongs to the Service that its label `kubernetes.io/service-name` names (N-16).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use stead_api::{Key, KindName, Object, Revision};
use stead_store::{Event, Expired, Head};

const SERVICES: KindName = "services";
const SLICES: KindName = "endpointslices.discovery.k8s.io";
const NAMESPACES: KindName = "namespaces";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

/// A Service and its slices. Either may be there without the other.
#[derive(Default)]
pub struct Entry {
    service: Option<Arc<Object>>,
    slices: BTreeMap<Key, Arc<Object>>,
}

#[derive(Default)]
pub struct Catalog {
    /// The revision that the catalog is at; `None` before the first head.
    seen: Option<Revision>,
    entries: BTreeMap<ServiceKey, Entry>,
    namespaces: BTreeSet<Arc<str>>,
}

/// What may have changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub services: BTreeSet<ServiceKey>,
    pub namespaces: BTreeSet<Arc<str>>,
}

/// One endpoint of a slice.
pub struct Endpoint<'a> {
    pub address: &'a str,
    pub hostname: Option<&'a str>,
    pub node: Option<&'a str>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

impl Catalog {
    /// Whether the catalog has seen this revision already.
    pub fn is_at(&self, revision: Revision) -> bool {
        self.seen.is_some_and(|seen| seen >= revision)
    }

    /// Heads may come late: one that is older than what was seen changes nothing.
    pub fn follow(&mut self, head: &Head) -> Changes {
        let revision = head.snapshot.revision();
        if self.is_at(revision) {
            return Changes::default();
        }
        let changes = match self.seen.map(|seen| self.replay(head, seen)) {
            Some(Ok(changes)) => changes,
            _ => self.read_whole(head),
        };
        self.seen = Some(revision);
        changes
    }

    pub fn get(&self, key: &ServiceKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    fn replay(&mut self, head: &Head, seen: Revision) -> Result<Changes, Expired> {
        // All three first: an expired one must not leave half of the others applied.
        let services = head.history.since(SERVICES, seen)?;
        let slices = head.history.since(SLICES, seen)?;
        let namespaces = head.history.since(NAMESPACES, seen)?;
        let mut changes = Changes::default();
        for event in services.chain(slices).chain(namespaces) {
            self.apply(event, &mut changes);
        }
        Ok(changes)
    }

    fn apply(&mut self, event: &Event, changes: &mut Changes) {
        let now = (!event.deleted).then_some(&event.object);
        let last = event.old.as_ref();
        match event.key().kind {
            SERVICES => self.set_service(&event.object, now.is_some(), changes),
            SLICES => {
                if let Some(old) = last {
                    self.set_slice(old, false, changes);
                }
                if let Some(new) = now {
                    self.set_slice(new, true, changes);
                }
            }
            _ => {
                let name = Arc::clone(&event.key().name);
                match now {
                    Some(_) => self.namespaces.insert(Arc::clone(&name)),
                    None => self.namespaces.remove(&name),
                };
                changes.namespaces.insert(name);
            }
        }
    }

    fn read_whole(&mut self, head: &Head) -> Changes {
        let mut changes = Changes {
            services: std::mem::take(&mut self.entries).into_keys().collect(),
            namespaces: std::mem::take(&mut self.namespaces),
        };
        for service in head.snapshot.list(SERVICES, "") {
            self.set_service(service, true, &mut changes);
        }
        for slice in head.snapshot.list(SLICES, "") {
            self.set_slice(slice, true, &mut changes);
        }
        for namespace in head.snapshot.list(NAMESPACES, "") {
            self.namespaces.insert(Arc::clone(&namespace.key.name));
            changes.namespaces.insert(Arc::clone(&namespace.key.name));
        }
        changes
    }

    fn set_service(&mut self, object: &Arc<Object>, is_there: bool, changes: &mut Changes) {
        let key = ServiceKey { namespace: Arc::clone(&object.key.namespace), name: Arc::clone(&object.key.name) };
        let entry = self.entries.entry(key.clone()).or_default();
        entry.service = is_there.then(|| Arc::clone(object));
        self.touched(key, changes);
    }

    fn set_slice(&mut self, object: &Arc<Object>, is_there: bool, changes: &mut Changes) {
        let Some(service) = object.meta.label(SERVICE_NAME) else { return };
        let key = ServiceKey { namespace: Arc::clone(&object.key.namespace), name: service.into() };
        let entry = self.entries.entry(key.clone()).or_default();
        if is_there {
            entry.slices.insert(object.key.clone(), Arc::clone(object));
        } else {
            entry.slices.remove(&object.key);
        }
        self.touched(key, changes);
    }

    fn touched(&mut self, key: ServiceKey, changes: &mut Changes) {
        if self.entries.get(&key).is_some_and(|e| e.service.is_none() && e.slices.is_empty()) {
            self.entries.remove(&key);
        }
        changes.services.insert(key);
    }
}

impl Entry {
    pub fn service(&self) -> Option<Arc<core::Service>> {
        self.service.as_ref().map(|object| object.view())
    }

    pub fn slices(&self) -> Vec<Arc<discovery::EndpointSlice>> {
        self.slices.values().map(|object| object.view()).collect()
    }
}

/// The endpoints of a slice; a condition that is not set means ready and serving, and not terminating (D-13).
pub fn endpoints(slice: &discovery::EndpointSlice) -> impl Iterator<Item = Endpoint<'_>> {
    slice.endpoints.iter().flatten().filter_map(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        Some(Endpoint {
            address: endpoint.addresses.first()?,
            hostname: endpoint.hostname.as_deref().filter(|h| !h.is_empty()),
            node: endpoint.node_name.as_deref(),
            ready,
            serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
            terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        })
    })
}

/// The Service's own addresses, `clusterIPs` or the older `clusterIP`; none when it is headless (N-02) or an ExternalName.
pub fn cluster_ips(spec: &core::ServiceSpec) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let one = spec.cluster_ip.iter();
    let all: Vec<&String> = match &spec.cluster_ips {
        Some(ips) if !ips.is_empty() => ips.iter().collect(),
        _ => one.collect(),
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Default::default();
    }
    (all.iter().filter_map(|ip| ip.parse().ok()).collect(), all.iter().filter_map(|ip| ip.parse().ok()).collect())
}

/// `clusterIP: None` (N-02).
pub fn is_headless(spec: &core::ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None") && spec.type_.as_deref() != Some("ExternalName")
}
