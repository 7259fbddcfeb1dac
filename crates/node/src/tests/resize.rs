//! Running containers get other resources, without a restart unless they ask for one.

use expect_test::expect;
use serde_json::{Value, json};

use super::lifecycle::{check, container, ready};
use super::world::World;

fn sized(policy: &str) -> Value {
    let mut main = container("main");
    main["resources"] = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
    main["resizePolicy"] = json!([{"resourceName": "memory", "restartPolicy": policy}]);
    json!({"containers": [main]})
}

fn resize(world: &mut World, pod: &str, resource: &str, amount: &str) {
    let mut value = world.get("pods", pod).unwrap().value();
    for side in ["requests", "limits"] {
        value["spec"]["containers"][0]["resources"][side][resource] = json!(amount);
    }
    world.put("pods", value);
}

fn status(world: &World, pod: &str) -> Value {
    world.get("pods", pod).unwrap().value()["status"].clone()
}

fn condition(world: &World, pod: &str, name: &str) -> Value {
    let status = status(world, pod);
    let found = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == name);
    found.cloned().unwrap_or_default()
}

#[test]
fn resources_change_in_place_or_by_a_restart() {
    let mut world = ready();
    world.pod("web-0", "u1", sized("RestartContainer"));
    world.run(1);
    let before = status(&world, "web-0")["containerStatuses"][0].clone();
    assert_eq!(
        (&before["resources"]["limits"]["cpu"], &before["allocatedResources"]["cpu"]),
        (&json!("1"), &json!("1"))
    );
    world.log.clear();
    resize(&mut world, "web-0", "cpu", "2");
    world.run(1);
    let after = status(&world, "web-0")["containerStatuses"][0].clone();
    assert_eq!((&after["resources"]["limits"]["cpu"], &after["allocatedResources"]["cpu"]), (&json!("2"), &json!("2")));
    assert_eq!(after["restartCount"], 0);
    resize(&mut world, "web-0", "memory", "2Gi");
    world.run(30);
    let after = status(&world, "web-0")["containerStatuses"][0].clone();
    assert_eq!((&after["resources"]["limits"]["memory"], &after["restartCount"]), (&json!("2Gi"), &json!(1)));
    assert!(condition(&world, "web-0", "PodResizeInProgress").is_null());
    // Nothing is left to do after a lost memory.
    world.boot();
    world.run(30);
    check(
        &world,
        expect![[r#"
        2.0s resize u1/main#0 cpu=Some(200000) memory=Some(1073741824)
        3.0s stop u1/main#0 grace=30
        3.0s find img:1
        3.0s start u1/main#1
        33.0s volumes u1 []
    "#]],
    );
}

#[test]
fn what_the_node_has_not_is_waited_for() {
    let mut world = ready();
    world.pod("web-0", "u1", sized("NotRequired"));
    world.pod("other", "u2", sized("NotRequired"));
    world.run(1);
    world.log.clear();
    // Four processors in all, one of them used by the other.
    resize(&mut world, "web-0", "cpu", "4");
    world.run(1);
    let pending = condition(&world, "web-0", "PodResizePending");
    assert_eq!((&pending["status"], &pending["reason"]), (&json!("True"), &json!("Deferred")));
    assert_eq!(
        pending["message"],
        "Node didn't have enough resource: cpu, requested: 4000, used: 1000, capacity: 4000"
    );
    assert_eq!(status(&world, "web-0")["containerStatuses"][0]["resources"]["limits"]["cpu"], "1");
    // A lost memory changes nothing of what is granted.
    world.boot();
    world.run(1);
    assert_eq!(condition(&world, "web-0", "PodResizePending")["reason"], "Deferred");
    resize(&mut world, "web-0", "cpu", "5");
    world.run(1);
    assert_eq!(condition(&world, "web-0", "PodResizePending")["reason"], "Infeasible");
    resize(&mut world, "web-0", "cpu", "4");
    world.delete("other", 1);
    world.run(60);
    assert!(condition(&world, "web-0", "PodResizePending").is_null(), "{}", status(&world, "web-0"));
    assert_eq!(status(&world, "web-0")["containerStatuses"][0]["resources"]["limits"]["cpu"], "4");
}
