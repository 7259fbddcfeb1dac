//! PodDisruptionBudget.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};
use stead_api::Errors;

use crate::check::{at_most_all, int_or_percent, label_selector, one_of, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::object_or_new;
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Hooks, Kind, Subresource};

pub const PODDISRUPTIONBUDGET: Kind = Kind {
    short: &["pdb"],
    has_generation: true,
    unconditional_update: false,
    subresources: &[Subresource::Status],
    columns: &[
        NAME_COLUMN,
        columns::text("Min Available", |object, _| amount(&object.value(), "minAvailable"), "Pods that must stay."),
        columns::text("Max Unavailable", |object, _| amount(&object.value(), "maxUnavailable"), "Pods that may go."),
        columns::integer(
            "Allowed Disruptions",
            |object, _| object.value()["status"]["disruptionsAllowed"].as_i64().unwrap_or(0).into(),
            "Pods that may be evicted now.",
        ),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<PodDisruptionBudget>(),
    ..Kind::plain(
        "poddisruptionbudgets.policy",
        "policy",
        "v1",
        names!("PodDisruptionBudget", "poddisruptionbudget", "poddisruptionbudgets"),
        "io.k8s.api.policy.v1.PodDisruptionBudget",
    )
};

fn amount(value: &Value, field: &str) -> Value {
    match &value["spec"][field] {
        Value::Null => "N/A".into(),
        Value::String(text) => text.as_str().into(),
        number => number.to_string().into(),
    }
}

impl Behavior for PodDisruptionBudget {
    fn default(new: &mut Value) {
        object_or_new(new, "spec");
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let Some(spec) = &self.spec else { return };
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            at.invalid(errors, json!(spec), "minAvailable and maxUnavailable cannot be both set");
        }
        for (field, value) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
            if let Some(value) = value {
                int_or_percent(at.child(field), value, errors);
                at_most_all(at.child(field), value, errors);
            }
        }
        if let Some(selector) = &spec.selector {
            label_selector(at.child("selector"), selector, errors);
        }
        let policies = ["AlwaysAllow", "IfHealthyBudget"];
        let policy = text(&spec.unhealthy_pod_eviction_policy);
        one_of(at.child("unhealthyPodEvictionPolicy"), policy, &policies, true, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_two_and_at_most_all() {
        let errors = |spec: Value| {
            let value = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec});
            let errors = PODDISRUPTIONBUDGET.check(&value, None).expect("decodes").errors;
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(errors(json!({"minAvailable": "50%", "selector": {}})), Vec::<String>::new());
        assert_eq!(
            errors(json!({"minAvailable": -1, "maxUnavailable": "101%"})),
            [
                "spec: Invalid value: {\"maxUnavailable\":\"101%\",\"minAvailable\":-1}: minAvailable and maxUnavailable cannot be both set",
                "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
                "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ]
        );
    }
}
