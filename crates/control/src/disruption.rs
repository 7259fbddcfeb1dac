//! PodDisruptionBudget status: how many pods may be evicted now (Q-04, Q-05).
//!
//! Upstream: pkg/controller/disruption.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value, json};
use stead_api::object::OwnerRef;
use stead_api::{IntOrPercent, Key, LabelSelector, Object};
use stead_apiserver::scale_of;
use stead_store::Event;

use crate::facts;
use crate::names::{DEPLOYMENT, DISRUPTION_BUDGET, POD, REPLICA_SET, REPLICATION_CONTROLLER, STATEFUL_SET};
use crate::plan::{Controller, Note, Plan, Settles, View, Watch};

/// An eviction that was granted and not seen is forgotten after this.
const DISRUPTED_SECONDS: i64 = 120;

pub const CONTROLLER: Controller = Controller {
    name: "disruption-controller",
    settles: Settles::Always,
    watches: &[
        Watch { kind: DISRUPTION_BUDGET, keys: |_, event| vec![event.key().clone()] },
        Watch { kind: POD, keys: budgets_of_pod },
        Watch { kind: STATEFUL_SET, keys: resized },
        Watch { kind: DEPLOYMENT, keys: resized },
        Watch { kind: REPLICA_SET, keys: resized },
        Watch { kind: REPLICATION_CONTROLLER, keys: resized },
    ],
    reconcile,
};

fn budgets<'a>(view: &View<'a>, namespace: &str) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
    view.snapshot.list(DISRUPTION_BUDGET, namespace)
}

fn budgets_of_pod(view: &View, event: &Event) -> Vec<Key> {
    let pod = &event.object;
    let matches = |budget: &&Arc<Object>| {
        let selector = selector(&budget.view::<PodDisruptionBudget>());
        selector.matches(&pod.meta.labels) || event.old.as_ref().is_some_and(|old| selector.matches(&old.meta.labels))
    };
    budgets(view, &pod.key.namespace).filter(matches).map(|budget| budget.key.clone()).collect()
}

fn resized(view: &View, event: &Event) -> Vec<Key> {
    let generation = event.old.as_ref().map(|old| old.meta.generation);
    if generation == Some(event.object.meta.generation) && !event.deleted {
        return Vec::new();
    }
    budgets(view, &event.key().namespace).map(|budget| budget.key.clone()).collect()
}

/// None selects nothing, an empty one every pod of the namespace (Q-04).
fn selector(budget: &PodDisruptionBudget) -> LabelSelector {
    let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
    LabelSelector::from_typed(selector).unwrap_or(LabelSelector::Nothing)
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key) else { return plan };
    let budget = object.view::<PodDisruptionBudget>();
    let pods = facts::select(view, POD, &key.namespace, &selector(&budget));
    let disrupted = disrupted(view, &budget, &pods, &mut plan);
    let healthy = pods.iter().filter(|pod| {
        !pod.meta.is_deleting() && !disrupted.contains_key(&*pod.key.name) && facts::is_ready(&pod.view::<Pod>())
    });
    let healthy = healthy.count() as i32;
    let (expected, desired, trouble) = match expectation(view, &budget, &pods) {
        Ok((expected, desired)) => (expected, desired, None),
        Err(why) => (0, 0, Some(why)),
    };
    let allowed = if expected <= 0 || trouble.is_some() { 0 } else { (healthy - desired).max(0) };
    let mut value = object.value();
    let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
    let (status, reason) = match (&trouble, allowed) {
        (Some(_), _) => ("False", "SyncFailed"),
        (None, 0) => ("False", "InsufficientPods"),
        (None, _) => ("True", "SufficientPods"),
    };
    if let Some(why) = &trouble {
        plan.note(Note::warning(
            key,
            "CalculateExpectedPodCountFailed",
            format!("Failed to calculate the number of expected pods: {why}"),
        ));
    }
    if trouble.is_none() && asks_controllers(&budget) && pods.iter().any(|pod| pod.meta.controller().is_none()) {
        plan.note(Note::warning(key, "UnmanagedPods", unmanaged(&budget)));
    }
    let condition = json!({"type": "DisruptionAllowed", "status": status, "reason": reason,
        "message": trouble.unwrap_or_default(), "observedGeneration": object.meta.generation,
        "lastTransitionTime": facts::time(view.now)});
    facts::set_condition(&mut conditions, condition);
    let mut wanted = json!({"currentHealthy": healthy, "desiredHealthy": desired, "disruptionsAllowed": allowed,
        "expectedPods": expected, "observedGeneration": object.meta.generation, "conditions": conditions});
    if !disrupted.is_empty() {
        wanted["disruptedPods"] = Value::Object(disrupted);
    }
    let fields = [
        "currentHealthy",
        "desiredHealthy",
        "disruptionsAllowed",
        "expectedPods",
        "observedGeneration",
        "conditions",
        "disruptedPods",
    ];
    if fields.iter().any(|field| value["status"][*field] != wanted[*field]) {
        value["status"] = wanted;
        plan.update_status(DISRUPTION_BUDGET, value);
    } else {
        // What was told is not told again.
        plan.events.clear();
    }
    plan
}

