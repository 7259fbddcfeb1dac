//! What a node may do: user `system:node:NAME` of group `system:nodes`, in upstream's words.
//!
//! Contract: a node reads what the pods bound to it refer to, and nothing else of its kind; what is not subdivided so is judged by
//! the fixed rules of role `system:node`. No answer here denies: RBAC is asked next. Each question looks at the pods of that one
//! node, found by the index of `spec.nodeName`.
//! Upstream: plugin/pkg/auth/authorizer/node.

use std::sync::{Arc, LazyLock};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Deserialize;
use stead_api::{Object, User};
use stead_kinds::pod::references;
use stead_store::Snapshot;

use crate::attributes::Attributes;
use crate::default_roles::node_rules;
use crate::rule::allows;

const LEASES: &str = "kube-node-lease";
const MIRROR: &str = "kubernetes.io/config.mirror";

static RULES: LazyLock<Vec<PolicyRule>> = LazyLock::new(|| Vec::deserialize(node_rules()).unwrap_or_default());

/// The node that this user is.
pub(crate) fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    user.is_in("system:nodes").then_some(name)
}

/// Ok when a node may do it; else why not, if there is more to say than that.
pub(crate) fn judge(snapshot: &Snapshot, node: &str, wanted: &Attributes) -> Result<(), String> {
    if wanted.path.is_empty() {
        let asked = Asked { snapshot, node, wanted };
        match (wanted.group, wanted.resource) {
            ("", "secrets" | "configmaps") => return asked.reads_of_its_pods(),
            ("", "persistentvolumeclaims") if wanted.subresource == "status" => return asked.claim_status(),
            ("", "persistentvolumeclaims" | "persistentvolumes")
            | ("storage.k8s.io", "volumeattachments")
            | ("resource.k8s.io", "resourceclaims") => return asked.gets_of_its_pods(),
            ("", "serviceaccounts") => return asked.account(),
            ("coordination.k8s.io", "leases") => return asked.lease(),
            ("storage.k8s.io", "csinodes") => return asked.csi_node(),
            ("", "nodes") => return asked.node(),
            ("", "pods") => return asked.pod(),
            _ => {}
        }
    }
    if RULES.iter().any(|rule| allows(rule, wanted)) { Ok(()) } else { Err(String::new()) }
}

struct Asked<'a> {
    snapshot: &'a Snapshot,
    node: &'a str,
    wanted: &'a Attributes<'a>,
}

