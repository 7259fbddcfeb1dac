//! A webhook of the world: in some histories somebody looks at the pods and claims that are made.
//!
//! It marks what is made and, while there are faults, sometimes refuses, fails or is slow. Answers for a server that has died are lost
//! with it.

use base64::Engine;
use serde_json::{Value, json};
use stead_api::call::{Answer, Question, Said};
use stead_api::{Status, Verb};

use crate::checks::Verdict;
use crate::parts::Waiting;
use crate::world::{Message, World};

/// What a webhook leaves on a pod.
const MARK: &str = "example.com~1seen";

impl World {
    /// Has everything that is made looked at.
    pub fn configure_webhooks(&mut self) {
        for kind in ["Mutating", "Validating"] {
            let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods", "pods/binding", "persistentvolumeclaims"]}]);
            let hook = json!({"name": "hook.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "failurePolicy": "Ignore", "clientConfig": {"url": "https://192.0.2.9/"},
                "rules": rules});
            let name = format!("{kind}WebhookConfiguration");
            let path = format!("/apis/admissionregistration.k8s.io/v1/{}s", name.to_lowercase());
            let body = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": name,
                "metadata": {"name": "hooks"}, "webhooks": [hook]});
            self.ask_as_user(Verb::Create, &path, body);
        }
    }

    /// Takes a question out of the server.
    pub fn call_out(&mut self, waiting: Waiting) {
        let wait = match self.faults && self.chance.percent(10) {
            true => self.chance.millis(10, 10_000),
            false => self.chance.micros(100, 5000),
        };
        let life = self.server.life;
        self.send_in(wait, Message::Answered(life, Box::new(waiting)));
    }

    pub fn webhook_answers(&mut self, life: u64, waiting: Waiting) -> Verdict {
        match waiting {
            Waiting::Request(sender, _) if life != self.server.life => {
                self.answer(&sender, Err(Status::unavailable("the connection broke")));
                Ok(())
            }
            Waiting::Request(sender, plan) => {
                let answers = plan.questions.iter().map(|question| self.play(question)).collect();
                self.request_arrives(sender, plan.answered(answers))
            }
            Waiting::Own(id, question) => {
                if life != self.server.life {
                    return Ok(());
                }
                let answer = self.play(&question);
                self.server_is_told(id, answer)
            }
        }
    }

    fn play(&mut self, question: &Question) -> Answer {
        let uid = format!("{:016x}", self.chance.word());
        if self.faults && self.chance.percent(5) {
            self.say("the webhook does not answer");
            return Answer { uid, said: Err("context deadline exceeded".into()) };
        }
        let mut review: Value = serde_json::from_slice(&question.body(&uid)).unwrap_or_default();
        let request = review["request"].take();
        let is_refused = self.faults && self.chance.percent(5);
        self.say(if is_refused { "the webhook refuses" } else { "the webhook allows" });
        let mut response = json!({"uid": uid, "allowed": !is_refused});
        if is_refused {
            response["status"] = json!({"code": 403, "reason": "Forbidden", "message": "not now"});
        } else if question.asked.starts_with("mutating") && request["kind"]["kind"] != "Binding" {
            let patch = base64::engine::general_purpose::STANDARD.encode(mark(&request["object"]).to_string());
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(patch);
        }
        review["response"] = response;
        Answer { uid, said: Ok(Said { code: 200, body: review.to_string().into() }) }
    }
}

fn mark(object: &Value) -> Value {
    match object["metadata"]["annotations"].is_object() {
        true => json!([{"op": "add", "path": format!("/metadata/annotations/{MARK}"), "value": "yes"}]),
        false => json!([{"op": "add", "path": "/metadata/annotations", "value": {MARK.replace("~1", "/"): "yes"}}]),
    }
}