/// Granted evictions whose pods are still to go.
fn disrupted(view: &View, budget: &PodDisruptionBudget, pods: &[&Arc<Object>], plan: &mut Plan) -> Map<String, Value> {
    let mut left = Map::new();
    let granted = budget.status.as_ref().and_then(|s| s.disrupted_pods.as_ref());
    for (name, at) in granted.into_iter().flatten() {
        let ends: Timestamp = facts::after(at.0, DISRUPTED_SECONDS);
        let waits = pods.iter().any(|pod| *pod.key.name == **name && !pod.meta.is_deleting());
        if waits && ends > view.now {
            left.insert(name.clone(), facts::time(at.0));
            plan.wake(ends);
        }
    }
    left
}

/// How many pods there should be, and how many of them must stay healthy.
fn expectation(view: &View, budget: &PodDisruptionBudget, pods: &[&Arc<Object>]) -> Result<(i32, i32), String> {
    let spec = budget.spec.clone().unwrap_or_default();
    if let Some(limit) = &spec.max_unavailable {
        let expected = expected(view, pods)?;
        let limit = IntOrPercent::try_from(limit).map_err(|e| e.to_string())?;
        return Ok((expected, (expected - limit.of(expected, true)).max(0)));
    }
    let Some(limit) = &spec.min_available else { return Ok((pods.len() as i32, 0)) };
    match IntOrPercent::try_from(limit).map_err(|e| e.to_string())? {
        IntOrPercent::Int(number) => Ok((pods.len() as i32, number)),
        percent => {
            let expected = expected(view, pods)?;
            Ok((expected, percent.of(expected, true)))
        }
    }
}

/// Whether the size is what the pods' controllers ask for.
fn asks_controllers(budget: &PodDisruptionBudget) -> bool {
    let Some(spec) = &budget.spec else { return false };
    spec.max_unavailable.is_some() || matches!(&spec.min_available, Some(IntOrString::String(_)))
}

fn unmanaged(budget: &PodDisruptionBudget) -> String {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let mut text = "&LabelSelector{MatchLabels:map[string]string{".to_owned();
    for (name, value) in selector.match_labels.iter().flatten() {
        text += &format!("{name}: {value},");
    }
    text += "},MatchExpressions:[]LabelSelectorRequirement{";
    for one in selector.match_expressions.iter().flatten() {
        let values = one.values.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ");
        text += &format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", one.key, one.operator);
    }
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {text}}},}}) were found to be unmanaged. As a result, the status \
         of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please \
         set \".spec.minAvailable\" field of the PDB to an integer value."
    )
}

/// The sum of the sizes that the pods' controllers ask for; pods that nobody controls count for nothing.
fn expected(view: &View, pods: &[&Arc<Object>]) -> Result<i32, String> {
    let mut seen = BTreeSet::new();
    let mut sum = 0;
    for pod in pods {
        let Some(owner) = pod.meta.controller() else { continue };
        let (uid, replicas) = size(view, &pod.key.namespace, owner)?
            .ok_or_else(|| format!("found no controllers for pod \"{}\"", pod.key.name))?;
        if seen.insert(uid) {
            sum += replicas;
        }
    }
    Ok(sum)
}

