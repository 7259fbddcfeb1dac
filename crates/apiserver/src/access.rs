//! Who may do what: functions of a snapshot (ID-06, ID-07).
//!
//! Contract: RBAC as Kubernetes evaluates it: allowed when any rule of any bound role allows; nothing denies. Members of
//! `system:masters` may do everything. Refusals carry Kubernetes' text.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use stead_api::{Request, Status, User};
use stead_store::Snapshot;

use crate::attributes::Attributes;
use crate::node_authorizer;
use crate::rule::allows;

/// Whether the user may do what the request asks.
///
/// # Errors
/// 403 in Kubernetes' words.
pub fn authorize_request(snapshot: &Snapshot, request: &Request) -> Result<(), Status> {
    authorize(snapshot, &request.user, &Attributes::of(request))
}

/// # Errors
/// 403 in Kubernetes' words.
pub fn authorize(snapshot: &Snapshot, user: &User, wanted: &Attributes) -> Result<(), Status> {
    let Err(why) = allowed(snapshot, user, wanted) else { return Ok(()) };
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    if !wanted.path.is_empty() {
        let text = format!("User \"{}\" cannot {} path \"{}\"{why}", user.name, wanted.verb, wanted.path);
        return Err(Status::forbidden("", "", "", &text));
    }
    let place = match wanted.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let text = format!(
        "User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {place}{why}",
        user.name,
        wanted.verb,
        wanted.resource_text(),
        wanted.group
    );
    Err(Status::forbidden(wanted.group, wanted.resource, wanted.name, &text))
}

/// Ok when some rule allows it; else what went wrong on the way (roles that do not exist), mostly nothing.
///
/// # Errors
/// When nothing allows it.
pub fn allowed(snapshot: &Snapshot, user: &User, wanted: &Attributes) -> Result<(), String> {
    if user.is_in("system:masters") {
        return Ok(());
    }
    // What the node authorizer says is told before what RBAC says.
    let of_node = node_authorizer::node_of(user).map(|node| node_authorizer::judge(snapshot, node, wanted));
    let why_not_node = match of_node {
        Some(Ok(())) => return Ok(()),
        Some(Err(why)) => why,
        None => String::new(),
    };
    let mut missing = Vec::new();
    let mut found = false;
    let namespace = if wanted.path.is_empty() { wanted.namespace } else { "" };
    visit_rules(snapshot, user, namespace, &mut missing, &mut |rule| {
        found = found || allows(rule, wanted);
        !found
    });
    match (found, missing.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => Err(why_not_node),
        (false, false) if why_not_node.is_empty() => Err(format!("RBAC: {}", join(missing))),
        (false, false) => Err(format!("{why_not_node}\nRBAC: {}", join(missing))),
    }
}

fn join(mut texts: Vec<String>) -> String {
    if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) }
}

/// Whether it is allowed and by what, in upstream's words; for reviews and the audit log, which ask again after the fact.
pub fn explain(snapshot: &Snapshot, user: &User, wanted: &Attributes) -> (bool, String) {
    if let Err(why) = allowed(snapshot, user, wanted) {
        return (false, why);
    }
    let of_node =
        node_authorizer::node_of(user).is_some_and(|node| node_authorizer::judge(snapshot, node, wanted).is_ok());
    if user.is_in("system:masters") || of_node {
        return (true, String::new());
    }
    let namespace = if wanted.path.is_empty() { wanted.namespace } else { "" };
    let grants = |role: &RoleRef| {
        with_rules(snapshot, role, namespace, |rules| rules.iter().any(|rule| allows(rule, wanted))).unwrap_or(false)
    };
    let tell = |binding: String, role: &RoleRef, subject: &Subject, place: &str| {
        let name = match subject.kind.as_str() {
            "ServiceAccount" => {
                let own = subject.namespace.as_deref().filter(|one| !one.is_empty()).unwrap_or(place);
                format!("{}/{own}", subject.name)
            }
            _ => subject.name.clone(),
        };
        let (role, kind) = (format!("{} {:?}", role.kind, role.name), &subject.kind);
        (true, format!("RBAC: allowed by {binding} of {role} to {kind} {name:?}"))
    };
    for object in snapshot.list("clusterrolebindings.rbac.authorization.k8s.io", "") {
        let binding = object.view::<ClusterRoleBinding>();
        let subject = binding.subjects.iter().flatten().find(|one| applies(Some(std::slice::from_ref(*one)), user, ""));
        if let Some(subject) = subject.filter(|_| grants(&binding.role_ref)) {
            return tell(format!("ClusterRoleBinding {:?}", &*object.key.name), &binding.role_ref, subject, "");
        }
    }
    for object in snapshot.list("rolebindings.rbac.authorization.k8s.io", namespace).filter(|_| !namespace.is_empty()) {
        let binding = object.view::<RoleBinding>();
        let subject =
            binding.subjects.iter().flatten().find(|one| applies(Some(std::slice::from_ref(*one)), user, namespace));
        if let Some(subject) = subject.filter(|_| grants(&binding.role_ref)) {
            let name = format!("{}/{}", object.key.name, object.key.namespace);
            return tell(format!("RoleBinding {name:?}"), &binding.role_ref, subject, namespace);
        }
    }
    (true, String::new())
}

