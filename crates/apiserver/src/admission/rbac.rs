//! Roles and bindings: nobody grants what they do not have (ID-06).

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use serde::Deserialize;
use serde_json::Value;
use stead_api::{Request, Status, User};
use stead_store::Snapshot;

use crate::Context;
use crate::access;
use crate::attributes::Attributes;
use crate::draft::Draft;
use crate::rule::{resource_covers, url_covers};

/// A role's rules must be covered by the writer's own, unless the writer may `escalate`.
pub(super) fn no_escalation(ctx: &mut Context, request: &Request, draft: &mut Draft) -> Result<(), Status> {
    let rules: Vec<PolicyRule> = Vec::deserialize(&draft.new["rules"]).unwrap_or_default();
    if is_unlimited(&request.user) || may(ctx, request, draft, "escalate", draft.kind.plural, draft.name()) {
        return Ok(());
    }
    if only_collected(draft) {
        return Ok(());
    }
    let namespace = draft.key.namespace.to_string();
    refuse_missing(ctx.store.snapshot(), &request.user, &namespace, &rules, draft)?;
    // It can gather anything.
    let gathers = |value: &Value| {
        value["aggregationRule"]["clusterRoleSelectors"].as_array().is_some_and(|selectors| !selectors.is_empty())
    };
    let changes = gathers(&draft.new) || gathers(&draft.old_value);
    if changes && refuse_missing(ctx.store.snapshot(), &request.user, "", &everything(), draft).is_err() {
        return Err(draft.forbidden("must have cluster-admin privileges to use an aggregationRule"));
    }
    Ok(())
}

fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule { verbs: all(), api_groups: Some(all()), resources: Some(all()), ..PolicyRule::default() },
        PolicyRule { verbs: all(), non_resource_urls: Some(all()), ..PolicyRule::default() },
    ]
}

/// Whether nothing is changed but what the garbage collector must be able to change.
fn only_collected(draft: &Draft) -> bool {
    let rest = |value: &Value| {
        let mut value = value.clone();
        for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
            value["metadata"].as_object_mut().map(|meta| meta.shift_remove(field));
        }
        value
    };
    !draft.is_creation() && rest(&draft.new) == rest(&draft.old_value)
}

/// Binding a role needs its rules, or the verb `bind` on it.
pub(super) fn no_borrowed_rights(ctx: &mut Context, request: &Request, draft: &mut Draft) -> Result<(), Status> {
    if is_unlimited(&request.user) {
        return Ok(());
    }
    let Ok(role) = RoleRef::deserialize(&draft.new["roleRef"]) else { return Ok(()) };
    let plural = if role.kind == "Role" { "roles" } else { "clusterroles" };
    if may(ctx, request, draft, "bind", plural, &role.name) {
        return Ok(());
    }
    if only_collected(draft) {
        return Ok(());
    }
    let namespace = draft.key.namespace.to_string();
    let snapshot = ctx.store.snapshot();
    let Some(rules) = access::with_rules(snapshot, &role, &namespace, <[PolicyRule]>::to_vec) else {
        return Err(Status::not_found("rbac.authorization.k8s.io", plural, &role.name));
    };
    refuse_missing(snapshot, &request.user, &namespace, &rules, draft)
}

fn is_unlimited(user: &User) -> bool {
    user.is_in("system:masters")
}

fn may(ctx: &Context, request: &Request, draft: &Draft, verb: &str, resource: &str, name: &str) -> bool {
    let wanted = Attributes {
        verb,
        group: "rbac.authorization.k8s.io",
        resource,
        namespace: &draft.key.namespace,
        name,
        ..Attributes::default()
    };
    access::allowed(ctx.store.snapshot(), &request.user, &wanted).is_ok()
}