/// The uid and the size of what controls pods, whatever can be scaled; a ReplicaSet's is that of its own controller.
fn size(view: &View, namespace: &str, owner: &OwnerRef) -> Result<Option<(String, i32)>, String> {
    let Some(kind) = view.registry.of_kind(&owner.api_version, &owner.kind) else { return Ok(None) };
    let found = view.get(kind.storage, namespace, &owner.name).filter(|object| object.meta.uid == owner.uid);
    let Some(object) = found else { return Ok(None) };
    if let Some(above) = object.meta.controller().filter(|_| kind.storage == REPLICA_SET) {
        return size(view, namespace, above);
    }
    let Some(scale) = view.registry.stored(kind.storage).and_then(|stored| scale_of(stored, object)) else {
        let dot = if kind.group.is_empty() { "" } else { "." };
        return Err(format!("{}{dot}{} does not implement the scale subresource", kind.plural, kind.group));
    };
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    Ok(Some((owner.uid.clone(), i32::try_from(replicas).unwrap_or(i32::MAX))))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};

    fn check(spec: &str, more: &str, expected: Expect) {
        let set = "sts web {\"spec\":{\"replicas\":4}}\n pod web-0 owner=web ready\n pod web-1 owner=web ready\n pod web-2 owner=web ready\n pod web-3 owner=web running";
        let budget = format!(r#"pdb web {{"spec":{{"selector":{{"matchLabels":{{"app":"web"}}}},{spec}}}{more}}}"#);
        let world = World::of(&format!("{set}\n {budget}"));
        let plan = reconcile(&world.view(), &Key::new(DISRUPTION_BUDGET, "default", "web"));
        let text = show(&world, &plan).replace("\"observedGeneration\":0,", "");
        let text = text.split("\"conditions\"").map(str::to_owned).collect::<Vec<_>>();
        expected.assert_eq(&format!("{}\n", text[0]));
    }

    #[test]
    fn the_size_of_a_replication_controller_counts() {
        let world = World::of(
            r#"rc web {"spec":{"replicas":4}}
               pod web-a owner=rc:web ready
               pdb web {"spec":{"selector":{"matchLabels":{"app":"web"}},"maxUnavailable":1}}"#,
        );
        let text = show(&world, &reconcile(&world.view(), &Key::new(DISRUPTION_BUDGET, "default", "web")));
        assert!(text.contains("\"desiredHealthy\":3") && text.contains("\"expectedPods\":4"), "{text}");
    }

    #[test]
    fn the_budget_counts_healthy_pods_against_what_must_stay_q04_q05() {
        check(
            "\"minAvailable\":2",
            "",
            expect![[r#"
            status PodDisruptionBudget web {"currentHealthy":3,"desiredHealthy":2,"disruptionsAllowed":1,"expectedPods":4,
        "#]],
        );
        check(
            "\"maxUnavailable\":1",
            "",
            expect![[r#"
            status PodDisruptionBudget web {"currentHealthy":3,"desiredHealthy":3,"disruptionsAllowed":0,"expectedPods":4,
        "#]],
        );
        check(
            "\"minAvailable\":\"30%\"",
            "",
            expect![[r#"
            status PodDisruptionBudget web {"currentHealthy":3,"desiredHealthy":2,"disruptionsAllowed":1,"expectedPods":4,
        "#]],
        );
        let granted = r#","status":{"disruptedPods":{"web-0":"1970-01-12T13:46:00Z","web-1":"1970-01-12T13:40:00Z"}}"#;
        check(
            "\"minAvailable\":1",
            granted,
            expect![[r#"
            status PodDisruptionBudget web {"currentHealthy":2,"desiredHealthy":1,"disruptionsAllowed":1,"expectedPods":4,
        "#]],
        );
    }

    #[test]
    fn pods_that_nobody_controls_count_for_nothing() {
        let world = World::of(
            r#"sts web {"spec":{"replicas":4}}
               pod web-0 owner=web ready
               pod alone {"metadata":{"labels":{"app":"web"}}}
               pdb web {"spec":{"selector":{"matchLabels":{"app":"web"}},"maxUnavailable":1}}"#,
        );
        let text = show(&world, &reconcile(&world.view(), &Key::new(DISRUPTION_BUDGET, "default", "web")));
        assert!(text.contains("\"desiredHealthy\":3") && text.contains("\"expectedPods\":4"), "{text}");
        let told = "UnmanagedPods: Pods selected by this PodDisruptionBudget (selector: \
                    &LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},}) were";
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn what_cannot_be_scaled_has_no_size() {
        let world = World::of(
            r#"ds web {}
               pod web-a owner=ds:web ready
               pdb web {"spec":{"selector":{"matchLabels":{"app":"web"}},"maxUnavailable":1}}"#,
        );
        let text = show(&world, &reconcile(&world.view(), &Key::new(DISRUPTION_BUDGET, "default", "web")));
        assert!(text.contains("daemonsets.apps does not implement the scale subresource"), "{text}");
    }
}
