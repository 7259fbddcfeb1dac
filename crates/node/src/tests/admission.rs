//! A node looks at what it is given before it takes it.

use serde_json::{Value, json};

use super::lifecycle::{container, ready, status_of};
use super::world::World;

fn with_port(port: u16) -> Value {
    let mut main = container("main");
    main["ports"] = json!([{"containerPort": 80, "hostPort": port}]);
    main
}

fn asking(name: &str, amount: &str) -> Value {
    let mut main = container("main");
    main["resources"] = json!({"requests": {name: amount}});
    main
}

fn message(world: &World, name: &str) -> String {
    world.get("pods", name).unwrap().value()["status"]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_pod_that_names_its_node_must_fit_there() {
    let mut world = ready();
    world.pod("first", "u1", json!({"containers": [with_port(8080)]}));
    world.run(5);
    world.pod("second", "u2", json!({"containers": [with_port(8080)]}));
    world.pod("other", "u3", json!({"containers": [with_port(8081)]}));
    world.pod("elsewhere", "u4", json!({"containers": [container("main")], "nodeSelector": {"disk": "ssd"}}));
    world.pod("huge", "u5", json!({"containers": [asking("cpu", "900")]}));
    world.pod("foreign", "u6", json!({"containers": [asking("example.com/gpu", "1")]}));
    let unsafe_one = json!({"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]});
    world.pod("tuned", "u7", json!({"containers": [container("main")], "securityContext": unsafe_one}));
    world.run(5);
    for name in ["first", "other", "foreign"] {
        assert!(status_of(&world, name).starts_with("Running"), "{name}: {}", status_of(&world, name));
    }
    for (name, reason, why) in [
        (
            "second",
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        ),
        (
            "elsewhere",
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ),
        ("huge", "OutOfcpu", "Node didn't have enough resource: cpu, requested: 900000, used: 0, capacity: 4000"),
        ("tuned", "SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted"),
    ] {
        assert_eq!(message(&world, name), format!("Pod was rejected: {why}"));
        assert!(status_of(&world, name).starts_with(&format!("Failed({reason})")), "{}", status_of(&world, name));
    }
    // What was decided stays, and who runs is not asked again, when the agent starts anew.
    world.boot();
    world.run(5);
    assert!(status_of(&world, "first").starts_with("Running"));
    assert!(status_of(&world, "second").starts_with("Failed(NodePorts)"));
}
