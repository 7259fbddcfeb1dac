//! Jobs in a few lines each.

use expect_test::{Expect, expect};
use serde_json::json;
use stead_api::Key;

use super::*;
use crate::fixture::{World, show};

fn plan_of(text: &str) -> String {
    let world = World::of(text);
    show(&world, &reconcile(&world.view(), &Key::new(JOB, "default", "sum")))
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(&plan_of(text));
}

const POD_ENDED: &str = "owner=job:sum finalizer=batch.kubernetes.io/job-tracking label=job-name:sum created=500";

#[test]
fn a_new_job_starts_its_pods() {
    check(
        r#"job sum {"spec":{"completions":5,"parallelism":2}}"#,
        expect![[r#"
            status Job sum {"ready":0,"terminating":0,"uncountedTerminatedPods":{},"startTime":"1970-01-12T13:46:40Z"}
            create Pod sum-
            create Pod sum-
        "#]],
    );
}

#[test]
fn an_end_is_counted_once_and_then_let_go() {
    let started = r#"{"spec":{"completions":2},"status":{"startTime":"1970-01-12T13:00:00Z","active":1,"ready":0,"terminating":0,"uncountedTerminatedPods":{}}}"#;
    check(
        &format!("job sum {started}\n pod sum-a {POD_ENDED} phase=Succeeded"),
        expect![[r#"
            status Job sum {"uncountedTerminatedPods":{"succeeded":["pod-sum-a"]},"succeeded":1,"active":null}
            update Pod sum-a {"metadata":{"finalizers":[]}}
            create Pod sum-
        "#]],
    );
    // The write was made, but the finalizer is still there: not counted again.
    let counted = r#"{"spec":{"completions":2},"status":{"startTime":"1970-01-12T13:00:00Z","succeeded":1,"ready":0,"terminating":0,"uncountedTerminatedPods":{"succeeded":["pod-sum-a"]}}}"#;
    check(
        &format!(
            "job sum {counted}\n pod sum-a {POD_ENDED} phase=Succeeded\n pod sum-b owner=job:sum label=job-name:sum"
        ),
        expect![[r#"
            status Job sum {"active":1}
            update Pod sum-a {"metadata":{"finalizers":[]}}
        "#]],
    );
}

#[test]
fn a_job_completes_when_everything_is_counted() {
    let done = r#"{"status":{"startTime":"1970-01-12T13:00:00Z","succeeded":1,"ready":0,"terminating":0,"uncountedTerminatedPods":{}}}"#;
    let text = plan_of(&format!("job sum {done}\n pod sum-a owner=job:sum phase=Succeeded"));
    assert!(text.contains("\"type\":\"SuccessCriteriaMet\"") && text.contains("\"type\":\"Complete\""), "{text}");
    assert!(
        text.contains("\"completionTime\":\"1970-01-12T13:46:40Z\"") && text.contains("Completed: Job completed"),
        "{text}"
    );
}

#[test]
fn too_many_failures_end_it_and_stop_what_runs() {
    let failing =
        r#"{"spec":{"parallelism":2,"completions":2,"backoffLimit":0},"status":{"startTime":"1970-01-12T13:00:00Z"}}"#;
    let text = plan_of(&format!(
        "job sum {failing}\n pod sum-a {POD_ENDED} phase=Failed\n pod sum-b owner=job:sum finalizer=batch.kubernetes.io/job-tracking running"
    ));
    assert!(text.contains("\"FailureTarget\"") && text.contains("\"reason\":\"BackoffLimitExceeded\""), "{text}");
    assert!(text.contains("delete pods/default/sum-b") && !text.contains("\"type\":\"Failed\""), "{text}");
}

#[test]
fn a_failed_pod_is_replaced_after_a_while() {
    let failing = r#"{"status":{"startTime":"1970-01-12T13:00:00Z","failed":2,"ready":0,"terminating":0,"uncountedTerminatedPods":{}}}"#;
    let ended = |at: &str| {
        json!({"status": {"phase": "Failed", "containerStatuses": [
        {"name": "main", "state": {"terminated": {"exitCode": 1, "finishedAt": at}}}]}})
    };
    let pods = format!(
        "pod sum-a owner=job:sum {}\n pod sum-b owner=job:sum {}",
        ended("1970-01-12T13:46:00Z"),
        ended("1970-01-12T13:46:35Z")
    );
    // Two failures in a row: 20 s after the second one, which ended 5 s ago.
    check(
        &format!("job sum {failing}\n {pods}"),
        expect![[r#"
            wake in 15 s
        "#]],
    );
}

#[test]
fn parts_are_numbered_and_done_once() {
    let job = r#"{"spec":{"completionMode":"Indexed","completions":3,"parallelism":3},"status":{"startTime":"1970-01-12T13:00:00Z","completedIndexes":"0","succeeded":1}}"#;
    let annotated = "annotation=batch.kubernetes.io/job-completion-index:1 owner=job:sum finalizer=batch.kubernetes.io/job-tracking";
    check(
        &format!("job sum {job}\n pod sum-1-x {annotated} running"),
        expect![[r#"
            status Job sum {"active":1,"ready":0,"terminating":0,"uncountedTerminatedPods":{}}
            create Pod sum-2-
        "#]],
    );
}

#[test]
fn rules_judge_failures() {
    let rules = |action: &str| {
        json!({"spec": {"podFailurePolicy": {"rules": [
            {"action": action, "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}}]}},
            "status": {"startTime": "1970-01-12T13:00:00Z"}})
    };
    let pod = json!({"status": {"phase": "Failed", "containerStatuses": [
        {"name": "main", "state": {"terminated": {"exitCode": 42, "finishedAt": "1970-01-12T13:00:00Z"}}}]}});
    let text = plan_of(&format!("job sum {}\n pod sum-a {POD_ENDED} {pod}", rules("FailJob")));
    assert!(
        text.contains("Container main for pod default/sum-a failed with exit code 42 matching FailJob rule at index 0"),
        "{text}"
    );
    let text = plan_of(&format!("job sum {}\n pod sum-a {POD_ENDED} {pod}", rules("Ignore")));
    assert!(!text.contains("\"failed\":1") && text.contains("update Pod sum-a"), "{text}");
}

#[test]
fn a_suspended_job_gives_up_its_pods_and_a_resumed_one_starts_anew() {
    let text = plan_of(&format!(
        "job sum {}\n pod sum-a owner=job:sum finalizer=batch.kubernetes.io/job-tracking running",
        r#"{"spec":{"suspend":true},"status":{"startTime":"1970-01-12T13:00:00Z"}}"#
    ));
    assert!(text.contains("\"reason\":\"JobSuspended\"") && text.contains("\"startTime\":null"), "{text}");
    assert!(text.contains("update Pod sum-a {\"metadata\":{\"finalizers\":[]}}\ndelete pods/default/sum-a"), "{text}");
    let text = plan_of(r#"job sum {"status":{"conditions":[{"type":"Suspended","status":"True"}]}}"#);
    assert!(text.contains("\"reason\":\"JobResumed\"") && text.contains("create Pod sum-"), "{text}");
}

#[test]
fn a_deadline_ends_it() {
    let late = r#"{"spec":{"activeDeadlineSeconds":60},"status":{"startTime":"1970-01-12T13:00:00Z"}}"#;
    assert!(plan_of(&format!("job sum {late}")).contains("DeadlineExceeded"));
    let soon = r#"{"spec":{"activeDeadlineSeconds":60},"status":{"startTime":"1970-01-12T13:46:00Z"}}"#;
    assert!(plan_of(&format!("job sum {soon}")).contains("wake in 20 s"));
}

#[test]
fn pods_of_a_job_that_is_gone_are_let_go() {
    check(
        "pod sum-a owner=job:sum finalizer=batch.kubernetes.io/job-tracking label=batch.kubernetes.io/job-name:sum phase=Failed",
        expect![[r#"
            update Pod sum-a {"metadata":{"finalizers":[]}}
        "#]],
    );
}

#[test]
fn enough_successes_end_it_early() {
    let job = r#"{"spec":{"completionMode":"Indexed","completions":3,"parallelism":3,"successPolicy":{"rules":[{"succeededIndexes":"0,2","succeededCount":1}]}},"status":{"startTime":"1970-01-12T13:00:00Z","completedIndexes":"2"}}"#;
    let text = plan_of(&format!("job sum {job}"));
    assert!(text.contains("\"reason\":\"SuccessPolicy\",\"message\":\"Matched rules at index 0\""), "{text}");
}

#[test]
fn a_finished_job_goes_when_its_time_is_over() {
    let ended = r#"{"spec":{"ttlSecondsAfterFinished":60},"status":{"conditions":[{"type":"Complete","status":"True","lastTransitionTime":"1970-01-12T13:46:00Z"}]}}"#;
    let world = World::of(&format!("job sum {ended}"));
    let plan = (ttl::CONTROLLER.reconcile)(&world.view(), &Key::new(JOB, "default", "sum"));
    assert_eq!(show(&world, &plan), "wake in 20 s\n");
}

#[test]
fn orphans_are_taken_back_and_strangers_let_go() {
    let job = r#"job sum {"status":{"startTime":"1970-01-12T13:00:00Z"}}"#;
    let text =
        plan_of(&format!("{job}\n pod sum-a label=job-name:sum running\n pod other label=job-name:other running"));
    assert!(text.contains("update Pod sum-a") && !text.contains("other"), "{text}");
    assert!(text.contains("batch.kubernetes.io/job-tracking") && text.contains("\"controller\":true"), "{text}");
    let text = plan_of(&format!("{job}\n pod sum-a owner=job:sum label=job-name:another running"));
    assert!(
        text.contains("update Pod sum-a {\"metadata\":{\"ownerReferences\":[]") && !text.contains("create"),
        "{text}"
    );
}
