//! A node whose disk is short lets pods go, one at a time, after its images.

use std::collections::BTreeMap;

use expect_test::expect;
use serde_json::{Value, json};

use super::lifecycle::{check, container, ready, status_of};
use super::world::{Shows, World};
use crate::action::PodDisk;

const GIB: u64 = 1 << 30;

fn pod(world: &mut World, name: &str, uid: &str, priority: i32, request: &str, used_gib: u64) {
    let mut main = container("main");
    main["resources"] = json!({"requests": {"ephemeral-storage": request}});
    world.pod(name, uid, json!({"containers": [main], "priority": priority, "terminationGracePeriodSeconds": 30}));
    let disk = PodDisk { containers: BTreeMap::from([("main".to_owned(), used_gib * GIB)]), volumes: 0 };
    world.machine.pods_on_disk.insert(uid.into(), disk);
}

fn conditions(world: &World, name: &str) -> Value {
    world.get("pods", name).unwrap().value()["status"]["conditions"].clone()
}

#[test]
fn who_uses_more_than_it_asked_for_goes_first_and_only_while_it_is_short() {
    let mut world = ready();
    world.shows = Shows::All;
    // It uses most, but no more than it asked for.
    pod(&mut world, "modest", "u1", 0, "50Gi", 40);
    pod(&mut world, "greedy", "u2", 0, "1Gi", 10);
    pod(&mut world, "greedier", "u3", 7, "1Gi", 20);
    pod(&mut world, "critical", "u4", 2_000_000_000, "0", 30);
    world.run(30);
    world.log.clear();
    world.machine.disk.total_bytes = 100 * GIB;
    world.machine.disk.free_bytes = 5 * GIB;
    world.run(35);
    check(
        &world,
        expect![[r#"
        60.0s event Normal NodeHasDiskPressure Node n1 status is now: NodeHasDiskPressure
        60.0s event Warning EvictionThresholdMet Attempting to reclaim ephemeral-storage
        60.0s event Warning FreeDiskSpaceFailed Failed to garbage collect required amount of images. Attempted to free 16106127360 bytes, but only found 0 bytes eligible to free.
        60.0s measure u1 u2 u3
        60.0s event Warning Evicted The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 5Gi. Container main was using 10Gi, request is 1Gi, has larger consumption of ephemeral-storage. 
        60.0s stop u2/main#0 grace=1
        60.0s event Normal Killing Stopping container main
        60.0s status Running 10.244.0.3 PodReadyToStartContainers Initialized Ready ContainersReady DisruptionTarget [main running #0 ready]
        60.0s stop sandbox u2
        60.0s status Failed(Evicted) 10.244.0.3 PodReadyToStartContainers Initialized DisruptionTarget [main Error:143 #0]
        60.0s empty u2
        60.0s status Failed(Evicted) 10.244.0.3 Initialized DisruptionTarget [main Error:143 #0]
    "#]],
    );
    let evicted = conditions(&world, "greedy");
    let target = evicted.as_array().unwrap().iter().find(|c| c["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("TerminationByKubelet")));
    // Room enough: nobody else goes, and the end is not forgotten with the memory.
    world.machine.disk.free_bytes = 50 * GIB;
    world.run(60);
    world.boot();
    world.run(60);
    assert!(status_of(&world, "greedy").starts_with("Failed(Evicted)"));
    for other in ["modest", "greedier", "critical"] {
        assert!(status_of(&world, other).starts_with("Running"), "{other}");
    }
}
