//! StatefulSet, Deployment, ReplicaSet.

use stead_api::object::Fields;

use crate::names::{self, names};
use crate::{Kind, Names, Subresource};

const SCALE: Subresource =
    Subresource::Scale { spec: "spec.replicas", status: "status.replicas", selector: "spec.selector" };

const fn workload(storage: &'static str, names: Names, definition: &'static str) -> Kind {
    Kind {
        categories: &["all"],
        has_generation: true,
        subresources: &[Subresource::Status, SCALE],
        ..Kind::plain(storage, "apps", "v1", names, definition)
    }
}

pub const STATEFULSET: Kind = Kind {
    short: &["sts"],
    name_rule: names::dns1123_label,
    ..workload(
        "statefulsets.apps",
        names!("StatefulSet", "statefulset", "statefulsets"),
        "io.k8s.api.apps.v1.StatefulSet",
    )
};

pub const DEPLOYMENT: Kind = Kind {
    short: &["deploy"],
    ..workload("deployments.apps", names!("Deployment", "deployment", "deployments"), "io.k8s.api.apps.v1.Deployment")
};

pub const REPLICASET: Kind = Kind {
    short: &["rs"],
    fields: Fields { selectable: &["status.replicas"], indexed: &[], labels_indexed: true },
    ..workload("replicasets.apps", names!("ReplicaSet", "replicaset", "replicasets"), "io.k8s.api.apps.v1.ReplicaSet")
};
