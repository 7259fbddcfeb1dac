//! Tokens of all kinds, as clients use them: bound, of Secrets, for others, of machines that join; and who reads the issuer's documents.

use crate::cluster::Cluster;

#[test]
fn tokens_let_in_until_what_they_are_bound_to_is_gone() {
    let cluster = Cluster::new("tokens");
    cluster.start("--no-node").ok();
    cluster.kubectl("create serviceaccount bot").ok();
    cluster.kubectl("create clusterrolebinding bot --clusterrole view --serviceaccount default:bot").ok();
    cluster.tells(&[
        ("bound tokens", a_bound_token_dies_with_its_secret),
        ("audiences", a_token_is_for_its_audience),
        ("tokens of Secrets", a_token_secret_is_filled_and_goes_with_its_account),
        ("the issuer's documents", the_issuer_is_discovered_by_those_who_may),
        ("bootstrap tokens", a_machine_joins_by_a_bootstrap_token),
    ]);
}

/// `curl` of a path with more arguments; the cluster's certificate is trusted.
fn curl(cluster: &Cluster, path: &str, more: &str) -> String {
    let (ca, port) = (cluster.data().join("pki/ca.crt"), cluster.api_port);
    cluster.sh(&format!("curl -sS --cacert {} {more} 'https://127.0.0.1:{port}{path}'", ca.display())).ok()
}

fn code(cluster: &Cluster, path: &str, more: &str) -> String {
    curl(cluster, path, &format!("-o /dev/null -w '%{{http_code}}' {more}"))
}

fn bearer(token: &str) -> String {
    format!("-H 'Authorization: Bearer {}'", token.trim())
}

const PODS: &str = "/api/v1/namespaces/default/pods";

fn a_bound_token_dies_with_its_secret(cluster: &Cluster) {
    cluster.kubectl("create secret generic anchor").ok();
    let token = cluster.kubectl("create token bot --bound-object-kind Secret --bound-object-name anchor").ok();
    assert_eq!(code(cluster, PODS, &bearer(&token)), "200");
    let who = cluster.kubectl(&format!("--token {} auth whoami -o json", token.trim()));
    // The kubeconfig's certificate names the administrator; the token wins.
    who.says("authentication.kubernetes.io/credential-id");
    cluster.kubectl("delete secret anchor").ok();
    assert_eq!(code(cluster, PODS, &bearer(&token)), "401");
    let refused = cluster.kubectl("create token bot --bound-object-kind Secret --bound-object-name anchor").fails();
    assert!(refused.contains("secrets \"anchor\" not found"), "{refused}");
}

fn review(cluster: &Cluster, token: &str, audiences: &str) -> String {
    let body = format!(
        r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{}","audiences":[{audiences}]}}}}"#,
        token.trim()
    );
    cluster.feed("kubectl create -o json -f -", &body).ok()
}

