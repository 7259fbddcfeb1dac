//! What one rule of a role covers.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::attributes::Attributes;

fn has(list: Option<&[String]>, wanted: &str) -> bool {
    list.into_iter().flatten().any(|one| one == "*" || one == wanted)
}

/// Whether one rule allows it.
pub(crate) fn allows(rule: &PolicyRule, wanted: &Attributes) -> bool {
    if !has(Some(&rule.verbs), wanted.verb) {
        return false;
    }
    if !wanted.path.is_empty() {
        return rule.non_resource_urls.iter().flatten().any(|url| url_covers(url, wanted.path));
    }
    let names = rule.resource_names.as_deref().unwrap_or_default();
    has(rule.api_groups.as_deref(), wanted.group)
        && rule.resources.iter().flatten().any(|one| resource_covers(one, wanted.resource, wanted.subresource))
        && (names.is_empty() || names.iter().any(|name| name == wanted.name && !name.is_empty()))
}

pub(crate) fn url_covers(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

pub(crate) fn resource_covers(pattern: &str, resource: &str, subresource: &str) -> bool {
    match pattern.split_once('/') {
        _ if pattern == "*" => true,
        None => subresource.is_empty() && pattern == resource,
        Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
        Some((one, sub)) => one == resource && sub == subresource,
    }
}
