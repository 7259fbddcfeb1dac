//! What somebody wants to do, as authorizers see it.

use stead_api::{Request, Target, Verb};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Empty: cluster scope, or all namespaces.
    pub namespace: &'a str,
    pub name: &'a str,
    /// A non-resource path; empty when a resource is meant.
    pub path: &'a str,
    /// What a list, watch or deletion of many is narrowed to.
    pub field_selector: &'a str,
}

impl<'a> Attributes<'a> {
    pub fn of(request: &'a Request) -> Attributes<'a> {
        let verb = request.verb.name();
        match &request.target {
            Target::Path(path) => Attributes { verb, path, ..Attributes::default() },
            Target::Resource(resource) => Attributes {
                verb,
                group: &resource.group,
                resource: &resource.plural,
                subresource: &resource.subresource,
                namespace: &resource.namespace,
                name: if resource.name.is_empty() { named_by_selector(request) } else { &resource.name },
                path: "",
                field_selector: &request.options.field_selector,
            },
        }
    }

    /// The one value that the field selector leaves a field.
    pub(crate) fn selected(&self, field: &str) -> Option<&'a str> {
        let terms = self.field_selector.split(',').filter_map(|term| term.trim().split_once('='));
        let mut found =
            terms.filter(|(name, _)| *name == field).map(|(_, value)| value.strip_prefix('=').unwrap_or(value));
        found.next().filter(|value| !value.is_empty())
    }

    pub(crate) fn resource_text(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

/// A list or watch of one object by its name is judged as being about that object, so that roles with resourceNames allow it.
fn named_by_selector(request: &Request) -> &str {
    if !matches!(request.verb, Verb::List | Verb::Watch) {
        return "";
    }
    let mut terms = request.options.field_selector.split(',');
    let named = terms.find_map(|term| term.strip_prefix("metadata.name=").map(|name| name.trim_start_matches('=')));
    named.filter(|name| !name.is_empty() && !name.contains(['/', '%'])).unwrap_or_default()
}