fn refuse_missing(
    snapshot: &Snapshot,
    user: &User,
    namespace: &str,
    rules: &[PolicyRule],
    draft: &Draft,
) -> Result<(), Status> {
    let mut held: Vec<PolicyRule> = Vec::new();
    let mut missing_roles = Vec::new();
    access::visit_rules(snapshot, user, namespace, &mut missing_roles, &mut |rule| {
        held.push(rule.clone());
        true
    });
    let missing: Vec<PolicyRule> =
        rules.iter().flat_map(atoms).filter(|atom| !held.iter().any(|rule| covers(rule, atom))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = compact(missing).iter().map(show).collect();
    lines.sort();
    let mut why = format!(
        "user \"{}\" (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        lines.join("\n")
    );
    if !missing_roles.is_empty() {
        why = format!("{why}; resolution errors: [{}]", missing_roles.join(", "));
    }
    Err(draft.forbidden(&why))
}

/// Rules about one thing as one rule with all its verbs.
fn compact(atoms: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    for atom in atoms {
        let is_same = |rule: &&mut PolicyRule| {
            rule.api_groups == atom.api_groups
                && rule.resources == atom.resources
                && rule.resource_names == atom.resource_names
        };
        match rules.iter_mut().filter(|_| atom.non_resource_urls.is_none()).find(is_same) {
            Some(rule) => {
                rule.verbs.extend(atom.verbs.into_iter().filter(|verb| !rule.verbs.contains(verb)).collect::<Vec<_>>())
            }
            None => rules.push(atom),
        }
    }
    rules
}

/// A list as Go prints it: `["a" "b"]`.
fn quoted(list: &[String]) -> String {
    let words: Vec<String> = list.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}

/// A rule as rules of one verb on one thing.
fn atoms(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut atoms = Vec::new();
    for verb in &rule.verbs {
        let verbs = || vec![verb.clone()];
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let one = PolicyRule {
                    verbs: verbs(),
                    api_groups: Some(vec![group.clone()]),
                    resources: Some(vec![resource.clone()]),
                    ..PolicyRule::default()
                };
                match rule.resource_names.as_deref().unwrap_or_default() {
                    [] => atoms.push(one),
                    names => atoms.extend(
                        names.iter().map(|name| PolicyRule { resource_names: Some(vec![name.clone()]), ..one.clone() }),
                    ),
                }
            }
        }
        for url in rule.non_resource_urls.iter().flatten() {
            let non_resource_urls = Some(vec![url.clone()]);
            atoms.push(PolicyRule { verbs: verbs(), non_resource_urls, ..PolicyRule::default() });
        }
    }
    atoms
}

fn covers(rule: &PolicyRule, atom: &PolicyRule) -> bool {
    let any = |have: &Option<Vec<String>>, want: &Option<Vec<String>>| {
        want.iter().flatten().all(|one| have.iter().flatten().any(|held| held == "*" || held == one))
    };
    if !atom.verbs.iter().all(|verb| rule.verbs.iter().any(|held| held == "*" || held == verb)) {
        return false;
    }
    if let Some(urls) = &atom.non_resource_urls {
        return urls.iter().all(|url| rule.non_resource_urls.iter().flatten().any(|held| url_covers(held, url)));
    }
    let names = rule.resource_names.as_deref().unwrap_or_default();
    let covers_names = match atom.resource_names.as_deref() {
        None | Some([]) => names.is_empty(),
        Some(wanted) => names.is_empty() || wanted.iter().all(|one| names.contains(one)),
    };
    let covers_resources = atom.resources.iter().flatten().all(|wanted| {
        let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
        rule.resources.iter().flatten().any(|held| resource_covers(held, resource, subresource))
    });
    covers_names && covers_resources && any(&rule.api_groups, &atom.api_groups)
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`
fn show(rule: &PolicyRule) -> String {
    let mut parts = Vec::new();
    let fields = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
    ];
    for (name, list) in fields {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            parts.push(format!("{name}:{}", quoted(list)));
        }
    }
    parts.push(format!("Verbs:{}", quoted(&rule.verbs)));
    format!("{{{}}}", parts.join(", "))
}
