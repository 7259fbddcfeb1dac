//! `api-approved.kubernetes.io`: groups of the community take only kinds that it has looked at, or that say they were not.

use serde_json::Value;
use stead_api::Errors;

use crate::path::Path;

const ANNOTATION: &str = "api-approved.kubernetes.io";
const DOMAINS: &[&str] = &["k8s.io", "kubernetes.io"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Missing,
    /// A URL, or a reason that starts with `unapproved`.
    Given,
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
        text if text.starts_with("unapproved") || is_url(text) => State::Given,
        _ => State::Wrong,
    }
}

/// A state that has not changed is no reason to refuse a change.
pub(super) fn validate(group: &str, new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let is_of = |domain: &&str| group == *domain || group.strip_suffix(*domain).is_some_and(|rest| rest.ends_with('.'));
    let is = state(new);
    if !DOMAINS.iter().any(is_of) || old.is_some_and(|old| state(old) == is) {
        return;
    }
    let metadata = Path::root("metadata");
    let annotations = metadata.child("annotations");
    let at = annotations.key(ANNOTATION);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let wanted = format!("protected groups must have approval annotation \"{ANNOTATION}\"");
    match is {
        State::Given => {}
        State::Missing => at.required(errors, format!("{wanted}, {see}")),
        State::Wrong => {
            let detail = format!("{wanted} with either a URL or a reason starting with \"unapproved\", {see}");
            at.invalid(errors, annotation(new), detail);
        }
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
    }
}
