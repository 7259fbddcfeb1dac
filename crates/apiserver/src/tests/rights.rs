//! Who may do what: roles, reviews, tokens, escalation (ID-01 to ID-08).

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::token::Credential;
use stead_api::{TokenClaims, User};

use crate::fixture::{Server, admin, pod};
use crate::{Bootstrap, DEFAULT_AUDIENCE, Reply, bootstrap};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn cluster() -> Server {
    let mut server = Server::new();
    let facts = Bootstrap {
        api_address: Ipv4Addr::LOCALHOST,
        api_port: 6443,
        dns_ip: Ipv4Addr::new(10, 96, 0, 10),
        front_proxy_ca: String::new(),
        tells_usage: true,
    };
    bootstrap(&mut server.ctx(), &facts);
    server
}

fn become_user(server: &mut Server, name: &str) {
    let groups = vec!["system:authenticated".to_owned()];
    server.user = Arc::new(User { name: name.into(), groups, ..User::default() });
}

fn bind(server: &mut Server, role: &str, subject: Value) {
    server.user = admin();
    let role_ref = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
    let body = json!({"metadata": {"generateName": "b-"}, "subjects": [subject], "roleRef": role_ref});
    server.make(&format!("{RBAC}/clusterrolebindings"), body);
}

#[test]
fn refusals_are_in_kubernetes_words() {
    let mut server = cluster();
    become_user(&mut server, "x");
    for (line, expected) in [
        (
            format!("GET {PODS}"),
            "403 Forbidden pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
        ),
        (
            "GET /api/v1/nodes/n".into(),
            "403 Forbidden nodes \"n\" is forbidden: User \"x\" cannot get resource \"nodes\" in API group \"\" at the cluster scope",
        ),
        (
            format!("PATCH:merge {PODS}/p/status"),
            "403 Forbidden pods \"p\" is forbidden: User \"x\" cannot patch resource \"pods/status\" in API group \"\" in the namespace \"default\"",
        ),
        ("GET /metrics".into(), "403 Forbidden forbidden: User \"x\" cannot get path \"/metrics\""),
    ] {
        assert_eq!(server.refused(&line, Value::Null), expected);
    }
    assert_eq!(server.get("/version")["major"], "1");
}

#[test]
fn id07_id08_view_reads_but_no_secrets() {
    let mut server = cluster();
    bind(&mut server, "view", json!({"kind": "ServiceAccount", "namespace": "default", "name": "default"}));
    become_user(&mut server, "system:serviceaccount:default:default");
    server.get("/api/v1/pods");
    server.get("/apis/apps/v1/statefulsets");
    assert!(server.refused("GET /api/v1/secrets", Value::Null).starts_with("403"));
    assert!(server.refused(&format!("POST {PODS}"), pod("a")).starts_with("403"));
}

#[test]
fn nobody_grants_what_they_do_not_have() {
    let mut server = cluster();
    bind(&mut server, "admin", json!({"kind": "User", "name": "bob"}));
    become_user(&mut server, "bob");
    let roles = format!("{RBAC}/namespaces/default/roles");
    let held = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    server.make(&roles, json!({"metadata": {"name": "small"}, "rules": held}));
    let more = json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "delete"]}]);
    let told = server.refused(&format!("POST {roles}"), json!({"metadata": {"name": "large"}, "rules": more}));
    assert!(told.contains("is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"delete\"]}"), "{told}");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let role_ref = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
    let body = |name: &str| json!({"metadata": {"name": name}, "roleRef": role_ref(name), "subjects": []});
    server.make(&bindings, body("view"));
    assert!(server.refused(&format!("POST {bindings}"), body("cluster-admin")).starts_with("403"));
    let told = server.refused(&format!("PATCH:merge {bindings}/view"), json!({"roleRef": {"name": "edit"}}));
    assert!(told.contains("cannot change roleRef"), "{told}");
}

