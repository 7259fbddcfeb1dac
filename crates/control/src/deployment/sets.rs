//! A Deployment and its ReplicaSets, as all phases see them.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use stead_api::{IntOrPercent, Object};

use crate::facts;
use crate::names::POD;
use crate::plan::View;

pub const REVISION: &str = "deployment.kubernetes.io/revision";

pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";

pub const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// A Deployment with what all phases ask for.
pub(crate) struct Desired<'a> {
    pub view: View<'a>,
    pub object: &'a Arc<Object>,
    pub typed: Arc<Deployment>,
    pub value: Value,
}

impl Desired<'_> {
    pub fn spec(&self) -> &DeploymentSpec {
        self.typed.spec.as_ref().expect("checked at the start of reconcile")
    }

    pub fn replicas(&self) -> i64 {
        i64::from(self.spec().replicas.unwrap_or(1))
    }

    pub fn is_recreate(&self) -> bool {
        self.spec().strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate")
    }

    /// maxSurge (rounded up) and maxUnavailable (rounded down); not both zero.
    pub fn limits(&self) -> (i64, i64) {
        if self.is_recreate() {
            return (0, 0);
        }
        let rolling = self.spec().strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let desired = self.spec().replicas.unwrap_or(1);
        let of = |given: Option<&IntOrString>, round_up| {
            let limit = IntOrPercent::try_from(given.unwrap_or(&quarter)).unwrap_or(IntOrPercent::Int(0));
            i64::from(limit.of(desired, round_up))
        };
        let surge = of(rolling.and_then(|r| r.max_surge.as_ref()), true);
        let unavailable = of(rolling.and_then(|r| r.max_unavailable.as_ref()), false).min(self.replicas());
        if surge == 0 && unavailable == 0 { (0, 1.min(self.replicas())) } else { (surge, unavailable) }
    }

    pub fn is_paused(&self) -> bool {
        self.spec().paused == Some(true)
    }

    pub fn name(&self) -> &str {
        &self.object.key.name
    }
}

/// A ReplicaSet of the Deployment with the replica count that is to be.
pub(crate) struct Set<'a> {
    pub object: &'a Arc<Object>,
    pub typed: Arc<ReplicaSet>,
    pub replicas: i64,
}

impl<'a> Set<'a> {
    pub fn of(object: &'a Arc<Object>) -> Set<'a> {
        let typed = object.view::<ReplicaSet>();
        let replicas = i64::from(typed.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1));
        Set { object, typed, replicas }
    }

    /// The replica count as stored.
    pub fn before(&self) -> i64 {
        i64::from(self.typed.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1))
    }

    pub fn available(&self) -> i64 {
        i64::from(self.typed.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0))
    }

    pub fn revision(&self) -> i64 {
        self.object.meta.annotation(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
    }

    pub fn annotated(&self, name: &str) -> Option<i64> {
        self.object.meta.annotation(name).and_then(|n| n.parse().ok())
    }
}

/// The ReplicaSets: the newest template's, if there is one, and the others, oldest first.
pub(crate) struct Sets<'a> {
    pub new: Option<Set<'a>>,
    pub old: Vec<Set<'a>>,
}

impl<'a> Sets<'a> {
    pub fn all(&self) -> impl Iterator<Item = &Set<'a>> {
        self.new.iter().chain(&self.old)
    }

    pub fn total(&self) -> i64 {
        self.all().map(|set| set.replicas).sum()
    }
}

/// Does a pod of an old ReplicaSet still run (Recreate)?
pub fn runs_old_pods(desired: &Desired, sets: &Sets) -> bool {
    sets.old.iter().any(|set| {
        let pods = facts::controlled(&desired.view, POD, &set.object.meta.uid);
        pods.iter().any(|pod| !facts::is_finished(&pod.view::<k8s_openapi::api::core::v1::Pod>()))
    })
}
