//! What the audit log is told of decisions.

use base64::Engine;
use serde_json::{Value, json};
use stead_api::Noted;

use crate::fixture::{Server, pod};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn rules(resource: &str) -> Value {
    json!([{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": [resource]}])
}

fn hook(server: &mut Server, kind: &str, name: &str, failure_policy: &str) {
    let webhook = json!({"name": format!("{name}.example.com"), "sideEffects": "None", "failurePolicy": failure_policy,
        "admissionReviewVersions": ["v1"], "clientConfig": {"url": format!("https://127.0.0.1:9/{name}")}, "rules": rules("configmaps")});
    let body = json!({"metadata": {"name": format!("conf-{name}")}, "webhooks": [webhook]});
    server.make(&format!("{GROUP}/{kind}webhookconfigurations"), body);
}

fn policy(server: &mut Server, name: &str, spec: Value, actions: &[&str]) {
    let mut spec = spec;
    spec["matchConstraints"] = json!({"resourceRules": rules("configmaps")});
    server.make(&format!("{GROUP}/validatingadmissionpolicies"), json!({"metadata": {"name": name}, "spec": spec}));
    let binding = json!({"metadata": {"name": format!("{name}-here")}, "spec": {"policyName": name, "validationActions": actions}});
    server.make(&format!("{GROUP}/validatingadmissionpolicybindings"), binding);
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "v"}})
}

/// The notes of a request, as `key=value`.
fn notes(server: &mut Server, noted: Noted, line: &str, body: Value) -> Vec<String> {
    server.noted = noted;
    let _ = server.ask(line, body);
    server.notes.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

#[test]
fn webhooks_are_noted_with_what_they_changed_and_what_they_say() {
    let mut server = Server::new();
    hook(&mut server, "mutating", "a", "Fail");
    hook(&mut server, "mutating", "b", "Fail");
    hook(&mut server, "mutating", "c", "Ignore");
    hook(&mut server, "validating", "v", "Ignore");
    hook(&mut server, "validating", "w", "Fail");
    server.webhook = Box::new(|name, _| {
        let patch = base64::engine::general_purpose::STANDARD.encode(r#"[{"op":"add","path":"/data/a","value":"1"}]"#);
        Ok(match name {
            "a.example.com" => json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}),
            "b.example.com" => json!({"allowed": true, "auditAnnotations": {"seen": "yes", "bad key": "x"}}),
            "w.example.com" => json!({"allowed": false, "auditAnnotations": {"why": "no"}}),
            _ => return Err("it is away".into()),
        })
    });
    let post = format!("POST {MAPS}");
    assert!(notes(&mut server, Noted::Nothing, &post, map("m")).is_empty());
    let mut expected = vec![
        r#"mutation.webhook.admission.k8s.io/round_0_index_0={"configuration":"conf-a","webhook":"a.example.com","mutated":true}"#,
        "b.example.com/seen=yes",
        r#"mutation.webhook.admission.k8s.io/round_0_index_1={"configuration":"conf-b","webhook":"b.example.com","mutated":false}"#,
        r#"mutation.webhook.admission.k8s.io/round_0_index_2={"configuration":"conf-c","webhook":"c.example.com","mutated":false}"#,
        "failed-open.mutating.webhook.admission.k8s.io/round_0_index_2=c.example.com",
        "failed-open.validating.webhook.admission.k8s.io/round_0_index_0=v.example.com",
        "w.example.com/why=no",
    ];
    assert_eq!(
        notes(&mut server, Noted::Decisions, &post, map("m")),
        expected,
        "once each, however often it is decided"
    );
    let patch = r#"patch.webhook.admission.k8s.io/round_0_index_0={"configuration":"conf-a","webhook":"a.example.com","patch":[{"op":"add","path":"/data/a","value":"1"}],"patchType":"JSONPatch"}"#;
    expected.insert(0, patch);
    assert_eq!(notes(&mut server, Noted::Patches, &post, map("m")), expected);
}

#[test]
fn policies_note_what_they_would_refuse_and_their_own_annotations() {
    let mut server = Server::new();
    let spec = json!({"validations": [{"expression": "true"}, {"expression": "object.data.k != 'v'", "message": "no v"},
            {"expression": "false", "message": "never"}],
        "auditAnnotations": [{"key": "who", "valueExpression": "' ' + request.userInfo.username"}, {"key": "none", "valueExpression": "null"}]});
    policy(&mut server, "looks", spec, &["Audit"]);
    let post = format!("POST {MAPS}");
    assert!(notes(&mut server, Noted::Nothing, &post, map("m")).is_empty());
    let failure = r#"validation.policy.admission.k8s.io/validation_failure=[{"message":"no v","policy":"looks","binding":"looks-here","expressionIndex":1,"validationActions":["Audit"]}]"#;
    assert_eq!(notes(&mut server, Noted::Decisions, &post, map("n")), [failure, "looks/who=admin"]);
    assert_eq!(server.get(&format!("{MAPS}/n"))["data"]["k"], "v", "it is not refused");
}

#[test]
fn an_annotation_that_fails_refuses_unless_failures_are_ignored() {
    let mut server = Server::new();
    let annotations = json!([{"key": "first", "valueExpression": "object.data.x"}]);
    policy(&mut server, "lax", json!({"auditAnnotations": annotations, "failurePolicy": "Ignore"}), &["Audit"]);
    let post = format!("POST {MAPS}");
    assert!(notes(&mut server, Noted::Decisions, &post, map("m")).is_empty());
    policy(&mut server, "strict", json!({"auditAnnotations": annotations}), &["Audit"]);
    let told = server.refused(&post, map("n"));
    assert!(told.ends_with("denied request: expression 'object.data.x' resulted in error: no such key: x"), "{told}");
}

#[test]
fn pod_security_is_noted_of_pods_and_templates_however_they_come() {
    let mut server = Server::new();
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/audit": "baseline"}}});
    server.done("PATCH:merge /api/v1/namespaces/default", labels);
    let mut bold = pod("bold");
    bold["spec"]["hostNetwork"] = json!(true);
    let told = notes(&mut server, Noted::Decisions, "POST /api/v1/namespaces/default/pods", bold.clone());
    let violation = "pod-security.kubernetes.io/audit-violations=would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    assert_eq!(told, ["pod-security.kubernetes.io/enforce-policy=privileged:latest", violation]);
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": bold["spec"]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template}});
    let path = "PATCH:apply /apis/apps/v1/namespaces/default/deployments/d?fieldManager=t";
    assert_eq!(notes(&mut server, Noted::Decisions, path, deployment), [violation]);
}