#[test]
fn a_role_that_gathers_others_is_an_administrators_to_make() {
    let mut server = cluster();
    let rule = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles", "roles"],
        "verbs": ["create", "get", "update", "patch"]}, {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let roles = format!("{RBAC}/clusterroles");
    server.make(&roles, json!({"metadata": {"name": "roles"}, "rules": rule}));
    bind(&mut server, "roles", json!({"kind": "User", "name": "bob"}));
    become_user(&mut server, "bob");
    let selectors = json!([{"matchLabels": {"into": "all"}}]);
    let gathers = json!({"metadata": {"name": "all"}, "aggregationRule": {"clusterRoleSelectors": selectors}});
    assert_eq!(
        server.refused(&format!("POST {roles}"), gathers),
        "403 Forbidden clusterroles.rbac.authorization.k8s.io \"all\" is forbidden: must have cluster-admin privileges to use an aggregationRule"
    );
    // Labels of a role that holds more are not his to change; what the garbage collector needs is.
    let label = json!({"metadata": {"labels": {"into": "all"}}});
    let told = server.refused(&format!("PATCH:merge {roles}/edit"), label);
    assert!(told.contains("(groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions"), "{told}");
    server.done(&format!("PATCH:merge {roles}/edit"), json!({"metadata": {"finalizers": ["example.com/keep"]}}));
}

