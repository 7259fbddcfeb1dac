//! What expressions of admission policies and webhooks may name.

use stead_cel::{Known, Program, Wanted};

/// What `request` has.
pub(crate) const REQUEST: &[&str] = &[
    "kind",
    "resource",
    "subResource",
    "requestKind",
    "requestResource",
    "requestSubResource",
    "name",
    "namespace",
    "operation",
    "userInfo",
    "dryRun",
    "options",
];

/// What an expression may name beside the object, the one before it, the request and the authorizer.
pub(crate) struct Scope {
    pub has_namespace: bool,
    pub has_params: bool,
    /// The variables that are known so far; None where there are none.
    pub variables: Option<Vec<String>>,
}

/// Compiles an expression, or says why it cannot work.
pub(crate) fn compile(source: &str, scope: &Scope, wanted: Wanted) -> Result<Program, String> {
    compile_about(source, scope, wanted, (Known::Dyn, Known::Dyn))
}

/// The same where it is known what objects and parameters are like.
pub(crate) fn compile_about(
    source: &str,
    scope: &Scope,
    wanted: Wanted,
    (object, params): (Known, Known),
) -> Result<Program, String> {
    let request: Vec<String> = REQUEST.iter().map(ToString::to_string).collect();
    let mut known: Vec<(&str, Known)> = vec![("object", object), ("oldObject", object)];
    if scope.has_namespace {
        known.push(("namespaceObject", Known::Dyn));
    }
    known.push(("request", Known::Members(&request)));
    if let Some(variables) = &scope.variables {
        known.push(("variables", Known::Members(variables)));
    }
    known.push(("authorizer", Known::Authorizer));
    if scope.has_params {
        known.push(("params", params));
    }
    stead_cel::compile(source, &known, wanted).map_err(|why| {
        let why = why.replace("cel expression must evaluate to a bool", "must evaluate to bool");
        why.replace("cel expression must evaluate to a string", "must evaluate to string")
    })
}
