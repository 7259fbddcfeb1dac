//! What `metadata.name` may look like for each family of kinds.

pub use stead_api::names::{dns1035_label, dns1123_label, dns1123_subdomain};

/// The four names of a kind from its Kind, singular and plural.
macro_rules! names {
    ($kind:literal, $singular:literal, $plural:literal) => {
        $crate::Names { kind: $kind, list_kind: concat!($kind, "List"), plural: $plural, singular: $singular }
    };
}
pub(crate) use names;

/// Names of RBAC objects: anything that can stand in a path.
pub fn path_segment(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if matches!(name, "." | "..") {
        messages.push(format!("may not be '{name}'"));
    }
    for forbidden in ["/", "%"] {
        if name.contains(forbidden) {
            messages.push(format!("may not contain '{forbidden}'"));
        }
    }
    messages
}

/// Kinds whose objects are never stored have no rule.
pub fn any(_name: &str) -> Vec<String> {
    Vec::new()
}