#[test]
fn k23_reviews_are_answered() {
    let mut server = cluster();
    bind(&mut server, "view", json!({"kind": "User", "name": "bob"}));
    let ask = |verb: &str, resource: &str| json!({"spec": {"resourceAttributes": {"verb": verb, "resource": resource, "namespace": "default"}}});
    become_user(&mut server, "bob");
    let own = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let may = server.make(own, ask("list", "pods"))["status"].clone();
    let why = may["reason"].as_str().unwrap_or_default();
    assert_eq!(may["allowed"], true);
    assert!(
        why.starts_with("RBAC: allowed by ClusterRoleBinding \"b-")
            && why.ends_with("of ClusterRole \"view\" to User \"bob\""),
        "{why}"
    );
    assert_eq!(server.make(own, ask("list", "secrets"))["status"], json!({"allowed": false}));
    let rules =
        server.make("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", json!({"spec": {"namespace": "default"}}));
    assert!(rules["status"]["resourceRules"].as_array().is_some_and(|list| list.len() > 3));
    let who = server.make("/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({}));
    assert_eq!(who["status"]["userInfo"]["username"], "bob");
    let others = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert!(server.refused(others, json!({"spec": {"user": "eve"}})).starts_with("403"));
    server.user = admin();
    let mut body = ask("get", "pods");
    body["spec"]["user"] = json!("bob");
    assert_eq!(server.done(others, body)["status"]["allowed"], true);
}

fn claims(server: &mut Server, body: Value) -> TokenClaims {
    match server.reply("POST /api/v1/namespaces/default/serviceaccounts/default/token", &body.to_string()) {
        Reply::Sign(plan) => plan.claims.clone(),
        other => panic!("{other:?}"),
    }
}

fn authenticate_token(server: &Server, claims: &TokenClaims) -> Result<User, String> {
    let credential = Credential::Bound(claims.clone());
    let audiences = [DEFAULT_AUDIENCE.to_owned()];
    crate::authenticate(server.store.snapshot(), server.now, &credential, &audiences).map(|(user, _)| user)
}

#[test]
fn id02_id03_id05_tokens_die_with_what_they_are_bound_to() {
    let mut server = cluster();
    let made = server.make(PODS, pod("a"));
    let reference = json!({"kind": "Pod", "apiVersion": "v1", "name": "a", "uid": made["metadata"]["uid"]});
    let bound = claims(&mut server, json!({"spec": {"expirationSeconds": 3607, "boundObjectRef": reference}}));
    assert_eq!(bound.sub, "system:serviceaccount:default:default");
    assert_eq!(bound.exp - bound.iat, 24 * 365 * 3600);
    assert_eq!(bound.kubernetes.warnafter, Some(bound.iat + 3607));
    let user = authenticate_token(&server, &bound).expect("a valid token");
    assert_eq!(user.name, "system:serviceaccount:default:default");
    assert!(user.is_in("system:serviceaccounts:default"));
    server.done(&format!("DELETE {PODS}/a"), Value::Null);
    assert!(authenticate_token(&server, &bound).is_err());

    let free = claims(&mut server, json!({"spec": {"expirationSeconds": 600}}));
    assert!(authenticate_token(&server, &free).is_ok());
    server.wait(601);
    let expired = authenticate_token(&server, &free);
    assert_eq!(expired, Err("service account token has expired".into()));
    assert_eq!(
        server.refused(
            "POST /api/v1/namespaces/default/serviceaccounts/default/token",
            json!({"spec": {"expirationSeconds": 60}})
        ),
        "422 Invalid TokenRequest.authentication.k8s.io \"default\" is invalid: spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes"
    );
}

#[test]
fn token_reviews_tell_whose_token_it_is() {
    let mut server = cluster();
    let token = claims(&mut server, json!({"spec": {}}));
    let line = "POST /apis/authentication.k8s.io/v1/tokenreviews";
    let mut request = server.request(line, r#"{"spec":{"token":"x"}}"#).expect("a request");
    request.reviewed = Some(Ok(Arc::new(Credential::Bound(token))));
    let (_, body) = server.perform(&request).flat();
    let review: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:default:default");
    request.reviewed = Some(Err("invalid bearer token".into()));
    let (_, body) = server.perform(&request).flat();
    let review: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(review["status"], json!({"user": {}, "error": "invalid bearer token"}));
}

#[test]
fn a_token_is_bound_to_what_may_be_named_and_good_for_its_audience_only() {
    let mut server = cluster();
    server.make("/api/v1/nodes", json!({"metadata": {"name": "n1"}}));
    server.make(PODS, pod("a"));
    let ask = |reference: Value| json!({"spec": {"boundObjectRef": reference}});
    let line = "POST /api/v1/namespaces/default/serviceaccounts/default/token";
    let node = claims(&mut server, ask(json!({"kind": "Node", "apiVersion": "v1", "name": "n1"})));
    let user = authenticate_token(&server, &node).expect("a valid token");
    assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n1"]);
    server.done("DELETE /api/v1/nodes/n1", Value::Null);
    assert_eq!(authenticate_token(&server, &node), Err("service account token has been invalidated".into()));
    assert_eq!(
        server.refused(line, ask(json!({"kind": "Deployment", "apiVersion": "apps/v1", "name": "a"}))),
        "400 BadRequest cannot bind token to object of type apps/v1, Kind=Deployment"
    );
    assert_eq!(
        server.refused(line, ask(json!({"kind": "Pod", "apiVersion": "v1", "name": "a", "uid": "x"}))),
        "409 Conflict Operation cannot be fulfilled on Pod \"a\": the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated"
    );
    server.make("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "other"}}));
    assert_eq!(
        server.refused(
            "POST /api/v1/namespaces/default/serviceaccounts/other/token",
            ask(json!({"kind": "Pod", "apiVersion": "v1", "name": "a"}))
        ),
        "400 BadRequest cannot bind token for serviceaccount \"other\" to pod running with different serviceaccount name."
    );
    let vault = claims(&mut server, json!({"spec": {"audiences": ["vault"]}}));
    let error = authenticate_token(&server, &vault).expect_err("for somebody else");
    assert!(error.contains("token audiences [\"vault\"] is invalid for the target audiences"), "{error}");
}

#[test]
fn a_bootstrap_token_lets_in_until_it_ends() {
    use base64::Engine;
    let base64 = |text: &str| json!(base64::engine::general_purpose::STANDARD.encode(text));
    let mut server = cluster();
    let data = json!({"token-id": base64("abcdef"), "token-secret": base64("0123456789abcdef"),
        "usage-bootstrap-authentication": base64("true"), "expiration": base64("2026-01-01T01:00:00Z"),
        "auth-extra-groups": base64("system:bootstrappers:b,system:bootstrappers:a")});
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    let secret =
        json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token", "data": data});
    server.make(secrets, secret);
    let user = |server: &Server, secret: &str| {
        let credential = Credential::Bootstrap { id: "abcdef".into(), secret: secret.into() };
        let audiences = [DEFAULT_AUDIENCE.to_owned()];
        crate::authenticate(server.store.snapshot(), server.now, &credential, &audiences).map(|(user, _)| user)
    };
    let joiner = user(&server, "0123456789abcdef").expect("a valid token");
    assert_eq!(joiner.name, "system:bootstrap:abcdef");
    let groups = ["system:bootstrappers", "system:bootstrappers:a", "system:bootstrappers:b", "system:authenticated"];
    assert_eq!(joiner.groups, groups);
    assert!(user(&server, "0123456789abcdeX").is_err());
    let patch = |field: &str, value: Value| json!({"data": {field: value}});
    let line = format!("PATCH:merge {secrets}/bootstrap-token-abcdef");
    server.done(&line, patch("auth-extra-groups", base64("system:masters")));
    assert!(user(&server, "0123456789abcdef").is_err(), "a group that is not allowed");
    server.done(&line, patch("auth-extra-groups", Value::Null));
    server.done(&line, patch("usage-bootstrap-authentication", base64("false")));
    assert!(user(&server, "0123456789abcdef").is_err(), "not meant for this");
    server.done(&line, patch("usage-bootstrap-authentication", base64("true")));
    assert!(user(&server, "0123456789abcdef").is_ok());
    server.wait(3601);
    assert!(user(&server, "0123456789abcdef").is_err(), "over");
}

#[test]
fn who_may_see_one_object_may_list_and_watch_it_by_name() {
    let mut server = cluster();
    let role_ref = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role",
        "name": "extension-apiserver-authentication-reader"});
    let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "extension"});
    let body = json!({"metadata": {"name": "reads"}, "subjects": [subject], "roleRef": role_ref});
    server.make(&format!("{RBAC}/namespaces/kube-system/rolebindings"), body);
    become_user(&mut server, "extension");
    let maps = "/api/v1/namespaces/kube-system/configmaps";
    let only = server.get(&format!("{maps}?fieldSelector=metadata.name%3Dextension-apiserver-authentication"));
    assert_eq!(only["items"][0]["data"]["requestheader-allowed-names"], r#"["front-proxy-client"]"#);
    for query in ["", "?fieldSelector=metadata.name%3Dother", "?fieldSelector=metadata.name%21%3Dother"] {
        assert!(server.refused(&format!("GET {maps}{query}"), Value::Null).starts_with("403 "), "{query}");
    }
}

