use expect_test::{Expect, expect};

use super::*;
use crate::fixture::{World, show};

fn check(text: &str, key: &str, expected: Expect) {
    let world = World::of(text);
    let (kind, name) = key.split_once('/').expect("a key");
    let key = if kind == "pvc" { Key::new(CLAIM, "default", name) } else { Key::new(VOLUME, "", name) };
    let plan = (CONTROLLER.reconcile)(&world.view(), &key);
    expected.assert_eq(&show(&world, &plan));
}

const OF_CLASS: &str = r#"{"spec":{"storageClassName":"standard"}}"#;
const WAITING: &str = r#"sc standard {"volumeBindingMode":"WaitForFirstConsumer"}"#;
const PVC: &str = "pvc data finalizer=kubernetes.io/pvc-protection";

#[test]
fn the_smallest_volume_that_fits_is_bound_v07_v08() {
    check(
        &format!(
            r#"pv big {{"spec":{{"capacity":{{"storage":"5Gi"}}}}}}
               pv small {{"spec":{{"capacity":{{"storage":"500Mi"}}}}}}
               pv other {OF_CLASS}
               pv fit {{"spec":{{"capacity":{{"storage":"2Gi"}}}}}}
               {PVC} {{"spec":{{"storageClassName":""}}}}"#
        ),
        "pvc/data",
        expect![[r#"
            update PersistentVolume fit {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"claimRef":{"kind":"PersistentVolumeClaim","namespace":"default","name":"data","uid":"pvc-data","apiVersion":"v1","resourceVersion":"5"}}}
            update PersistentVolumeClaim data {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":"yes","pv.kubernetes.io/bind-completed":"yes"}},"spec":{"volumeName":"fit"}}
        "#]],
    );
}

#[test]
fn a_claim_without_class_gets_the_newest_default_v03() {
    check(
        &format!(
            "sc old annotation=storageclass.kubernetes.io/is-default-class:true created=9\n sc new annotation=storageclass.kubernetes.io/is-default-class:true created=1\n {PVC}"
        ),
        "pvc/data",
        expect![[r#"
            update PersistentVolumeClaim data {"spec":{"storageClassName":"new"}}
        "#]],
    );
    check(
        &format!("sc a\n {PVC}"),
        "pvc/data",
        expect![[r#"
        event persistentvolumeclaims/default/data Normal FailedBinding: no persistent volumes available for this claim and no storage class is set
    "#]],
    );
}

#[test]
fn a_waiting_claim_is_provisioned_where_its_pod_goes_v06_v09() {
    check(
        &format!("{WAITING}\n pv fit {OF_CLASS}\n {PVC} {OF_CLASS}"),
        "pvc/data",
        expect![[r#"
        event persistentvolumeclaims/default/data Normal WaitForFirstConsumer: waiting for first consumer to be created before binding
    "#]],
    );
    let node = "node n1 annotation=stead.local/volumes-directory:/vols";
    let text = format!("{WAITING}\n {node}\n {PVC} annotation=volume.kubernetes.io/selected-node:n1 {OF_CLASS}");
    check(
        &text,
        "pvc/data",
        expect![[r#"
        create PersistentVolume pvc-pvc-data
    "#]],
    );
    let world = World::of(&text);
    let plan = (CONTROLLER.reconcile)(&world.view(), &Key::new(CLAIM, "default", "data"));
    let Some(crate::plan::Action::Create { value, on_success, .. }) = plan.actions.into_iter().next() else {
        panic!("no volume")
    };
    expect![[r#"{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"pvc-pvc-data","annotations":{"pv.kubernetes.io/provisioned-by":"stead.local/directory"},"finalizers":["kubernetes.io/pv-protection","stead.local/directory"]},"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"persistentVolumeReclaimPolicy":"Delete","storageClassName":"standard","volumeMode":"Filesystem","hostPath":{"path":"/vols/pvc-pvc-data","type":"DirectoryOrCreate"},"claimRef":{"kind":"PersistentVolumeClaim","namespace":"default","name":"data","uid":"pvc-data","apiVersion":"v1","resourceVersion":"3"},"nodeAffinity":{"required":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"In","values":["n1"]}]}]}}}}"#]].assert_eq(&value.to_string());
    expect!["Successfully provisioned volume pvc-pvc-data using stead.local/directory"]
        .assert_eq(&on_success.expect("a note").message);
    check(
        &format!("{WAITING}\n {PVC} annotation=volume.kubernetes.io/selected-node:gone {OF_CLASS}"),
        "pvc/data",
        expect![[r#"
            update PersistentVolumeClaim data {"metadata":{"annotations":{"volume.kubernetes.io/selected-node":null}}}
        "#]],
    );
}

const BOUND: &str =
    r#"{"spec":{"claimRef":{"namespace":"default","name":"data","uid":"pvc-data"}},"status":{"phase":"Bound"}}"#;
const BOUND_CLAIM: &str = r#"annotation=pv.kubernetes.io/bind-completed:yes {"spec":{"volumeName":"disk"}}"#;

#[test]
fn both_sides_become_bound_and_a_lost_volume_is_told() {
    let pv = format!("pv disk finalizer=kubernetes.io/pv-protection {BOUND}");
    check(
        &format!("{pv}\n {PVC} {BOUND_CLAIM}"),
        "pvc/data",
        expect![[r#"
        status PersistentVolumeClaim data {"phase":"Bound","accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"}}
    "#]],
    );
    let available = pv.replace("Bound", "Available");
    check(
        &format!("{available}\n {PVC} {BOUND_CLAIM}"),
        "pv/disk",
        expect![[r#"
        status PersistentVolume disk {"phase":"Bound"}
    "#]],
    );
    check(
        &format!("{PVC} {BOUND_CLAIM}"),
        "pvc/data",
        expect![[r#"
        status PersistentVolumeClaim data {"phase":"Lost"}
        event persistentvolumeclaims/default/data Warning ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!
    "#]],
    );
}

#[test]
fn a_released_volume_is_kept_or_deleted_v11() {
    let pv = format!("pv disk finalizer=kubernetes.io/pv-protection {BOUND}");
    check(
        &pv,
        "pv/disk",
        expect![[r#"
        status PersistentVolume disk {"phase":"Released"}
    "#]],
    );
    let released = pv.replace("\"Bound\"", "\"Released\"");
    check(&released, "pv/disk", expect![""]);
    let provisioned = released
        .replace("pv disk", "pv disk annotation=pv.kubernetes.io/provisioned-by:stead.local/directory")
        .replace("\"spec\":{", "\"spec\":{\"persistentVolumeReclaimPolicy\":\"Delete\",");
    check(
        &provisioned,
        "pv/disk",
        expect![[r#"
        delete persistentvolumes/disk
    "#]],
    );
}

#[test]
fn protection_ends_with_the_last_user_v13() {
    let pod = r#"pod web-0 node=n {"spec":{"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data"}}]}}"#;
    check(&format!("{PVC} deleting\n {pod}"), "pvc/data", expect![""]);
    check(
        &format!("{PVC} deleting"),
        "pvc/data",
        expect![[r#"
        update PersistentVolumeClaim data {"metadata":{"finalizers":[]}}
    "#]],
    );
    check(
        "pvc data",
        "pvc/data",
        expect![[r#"
        update PersistentVolumeClaim data {"metadata":{"finalizers":["kubernetes.io/pvc-protection"]}}
    "#]],
    );
    let pv = format!("pv disk deleting finalizer=kubernetes.io/pv-protection finalizer=stead.local/directory {BOUND}");
    check(&format!("{pv}\n {PVC} {BOUND_CLAIM}"), "pv/disk", expect![""]);
    check(
        &pv,
        "pv/disk",
        expect![[r#"
        update PersistentVolume disk {"metadata":{"finalizers":["stead.local/directory"]}}
    "#]],
    );
}

/// Seed 137: a pod that owns its claim (whenScaled=Delete) and is deleted in the foreground goes only after the claim.
#[test]
fn a_pod_that_is_shut_down_protects_no_claim_v13() {
    let pod = |words: &str, grace: u8| {
        format!(
            r#"pod web-0 node=n {words} finalizer=foregroundDeletion {{"metadata":{{"deletionGracePeriodSeconds":{grace}}},"spec":{{"volumes":[{{"name":"data","persistentVolumeClaim":{{"claimName":"data"}}}}]}}}}"#
        )
    };
    check(&format!("{PVC} deleting\n {}", pod("deleting", 30)), "pvc/data", expect![""]);
    check(
        &format!("{PVC} deleting\n {}", pod("deleting", 0)),
        "pvc/data",
        expect![[r#"
        update PersistentVolumeClaim data {"metadata":{"finalizers":[]}}
    "#]],
    );
}

#[test]
fn a_directory_grows_when_its_class_allows_v16() {
    let pv = format!("pv disk finalizer=kubernetes.io/pv-protection annotation=pv.kubernetes.io/provisioned-by:stead.local/directory {BOUND}")
        .replace("\"spec\":{", "\"spec\":{\"storageClassName\":\"standard\",");
    let claim = r#"annotation=pv.kubernetes.io/bind-completed:yes {"spec":{"volumeName":"disk","storageClassName":"standard","resources":{"requests":{"storage":"2Gi"}}}}"#;
    check(
        &format!("sc standard {{\"allowVolumeExpansion\":true}}\n {pv}\n {PVC} {claim}"),
        "pvc/data",
        expect![[r#"
            update PersistentVolume disk {"spec":{"capacity":{"storage":"2Gi"}}}
            event persistentvolumeclaims/default/data Normal VolumeResizeSuccessful: Resize volume disk succeeded
        "#]],
    );
}
