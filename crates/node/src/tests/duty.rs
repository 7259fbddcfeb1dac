//! The node's own duties never keep the agent busy: what is due and cannot be done waits for what it needs.

use serde_json::json;
use stead_api::{Key, Object, Status};

use super::world::{Message, World};
use crate::Input;

/// `World::run` panics when the agent asks to be woken again and again at one moment.
#[test]
fn a_node_that_was_made_though_the_answer_was_lost_is_left_alone() {
    let mut world = World::new();
    let place = loop {
        match world.queue.iter().position(|message| matches!(message, Message::Request(..))) {
            Some(place) => break place,
            None => assert!(world.deliver(), "the agent asks for nothing"),
        }
    };
    world.deliver_at(place);
    for message in &mut world.queue {
        if let Message::Input(Input::Reply(_, answer)) = message {
            *answer = Err(Status::timeout("no answer came"));
        }
    }
    world.run(60);
    assert!(world.store.snapshot().find("nodes", "", "n1").is_some());
}

#[test]
fn a_lease_waits_for_its_node() {
    let mut world = World::new();
    world.run(15);
    world.is_api_down = true;
    let key = Key::new("nodes", "", "n1");
    let mut node = world.store.snapshot().get(&key).expect("the node is registered").value();
    node["metadata"]["resourceVersion"] = json!(world.store.next_revision().to_string());
    world.store.remove(Object::of_value(key.clone(), &node, &Default::default()).expect("an object"));
    world.changed(key.clone());
    world.run(60);
    world.is_api_down = false;
    world.run(60);
    assert!(world.store.snapshot().get(&key).is_some(), "the node is back");
}

/// Found by the simulator: what a refused patch had said was taken for what the server keeps, and never said again.
#[test]
fn a_status_that_was_refused_is_told_when_the_server_is_back() {
    let mut world = World::new();
    world.held.push("start".into());
    world.pod("web-0", "u1", json!({"containers": [{"name": "main", "image": "i:1"}]}));
    world.run(5);
    world.is_api_down = true;
    world.release();
    while world.deliver() {}
    world.is_api_down = false;
    world.run(60);
    let status = world.get("pods", "web-0").expect("the pod").value()["status"].clone();
    assert_eq!(status["phase"], "Running", "{status}");
}
