//! The FlowSchemas and PriorityLevelConfigurations of every cluster are kept as they ought to be, and every FlowSchema says
//! whether its level is there.
//!
//! A default object that is not there is made, soon after a start and whenever one is deleted. Its spec is the server's while its annotation says so; of the mandatory ones it
//! always is. Upstream does this once a minute, here it follows the change.
//! Upstream: apiserver pkg/util/flowcontrol, pkg/registry/flowcontrol/ensurer.

use jiff::SignedDuration;
use serde_json::{Value, json};
use stead_api::{Key, Object};
use stead_kinds::flowcontrol::defaults;

use crate::facts;
use crate::names::{FLOW_SCHEMA, NAMESPACE, PRIORITY_LEVEL};
use crate::plan::{Controller, Plan, Settles, View, Watch};

pub const CONTROLLER: Controller = Controller {
    name: "api-priority-and-fairness-config-consumer-v1",
    settles: Settles::AfterStatus,
    watches: &[
        Watch { kind: FLOW_SCHEMA, keys: |_, event| vec![event.key().clone()] },
        Watch {
            kind: PRIORITY_LEVEL,
            keys: |view, event| {
                let mut keys = vec![event.key().clone()];
                // Only whether it is there matters to schemas.
                if event.old.is_none() || event.deleted {
                    keys.extend(view.snapshot.list(FLOW_SCHEMA, "").map(|schema| schema.key.clone()));
                }
                keys
            },
        },
        Watch {
            kind: NAMESPACE,
            keys: |_, event| match event.old.is_none() && *event.key().name == *OF_EVERY_CLUSTER {
                true => all_defaults(),
                false => Vec::new(),
            },
        },
    ],
    reconcile,
};

/// The namespace whose coming, or a start that finds it, tells that defaults are to be looked for.
const OF_EVERY_CLUSTER: &str = "kube-system";
/// A server needs none of this to start, so it comes in a step after the first.
const AFTER_START: SignedDuration = SignedDuration::from_millis(1);

fn all_defaults() -> Vec<Key> {
    let levels = defaults::levels().map(|name| Key::new(PRIORITY_LEVEL, "", name));
    levels.chain(defaults::schemas().map(|name| Key::new(FLOW_SCHEMA, "", name))).collect()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let begins_at = view.started + AFTER_START;
    if view.now < begins_at {
        plan.wake(begins_at);
        return plan;
    }
    let (default, kind) = match key.kind {
        FLOW_SCHEMA => (defaults::schema(&key.name), "FlowSchema"),
        _ => (defaults::level(&key.name), "PriorityLevelConfiguration"),
    };
    let Some(object) = view.snapshot.get(key) else {
        if let Some(spec) = default {
            let metadata = json!({"name": &*key.name, "annotations": {defaults::AUTOUPDATE: "true"}});
            let value = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind, "metadata": metadata,
                "spec": spec});
            plan.create(key.kind, value);
        }
        return plan;
    };
    if object.meta.is_deleting() {
        return plan;
    }
    let mut value = object.value();
    if default.is_none() && object.meta.annotation(defaults::AUTOUPDATE) == Some("true") {
        // A default of another version.
        plan.delete(object);
    } else if default.is_some_and(|spec| put_right(&mut value, object, spec)) {
        plan.update(key.kind, value);
    } else if key.kind == FLOW_SCHEMA && tell_whether_dangling(&mut value, view) {
        plan.update_status(key.kind, value);
    }
    plan
}

/// Puts the spec of a default object right if it is the server's, and says whose it is. False: nothing is wrong.
fn put_right(value: &mut Value, object: &Object, mut spec: Value) -> bool {
    let name = &*object.key.name;
    let is_ours = defaults::is_mandatory(name)
        || match object.meta.annotation(defaults::AUTOUPDATE) {
            Some("true") => true,
            Some("false") => false,
            // Nobody has said it: what was never changed is the server's.
            _ => object.meta.generation == 1,
        };
    if object.key.kind == PRIORITY_LEVEL && name == defaults::EXEMPT && value["spec"]["exempt"].is_object() {
        spec["exempt"] = value["spec"]["exempt"].clone();
    }
    let said = is_ours.to_string();
    let is_said = object.meta.annotation(defaults::AUTOUPDATE) == Some(said.as_str());
    if is_said && (!is_ours || value["spec"] == spec) {
        return false;
    }
    if is_ours {
        value["spec"] = spec;
    }
    if value["metadata"]["annotations"].is_null() {
        value["metadata"]["annotations"] = json!({});
    }
    value["metadata"]["annotations"][defaults::AUTOUPDATE] = json!(said);
    true
}