/// The rules that apply to a user in a namespace and cluster-wide; `visit` returns false to stop.
pub(crate) fn visit_rules(
    snapshot: &Snapshot,
    user: &User,
    namespace: &str,
    missing: &mut Vec<String>,
    visit: &mut dyn FnMut(&PolicyRule) -> bool,
) {
    for object in snapshot.list("clusterrolebindings.rbac.authorization.k8s.io", "") {
        let binding = object.view::<ClusterRoleBinding>();
        if !applies(binding.subjects.as_deref(), user, "") {
            continue;
        }
        if !visit_role(snapshot, &binding.role_ref, "", missing, visit) {
            return;
        }
    }
    if namespace.is_empty() {
        return;
    }
    for object in snapshot.list("rolebindings.rbac.authorization.k8s.io", namespace) {
        let binding = object.view::<RoleBinding>();
        if !applies(binding.subjects.as_deref(), user, namespace) {
            continue;
        }
        if !visit_role(snapshot, &binding.role_ref, namespace, missing, visit) {
            return;
        }
    }
}

fn visit_role(
    snapshot: &Snapshot,
    role: &RoleRef,
    namespace: &str,
    missing: &mut Vec<String>,
    visit: &mut dyn FnMut(&PolicyRule) -> bool,
) -> bool {
    with_rules(snapshot, role, namespace, |rules| rules.iter().all(visit)).unwrap_or_else(|| {
        let resource = if role.kind == "Role" { "role" } else { "clusterrole" };
        missing.push(format!("{resource}.rbac.authorization.k8s.io \"{}\" not found", role.name));
        true
    })
}

/// Shows the rules of a role, if it exists.
pub(crate) fn with_rules<R>(
    snapshot: &Snapshot,
    role: &RoleRef,
    namespace: &str,
    show: impl FnOnce(&[PolicyRule]) -> R,
) -> Option<R> {
    if role.kind == "Role" {
        let object = snapshot.find("roles.rbac.authorization.k8s.io", namespace, &role.name)?;
        return Some(show(object.view::<Role>().rules.as_deref().unwrap_or_default()));
    }
    let object = snapshot.find("clusterroles.rbac.authorization.k8s.io", "", &role.name)?;
    Some(show(object.view::<ClusterRole>().rules.as_deref().unwrap_or_default()))
}

fn applies(subjects: Option<&[Subject]>, user: &User, namespace: &str) -> bool {
    subjects.into_iter().flatten().any(|subject| match subject.kind.as_str() {
        "User" => subject.name == user.name,
        "Group" => user.is_in(&subject.name),
        "ServiceAccount" => {
            let own = subject.namespace.as_deref().filter(|one| !one.is_empty()).unwrap_or(namespace);
            let account = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
            !own.is_empty() && account == Some((own, subject.name.as_str()))
        }
        _ => false,
    })
}
