//! Admission: what the cluster adds to an object, and what it forbids, between defaults and validation.
//!
//! An ordered list of functions of the context and the draft. Rows ID-01, ID-04, F-02, V-03, V-13, V-16, N-04, N-05, ID-06.

mod pod;
mod rbac;
mod service;
mod volume;

use stead_api::{Request, Status};

use crate::Context;
use crate::custom::{self, definition};
use crate::draft::Draft;

pub use volume::default_storage_class;

type Rule = fn(&mut Context, &Request, &mut Draft) -> Result<(), Status>;

/// Which rules see which kind, in this order.
const RULES: &[(&str, &[Rule])] = &[
    ("pods", &[pod::service_account, pod::priority, pod::tolerations]),
    ("persistentvolumeclaims", &[volume::default_class, volume::resize]),
    ("services", &[service::allocate]),
    (custom::DEFINITIONS, &[definition::establish]),
    ("roles.rbac.authorization.k8s.io", &[rbac::no_escalation]),
    ("clusterroles.rbac.authorization.k8s.io", &[rbac::no_escalation]),
    ("rolebindings.rbac.authorization.k8s.io", &[rbac::no_borrowed_rights]),
    ("clusterrolebindings.rbac.authorization.k8s.io", &[rbac::no_borrowed_rights]),
];

pub(crate) fn admit(ctx: &mut Context, request: &Request, draft: &mut Draft) -> Result<(), Status> {
    let rules = RULES.iter().find(|(storage, _)| *storage == draft.kind.storage).map(|(_, rules)| *rules);
    rules.unwrap_or_default().iter().try_for_each(|rule| rule(ctx, request, draft))
}
