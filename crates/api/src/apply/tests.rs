//! Tests of apply and update tracking on whole objects.

use serde_json::json;

use super::*;
use crate::schema::{Schema, definition};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("in range")
}

fn set() -> KindSchema {
    KindSchema::Builtin(definition("io.k8s.api.apps.v1.StatefulSet").expect("a definition"))
}

fn write<'a>(manager: &'a str, second: i64) -> Write<'a> {
    Write { manager, api_version: "apps/v1", subresource: "", now: at(second), ignored: &["status"] }
}

fn web(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})
}

fn owners(object: &Value) -> Vec<(String, String, Value)> {
    let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list.iter().map(|one| (text(&one["manager"]), text(&one["operation"]), one["fieldsV1"].clone())).collect()
}

fn applied(live: Option<&Value>, spec: Value, manager: &str, second: i64, force: bool) -> Result<Value, Status> {
    apply(&set(), live, &web(spec), &write(manager, second), force)
}

#[test]
fn a_create_owns_what_it_sets() {
    let mut new = web(json!({"replicas": 1, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "x",
        "ports": [{"containerPort": 80}], "resources": {}}], "volumes": [{"name": "v", "emptyDir": {}}]}}}));
    new["metadata"]["labels"] = json!({"app": "web"});
    new["metadata"]["uid"] = json!("u");
    track_update(&set(), None, &mut new, &write("kubectl-create", 0));
    let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:replicas": {}, "f:selector": {},
        "f:serviceName": {}, "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {
        "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:name": {}, "f:ports": {".": {},
        "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}, "f:resources": {}}},
        "f:volumes": {".": {}, "k:{\"name\":\"v\"}": {".": {}, "f:emptyDir": {}, "f:name": {}}}}}}});
    assert_eq!(owners(&new), [("kubectl-create".to_owned(), "Update".to_owned(), fields)]);
    let entry = &new["metadata"]["managedFields"][0];
    assert_eq!(
        (entry["time"].as_str(), entry["fieldsType"].as_str()),
        (Some("2023-11-14T22:13:20Z"), Some("FieldsV1"))
    );
}

#[test]
fn an_update_takes_what_it_changes_and_leaves_the_rest() {
    let mut first = web(json!({"replicas": 1, "serviceName": "web"}));
    track_update(&set(), None, &mut first, &write("a", 0));
    let mut second = first.clone();
    second["spec"]["replicas"] = json!(2);
    track_update(&set(), Some(&first), &mut second, &write("b", 1));
    let update = |name: &str, fields: Value| (name.to_owned(), "Update".to_owned(), fields);
    let expected =
        [update("a", json!({"f:spec": {"f:serviceName": {}}})), update("b", json!({"f:spec": {"f:replicas": {}}}))];
    assert_eq!(owners(&second), expected);

    // Nothing changed: nothing is written, not even the time.
    let mut same = second.clone();
    track_update(&set(), Some(&second), &mut same, &write("c", 9));
    assert_eq!(same, second);
    // A client that sends no managedFields keeps those of the live object.
    let mut bare = second.clone();
    bare["metadata"]["managedFields"] = Value::Null;
    track_update(&set(), Some(&second), &mut bare, &write("c", 9));
    assert_eq!(bare, second);
    // Removing a field takes it from its owner; an owner of nothing is gone.
    let mut third = second.clone();
    third["spec"].as_object_mut().expect("a map").shift_remove("replicas");
    track_update(&set(), Some(&second), &mut third, &write("c", 9));
    assert_eq!(owners(&third), [update("a", json!({"f:spec": {"f:serviceName": {}}}))]);
}

#[test]
fn empty_managed_fields_forget_all_for_good() {
    let mut first = web(json!({"replicas": 1}));
    track_update(&set(), None, &mut first, &write("a", 0));
    for sent in [json!([]), json!([{}])] {
        let mut reset = first.clone();
        reset["metadata"]["managedFields"] = sent.clone();
        track_update(&set(), Some(&first), &mut reset, &write("c", 9));
        assert_eq!(owners(&reset), []);
        let mut later = reset.clone();
        later["spec"]["replicas"] = json!(7);
        track_update(&set(), Some(&reset), &mut later, &write("c", 10));
        assert_eq!(owners(&later), []);
        // A new object has nothing to forget.
        let mut new = web(json!({"replicas": 1}));
        new["metadata"]["managedFields"] = sent;
        track_update(&set(), None, &mut new, &write("a", 0));
        assert_eq!(new, first);
    }
}

