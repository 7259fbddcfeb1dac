//! ValidatingAdmissionPolicy status: what its expressions ask for that the kinds it is about do not have, once per generation.
//!
//! Upstream: pkg/controller/validatingadmissionpolicystatus.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use serde_json::{Value, json};
use stead_api::Key;
use stead_kinds::admissionpolicy::Policy;
use stead_kinds::policy_types::misfits;

use crate::names::VALIDATING_POLICY;
use crate::plan::{Controller, Plan, Settles, View, Watch};

pub const CONTROLLER: Controller = Controller {
    name: "validatingadmissionpolicy-status-controller",
    settles: Settles::AfterStatus,
    watches: &[Watch { kind: VALIDATING_POLICY, keys: |_, event| vec![event.key().clone()] }],
    reconcile,
};

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key) else { return plan };
    let mut value = object.value();
    if value["status"]["observedGeneration"].as_i64().unwrap_or(0) >= object.meta.generation {
        return plan;
    }
    let typed = object.view::<Policy<ValidatingAdmissionPolicy>>();
    let found = typed.policy.spec.as_ref().map_or(Vec::new(), |spec| misfits(spec, view.registry));
    let warnings: Vec<Value> =
        found.into_iter().map(|(field, why)| json!({"fieldRef": field, "warning": why})).collect();
    value["status"]["observedGeneration"] = json!(object.meta.generation);
    value["status"]["typeChecking"] = match warnings.is_empty() {
        true => json!({}),
        false => json!({"expressionWarnings": warnings}),
    };
    plan.update_status(VALIDATING_POLICY, value);
    plan
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};

    fn check(more: &str, expression: &str, expected: Expect) {
        let rule = r#"{"apiGroups":["apps"],"apiVersions":["v1"],"operations":["*"],"resources":["deployments"]}"#;
        let world = World::of(&format!(
            r#"vap p generation=2 {{"spec":{{"matchConstraints":{{"resourceRules":[{rule}]}},"validations":[{{"expression":"{expression}"}}]}}{more}}}"#
        ));
        expected.assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(VALIDATING_POLICY, "", "p"))));
    }

    #[test]
    fn expressions_are_checked_once_per_generation() {
        check(
            "",
            "object.spec.replicas > 1",
            expect![[r#"
            status ValidatingAdmissionPolicy p {"observedGeneration":2,"typeChecking":{}}
        "#]],
        );
        check(
            "",
            "object.spec.replicaz > 1",
            expect![[r#"
            status ValidatingAdmissionPolicy p {"observedGeneration":2,"typeChecking":{"expressionWarnings":[{"fieldRef":"spec.validations[0].expression","warning":"apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replicaz'\n | object.spec.replicaz > 1\n | ...........^\n"}]}}
        "#]],
        );
        check(r#","status":{"observedGeneration":2}"#, "object.spec.replicaz > 1", expect![[""]]);
    }
}
