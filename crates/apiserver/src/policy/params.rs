//! The objects that parametrize a policy.

use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{ParamKind, ParamRef};
use stead_api::{LabelSelector, Object};

use crate::attempt::Attempt;
use crate::context::Place;

/// The parameters to evaluate a policy with, one after the other; None once when it has none.
///
/// # Errors
/// Why there are none although there should be.
pub(super) fn of(
    place: Place,
    attempt: &Attempt,
    kind: Option<&ParamKind>,
    wanted: Option<&ParamRef>,
) -> Result<Vec<Option<Arc<Object>>>, String> {
    let (Some(kind), Some(wanted)) = (kind, wanted) else { return Ok(vec![None]) };
    let (version, name) = (kind.api_version.as_deref().unwrap_or_default(), kind.kind.as_deref().unwrap_or_default());
    let found = place.registry.of_kind(version, name);
    let kind =
        found.ok_or_else(|| format!("failed to find resource referenced by paramKind: '{version}, Kind={name}'"))?;
    let given = wanted.namespace.as_deref().unwrap_or_default();
    let namespace = match (kind.namespaced, given, attempt.namespace) {
        (false, "", _) => "",
        (false, ..) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()),
        (true, "", "") => {
            return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into());
        }
        (true, "", own) => own,
        (true, given, _) => given,
    };
    let snapshot = place.snapshot;
    let params: Vec<_> = match (wanted.name.as_deref().unwrap_or_default(), &wanted.selector) {
        ("", Some(selector)) => {
            let selector = LabelSelector::from_typed(Some(selector)).map_err(|error| error.to_string())?;
            let is_selected = |object: &&Arc<Object>| selector.matches_value(object.value()["metadata"].get("labels"));
            snapshot.list(kind.storage, namespace).filter(is_selected).map(|object| Some(Arc::clone(object))).collect()
        }
        (name, _) => {
            snapshot.find(kind.storage, namespace, name).map(|object| Some(Arc::clone(object))).into_iter().collect()
        }
    };
    if params.is_empty() && wanted.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(params)
}
