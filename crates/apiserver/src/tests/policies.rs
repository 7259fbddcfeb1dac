//! Admission policies.

use serde_json::{Value, json};

use crate::fixture::{Server, pod};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn rules(resources: &[&str], operations: &[&str]) -> Value {
    json!({"resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": operations, "resources": resources}]})
}

/// A validating policy with its binding; `more` is merged into its spec.
fn validating(server: &mut Server, name: &str, more: Value, binding: Value) {
    let mut spec = json!({"matchConstraints": rules(&["configmaps"], &["*"]), "validations": []});
    let mut bound = json!({"policyName": name, "validationActions": ["Deny"]});
    for (into, from) in [(&mut spec, more), (&mut bound, binding)] {
        for (key, value) in from.as_object().into_iter().flatten() {
            into[key] = value.clone();
        }
    }
    server.make(&format!("{GROUP}/validatingadmissionpolicies"), json!({"metadata": {"name": name}, "spec": spec}));
    server.make(
        &format!("{GROUP}/validatingadmissionpolicybindings"),
        json!({"metadata": {"name": name}, "spec": bound}),
    );
}

fn map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

#[test]
fn a_policy_refuses_with_its_message() {
    let mut server = Server::new();
    let policy = json!({"validations": [
            {"expression": "object.data.size() < 3", "messageExpression": "'has ' + string(object.data.size()) + ' entries'"},
            {"expression": "!has(object.data.bad)", "message": "bad is bad", "reason": "Forbidden"},
            {"expression": "variables.first == 'a' || oldObject != null"}],
        "matchConstraints": rules(&["configmaps"], &["CREATE", "UPDATE"]),
        "variables": [{"name": "keys", "expression": "object.data.map(k, k)"}, {"name": "first", "expression": "variables.keys[0]"}],
        "matchConditions": [{"name": "not-free", "expression": "!object.metadata.name.startsWith('free')"}]});
    validating(&mut server, "maps", policy, json!({}));
    let post = format!("POST {MAPS}");
    let why = "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'maps' with binding 'maps' denied request: ";
    assert_eq!(
        server.refused(&post, map("m", json!({"a": "", "b": "", "c": ""}))),
        format!("422 Invalid {why}has 3 entries")
    );
    assert_eq!(server.refused(&post, map("m", json!({"a": "", "bad": ""}))), format!("403 Forbidden {why}bad is bad"));
    assert_eq!(
        server.refused(&post, map("m", json!({"b": ""}))),
        format!("422 Invalid {why}failed expression: variables.first == 'a' || oldObject != null")
    );
    assert_eq!(
        server.refused(&post, json!({"metadata": {"name": "m"}})),
        format!("422 Invalid {why}expression 'object.data.size() < 3' resulted in error: no such key: data")
    );
    server.make(MAPS, map("free", json!({"bad": ""})));
    server.make(MAPS, map("m", json!({"a": ""})));
    let patch = format!("PATCH:merge {MAPS}/m");
    server.done(&patch, json!({"data": {"a": null, "b": ""}}));
    assert!(server.refused(&patch, json!({"data": {"bad": ""}})).starts_with("403 Forbidden"));
    server.done(&format!("DELETE {MAPS}/m"), Value::Null);
    server.make("/api/v1/namespaces/default/secrets", json!({"metadata": {"name": "s"}}));
}

#[test]
fn bindings_choose_actions_selectors_and_parameters() {
    let mut server = Server::new();
    server.make("/api/v1/namespaces", json!({"metadata": {"name": "prod", "labels": {"env": "prod"}}}));
    server.make("/api/v1/namespaces", json!({"metadata": {"name": "limits"}}));
    server.make("/api/v1/namespaces/limits/configmaps", map("limit", json!({"max": "1"})));
    let policy = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConstraints": rules(&["secrets"], &["CREATE"]),
        "validations": [{"expression": "!has(object.data) || object.data.size() <= int(params.data.max)",
            "messageExpression": "'at most ' + params.data.max + ' in ' + namespaceObject.metadata.name"}]});
    let binding = json!({"validationActions": ["Warn", "Audit"], "paramRef": {"name": "limit", "namespace": "limits",
        "parameterNotFoundAction": "Deny"}, "matchResources": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}});
    validating(&mut server, "sizes", policy, binding);
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "", "b": ""}});
    server.make("/api/v1/namespaces/default/secrets", secret.clone());
    let reply = server.reply("POST /api/v1/namespaces/prod/secrets", &secret.to_string());
    let crate::Reply::Body(crate::Body { code: 201, warnings, .. }) = reply else { panic!("a warning lets it pass") };
    assert_eq!(
        warnings,
        ["Validation failed for ValidatingAdmissionPolicy 'sizes' with binding 'sizes': at most 1 in prod"]
    );
    server.done("DELETE /api/v1/namespaces/limits/configmaps/limit", Value::Null);
    let told = server.refused("POST /api/v1/namespaces/prod/secrets", json!({"metadata": {"name": "t"}}));
    assert!(
        told.ends_with(
            "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        ),
        "{told}"
    );
}

