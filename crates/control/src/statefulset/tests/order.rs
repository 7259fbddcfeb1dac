//! What comes first when several things are to be done.

use super::*;

const OLD: &str = "label=controller-revision-hash:web-OLD";

#[test]
fn replicas_are_made_whole_before_any_goes_or_is_updated_b13() {
    let status = "\"status\":{\"currentRevision\":\"web-OLD\"}";
    let pods = format!("pod web-1 owner=web ready {OLD}\n pod web-5 owner=web ready {OLD}");
    check(
        &format!("sts web {{\"spec\":{{\"replicas\":2}},{status}}}\n {pods}"),
        expect![[r#"
            create Pod web-0
        "#]],
    );
    check(
        &format!("sts web {{\"spec\":{{\"replicas\":2}},{status}}}\n pod web-0 owner=web ready {OLD}\n {pods}"),
        expect![[r#"
            delete pods/default/web-5
        "#]],
    );
    check(
        &format!(
            "sts web {{\"spec\":{{\"replicas\":2}},{status}}}\n pod web-0 owner=web ready {OLD}\n pod web-1 owner=web ready {OLD}"
        ),
        expect![[r#"
            delete pods/default/web-1
        "#]],
    );
}

#[test]
fn a_rollout_never_takes_more_than_max_unavailable_b19_s09() {
    let set = |most: &str| {
        format!(
            r#"sts web {{"spec":{{"replicas":4,"podManagementPolicy":"Parallel","updateStrategy":{{"type":"RollingUpdate","rollingUpdate":{{"maxUnavailable":{most}}}}}}},"status":{{"currentRevision":"web-OLD"}}}}"#
        )
    };
    let ready = |n: u32| format!("pod web-{n} owner=web ready {OLD}\n");
    let new_and_not_ready = "pod web-3 owner=web running";
    let pods = format!("{}{}{}{new_and_not_ready}", ready(0), ready(1), ready(2));
    check(&format!("{}\n {pods}", set("1")), expect![""]);
    check(
        &format!("{}\n {pods}", set("2")),
        expect![[r#"
            delete pods/default/web-2
        "#]],
    );
    let broken = format!("{}{}pod web-2 owner=web running {OLD}\n{}", ready(0), ready(1), ready(3));
    check(
        &format!("{}\n {broken}", set("\"50%\"")),
        expect![[r#"
            delete pods/default/web-3
            delete pods/default/web-2
        "#]],
    );
}

#[test]
fn on_delete_replaces_nothing_and_what_comes_back_is_new_b20_b15() {
    let set = r#"sts web {"spec":{"updateStrategy":{"type":"OnDelete"}},"status":{"currentRevision":"web-OLD","currentReplicas":1}}"#;
    check(&format!("{set}\n pod web-0 owner=web ready {OLD}"), expect![""]);
    let world = world(set);
    let Some(Action::Create { value, .. }) = plan(&world).actions.into_iter().next_back() else { panic!("no pod") };
    assert_eq!(value["metadata"]["labels"][set::REVISION_LABEL], "web-NEW");
}

/// ST-07 as it should be: under OnDelete, too, the current revision advances once every pod is at the newest.
#[test]
fn the_current_revision_advances_under_on_delete_st07() {
    check_status(
        r#"sts web {"spec":{"updateStrategy":{"type":"OnDelete"}},"status":{"currentRevision":"web-OLD"}}
           pod web-0 owner=web ready"#,
        expect![[r#"
            status StatefulSet web {"observedGeneration":1,"replicas":1,"readyReplicas":1,"currentReplicas":1,"updatedReplicas":1,"availableReplicas":1,"currentRevision":"web-NEW","updateRevision":"web-NEW","collisionCount":0}
        "#]],
    );
}

#[test]
fn only_the_claims_of_condemned_pods_get_an_owner_b31() {
    let volumes = |n: u32| {
        format!(
            r#"{{"spec":{{"volumes":[{{"name":"data","persistentVolumeClaim":{{"claimName":"data-web-{n}"}}}}]}}}}"#
        )
    };
    check(
        &format!(
            r#"sts web {{"spec":{{"persistentVolumeClaimRetentionPolicy":{{"whenDeleted":"Retain","whenScaled":"Delete"}},{CLAIMS}}}}}
            pod web-0 owner=web ready {}
            pod web-1 owner=web ready {}
            pvc data-web-0
            pvc data-web-1"#,
            volumes(0),
            volumes(1)
        ),
        expect![[r#"
            update PersistentVolumeClaim data-web-1 {"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"web-1","uid":"pod-web-1","controller":true,"blockOwnerDeletion":true}]}}
            delete pods/default/web-1
        "#]],
    );
}

/// B-37 holds by construction: the set is looked at again on the snapshot that its own writes made.
#[test]
fn a_plan_sees_the_writes_of_the_one_before_b37_b39() {
    let mut world = world("sts web {\"spec\":{\"replicas\":1}}");
    let Some(Action::Create { value, .. }) = plan(&world).actions.into_iter().next_back() else { panic!("no pod") };
    world.put(POD, value);
    assert!(!show(&world, &plan(&world)).contains("create Pod"));
}
