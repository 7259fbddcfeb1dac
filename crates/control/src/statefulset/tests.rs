use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::fixture::{World, show};
use crate::plan::Action;

mod identity;
mod order;

/// Adds the revisions of each set as the controller would have made them: NEW of its template, OLD of the same with another image, and
/// gives each pod without a revision NEW; `rev:OLD` in a label stands for the older one.
fn world(text: &str) -> World {
    let mut world = World::of(text);
    let set = world.store.snapshot().find(STATEFUL_SET, "default", "web").expect("a set").clone();
    let mut value = set.value();
    for (number, name, image) in [(1, "web-OLD", "old"), (2, "web-NEW", "x")] {
        let mut template = value["spec"]["template"].clone();
        template["spec"]["containers"][0]["image"] = json!(image);
        template["$patch"] = json!("replace");
        world.put(
            CONTROLLER_REVISION,
            json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": name, "namespace": "default",
                "uid": name, "labels": {"app": "web"}, "ownerReferences": [facts::controller_reference("apps/v1", "StatefulSet", &set)]},
                "data": {"spec": {"template": template}}, "revision": number}),
        );
    }
    if value["status"]["currentRevision"].is_null() {
        value["status"]["currentRevision"] = json!("web-NEW");
        world.put(STATEFUL_SET, value);
    }
    let pods: Vec<Value> = world.store.snapshot().list(POD, "").map(|pod| pod.value()).collect();
    for mut pod in pods {
        if pod["metadata"]["labels"][set::REVISION_LABEL].is_null() {
            pod["metadata"]["labels"][set::REVISION_LABEL] = json!("web-NEW");
        }
        pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = pod["metadata"]["name"].clone();
        world.put(POD, pod);
    }
    world
}

fn plan(world: &World) -> Plan {
    reconcile(&world.view(), &Key::new(STATEFUL_SET, "default", "web"))
}

fn check(text: &str, expected: Expect) {
    let world = world(text);
    // Status is asserted on its own.
    let text: String =
        show(&world, &plan(&world)).lines().filter(|l| !l.starts_with("status")).map(|l| format!("{l}\n")).collect();
    expected.assert_eq(&text);
}

fn check_status(text: &str, expected: Expect) {
    let world = world(text);
    let text: String =
        show(&world, &plan(&world)).lines().filter(|l| l.starts_with("status")).map(|l| format!("{l}\n")).collect();
    expected.assert_eq(&text);
}

const CLAIMS: &str = r#""volumeClaimTemplates":[{"metadata":{"name":"data"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}]"#;

