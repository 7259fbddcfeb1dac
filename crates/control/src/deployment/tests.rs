use expect_test::{Expect, expect};

use super::*;
use crate::fixture::{World, show};

fn check(text: &str, expected: Expect) {
    let world = World::of(text);
    let plan = reconcile(&world.view(), &Key::new(DEPLOYMENT, "default", "web"));
    let shown =
        show(&world, &plan).lines().filter(|l| !l.starts_with("status")).map(|l| format!("{l}\n")).collect::<String>();
    expected.assert_eq(&shown);
}

/// A ReplicaSet with a revision, a size, what is available, and the image of its template.
fn set(name: &str, revision: u32, replicas: i64, available: i64, image: &str, desired: i64) -> String {
    format!(
        r#"rs {name} owner=deploy:web created={} annotation={REVISION}:{revision} annotation={DESIRED}:{desired} annotation={MAX}:{} {{"metadata":{{"labels":{{"app":"web"}}}},"spec":{{"replicas":{replicas},"selector":{{"matchLabels":{{"app":"web"}}}},"template":{{"metadata":{{"labels":{{"app":"web","pod-template-hash":"{name}"}}}},"spec":{{"containers":[{{"name":"main","image":"{image}"}}]}}}}}},"status":{{"replicas":{replicas},"availableReplicas":{available},"readyReplicas":{available},"observedGeneration":1}}}}"#,
        1000 - revision,
        desired + 1
    )
}

fn deploy(revision: u32, more: &str) -> String {
    format!(
        r#"deploy web annotation={REVISION}:{revision} {{"spec":{{"replicas":4,"progressDeadlineSeconds":600,"strategy":{{"type":"RollingUpdate","rollingUpdate":{{"maxSurge":1,"maxUnavailable":0}}}}{more}}}}}"#
    )
}

#[test]
fn a_new_deployment_makes_its_replica_set() {
    let world = World::of(&deploy(1, ""));
    let plan = reconcile(&world.view(), &Key::new(DEPLOYMENT, "default", "web"));
    let Some(Action::Create { value, on_success, .. }) =
        plan.actions.iter().find(|a| matches!(a, Action::Create { .. }))
    else {
        panic!("no set")
    };
    assert_eq!(value["spec"]["replicas"], 4);
    assert_eq!(
        value["spec"]["selector"]["matchLabels"][HASH_LABEL],
        value["spec"]["template"]["metadata"]["labels"][HASH_LABEL]
    );
    assert!(
        on_success
            .as_ref()
            .is_some_and(|n| n.message.starts_with("Scaled up replica set web-") && n.message.ends_with("from 0 to 4"))
    );
}

#[test]
fn a_name_that_another_set_has_is_a_collision_that_the_status_counts() {
    let plan_of = |text: &str| {
        let world = World::of(text);
        reconcile(&world.view(), &Key::new(DEPLOYMENT, "default", "web"))
    };
    let made = |plan: &Plan| {
        let name = |action: &Action| match action {
            Action::Create { value, .. } => value["metadata"]["name"].as_str().map(str::to_owned),
            _ => None,
        };
        plan.actions.iter().find_map(name).expect("a set")
    };
    let first = made(&plan_of(&deploy(1, "")));
    let text = format!("{}\nrs {first} owner=deploy:other", deploy(1, ""));
    let plan = plan_of(&text);
    assert_ne!(made(&plan), first);
    assert!(show(&World::of(&text), &plan).contains("\"collisionCount\":1"), "{}", show(&World::of(&text), &plan));
}