impl Asked<'_> {
    fn reads_of_its_pods(&self) -> Result<(), String> {
        let wanted = self.wanted;
        require(matches!(wanted.verb, "get" | "list" | "watch"), "can only read resources of this type")?;
        require(wanted.subresource.is_empty(), "cannot read subresource")?;
        require(!wanted.namespace.is_empty(), "can only read namespaced object of this type")?;
        self.related()
    }

    fn gets_of_its_pods(&self) -> Result<(), String> {
        require(self.wanted.verb == "get", "can only get individual resources of this type")?;
        require(self.wanted.subresource.is_empty(), "cannot get subresource")?;
        self.related()
    }

    fn claim_status(&self) -> Result<(), String> {
        require(matches!(self.wanted.verb, "get" | "update" | "patch"), "can only get/update/patch this type")?;
        self.related()
    }

    fn account(&self) -> Result<(), String> {
        let wanted = self.wanted;
        if wanted.verb == "get" && wanted.subresource.is_empty() {
            return self.related();
        }
        let makes_token = wanted.verb == "create" && wanted.subresource == "token";
        require(makes_token, "can only create tokens for individual service accounts")?;
        self.related()
    }

    fn lease(&self) -> Result<(), String> {
        let wanted = self.wanted;
        let is_known = matches!(wanted.verb, "get" | "create" | "update" | "patch" | "delete");
        require(is_known, "can only get, create, update, patch, or delete a node lease")?;
        let place = format!("can only access leases in the {LEASES:?} system namespace");
        require(wanted.namespace == LEASES, &place)?;
        let is_own = wanted.verb == "create" || wanted.name == self.node;
        require(is_own, "can only access node lease with the same name as the requesting node")
    }

    fn csi_node(&self) -> Result<(), String> {
        let wanted = self.wanted;
        let is_known = matches!(wanted.verb, "get" | "create" | "update" | "patch" | "delete");
        require(is_known, "can only get, create, update, patch, or delete a CSINode")?;
        require(wanted.subresource.is_empty(), "cannot authorize CSINode subresources")?;
        let is_own = wanted.verb == "create" || wanted.name == self.node;
        require(is_own, "can only access CSINode with the same name as the requesting node")
    }

    /// Whose Node it writes is for admission to see.
    fn node(&self) -> Result<(), String> {
        let (wanted, node) = (self.wanted, self.node);
        match (wanted.subresource, wanted.verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") => match wanted.name {
                name if name == node => Ok(()),
                "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
                name => Err(format!("node '{node}' cannot read '{name}', only its own Node object")),
            },
            _ => Err(String::new()),
        }
    }

    fn pod(&self) -> Result<(), String> {
        let wanted = self.wanted;
        match (wanted.subresource, wanted.verb) {
            ("", "get") => self.related(),
            ("", "list" | "watch") => {
                let of_node = wanted.selected("spec.nodeName") == Some(self.node);
                require(of_node, "can only list/watch pods with spec.nodeName field selector")
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }

    fn related(&self) -> Result<(), String> {
        require(!self.wanted.name.is_empty(), "No Object name found")?;
        let why = format!("no relationship found between node '{}' and this object", self.node);
        require(self.is_related(), &why)
    }

    fn pods(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.snapshot.indexed("pods", &format!("spec.nodeName={}", self.node))
    }

    fn is_related(&self) -> bool {
        let wanted = self.wanted;
        if wanted.resource == "volumeattachments" {
            let found = self.snapshot.find("volumeattachments.storage.k8s.io", "", wanted.name);
            return found.is_some_and(|object| object.value()["spec"]["nodeName"] == self.node);
        }
        if wanted.resource == "pods" {
            return self.pods().any(|pod| *pod.key.name == *wanted.name && *pod.key.namespace == *wanted.namespace);
        }
        let mut pods = self.pods().filter(|pod| pod.meta.annotation(MIRROR).is_none());
        pods.any(|pod| self.refers(pod))
    }

    fn refers(&self, object: &Object) -> bool {
        let wanted = self.wanted;
        let is_here = *object.key.namespace == *wanted.namespace;
        let pod = object.view::<Pod>();
        let names = |kind: &str, name: &str| references(&pod).iter().any(|(one, named)| *one == kind && named == name);
        match wanted.resource {
            "serviceaccounts" => {
                let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
                is_here && account.unwrap_or("default") == wanted.name
            }
            "persistentvolumes" => self.volumes(object, &pod).any(|volume| *volume.key.name == *wanted.name),
            "secrets" => {
                let of_volume = |volume: &Arc<Object>| volume_secrets(volume, wanted.namespace, wanted.name);
                (is_here && names("secrets", wanted.name)) || self.volumes(object, &pod).any(of_volume)
            }
            "resourceclaims" => {
                let statuses = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
                let claims = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
                let made = statuses.filter_map(|one| one.resource_claim_name.as_deref());
                let named = claims.filter_map(|one| one.resource_claim_name.as_deref());
                is_here && made.chain(named).any(|name| name == wanted.name)
            }
            kind => is_here && names(kind, wanted.name),
        }
    }

    /// The volumes behind a pod's claims.
    fn volumes(&self, object: &Object, pod: &Pod) -> impl Iterator<Item = &Arc<Object>> {
        let claims = references(pod).into_iter().filter(|(kind, _)| *kind == "persistentvolumeclaims");
        let namespace = object.key.namespace.to_string();
        claims.filter_map(move |(kind, name)| {
            let claim = self.snapshot.find(kind, &namespace, &name)?.view::<PersistentVolumeClaim>();
            let volume = claim.spec.as_ref()?.volume_name.clone()?;
            self.snapshot.find("persistentvolumes", "", &volume)
        })
    }
}

/// Whether a volume's driver needs this Secret on the node.
fn volume_secrets(volume: &Object, namespace: &str, name: &str) -> bool {
    let volume = volume.view::<PersistentVolume>();
    let Some(csi) = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()) else { return false };
    let secrets = [&csi.node_publish_secret_ref, &csi.node_stage_secret_ref, &csi.node_expand_secret_ref];
    let mut secrets = secrets.into_iter().flatten();
    secrets.any(|one| one.name.as_deref() == Some(name) && one.namespace.as_deref() == Some(namespace))
}

fn require(is_so: bool, why: &str) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(why.to_owned()) }
}
