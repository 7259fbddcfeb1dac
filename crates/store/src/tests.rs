//! The store's invariants on worked examples and against a plain map.

use std::collections::BTreeMap;

use serde_json::json;
use stead_api::object::Fields;
use stead_api::{Key, Object};

use crate::durable::{Record, key_bytes, key_of_bytes, restore};
use crate::history::{BYTES_MAX, Change, EVENTS_PER_KIND_MAX};
use crate::{Snapshot, Store};

const FIELDS: Fields =
    Fields { selectable: &["spec.nodeName"], indexed: &["spec.nodeName"], labels_indexed: true, ..Fields::NONE };

fn pod(store: &Store, name: &str, node: &str, owner: &str) -> Object {
    let mut value = json!({"metadata": {"name": name, "namespace": "d", "labels": {"app": name},
        "resourceVersion": store.next_revision().to_string()}, "spec": {"nodeName": node}});
    if !owner.is_empty() {
        value["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": owner}]);
    }
    Object::of_value(Key::new("pods", "d", name), &value, &FIELDS).unwrap()
}

fn put(store: &mut Store, name: &str, node: &str, owner: &str) {
    let object = pod(store, name, node, owner);
    store.put(object);
}

fn remove(store: &mut Store, name: &str) {
    let object = pod(store, name, "", "");
    store.remove(object);
}

fn names<'a>(objects: impl Iterator<Item = &'a std::sync::Arc<Object>>) -> Vec<String> {
    objects.map(|o| o.key.name.to_string()).collect()
}

#[test]
fn five_writes_a_watch_and_the_past() {
    let mut store = Store::default();
    put(&mut store, "a", "", "o1");
    put(&mut store, "b", "n1", "o1");
    let early = store.head().clone();
    put(&mut store, "a", "n1", "o2");
    remove(&mut store, "b");
    put(&mut store, "c", "", "");

    let head = store.head();
    let seen: Vec<_> = head.history.since("pods", 1).unwrap().map(|e| (e.revision(), e.change())).collect();
    assert_eq!(seen, [(2, Change::Added), (3, Change::Modified), (4, Change::Deleted), (5, Change::Added)]);
    assert_eq!(names(head.snapshot.list("pods", "")), ["a", "c"]);
    assert_eq!(names(head.snapshot.indexed("pods", "spec.nodeName=n1")), ["a"]);
    assert_eq!(names(head.snapshot.indexed("pods", "label:app=b")), [""; 0]);
    assert_eq!((names(head.snapshot.owned("o1")), names(head.snapshot.owned("o2"))), (vec![], vec!["a".into()]));
    assert_eq!(head.snapshot.count("pods"), 2);

    let then = head.history.undo("pods", 2).unwrap();
    let back: Vec<_> = then.iter().map(|(k, v)| (k.name.to_string(), v.as_ref().map(|o| o.revision()))).collect();
    assert_eq!(back, [("a".into(), Some(1)), ("b".into(), Some(2)), ("c".into(), None)]);
    assert_eq!(names(early.snapshot.list("pods", "d")), ["a", "b"], "a held snapshot does not move");
}

#[test]
fn lists_begin_and_end_with_their_namespace_wherever_they_are_told_to_go_on() {
    let mut store = Store::default();
    let spaces = ["a", "a-b", "a0", "b"];
    for (kind, space) in
        [("nodes", ""), ("pods", "a"), ("pods", "a-b"), ("pods", "a0"), ("pods", "b"), ("services", "a")]
    {
        for name in ["x", "y"] {
            let value = json!({"metadata": {"name": name, "resourceVersion": store.next_revision().to_string()}});
            store.put(Object::of_value(Key::new(kind, space, name), &value, &Fields::default()).unwrap());
        }
    }
    let snapshot = store.snapshot();
    assert_eq!(snapshot.list("pods", "").count(), 8);
    for space in spaces {
        let keys = |after: Option<&Key>| -> Vec<String> {
            snapshot.list_after("pods", space, after).map(|o| format!("{}/{}", o.key.namespace, o.key.name)).collect()
        };
        assert_eq!(keys(None), [format!("{space}/x"), format!("{space}/y")]);
        assert_eq!(keys(Some(&Key::new("pods", space, "x"))), [format!("{space}/y")]);
        assert_eq!(keys(Some(&Key::new("pods", "zz", "x"))), [""; 0]);
        assert_eq!(keys(Some(&Key::new("pods", "", "x"))).len(), 2, "nothing of another namespace");
    }
}