#[test]
fn a_rolling_update_grows_by_the_surge_and_shrinks_by_what_is_available() {
    let old = set("web-a", 1, 4, 4, "old", 4);
    check(
        &format!("{}\n {old}\n {}", deploy(2, ""), set("web-b", 2, 0, 0, "x", 4)),
        expect![[r#"
        update ReplicaSet web-b {"spec":{"replicas":1}}
        wake in 600 s
    "#]],
    );
    check(
        &format!("{}\n {old}\n {}", deploy(2, ""), set("web-b", 2, 1, 0, "x", 4)),
        expect![[r#"
        wake in 600 s
    "#]],
    );
    check(
        &format!("{}\n {old}\n {}", deploy(2, ""), set("web-b", 2, 1, 1, "x", 4)),
        expect![[r#"
        update ReplicaSet web-a {"spec":{"replicas":3}}
        wake in 600 s
    "#]],
    );
}

#[test]
fn broken_old_pods_go_first() {
    let text = format!(
        "{}\n {}\n {}\n {}",
        deploy(3, ""),
        set("web-a", 1, 2, 2, "old", 4),
        set("web-b", 2, 2, 0, "broken", 4),
        set("web-c", 3, 1, 1, "x", 4)
    );
    check(
        &text.replace("\"maxUnavailable\":0", "\"maxUnavailable\":1"),
        expect![[r#"
        update ReplicaSet web-b {"spec":{"replicas":0}}
        wake in 600 s
    "#]],
    );
}

#[test]
fn an_earlier_template_takes_its_replica_set_with_a_new_number() {
    check(
        &format!("{}\n {}\n {}", deploy(2, ""), set("web-a", 1, 0, 0, "x", 4), set("web-b", 2, 4, 4, "new", 4)),
        expect![[r#"
            update ReplicaSet web-a {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"3","deployment.kubernetes.io/revision-history":"1"}}}
        "#]],
    );
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let deploy = r#"deploy web annotation=deployment.kubernetes.io/revision:1 {"spec":{"replicas":2,"strategy":{"type":"Recreate"}}}"#;
    check(
        &format!("{deploy}\n {}", set("web-a", 1, 2, 2, "old", 2)),
        expect![[r#"
        update ReplicaSet web-a {"metadata":{"annotations":{"deployment.kubernetes.io/max-replicas":"2"}},"spec":{"replicas":0}}
    "#]],
    );
    let old = set("web-a", 1, 0, 0, "old", 2);
    check(&format!("{deploy}\n {old}\n pod web-a-1 owner=rs:web-a ready deleting"), expect![""]);
    check(
        &format!("{deploy}\n {old}"),
        expect![[r#"
        create ReplicaSet web-6df9787b6
    "#]],
    );
}

#[test]
fn a_resize_during_a_rollout_is_shared_in_proportion() {
    let text = format!("{}\n {}\n {}", deploy(2, ""), set("web-a", 1, 3, 3, "old", 4), set("web-b", 2, 2, 2, "x", 4));
    check(
        &text.replacen("\"replicas\":4", "\"replicas\":9", 1),
        expect![[r#"
        update ReplicaSet web-b {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"9","deployment.kubernetes.io/max-replicas":"10"}},"spec":{"replicas":4}}
        update ReplicaSet web-a {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"9","deployment.kubernetes.io/max-replicas":"10"}},"spec":{"replicas":6}}
        wake in 600 s
    "#]],
    );
}

#[test]
fn a_paused_deployment_only_scales() {
    check(&format!("{}\n {}", deploy(1, ",\"paused\":true"), set("web-a", 1, 4, 4, "old", 4)), expect![""]);
}

#[test]
fn history_is_cut_when_the_rollout_is_complete() {
    check(
        &format!(
            "{}\n {}\n {}\n {}",
            deploy(3, ",\"revisionHistoryLimit\":1"),
            set("web-a", 1, 0, 0, "a", 4),
            set("web-b", 2, 0, 0, "b", 4),
            set("web-c", 3, 4, 4, "x", 4)
        ),
        expect![[r#"
            delete replicasets.apps/default/web-a
        "#]],
    );
}

#[test]
fn conditions_tell_availability_progress_and_the_deadline() {
    let conditions = |text: &str| {
        let world = World::of(text);
        let plan = reconcile(&world.view(), &Key::new(DEPLOYMENT, "default", "web"));
        let status = plan.actions.into_iter().find_map(|action| match action {
            Action::UpdateStatus { value, .. } => Some(value),
            _ => None,
        });
        let all = status.map(|s| facts::list(&s["status"]["conditions"]).to_vec()).unwrap_or_default();
        all.iter().map(|c| format!("{} {} {}\n", c["type"], c["status"], c["reason"])).collect::<String>()
    };
    let sets = |available| set("web-a", 1, 4, available, "x", 4);
    expect![[r#"
        "Available" "True" "MinimumReplicasAvailable"
        "Progressing" "True" "NewReplicaSetAvailable"
    "#]]
    .assert_eq(&conditions(&format!("{}\n {}", deploy(1, ""), sets(4))));
    expect![[r#"
        "Available" "False" "MinimumReplicasUnavailable"
        "Progressing" "True" "ReplicaSetUpdated"
    "#]]
    .assert_eq(&conditions(&format!("{}\n {}", deploy(1, ""), sets(1))));
    let stuck = deploy(1, "").replace(
        "{\"spec\"",
        r#"{"status":{"replicas":4,"updatedReplicas":4,"readyReplicas":1,"availableReplicas":1,"conditions":[{"type":"Progressing","status":"True","reason":"ReplicaSetUpdated","lastUpdateTime":"1970-01-01T00:00:00Z"}]},"spec""#,
    );
    expect![[r#"
        "Progressing" "False" "ProgressDeadlineExceeded"
        "Available" "False" "MinimumReplicasUnavailable"
    "#]]
    .assert_eq(&conditions(&format!("{stuck}\n {}", sets(1))));
}
