//! What makes a replica that one and no other: its name, labels, claims and template.

use super::*;

fn created<'p>(plan: &'p Plan, kind: &str) -> Vec<&'p Value> {
    let of_kind = |action: &'p Action| match action {
        Action::Create { value, .. } if value["kind"] == kind => Some(value),
        _ => None,
    };
    plan.actions.iter().filter_map(of_kind).collect()
}

#[test]
fn a_claim_has_the_templates_labels_under_the_selectors_b06_b07() {
    let world = world(
        r#"sts web {"spec":{"selector":{"matchLabels":{"app":"web"}},"volumeClaimTemplates":[{"metadata":{"name":"data","labels":{"app":"mine","tier":"disk"},"annotations":{"note":"x"}},"spec":{"accessModes":["ReadWriteOnce"]}}]}}"#,
    );
    let plan = plan(&world);
    let claims = created(&plan, "PersistentVolumeClaim");
    assert_eq!(claims[0]["metadata"]["name"], "data-web-0");
    assert_eq!(claims[0]["metadata"]["labels"], json!({"app": "web", "tier": "disk"}));
    assert_eq!(claims[0]["metadata"]["annotations"], json!({"note": "x"}));
}

#[test]
fn a_claim_template_replaces_the_volume_of_its_name_s04() {
    let world = world(&format!(
        r#"sts web {{"spec":{{"template":{{"spec":{{"volumes":[{{"name":"data","emptyDir":{{}}}},{{"name":"tmp","emptyDir":{{}}}}]}}}},{CLAIMS}}}}}"#
    ));
    let plan = plan(&world);
    let mut volumes = created(&plan, "Pod")[0]["spec"]["volumes"].as_array().expect("volumes").clone();
    volumes.sort_by_key(|volume| volume["name"].to_string());
    assert_eq!(
        json!(volumes),
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}}, {"name": "tmp", "emptyDir": {}}])
    );
}

