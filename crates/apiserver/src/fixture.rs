//! A server in a few lines of text, for this crate's tests: request lines in, status and body out, through the same functions
//! that the shell calls.

use std::net::Ipv4Addr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stead_api::call::{Answer, Question, Said};
use stead_api::form::Shape;
use stead_api::request;
use stead_api::{Noted, Notes, Request, User};
use stead_kinds::Registry;
use stead_store::Store;

use crate::{
    Cluster, Context, Head, Ids, Reply, WatchPlan, decode_body, is_read, present, serve_read, serve_write, watch_asks,
    watch_next, watch_told,
};

pub(crate) struct Server {
    pub store: Store,
    pub registry: Arc<Registry>,
    pub ids: Ids,
    pub cluster: Cluster,
    pub now: Timestamp,
    pub user: Arc<User>,
    pub webhook: Webhook,
    /// What webhooks were asked: the webhook's name and the review's request.
    pub asked: Vec<(String, Value)>,
    /// What the audit log wants to know, and what it was told of the last request.
    pub noted: Noted,
    pub notes: Notes,
}

/// Plays all webhooks: from a webhook's name and a review's request to the review's response, or why it does not come.
pub(crate) type Webhook = Box<dyn FnMut(&str, &Value) -> Result<Value, String>>;

pub(crate) fn admin() -> Arc<User> {
    Arc::new(User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() })
}

impl Server {
    /// A server with the namespace `default` and its service account.
    pub(crate) fn new() -> Server {
        let mut server = Server::empty();
        server.make("/api/v1/namespaces", json!({"metadata": {"name": "default"}}));
        server.make("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}}));
        server
    }

    pub(crate) fn empty() -> Server {
        Server {
            store: Store::default(),
            registry: Arc::new(Registry::with([])),
            ids: Ids::seeded(1),
            cluster: Cluster {
                service_cidr: (Ipv4Addr::new(10, 96, 0, 0), 16),
                node_ports: 30000..=32767,
                domain: "cluster.local".into(),
                ca_pem: "CA".into(),
            },
            now: "2026-01-01T00:00:00Z".parse().expect("a time"),
            user: admin(),
            webhook: Box::new(|_, _| Ok(json!({"allowed": true}))),
            asked: Vec::new(),
            noted: Noted::Nothing,
            notes: Notes::new(),
        }
    }

    pub(crate) fn ctx(&mut self) -> Context<'_> {
        Context {
            now: self.now,
            store: &mut self.store,
            registry: &mut self.registry,
            ids: &mut self.ids,
            cluster: &self.cluster,
        }
    }

    pub(crate) fn head(&self) -> Head {
        Head { store: self.store.head().clone(), registry: Arc::clone(&self.registry) }
    }

    pub(crate) fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// `POST /api/v1/…?query`; a `PATCH` names its type: `PATCH:merge`. `GET:table` and `GET:metadata` ask for these forms.
    pub(crate) fn request(&self, line: &str, body: &str) -> Result<Request, stead_api::Status> {
        let (method, url) = line.split_once(' ').expect("METHOD URL");
        let (method, form) = method.split_once(':').unwrap_or((method, ""));
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let media = match form {
            "json" => "application/json-patch+json",
            "merge" => "application/merge-patch+json",
            "strategic" => "application/strategic-merge-patch+json",
            "apply" => "application/apply-patch+yaml",
            "yaml" => "application/yaml",
            _ => "application/json",
        };
        let target = request::target(path);
        let mut options = request::options(query)?;
        options.form.shape = match form {
            "table" => Shape::Table,
            "metadata" => Shape::Metadata,
            _ => Shape::Object,
        };
        let verb = request::verb(method, media, &target, &options)?;
        let decoded = match &target {
            request::Target::Resource(resource) if !body.is_empty() => {
                decode_body(&self.registry, resource, verb, body.as_bytes(), media)?
            }
            _ => Default::default(),
        };
        let mut request = Request::of(Arc::clone(&self.user), verb, Default::default(), decoded.value);
        request.target = target;
        request.options = options;
        request.strict_problems = decoded.strict_problems;
        request.user_agent = "test/1".into();
        request.noted = self.noted;
        if form.starts_with("application") {
            request.accept = form.into();
        }
        Ok(request)
    }

    pub(crate) fn reply(&mut self, line: &str, body: &str) -> Reply {
        match self.request(line, body) {
            Ok(request) => self.perform(&request),
            Err(status) => Reply::failure(status),
        }
    }

    pub(crate) fn perform(&mut self, request: &Request) -> Reply {
        let reply = match is_read(request) {
            true => serve_read(&self.head(), self.now, request),
            false => serve_write(&mut self.ctx(), request),
        };
        match reply {
            Reply::Call(plan) => {
                let answers = plan.questions.iter().map(|question| self.answer(question)).collect();
                self.perform(&plan.answered(answers))
            }
            reply => {
                let (reply, notes) = reply.split();
                self.notes = notes;
                present(reply, &request.options, self.now)
            }
        }
    }

