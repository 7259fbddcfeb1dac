//! Certificate requests, from openssl's key to a certificate that the API takes.

use crate::cluster::Cluster;

/// A request file for a subject, made by openssl with a key of its own.
fn key_and_request(cluster: &Cluster, name: &str, subject: &str, kind: &str) {
    cluster
        .sh(&format!("openssl req -new -newkey {kind} -nodes -keyout {name}.key -subj '{subject}' -out {name}.csr"))
        .ok();
}

fn manifest(cluster: &Cluster, name: &str, signer: &str, usages: &str, more: &str) -> String {
    let request = cluster.sh(&format!("base64 -w0 {name}.csr")).ok();
    format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\n\
         spec: {{signerName: {signer}, usages: [{usages}], {more} request: {request}}}"
    )
}

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const EC: &str = "ec -pkeyopt ec_paramgen_curve:prime256v1";

#[test]
fn certificates_are_asked_for_approved_signed_and_used() {
    let cluster = Cluster::new("certificates");
    cluster.start("--no-node").ok();
    cluster.tells(&[
        ("a user's certificate", a_user_gets_a_certificate),
        ("refusals", what_may_not_be_is_refused),
        ("a node's certificate", a_node_joins_and_renews),
        ("a serving certificate", a_node_serves),
    ]);
}

fn a_user_gets_a_certificate(cluster: &Cluster) {
    key_and_request(cluster, "jane", "/O=dev/O=ops/CN=jane", "rsa:2048");
    cluster.apply(&manifest(cluster, "jane", CLIENT, "client auth", "expirationSeconds: 3600,"));
    cluster.kubectl("get csr jane").says("kubernetes.io/kube-apiserver-client kubernetes-admin 60m Pending");
    cluster.kubectl("certificate approve jane").says("certificatesigningrequest.certificates.k8s.io/jane approved");
    cluster.wait("csr/jane", "jsonpath={.status.certificate}");
    cluster.kubectl("get csr jane").says("Approved,Issued");
    cluster.sh("kubectl get csr jane -o jsonpath='{.status.certificate}' | base64 -d > jane.crt").ok();
    cluster.sh("openssl verify -CAfile data/pki/ca.crt -purpose sslclient jane.crt").says("jane.crt: OK");
    cluster.sh("openssl x509 -in jane.crt -noout -checkend 3500").ok();
    cluster.sh("openssl x509 -in jane.crt -noout -checkend 3700").fails();
    let who = cluster.kubectl(
        "--kubeconfig /dev/null --server $(kubectl config view -o jsonpath='{.clusters[0].cluster.server}') \
         --certificate-authority data/pki/ca.crt --client-certificate jane.crt --client-key jane.key auth whoami",
    );
    who.says("[dev ops system:authenticated]");
    cluster.kubectl("certificate deny jane").fails();
}

fn what_may_not_be_is_refused(cluster: &Cluster) {
    key_and_request(cluster, "eve", "/O=system:masters/CN=eve", EC);
    let feed = |text: &str| cluster.feed("kubectl create -f -", text).fails();
    let refused = feed(&manifest(cluster, "eve", CLIENT, "client auth", ""));
    let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    assert!(refused.contains(why), "{refused}");
    let refused = feed(&manifest(cluster, "eve", "kubernetes.io/legacy-unknown", "client auth", ""));
    assert!(refused.contains("the legacy signerName is not allowed via this API version"), "{refused}");

    key_and_request(cluster, "wrong", "/CN=wrong", EC);
    cluster.apply(&manifest(cluster, "wrong", CLIENT, "server auth", ""));
    cluster.kubectl("certificate approve wrong").ok();
    cluster.wait("csr/wrong", "condition=Failed");
    cluster.kubectl("get csr wrong").says("Approved,Failed");
    cluster.kubectl("get csr wrong -o yaml").says("message: 'invalid usage for client certificate: server auth'");
    assert_eq!(cluster.value("csr/wrong", "{.status.certificate}"), "");

    key_and_request(cluster, "denied", "/CN=denied", EC);
    cluster.apply(&manifest(cluster, "denied", CLIENT, "client auth", ""));
    cluster.kubectl("certificate deny denied").ok();
    cluster.kubectl("get csr denied").says("Denied");
}

/// As `kubeadm join` does it, with the groups of a bootstrap token, and later as the node itself.
fn a_node_joins_and_renews(cluster: &Cluster) {
    let subject = "/O=system:nodes/CN=system:node:worker";
    key_and_request(cluster, "joins", subject, EC);
    let usages = "digital signature, client auth";
    let joiner = "--as system:bootstrap:abcdef --as-group system:bootstrappers:kubeadm:default-node-token";
    let text = manifest(cluster, "joins", KUBELET, usages, "");
    cluster.feed(&format!("kubectl {joiner} create -f -"), &text).ok();
    cluster.wait("csr/joins", "jsonpath={.status.certificate}");
    let message = cluster.value("csr/joins", "{.status.conditions[0].reason}: {.status.conditions[0].message}");
    assert_eq!(message, "AutoApproved: Auto approving kubelet client certificate after SubjectAccessReview.");

    key_and_request(cluster, "renews", subject, EC);
    let text = manifest(cluster, "renews", KUBELET, usages, "");
    cluster.feed("kubectl --as system:node:worker --as-group system:nodes create -f -", &text).ok();
    cluster.wait("csr/renews", "jsonpath={.status.certificate}");
    let message = cluster.value("csr/renews", "{.status.conditions[0].message}");
    assert_eq!(message, "Auto approving self kubelet client certificate after SubjectAccessReview.");

    // Nobody else's right, so nobody's certificate.
    key_and_request(cluster, "waits", subject, EC);
    cluster.apply(&manifest(cluster, "waits", KUBELET, "digital signature, server auth", ""));
    cluster.kubectl("get csr waits").says("Pending");
}

fn a_node_serves(cluster: &Cluster) {
    let (name, subject) = ("serves", "/O=system:nodes/CN=system:node:worker");
    let names = "-addext subjectAltName=DNS:worker,IP:192.0.2.7";
    let make =
        format!("openssl req -new -newkey {EC} -nodes -keyout {name}.key -subj {subject} {names} -out {name}.csr");
    cluster.sh(&make).ok();
    let usages = "digital signature, key encipherment, server auth";
    cluster.apply(&manifest(cluster, name, "kubernetes.io/kubelet-serving", usages, ""));
    cluster.kubectl(&format!("certificate approve {name}")).ok();
    cluster.wait(&format!("csr/{name}"), "jsonpath={.status.certificate}");
    cluster.sh(&format!("kubectl get csr {name} -o jsonpath='{{.status.certificate}}' | base64 -d > {name}.crt")).ok();
    let text = cluster.sh(&format!("openssl x509 -in {name}.crt -noout -text")).ok();
    for part in [
        "DNS:worker, IP Address:192.0.2.7",
        "TLS Web Server Authentication",
        "Digital Signature, Key Encipherment",
        "CA:FALSE",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