#[test]
fn a_subresource_is_sent_managed_fields_in_vain() {
    let mut first = web(json!({"replicas": 1}));
    track_update(&set(), None, &mut first, &write("a", 0));
    let theirs = json!([{"manager": "x", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:serviceName": {}}}}]);
    for sent in [theirs, json!([]), json!([{}])] {
        let mut second = first.clone();
        second["metadata"]["managedFields"] = sent;
        let status = Write { subresource: "status", ..write("b", 9) };
        track_update(&set(), Some(&first), &mut second, &status);
        assert_eq!(second, first);
    }
}

#[test]
fn a_status_write_is_an_owner_of_its_own() {
    let mut first = web(json!({"replicas": 1}));
    track_update(&set(), None, &mut first, &write("a", 0));
    let mut second = first.clone();
    second["status"] = json!({"replicas": 1, "conditions": [{"type": "X", "status": "True"}]});
    second["spec"]["replicas"] = json!(5);
    let status = Write { subresource: "status", ignored: &["spec"], ..write("a", 1) };
    track_update(&set(), Some(&first), &mut second, &status);
    let entry = &second["metadata"]["managedFields"][1];
    assert_eq!(entry["subresource"], "status");
    let fields = json!({"f:status": {".": {}, "f:conditions": {".": {}, "k:{\"type\":\"X\"}": {".": {}, "f:status": {}, "f:type": {}}}, "f:replicas": {}}});
    assert_eq!(entry["fieldsV1"], fields);
    assert_eq!(second["metadata"]["managedFields"][0], first["metadata"]["managedFields"][0]);
}

#[test]
fn applying_makes_owns_and_removes() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}]}});
    let first = applied(None, json!({"replicas": 1, "template": template}), "me", 0, false).expect("creates");
    let fields = json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {},
        "f:env": {"k:{\"name\":\"X\"}": {".": {}, "f:name": {}, "f:value": {}}}, "f:image": {}, "f:name": {}}}}}}});
    assert_eq!(owners(&first), [("me".to_owned(), "Apply".to_owned(), fields)]);

    // The same again changes nothing.
    let same = applied(Some(&first), json!({"replicas": 1, "template": template}), "me", 5, false).expect("applies");
    assert_eq!(same, first);

    // What is left out is removed, also elements of lists; defaults that others filled in below it go with it.
    let mut defaulted = first.clone();
    defaulted["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    let other = json!({"spec": {"containers": [{"name": "b", "image": "2"}]}});
    let second = applied(Some(&defaulted), json!({"template": other}), "me", 6, false).expect("applies");
    assert_eq!(second["spec"], json!({"template": {"spec": {"containers": [{"name": "b", "image": "2"}]}}}));
}

#[test]
fn the_last_label_takes_nothing_else_of_the_metadata_with_it() {
    let mut config = web(json!({"replicas": 1}));
    config["metadata"]["labels"] = json!({"a": "b"});
    let mut live = apply(&set(), None, &config, &write("me", 0), false).expect("creates");
    live["metadata"]["uid"] = json!("u");
    live["metadata"]["creationTimestamp"] = json!("2024-01-01T00:00:00Z");
    let next = applied(Some(&live), json!({"replicas": 1}), "me", 1, false).expect("applies");
    let mut metadata = next["metadata"].clone();
    metadata.as_object_mut().expect("a map").shift_remove("managedFields");
    let expected =
        json!({"name": "web", "namespace": "default", "uid": "u", "creationTimestamp": "2024-01-01T00:00:00Z"});
    assert_eq!(metadata, expected);
}

