//! What one selector or term says of one pod; what it says of a node is the kind's.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as TypedSelector;
use stead_api::{LabelSelector, Object};
pub use stead_kinds::pod::placement::{node_matches, node_selector_matches, node_term_matches, tolerates};

/// A label selector of a pod's own terms; one that does not parse matches nothing.
pub fn selector(selector: Option<&TypedSelector>) -> LabelSelector {
    LabelSelector::from_typed(selector).unwrap_or(LabelSelector::Nothing)
}

/// Does the object carry the labels?
pub fn matches(selector: &LabelSelector, object: &Object) -> bool {
    selector.matches(&object.meta.labels)
}
