//! Every history holds; and each check finds the broken rule that it is there for.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use stead_api::{Key, Object, intern};
use stead_control::Plan;
use stead_control::names::{CLAIM, CONFIG_MAP, NAMESPACE, POD, SERVICE};
use stead_store::{Event, Record, Snapshot};

use crate::checks::{self, Check, Violation, disk};
use crate::ledger::Ledger;
use crate::{Options, Sabotage, run};

#[test]
fn histories_hold_and_repeat() {
    for seed in 0..4 {
        let outcome = run(seed, &Options::default()).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(outcome.revisions > 50, "seed {seed} is too tame: {outcome:?}");
        assert_eq!(run(seed, &Options::default()).ok(), Some(outcome), "seed {seed} went two ways");
    }
}

#[test]
fn the_architecture_has_every_check_word_for_word() {
    let text = include_str!("../../../ARCHITECTURE.md");
    for check in checks::ALL {
        let row = format!("| {} | {} |", check.name, check.statement);
        assert!(text.contains(&row), "ARCHITECTURE.md lacks {row}");
    }
}

/// Among the failures of some seeds is one of this check.
fn is_caught(sabotage: Sabotage, by: &'static Check) {
    let options = Options { sabotage, ..Options::default() };
    let mut others = Vec::new();
    for seed in 0..40 {
        match run(seed, &options) {
            Err(failure) if failure.check == by => return,
            Err(failure) => others.push((seed, failure.check.name, failure.detail)),
            Ok(_) => {}
        }
    }
    panic!("{} did not notice {sabotage:?}; but {others:?}", by.name);
}

#[test]
fn at_most_one_finds_an_agent_that_confirms_early() {
    is_caught(Sabotage::ConfirmEarly, &checks::AT_MOST_ONE);
}

#[test]
fn durable_finds_a_disk_that_loses_acknowledged_batches() {
    is_caught(Sabotage::LoseLastBatch, &checks::DURABLE);
}

#[test]
fn reliable_finds_a_watch_that_drops_frames() {
    is_caught(Sabotage::DropFrame, &checks::RELIABLE);
}

#[test]
fn fold_finds_a_watch_that_drops_frames() {
    is_caught(Sabotage::DropFrame, &checks::FOLD);
}

#[test]
fn unique_finds_a_frame_told_twice() {
    is_caught(Sabotage::RepeatFrame, &checks::UNIQUE);
}

#[test]
fn ordered_finds_frames_in_another_order() {
    is_caught(Sabotage::SwapFrames, &checks::ORDERED);
}

#[test]
fn bookmarked_finds_a_promise_of_the_future() {
    is_caught(Sabotage::BookmarkEarly, &checks::BOOKMARKED);
}

#[test]
fn resumable_finds_a_cursor_that_misses_a_frame() {
    is_caught(Sabotage::ForgetFrame, &checks::RESUMABLE);
}

#[test]
fn paged_finds_a_page_that_misses_an_object() {
    is_caught(Sabotage::ForgetItem, &checks::PAGED);
}

#[test]
fn level_finds_a_server_that_does_not_begin_anew() {
    is_caught(Sabotage::Idle, &checks::LEVEL);
}

#[test]
fn kept_finds_a_thief_of_claims() {
    is_caught(Sabotage::StealClaims, &checks::KEPT);
}

#[test]
fn rollout_finds_a_thief_of_pods() {
    is_caught(Sabotage::StealPods, &checks::ROLLOUT);
}

#[test]
fn counted_finds_a_thief_of_pods() {
    is_caught(Sabotage::StealReplicas, &checks::COUNTED);
}

#[test]
fn counted_finds_a_pod_too_many() {
    is_caught(Sabotage::MakePodsTwice, &checks::COUNTED);
}

#[test]
fn owned_finds_thieves_of_sets_and_config_maps() {
    is_caught(Sabotage::StealSets, &checks::OWNED);
    is_caught(Sabotage::StealConfigs, &checks::OWNED);
}

#[test]
fn order_finds_a_pod_made_early() {
    is_caught(Sabotage::MakePodsEarly, &checks::ORDER);
}

#[test]
fn budget_finds_an_eviction_that_asked_nobody() {
    is_caught(Sabotage::EvictAnyway, &checks::BUDGET);
}

#[test]
fn stable_finds_one_who_writes_forever() {
    is_caught(Sabotage::Flutter, &checks::STABLE);
}

#[test]
fn bounded_finds_a_flood() {
    is_caught(Sabotage::Flood, &checks::BOUNDED);
}

#[test]
fn healthy_finds_a_panic() {
    is_caught(Sabotage::Panic, &checks::HEALTHY);
}

/// An object of a kind, in namespace `default` unless the kind is a namespace.
fn object(kind: &'static str, revision: u64, mut value: Value) -> Arc<Object> {
    value["metadata"]["resourceVersion"] = json!(revision.to_string());
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let key = Key::new(intern(kind), if kind == NAMESPACE { "" } else { "default" }, &name);
    let fields = stead_kinds::Registry::with([]).fields(kind);
    Arc::new(Object::of_value(key, &value, &fields).expect("an object"))
}

