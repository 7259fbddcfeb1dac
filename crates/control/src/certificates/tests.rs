use expect_test::{Expect, expect};
use stead_api::Key;

use super::{approver, cleaner, signer};
use crate::fixture::{World, show};
use crate::names::CERTIFICATE_REQUEST;
use crate::plan::{Plan, View};

/// `openssl req -new -subj "/O=system:nodes/CN=system:node:n1"`, base64 of the PEM.
const NODE: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIc01JR1NBZ0VBTURBeEZUQVRCZ05WQkFvTURITjVjM1JsYlRwdWIyUmxjekVYTUJVR0ExVUVBd3dPYzNsegpkR1Z0T201dlpHVTZiakV3V1RBVEJnY3Foa2pPUFFJQkJnZ3Foa2pPUFFNQkJ3TkNBQVE5L21RK05PMDlGWCtuCkY1MG9MU3pjZlVwZTVvMXhwSUZLMVBZd0RFclRHMkRsY0p1T1ZJdmhnYlhqclF4ZmU1MmtZRWh3OGQvMkNiUUQKRENaMVlOL0JvQUF3Q2dZSUtvWkl6ajBFQXdJRFNRQXdSZ0loQUlmRXl5VnRqeE5qS3FaS0hXcEdoRk9zVGJ5NgpBL01jNVVMc2Y2VnkwY0xnQWlFQS9KU2U1eEovZWpSa2xTYXJmRkE2Wm5tQ0lkZ2h1Z2dkZEk4STdBQmZrZU09Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";

fn world(more: &str, extra: &str) -> World {
    let spec = format!(
        "{{\"spec\":{{\"request\":\"{NODE}\",\"signerName\":\"kubernetes.io/kube-apiserver-client-kubelet\",\
         \"usages\":[\"client auth\",\"digital signature\"],\"username\":\"system:bootstrap:abc\",\"groups\":[\"joiners\"]}}}}"
    );
    let mut world = World::of(&format!("csr a created=10 {spec}\n{more}"));
    let stored = world.view().get(CERTIFICATE_REQUEST, "", "a").unwrap().value();
    let mut value = stored;
    crate::fixture::merge(&mut value, &serde_json::from_str(extra).unwrap());
    world.put(CERTIFICATE_REQUEST, value);
    world
}

fn check(world: &World, reconcile: fn(&View, &Key) -> Plan, expected: Expect) {
    expected.assert_eq(&show(world, &reconcile(&world.view(), &Key::new(CERTIFICATE_REQUEST, "", "a"))));
}

const RIGHT: &str = r#"role nodeclient {"rules":[{"apiGroups":["certificates.k8s.io"],"resources":["certificatesigningrequests/nodeclient"],"verbs":["create"]}]}
    rolebinding nodeclient {"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"nodeclient"},"subjects":[{"kind":"Group","name":"joiners"}]}"#;

#[test]
fn a_nodes_client_certificate_is_approved_for_those_who_may_have_it() {
    check(&world("", "{}"), approver::CONTROLLER.reconcile, expect![[""]]);
    check(
        &world(RIGHT, "{}"),
        approver::CONTROLLER.reconcile,
        expect![[r#"
        approval CertificateSigningRequest a {"status":{"conditions":[{"type":"Approved","status":"True","reason":"AutoApproved","message":"Auto approving kubelet client certificate after SubjectAccessReview."}]}}
    "#]],
    );
    let wrong = r#"{"spec":{"usages":["server auth"]}}"#;
    check(&world(RIGHT, wrong), approver::CONTROLLER.reconcile, expect![[""]]);
}

#[test]
fn what_is_approved_is_signed_or_told_why_not() {
    check(&world("", "{}"), signer::CONTROLLER.reconcile, expect![[""]]);
    let approved = r#""status":{"conditions":[{"type":"Approved","status":"True"}]}"#;
    check(
        &world("", &format!("{{{approved}}}")),
        signer::CONTROLLER.reconcile,
        expect![[r#"
        make a certificate (client auth, digital signature) from 1970-01-12T13:41:40Z to 1971-01-12T13:41:40Z for status of CertificateSigningRequest a {}
    "#]],
    );
    let short = format!(r#"{{"spec":{{"expirationSeconds":3600}},{approved}}}"#);
    check(
        &world("", &short),
        signer::CONTROLLER.reconcile,
        expect![[r#"
        make a certificate (client auth, digital signature) from 1970-01-12T13:41:40Z to 1970-01-12T14:46:40Z for status of CertificateSigningRequest a {}
    "#]],
    );
    let wrong = format!(
        r#"{{"spec":{{"signerName":"kubernetes.io/kube-apiserver-client","usages":["server auth"]}},{approved}}}"#
    );
    check(
        &world("", &wrong),
        signer::CONTROLLER.reconcile,
        expect![[r#"
        status CertificateSigningRequest a {"conditions":[{"type":"Approved","status":"True"},{"type":"Failed","status":"True","reason":"SignerValidationFailure","message":"invalid usage for client certificate: server auth","lastUpdateTime":"1970-01-12T13:46:40Z"}]}
    "#]],
    );
    let others = format!(r#"{{"spec":{{"signerName":"example.com/x"}},{approved}}}"#);
    check(&world("", &others), signer::CONTROLLER.reconcile, expect![[""]]);
}

#[test]
fn requests_are_forgotten_at_upstreams_ages() {
    check(
        &world("", "{}"),
        cleaner::CONTROLLER.reconcile,
        expect![[r#"
        wake in 86391 s
    "#]],
    );
    let old = r#"{"metadata":{"creationTimestamp":"1970-01-10T00:00:00Z"}}"#;
    check(
        &world("", old),
        cleaner::CONTROLLER.reconcile,
        expect![[r#"
        delete certificatesigningrequests.certificates.k8s.io/a
    "#]],
    );
    let decided = |kind: &str, at: &str| {
        format!(r#"{{"status":{{"conditions":[{{"type":"{kind}","status":"True","lastUpdateTime":"{at}"}}]}}}}"#)
    };
    let recent = world("", &decided("Approved", "1970-01-12T13:00:00Z"));
    check(
        &recent,
        cleaner::CONTROLLER.reconcile,
        expect![[r#"
        wake in 801 s
    "#]],
    );
    for kind in ["Approved", "Denied", "Failed"] {
        let plan = |at: &str| {
            let world = world("", &decided(kind, at));
            show(&world, &(cleaner::CONTROLLER.reconcile)(&world.view(), &Key::new(CERTIFICATE_REQUEST, "", "a")))
        };
        assert_eq!(plan("1970-01-12T12:00:00Z"), "delete certificatesigningrequests.certificates.k8s.io/a\n", "{kind}");
        assert_eq!(plan("1970-01-12T13:00:00Z"), "wake in 801 s\n", "{kind}");
    }
}
