//! Ephemeral containers: started once, in whatever stage the pod is.

use expect_test::expect;
use serde_json::json;

use super::lifecycle::{check, container, ready, simple};
use super::world::{Shows, World, show};
use crate::action::{Action, ContainerState};

fn add(world: &mut World, pod: &str, containers: serde_json::Value) {
    let mut value = world.get("pods", pod).unwrap().value();
    value["spec"]["ephemeralContainers"] = containers;
    world.put("pods", value);
}

fn statuses(world: &World, pod: &str) -> serde_json::Value {
    world.get("pods", pod).unwrap().value()["status"]["ephemeralContainerStatuses"].clone()
}

#[test]
fn an_ephemeral_container_is_started_once_and_never_again() {
    let mut world = ready();
    world.pod("web-0", "u1", simple());
    world.run(1);
    world.log.clear();
    world.shows = Shows::All;
    let mut debugger = container("debugger");
    debugger["targetContainerName"] = json!("main");
    add(&mut world, "web-0", json!([debugger]));
    world.run(1);
    let running = statuses(&world, "web-0");
    assert_eq!((&running[0]["name"], &running[0]["ready"]), (&json!("debugger"), &json!(false)), "{running}");
    assert!(running[0]["state"]["running"].is_object() && running[0]["started"].is_null(), "{running}");
    world.end("u1", "debugger", 3);
    world.run(600);
    assert_eq!(statuses(&world, "web-0")[0]["state"]["terminated"]["exitCode"], 3);
    // Nor after a lost memory.
    world.boot();
    world.run(600);
    check(
        &world,
        expect![[r#"
            2.0s find img:1
            2.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized Ready ContainersReady [main running #0 ready]
            2.0s event Normal Pulled Container image "img:1" already present on machine and can be accessed by the pod
            2.0s start u1/debugger#0
            2.0s event Normal Created Container created
            2.0s event Normal Started Container started
            2.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized Ready ContainersReady [main running #0 ready]
            3.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized Ready ContainersReady [main running #0 ready]
            603.0s event Normal Starting Starting kubelet.
            603.0s volumes u1 []
        "#]],
    );
}

#[test]
fn the_target_must_run_and_lends_its_process_namespace() {
    let mut world = ready();
    world.shows = Shows::Nothing;
    let mut init = container("setup");
    init["imagePullPolicy"] = json!("IfNotPresent");
    world.pod("web-0", "u1", json!({"containers": [container("main")], "initContainers": [init]}));
    world.run(1);
    let mut debugger = container("debugger");
    debugger["targetContainerName"] = json!("main");
    let free = container("free");
    add(&mut world, "web-0", json!([debugger, free]));
    world.run(1);
    let waiting = statuses(&world, "web-0");
    assert_eq!(waiting[0]["state"]["waiting"]["reason"], "CreateContainerConfigError");
    assert_eq!(waiting[0]["state"]["waiting"]["message"], "unable to find target container main");
    assert!(waiting[1]["state"]["running"].is_object(), "it does not wait for init containers: {waiting}");
    world.held = vec!["start u1/debugger".into()];
    world.end("u1", "setup", 0);
    world.run(60);
    let [Action::EnsureContainer(spec)] = &world.on_hold[..] else {
        panic!("{:?}", world.on_hold.iter().map(show).collect::<Vec<_>>())
    };
    assert_eq!(spec.process_namespace_of.as_ref().map(|c| c.name.as_str()), Some("main"));
    world.release();
    world.run(1);
    assert!(
        world
            .machine
            .running()
            .any(|c| { c.container.name == "debugger" && matches!(c.state, ContainerState::Running { .. }) })
    );
    world.delete("web-0", 30);
    world.run(60);
    assert!(world.get("pods", "web-0").is_none(), "a debugger does not hold up the pod's end");
}
