//! Webhooks that look at what controllers write.

use base64::Engine;

use super::*;

impl World {
    /// Answers what webhooks are asked.
    pub fn answer_calls(&mut self) {
        for (id, question) in std::mem::take(&mut self.calls) {
            match self.say(&question) {
                Some(answer) => self.plane.answer(id, answer),
                None => self.calls.push((id, question)),
            }
        }
    }

    pub fn say(&mut self, question: &Question) -> Option<Answer> {
        let uid = format!("review-{}", self.asked.len());
        let mut review: Value = serde_json::from_slice(&question.body(&uid)).expect("a review is JSON");
        let request = review["request"].take();
        let mut response = (self.webhook)(&request)?;
        self.asked.push(request);
        response["uid"] = json!(uid);
        review["response"] = response;
        let said = stead_api::call::Said { code: 200, body: review.to_string().into() };
        Some(Answer { uid, said: Ok(said) })
    }
}

fn configure(world: &mut World, kind: &str, resources: &[&str]) {
    let plural = kind.to_lowercase();
    let hook = json!({"name": "hook.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://127.0.0.1:9/"}, "rules": [{"apiGroups": ["*"], "apiVersions": ["*"],
            "operations": ["CREATE"], "resources": resources}]});
    world.create(
        &format!("/apis/admissionregistration.k8s.io/v1/{plural}webhookconfigurations"),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
            "metadata": {"name": plural}, "webhooks": [hook]}),
    );
}

/// Notes on the pod that it was seen, and by how long after its making.
fn annotate(request: &Value) -> Option<Value> {
    let patch = match request["object"]["metadata"]["annotations"].is_object() {
        true => json!([]),
        false => json!([{"op": "add", "path": "/metadata/annotations", "value": {"seen": "yes"}}]),
    };
    let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
    match request["object"]["metadata"]["uid"].is_null() {
        true => Some(json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})),
        false => Some(json!({"allowed": true})),
    }
}

fn deny(_: &Value) -> Option<Value> {
    Some(json!({"allowed": false, "status": {"code": 403, "message": "not today"}}))
}

/// The server dies and starts again from what is on disk; who was asked answers nobody.
fn crash(world: &mut World) {
    let records = world.disk.iter().map(|(key, json)| Record { key: key.clone(), json: json.clone() });
    let records: Vec<Record> = records.collect();
    world.plane =
        Plane::restore(world.revision + 1000, cluster(), world.revision, records).expect("the records restore");
    world.calls.clear();
    world.settle();
}

fn set(name: &str, replicas: i64) -> Value {
    let mut set = web(replicas);
    set["metadata"]["name"] = json!(name);
    set
}

#[test]
fn a_controllers_pods_are_mutated_across_crashes() {
    let mut world = World::new();
    world.node("n1");
    configure(&mut world, "Mutating", &["pods"]);
    configure(&mut world, "Validating", &["pods"]);
    world.webhook = |_| None;
    world.create("/apis/apps/v1/namespaces/default/statefulsets", set("web", 2));
    assert_eq!((world.names(POD).as_str(), world.calls.len()), ("", 1), "the question is out and nothing is stored");
    assert_eq!(world.names(CLAIM), "data-web-0", "what nobody asks about is there");
    crash(&mut world);
    assert_eq!((world.names(POD).as_str(), world.calls.len()), ("", 1), "it is asked again");
    world.wait(3);
    world.webhook = annotate;
    world.answer_calls();
    world.webhook = |_| None;
    world.settle();
    assert_eq!((world.names(POD).as_str(), world.calls.len()), ("", 1), "now the validating webhook is asked");
    crash(&mut world);
    world.webhook = annotate;
    world.answer_calls();
    world.settle();
    assert_eq!(world.names(POD), "web-0");
    world.play();
    assert_eq!(world.names(POD), "web-0 web-1");
    for name in ["web-0", "web-1"] {
        let pod = world.value(POD, name);
        assert_eq!(pod["metadata"]["annotations"]["seen"], "yes", "{pod}");
        let seen = world.asked.iter().filter(|request| request["object"]["metadata"]["uid"] == pod["metadata"]["uid"]);
        assert_eq!(seen.count(), 1, "the validating webhook saw what was stored");
    }
    assert!(world.plane.parking.is_empty());
}

#[test]
fn a_controllers_pods_are_denied_and_tried_again() {
    let mut world = World::new();
    world.node("n1");
    configure(&mut world, "Validating", &["pods"]);
    world.webhook = deny;
    world.create("/apis/apps/v1/namespaces/default/statefulsets", set("web", 1));
    world.wait(1);
    assert_eq!(world.names(POD), "");
    let events = world.events("web").join("\n");
    let why = "Create Pod web-0 in StatefulSet web failed error: admission webhook \"hook.example.com\" denied the request: not today";
    assert!(events.contains(why), "{events}");
    crash(&mut world);
    assert_eq!(world.names(POD), "");
    world.webhook = annotate;
    world.wait(1000);
    assert_eq!(world.names(POD), "web-0");
}

#[test]
fn a_webhook_that_never_answers_is_given_up() {
    let mut world = World::new();
    world.node("n1");
    configure(&mut world, "Validating", &["pods"]);
    world.webhook = |_| None;
    world.create("/apis/apps/v1/namespaces/default/statefulsets", set("web", 1));
    world.wait(44);
    assert_eq!(world.calls.len(), 1);
    world.calls.clear();
    world.webhook = annotate;
    world.wait(2);
    assert_eq!(world.names(POD), "web-0", "asked again after a while");
}

#[test]
fn each_of_many_pods_is_looked_at_under_its_own_name() {
    let mut world = World::new();
    world.node("n1");
    configure(&mut world, "Mutating", &["pods"]);
    configure(&mut world, "Validating", &["pods", "events"]);
    world.webhook = annotate;
    world.create(
        "/apis/apps/v1/namespaces/default/replicasets",
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "rs"}, "spec": {"replicas": 3,
            "selector": {"matchLabels": {"app": "rs"}}, "template": {"metadata": {"labels": {"app": "rs"}},
                "spec": {"containers": [{"name": "main", "image": "stead.local/demo:1"}]}}}}),
    );
    let pods: Vec<Value> = world.snapshot().list(POD, "").map(|pod| pod.value()).collect();
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        let is_same = |one: &&Value, field: &str| one["object"]["metadata"][field] == pod["metadata"][field];
        let asked = |field: &str| world.asked.iter().filter(|one| is_same(one, field)).count();
        assert_eq!((asked("uid"), asked("name")), (1, 1), "{pod}");
    }
    let unnamed = world.asked.iter().filter(|one| one["object"]["kind"] == "Pod" && one.get("name").is_none());
    assert_eq!(unnamed.count(), 3, "a mutating webhook is asked once about each");
    let created = world.events("rs").iter().filter(|event| event.contains("SuccessfulCreate")).count();
    assert_eq!(created, 3, "Events wait for their webhooks, too: {:?}", world.events("rs"));
}
