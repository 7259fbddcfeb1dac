//! The node's own duties never keep the agent busy: what is due and cannot be done waits for what it needs.

use serde_json::json;
use stead_api::{Key, Object, Status};

use super::lifecycle::ready;
use super::world::{Message, Shows, World};
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

#[test]
fn a_full_disk_is_told_and_unused_images_go() {
    let mut world = World::new();
    world.shows = Shows::All;
    world.machine.images = Some(["used:1".to_owned(), "old:1".to_owned()].into());
    world.pod("web-0", "u1", json!({"containers": [{"name": "main", "image": "used:1"}]}));
    world.run(70);
    let pressure = |world: &World| {
        let node = world.store.snapshot().find("nodes", "", "n1").expect("the node").value();
        let conditions = node["status"]["conditions"].as_array().expect("conditions").clone();
        conditions.into_iter().find(|one| one["type"] == "DiskPressure").expect("it says")["status"].clone()
    };
    assert_eq!(pressure(&world), "False");
    world.log.clear();
    world.machine.disk.free_bytes /= 20;
    world.run(60);
    assert_eq!(pressure(&world), "True");
    for told in [
        "Warning EvictionThresholdMet",
        "Normal NodeHasDiskPressure Node n1 status is now:",
        "remove image sha256:old:1",
    ] {
        assert!(world.log.contains(told), "{told}: {}", world.log);
    }
    assert!(!world.log.contains("remove image sha256:used:1"), "{}", world.log);
    world.machine.disk.free_bytes *= 15;
    world.run(240);
    assert_eq!(pressure(&world), "True", "not so soon");
    world.run(120);
    assert_eq!(pressure(&world), "False");
    assert!(world.log.contains("Normal NodeHasNoDiskPressure"), "{}", world.log);
}

#[test]
fn extended_resources_that_others_advertise_can_be_given_to_pods() {
    let mut world = ready();
    world.run(600);
    let node = |world: &World| world.store.snapshot().find("nodes", "", "n1").unwrap().value();
    let mut value = node(&world);
    value["status"]["capacity"]["example.com/fake"] = json!("5");
    world.put("nodes", value);
    world.run(60);
    assert_eq!(node(&world)["status"]["allocatable"]["example.com/fake"], "5");
    assert_eq!(node(&world)["status"]["capacity"]["example.com/fake"], "5");
    let settled = node(&world)["metadata"]["resourceVersion"].clone();
    world.run(60);
    assert_eq!(node(&world)["metadata"]["resourceVersion"], settled, "nothing is left to repair");
    let mut value = node(&world);
    value["status"]["capacity"].as_object_mut().unwrap().remove("example.com/fake");
    world.put("nodes", value);
    world.run(60);
    assert!(node(&world)["status"]["allocatable"]["example.com/fake"].is_null());
}