#[test]
fn conflicts_force_and_shared_ownership() {
    let mut live = web(json!({"replicas": 1, "serviceName": "s"}));
    track_update(&set(), None, &mut live, &write("kubectl-client-side-apply", 0));
    let error = applied(Some(&live), json!({"replicas": 3}), "me", 1, false).expect_err("a conflict");
    assert_eq!((error.code, &*error.reason), (409, "Conflict"));
    let message =
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas";
    assert_eq!(error.message, message);
    let cause = &error.details.as_ref().expect("details").causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("FieldManagerConflict", ".spec.replicas"));
    assert_eq!(cause.message, "conflict with \"kubectl-client-side-apply\" using apps/v1");

    // The same value is shared, and stays when one of the two lets go of it.
    let shared = applied(Some(&live), json!({"replicas": 1}), "me", 1, false).expect("shares");
    assert_eq!(owners(&shared).len(), 2);
    let left = applied(Some(&shared), json!({"minReadySeconds": 1}), "me", 2, false).expect("lets go");
    assert_eq!(left["spec"], json!({"replicas": 1, "serviceName": "s", "minReadySeconds": 1}));

    // Force takes over.
    let forced = applied(Some(&live), json!({"replicas": 3}), "me", 1, true).expect("forces");
    let expected = [
        ("me".to_owned(), "Apply".to_owned(), json!({"f:spec": {"f:replicas": {}}})),
        ("kubectl-client-side-apply".to_owned(), "Update".to_owned(), json!({"f:spec": {"f:serviceName": {}}})),
    ];
    assert_eq!(owners(&forced), expected);

    // Several fields of several managers.
    let mut both = forced.clone();
    both["spec"]["minReadySeconds"] = json!(4);
    track_update(&set(), Some(&forced), &mut both, &write("hpa", 3));
    let wanted = json!({"replicas": 9, "minReadySeconds": 9, "serviceName": "t"});
    let error = applied(Some(&both), wanted, "you", 4, false).expect_err("conflicts");
    let expected = "Apply failed with 3 conflicts: conflicts with \"hpa\" using apps/v1:\n- .spec.minReadySeconds\n\
        conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.serviceName\n\
        conflicts with \"me\":\n- .spec.replicas";
    assert_eq!(error.message, expected);
}

#[test]
fn keyed_lists_merge_and_keep_foreign_elements() {
    let containers = |list: Value| json!({"template": {"spec": {"containers": list}}});
    let live =
        applied(None, containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])), "one", 0, false)
            .expect("creates");
    let added = containers(json!([{"name": "side", "image": "s"}, {"name": "b"}]));
    let both = applied(Some(&live), added, "two", 1, false).expect("adds");
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(names(&both), ["a", "side", "b"]);
    // The first manager drops b: the second still owns its name, not its image.
    let dropped =
        applied(Some(&both), containers(json!([{"name": "a", "image": "1"}])), "one", 2, false).expect("drops");
    assert_eq!(names(&dropped), ["a", "side", "b"]);
    assert_eq!(dropped["spec"]["template"]["spec"]["containers"][2], json!({"name": "b"}));
    // Both drop it: it goes.
    let gone =
        applied(Some(&dropped), containers(json!([{"name": "side", "image": "s"}])), "two", 3, false).expect("drops");
    assert_eq!(names(&gone), ["a", "side"]);
}

