//! Admission webhooks, played by the test.

use base64::Engine;
use serde_json::{Value, json};
use stead_api::Remarks;
use stead_api::call::Answer;

use crate::fixture::{Server, pod, statefulset};
use crate::{CallPlan, Reply};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn rule(resources: &[&str], operations: &[&str]) -> Value {
    json!({"apiGroups": ["*"], "apiVersions": ["*"], "operations": operations, "resources": resources})
}

/// A configuration of one webhook with its name; `more` is merged into the webhook.
fn hook(server: &mut Server, kind: &str, name: &str, more: Value) {
    let mut webhook = json!({"name": format!("{name}.example.com"), "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "clientConfig": {"url": format!("https://127.0.0.1:9/{name}")},
        "rules": [rule(&["configmaps"], &["*"])]});
    for (key, value) in more.as_object().into_iter().flatten() {
        webhook[key] = value.clone();
    }
    let body = json!({"metadata": {"name": name}, "webhooks": [webhook]});
    server.make(&format!("{GROUP}/{kind}webhookconfigurations"), body);
}

fn map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

fn patch(operations: Value) -> Value {
    let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

fn names(server: &mut Server) -> Vec<String> {
    std::mem::take(&mut server.asked).into_iter().map(|(name, _)| name.replace(".example.com", "")).collect()
}

#[test]
fn webhooks_are_asked_in_order_and_look_again_when_others_made_changes() {
    let mut server = Server::new();
    hook(&mut server, "mutating", "b", json!({"reinvocationPolicy": "IfNeeded"}));
    hook(&mut server, "mutating", "a", json!({"reinvocationPolicy": "IfNeeded"}));
    hook(&mut server, "mutating", "c", json!({}));
    hook(&mut server, "validating", "z", json!({}));
    hook(&mut server, "validating", "y", json!({}));
    server.webhook = Box::new(|name, request| {
        let data = &request["object"]["data"];
        Ok(match name {
            "b.example.com" if data["b"].is_null() => patch(json!([{"op": "add", "path": "/data/b", "value": "1"}])),
            "c.example.com" if data["c"].is_null() => patch(json!([{"op": "add", "path": "/data/c", "value": "1"}])),
            "y.example.com" => json!({"allowed": true, "warnings": ["y was here"]}),
            _ => json!({"allowed": true}),
        })
    });
    let made = server.make(MAPS, map("m", json!({"k": "v"})));
    assert_eq!(made["data"], json!({"k": "v", "b": "1", "c": "1"}));
    assert_eq!(names(&mut server), ["a", "b", "c", "a", "b", "y", "z"]);
    let Reply::Body(body) = server.reply(&format!("PATCH:merge {MAPS}/m"), r#"{"data":{"k":"w"}}"#) else { panic!() };
    assert_eq!(body.warnings, ["y was here"]);
    assert_eq!(names(&mut server), ["a", "b", "c", "y", "z"], "nobody made a change");
}

#[test]
fn a_review_says_what_kubernetes_says() {
    let mut server = Server::new();
    hook(&mut server, "mutating", "m", json!({}));
    hook(&mut server, "validating", "v", json!({}));
    server.make(&format!("{MAPS}?fieldManager=me"), json!({"metadata": {"generateName": "m-"}, "data": {"a": "1"}}));
    let asked = std::mem::take(&mut server.asked);
    let (mutating, validating) = (&asked[0].1, &asked[1].1);
    assert_eq!(mutating["object"]["metadata"]["name"], Value::Null, "no name was made yet");
    assert_eq!(mutating["object"]["metadata"]["uid"], Value::Null);
    assert!(mutating.get("name").is_none());
    let meta = &validating["object"]["metadata"];
    assert_eq!(validating["name"], meta["name"]);
    let name = meta["name"].as_str().expect("a name").to_owned();
    let stored = server.get(&format!("{MAPS}/{name}"));
    assert_eq!(stored["metadata"]["uid"], meta["uid"], "what was looked at is what is stored");
    assert_eq!(stored["metadata"]["managedFields"], meta["managedFields"]);
    let keys: Vec<&String> = validating.as_object().expect("an object").keys().collect();
    let expected = ["uid", "kind", "resource", "requestKind", "requestResource", "name", "namespace", "operation"];
    assert!(expected.iter().all(|one| keys.iter().any(|key| key == one)), "{keys:?}");
    assert!(!keys.iter().any(|key| *key == "subResource"));
    assert_eq!(validating["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(validating["requestResource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&validating["operation"], &validating["dryRun"]), (&json!("CREATE"), &json!(false)));
    assert_eq!(validating["oldObject"], Value::Null);
    let options = json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"});
    assert_eq!(validating["options"], options);
    assert_eq!(validating["userInfo"], json!({"username": "admin", "groups": ["system:masters"]}));

    server.done(&format!("DELETE {MAPS}/{name}"), json!({"gracePeriodSeconds": 0}));
    let asked = std::mem::take(&mut server.asked);
    assert_eq!(asked.len(), 2, "both kinds are asked about a deletion");
    let deletion = &asked[1].1;
    assert_eq!((&deletion["object"], &deletion["oldObject"]["data"]), (&Value::Null, &json!({"a": "1"})));
    assert_eq!(
        deletion["options"],
        json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 0})
    );
}

