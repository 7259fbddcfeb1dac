//! Admission: what the cluster adds to an object, and what it forbids.
//!
//! Three ordered lists of functions: rules that fill in and refuse before validation, rules that look at a valid object, and rules
//! of subresources. Rows ID-01, ID-04, F-02, V-03, V-13, V-16, N-04, N-05, ID-06.

mod certificates;
mod ingress;
mod limits;
pub(crate) mod node;
mod owners;
mod pod;
pub(crate) mod podsecurity;
pub mod quota;
mod rbac;
mod service;
mod volume;

use stead_api::{Remarks, Request, Status};

use crate::Context;
use crate::custom::{self, definition};
use crate::draft::{Draft, Part};

pub use volume::default_storage_class;

type Rule = fn(&mut Context, &Request, &mut Draft) -> Result<(), Status>;
/// A rule about a valid object; the last argument takes what there is to say of it.
type Check = fn(&mut Context, &Request, &mut Draft, &mut Remarks) -> Result<(), Status>;

/// Which rules see which kind before it is validated, in this order.
const RULES: &[(&str, &[Rule])] = &[
    ("pods", &[limits::defaults, pod::service_account, pod::priority, pod::tolerations, pod::runtime_class]),
    ("persistentvolumeclaims", &[volume::default_class, volume::resize]),
    ("services", &[service::allocate]),
    ("ingresses.networking.k8s.io", &[ingress::default_class]),
    ("priorityclasses.scheduling.k8s.io", &[pod::one_default_priority]),
    (certificates::REQUESTS, &[certificates::requester, certificates::restrict_subject]),
    (custom::DEFINITIONS, &[definition::establish]),
    ("roles.rbac.authorization.k8s.io", &[rbac::no_escalation]),
    ("clusterroles.rbac.authorization.k8s.io", &[rbac::no_escalation]),
    ("rolebindings.rbac.authorization.k8s.io", &[rbac::no_borrowed_rights]),
    ("clusterrolebindings.rbac.authorization.k8s.io", &[rbac::no_borrowed_rights]),
];

/// Which rules see a valid object, in this order; quotas come last, when the object is stored.
const CHECKS: &[(&str, &[Check])] = &[
    ("pods", &[limits::pod, podsecurity::pod]),
    ("persistentvolumeclaims", &[limits::claim]),
    ("namespaces", &[podsecurity::namespace]),
    ("deployments.apps", &[podsecurity::template]),
    ("replicasets.apps", &[podsecurity::template]),
    ("statefulsets.apps", &[podsecurity::template]),
    ("daemonsets.apps", &[podsecurity::template]),
    ("replicationcontrollers", &[podsecurity::template]),
    ("podtemplates", &[podsecurity::template]),
    ("jobs.batch", &[podsecurity::template]),
    ("cronjobs.batch", &[podsecurity::template]),
];

/// The same for changes of one part.
const PART_RULES: &[(&str, Part, Rule)] = &[
    (certificates::REQUESTS, Part::Approval, certificates::approve),
    (certificates::REQUESTS, Part::Status, certificates::sign),
    (custom::DEFINITIONS, Part::Status, definition::accept_names),
];

pub(crate) fn admit(ctx: &mut Context, request: &Request, draft: &mut Draft) -> Result<(), Status> {
    node::restrict(ctx, request, draft)?;
    owners::permitted(ctx, request, draft)?;
    let rules = RULES.iter().find(|(storage, _)| *storage == draft.kind.storage).map(|(_, rules)| *rules);
    rules.unwrap_or_default().iter().try_for_each(|rule| rule(ctx, request, draft))
}

/// Looks at a valid object.
pub(crate) fn check(
    ctx: &mut Context,
    request: &Request,
    draft: &mut Draft,
    remarks: &mut Remarks,
) -> Result<(), Status> {
    let checks = match draft.part {
        Part::Whole => CHECKS.iter().find(|(storage, _)| *storage == draft.kind.storage).map(|(_, checks)| *checks),
        Part::EphemeralContainers => Some(&[podsecurity::pod as Check][..]),
        Part::Resize => Some(&[limits::pod as Check][..]),
        _ => None,
    };
    checks.unwrap_or_default().iter().try_for_each(|check| check(ctx, request, draft, remarks))
}

/// Rules of status and other subresources.
pub(crate) fn admit_part(ctx: &mut Context, request: &Request, draft: &mut Draft) -> Result<(), Status> {
    node::restrict(ctx, request, draft)?;
    let meant = |(storage, part, _): &&(&str, Part, Rule)| *storage == draft.kind.storage && *part == draft.part;
    match PART_RULES.iter().find(meant) {
        Some((_, _, rule)) => rule(ctx, request, draft),
        None => Ok(()),
    }
}