/// A ledger of these objects.
fn ledger(objects: &[Arc<Object>]) -> Ledger {
    let mut ledger = Ledger::default();
    for object in objects {
        ledger.write(&Event::new(None, Arc::clone(object), false));
    }
    ledger
}

fn judged(ledger: &Ledger, event: &Event) -> Option<&'static str> {
    ledger.judge(event, jiff::Timestamp::UNIX_EPOCH).err().map(|violation: Violation| violation.check.name)
}

fn living_namespace() -> Arc<Object> {
    object(NAMESPACE, 1, json!({"metadata": {"name": "default", "uid": "n"}}))
}

fn ending_namespace() -> Arc<Object> {
    object(
        NAMESPACE,
        1,
        json!({"metadata": {"name": "default", "uid": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    )
}

#[test]
fn closed_finds_what_is_made_in_a_namespace_that_goes_and_what_it_leaves() {
    let config = object(CONFIG_MAP, 2, json!({"metadata": {"name": "c", "uid": "c"}}));
    let made = Event::new(None, Arc::clone(&config), false);
    assert_eq!(judged(&ledger(&[living_namespace()]), &made), None);
    assert_eq!(judged(&ledger(&[ending_namespace()]), &made), Some("Closed"));
    assert_eq!(judged(&ledger(&[]), &made), Some("Closed"));
    let gone = Event::new(Some(ending_namespace()), ending_namespace(), true);
    assert_eq!(judged(&ledger(&[ending_namespace()]), &gone), None);
    assert_eq!(judged(&ledger(&[ending_namespace(), config]), &gone), Some("Closed"));
}

#[test]
fn final_finds_deletions_taken_back_put_off_or_done_too_soon() {
    let at = |second: u32| json!(format!("2026-01-01T00:00:{second:02}Z"));
    let pod = |uid: &str, deletion: Value| {
        object(POD, 2, json!({"metadata": {"name": "p", "uid": uid, "deletionTimestamp": deletion}}))
    };
    let ledger = ledger(&[living_namespace()]);
    let change = |old, new| judged(&ledger, &Event::new(Some(old), new, false));
    assert_eq!(change(pod("p", at(20)), pod("p", at(10))), None);
    assert_eq!(change(pod("p", at(10)), pod("p", at(20))), Some("Final"));
    assert_eq!(change(pod("p", at(10)), pod("p", Value::Null)), Some("Final"));
    assert_eq!(change(pod("p", Value::Null), pod("q", Value::Null)), Some("Final"));
    let held = object(
        POD,
        2,
        json!({"metadata": {"name": "p", "uid": "p", "deletionTimestamp": at(10), "finalizers": ["a/b"]}}),
    );
    assert_eq!(judged(&ledger, &Event::new(Some(Arc::clone(&held)), held, true)), Some("Final"));
}

#[test]
fn owned_finds_owners_that_do_not_wait() {
    let set = |finalizers: Value| {
        object(
            "statefulsets.apps",
            2,
            json!({"metadata": {"name": "web", "uid": "s", "finalizers": finalizers,
            "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        )
    };
    let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "s", "blockOwnerDeletion": true}]);
    let pod = object(POD, 3, json!({"metadata": {"name": "web-0", "uid": "p", "ownerReferences": owner}}));
    for finalizer in ["foregroundDeletion", "orphan"] {
        let ends = Event::new(Some(set(json!([finalizer]))), set(json!([])), true);
        assert_eq!(judged(&ledger(&[living_namespace(), Arc::clone(&pod)]), &ends), Some("Owned"));
        assert_eq!(judged(&ledger(&[living_namespace()]), &ends), None);
    }
}

#[test]
fn kept_finds_a_volume_of_two_claims_and_a_claim_that_changes_its_volume() {
    let claim = |name: &str, volume: &str| {
        object(CLAIM, 2, json!({"metadata": {"name": name, "uid": name}, "spec": {"volumeName": volume}}))
    };
    let ledger = ledger(&[living_namespace(), claim("a", "v")]);
    assert_eq!(judged(&ledger, &Event::new(None, claim("b", "w"), false)), None);
    assert_eq!(judged(&ledger, &Event::new(None, claim("b", "v"), false)), Some("Kept"));
    assert_eq!(judged(&ledger, &Event::new(Some(claim("a", "v")), claim("a", "w"), false)), Some("Kept"));
}

#[test]
fn address_finds_two_services_with_one() {
    let service = |name: &str| {
        object(SERVICE, 2, json!({"metadata": {"name": name, "uid": name}, "spec": {"clusterIP": "10.96.0.7"}}))
    };
    assert_eq!(judged(&ledger(&[living_namespace()]), &Event::new(None, service("a"), false)), None);
    let ledger = ledger(&[living_namespace(), service("a")]);
    assert_eq!(judged(&ledger, &Event::new(None, service("b"), false)), Some("Address"));
}

#[test]
fn rollout_finds_a_pod_taken_below_the_partition_or_while_others_are_down_or_made_at_the_wrong_revision() {
    let set = |rolling: Value| {
        let spec = json!({"replicas": 3, "serviceName": "web", "selector": {}, "template": {},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}});
        object(
            "statefulsets.apps",
            2,
            json!({"metadata": {"name": "web", "uid": "s"}, "spec": spec,
            "status": {"replicas": 3, "currentRevision": "old", "updateRevision": "new"}}),
        )
    };
    let pod = |ordinal: u32, revision: &str, is_ready: bool, is_going: bool| {
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "s", "controller": true}]);
        let mut metadata = json!({"name": format!("web-{ordinal}"), "uid": format!("p{ordinal}"), "ownerReferences": owner,
            "labels": {"controller-revision-hash": revision}});
        if is_going {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let ready = json!([{"type": "Ready", "status": if is_ready { "True" } else { "False" }}]);
        object(POD, 3, json!({"metadata": metadata, "status": {"phase": "Running", "conditions": ready}}))
    };
    let takes = |rolling: Value, others: [Arc<Object>; 2], ordinal: u32, revision: &str| {
        let old = pod(ordinal, revision, true, false);
        let mut objects = vec![living_namespace(), set(rolling), Arc::clone(&old)];
        objects.extend(others);
        judged(&ledger(&objects), &Event::new(Some(old), pod(ordinal, revision, true, true), false))
    };
    let fine = || [pod(0, "old", true, false), pod(1, "old", true, false)];
    assert_eq!(takes(json!({"partition": 0}), fine(), 2, "old"), None);
    assert_eq!(takes(json!({"partition": 0}), fine(), 2, "new"), Some("Rollout"));
    assert_eq!(takes(json!({"partition": 3}), fine(), 2, "old"), Some("Rollout"));
    let one_down = || [pod(0, "old", true, false), pod(1, "new", false, false)];
    assert_eq!(takes(json!({"partition": 0}), one_down(), 2, "old"), Some("Rollout"));
    assert_eq!(takes(json!({"partition": 0, "maxUnavailable": "67%"}), one_down(), 2, "old"), None);
    let makes = |rolling: Value, revision: &str| {
        let lower = [living_namespace(), set(rolling), pod(0, "old", true, false), pod(1, "old", true, false)];
        judged(&ledger(&lower), &Event::new(None, pod(2, revision, false, false), false))
    };
    assert_eq!(makes(json!({"partition": 3}), "old"), None);
    assert_eq!(makes(json!({"partition": 3}), "new"), Some("Rollout"));
    assert_eq!(makes(json!({"partition": 0}), "old"), Some("Rollout"));
}

#[test]
fn order_finds_a_parallel_set_that_waits() {
    let set = object(
        "statefulsets.apps",
        2,
        json!({"metadata": {"name": "web", "uid": "s"},
        "spec": {"replicas": 2, "podManagementPolicy": "Parallel", "serviceName": "", "selector": {}, "template": {}}}),
    );
    let waits = checks::order::of_parallel(&ledger(&[living_namespace(), set]));
    assert_eq!(waits.err().map(|violation| violation.check.name), Some("Order"));
}

#[test]
fn named_finds_a_plan_that_names_no_uid() {
    let mut plan = Plan::none();
    plan.update(CONFIG_MAP, json!({"metadata": {"name": "c", "resourceVersion": "7"}}));
    let plans = [("some-controller", Key::new(CONFIG_MAP, "default", "c"), plan)];
    assert_eq!(disk::named(&plans).err().map(|violation| violation.check.name), Some("Named"));
}

#[test]
fn fold_and_durable_find_a_disk_that_says_something_else() {
    let config = object(CONFIG_MAP, 7, json!({"metadata": {"name": "c", "uid": "c"}}));
    let record = Record { key: config.key.clone(), json: config.json.clone() };
    let registry = stead_kinds::Registry::with([]);
    let copy = Object::of_json(config.key.clone(), config.json.clone(), &registry.fields(CONFIG_MAP));
    let published = Snapshot::restored(7, copy.into_iter());
    let name = |verdict: checks::Verdict| verdict.err().map(|violation| violation.check.name);
    assert_eq!(name(disk::fold(&published, &registry, vec![record], 7)), None);
    assert_eq!(name(disk::fold(&published, &registry, Vec::new(), 7)), Some("Fold"));
    let stored = BTreeMap::from([(config.key.clone(), config.json.clone())]);
    assert_eq!(name(disk::durable(&published, &stored, 7)), None);
    assert_eq!(name(disk::durable(&published, &stored, 6)), Some("Durable"));
    let other = BTreeMap::from([(config.key.clone(), Bytes::from_static(b"{}"))]);
    assert_eq!(name(disk::durable(&published, &other, 7)), Some("Durable"));
    assert_eq!(name(disk::answered(br#"{"metadata":{"resourceVersion":"8"}}"#, 7)), Some("Durable"));
}