#[test]
fn what_a_webhook_makes_is_filled_in_and_checked() {
    let mut server = Server::new();
    hook(&mut server, "mutating", "sidecar", json!({"rules": [rule(&["pods"], &["CREATE"])]}));
    server.webhook = Box::new(|_, _| {
        Ok(patch(json!([
            {"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "stead.local/demo:1"}},
            {"op": "add", "path": "/metadata/annotations", "value": {"side": "car"}},
            {"op": "add", "path": "/metadata/uid", "value": "forged"}])))
    });
    let made = server.make("/api/v1/namespaces/default/pods", pod("p"));
    let side = &made["spec"]["containers"][1];
    assert_eq!(side["terminationMessagePath"], "/dev/termination-log", "defaults");
    assert_eq!(side["volumeMounts"][0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount", "admission");
    assert_ne!(made["metadata"]["uid"], "forged");
    server.webhook =
        Box::new(|_, _| Ok(patch(json!([{"op": "add", "path": "/spec/containers/0/name", "value": "A_b"}]))));
    let refused = server.refused("POST /api/v1/namespaces/default/pods", pod("q"));
    assert!(refused.starts_with("422 Invalid Pod \"q\" is invalid: spec.containers[0].name"), "{refused}");
    server.webhook = Box::new(|_, _| Ok(patch(json!([{"op": "remove", "path": "/spec/nothing"}]))));
    let refused = server.refused("POST /api/v1/namespaces/default/pods", pod("q"));
    assert!(refused.starts_with("500 InternalError Internal error occurred: "), "{refused}");
}

#[test]
fn a_denial_has_the_webhooks_words() {
    let mut server = Server::new();
    hook(&mut server, "validating", "v", json!({}));
    for (status, expected) in [
        (json!({"message": "no", "code": 403, "reason": "Forbidden"}), "403 Forbidden {} denied the request: no"),
        (json!({"reason": "Because"}), "400 Because {} denied the request: Because"),
        (json!({"code": 200}), "400  {} denied the request without explanation"),
        (Value::Null, "400  {} denied the request without explanation"),
        (json!({"message": "teapot", "code": 418}), "418  {} denied the request: teapot"),
    ] {
        server.webhook = Box::new(move |_, _| Ok(json!({"allowed": false, "status": status})));
        let expected = expected.replace("{}", "admission webhook \"v.example.com\"");
        assert_eq!(server.refused(&format!("POST {MAPS}"), map("m", json!({}))), expected);
    }
    server.webhook = Box::new(|_, request| Ok(json!({"allowed": request["operation"] != "DELETE"})));
    server.make(MAPS, map("m", json!({})));
    let why = "400  admission webhook \"v.example.com\" denied the request without explanation";
    assert_eq!(server.refused(&format!("DELETE {MAPS}/m"), Value::Null), why);
    assert_eq!(server.refused(&format!("DELETE {MAPS}"), Value::Null), why);
    server.get(&format!("{MAPS}/m"));
}

#[test]
fn a_webhook_that_fails_counts_as_its_policy_says() {
    let mut server = Server::new();
    hook(&mut server, "validating", "v", json!({}));
    server.webhook =
        Box::new(|_, _| Err("Post \"https://127.0.0.1:9/v?timeout=10s\": context deadline exceeded".into()));
    let post = format!("POST {MAPS}");
    assert_eq!(
        server.refused(&post, map("m", json!({}))),
        "500 InternalError Internal error occurred: failed calling webhook \"v.example.com\": failed to call webhook: \
         Post \"https://127.0.0.1:9/v?timeout=10s\": context deadline exceeded"
    );
    for (response, expected) in [
        (json!({"allowed": true, "patch": "W10="}), "validating webhook may not return response.patch"),
        (json!({"allowed": true, "patchType": "JSONPatch"}), "validating webhook may not return response.patchType"),
    ] {
        server.webhook = Box::new(move |_, _| Ok(response.clone()));
        let why = "500 InternalError Internal error occurred: failed calling webhook \"v.example.com\": received invalid \
                   webhook response: ";
        assert_eq!(server.refused(&post, map("m", json!({}))), format!("{why}{expected}"));
    }
    server.webhook = Box::new(|_, _| Err("gone".into()));
    let path = format!("PATCH:json {GROUP}/validatingwebhookconfigurations/v");
    server.done(&path, json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]));
    server.make(MAPS, map("m", json!({})));
}

#[test]
fn a_dry_run_asks_only_those_without_effects() {
    let mut server = Server::new();
    hook(&mut server, "validating", "v", json!({"sideEffects": "NoneOnDryRun"}));
    server.make(&format!("{MAPS}?dryRun=All"), map("m", json!({})));
    let asked = std::mem::take(&mut server.asked);
    assert_eq!((asked[0].1["dryRun"].clone(), asked[0].1["options"]["dryRun"].clone()), (json!(true), json!(["All"])));
    assert!(server.refused(&format!("GET {MAPS}/m"), Value::Null).starts_with("404"));
}

#[test]
fn rules_selectors_and_conditions_choose() {
    let mut server = Server::new();
    server.make("/api/v1/namespaces", json!({"metadata": {"name": "prod", "labels": {"env": "prod"}}}));
    hook(&mut server, "validating", "space", json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}));
    hook(&mut server, "validating", "object", json!({"objectSelector": {"matchLabels": {"a": "b"}}}));
    let conditions = json!([{"name": "x", "expression": "request.userInfo.username == 'admin'"},
        {"name": "y", "expression": "object.data.exists(k, k == 'ask')"}]);
    hook(
        &mut server,
        "validating",
        "condition",
        json!({"matchConditions": conditions, "rules": [rule(&["configmaps"], &["CREATE"])]}),
    );
    hook(&mut server, "validating", "scale", json!({"rules": [rule(&["*/scale"], &["UPDATE"])]}));
    hook(
        &mut server,
        "validating",
        "apps",
        json!({"rules": [
        {"apiGroups": ["apps"], "apiVersions": ["v1beta1"], "operations": ["CREATE"], "resources": ["statefulsets"]}]}),
    );
    hook(&mut server, "validating", "all", json!({"rules": [rule(&["*"], &["*"])], "matchPolicy": "Exact"}));
    let mut ask = |line: &str, body: Value| {
        server.done(line, body);
        names(&mut server)
    };
    assert_eq!(ask(&format!("POST {MAPS}"), map("a", json!({"ask": ""}))), ["all", "condition"]);
    assert_eq!(ask("POST /api/v1/namespaces/prod/configmaps", map("a", json!({"x": ""}))), ["all", "space"]);
    let mut labelled = map("b", json!({"x": ""}));
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(ask(&format!("POST {MAPS}"), labelled), ["all", "object"]);
    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    assert_eq!(ask(&format!("POST {sets}"), statefulset("web")), ["all", "apps"]);
    assert_eq!(ask(&format!("PATCH:merge {sets}/web/scale"), json!({"spec": {"replicas": 2}})), ["scale"]);
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    assert_eq!(ask("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review), ["all"]);
    let path = format!("PATCH:merge {GROUP}/validatingwebhookconfigurations/all");
    assert_eq!(
        ask(&path, json!({"metadata": {"labels": {"a": "b"}}})),
        Vec::<String>::new(),
        "nobody guards the guards"
    );
    let failing = server.refused(&format!("POST {MAPS}"), json!({"metadata": {"name": "c"}}));
    assert_eq!(
        failing,
        "403 Forbidden configmaps \"c\" is forbidden: matchCondition 'y' resulted in error: no such key: data"
    );
}

#[test]
fn what_others_change_meanwhile_is_looked_at_too() {
    let mut server = Server::new();
    server.make(MAPS, map("m", json!({"a": "1"})));
    hook(&mut server, "validating", "v", json!({}));
    let request = server.request(&format!("PATCH:merge {MAPS}/m"), r#"{"data":{"b":"1"}}"#).expect("a request");
    let first = call(crate::serve_write(&mut server.ctx(), &request));
    // Somebody whom nobody is asked about.
    let mut other = server.request(&format!("PATCH:merge {MAPS}/m"), r#"{"data":{"a":"2"}}"#).expect("a request");
    other.replay = Some(Box::new(stead_api::call::Replay::unasked()));
    server.perform(&other);
    let answers = first.questions.iter().map(|question| server.answer(question)).collect();
    let second = call(crate::serve_write(&mut server.ctx(), &first.answered(answers)));
    let answers = second.questions.iter().map(|question| server.answer(question)).collect();
    let reply = crate::serve_write(&mut server.ctx(), &second.answered(answers));
    assert!(reply.status().is_none(), "{reply:?}");
    assert_eq!(server.asked[0].1["object"]["data"], json!({"a": "1", "b": "1"}));
    assert_eq!(server.asked[1].1["object"]["data"], json!({"a": "2", "b": "1"}));
}

#[test]
fn asking_has_an_end() {
    let mut server = Server::new();
    hook(&mut server, "validating", "v", json!({}));
    let request = server.request(&format!("POST {MAPS}"), &map("m", json!({})).to_string()).expect("a request");
    let plan = call(crate::serve_write(&mut server.ctx(), &request));
    server.wait(61);
    // The question is open still: somebody has changed whom to ask.
    let path = format!("PATCH:json {GROUP}/validatingwebhookconfigurations/v");
    server.done(&path, json!([{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 1}]));
    let answers = plan.questions.iter().map(|question| server.answer(question)).collect();
    let reply = crate::serve_write(&mut server.ctx(), &plan.answered(answers));
    let told = reply.status().map(|status| (status.code, status.message.clone()));
    assert_eq!(told, Some((504, "Timeout: request did not complete within requested timeout".into())));
}

#[test]
fn a_request_says_how_long_it_asks_at_most() {
    let mut server = Server::new();
    hook(&mut server, "validating", "v", json!({"failurePolicy": "Ignore"}));
    let request = server.request(&format!("POST {MAPS}?timeout=10s"), &map("m", json!({})).to_string());
    let plan = call(crate::serve_write(&mut server.ctx(), &request.expect("a request")));
    assert_eq!(plan.within, std::time::Duration::from_secs(10));
    server.wait(11);
    // That nobody minds that the webhook has failed does not help: it is too late.
    let late = plan.questions.iter().map(|_| Answer { uid: String::new(), said: Err("late".into()) }).collect();
    let reply = crate::serve_write(&mut server.ctx(), &plan.answered(late));
    assert_eq!(reply.status().map(|status| status.code), Some(504));
}

#[test]
fn bindings_and_evictions_are_looked_at_before_anything_is_done() {
    let mut server = Server::new();
    server.make("/api/v1/namespaces/default/pods", pod("p"));
    hook(&mut server, "validating", "v", json!({"rules": [rule(&["pods/binding", "pods/eviction"], &["CREATE"])]}));
    server.webhook = Box::new(|_, _| Ok(json!({"allowed": false, "status": {"message": "stay"}})));
    let (binding, eviction) = (json!({"target": {"name": "n"}}), json!({"metadata": {"name": "p"}}));
    let why = "400  admission webhook \"v.example.com\" denied the request: stay";
    let pod = "POST /api/v1/namespaces/default/pods/p";
    assert_eq!(server.refused(&format!("{pod}/binding"), binding), why);
    assert_eq!(server.refused(&format!("{pod}/eviction"), eviction), why);
    let kinds: Vec<&Value> = server.asked.iter().map(|(_, request)| &request["kind"]["kind"]).collect();
    assert_eq!(kinds, ["Binding", "Eviction"]);
    assert_eq!(server.asked[1].1["subResource"], "eviction");
}

#[test]
fn connections_are_looked_at_before_they_are_made() {
    let mut server = Server::new();
    server.make("/api/v1/namespaces/default/pods", pod("p"));
    let rules = rule(&["pods/exec", "pods/proxy"], &["CONNECT"]);
    hook(&mut server, "mutating", "m", json!({"rules": [rules]}));
    hook(&mut server, "validating", "v", json!({"rules": [rules]}));
    server.webhook = Box::new(|name, _| Ok(json!({"allowed": name != "v.example.com"})));
    let path = "GET /api/v1/namespaces/default/pods/p";
    let why = "400  admission webhook \"v.example.com\" denied the request without explanation";
    assert_eq!(server.refused(&format!("{path}/exec?command=sh&command=-c&stdin=true"), Value::Null), why);
    let (_, asked) = &server.asked[1];
    assert_eq!(
        asked["object"],
        json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "command": ["sh", "-c"]})
    );
    assert_eq!((&asked["operation"], &asked["subResource"]), (&json!("CONNECT"), &json!("exec")));
    assert_eq!((&asked["kind"]["kind"], &asked["options"]), (&json!("PodExecOptions"), &Value::Null));
    let proxied = server.request(&format!("{path}/proxy/metrics"), "").expect("a request");
    let plan = crate::permit_connection(&server.head(), server.now, &proxied, &mut Remarks::default())
        .expect("somebody is asked");
    let asked: Value = serde_json::from_slice(&call(plan).questions[0].request).expect("JSON");
    assert_eq!(asked["object"], json!({"kind": "PodProxyOptions", "apiVersion": "v1", "path": "/metrics"}));
}

#[test]
fn a_webhook_changes_how_a_connection_is_made() {
    let mut server = Server::new();
    let mut two = pod("p");
    two["spec"]["nodeName"] = json!("n");
    let mut more = two["spec"]["containers"][0].clone();
    more["name"] = json!("more");
    two["spec"]["containers"].as_array_mut().expect("containers").push(more);
    server.make("/api/v1/namespaces/default/pods", two);
    hook(&mut server, "mutating", "m", json!({"rules": [rule(&["pods/exec"], &["CONNECT"])]}));
    server.webhook = Box::new(|_, _| {
        let operations = json!([{"op": "add", "path": "/tty", "value": true}, {"op": "add", "path": "/container", "value": "more"},
            {"op": "replace", "path": "/command", "value": ["id", "-u"]}]);
        Ok(patch(operations))
    });
    let reply = server.reply("GET /api/v1/namespaces/default/pods/p/exec?command=sh&stdin=true", "");
    let Reply::Stream(plan) = reply else { panic!("{reply:?}") };
    let options = &plan.request.options;
    assert_eq!(plan.container, "more");
    assert_eq!((options.param("tty"), options.param("stdin")), (Some("true"), Some("true")));
    assert_eq!(options.params("command").collect::<Vec<_>>(), ["id", "-u"]);
}

#[test]
fn a_review_names_what_the_request_names() {
    let mut server = Server::new();
    let resources = ["configmaps", "namespaces", "namespaces/*", "bindings"];
    hook(&mut server, "validating", "v", json!({"rules": [rule(&resources, &["*"])]}));
    server.webhook = Box::new(|_, _| Ok(json!({"allowed": true})));
    let named = |server: &mut Server| {
        let (_, asked) = server.asked.pop().expect("somebody is asked");
        [asked["namespace"].clone(), asked["name"].clone()]
    };
    // A namespace is in itself, even before it is there.
    server.make("/api/v1/namespaces", json!({"metadata": {"name": "here"}}));
    assert_eq!(named(&mut server), ["here", "here"]);
    server.done("PATCH:merge /api/v1/namespaces/here/status", json!({"status": {"phase": "Active"}}));
    assert_eq!(named(&mut server), ["here", "here"]);
    // Who deletes a collection names none of its objects.
    server.make(MAPS, map("m", json!({})));
    assert_eq!(named(&mut server), ["default", "m"]);
    server.done(&format!("DELETE {MAPS}"), Value::Null);
    assert_eq!(named(&mut server), [json!("default"), Value::Null]);
    server.make("/api/v1/namespaces/default/pods", pod("p"));
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    server.make("/api/v1/namespaces/default/bindings", binding);
    assert_eq!(named(&mut server), ["default", "p"]);
}

fn call(reply: Reply) -> CallPlan {
    match reply {
        Reply::Call(plan) => *plan,
        other => panic!("nobody was asked: {other:?}"),
    }
}
