//! What is not stored is admitted like what is.

use base64::Engine;
use serde_json::{Value, json};

use crate::fixture::{Server, pod};
use crate::{Reply, serve_write};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn rules(resource: &str, operation: &str) -> Value {
    json!([{"apiGroups": ["*"], "apiVersions": ["*"], "operations": [operation], "resources": [resource]}])
}

fn policy(server: &mut Server, name: &str, (resource, operation): (&str, &str), expression: &str) {
    let spec = json!({"matchConstraints": {"resourceRules": rules(resource, operation)}, "validations": [{"expression": expression, "message": "no"}]});
    server.make(&format!("{GROUP}/validatingadmissionpolicies"), json!({"metadata": {"name": name}, "spec": spec}));
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    server.make(&format!("{GROUP}/validatingadmissionpolicybindings"), binding);
}

fn hook(server: &mut Server, kind: &str, resource: &str) {
    let webhook = json!({"name": "h.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://127.0.0.1:9/h"}, "rules": rules(resource, "CREATE")});
    server.make(
        &format!("{GROUP}/{kind}webhookconfigurations"),
        json!({"metadata": {"name": "h"}, "webhooks": [webhook]}),
    );
}

#[test]
fn policies_see_bindings_evictions_connections_and_token_requests_but_no_reviews() {
    let mut server = Server::new();
    server.make(PODS, pod("a"));
    policy(&mut server, "sub", ("pods/binding", "CREATE"), "object.target.name != 'bad'");
    policy(&mut server, "old", ("bindings", "CREATE"), "object.target.name != 'bad'");
    policy(&mut server, "evict", ("pods/eviction", "CREATE"), "request.kind.kind != 'Eviction'");
    policy(&mut server, "exec", ("pods/exec", "CONNECT"), "object.command[0] != 'sh'");
    policy(&mut server, "token", ("serviceaccounts/token", "CREATE"), "object.spec.audiences[0] != 'bad'");
    policy(&mut server, "review", ("tokenreviews", "*"), "false");
    let binding = |node: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"name": node}});
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    let token = |audience: &str| json!({"spec": {"audiences": [audience]}});
    for (policy, resource, line, body) in [
        ("sub", "pods \"a\"", "pods/a/binding", binding("bad")),
        ("old", "bindings", "bindings", binding("bad")),
        ("evict", "pods \"a\"", "pods/a/eviction", eviction),
        ("exec", "pods \"a\"", "pods/a/exec?command=sh", Value::Null),
        ("token", "serviceaccounts \"default\"", "serviceaccounts/default/token", token("bad")),
    ] {
        let told = server.refused(&format!("POST /api/v1/namespaces/default/{line}"), body);
        let why = format!("ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: no");
        assert!(told.starts_with("422 Invalid") && told.contains(resource) && told.ends_with(&why), "{line}: {told}");
    }
    server.make("/apis/authentication.k8s.io/v1/tokenreviews", json!({"spec": {"token": "x"}}));
    let granted =
        server.reply("POST /api/v1/namespaces/default/serviceaccounts/default/token", &token("good").to_string());
    assert!(matches!(granted, Reply::Sign(_)), "{granted:?}");
    server.make(&format!("{PODS}/a/binding"), binding("good"));
    // What they warn of goes with the answer to a connection.
    let warn = json!({"spec": {"validationActions": ["Warn"]}});
    server.done(&format!("PATCH:merge {GROUP}/validatingadmissionpolicybindings/exec"), warn);
    let reply = server.reply(&format!("POST {PODS}/a/exec?command=sh"), "");
    let Reply::Stream(plan) = reply else { panic!("a warning lets it pass: {reply:?}") };
    assert_eq!(plan.warnings, ["Validation failed for ValidatingAdmissionPolicy 'exec' with binding 'exec': no"]);
}

