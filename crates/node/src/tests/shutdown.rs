//! The node stops and starts again.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::world::{Message, World};
use crate::Input;

fn pod(world: &mut World, name: &str, uid: &str, more: Value) {
    let mut spec = json!({"containers": [{"name": "main", "image": "i:1"}]});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field.as_str()] = value.clone();
    }
    world.pod(name, uid, spec);
}

fn ready() -> World {
    let mut world = World::new();
    world.run(1);
    world.log.clear();
    world
}

fn shut_down(world: &mut World, within: Option<i64>) {
    let within = within.map(SignedDuration::from_secs);
    world.queue.push_back(Message::Input(Input::ShutDown { within }));
}

#[test]
fn pods_stop_in_order_keep_their_objects_and_come_back() {
    let mut world = ready();
    let hook = json!([{"name": "main", "image": "i:1", "lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}}]);
    let sidecar = json!([{"name": "side", "image": "i:1", "restartPolicy": "Always"}]);
    pod(&mut world, "a", "u1", json!({"containers": hook, "initContainers": sidecar}));
    pod(&mut world, "b", "u2", json!({}));
    world.run(1);
    world.log.clear();
    shut_down(&mut world, None);
    pod(&mut world, "late", "u3", json!({}));
    assert!(!world.agent.is_shut_down());
    world.run(1);
    assert!(world.agent.is_shut_down());
    let order: Vec<&str> = world.log.lines().filter_map(|line| line.split_once(' ')).map(|(_, what)| what).collect();
    let at = |what: &str| {
        order.iter().position(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{what}: {order:#?}"))
    };
    assert!(at("hook u1/main#0 PreStop exec bye") < at("stop u1/main#0 grace=30"));
    assert!(at("stop u1/main#0") < at("stop u1/side#0"), "sidecars last");
    assert!(at("stop u1/side#0") < at("stop sandbox u1"));
    assert!(at("stop sandbox u2") < order.len());
    assert!(!order.iter().any(|line| line.starts_with("start") || line.starts_with("sandbox")), "{order:#?}");
    for name in ["a", "b", "late"] {
        let object = world.get("pods", name).unwrap_or_else(|| panic!("{name} is gone"));
        assert!(!object.meta.is_deleting());
        let status = super::world::summary(&object.value()["status"]);
        assert!(!status.contains(" Ready"), "{status}");
    }
    world.boot();
    world.run(1);
    assert_eq!(world.machine.running().count(), 4);
    let status = super::world::summary(&world.get("pods", "a").unwrap().value()["status"]);
    assert!(status.contains("[main running #1 ready]"), "{status}");
}

#[test]
fn nobody_is_waited_for_beyond_the_bound() {
    let mut world = ready();
    pod(&mut world, "a", "u1", json!({"terminationGracePeriodSeconds": 600}));
    world.run(1);
    world.log.clear();
    shut_down(&mut world, Some(5));
    world.run(1);
    assert!(world.log.contains("stop u1/main#0 grace=5"), "{}", world.log);
}

#[test]
fn a_server_that_only_cleans_up_after_a_crash_starts_nothing() {
    let mut world = ready();
    pod(&mut world, "a", "u1", json!({}));
    pod(&mut world, "b", "u2", json!({}));
    world.run(1);
    world.end("u2", "main", 1);
    world.log.clear();
    world.boot();
    world.queue.push_front(Message::Input(Input::ShutDown { within: None }));
    world.run(1);
    assert!(world.agent.is_shut_down());
    assert!(!world.log.contains("start "), "{}", world.log);
    assert_eq!(world.machine.running().count(), 0);
}