#[test]
fn policies_see_the_request_deletions_subresources_and_rights() {
    let mut server = Server::new();
    let policy = json!({"matchConstraints": rules(&["configmaps", "deployments/scale"], &["*"]), "validations": [
        {"expression": "request.operation != 'DELETE' || oldObject.metadata.name != 'kept'", "message": "is kept"},
        {"expression": "request.userInfo.username == 'admin' && request.resource.resource in ['configmaps', 'deployments']"},
        {"expression": "request.subResource != 'scale' || object.spec.replicas < 5", "message": "too many"},
        {"expression": "authorizer.group('').resource('nodes').check('delete').allowed() && authorizer.requestResource.check('get').allowed()"},
        {"expression": "!authorizer.serviceAccount('default', 'x').group('').resource('nodes').check('list').allowed()"}]});
    validating(&mut server, "p", policy, json!({}));
    server.make(MAPS, map("kept", json!({})));
    assert!(server.refused(&format!("DELETE {MAPS}/kept"), Value::Null).ends_with("denied request: is kept"));
    assert!(server.refused(&format!("DELETE {MAPS}"), Value::Null).ends_with("denied request: is kept"));
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "d"}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    server.make("/apis/apps/v1/namespaces/default/deployments", deployment);
    let scale = "PATCH:merge /apis/apps/v1/namespaces/default/deployments/d/scale";
    server.done(scale, json!({"spec": {"replicas": 4}}));
    assert!(server.refused(scale, json!({"spec": {"replicas": 6}})).ends_with("denied request: too many"));
}

#[test]
fn failures_are_ignored_when_the_policy_says_so() {
    let mut server = Server::new();
    let policy = json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.data.none == 'x'"}]});
    validating(&mut server, "lenient", policy, json!({}));
    server.make(MAPS, map("a", json!({"b": "c"})));
    let told = server.refused(
        &format!("POST {GROUP}/validatingadmissionpolicies"),
        json!({"metadata": {"name": "broken"}, "spec": {"matchConstraints": rules(&["pods"], &["CREATE"]),
            "variables": [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}],
            "validations": [{"expression": "object.x +"}, {"expression": "1"}, {"expression": "request.user == 'x'"}]}}),
    );
    assert!(
        told.contains("spec.variables[0].expression: Invalid value: \"variables.b\": compilation failed"),
        "{told}"
    );
    assert!(told.contains("undefined field 'user'"), "{told}");
    assert!(
        told.contains(
            "spec.validations[0].expression: Invalid value: \"object.x +\": compilation failed: ERROR: <input>:1:11"
        ),
        "{told}"
    );
    assert!(told.contains("spec.validations[1].expression: Invalid value: \"1\": must evaluate to bool"), "{told}");
}

#[test]
fn mutating_policies_change_what_is_written() {
    let mut server = Server::new();
    let mut mutating = |name: &str, resource: &str, mutation: Value| {
        let spec = json!({"matchConstraints": rules(&[resource], &["CREATE"]), "reinvocationPolicy": "IfNeeded", "mutations": [mutation]});
        server.make(&format!("{GROUP}/mutatingadmissionpolicies"), json!({"metadata": {"name": name}, "spec": spec}));
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
        server.make(&format!("{GROUP}/mutatingadmissionpolicybindings"), binding);
    };
    let apply = |source: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": source}});
    let patch = |source: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": source}});
    mutating(
        "a-labels",
        "pods",
        apply("Object{metadata: Object.metadata{labels: {'team': object.metadata.?annotations.team.orValue('none')}}}"),
    );
    mutating(
        "b-sidecar",
        "pods",
        apply(
            "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'mesh', image: 'mesh:1', restartPolicy: 'Always'}]}}",
        ),
    );
    mutating(
        "c-note",
        "pods",
        patch(
            "[JSONPatch{op: 'add', path: '/metadata/annotations', value: {'team': 'x'}}, \
          JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/seen'), value: 'yes'}]",
        ),
    );
    mutating("d-broken", "configmaps", patch("[JSONPatch{op: 'remove', path: '/none'}]"));
    let made = server.make("/api/v1/namespaces/default/pods", pod("p"));
    assert_eq!(made["metadata"]["labels"], json!({"app": "web", "team": "x", "example.com/seen": "yes"}), "{made}");
    assert_eq!(made["spec"]["initContainers"][0]["name"], "mesh");
    assert_eq!(
        made["spec"]["initContainers"][0]["terminationMessagePath"], "/dev/termination-log",
        "defaults are filled in again"
    );
    assert_eq!(made["spec"]["containers"][0]["name"], "c");
    let told = server.refused(&format!("POST {MAPS}"), map("m", json!({})));
    assert!(told.contains("MutatingAdmissionPolicy 'd-broken' with binding 'd-broken' denied request: "), "{told}");
}