#[test]
fn mutating_policies_change_bindings_and_token_requests_but_no_reviews() {
    let mut server = Server::new();
    server.make(PODS, pod("a"));
    let mut mutating = |name: &str, resource: &str, mutation: Value| {
        let constraints = json!({"resourceRules": rules(resource, "CREATE")});
        let spec = json!({"matchConstraints": constraints, "reinvocationPolicy": "Never", "mutations": [mutation]});
        server.make(&format!("{GROUP}/mutatingadmissionpolicies"), json!({"metadata": {"name": name}, "spec": spec}));
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
        server.make(&format!("{GROUP}/mutatingadmissionpolicybindings"), binding);
    };
    let patch = |expression: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
    let apply =
        |expression: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
    mutating("bind", "pods/binding", apply("Object{metadata: Object.metadata{annotations: {'seen': 'yes'}}}"));
    mutating(
        "token",
        "serviceaccounts/token",
        patch("[JSONPatch{op: 'add', path: '/spec/audiences', value: ['changed']}]"),
    );
    mutating("review", "tokenreviews", patch("[JSONPatch{op: 'remove', path: '/spec'}]"));
    mutating("evict", "pods/eviction", patch("[JSONPatch{op: 'remove', path: '/none'}]"));

    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"name": "n"}});
    server.make(&format!("{PODS}/a/binding"), binding);
    let bound = server.get(&format!("{PODS}/a"));
    assert_eq!((&bound["spec"]["nodeName"], &bound["metadata"]["annotations"]["seen"]), (&json!("n"), &json!("yes")));
    let path = "POST /api/v1/namespaces/default/serviceaccounts/default/token";
    let Reply::Sign(plan) = server.reply(path, r#"{"spec":{}}"#) else { panic!("a token is granted") };
    assert_eq!(plan.claims.aud, ["changed"]);
    server.make("/apis/authentication.k8s.io/v1/tokenreviews", json!({"spec": {"token": "x"}}));
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    let told = server.refused(&format!("POST {PODS}/a/eviction"), eviction);
    assert!(told.contains("MutatingAdmissionPolicy 'evict' with binding 'evict' denied request: "), "{told}");
}

#[test]
fn webhooks_see_reviews_and_change_token_requests() {
    let mut server = Server::new();
    hook(&mut server, "mutating", "serviceaccounts/token");
    hook(&mut server, "validating", "*/*");
    server.webhook = Box::new(|_, request| {
        if request["resource"]["resource"] != "serviceaccounts" {
            return Ok(json!({"allowed": false, "status": {"message": "not now"}}));
        }
        assert_eq!((&request["kind"]["kind"], &request["subResource"]), (&json!("TokenRequest"), &json!("token")));
        if request["object"]["spec"]["audiences"] == json!(["changed"]) {
            return Ok(json!({"allowed": true}));
        }
        let patch = r#"[{"op":"add","path":"/spec/audiences","value":["changed"]}]"#;
        Ok(
            json!({"allowed": true, "patchType": "JSONPatch", "patch": base64::engine::general_purpose::STANDARD.encode(patch)}),
        )
    });
    let path = "POST /api/v1/namespaces/default/serviceaccounts/default/token";
    let Reply::Sign(plan) = server.reply(path, r#"{"spec":{}}"#) else { panic!("a token is granted") };
    assert_eq!(plan.claims.aud, ["changed"]);
    // The same for those who wait for webhooks where writes are decided, as agents do.
    let request = server.request(path, r#"{"spec":{}}"#).expect("a request");
    let Reply::Call(call) = serve_write(&mut server.ctx(), &request) else { panic!("somebody is asked") };
    let answers = call.questions.iter().map(|question| server.answer(question)).collect();
    let Reply::Call(call) = serve_write(&mut server.ctx(), &call.answered(answers)) else { panic!("the other, too") };
    let answers = call.questions.iter().map(|question| server.answer(question)).collect();
    let Reply::Sign(plan) = serve_write(&mut server.ctx(), &call.answered(answers)) else { panic!("it is granted") };
    assert_eq!(plan.claims.aud, ["changed"]);
    let review = json!({"spec": {"user": "joe", "nonResourceAttributes": {"verb": "get", "path": "/"}}});
    let told = server.refused("POST /apis/authorization.k8s.io/v1/subjectaccessreviews", review);
    assert_eq!(told, "400  admission webhook \"h.example.com\" denied the request: not now");
    assert_eq!(
        server.asked.last().map(|(_, request)| request["kind"]["kind"].clone()),
        Some(json!("SubjectAccessReview"))
    );
}
