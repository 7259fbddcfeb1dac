//! Node.

use stead_api::object::Fields;

use crate::names::names;
use crate::{Kind, Subresource};

pub const NODE: Kind = Kind {
    short: &["no"],
    namespaced: false,
    subresources: &[Subresource::Status, Subresource::Named("proxy")],
    fields: Fields { selectable: &["spec.unschedulable"], indexed: &[], labels_indexed: false },
    ..Kind::plain("nodes", "", "v1", names!("Node", "node", "nodes"), "io.k8s.api.core.v1.Node")
};
