use serde_json::{Value, json};
use stead_api::{Key, Object};

use super::*;

fn set(change: impl FnOnce(&mut Value)) -> Value {
    let mut value = json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"serviceName": "web", "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1",
                "volumeMounts": [{"name": "www", "mountPath": "/www"}]}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "www"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1024Mi"}}}}]}});
    change(&mut value);
    (STATEFULSET.hooks.default)(&mut value);
    value
}

fn errors(new: &Value, old: Option<&Value>) -> Vec<String> {
    let old = old.map(|old| {
        let mut old = old.clone();
        old["metadata"]["resourceVersion"] = "1".into();
        Object::of_value(Key::new("statefulsets.apps", "default", "web"), &old, &STATEFULSET.stored_fields())
            .expect("an object")
    });
    let checked = STATEFULSET.check(new, old.as_ref()).expect("decodes");
    checked.errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_those_kubernetes_stores_s01_s06_s07_s08_s09_s10_s13() {
    let value = set(|_| {});
    assert_eq!(errors(&value, None), Vec::<String>::new());
    let spec = &value["spec"];
    assert_eq!(
        spec["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}})
    );
    assert_eq!(spec["persistentVolumeClaimRetentionPolicy"], json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
    assert_eq!((&spec["podManagementPolicy"], &spec["revisionHistoryLimit"]), (&json!("OrderedReady"), &json!(10)));
    assert_eq!(
        spec["volumeClaimTemplates"],
        json!([{"metadata": {"name": "www"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem"},
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": "Pending"}}])
    );
    assert_eq!(spec["template"]["spec"].get("enableServiceLinks"), None, "only pods have it");
    let on_delete = set(|value| value["spec"]["updateStrategy"] = json!({"type": "OnDelete"}));
    assert_eq!(on_delete["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
}

#[test]
fn mistakes_have_kubernetes_texts_s01_s02_s03_s05_s06_s08_s12_s13_s14() {
    let bad = set(|value| {
        let spec = &mut value["spec"];
        spec["replicas"] = json!(-1);
        spec["serviceName"] = json!("Web");
        spec["podManagementPolicy"] = json!("Random");
        spec["template"]["metadata"]["labels"] = json!({"app": "other"});
        spec["template"]["spec"]["restartPolicy"] = json!("Never");
        spec["template"]["spec"]["activeDeadlineSeconds"] = json!(5);
        spec["updateStrategy"] = json!({"rollingUpdate": {"partition": -1, "maxUnavailable": "0%"}});
        spec["ordinals"] = json!({"start": -1});
        spec["persistentVolumeClaimRetentionPolicy"] = json!({"whenDeleted": "Keep"});
        spec["volumeClaimTemplates"][0]["spec"]["resources"] = json!({});
    });
    let found = errors(&bad, None);
    for text in [
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        "spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'",
        "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`",
        "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
        "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
        "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": cannot be 0",
        "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"Keep\": supported values: \"Delete\", \"Retain\"",
        "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
    ] {
        assert!(found.iter().any(|error| error == text), "{text} is missing in {found:#?}");
    }
    assert!(found.iter().any(|error| error.starts_with("spec.serviceName: Invalid value: \"Web\"")));
}

#[test]
fn a_selector_must_name_something_s02() {
    let empty = set(|value| value["spec"]["selector"] = json!({"matchLabels": {}}));
    assert_eq!(
        errors(&empty, None),
        ["spec.selector: Invalid value: {\"matchLabels\":{}}: empty selector is invalid for statefulset"]
    );
    let missing = set(|value| value["spec"]["selector"] = json!(null));
    assert_eq!(
        errors(&missing, None),
        [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"
        ]
    );
}

#[test]
fn max_unavailable_takes_numbers_and_percentages_s09() {
    let with = |value: Value| {
        let set = set(|set| set["spec"]["updateStrategy"] = json!({"rollingUpdate": {"maxUnavailable": value}}));
        errors(&set, None)
    };
    for good in [json!(1), json!(7), json!("1%"), json!("100%")] {
        assert_eq!(with(good), Vec::<String>::new());
    }
    for bad in [json!(0), json!(-1), json!("0%"), json!("101%"), json!("x")] {
        assert!(!with(bad.clone()).is_empty(), "{bad}");
    }
}

#[test]
fn only_the_mutable_fields_change_s05_s06_s14_s15() {
    let old = set(|_| {});
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(5);
    new["spec"]["ordinals"] = json!({"start": 2});
    new["spec"]["minReadySeconds"] = json!(3);
    new["spec"]["revisionHistoryLimit"] = json!(2);
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("nginx:2");
    assert_eq!(errors(&new, Some(&old)), Vec::<String>::new());
    for (field, value) in [
        ("serviceName", json!("other")),
        ("podManagementPolicy", json!("Parallel")),
        (
            "selector",
            json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "Exists"}]}),
        ),
        ("volumeClaimTemplates", json!([])),
    ] {
        let mut new = old.clone();
        new["spec"][field] = value;
        let found = errors(&new, Some(&old));
        assert_eq!(found[0], format!("spec: Forbidden: {MUTABLE}"), "{field}");
    }
}

#[test]
fn names_too_long_for_the_revision_label_are_refused_at_once_s16_x12() {
    let named = |length: usize| errors(&set(|value| value["metadata"]["name"] = json!("w".repeat(length))), None);
    assert_eq!(named(52), Vec::<String>::new());
    assert!(
        named(53)[0]
            .ends_with("its pods carry the label controller-revision-hash, whose value is this name and a hash")
    );
}

#[test]
fn status_counts_make_sense_st08_st10() {
    let bad = set(|value| value["status"] = json!({"replicas": 2, "readyReplicas": 3, "currentReplicas": -1}));
    assert_eq!(
        errors(&bad, None),
        [
            "status.readyReplicas: Invalid value: 3: cannot be greater than status.replicas",
            "status.currentReplicas: Invalid value: -1: must be greater than or equal to 0",
        ]
    );
    let counted = |collisions: u32| set(|value| value["status"] = json!({"replicas": 0, "collisionCount": collisions}));
    assert_eq!(errors(&counted(3), Some(&counted(2))), Vec::<String>::new());
    assert_eq!(
        errors(&counted(1), Some(&counted(2))),
        ["status.collisionCount: Invalid value: 1: cannot be decremented"]
    );
}

#[test]
fn on_delete_has_no_rolling_update_and_other_strategies_are_unknown_s07() {
    let with = |strategy: Value| errors(&set(|value| value["spec"]["updateStrategy"] = strategy), None);
    let found = with(json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}}));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("spec.updateStrategy.rollingUpdate: Invalid value: "), "{found:?}");
    assert!(found[0].ends_with("only allowed for updateStrategy 'RollingUpdate'"), "{found:?}");
    let found = with(json!({"type": "Recreate"}));
    assert!(found[0].ends_with("must be 'RollingUpdate' or 'OnDelete'"), "{found:?}");
}

#[test]
fn a_claim_template_stands_for_a_volume_of_its_name_s04() {
    let both = set(|value| {
        value["spec"]["template"]["spec"]["volumes"] = json!([{"name": "www", "emptyDir": {}}]);
    });
    assert_eq!(errors(&both, None), Vec::<String>::new());
    let neither = set(|value| value["spec"]["volumeClaimTemplates"] = json!([]));
    assert_eq!(errors(&neither, None), ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"www\""]);
}

#[test]
fn an_empty_service_name_is_allowed_s05() {
    let mut nameless = set(|_| {});
    nameless["spec"].as_object_mut().expect("a spec").shift_remove("serviceName");
    assert_eq!(errors(&nameless, None), Vec::<String>::new());
}

#[test]
fn a_history_without_end_is_warned_of_s10_s20() {
    let endless = set(|value| value["spec"]["revisionHistoryLimit"] = json!(-1));
    let checked = STATEFULSET.check(&endless, None).expect("decodes");
    assert!(checked.errors.0.is_empty());
    assert_eq!(
        checked.warnings,
        ["spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"]
    );
}
