//! What one selector, term or toleration says of one node or pod.

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as TypedSelector;
use stead_api::selector::{Operator, Requirement};
use stead_api::{LabelSelector, Object};

/// spec.nodeSelector and required node affinity.
pub fn node_matches(spec: &PodSpec, node: &Object) -> bool {
    let selected = spec.node_selector.iter().flatten().all(|(k, v)| node.meta.label(k) == Some(v));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|required| node_selector_matches(required, node))
}

pub fn node_selector_matches(selector: &NodeSelector, node: &Object) -> bool {
    selector.node_selector_terms.iter().any(|term| node_term_matches(term, node))
}

pub fn node_term_matches(term: &NodeSelectorTerm, node: &Object) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|r| requirement_matches(r, node.meta.label(&r.key)))
        && fields.iter().all(|r| r.key == "metadata.name" && requirement_matches(r, Some(&node.key.name)))
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return false,
    };
    let values = requirement.values.clone().unwrap_or_default();
    Requirement::new(&requirement.key, operator, values).is_ok_and(|r| r.matches(value))
}

pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| {
        let key = t.key.as_deref().unwrap_or_default();
        let effect = t.effect.as_deref().unwrap_or_default();
        let value = t.value.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == taint.effect)
            && (key.is_empty() || key == taint.key)
            && match t.operator.as_deref().unwrap_or_default() {
                "Exists" => true,
                "" | "Equal" => !key.is_empty() && value == taint.value.as_deref().unwrap_or_default(),
                _ => false,
            }
    })
}

/// A label selector of a pod's own terms; one that does not parse matches nothing.
pub fn selector(selector: Option<&TypedSelector>) -> LabelSelector {
    LabelSelector::from_typed(selector).unwrap_or(LabelSelector::Nothing)
}

/// Does the object carry the labels?
pub fn matches(selector: &LabelSelector, object: &Object) -> bool {
    selector.matches(&object.meta.labels)
}
