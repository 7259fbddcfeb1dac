//! What counts are told apart by.

/// Group, version, resource, subresource, scope, verb.
pub type Labels<'a> = [&'a str; 6];
