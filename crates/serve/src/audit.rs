//! The audit log: who asked what, when, and what came of it, as events of audit.k8s.io/v1, a line of JSON each.
//!
//! Guarantees: without a policy nothing of this is touched. A request that a policy names is written at its stages; a slow disk
//! holds up no request: what does not fit into the buffer is dropped, and how much that was is said in the server's log.

mod answer;
mod sink;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use serde_json::{Value, json};
use stead_api::{Noted, Request, Status, Target, User, Verb};
use stead_apiserver::audit::{Level, Policy, Stage, Verdict};
use stead_apiserver::{Attributes, Head, Reply, access};

use crate::clock;
use sink::Sink;

pub use sink::Options;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// The longest identifier that is taken from a client.
const ID_BYTES_MAX: usize = 64;

pub struct Audit {
    policy: Policy,
    sink: Sink,
    random: ring::rand::SystemRandom,
}

/// Where a request came from; an extension of requests.
#[derive(Clone, Copy)]
pub struct Peer(pub SocketAddr);

impl Audit {
    /// None when no policy is given.
    ///
    /// # Errors
    /// When the flags do not belong together, or the policy or the file is not usable.
    pub fn open(options: &Options) -> Result<Option<Arc<Audit>>> {
        let (policy, path) = match (&options.policy, &options.path) {
            (None, None) => return Ok(None),
            (Some(policy), Some(path)) => (policy, path),
            _ => bail!("--audit-policy-file and --audit-log-path need each other"),
        };
        let text = std::fs::read(policy).with_context(|| format!("read {}", policy.display()))?;
        let value = crate::files::parse_yaml(&text).with_context(|| format!("{}", policy.display()))?;
        let parsed = Policy::of(&value).map_err(|why| anyhow::anyhow!("{}: {why}", policy.display()))?;
        let sink = Sink::open(path, options)?;
        Ok(Some(Arc::new(Audit { policy: parsed, sink, random: ring::rand::SystemRandom::new() })))
    }

    /// Begins to follow a request; None when the policy does not ask for it. `user` is who is behind `request.user`.
    pub fn begin(self: &Arc<Self>, parts: &Parts, user: &User, request: &Request) -> Option<Trail> {
        let mut asked = Attributes::of(request);
        let method = parts.method.as_str().to_ascii_lowercase();
        if matches!(request.target, Target::Path(_)) {
            asked.verb = &method;
        }
        let verdict = self.policy.judge(&request.user, &asked);
        if verdict.level == Level::None {
            return None;
        }
        let received = clock::now();
        let id = self.id(&parts.headers);
        let mut event = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": format!("{:?}", verdict.level),
            "auditID": id, "stage": "", "requestURI": parts.uri.path_and_query().map(ToString::to_string), "verb": asked.verb, "user": user.info()});
        if user.name != request.user.name {
            event["impersonatedUser"] = request.user.info();
        }
        event["sourceIPs"] = json!(source_ips(parts));
        event["userAgent"] = json!(request.user_agent);
        if let Target::Resource(_) = &request.target {
            event["objectRef"] = object_reference(request);
        }
        let trail = Trail { audit: Arc::clone(self), verdict, event, id, received, is_over: false };
        trail.write(Stage::RequestReceived, None);
        Some(trail)
    }

    fn id(&self, headers: &HeaderMap) -> String {
        let given = headers.get(AUDIT_ID).and_then(|value| value.to_str().ok());
        let is_fine = |id: &&str| !id.is_empty() && id.len() <= ID_BYTES_MAX;
        given.filter(is_fine).map_or_else(|| crate::token::fresh_id(&self.random).unwrap_or_default(), str::to_owned)
    }
}

/// One request on its way through the stages.
pub struct Trail {
    audit: Arc<Audit>,
    verdict: Verdict,
    event: Value,
    id: String,
    received: Timestamp,
    is_over: bool,
}

impl Trail {
    /// What was decided about the right to ask.
    pub fn decided(&mut self, head: &Head, request: &Request) {
        let (is_allowed, reason) = access::explain(&head.store.snapshot, &request.user, &Attributes::of(request));
        let decision = if is_allowed { "allow" } else { "forbid" };
        self.event["annotations"] =
            json!({"authorization.k8s.io/decision": decision, "authorization.k8s.io/reason": reason});
    }

    /// What is to be noted of the decision.
    pub fn noted(&self) -> Noted {
        if self.verdict.level >= Level::Request { Noted::Patches } else { Noted::Decisions }
    }