#[test]
fn sets_and_atomic_values() {
    let live = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web", "finalizers": ["a"]},
        "spec": {"selector": {"matchLabels": {"app": "web"}}}});
    let first = apply(&set(), None, &live, &write("one", 0), false).expect("creates");
    let mut config = live.clone();
    config["metadata"]["finalizers"] = json!(["b"]);
    let second = apply(&set(), Some(&first), &config, &write("two", 1), false).expect("adds to the set");
    assert_eq!(second["metadata"]["finalizers"], json!(["a", "b"]));
    config["spec"]["selector"] = json!({"matchLabels": {"x": "y"}});
    let error = apply(&set(), Some(&second), &config, &write("two", 2), false).expect_err("the selector is one value");
    assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"one\": .spec.selector");
    config["spec"].as_object_mut().expect("a map").clear();
    config["metadata"]["finalizers"] = json!(["c"]);
    let third = apply(&set(), Some(&second), &config, &write("two", 3), false).expect("applies");
    assert_eq!(third["metadata"]["finalizers"], json!(["a", "c"]));
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let spec = json!({"replicas": 1, "serviceName": "s"});
    let mut live = web(spec.clone());
    let annotation = format!("{}\n", web(spec));
    live["metadata"]["annotations"] = json!({LAST_APPLIED: annotation});
    track_update(&set(), None, &mut live, &write("kubectl-client-side-apply", 0));
    let taken =
        applied(Some(&live), json!({"replicas": 2, "serviceName": "s"}), "kubectl", 1, false).expect("no conflict");
    assert_eq!(taken["spec"]["replicas"], 2);
    let stored = taken["metadata"]["annotations"][LAST_APPLIED].as_str().expect("the annotation");
    assert!(stored.contains("\"replicas\":2"), "{stored}");
    // It keeps what the user wrote, not what it means.
    let size = |text: &str| json!({"volumeClaimTemplates": [{"spec": {"resources": {"requests": {"storage": text}}}}], "serviceName": "s"});
    let sized = applied(Some(&taken), size("1024Mi"), "kubectl", 2, false).expect("applies");
    let stored = sized["metadata"]["annotations"][LAST_APPLIED].as_str().expect("the annotation");
    assert!(stored.contains("1024Mi"), "{stored}");
    assert_eq!(sized["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"], "1Gi");
    // But not what somebody else changed since.
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(5);
    track_update(&set(), Some(&live), &mut scaled, &write("hpa", 1));
    let error =
        applied(Some(&scaled), json!({"replicas": 2, "serviceName": "s"}), "kubectl", 2, false).expect_err("conflict");
    assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"hpa\" using apps/v1: .spec.replicas");
}

#[test]
fn objects_without_owners_get_one_before_the_first_apply() {
    let live = web(json!({"replicas": 1}));
    let error = applied(Some(&live), json!({"replicas": 2}), "me", 1, false).expect_err("a conflict");
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas"
    );
    let shared = applied(Some(&live), json!({"replicas": 1}), "me", 1, false).expect("applies");
    assert_eq!(owners(&shared).len(), 2);
}

#[test]
fn a_configuration_must_fit_the_schema() {
    let message =
        |spec: Value| applied(None, spec, "me", 0, false).map_err(|error| (error.code, error.message)).map(|_| ());
    let prefix = "failed to create typed patch object (default/web; apps/v1, Kind=StatefulSet): ";
    assert_eq!(message(json!({"foo": 1})), Err((500, format!("{prefix}.spec.foo: field not declared in schema"))));
    assert_eq!(
        message(json!({"replicas": "x"})),
        Err((500, format!("{prefix}.spec.replicas: expected numeric (int or float), got \"x\"")))
    );
    let twice = json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}});
    assert_eq!(
        message(twice),
        Err((500, format!("{prefix}.spec.template.spec.containers: duplicate entries for key [name=\"a\"]")))
    );
    let mut config = web(json!({}));
    config["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    let error = apply(&set(), None, &config, &write("me", 0), false).expect_err("refused");
    assert_eq!((error.code, error.message.as_str()), (400, "metadata.managedFields must be nil"));
}

#[test]
fn custom_resources_follow_their_schema() {
    let open_api = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "hosts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {"type": "object",
            "properties": {"n": {"type": "string"}, "v": {"type": "integer"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "one": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}}}}}});
    let schema = KindSchema::Custom(std::sync::Arc::new(Schema::from_crd(&open_api, false).expect("a schema")));
    let config = |spec: Value| json!({"apiVersion": "x.io/v1", "kind": "X", "metadata": {"name": "a"}, "spec": spec});
    let writer = |manager: &'static str| Write { api_version: "x.io/v1", ..write(manager, 0) };
    let first = json!({"hosts": [{"n": "a", "v": 1}], "free": {"k": {"l": [1]}}, "one": {"p": "q"}});
    let live = apply(&schema, None, &config(first), &writer("one"), false).expect("creates");
    let fields = json!({"f:spec": {"f:free": {"f:k": {".": {}, "f:l": {}}}, "f:hosts": {"k:{\"n\":\"a\"}": {".": {}, "f:n": {}, "f:v": {}}}, "f:one": {}}});
    assert_eq!(owners(&live)[0].2, fields);
    let second = json!({"hosts": [{"n": "b", "v": 2}], "free": {"k": {"m": 1}}});
    let both = apply(&schema, Some(&live), &config(second), &writer("two"), false).expect("adds");
    assert_eq!(
        both["spec"],
        json!({"hosts": [{"n": "a", "v": 1}, {"n": "b", "v": 2}], "free": {"k": {"l": [1], "m": 1}}, "one": {"p": "q"}})
    );
}

