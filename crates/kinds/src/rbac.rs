//! Role, ClusterRole, RoleBinding, ClusterRoleBinding (ID-06).

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use serde_json::{Value, json};
use stead_api::{Errors, Object};

use crate::check::{label_selector, list, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN, wide};
use crate::fill::{each, object, put, set_text};
use crate::names::{self, names};
use crate::path::Path;
use crate::{Behavior, Column, Hooks, Kind, Names};

pub const GROUP: &str = "rbac.authorization.k8s.io";

const fn rbac(storage: &'static str, names: Names, definition: &'static str) -> Kind {
    Kind {
        name_rule: names::path_segment,
        create_on_update: true,
        ..Kind::plain(storage, GROUP, "v1", names, definition)
    }
}

pub const ROLE: Kind = Kind {
    columns: ROLE_COLUMNS,
    hooks: Hooks::of::<Role>(),
    ..rbac("roles.rbac.authorization.k8s.io", names!("Role", "role", "roles"), "io.k8s.api.rbac.v1.Role")
};

pub const CLUSTERROLE: Kind = Kind {
    namespaced: false,
    columns: ROLE_COLUMNS,
    hooks: Hooks::of::<ClusterRole>(),
    ..rbac(
        "clusterroles.rbac.authorization.k8s.io",
        names!("ClusterRole", "clusterrole", "clusterroles"),
        "io.k8s.api.rbac.v1.ClusterRole",
    )
};

pub const ROLEBINDING: Kind = Kind {
    columns: BINDING_COLUMNS,
    hooks: Hooks::of::<RoleBinding>(),
    ..rbac(
        "rolebindings.rbac.authorization.k8s.io",
        names!("RoleBinding", "rolebinding", "rolebindings"),
        "io.k8s.api.rbac.v1.RoleBinding",
    )
};

pub const CLUSTERROLEBINDING: Kind = Kind {
    namespaced: false,
    columns: BINDING_COLUMNS,
    hooks: Hooks::of::<ClusterRoleBinding>(),
    ..rbac(
        "clusterrolebindings.rbac.authorization.k8s.io",
        names!("ClusterRoleBinding", "clusterrolebinding", "clusterrolebindings"),
        "io.k8s.api.rbac.v1.ClusterRoleBinding",
    )
};

const ROLE_COLUMNS: &[Column] = &[NAME_COLUMN, columns::CREATED_AT_COLUMN];

const BINDING_COLUMNS: &[Column] = &[
    NAME_COLUMN,
    columns::text("Role", role, "The role that is given."),
    AGE_COLUMN,
    wide(columns::text("Users", |object, _| subjects(object, "User"), "Users that get it.")),
    wide(columns::text("Groups", |object, _| subjects(object, "Group"), "Groups that get it.")),
    wide(columns::text("ServiceAccounts", |object, _| subjects(object, "ServiceAccount"), "Accounts that get it.")),
];

fn role(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let part = |field: &str| value["roleRef"][field].as_str().unwrap_or("").to_owned();
    format!("{}/{}", part("kind"), part("name")).into()
}

fn subjects(object: &Object, kind: &str) -> Value {
    let value = object.value();
    let found = value["subjects"].as_array().into_iter().flatten().filter(|subject| subject["kind"] == kind);
    let names = found.map(|subject| {
        let name = subject["name"].as_str().unwrap_or("");
        match subject["namespace"].as_str().filter(|namespace| !namespace.is_empty()) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        }
    });
    names.collect::<Vec<_>>().join(", ").into()
}

impl Behavior for Role {
    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        validate_rules(list(&self.rules), true, errors);
    }
}