    /// The decoded body.
    pub fn asked(&mut self, request: &Request) {
        if request.body.is_null() {
            return;
        }
        let meta = &request.body["metadata"];
        if let Some(reference) = self.event.get_mut("objectRef") {
            for (field, from) in
                [("name", "name"), ("namespace", "namespace"), ("uid", "uid"), ("resourceVersion", "resourceVersion")]
            {
                if reference[field].is_null() && meta[from].is_string() {
                    reference[field] = meta[from].clone();
                }
            }
        }
        if self.verdict.level >= Level::Request {
            self.event["requestObject"] = self.kept(request.body.clone());
        }
    }

    /// The answer.
    pub fn answered(&mut self, reply: &Reply) {
        if let Some(status) = reply.status() {
            return self.failed(status);
        }
        let has_object =
            matches!(reply, Reply::Body(_) | Reply::Object { .. } | Reply::List { .. } | Reply::LongList { .. });
        if self.verdict.level >= Level::RequestResponse && has_object {
            let object = serde_json::from_slice(&reply.flat().1).unwrap_or(Value::Null);
            if !object.is_null() {
                self.event["responseObject"] = self.kept(object);
            }
        }
    }

    pub fn failed(&mut self, status: &Status) {
        let mut told = status.to_json();
        if let Some(told) = told.as_object_mut() {
            told.shift_remove("kind");
            told.shift_remove("apiVersion");
        }
        self.event["responseStatus"] = told;
    }

    /// The object without what the policy leaves out.
    fn kept(&self, mut object: Value) -> Value {
        if self.verdict.omit_managed_fields {
            strip(&mut object);
            object["items"].as_array_mut().into_iter().flatten().for_each(strip);
        }
        if object["items"].is_null() {
            object.as_object_mut().map(|map| map.shift_remove("items"));
        }
        object
    }

    fn end(&mut self) {
        self.is_over = true;
        self.write(Stage::ResponseComplete, None);
    }

    fn write(&self, stage: Stage, code: Option<u16>) {
        if self.verdict.omit_stages.contains(&stage) {
            return;
        }
        let mut event = self.event.clone();
        event["stage"] = json!(format!("{stage:?}"));
        if let Some(code) = code {
            event["responseStatus"] = json!({"metadata": {}, "status": "Failure", "code": code});
        }
        let annotations = event.as_object_mut().and_then(|event| event.shift_remove("annotations"));
        event["requestReceivedTimestamp"] = time(self.received);
        event["stageTimestamp"] = time(clock::now());
        if let Some(annotations) = annotations {
            event["annotations"] = annotations;
        }
        let mut line = event.to_string().into_bytes();
        line.push(b'\n');
        self.audit.sink.write(line);
    }
}

impl Drop for Trail {
    /// The end of a watch; of a request whose handler did not get to its end.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        match std::thread::panicking() {
            true => self.write(Stage::Panic, Some(500)),
            false => self.end(),
        }
    }
}

fn time(at: Timestamp) -> Value {
    json!(at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

fn strip(object: &mut Value) {
    object["metadata"].as_object_mut().map(|meta| meta.shift_remove("managedFields"));
    if object["metadata"].is_null() {
        object.as_object_mut().map(|map| map.shift_remove("metadata"));
    }
}

fn source_ips(parts: &Parts) -> Vec<String> {
    let forwarded = parts.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut ips: Vec<String> =
        forwarded.split(',').map(str::trim).filter(|ip| !ip.is_empty()).map(str::to_owned).collect();
    if let Some(Peer(address)) = parts.extensions.get::<Peer>() {
        let own = address.ip().to_string();
        if ips.last() != Some(&own) {
            ips.push(own);
        }
    }
    ips
}

fn object_reference(request: &Request) -> Value {
    let Some(resource) = request.resource() else { return Value::Null };
    let name = if request.verb == Verb::Create && resource.subresource.is_empty() { "" } else { &resource.name };
    let fields = [
        ("resource", resource.plural.as_str()),
        ("namespace", &resource.namespace),
        ("name", name),
        ("apiGroup", &resource.group),
        ("apiVersion", &resource.version),
        ("subresource", &resource.subresource),
    ];
    let set = fields.into_iter().filter(|(_, text)| !text.is_empty());
    Value::Object(set.map(|(field, text)| (field.to_owned(), json!(text))).collect())
}