mod random {
    use proptest::prelude::*;

    use super::*;

    /// A configuration from a small world, so that managers meet.
    fn configs() -> impl Strategy<Value = Value> {
        let small = || prop::option::of(0i64..3);
        let labels = prop::collection::btree_map("[ab]", "[xy]", 0..3);
        let containers = prop::collection::btree_map("[ab]", (prop::option::of("[12]"), small()), 0..3);
        let finalizers = prop::collection::btree_set("[fg]", 0..3);
        (small(), small(), labels, containers, finalizers).prop_map(
            |(replicas, ready, labels, containers, finalizers)| {
                let containers: Vec<Value> = containers
                    .into_iter()
                    .map(|(name, (image, port))| {
                        let mut one = json!({"name": name});
                        if let Some(image) = image {
                            one["image"] = json!(image);
                        }
                        if let Some(port) = port {
                            one["ports"] = json!([{"containerPort": port + 1, "protocol": "TCP"}]);
                        }
                        one
                    })
                    .collect();
                let mut config = web(json!({}));
                if let Some(replicas) = replicas {
                    config["spec"]["replicas"] = json!(replicas);
                }
                if let Some(ready) = ready {
                    config["spec"]["minReadySeconds"] = json!(ready);
                }
                if !labels.is_empty() {
                    config["metadata"]["labels"] = json!(labels);
                }
                if !finalizers.is_empty() {
                    config["metadata"]["finalizers"] = json!(finalizers);
                }
                if !containers.is_empty() {
                    config["spec"]["template"] = json!({"spec": {"containers": containers}});
                }
                config
            },
        )
    }

    fn drop_empty(value: &mut Value) {
        match value {
            Value::Object(map) => map.retain(|_, child| {
                drop_empty(child);
                !child.as_object().is_some_and(Map::is_empty)
            }),
            Value::Array(list) => list.iter_mut().for_each(drop_empty),
            _ => {}
        }
    }

    /// All fields of an object that somebody should own; a map that was emptied need not have an owner.
    fn ownable(object: &Value) -> FieldSet {
        let mut object = object.clone();
        drop_empty(&mut object);
        all_fields(&object)
    }

    fn all_fields(object: &Value) -> FieldSet {
        let mut object = object.clone();
        take_managed_fields(&mut object);
        let mut fields = typed::fields_of(&set(), &object);
        write("x", 0).strip(&mut fields);
        fields
    }

    fn owned(object: &Value) -> FieldSet {
        let mut all = FieldSet::default();
        for (_, _, fields) in owners(object) {
            all.union(&FieldSet::from_value(fields));
        }
        all
    }