#[test]
fn a_reader_goes_on_from_any_place() {
    let mut store = Store::default();
    for i in 0..300 {
        put(&mut store, &format!("p{}", i % 7), "", "");
    }
    for after in 0..=300 {
        let seen: Vec<_> = store.head().history.since("pods", after).unwrap().map(|e| e.revision()).collect();
        assert_eq!(seen, (after + 1..=300).collect::<Vec<_>>());
    }
}

#[test]
fn bounded_the_history_of_large_objects_is_short_and_costs_other_kinds_nothing() {
    let mut store = Store::default();
    put(&mut store, "a", "", "");
    put(&mut store, "b", "", "");
    for _ in 0..40 {
        let value = json!({"metadata": {"name": "big", "resourceVersion": store.next_revision().to_string()},
            "data": {"text": "x".repeat(1 << 20)}});
        store.put(Object::of_value(Key::new("configmaps", "d", "big"), &value, &FIELDS).unwrap());
    }
    let kept = |kind| {
        let history = &store.head().history;
        history.since(kind, history.oldest(kind)).unwrap().count()
    };
    // A version, its frame and the version before are three megabytes.
    assert_eq!((kept("configmaps"), kept("pods")), (BYTES_MAX / (3 << 20), 2));
}

#[test]
fn reliable_a_place_that_was_dropped_is_expired() {
    let mut store = Store::default();
    for i in 0..EVENTS_PER_KIND_MAX + 10 {
        put(&mut store, if i % 2 == 0 { "a" } else { "b" }, "", "");
    }
    let history = &store.head().history;
    assert_eq!(history.oldest("pods"), 10);
    assert!(history.since("pods", 9).is_err());
    assert_eq!(history.since("pods", 10).unwrap().next().unwrap().revision(), 11);
    assert_eq!(history.since("nodes", 0).unwrap().count(), 0);
}

#[test]
fn fold_restoring_gives_the_same_snapshot() {
    let mut store = Store::default();
    let mut disk: BTreeMap<Vec<u8>, Record> = BTreeMap::new();
    let mut random = 7u64;
    for _ in 0..2_000 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let name = format!("p{}", (random >> 33) % 40);
        match (random >> 20) % 4 {
            0 if store.snapshot().find("pods", "d", &name).is_some() => remove(&mut store, &name),
            n => put(&mut store, &name, ["", "n1", "n2"][n as usize % 3], ["", "o1"][n as usize % 2]),
        }
        for (key, json) in store.take_writes() {
            match json {
                Some(json) => drop(disk.insert(key_bytes(&key), Record { key, json })),
                None => drop(disk.remove(&key_bytes(&key))),
            }
        }
    }
    let revision = store.snapshot().revision();
    let read = || -> Snapshot { restore(revision, disk.values().cloned(), |_| FIELDS).unwrap() };
    assert!(read() == *store.snapshot());
    assert!(read() == read());
    assert!(restore(revision - 2_000, disk.values().cloned(), |_| FIELDS).is_err());
}

#[test]
fn keys_survive_their_bytes_and_rubbish_is_refused() {
    let key = Key::new("statefulsets.apps", "", "web");
    assert_eq!(key_of_bytes(&key_bytes(&key)).unwrap(), key);
    for rubbish in [&b"a"[..], b"a\0b", b"a\0b\0c\0d", b"\0\0\0", b"\xff\0b\0c"] {
        assert!(key_of_bytes(rubbish).is_err());
    }
}
