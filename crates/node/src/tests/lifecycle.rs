//! Lives of pods, from apply to gone.

use expect_test::{Expect, expect};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::world::{Shows, World, summary};
use crate::action::{Hook, ProbeKind, ProbeResult};

pub fn container(name: &str) -> Value {
    json!({"name": name, "image": "img:1", "imagePullPolicy": "IfNotPresent"})
}

pub fn simple() -> Value {
    json!({"containers": [container("main")], "terminationGracePeriodSeconds": 30})
}

/// A cluster whose node has registered.
pub fn ready() -> World {
    let mut world = World::new();
    world.run(1);
    world.log.clear();
    world
}

pub fn status_of(world: &World, name: &str) -> String {
    summary(&world.get("pods", name).unwrap().value()["status"])
}

pub fn check(world: &World, expect: Expect) {
    expect.assert_eq(&world.log);
}

#[test]
fn a_simple_pod_comes_and_goes() {
    let mut world = ready();
    world.shows = Shows::All;
    world.pod("web-0", "u1", simple());
    world.run(1);
    world.delete("web-0", 30);
    world.run(60);
    check(
        &world,
        expect![[r#"
            1.0s sandbox u1#0 hostname=web-0
            1.0s find img:1
            1.0s status Pending Initialized [main ContainerCreating #0]
            1.0s volumes u1 []
            1.0s event Normal Pulled Container image "img:1" already present on machine and can be accessed by the pod
            1.0s start u1/main#0
            1.0s event Normal Created Container created
            1.0s event Normal Started Container started
            1.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized Ready ContainersReady [main running #0 ready]
            2.0s stop u1/main#0 grace=30
            2.0s event Normal Killing Stopping container main
            2.0s stop sandbox u1
            2.0s status Failed 10.244.0.2 Initialized [main Error:143 #0]
            2.0s confirm web-0
            2.0s remove pod u1
        "#]],
    );
    assert_eq!(world.machine.sandboxes.len(), 0);
}

#[test]
fn the_node_registers_and_renews_its_lease() {
    let mut world = ready();
    let node = world.store.snapshot().find("nodes", "", "n1").unwrap().value();
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(node["metadata"]["annotations"]["stead.local/volumes-directory"], "/data/volumes");
    assert_eq!(node["spec"]["podCIDR"], "10.244.0.0/24");
    assert_eq!(
        node["status"]["capacity"],
        json!({"cpu": "4", "memory": "8Gi", "ephemeral-storage": "100Gi", "pods": "110"})
    );
    assert_eq!(node["status"]["conditions"][3]["type"], "Ready");
    let lease = world.store.snapshot().find("leases.coordination.k8s.io", "kube-node-lease", "n1").unwrap().value();
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], "node-uid");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
    let before = world.now;
    let wake = world.agent.wake_at().unwrap();
    assert!(wake.duration_since(before).as_secs() <= 10);
    world.run(1);
}

#[test]
fn init_containers_then_sidecars_then_mains_and_back() {
    let mut world = ready();
    let mut sidecar = container("proxy");
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] = json!({"exec": {"command": ["ok"]}, "periodSeconds": 1});
    let spec = json!({"initContainers": [container("first"), sidecar, container("second")],
        "containers": [container("main"), container("other")], "terminationGracePeriodSeconds": 30});
    world.pod("p", "u1", spec);
    world.run(1);
    world.end("u1", "first", 0);
    world.run(1);
    world.end("u1", "second", 0);
    world.run(1);
    world.delete("p", 30);
    world.run(40);
    check(
        &world,
        expect![[r#"
        1.0s sandbox u1#0 hostname=p
        1.0s find img:1
        1.0s volumes u1 []
        1.0s start u1/first#0
        2.0s find img:1
        2.0s start u1/proxy#0
        2.0s probe u1/proxy#0 Startup exec ok
        2.0s find img:1
        2.0s start u1/second#0
        3.0s find img:1
        3.0s start u1/main#0
        3.0s start u1/other#0
        4.0s stop u1/main#0 grace=30
        4.0s stop u1/other#0 grace=30
        4.0s stop u1/proxy#0 grace=30
        4.0s stop sandbox u1
        4.0s confirm p
        4.0s remove pod u1
    "#]],
    );
}

#[test]
fn crash_loops_back_off() {
    let mut world = ready();
    world.pod("p", "u1", simple());
    world.run(0);
    for _ in 0..4 {
        world.run(1);
        world.end("u1", "main", 1);
        world.run(0);
        let status = status_of(&world, "p");
        world.say(&status);
        world.run(200);
    }
    // A long run clears the back-off.
    world.run(601);
    world.end("u1", "main", 1);
    world.run(0);
    check(
        &world,
        expect![[r#"
        1.0s sandbox u1#0 hostname=p
        1.0s find img:1
        1.0s volumes u1 []
        1.0s start u1/main#0
        2.0s find img:1
        2.0s start u1/main#1
        2.0s Running 10.244.0.2 PodReadyToStartContainers Initialized Ready ContainersReady [main running #1 ready]
        203.0s Running 10.244.0.2 PodReadyToStartContainers Initialized [main CrashLoopBackOff #1]
        213.0s find img:1
        213.0s start u1/main#2
        213.0s remove u1/main#0
        404.0s Running 10.244.0.2 PodReadyToStartContainers Initialized [main CrashLoopBackOff #2]
        424.0s find img:1
        424.0s start u1/main#3
        424.0s remove u1/main#1
        605.0s Running 10.244.0.2 PodReadyToStartContainers Initialized [main CrashLoopBackOff #3]
        645.0s find img:1
        645.0s start u1/main#4
        645.0s remove u1/main#2
        1406.0s find img:1
        1406.0s start u1/main#5
        1406.0s remove u1/main#3
    "#]],
    );
}

#[test]
fn restart_policies_end_pods() {
    for (policy, code, expected) in [
        ("Never", 0, "Succeeded"),
        ("Never", 3, "Failed"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 3, "Running"),
        ("Always", 0, "Running"),
    ] {
        let mut world = ready();
        let mut spec = simple();
        spec["restartPolicy"] = json!(policy);
        world.pod("p", "u1", spec);
        world.run(1);
        world.end("u1", "main", code);
        world.run(20);
        let status = status_of(&world, "p");
        assert!(status.starts_with(expected), "{policy} {code}: {status}");
        let is_over = expected != "Running";
        assert_eq!(world.machine.running().count(), usize::from(!is_over), "{policy} {code}");
        // The end is kept over a restart of the agent, and nothing is started again.
        world.boot();
        world.run(20);
        assert_eq!(world.machine.running().count(), usize::from(!is_over), "{policy} {code}");
        assert!(status_of(&world, "p").starts_with(expected), "{policy} {code}");
    }
}

#[test]
fn an_image_that_nobody_has_backs_off() {
    let mut world = ready();
    world.machine.images = Some(Default::default());
    world.machine.unknown_images.insert("img:1".into());
    world.pod("p", "u1", simple());
    world.run(0);
    let status = status_of(&world, "p");
    world.say(&status);
    world.run(3);
    let status = status_of(&world, "p");
    world.say(&status);
    world.run(40);
    world.machine.unknown_images.clear();
    world.run(60);
    let status = status_of(&world, "p");
    world.say(&status);
    check(
        &world,
        expect![[r#"
        1.0s sandbox u1#0 hostname=p
        1.0s find img:1
        1.0s volumes u1 []
        1.0s pull img:1
        1.0s Pending 10.244.0.2 PodReadyToStartContainers Initialized [main ErrImagePull #0]
        4.0s Pending 10.244.0.2 PodReadyToStartContainers Initialized [main ImagePullBackOff #0]
        11.0s find img:1
        11.0s pull img:1
        31.0s find img:1
        31.0s pull img:1
        71.0s find img:1
        71.0s pull img:1
        71.0s start u1/main#0
        104.0s Running 10.244.0.2 PodReadyToStartContainers Initialized Ready ContainersReady [main running #0 ready]
    "#]],
    );
}

#[test]
fn a_missing_reference_says_so_until_it_comes() {
    let mut world = ready();
    let mut spec = simple();
    spec["containers"][0]["env"] = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "a"}}}]);
    spec["volumes"] = json!([{"name": "v", "secret": {"secretName": "s"}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    world.shows = Shows::All;
    world.pod("p", "u1", spec);
    world.run(1);
    world.put("secrets", json!({"metadata": {"name": "s", "namespace": "ns"}, "data": {"k": "dg=="}}));
    world.run(1);
    world.put("configmaps", json!({"metadata": {"name": "cm", "namespace": "ns"}, "data": {"b": "1"}}));
    world.run(1);
    world.put("configmaps", json!({"metadata": {"name": "cm", "namespace": "ns"}, "data": {"a": "1"}}));
    world.run(1);
    // A changed secret reaches the running pod at once.
    world.put("secrets", json!({"metadata": {"name": "s", "namespace": "ns"}, "data": {"k": "dw=="}}));
    world.run(1);
    check(
        &world,
        expect![[r#"
            1.0s find img:1
            1.0s event Warning FailedMount MountVolume.SetUp failed for volume "v" : secret "s" not found
            1.0s status Pending Initialized [main ContainerCreating #0]
            1.0s event Normal Pulled Container image "img:1" already present on machine and can be accessed by the pod
            2.0s sandbox u1#0 hostname=p
            2.0s volumes u1 [v]
            2.0s event Warning Failed Error: configmap "cm" not found
            2.0s status Pending 10.244.0.2 PodReadyToStartContainers Initialized [main CreateContainerConfigError #0]
            3.0s event Warning Failed Error: couldn't find key a in ConfigMap ns/cm
            3.0s status Pending 10.244.0.2 PodReadyToStartContainers Initialized [main CreateContainerConfigError #0]
            4.0s start u1/main#0
            4.0s event Normal Created Container created
            4.0s event Normal Started Container started
            4.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized Ready ContainersReady [main running #0 ready]
            5.0s volumes u1 [v]
        "#]],
    );
}

#[test]
fn tokens_come_first_and_are_refreshed() {
    let mut world = ready();
    let mut spec = simple();
    spec["serviceAccountName"] = json!("default");
    spec["volumes"] = json!([{"name": "api", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}]);
    world.pod("p", "u1", spec);
    world.run(1);
    world.run(2881);
    check(
        &world,
        expect![[r#"
        1.0s find img:1
        1.0s sandbox u1#0 hostname=p
        1.0s volumes u1 [api]
        1.0s start u1/main#0
        2881.0s volumes u1 [api]
    "#]],
    );
}

/// What ended at a time that has yet to come does not wait for that time.
#[test]
fn a_clock_set_back_does_not_lengthen_a_back_off() {
    let mut world = ready();
    world.pod("p", "u1", simple());
    world.run(1);
    for _ in 0..2 {
        world.end("u1", "main", 1);
        world.run(1);
    }
    assert!(!world.log.contains("start u1/main#2"), "{}", world.log);
    world.now -= SignedDuration::from_hours(3);
    world.boot();
    world.run(30);
    assert!(world.log.contains("start u1/main#2"), "{}", world.log);
}

/// While the server is away, an agent with an old token must not turn in circles.
#[test]
fn a_token_that_cannot_be_refreshed_is_asked_for_at_intervals() {
    let mut world = ready();
    let mut spec = simple();
    spec["serviceAccountName"] = json!("default");
    spec["volumes"] = json!([{"name": "api", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}}]);
    world.pod("p", "u1", spec);
    world.run(1);
    world.is_api_down = true;
    world.run(3600);
    let is_resting = world.agent.wake_at().is_none_or(|at| world.now < at);
    assert!(is_resting, "wakes at {:?} at {}", world.agent.wake_at(), world.now);
}

#[test]
fn hooks_hold_the_start_and_the_stop() {
    let mut world = ready();
    world.shows = Shows::All;
    let mut spec = simple();
    spec["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["hello"]}},
        "preStop": {"httpGet": {"path": "bye", "port": 80}}});
    world.held = vec!["hook".into()];
    let mut containers = spec["containers"].as_array().cloned().unwrap();
    containers.push(container("second"));
    spec["containers"] = json!(containers);
    world.pod("p", "u1", spec);
    world.run(1);
    world.release();
    world.run(1);
    world.held = vec!["hook".into()];
    world.delete("p", 10);
    world.run(60);
    check(
        &world,
        expect![[r#"
            1.0s sandbox u1#0 hostname=p
            1.0s find img:1
            1.0s status Pending Initialized [main ContainerCreating #0] [second ContainerCreating #0]
            1.0s volumes u1 []
            1.0s event Normal Pulled Container image "img:1" already present on machine and can be accessed by the pod
            1.0s start u1/main#0
            1.0s event Normal Created Container created
            1.0s event Normal Started Container started
            1.0s hook u1/main#0 PostStart exec hello
            1.0s status Pending 10.244.0.2 PodReadyToStartContainers Initialized [main ContainerCreating #0] [second ContainerCreating #0]
            2.0s find img:1
            2.0s event Normal Pulled Container image "img:1" already present on machine and can be accessed by the pod
            2.0s start u1/second#0
            2.0s event Normal Created Container created
            2.0s event Normal Started Container started
            2.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized Ready ContainersReady [main running #0 ready] [second running #0 ready]
            3.0s hook u1/main#0 PreStop http 10.244.0.2:80/bye
            3.0s stop u1/second#0 grace=10
            3.0s event Normal Killing Stopping container main
            3.0s event Normal Killing Stopping container second
            3.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized [main running #0 ready] [second Error:143 #0]
            13.0s stop u1/main#0 grace=2
            13.0s stop sandbox u1
            13.0s status Failed 10.244.0.2 Initialized [main Error:143 #0] [second Error:143 #0]
            13.0s confirm p
            13.0s remove pod u1
        "#]],
    );
}

#[test]
fn a_failed_post_start_hook_restarts_the_container() {
    let mut world = ready();
    world.shows = Shows::All;
    let mut spec = simple();
    spec["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["hello"]}}});
    world.held = vec!["hook".into()];
    world.pod("p", "u1", spec);
    world.run(1);
    world.held.clear();
    let held = world.on_hold.pop().unwrap();
    let crate::action::Action::RunHook { container, .. } = held else { panic!("not a hook") };
    let at = world.now;
    world.observe(crate::action::Observation::HookDone {
        container,
        hook: Hook::PostStart,
        result: Err("exit 1".into()),
        at,
    });
    world.run(1);
    check(
        &world,
        expect![[r#"
            1.0s sandbox u1#0 hostname=p
            1.0s find img:1
            1.0s status Pending Initialized [main ContainerCreating #0]
            1.0s volumes u1 []
            1.0s event Normal Pulled Container image "img:1" already present on machine and can be accessed by the pod
            1.0s start u1/main#0
            1.0s event Normal Created Container created
            1.0s event Normal Started Container started
            1.0s hook u1/main#0 PostStart exec hello
            1.0s status Pending 10.244.0.2 PodReadyToStartContainers Initialized [main ContainerCreating #0]
            2.0s event Warning FailedPostStartHook PostStartHook failed
            2.0s stop u1/main#0 grace=30
            2.0s event Normal Killing FailedPostStartHook
            2.0s find img:1
            2.0s start u1/main#1
            2.0s hook u1/main#1 PostStart exec hello
            2.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized [main ContainerCreating #1]
            2.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized Ready ContainersReady [main running #1 ready]
        "#]],
    );
}

#[test]
fn a_failed_liveness_probe_restarts_and_readiness_takes_traffic_away() {
    let mut world = ready();
    world.shows = Shows::All;
    let mut spec = simple();
    spec["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    spec["containers"][0]["livenessProbe"] =
        json!({"httpGet": {"path": "/live", "port": "http"}, "periodSeconds": 5, "failureThreshold": 1});
    spec["containers"][0]["readinessProbe"] =
        json!({"tcpSocket": {"port": 8080}, "periodSeconds": 5, "failureThreshold": 1});
    world.held = vec!["probe".into()];
    world.pod("p", "u1", spec);
    world.run(1);
    let answer = |world: &mut World, kind: ProbeKind, result: ProbeResult| {
        let at = world.now;
        let container = world.machine.running().next().unwrap().container.clone();
        world.observe(crate::action::Observation::Probed { container, kind, result, at });
        world.run(0);
    };
    answer(&mut world, ProbeKind::Readiness, ProbeResult::Success);
    answer(&mut world, ProbeKind::Readiness, ProbeResult::Failure("refused".into()));
    answer(&mut world, ProbeKind::Liveness, ProbeResult::Failure("HTTP probe failed with statuscode: 500".into()));
    check(
        &world,
        expect![[r#"
            1.0s sandbox u1#0 hostname=p
            1.0s find img:1
            1.0s status Pending Initialized [main ContainerCreating #0]
            1.0s volumes u1 []
            1.0s event Normal Pulled Container image "img:1" already present on machine and can be accessed by the pod
            1.0s start u1/main#0
            1.0s event Normal Created Container created
            1.0s event Normal Started Container started
            1.0s probe u1/main#0 Readiness tcp 10.244.0.2:8080
            1.0s probe u1/main#0 Liveness http 10.244.0.2:8080/live
            1.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized [main running #0]
            2.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized Ready ContainersReady [main running #0 ready]
            2.0s event Warning Unhealthy Readiness probe failed: refused
            2.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized [main running #0]
            2.0s event Warning Unhealthy Liveness probe failed: HTTP probe failed with statuscode: 500
            2.0s stop u1/main#0 grace=30
            2.0s event Normal Killing Container main failed liveness probe, will be restarted
            2.0s find img:1
            2.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized [main Error:143 #0]
            2.0s start u1/main#1
            2.0s probe u1/main#1 Readiness tcp 10.244.0.2:8080
            2.0s probe u1/main#1 Liveness http 10.244.0.2:8080/live
            2.0s status Running 10.244.0.2 PodReadyToStartContainers Initialized [main running #1]
        "#]],
    );
}

#[test]
fn a_restart_of_the_agent_changes_nothing() {
    let mut world = ready();
    let mut spec = simple();
    spec["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 80}});
    world.pod("p", "u1", spec);
    world.run(1);
    let before = world.get("pods", "p").unwrap();
    world.log.clear();
    world.held = vec!["probe".into()];
    world.boot();
    world.run(1);
    assert_eq!(world.get("pods", "p").unwrap().json, before.json, "not one status patch");
    check(
        &world,
        expect![[r#"
        2.0s volumes u1 []
        2.0s probe u1/main#0 Readiness tcp 10.244.0.2:80
    "#]],
    );
}

#[test]
fn orphans_go_and_a_pod_waits_for_the_earlier_one_of_its_name() {
    let mut world = ready();
    world.pod("web-0", "u1", simple());
    world.run(1);
    world.held = vec!["stop u1".into()];
    world.remove("web-0");
    world.pod("web-0", "u2", simple());
    world.run(5);
    world.say("released");
    world.release();
    world.run(1);
    // Nobody knows u2 after this restart: it is taken down all the same.
    world.remove("web-0");
    world.boot();
    world.run(5);
    check(
        &world,
        expect![[r#"
            1.0s sandbox u1#0 hostname=web-0
            1.0s find img:1
            1.0s volumes u1 []
            1.0s start u1/main#0
            2.0s stop u1/main#0 grace=2
            7.0s released
            7.0s stop sandbox u1
            7.0s remove pod u1
            7.0s sandbox u2#0 hostname=web-0
            7.0s find img:1
            7.0s volumes u2 []
            7.0s start u2/main#0
            8.0s stop u2/main#0 grace=2
            8.0s stop sandbox u2
            8.0s remove pod u2
        "#]],
    );
    assert_eq!(world.machine.running().count(), 0);
}

#[test]
fn the_deadline_ends_a_pod() {
    let mut world = ready();
    let mut spec = simple();
    spec["activeDeadlineSeconds"] = json!(20);
    world.pod("p", "u1", spec);
    world.run(60);
    assert_eq!(status_of(&world, "p"), "Failed(DeadlineExceeded) 10.244.0.2 Initialized [main Error:143 #0]");
}

#[test]
fn a_provisioned_directory_is_deleted_with_its_volume() {
    for (policy, expected) in [("Delete", "delete /data/volumes/pvc-1\n"), ("Retain", "")] {
        let mut world = ready();
        world.machine.directories.insert("/data/volumes/pvc-1".into());
        world.put(
            "persistentvolumes",
            json!({"metadata": {"name": "pvc-1", "uid": "v1",
            "annotations": {"pv.kubernetes.io/provisioned-by": "stead.local/directory"},
            "finalizers": ["stead.local/directory"], "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"persistentVolumeReclaimPolicy": policy, "local": {"path": "/data/volumes/pvc-1"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]}}}}),
        );
        world.run(1);
        let log: String = world.log.lines().filter_map(|l| l.split_once(' ')).map(|(_, l)| format!("{l}\n")).collect();
        assert_eq!(log, expected, "{policy}");
    }
}

#[test]
fn what_somebody_called_failed_stays_failed_while_it_is_stopped() {
    let mut world = ready();
    world.pod("web", "u1", json!({"containers": [container("main")], "terminationGracePeriodSeconds": 30}));
    world.run(5);
    let mut value = world.get("pods", "web").unwrap().value();
    value["status"]["phase"] = "Failed".into();
    world.log.clear();
    world.put("pods", value);
    world.run(40);
    assert!(!world.log.contains("status Running"), "{}", world.log);
    assert!(status_of(&world, "web").starts_with("Failed"), "{}", world.log);
    assert_eq!(world.machine.running().count(), 0);
}