#[test]
fn a_new_set_gets_a_revision_a_claim_and_its_first_pod_b01_b02_b03_b04_b06_b09_b10() {
    let world = World::of(&format!(r#"sts web {{"spec":{{"replicas":3,"serviceName":"web",{CLAIMS}}}}}"#));
    expect![[r#"
        create ControllerRevision web-5bbb9985
        status StatefulSet web {"observedGeneration":1,"availableReplicas":0,"currentRevision":"web-5bbb9985","updateRevision":"web-5bbb9985","collisionCount":0}
        create PersistentVolumeClaim data-web-0
        create Pod web-0
    "#]]
    .assert_eq(&show(&world, &plan(&world)));
    let Some(Action::Create { value, on_success, .. }) = plan(&world).actions.into_iter().next_back() else {
        panic!("no pod")
    };
    expect![[r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-0","generateName":"web-","namespace":"default","labels":{"app":"web","statefulset.kubernetes.io/pod-name":"web-0","apps.kubernetes.io/pod-index":"0","controller-revision-hash":"web-5bbb9985"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"StatefulSet","name":"web","uid":"sts-web","controller":true,"blockOwnerDeletion":true}]},"spec":{"containers":[{"name":"main","image":"x"}],"hostname":"web-0","subdomain":"web","volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data-web-0"}}]}}"#]]
    .assert_eq(&value.to_string());
    expect!["Create Pod web-0 in StatefulSet web successful"].assert_eq(&on_success.expect("a note").message);
}

#[test]
fn the_next_pod_waits_for_the_one_below_b10_s11() {
    check("sts web {\"spec\":{\"replicas\":2}}\n pod web-0 owner=web running", expect![""]);
    check("sts web {\"spec\":{\"replicas\":2}}\n pod web-0 owner=web ready deleting", expect![""]);
    check(
        "sts web {\"spec\":{\"replicas\":2}}\n pod web-0 owner=web ready",
        expect![[r#"
        create Pod web-1
    "#]],
    );
    check(
        "sts web {\"spec\":{\"replicas\":2,\"minReadySeconds\":10}}\n pod web-0 owner=web ready=4",
        expect![[r#"
        wake in 6 s
    "#]],
    );
}

#[test]
fn a_lost_predecessor_is_made_again_first_b38() {
    check(
        "sts web {\"spec\":{\"replicas\":3}}\n pod web-1 owner=web ready",
        expect![[r#"
        create Pod web-0
    "#]],
    );
}

#[test]
fn parallel_makes_all_at_once_b12() {
    check(
        "sts web {\"spec\":{\"replicas\":3,\"podManagementPolicy\":\"Parallel\"}}\n pod web-1 owner=web",
        expect![[r#"
            create Pod web-0
            create Pod web-2
        "#]],
    );
}

/// Found by the simulator: the set waited for its back-off.
#[test]
fn a_strange_pod_that_goes_wakes_the_set_whose_name_it_had() {
    let world = world("sts web\n pod web-1");
    let pod = world.store.snapshot().find(POD, "default", "web-1").cloned().expect("the pod");
    let gone = Event::new(Some(Arc::clone(&pod)), pod, true);
    let set = Key::new(STATEFUL_SET, "default", "web");
    assert_eq!(sets_of_pod(&world.view(), &gone), [set]);
}

/// Found by the simulator.
#[test]
fn parallel_waits_for_no_finished_pod_b12() {
    check(
        "sts web {\"spec\":{\"replicas\":3,\"podManagementPolicy\":\"Parallel\"}}\n pod web-0 owner=web phase=Failed",
        expect![[r#"
            delete pods/default/web-0
            create Pod web-1
            create Pod web-2
        "#]],
    );
}

#[test]
fn a_finished_pod_is_deleted_and_made_again_only_when_gone_b14_b39() {
    check(
        "sts web\n pod web-0 owner=web phase=Failed",
        expect![[r#"
        delete pods/default/web-0
    "#]],
    );
    check("sts web\n pod web-0 owner=web phase=Succeeded deleting", expect![""]);
}

#[test]
fn condemned_pods_go_from_the_top_one_by_one_b11_b26_s12() {
    let pods = "pod web-0 owner=web ready\n pod web-1 owner=web ready\n pod web-2 owner=web ready";
    check(
        &format!("sts web {{\"spec\":{{\"replicas\":1}}}}\n {pods}"),
        expect![[r#"
        delete pods/default/web-2
    "#]],
    );
    let start = "sts web {\"spec\":{\"replicas\":1,\"ordinals\":{\"start\":2}}}";
    check(
        &format!("{start}\n {pods}"),
        expect![[r#"
        delete pods/default/web-1
    "#]],
    );
    let pods = "pod web-0 owner=web ready\n pod web-1 owner=web ready\n pod web-2 owner=web ready deleting";
    check(&format!("sts web {{\"spec\":{{\"replicas\":1}}}}\n {pods}"), expect![""]);
    let pods = "pod web-0 owner=web ready\n pod web-1 owner=web running\n pod web-2 owner=web ready";
    check(
        &format!("sts web {{\"spec\":{{\"replicas\":1}}}}\n {pods}"),
        expect![[r#"
        delete pods/default/web-2
    "#]],
    );
    let pods = "pod web-0 owner=web ready\n pod web-1 owner=web running\n pod web-2 owner=web running";
    check(&format!("sts web {{\"spec\":{{\"replicas\":1}}}}\n {pods}"), expect![""]);
}

#[test]
fn updates_go_from_the_top_and_wait_b16_s08() {
    let old = "label=controller-revision-hash:web-OLD";
    let status = "\"status\":{\"currentRevision\":\"web-OLD\"}";
    let pods =
        format!("pod web-0 owner=web ready {old}\n pod web-1 owner=web ready {old}\n pod web-2 owner=web ready {old}");
    check(
        &format!("sts web {{\"spec\":{{\"replicas\":3}},{status}}}\n {pods}"),
        expect![[r#"
        delete pods/default/web-2
    "#]],
    );
    let limits = r#""updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":1,"maxUnavailable":"70%"}}"#;
    check(
        &format!("sts web {{\"spec\":{{\"replicas\":3,{limits}}},{status}}}\n {pods}"),
        expect![[r#"
        delete pods/default/web-2
        delete pods/default/web-1
    "#]],
    );
    let on_delete = r#""updateStrategy":{"type":"OnDelete"}"#;
    check(&format!("sts web {{\"spec\":{{\"replicas\":3,{on_delete}}},{status}}}\n {pods}"), expect![""]);
    let pods =
        format!("pod web-0 owner=web ready {old}\n pod web-1 owner=web ready {old}\n pod web-2 owner=web running");
    check(&format!("sts web {{\"spec\":{{\"replicas\":3}},{status}}}\n {pods}"), expect![""]);
    check(
        &format!("sts web {{\"spec\":{{\"replicas\":3,\"podManagementPolicy\":\"Parallel\"}},{status}}}\n {pods}"),
        expect![""],
    );
}

#[test]
fn a_broken_old_pod_is_replaced_under_parallel_and_not_under_ordered_ready_b17_b18() {
    let pods = "pod web-0 owner=web running label=controller-revision-hash:web-OLD";
    let status = "\"status\":{\"currentRevision\":\"web-OLD\"}";
    check(&format!("sts web {{{status}}}\n {pods}"), expect![""]);
    check(
        &format!("sts web {{\"spec\":{{\"podManagementPolicy\":\"Parallel\"}},{status}}}\n {pods}"),
        expect![[r#"
        delete pods/default/web-0
    "#]],
    );
}

#[test]
fn a_recreated_pod_below_the_partition_gets_the_old_template_b15_b21() {
    let text = r#"sts web {"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":1}}},"status":{"currentRevision":"web-OLD"}}"#;
    let world = world(text);
    let Some(Action::Create { value, .. }) = plan(&world).actions.into_iter().next_back() else { panic!("no pod") };
    assert_eq!(value["spec"]["containers"][0]["image"], "old");
    assert_eq!(value["metadata"]["labels"][set::REVISION_LABEL], "web-OLD");
}

#[test]
fn a_rollback_renumbers_the_earlier_revision_b22() {
    check(
        r#"sts web {"spec":{"template":{"spec":{"containers":[{"name":"main","image":"old"}]}}}}
           rev web-MID owner=web label=app:web {"data":{"spec":{"template":{}}},"revision":3}
           pod web-0 owner=web ready"#,
        expect![[r#"
            update ControllerRevision web-OLD {"revision":4}
            delete pods/default/web-0
        "#]],
    );
}

#[test]
fn history_is_cut_to_the_limit_cr05() {
    let revisions: String =
        (3..6).map(|n| format!("rev web-{n} owner=web label=app:web {{\"data\":{{}},\"revision\":-{n}}}\n")).collect();
    check(
        &format!("sts web {{\"spec\":{{\"revisionHistoryLimit\":1}}}}\n {revisions} pod web-0 owner=web ready"),
        expect![[r#"
            delete controllerrevisions.apps/default/web-5
            delete controllerrevisions.apps/default/web-4
            delete controllerrevisions.apps/default/web-3
        "#]],
    );
    check(
        &format!("sts web {{\"spec\":{{\"revisionHistoryLimit\":-1}}}}\n {revisions} pod web-0 owner=web ready"),
        expect![""],
    );
}

#[test]
fn status_counts_what_the_rows_say_st01_st02_st03_st04_st05_st06_st09() {
    let set = "sts web {\"spec\":{\"replicas\":2},\"status\":{\"currentRevision\":\"web-OLD\"}}";
    check_status(
        &format!(
            "{set}\n pod web-0 owner=web ready label=controller-revision-hash:web-OLD\n pod web-1 owner=web running\n pod web-7 owner=web ready deleting"
        ),
        expect![[r#"
            status StatefulSet web {"observedGeneration":1,"replicas":3,"readyReplicas":2,"currentReplicas":1,"updatedReplicas":1,"availableReplicas":2,"updateRevision":"web-NEW","collisionCount":0}
        "#]],
    );
    check_status(
        &format!("{set}\n pod web-0 owner=web ready\n pod web-1 owner=web ready"),
        expect![[r#"
            status StatefulSet web {"observedGeneration":1,"replicas":2,"readyReplicas":2,"currentReplicas":2,"updatedReplicas":2,"availableReplicas":2,"currentRevision":"web-NEW","updateRevision":"web-NEW","collisionCount":0}
        "#]],
    );
}

#[test]
fn orphans_that_fit_are_adopted_and_strangers_are_not_b24_b25() {
    check(
        "sts web\n pod web-0 ready\n pod web-x\n pod web-00",
        expect![[r#"
        update Pod web-0 {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"StatefulSet","name":"web","uid":"sts-web","controller":true,"blockOwnerDeletion":true}]}}
    "#]],
    );
    check("sts web deleting\n pod web-0 ready", expect![""]);
    check(
        "sts web\n pod web-0 owner=web ready {\"metadata\":{\"labels\":{\"app\":\"other\"}}}",
        expect![[r#"
        update Pod web-0 {"metadata":{"ownerReferences":[]}}
    "#]],
    );
}

#[test]
fn retention_policies_own_the_claims_b29_b30_b32_b33_s13() {
    let set = |deleted: &str, scaled: &str| {
        format!(
            r#"sts web {{"spec":{{"persistentVolumeClaimRetentionPolicy":{{"whenDeleted":"{deleted}","whenScaled":"{scaled}"}},{CLAIMS}}}}}"#
        )
    };
    let volumes = |n: u32| {
        format!(
            r#"{{"spec":{{"volumes":[{{"name":"data","persistentVolumeClaim":{{"claimName":"data-web-{n}"}}}}]}}}}"#
        )
    };
    let pods = format!(
        "pod web-0 owner=web ready {}\n pod web-1 owner=web ready {}\n pvc data-web-0\n pvc data-web-1",
        volumes(0),
        volumes(1)
    );
    check(
        &format!("{}\n {pods}", set("Retain", "Retain")),
        expect![[r#"
        delete pods/default/web-1
    "#]],
    );
    check(
        &format!("{}\n {pods}", set("Delete", "Delete")),
        expect![[r#"
        update PersistentVolumeClaim data-web-0 {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"StatefulSet","name":"web","uid":"sts-web","controller":true,"blockOwnerDeletion":true}]}}
        update PersistentVolumeClaim data-web-1 {"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"web-1","uid":"pod-web-1","controller":true,"blockOwnerDeletion":true}]}}
        delete pods/default/web-1
    "#]],
    );
    let other = "pvc data-web-0 owner=deploy:x";
    let pod = format!("pod web-0 owner=web ready {}", volumes(0));
    check(
        &format!("{}\n {pod}\n {other}", set("Delete", "Retain")),
        expect![[r#"
        event statefulsets.apps/default/web Warning ConflictingController: PersistentVolumeClaim data-web-0 has a conflicting OwnerReference that acts as a managing controller, the retention policy is ignored for this claim
    "#]],
    );
}

#[test]
fn a_pod_waits_for_claims_that_go_b08_b34_and_gets_missing_ones_b35() {
    let set = format!(r#"sts web {{"spec":{{{CLAIMS}}}}}"#);
    check(
        &format!("{set}\n pvc data-web-0 deleting finalizer=x"),
        expect![[r#"
        event statefulsets.apps/default/web Warning FailedCreate: Create Pod web-0 in StatefulSet web failed error: pvc data-web-0 is being deleted
        retry
    "#]],
    );
    let scaled =
        format!(r#"sts web {{"spec":{{"persistentVolumeClaimRetentionPolicy":{{"whenScaled":"Delete"}},{CLAIMS}}}}}"#);
    check(&format!("{scaled}\n pvc data-web-0 owner=pod:web-0"), expect![""]);
    check(
        &format!("{set}\n pvc data-web-0"),
        expect![[r#"
        create Pod web-0
    "#]],
    );
    check(
        &format!("{set}\n pod web-0 owner=web"),
        expect![[r#"
        create PersistentVolumeClaim data-web-0
    "#]],
    );
}
