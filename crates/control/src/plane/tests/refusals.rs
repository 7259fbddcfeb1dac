//! What is told when a controller may not make what it wants.

use super::*;

#[test]
fn a_refused_pod_is_told_and_tried_again_with_back_off() {
    let mut world = World::new();
    world.node("n1");
    world.create("/api/v1/namespaces", json!({"metadata": {"name": "tight"}}));
    let mut set = web(1);
    set["metadata"]["namespace"] = json!("tight");
    // No such account: admission refuses the pod.
    set["spec"]["template"]["spec"]["serviceAccountName"] = json!("robot");
    let batch = {
        let Target::Resource(resource) = target("/apis/apps/v1/namespaces/tight/statefulsets") else {
            panic!("a resource")
        };
        let user = User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() };
        let request = Request::of(Arc::new(user), Verb::Create, resource, set);
        world.plane.step(world.now, vec![(1, request)])
    };
    world.commit(batch);
    let first = world.plane.wake_at().expect("a back-off");
    assert!(first.duration_since(world.now).as_millis() <= 40, "its own writes may have made it look again");
    for _ in 0..12 {
        world.now = world.plane.wake_at().expect("a back-off");
        let batch = world.plane.step(world.now, Vec::new());
        world.commit(batch);
    }
    let told: Vec<String> = world.events("web").into_iter().filter(|e| e.contains("FailedCreate")).collect();
    expect![[r#"Warning FailedCreate Create Pod web-0 in StatefulSet web failed error: pods "web-0" is forbidden: error looking up service account tight/robot: serviceaccount "robot" not found"#]]
    .assert_eq(&told.join("\n"));
    let count = world.snapshot().list(EVENT, "tight").map(|e| e.value()["count"].as_i64().unwrap_or(0)).max();
    assert!(count > Some(5), "one Event that counts: {count:?}");
    assert!(world.plane.wake_at().expect("a back-off").duration_since(world.now).as_secs() >= 1);
    world.create("/api/v1/namespaces/tight/serviceaccounts", json!({"metadata": {"name": "robot"}}));
    world.wait(1000);
    assert!(world.snapshot().find(POD, "tight", "web-0").is_some());
}

#[test]
fn a_deployment_tells_why_its_pods_cannot_be_made() {
    let mut world = World::new();
    let template = json!({"metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "x"}], "serviceAccountName": "robot"}});
    let deployment = json!({"metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
    world.create("/apis/apps/v1/namespaces/default/deployments", deployment);
    let failure = |world: &World, kind| {
        let object = world.snapshot().list(kind, "default").next().expect("it is there").value();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|one| one["type"] == "ReplicaFailure");
        found.map(|one| format!("{} {} {}", one["status"], one["reason"], one["message"]))
    };
    let of_set = failure(&world, REPLICA_SET).expect("the set says why");
    assert!(of_set.starts_with("\"True\" \"FailedCreate\" \"pods \\\"web-"), "{of_set}");
    assert!(of_set.ends_with("serviceaccount \\\"robot\\\" not found\""), "{of_set}");
    assert_eq!(failure(&world, DEPLOYMENT), Some(of_set.clone()));
    world.wait(100);
    assert_eq!(failure(&world, REPLICA_SET), Some(of_set), "it is told once");
    world.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "robot"}}));
    world.wait(1000);
    assert_eq!(world.snapshot().list(POD, "default").count(), 2);
    assert_eq!((failure(&world, REPLICA_SET), failure(&world, DEPLOYMENT)), (None, None));
}