    /// What the webhooks' player says to a question.
    pub(crate) fn answer(&mut self, question: &Question) -> Answer {
        let uid = format!("review-{}", self.asked.len());
        let review: Value = serde_json::from_slice(&question.body(&uid)).expect("a review is JSON");
        assert_eq!(review["request"]["uid"], uid.as_str());
        let name = question.asked.rsplit('/').next().unwrap_or_default().to_owned();
        self.asked.push((name.clone(), review["request"].clone()));
        let said = (self.webhook)(&name, &review["request"]).map(|mut response| {
            response["uid"] = json!(uid);
            let review = json!({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response});
            Said { code: 200, body: review.to_string().into() }
        });
        Answer { uid, said }
    }

    /// Status code and body.
    pub(crate) fn ask(&mut self, line: &str, body: Value) -> (u16, Value) {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let (code, bytes) = self.reply(line, &text).flat();
        (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))))
    }

    /// A request that must succeed; returns its body.
    pub(crate) fn done(&mut self, line: &str, body: Value) -> Value {
        let (code, reply) = self.ask(line, body);
        assert!(code < 300, "{line}: {code} {reply}");
        reply
    }

    pub(crate) fn get(&mut self, path: &str) -> Value {
        self.done(&format!("GET {path}"), Value::Null)
    }

    pub(crate) fn make(&mut self, path: &str, body: Value) -> Value {
        self.done(&format!("POST {path}"), body)
    }

    /// `404 NotFound pods "x" not found`, for a request that must fail.
    pub(crate) fn refused(&mut self, line: &str, body: Value) -> String {
        let (code, reply) = self.ask(line, body);
        let text = |field: &str| reply[field].as_str().unwrap_or_default().to_owned();
        format!("{code} {} {}", text("reason"), text("message"))
    }

    pub(crate) fn watch(&mut self, line: &str) -> Box<WatchPlan> {
        match self.reply(line, "") {
            Reply::Watch(plan) => plan,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// `ADDED a@3`, one per frame that is due.
    pub(crate) fn frames(&mut self, plan: &mut WatchPlan) -> Vec<String> {
        self.frame_values(plan)
            .iter()
            .map(|frame| {
                let meta = &frame["object"]["metadata"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                format!("{} {}@{}", text(&frame["type"]), text(&meta["name"]), text(&meta["resourceVersion"]))
            })
            .collect()
    }

    pub(crate) fn frame_values(&mut self, plan: &mut WatchPlan) -> Vec<Value> {
        let head = self.head();
        let mut values = Vec::new();
        loop {
            let told = match watch_asks(plan, &head) {
                Ok(Some(question)) => watch_told(plan, &head, &self.answer(&question)),
                Ok(None) => Ok(()),
                Err(status) => Err(status),
            };
            match told.and_then(|()| watch_next(plan, &head, self.now)) {
                Ok(frames) if frames.is_empty() => return values,
                Ok(frames) => {
                    values.extend(frames.iter().map(|frame| serde_json::from_slice(frame).expect("a JSON frame")));
                }
                Err(status) => {
                    let frame = crate::watch_error(plan, &status);
                    values.push(serde_json::from_slice(&frame).expect("a JSON frame"));
                    return values;
                }
            }
        }
    }
}

/// A pod that passes validation.
pub(crate) fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "stead.local/demo:1"}]}})
}

/// A StatefulSet that passes validation.
pub(crate) fn statefulset(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"serviceName": name, "replicas": 3,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "stead.local/demo:1"}]}}}})
}

/// Base64 of `kinds/src/certificate_request/node.csr`.
pub(crate) const CERTIFICATE_REQUEST: &str = "\
    LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlJQlZqQ0IvUUlCQURBK01SVXdFd1lEVlFRS0RBeHplWE4wWlcwNmJtOWtaWE\
    14RERBS0JnTlZCQW9NQTNSMwpiekVYTUJVR0ExVUVBd3dPYzNsemRHVnRPbTV2WkdVNmJqRXdXVEFUQmdjcWhrak9QUUlCQmdncWhrak9QUU1C\
    CkJ3TkNBQVFIOXFxVU9SMVRFVnduNy9pZ3o5Z2NZc2o0WEh1OTF0eGhlMTFGQkE3SEpibnJvUmhUb3hJcVVEL1gKQUhkRm9aUTdIMnhrcTR4ZD\
    AwRkw5L0hkRldVdW9GMHdXd1lKS29aSWh2Y05BUWtPTVU0d1REQktCZ05WSFJFRQpRekJCZ2dwdU1TNWxlR0Z0Y0d4bGh3VEFBQUlIaHhBZ0FR\
    MjRBQUFBQUFBQUFBQUFBQUFIZ1ExaFFHVjRZVzF3CmJHVXVZMjl0aGd4emNHbG1abVU2THk5aEwySXdDZ1lJS29aSXpqMEVBd0lEU0FBd1JRSW\
    hBSVBBZzZwNUpERDUKeXFkQWhFZHJBekJJbXF2L0dZSXJZQkpwc1NuekFidjVBaUJ1ZGd0eC9LcU1QbGc2MDYyNjNoOEw5dkJkMDNGZwpoRFNo\
    UzhocHoyeVVUZz09Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";
