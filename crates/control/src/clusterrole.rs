//! ClusterRoles with an aggregationRule get the rules of the roles that it selects (ID-06).
//!
//! Upstream: pkg/controller/clusterroleaggregation.

use k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::{Value, json};
use stead_api::{Key, LabelSelector};

use crate::facts;
use crate::names::CLUSTER_ROLE;
use crate::plan::{Controller, Plan, Settles, View, Watch};

pub const CONTROLLER: Controller = Controller {
    name: "clusterrole-aggregation-controller",
    settles: Settles::Always,
    watches: &[Watch {
        kind: CLUSTER_ROLE,
        keys: |view, _| {
            let roles = view.snapshot.list(CLUSTER_ROLE, "");
            roles
                .filter(|role| role.view::<ClusterRole>().aggregation_rule.is_some())
                .map(|role| role.key.clone())
                .collect()
        },
    }],
    reconcile,
};

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(role) = view.snapshot.get(key) else { return plan };
    let typed = role.view::<ClusterRole>();
    let Some(rule) = &typed.aggregation_rule else { return plan };
    let mut rules: Vec<Value> = Vec::new();
    for selector in rule.cluster_role_selectors.iter().flatten() {
        let selector = LabelSelector::from_typed(Some(selector)).unwrap_or(LabelSelector::Nothing);
        for other in view.snapshot.list(CLUSTER_ROLE, "") {
            if other.key == role.key || !selector.matches(&other.meta.labels) {
                continue;
            }
            for rule in facts::list(&other.value()["rules"]) {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    let mut value = role.value();
    if facts::list(&value["rules"]) != rules {
        value["rules"] = json!(rules);
        plan.update(CLUSTER_ROLE, value);
    }
    plan
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::fixture::{World, show};

    #[test]
    fn rules_of_the_selected_roles_are_joined() {
        let world = World::of(
            r#"role all {"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"into":"all"}}]},"rules":[]}
               role a label=into:all {"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}
               role b label=into:all {"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]},{"apiGroups":["apps"],"resources":["*"],"verbs":["list"]}]}
               role c {"rules":[{"apiGroups":["x"],"resources":["*"],"verbs":["*"]}]}"#,
        );
        expect![[r#"
            update ClusterRole all {"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]},{"apiGroups":["apps"],"resources":["*"],"verbs":["list"]}]}
        "#]]
        .assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(CLUSTER_ROLE, "", "all"))));
    }
}