fn a_token_is_for_its_audience(cluster: &Cluster) {
    let token = cluster.kubectl("create token bot --audience vault").ok();
    assert_eq!(code(cluster, PODS, &bearer(&token)), "401", "it is not for the API server");
    let good = review(cluster, &token, r#""vault","other""#);
    assert!(good.contains(r#""authenticated": true"#) && good.contains("system:serviceaccount:default:bot"), "{good}");
    assert!(!good.contains(r#""audiences": ["other""#), "{good}");
    let bad = review(cluster, &token, r#""other""#);
    assert!(!bad.contains("authenticated\": true") && bad.contains("invalid for the target audiences"), "{bad}");
}

fn a_token_secret_is_filled_and_goes_with_its_account(cluster: &Cluster) {
    cluster.kubectl("create serviceaccount old").ok();
    cluster.kubectl("create clusterrolebinding old --clusterrole view --serviceaccount default:old").ok();
    cluster.apply(
        "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"type\": \"kubernetes.io/service-account-token\", \
         \"metadata\": {\"name\": \"old\", \"annotations\": {\"kubernetes.io/service-account.name\": \"old\"}}}",
    );
    cluster.wait("secret/old", "jsonpath={.data.token}");
    let decoded =
        |field: &str| cluster.sh(&format!("kubectl get secret old -o jsonpath='{{.data.{field}}}' | base64 -d")).ok();
    assert_eq!(decoded("namespace"), "default");
    assert!(decoded("ca\\.crt").starts_with("-----BEGIN CERTIFICATE-----"));
    let uid = cluster.value("serviceaccount/old", "{.metadata.uid}");
    assert_eq!(cluster.value("secret/old", "{.metadata.annotations.kubernetes\\.io/service-account\\.uid}"), uid);
    let token = decoded("token");
    assert_eq!(code(cluster, PODS, &bearer(&token)), "200");
    cluster
        .kubectl(
            "wait secret/old --for 'jsonpath={.metadata.labels.kubernetes\\.io/legacy-token-last-used}' --timeout 20s",
        )
        .ok();
    cluster.kubectl("get configmap -n kube-system kube-apiserver-legacy-service-account-token-tracking -o jsonpath={.data.since}").says("20");
    // A copy of the token is worth nothing once its Secret holds another.
    cluster.kubectl("patch secret old --type merge -p '{\"data\": {\"token\": null}}'").ok();
    cluster.wait("secret/old", "jsonpath={.data.token}");
    assert_eq!(code(cluster, PODS, &bearer(&token)), "401");
    let token = decoded("token");
    cluster.kubectl("delete serviceaccount old").ok();
    cluster.kubectl("wait secret/old --for=delete --timeout=30s").ok();
    assert_eq!(code(cluster, PODS, &bearer(&token)), "401");
}

fn the_issuer_is_discovered_by_those_who_may(cluster: &Cluster) {
    let token = cluster.kubectl("create token bot").ok();
    let document = curl(cluster, "/.well-known/openid-configuration", &bearer(&token));
    assert!(document.contains(r#""issuer":"https://kubernetes.default.svc.cluster.local""#), "{document}");
    let keys = curl(cluster, "/openid/v1/jwks", &bearer(&token));
    let kid = |part: &str| part.split("\"kid\":\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
    let head = cluster.feed("cut -d. -f1 | tr '_-' '/+' | base64 -d 2>/dev/null || true", &token).ok();
    assert_eq!(kid(&keys), kid(&head), "the key that signed is published: {keys} {head}");
    assert_eq!(code(cluster, "/openid/v1/jwks", ""), "403", "not for everybody");
    assert_eq!(code(cluster, "/metrics", ""), "403");
    assert_eq!(code(cluster, "/healthz", ""), "200");
    assert_eq!(code(cluster, "/version", ""), "200");
    assert_eq!(code(cluster, "/api", ""), "403");
}

/// What `kubeadm join` does, by curl: trust by the token's signature, then a certificate request as the token's user.
fn a_machine_joins_by_a_bootstrap_token(cluster: &Cluster) {
    cluster
        .kubectl(
            "create secret generic bootstrap-token-abcdef -n kube-system --type bootstrap.kubernetes.io/token \
         --from-literal token-id=abcdef --from-literal token-secret=0123456789abcdef \
         --from-literal usage-bootstrap-authentication=true --from-literal usage-bootstrap-signing=true \
         --from-literal auth-extra-groups=system:bootstrappers:kubeadm:default-node-token",
        )
        .ok();
    let map = "configmap/cluster-info -n kube-public";
    cluster.wait(map, "jsonpath={.data.jws-kubeconfig-abcdef}");
    let info = curl(cluster, "/api/v1/namespaces/kube-public/configmaps/cluster-info", "");
    let anonymous: String = info.split_whitespace().collect();
    assert!(anonymous.contains("jws-kubeconfig-abcdef"), "anybody may read it: {info}");
    let kubeconfig = "kubectl get configmap cluster-info -n kube-public -o jsonpath='{.data.kubeconfig}'";
    let signature = cluster.value(map, "{.data.jws-kubeconfig-abcdef}");
    let (head, tag) = signature.split_once("..").expect("a detached signature");
    let base64url = "base64 -w0 | tr '/+' '_-' | tr -d '='";
    let own = format!(
        "printf '%s.%s' '{head}' \"$({kubeconfig} | {base64url})\" \
         | openssl dgst -sha256 -hmac 0123456789abcdef -binary | {base64url}"
    );
    assert_eq!(cluster.sh(&own).ok(), tag);

    let token = "abcdef.0123456789abcdef";
    let who = curl(
        cluster,
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        &format!(
            "{} -X POST -H 'Content-Type: application/json' -d '{{\"kind\":\"SelfSubjectReview\",\"apiVersion\":\"authentication.k8s.io/v1\"}}'",
            bearer(token)
        ),
    );
    assert!(who.contains("system:bootstrap:abcdef") && who.contains("system:bootstrappers:kubeadm"), "{who}");
    assert_eq!(code(cluster, "/apis/certificates.k8s.io/v1/certificatesigningrequests", &bearer(token)), "200");
    assert_eq!(code(cluster, "/api/v1/secrets", &bearer(token)), "403");
    assert_eq!(code(cluster, PODS, &bearer("abcdef.0123456789abcdeX")), "401");

    // It ends when it says so: the Secret goes, and its signature with it.
    let patch = "patch secret bootstrap-token-abcdef -n kube-system -p '{\"stringData\": {\"expiration\": \"2020-01-01T00:00:00Z\"}}'";
    cluster.kubectl(patch).ok();
    cluster.kubectl("wait secret/bootstrap-token-abcdef -n kube-system --for=delete --timeout=30s").ok();
    assert_eq!(code(cluster, PODS, &bearer(token)), "401");
    cluster.wait(map, "jsonpath={.data}");
    assert_eq!(cluster.value(map, "{.data.jws-kubeconfig-abcdef}"), "");
}