impl Behavior for ClusterRole {
    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        validate_rules(list(&self.rules), false, errors);
        let Some(aggregation) = &self.aggregation_rule else { return };
        let at = Path::root("aggregationRule");
        let selectors = list(&aggregation.cluster_role_selectors);
        if selectors.is_empty() {
            at.child("clusterRoleSelectors")
                .required(errors, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for selector in selectors {
            label_selector(at.child("clusterRoleSelectors"), selector, errors);
        }
    }
}

fn validate_rules(rules: &[PolicyRule], namespaced: bool, errors: &mut Errors) {
    for (index, rule) in rules.iter().enumerate() {
        let all = Path::root("rules");
        let at = all.index(index);
        if rule.verbs.is_empty() {
            at.child("verbs").required(errors, "verbs must contain at least one value");
        }
        let (groups, resources) = (list(&rule.api_groups), list(&rule.resources));
        if !list(&rule.non_resource_urls).is_empty() {
            let urls = at.child("nonResourceURLs");
            if namespaced {
                urls.invalid(
                    errors,
                    json!(rule.non_resource_urls),
                    "namespaced rules cannot apply to non-resource URLs",
                );
            }
            if !groups.is_empty() || !resources.is_empty() || !list(&rule.resource_names).is_empty() {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                urls.invalid(errors, json!(rule.non_resource_urls), detail);
            }
            continue;
        }
        if groups.is_empty() {
            at.child("apiGroups").required(errors, "resource rules must supply at least one api group");
        }
        if resources.is_empty() {
            at.child("resources").required(errors, "resource rules must supply at least one resource");
        }
    }
}

impl Behavior for RoleBinding {
    fn default(new: &mut Value) {
        default_binding(new);
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        validate_role(&self.role_ref, old.map(|old| &old.role_ref), &["Role", "ClusterRole"], errors);
        validate_subjects(list(&self.subjects), true, errors);
    }
}

impl Behavior for ClusterRoleBinding {
    fn default(new: &mut Value) {
        default_binding(new);
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        validate_role(&self.role_ref, old.map(|old| &old.role_ref), &["ClusterRole"], errors);
        validate_subjects(list(&self.subjects), false, errors);
    }
}

fn default_binding(new: &mut Value) {
    if let Some(role) = object(new, "roleRef") {
        set_text(role, "apiGroup", GROUP);
    }
    for subject in each(new, "subjects") {
        match subject.get("kind").and_then(Value::as_str) {
            Some("User" | "Group") => set_text(subject, "apiGroup", GROUP),
            // A ServiceAccount is of the core group, which is written by leaving it out.
            Some("ServiceAccount") if subject.get("apiGroup").is_some_and(|group| group == "") => {
                put(subject, "apiGroup", None);
            }
            _ => {}
        }
    }
}

fn validate_role(role: &RoleRef, old: Option<&RoleRef>, kinds: &[&str], errors: &mut Errors) {
    let at = Path::root("roleRef");
    if text(&role.api_group) != GROUP {
        at.child("apiGroup").not_supported(errors, text(&role.api_group), &[GROUP]);
    }
    if !kinds.contains(&role.kind.as_str()) {
        at.child("kind").not_supported(errors, role.kind.as_str(), kinds);
    }
    if role.name.is_empty() {
        at.child("name").required(errors, "");
    }
    for message in names::path_segment(&role.name) {
        at.child("name").invalid(errors, role.name.as_str(), message);
    }
    if old.is_some_and(|old| old != role) {
        at.invalid(errors, json!(role), "cannot change roleRef");
    }
}

fn validate_subjects(subjects: &[Subject], namespaced: bool, errors: &mut Errors) {
    for (index, subject) in subjects.iter().enumerate() {
        let all = Path::root("subjects");
        let at = all.index(index);
        if subject.name.is_empty() {
            at.child("name").required(errors, "");
        }
        let group = text(&subject.api_group);
        match subject.kind.as_str() {
            "ServiceAccount" => {
                for message in names::dns1123_subdomain(&subject.name).into_iter().filter(|_| !subject.name.is_empty())
                {
                    at.child("name").invalid(errors, subject.name.as_str(), message);
                }
                if !group.is_empty() {
                    at.child("apiGroup").not_supported(errors, group, &[""]);
                }
                if !namespaced && text(&subject.namespace).is_empty() {
                    at.child("namespace").required(errors, "");
                }
            }
            "User" | "Group" if group != GROUP => at.child("apiGroup").not_supported(errors, group, &[GROUP]),
            "User" | "Group" => {}
            other => at.child("kind").not_supported(errors, other, &["ServiceAccount", "User", "Group"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_api::Key;

    fn errors(kind: &Kind, value: &Value, old: Option<&Object>) -> Vec<String> {
        kind.check(value, old).expect("decodes").errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_binding_is_filled_in_and_its_role_stays() {
        let mut value = json!({"metadata": {"name": "b", "namespace": "n", "resourceVersion": "1"},
            "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
                {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]});
        (ROLEBINDING.hooks.default)(&mut value);
        assert_eq!(value["roleRef"]["apiGroup"], GROUP);
        assert_eq!(value["subjects"][0]["apiGroup"], GROUP);
        assert_eq!(errors(&ROLEBINDING, &value, None), Vec::<String>::new());
        let object = Object::of_value(Key::new(ROLEBINDING.storage, "n", "b"), &value, &ROLEBINDING.stored_fields())
            .expect("an object");
        assert_eq!(subjects(&object, "ServiceAccount"), "n/s");
        value["roleRef"]["name"] = "other".into();
        assert!(errors(&ROLEBINDING, &value, Some(&object))[0].ends_with("cannot change roleRef"));
    }

    #[test]
    fn rules_say_what_they_are_about() {
        let role = json!({"metadata": {"name": "r", "namespace": "n"}, "rules": [{"verbs": []},
            {"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]});
        assert_eq!(
            errors(&ROLE, &role, None),
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
                "rules[1].nonResourceURLs: Invalid value: [\"/healthz\"]: namespaced rules cannot apply to non-resource URLs",
            ]
        );
    }
}