#[test]
fn without_a_service_there_is_no_subdomain_b03_s05() {
    let world = world(r#"sts web {"spec":{"serviceName":"","template":{"spec":{"hostname":"h","subdomain":"s"}}}}"#);
    let plan = plan(&world);
    let spec = &created(&plan, "Pod")[0]["spec"];
    assert_eq!((&spec["hostname"], spec["subdomain"].as_str()), (&json!("web-0"), None));
}

#[test]
fn a_pod_that_lost_its_name_or_claims_gets_them_back_b05() {
    let text = format!("sts web {{\"spec\":{{{CLAIMS}}}}}\n pod web-0 owner=web ready\n pvc data-web-0");
    check(
        &text,
        expect![[r#"
            update Pod web-0 {"metadata":{"labels":{"apps.kubernetes.io/pod-index":"0"}},"spec":{"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data-web-0"}}]}}
        "#]],
    );
    let mut world = world("sts web\n pod web-0 owner=web ready");
    let mut pod = world.store.snapshot().find(POD, "default", "web-0").expect("a pod").value();
    pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = json!("other");
    world.put(POD, pod);
    expect![[r#"
        update Pod web-0 {"metadata":{"labels":{"statefulset.kubernetes.io/pod-name":"web-0","apps.kubernetes.io/pod-index":"0"}}}
    "#]]
    .assert_eq(&show(&world, &plan(&world)).lines().filter(|l| !l.starts_with("status")).map(|l| format!("{l}\n")).collect::<String>());
}

#[test]
fn what_happens_is_told_in_kubernetes_words_b36() {
    let world = world(&format!("sts web {{\"spec\":{{{CLAIMS}}}}}"));
    let mut told = Vec::new();
    for action in plan(&world).actions {
        if let Action::Create { on_success, on_failure, .. } = action {
            told.extend(
                [on_success, on_failure]
                    .into_iter()
                    .flatten()
                    .map(|n| format!("{} {}: {}", n.r#type.name(), n.reason, n.message)),
            );
        }
    }
    assert_eq!(
        told,
        [
            "Normal SuccessfulCreate: Create Claim data-web-0 Pod web-0 in StatefulSet web success",
            "Warning FailedCreate: Create Claim data-web-0 for Pod web-0 in StatefulSet web failed error: {error}",
            "Normal SuccessfulCreate: Create Pod web-0 in StatefulSet web successful",
            "Warning FailedCreate: Create Pod web-0 in StatefulSet web failed error: {error}",
        ]
    );
    let world = self::world("sts web\n pod web-0 owner=web phase=Failed");
    let deleted = plan(&world).actions.into_iter().find_map(|action| match action {
        Action::Delete { on_success, .. } => on_success,
        _ => None,
    });
    assert_eq!(deleted.expect("a note").message, "Delete Pod web-0 in StatefulSet web successful");
}

#[test]
fn what_ends_at_once_is_not_made_again_at_once_b14() {
    let young = plan(&self::world("sts web\n pod web-0 owner=web phase=Failed created=0"));
    assert!(!young.actions.iter().any(|action| matches!(action, Action::Delete { .. })));
    assert!(young.wake_at.is_some());
    let older = plan(&self::world("sts web\n pod web-0 owner=web phase=Failed created=1"));
    assert!(older.actions.iter().any(|action| matches!(action, Action::Delete { .. })));
}

#[test]
fn revisions_are_named_labelled_and_numbered_as_kubernetes_does_cr01_cr02_cr03_cr04() {
    let world = world(
        r#"sts web annotation=kubernetes.io/change-cause:third {"spec":{"template":{"spec":{"containers":[{"name":"main","image":"third"}]}}}}"#,
    );
    let plan = plan(&world);
    let revision = created(&plan, "ControllerRevision")[0];
    let name = revision["metadata"]["name"].as_str().expect("a name");
    let hash = name.strip_prefix("web-").expect("the set's name");
    assert_eq!(revision["metadata"]["labels"], json!({"app": "web", "controller.kubernetes.io/hash": hash}));
    assert_eq!(revision["metadata"]["annotations"], json!({"kubernetes.io/change-cause": "third"}));
    assert_eq!(revision["metadata"]["ownerReferences"][0]["uid"], "sts-web");
    assert_eq!(revision["data"]["spec"]["template"]["$patch"], "replace");
    assert_eq!(revision["data"]["spec"]["template"]["spec"]["containers"][0]["image"], "third");
    assert_eq!(revision["revision"], 3, "one more than the newest");
}

#[test]
fn another_template_of_the_same_hash_counts_a_collision_cr01_st08() {
    let text = r#"sts web {"spec":{"template":{"spec":{"containers":[{"name":"main","image":"third"}]}}}}"#;
    let name_of = |world: &World| {
        created(&plan(world), "ControllerRevision")[0]["metadata"]["name"].as_str().expect("a name").to_owned()
    };
    let first = name_of(&world(text));
    let taken = world(&format!("{text}\n rev {first} {{\"data\":{{\"spec\":{{}}}},\"revision\":1}}"));
    assert_ne!(name_of(&taken), first);
    assert!(show(&taken, &plan(&taken)).contains("\"collisionCount\":1"));
}

#[test]
fn a_template_that_means_the_same_is_no_new_revision_b23() {
    let mut world = world("sts web\n pod web-0 owner=web ready");
    // As an earlier release stored it: a default of today is not written out.
    let mut set = world.store.snapshot().find(STATEFUL_SET, "default", "web").expect("a set").value();
    set["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    set["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] = json!("/dev/termination-log");
    set["spec"]["template"]["spec"]["containers"][0]["terminationMessagePolicy"] = json!("File");
    set["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({});
    let kind = world.view().registry.stored(STATEFUL_SET).expect("declared");
    (kind.hooks.default)(&mut set);
    world.put(STATEFUL_SET, set);
    assert_eq!(created(&plan(&world), "ControllerRevision"), Vec::<&Value>::new());
}
