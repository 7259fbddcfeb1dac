//! `api-approved.kubernetes.io`: groups of the community take only kinds that it has looked at, or that say they were not.

use serde_json::Value;
use stead_api::Errors;

use crate::path::Path;

const ANNOTATION: &str = "api-approved.kubernetes.io";
const DOMAINS: &[&str] = &["k8s.io", "kubernetes.io"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Missing,
    /// A URL.
    Approved,
    /// A reason that starts with `unapproved`.
    Bypassed,
    Wrong,
}

fn annotation(metadata: &Value) -> &str {
    metadata["annotations"][ANNOTATION].as_str().unwrap_or_default()
}

fn state(metadata: &Value) -> State {
    let is_url =
        |text: &str| text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    match annotation(metadata) {
        "" => State::Missing,
        text if text.starts_with("unapproved") => State::Bypassed,
        text if is_url(text) => State::Approved,
        _ => State::Wrong,
    }
}

/// A state that has not changed is no reason to refuse a change.
pub(super) fn validate(group: &str, new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let is = state(new);
    if !is_protected(group) || old.is_some_and(|old| state(old) == is) {
        return;
    }
    let metadata = Path::root("metadata");
    let annotations = metadata.child("annotations");
    let at = annotations.key(ANNOTATION);
    match is {
        State::Approved | State::Bypassed => {}
        State::Missing => at.required(errors, told(new)),
        State::Wrong => at.invalid(errors, annotation(new), told(new)),
    }
}

fn is_protected(group: &str) -> bool {
    let is_of = |domain: &&str| group == *domain || group.strip_suffix(*domain).is_some_and(|rest| rest.ends_with('.'));
    DOMAINS.iter().any(is_of)
}

/// What the condition `KubernetesAPIApprovalPolicyConformant` says of a definition: its status, reason and message.
pub fn condition(group: &str, metadata: &Value) -> Option<(bool, &'static str, String)> {
    let reason = match state(metadata) {
        State::Missing => "MissingAnnotation",
        State::Approved => "ApprovedAnnotation",
        State::Bypassed => "UnapprovedAnnotation",
        State::Wrong => "InvalidAnnotation",
    };
    is_protected(group).then(|| (state(metadata) == State::Approved, reason, told(metadata)))
}

fn told(metadata: &Value) -> String {
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let wanted = format!("protected groups must have approval annotation \"{ANNOTATION}\"");
    match state(metadata) {
        State::Missing => format!("{wanted}, {see}"),
        State::Approved => format!("approved in {}", annotation(metadata)),
        State::Bypassed => format!("not approved: {:?}", annotation(metadata)),
        State::Wrong => format!("{wanted} with either a URL or a reason starting with \"unapproved\", {see}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_of_the_community_say_who_approved_them() {
        let said = |group: &str, annotation: Option<&str>, old: Option<&str>| {
            let metadata = |text: Option<&str>| json!({"annotations": {ANNOTATION: text}});
            let mut errors = Errors::default();
            validate(group, &metadata(annotation), old.map(|old| metadata(Some(old))).as_ref(), &mut errors);
            errors.0.first().map(ToString::to_string).unwrap_or_default()
        };
        let at = "metadata.annotations[api-approved.kubernetes.io]";
        assert!(
            said("gateway.networking.k8s.io", None, None)
                .starts_with(&format!("{at}: Required value: protected groups"))
        );
        assert!(
            said("kubernetes.io", Some("yes"), None).starts_with(&format!("{at}: Invalid value: \"yes\": protected"))
        );
        for annotation in ["https://github.com/kubernetes/enhancements/pull/1", "unapproved, experimental-only"] {
            assert_eq!(said("a.k8s.io", Some(annotation), None), "");
        }
        assert_eq!(said("gateway.networking.x-k8s.io", None, None), "", "another domain");
        assert_eq!(said("a.k8s.io", Some("no"), Some("other")), "", "no worse than before");
        assert_ne!(said("a.k8s.io", None, Some("unapproved")), "");
        let condition = |text: &str| condition("a.k8s.io", &json!({"annotations": {ANNOTATION: text}}));
        assert_eq!(condition("https://a/1"), Some((true, "ApprovedAnnotation", "approved in https://a/1".into())));
        let told = "not approved: \"unapproved, experimental-only\"".to_owned();
        assert_eq!(condition("unapproved, experimental-only"), Some((false, "UnapprovedAnnotation", told)));
    }
}
