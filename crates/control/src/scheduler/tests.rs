use expect_test::{Expect, expect};

use super::*;
use crate::fixture::{World, show};

fn check(text: &str, expected: Expect) {
    let world = World::of(text);
    let plan = reconcile(&world.view(), &Key::new(POD, "default", "web-0"));
    let text: String =
        show(&world, &plan).lines().filter(|l| !l.starts_with("status")).map(|l| format!("{l}\n")).collect();
    expected.assert_eq(&text);
}

const CLASS: &str = r#"sc standard {"volumeBindingMode":"WaitForFirstConsumer"}"#;
const CLAIM_OF_CLASS: &str = r#"{"spec":{"storageClassName":"standard"}}"#;
const POD_WITH_CLAIM: &str =
    r#"pod web-0 {"spec":{"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data"}}]}}"#;

#[test]
fn a_pod_goes_to_the_emptier_node() {
    check(
        "node a\n node b\n pod other-0 node=a {\"spec\":{\"containers\":[{\"name\":\"x\",\"resources\":{\"requests\":{\"cpu\":\"2\"}}}]}}\n pod web-0",
        expect![[r#"
        bind pods/default/web-0 to b
    "#]],
    );
    check("node a\n pod web-0 deleting", expect![""]);
    check("node a\n pod web-0 node=a", expect![""]);
    check("node a\n pod web-0 {\"spec\":{\"schedulerName\":\"mine\"}}", expect![""]);
}

#[test]
fn a_pod_that_fits_nowhere_is_told_why_for_each_node() {
    check(
        "pod web-0",
        expect![[r#"
        event pods/default/web-0 Warning FailedScheduling: no nodes available to schedule pods
    "#]],
    );
    check(
        r#"node a {"spec":{"unschedulable":true}}
           node b {"spec":{"taints":[{"key":"disk","value":"old","effect":"NoSchedule"}]}}
           node c {"status":{"allocatable":{"cpu":"1"}}}
           node d {"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}
           node e
           pod busy-0 node=e {"spec":{"containers":[{"name":"x","resources":{"requests":{"cpu":"3"}}}]}}
           pod web-0 {"spec":{"containers":[{"name":"x","resources":{"requests":{"cpu":"1500m"}}}]}}"#,
        expect![[r#"
            event pods/default/web-0 Warning FailedScheduling: 0/5 nodes are available: 1 node(s) had untolerated taint {disk: old}, 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/5 nodes are available: 2 No preemption victims found for incoming pod, 3 Preemption is not helpful for scheduling.
        "#]],
    );
}

#[test]
fn tolerations_selectors_and_ports_are_honoured() {
    let tainted = r#"node a {"spec":{"taints":[{"key":"disk","value":"old","effect":"NoSchedule"}]}}"#;
    check(
        &format!(
            "{tainted}\n pod web-0 {{\"spec\":{{\"tolerations\":[{{\"key\":\"disk\",\"operator\":\"Exists\"}}]}}}}"
        ),
        expect![[r#"
        bind pods/default/web-0 to a
    "#]],
    );
    check(
        "node a\n node b label=disk:ssd\n pod web-0 {\"spec\":{\"nodeSelector\":{\"disk\":\"ssd\"}}}",
        expect![[r#"
        bind pods/default/web-0 to b
    "#]],
    );
    let port = r#"{"spec":{"containers":[{"name":"x","ports":[{"containerPort":80,"hostPort":8080}]}]}}"#;
    check(
        &format!("node a\n pod other-0 node=a {port}\n pod web-0 {port}"),
        expect![[r#"
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
    "#]],
    );
}

#[test]
fn anti_affinity_and_spread_keep_pods_apart() {
    let apart = r#"{"spec":{"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"labelSelector":{"matchLabels":{"app":"web"}},"topologyKey":"kubernetes.io/hostname"}]}}}}"#;
    check(
        &format!("node a\n node b\n pod web-1 node=a\n pod web-0 {apart}"),
        expect![[r#"
        bind pods/default/web-0 to b
    "#]],
    );
    check(
        &format!("node a\n pod web-1 node=a\n pod web-0 {apart}"),
        expect![[r#"
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
    "#]],
    );
    check(
        &format!("node a\n pod web-1 node=a {apart}\n pod web-0"),
        expect![[r#"
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
    "#]],
    );
    let near = apart.replace("podAntiAffinity", "podAffinity");
    check(
        &format!("node a\n node b\n pod web-1 node=b\n pod web-0 {near}"),
        expect![[r#"
        bind pods/default/web-0 to b
    "#]],
    );
    check(
        &format!("node a\n pod web-0 {near}"),
        expect![[r#"
        bind pods/default/web-0 to a
    "#]],
    );
    let spread = r#"{"spec":{"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"kubernetes.io/hostname","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"app":"web"}}}]}}"#;
    check(
        &format!(
            "node a\n node b {{\"status\":{{\"allocatable\":{{\"pods\":\"0\"}}}}}}\n pod web-1 node=a\n pod web-0 {spread}"
        ),
        expect![[r#"
        event pods/default/web-0 Warning FailedScheduling: 0/2 nodes are available: 1 Too many pods, 1 node(s) didn't match pod topology spread constraints. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.
    "#]],
    );
}

#[test]
fn claims_wait_are_promised_and_pin_the_pod_v06_f11() {
    check(
        &format!("node a\n {POD_WITH_CLAIM}"),
        expect![[r#"
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: persistentvolumeclaim "data" not found. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
    "#]],
    );
    check(
        &format!("node a\n {POD_WITH_CLAIM}\n pvc data"),
        expect![[r#"
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
    "#]],
    );
    check(
        &format!("node a\n {CLASS}\n {POD_WITH_CLAIM}\n pvc data {CLAIM_OF_CLASS}"),
        expect![[r#"
        update PersistentVolumeClaim data {"metadata":{"annotations":{"volume.kubernetes.io/selected-node":"a"}}}
    "#]],
    );
    check(
        &format!(
            "node a\n {CLASS}\n {POD_WITH_CLAIM}\n pv big {{\"spec\":{{\"storageClassName\":\"standard\",\"capacity\":{{\"storage\":\"2Gi\"}}}}}}\n pv fit {CLAIM_OF_CLASS}\n pvc data {CLAIM_OF_CLASS}"
        ),
        expect![[r#"
        update PersistentVolume fit {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"claimRef":{"kind":"PersistentVolumeClaim","namespace":"default","name":"data","uid":"pvc-data","apiVersion":"v1","resourceVersion":"6"}}}
    "#]],
    );
    let bound = r#"pvc data annotation=pv.kubernetes.io/bind-completed:yes {"spec":{"volumeName":"disk"}}"#;
    let local = r#"pv disk {"spec":{"nodeAffinity":{"required":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"In","values":["a"]}]}]}}}}"#;
    check(
        &format!("node b\n {POD_WITH_CLAIM}\n {bound}\n {local}"),
        expect![[r#"
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: 1 node(s) had volume node affinity conflict. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
    "#]],
    );
    check(
        &format!("node a\n node b\n {POD_WITH_CLAIM}\n {bound}\n {local}"),
        expect![[r#"
        bind pods/default/web-0 to a
    "#]],
    );
}

#[test]
fn a_claim_for_one_pod_is_not_shared_v15() {
    let bound = r#"pvc data annotation=pv.kubernetes.io/bind-completed:yes {"spec":{"volumeName":"disk","accessModes":["ReadWriteOncePod"]}}"#;
    let other = POD_WITH_CLAIM.replace("web-0", "other-0 node=a");
    check(
        &format!("node a\n {POD_WITH_CLAIM}\n {other}\n {bound}\n pv disk"),
        expect![[r#"
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
    "#]],
    );
}

#[test]
fn requests_count_sidecars_and_the_largest_init_container() {
    let spec = serde_json::from_value(serde_json::json!({
        "containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}],
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
            {"name": "i", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}],
        "overhead": {"cpu": "100m"}}))
    .expect("a pod spec");
    assert_eq!(resources::requests(&spec), [("cpu".to_owned(), 2600), ("memory".to_owned(), 1 << 30)].into());
}

/// All that the plan does, status included.
fn check_all(text: &str, expected: Expect) {
    let world = World::of(text);
    expected.assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(POD, "default", "web-0"))));
}

/// A pod of a priority that asks for so many processors.
fn of_priority(name: &str, priority: i32, cpu: &str, status: &str) -> String {
    format!(
        r#"pod {name} {{"spec":{{"priority":{priority},"containers":[{{"name":"x","resources":{{"requests":{{"cpu":"{cpu}"}}}}}}]}},"status":{{{status}}}}}"#
    )
}

#[test]
fn a_pod_takes_the_place_of_the_least_of_lower_priority() {
    // Of four processors: without `b` there is room, and `b` is less than `c`.
    let pods = [
        of_priority("a node=n label=app:a", 5, "1", ""),
        of_priority("b node=n label=app:b", 1, "1", ""),
        of_priority("c node=n label=app:c", 3, "2", ""),
        of_priority("web-0", 10, "1", ""),
    ];
    check_all(
        &format!("node n\n {}", pods.join("\n ")),
        expect![[r#"
        status Pod b {"conditions":[{"type":"DisruptionTarget","status":"True","reason":"PreemptionByScheduler","message":"default-scheduler: preempting to accommodate a higher priority pod","lastTransitionTime":"1970-01-12T13:46:40Z"}]}
        delete pods/default/b
        status Pod web-0 {"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes are available: 1 Insufficient cpu.","lastProbeTime":null,"lastTransitionTime":"1970-01-12T13:46:40Z"}],"nominatedNodeName":"n"}
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu.
    "#]],
    );
    // A budget protects `b`; nobody of the same priority goes.
    let budget = r#"pdb b {"spec":{"selector":{"matchLabels":{"app":"b"}}},"status":{"disruptionsAllowed":0}}"#;
    check_all(
        &format!("node n\n {}\n {budget}", pods.join("\n ")),
        expect![[r#"
        status Pod c {"conditions":[{"type":"DisruptionTarget","status":"True","reason":"PreemptionByScheduler","message":"default-scheduler: preempting to accommodate a higher priority pod","lastTransitionTime":"1970-01-12T13:46:40Z"}]}
        delete pods/default/c
        status Pod web-0 {"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes are available: 1 Insufficient cpu.","lastProbeTime":null,"lastTransitionTime":"1970-01-12T13:46:40Z"}],"nominatedNodeName":"n"}
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu.
    "#]],
    );
    check_all(
        &format!("node n\n {}\n {}", of_priority("a node=n", 10, "4", ""), of_priority("web-0", 10, "1", "")),
        expect![[r#"
            status Pod web-0 {"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.","lastProbeTime":null,"lastTransitionTime":"1970-01-12T13:46:40Z"}]}
            event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
        "#]],
    );
}

#[test]
fn the_node_whose_victims_are_least_is_cleared() {
    let text = format!(
        "node m\n node n\n {}\n {}\n {}",
        of_priority("a node=m", 5, "4", ""),
        of_priority("b node=n", 4, "4", ""),
        of_priority("web-0", 10, "3", "")
    );
    check(
        &text,
        expect![[r#"
        delete pods/default/b
        event pods/default/web-0 Warning FailedScheduling: 0/2 nodes are available: 2 Insufficient cpu.
    "#]],
    );
}

#[test]
fn room_in_the_making_is_waited_for_and_kept_from_others() {
    let ending = of_priority("a node=n deleting", 1, "4", "");
    let nominated = r#""phase":"Pending","nominatedNodeName":"n""#;
    // Whether it is remembered or not, what goes already is enough.
    check_all(
        &format!("node n\n {ending}\n {}", of_priority("web-0", 10, "1", "")),
        expect![[r#"
        status Pod web-0 {"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes are available: 1 Insufficient cpu.","lastProbeTime":null,"lastTransitionTime":"1970-01-12T13:46:40Z"}],"nominatedNodeName":"n"}
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu.
    "#]],
    );
    let by_us = r#""conditions":[{"type":"DisruptionTarget","status":"True","reason":"PreemptionByScheduler"}]"#;
    let ending = of_priority("a node=n deleting", 1, "4", by_us);
    check(
        &format!("node n\n {ending}\n {}", of_priority("web-0", 10, "1", nominated)),
        expect![[r#"
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to a terminating pod on the nominated node.
    "#]],
    );
    // The room is gone from the others, unless they are more.
    let first = of_priority("first", 10, "3", nominated);
    check(
        &format!("node n\n {first}\n {}", of_priority("web-0", 5, "2", "")),
        expect![[r#"
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
    "#]],
    );
    check(
        &format!("node n\n {first}\n {}", of_priority("web-0", 11, "2", "")),
        expect![[r#"
        bind pods/default/web-0 to n
    "#]],
    );
    // And it goes to the one for which it was made, though another node is emptier.
    check(
        &format!("node m\n node n\n {}", of_priority("web-0", 10, "1", nominated)),
        expect![[r#"
        bind pods/default/web-0 to n
    "#]],
    );
}

#[test]
fn a_pod_that_never_preempts_waits() {
    let polite = of_priority("web-0", 10, "1", "").replace(r#""priority""#, r#""preemptionPolicy":"Never","priority""#);
    check_all(
        &format!("node n\n {}\n {polite}", of_priority("a node=n", 1, "4", "")),
        expect![[r#"
        status Pod web-0 {"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.","lastProbeTime":null,"lastTransitionTime":"1970-01-12T13:46:40Z"}]}
        event pods/default/web-0 Warning FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.
    "#]],
    );
}