    proptest! {
        /// Two appliers and an updater take turns. After every apply the configuration is in the object, applying it again
        /// changes nothing, and the owned fields are exactly the fields that are there.
        #[test]
        fn turns(turns in prop::collection::vec((0u8..3, configs()), 1..6)) {
            let mut live: Option<Value> = None;
            for (second, (who, config)) in turns.into_iter().enumerate() {
                let name = ["one", "two", "updater"][who as usize];
                let now = write(name, second as i64);
                let next = if who == 2 {
                    let mut new = config.clone();
                    if let Some(list) = live.as_ref().and_then(managed_fields) {
                        new["metadata"]["managedFields"] = list.clone();
                    }
                    track_update(&set(), live.as_ref(), &mut new, &now);
                    new
                } else {
                    let new = apply(&set(), live.as_ref(), &config, &now, true).expect("force knows no conflict");
                    let again = apply(&set(), Some(&new), &config, &write(name, 99), false).expect("no conflict with oneself");
                    prop_assert_eq!(&again, &new);
                    let mut mine = ownable(&config);
                    mine.subtract(&typed::with_named_fields(&set(), &all_fields(&new)));
                    prop_assert!(mine.is_empty(), "applied but not there: {:?} in {}", mine.paths(), new);
                    let merged = typed::merge(&set(), new.clone(), &config);
                    prop_assert_eq!(&merged, &new, "the configuration is in the object");
                    new
                };
                // Every field has an owner, and nobody owns what is not there.
                let (there, owned) = (ownable(&next), owned(&next));
                let mut orphans = there.clone();
                orphans.subtract(&owned);
                // Updates of an object without owners leave it without.
                if live.as_ref().and_then(managed_fields).is_some() || who != 2 {
                    prop_assert!(orphans.is_empty(), "no owner: {:?} in {next}", orphans.paths());
                }
                let mut ghosts = owned.clone();
                ghosts.subtract(&typed::with_named_fields(&set(), &all_fields(&next)));
                prop_assert!(ghosts.is_empty(), "not there: {:?} in {next}", ghosts.paths());
                live = Some(next);
            }
        }
    }
}

#[test]
fn a_null_is_owned_and_clears_what_is_owned_as_one() {
    let template = json!({"metadata": {"creationTimestamp": null, "labels": {"a": "b"}}});
    let first =
        applied(None, json!({"replicas": 3, "serviceName": "s", "template": template}), "a", 0, false).expect("made");
    assert!(first["spec"]["template"]["metadata"].get("creationTimestamp").is_none());
    let labels = json!({"f:creationTimestamp": {}, "f:labels": {"f:a": {}}});
    assert_eq!(owners(&first)[0].2["f:spec"]["f:template"]["f:metadata"], labels);
    let spec = json!({"replicas": null, "serviceName": "s", "template": {"metadata": null}});
    let cleared = applied(Some(&first), spec.clone(), "a", 1, false).expect("applied");
    assert!(cleared["spec"].get("replicas").is_none(), "{cleared}");
    assert_eq!(
        owners(&cleared)[0].2["f:spec"],
        json!({"f:replicas": {}, "f:serviceName": {}, "f:template": {"f:metadata": {}}})
    );
    // Said again it changes nothing, not even the time.
    assert_eq!(applied(Some(&cleared), spec, "a", 9, false).expect("applied"), cleared);
}

#[test]
fn a_null_of_a_map_or_list_leaves_what_others_have_in_it() {
    let live =
        applied(None, json!({"selector": {"matchLabels": {"a": "b"}}, "replicas": 2}), "a", 0, false).expect("made");
    let merged =
        applied(Some(&live), json!({"template": {"metadata": {"labels": null}}}), "b", 1, false).expect("merged");
    assert_eq!(merged["spec"]["replicas"], 2);
    let labelled = json!({"template": {"metadata": {"labels": {"x": "y"}}}});
    let live = applied(Some(&live), labelled, "a", 1, false).expect("applied");
    let merged =
        applied(Some(&live), json!({"template": {"metadata": {"labels": null}}}), "b", 2, false).expect("merged");
    assert_eq!(merged["spec"]["template"]["metadata"]["labels"], json!({"x": "y"}));
    // What another owns as one is not cleared without force.
    let refused =
        applied(Some(&live), json!({"template": {"spec": {"hostname": "h"}}}), "a", 2, false).expect("applied");
    let conflict = applied(Some(&refused), json!({"template": {"spec": {"hostname": null}}}), "b", 3, false);
    assert_eq!(
        conflict.expect_err("refused").message,
        "Apply failed with 1 conflict: conflict with \"a\": .spec.template.spec.hostname"
    );
    let forced =
        applied(Some(&refused), json!({"template": {"spec": {"hostname": null}}}), "b", 3, true).expect("forced");
    assert!(forced.pointer("/spec/template/spec/hostname").is_none(), "{forced}");
}