#[test]
fn reviews_say_what_they_need() {
    let mut server = Server::new();
    let selector = json!({"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "In", "values": ["b"]}]});
    let attributes =
        |selector: Value| json!({"spec": {"resourceAttributes": {"verb": "list", "fieldSelector": selector}}});
    let at = "spec.resourceAttributes.fieldSelector";
    for (group, review, body, expected) in [
        (
            "authentication",
            "tokenreviews",
            json!({"spec": {}}),
            "400 BadRequest token is required for TokenReview in authentication".to_owned(),
        ),
        (
            "authorization",
            "selfsubjectrulesreviews",
            json!({"spec": {}}),
            "400 BadRequest no namespace on request".to_owned(),
        ),
        (
            "authorization",
            "selfsubjectaccessreviews",
            attributes(selector),
            format!(
                "422 Invalid SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: {at}.rawSelector: Invalid value: \
                 \"a=b\": may not specified at the same time as requirements"
            ),
        ),
        (
            "authorization",
            "selfsubjectaccessreviews",
            attributes(json!({})),
            format!(
                "422 Invalid SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: {at}.requirements: Required value: \
                 when {at} is specified, requirements or rawSelector is required"
            ),
        ),
    ] {
        assert_eq!(server.refused(&format!("POST /apis/{group}.k8s.io/v1/{review}"), body), expected);
    }
}
