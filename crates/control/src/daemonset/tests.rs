//! DaemonSets in a few lines each.

use expect_test::{Expect, expect};
use stead_api::Key;

use super::*;
use crate::fixture::{World, show};
use crate::plan::Action;

fn check(text: &str, expected: Expect) {
    let world = World::of(text);
    expected.assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(DAEMON_SET, "default", "log"))));
}

/// What the template of the fixture's set is hashed to, with its revision.
fn with_revision(set: &str) -> String {
    let world = World::of(set);
    let plan = reconcile(&world.view(), &Key::new(DAEMON_SET, "default", "log"));
    let made = plan.actions.iter().find_map(|action| match action {
        Action::Create { kind, value, .. } if *kind == crate::names::CONTROLLER_REVISION => Some(value.clone()),
        _ => None,
    });
    let made = made.expect("a revision");
    let more = json!({"metadata": {"labels": made["metadata"]["labels"]}, "data": made["data"], "revision": 1});
    format!("{set}\n rev {} owner=ds:log {more}", made["metadata"]["name"].as_str().unwrap_or_default())
}

fn hash(text: &str) -> String {
    text.split("rev log-").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default().to_owned()
}

#[test]
fn every_node_that_fits_gets_a_pod() {
    let set = with_revision(r#"ds log {"spec":{"template":{"spec":{"nodeSelector":{"disk":"ssd"}}}}}"#);
    check(
        &format!(
            "{set}\n node a label=disk:ssd\n node b\n node c label=disk:ssd {}",
            r#"{"spec":{"taints":[{"key":"own","effect":"NoSchedule"}]}}"#
        ),
        expect![[r#"
            create Pod log-
            status DaemonSet log {"currentNumberScheduled":0,"numberMisscheduled":0,"desiredNumberScheduled":1,"numberReady":0,"observedGeneration":1,"numberUnavailable":1}
        "#]],
    );
}

#[test]
fn a_node_that_no_longer_fits_loses_its_pod_and_one_in_trouble_keeps_it() {
    let set = with_revision("ds log");
    let hash = hash(&set);
    let pod = format!("owner=ds:log label=controller-revision-hash:{hash} ready");
    check(
        &format!(
            "{set}\n node a {}\n node b {}\n pod log-1 {pod} node=a\n pod log-2 {pod} node=b",
            r#"{"spec":{"taints":[{"key":"mine","effect":"NoExecute"}]}}"#,
            r#"{"spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoExecute"}]}}"#
        ),
        expect![[r#"
            delete pods/default/log-1
            status DaemonSet log {"currentNumberScheduled":1,"numberMisscheduled":1,"desiredNumberScheduled":1,"numberReady":1,"observedGeneration":1,"updatedNumberScheduled":1,"numberAvailable":1}
        "#]],
    );
}

#[test]
fn a_rollout_takes_one_available_node_at_a_time_and_broken_ones_at_once() {
    let set = with_revision("ds log");
    let old = "owner=ds:log label=controller-revision-hash:old";
    let text =
        format!("{set}\n node a\n node b\n node c\n pod log-1 {old} ready node=a\n pod log-2 {old} ready node=b");
    check(
        &format!("{text}\n pod log-3 {old} ready node=c"),
        expect![[r#"
            delete pods/default/log-1
            status DaemonSet log {"currentNumberScheduled":3,"numberMisscheduled":0,"desiredNumberScheduled":3,"numberReady":3,"observedGeneration":1,"numberAvailable":3}
        "#]],
    );
    check(
        &format!("{text}\n pod log-3 {old} running node=c"),
        expect![[r#"
            delete pods/default/log-3
            status DaemonSet log {"currentNumberScheduled":3,"numberMisscheduled":0,"desiredNumberScheduled":3,"numberReady":2,"observedGeneration":1,"numberAvailable":2,"numberUnavailable":1}
        "#]],
    );
}

#[test]
fn a_surge_adds_before_it_takes() {
    let surge =
        r#"{"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1,"maxUnavailable":0}}}}"#;
    let set = with_revision(&format!("ds log {surge}"));
    let hash = hash(&set);
    let old = "owner=ds:log label=controller-revision-hash:old ready";
    let new = format!("owner=ds:log label=controller-revision-hash:{hash}");
    let text = format!("{set}\n node a\n node b\n pod log-1 {old} node=a\n pod log-2 {old} node=b");
    let world = World::of(&text);
    let plan = show(&world, &reconcile(&world.view(), &Key::new(DAEMON_SET, "default", "log")));
    assert_eq!(plan.matches("create Pod").count(), 1, "{plan}");
    assert!(!plan.contains("delete"), "{plan}");
    let world = World::of(&format!("{text}\n pod log-3 {new} ready node=a"));
    let plan = show(&world, &reconcile(&world.view(), &Key::new(DAEMON_SET, "default", "log")));
    assert!(plan.contains("delete pods/default/log-1\n"), "{plan}");
}

#[test]
fn a_failed_pod_is_told_of_and_replaced() {
    let set = with_revision("ds log");
    let hash = hash(&set);
    check(
        &format!(
            "{set}\n node a\n pod log-1 owner=ds:log label=controller-revision-hash:{hash} phase=Failed node=a created=60"
        ),
        expect![[r#"
            delete pods/default/log-1
            status DaemonSet log {"currentNumberScheduled":1,"numberMisscheduled":0,"desiredNumberScheduled":1,"numberReady":0,"observedGeneration":1,"updatedNumberScheduled":1,"numberUnavailable":1}
            event daemonsets.apps/default/log Warning FailedDaemonPod: Found failed daemon pod default/log-1 on node a, will try to kill it
        "#]],
    );
}
