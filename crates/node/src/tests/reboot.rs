//! The machine boots again under the agent's pods.

use expect_test::expect;
use serde_json::json;

use super::lifecycle::{check, container, ready, simple, status_of};
use super::world::Shows;

#[test]
fn a_reboot_brings_pods_back_with_new_sandboxes() {
    let mut world = ready();
    let mut spec = simple();
    spec["initContainers"] = json!([container("setup")]);
    world.pod("p", "u1", spec);
    world.run(1);
    world.end("u1", "setup", 0);
    world.run(10);
    let now = world.now;
    world.machine.reboot(now);
    world.now = now + jiff::SignedDuration::from_secs(5);
    world.boot();
    world.run(1);
    world.end("u1", "setup", 0);
    world.run(1);
    let status = status_of(&world, "p");
    world.say(&status);
    check(
        &world,
        expect![[r#"
        1.0s sandbox u1#0 hostname=p
        1.0s find img:1
        1.0s volumes u1 []
        1.0s start u1/setup#0
        2.0s find img:1
        2.0s start u1/main#0
        17.0s sandbox u1#1 hostname=p
        17.0s find img:1
        17.0s volumes u1 []
        17.0s start u1/setup#1
        18.0s start u1/main#1
        19.0s Running 10.244.0.3 PodReadyToStartContainers Initialized Ready ContainersReady [setup Completed:0 #1 ready] [main running #1 ready]
    "#]],
    );
}

#[test]
fn many_reboots_cost_no_back_off() {
    let mut world = ready();
    world.pod("p", "u1", simple());
    world.run(1);
    for reboot in 1..=4 {
        let now = world.now;
        world.machine.reboot(now);
        world.boot();
        world.run(1);
        let status = status_of(&world, "p");
        assert!(status.ends_with(&format!("[main running #{reboot} ready]")), "{status}");
    }
}

/// An init container that ran again for a new sandbox and was done does not wait to be started again.
#[test]
fn who_is_done_does_not_back_off() {
    let mut world = ready();
    world.shows = Shows::All;
    let mut spec = simple();
    spec["initContainers"] = json!([container("setup")]);
    world.pod("p", "u1", spec);
    world.run(1);
    world.end("u1", "setup", 0);
    world.run(1);
    for _ in 0..2 {
        let now = world.now;
        world.machine.reboot(now);
        world.now = now + jiff::SignedDuration::from_secs(5);
        world.boot();
        world.run(1);
        world.end("u1", "setup", 0);
        world.run(1);
    }
    let status = status_of(&world, "p");
    assert!(status.ends_with("[setup Completed:0 #2 ready] [main running #2 ready]"), "{status}");
    assert!(!world.log.contains("BackOff"), "{}", world.log);
}