/// False: it is told already.
fn tell_whether_dangling(value: &mut Value, view: &View) -> bool {
    let level = value["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
    let about = format!("This FlowSchema references the PriorityLevelConfiguration object named \"{level}\"");
    let (status, reason, message) = match view.get(PRIORITY_LEVEL, "", level) {
        Some(_) => ("False", "Found", format!("{about} and it exists")),
        None => ("True", "NotFound", format!("{about} but there is no such object")),
    };
    let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
    let condition = json!({"type": "Dangling", "status": status, "lastTransitionTime": facts::time(view.now),
        "reason": reason, "message": message});
    let is_new = facts::set_condition(&mut conditions, condition);
    value["status"]["conditions"] = json!(conditions);
    is_new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, show};

    fn put(world: &mut World, kind: &'static str, metadata: Value, spec: Value) {
        let name = if kind == FLOW_SCHEMA { "FlowSchema" } else { "PriorityLevelConfiguration" };
        let of = "flowcontrol.apiserver.k8s.io/v1";
        world.put(kind, json!({"apiVersion": of, "kind": name, "metadata": metadata, "spec": spec}));
    }

    fn planned(world: &World, kind: &'static str, name: &str) -> String {
        show(world, &reconcile(&world.view(), &Key::new(kind, "", name)))
    }

    fn default_level(annotation: Value, generation: u8) -> World {
        let mut world = World::of("");
        let mut spec = defaults::level("system").expect("a default");
        spec["limited"]["nominalConcurrencyShares"] = json!(7);
        let metadata = json!({"name": "system", "uid": "u", "generation": generation, "annotations": annotation});
        put(&mut world, PRIORITY_LEVEL, metadata, spec);
        world
    }

    #[test]
    fn defaults_come_back() {
        let world = World::of("");
        assert!(
            planned(&world, PRIORITY_LEVEL, "catch-all").starts_with("create PriorityLevelConfiguration catch-all")
        );
        assert!(planned(&world, FLOW_SCHEMA, "probes").starts_with("create FlowSchema probes"));
        assert_eq!(planned(&world, FLOW_SCHEMA, "other"), "");
    }

    #[test]
    fn whose_a_spec_is_says_the_annotation() {
        let of =
            |annotation: Value, generation| planned(&default_level(annotation, generation), PRIORITY_LEVEL, "system");
        assert!(of(json!({defaults::AUTOUPDATE: "true"}), 4).contains(r#""nominalConcurrencyShares":30"#));
        assert_eq!(of(json!({defaults::AUTOUPDATE: "false"}), 1), "");
        assert!(of(Value::Null, 1).contains(r#""nominalConcurrencyShares":30"#));
        let changed = default_level(Value::Null, 2);
        let key = Key::new(PRIORITY_LEVEL, "", "system");
        let plan = reconcile(&changed.view(), &key);
        match plan.actions.as_slice() {
            [crate::Action::Update { value, .. }] => {
                assert_eq!(value["metadata"]["annotations"][defaults::AUTOUPDATE], "false");
                assert_eq!(value["spec"]["limited"]["nominalConcurrencyShares"], 7);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_default_any_more_goes() {
        let mut world = World::of("");
        let metadata = json!({"name": "old", "uid": "u", "annotations": {defaults::AUTOUPDATE: "true"}});
        put(&mut world, PRIORITY_LEVEL, metadata, defaults::level("system").expect("a default"));
        assert!(planned(&world, PRIORITY_LEVEL, "old").starts_with("delete"));
    }

    #[test]
    fn a_schema_says_whether_its_level_is_there() {
        let mut world = World::of("");
        let spec = json!({"priorityLevelConfiguration": {"name": "mine"}, "matchingPrecedence": 1000});
        put(&mut world, FLOW_SCHEMA, json!({"name": "a", "uid": "u"}), spec);
        let dangling = planned(&world, FLOW_SCHEMA, "a");
        assert!(
            dangling.contains(r#""status":"True""#) && dangling.contains("but there is no such object"),
            "{dangling}"
        );
        put(&mut world, PRIORITY_LEVEL, json!({"name": "mine"}), defaults::level("system").expect("a default"));
        let found = planned(&world, FLOW_SCHEMA, "a");
        assert!(found.contains(r#""status":"False""#) && found.contains("and it exists"), "{found}");
    }
}
