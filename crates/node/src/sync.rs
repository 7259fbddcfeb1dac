//! One pod's turn: plan it, hand out the actions, and tell the API server what is so.
//!
//! Guarantees: one status patch of a pod is under way at a time, and only when something changed; a deletion is confirmed after
//! the last status, with grace 0 and the pod's uid.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};
use stead_api::request::{PatchType, Resource, Verb};
use stead_api::{Revision, Status};
use stead_store::Snapshot;

use bytes::Bytes;

use crate::action::{Action, Hook};
use crate::agent::{ImageOp, NodeAgent};
use crate::event::Note;
use crate::exchange::{Output, Pending, RequestId, request_retry};
use crate::plan::{Around, ImageWant, Plan};
use crate::pod::plan_pod;
use crate::state::{Busy, HookState, ImageWait, PodState, Stop};
use crate::status;
use crate::stop;
use crate::token::{Token, TokenKey};

/// How long after a refusal a token is asked for again.
const TOKEN_RETRY: SignedDuration = SignedDuration::from_secs(1);

impl NodeAgent {
    pub(crate) fn sync(&mut self, uid: &str, snapshot: &Snapshot, now: Timestamp) {
        let shutdown_at = self.kill_all_at;
        let Some(state) = self.pods.get_mut(uid) else { return };
        state.shutdown_at = shutdown_at;
        self.admit(uid, snapshot, now);
        self.grant_resize(uid, now);
        let Some(state) = self.pods.get(uid) else { return };
        if state.object.is_none() && !stop::has_remains(state) && state.busy.is_empty() {
            self.forget(uid);
            return;
        }
        let around =
            Around { config: &self.config, snapshot, tokens: &self.tokens, is_name_taken: self.is_name_taken(state) };
        let plan = plan_pod(state, &around, now);
        let mut wake_at = plan.wake_at;
        self.apply(uid, plan, now, &mut wake_at);
        self.sync_status(uid, now, &mut wake_at);
        self.set_wake(uid, wake_at);
    }

    fn apply(&mut self, uid: &str, plan: Plan, now: Timestamp, wake_at: &mut Option<Timestamp>) {
        let Some(state) = self.pods.get_mut(uid) else { return };
        let mut notes = plan.notes;
        for (name, waiting) in &plan.waiting {
            let is_new = state.waiting.get(name) != Some(waiting);
            if is_new && waiting.reason == "CreateContainerConfigError" {
                let text = format!("Error: {}", waiting.message.as_deref().unwrap_or_default());
                notes.push(Note::warning("Failed", text).of(name));
            }
        }
        if let Some(problem) = plan.mount_problem.as_ref().filter(|p| state.mount_problem.as_ref() != Some(p)) {
            notes.push(Note::warning("FailedMount", problem.clone()));
        }
        state.waiting = plan.waiting;
        state.mount_problem = plan.mount_problem;
        if plan.is_ending {
            state.ending_since.get_or_insert(now);
        }
        for action in &plan.actions {
            issued(state, action, now);
        }
        self.outputs.extend(plan.actions.into_iter().map(Output::Act));
        for want in plan.images {
            self.want_image(uid, want, now);
        }
        for key in plan.tokens {
            self.want_token(key, now, wake_at);
        }
        for note in notes {
            self.tell(uid, &note, now);
        }
    }

    /// Looks for or pulls an image, together with whoever wants the same.
    fn want_image(&mut self, uid: &str, want: ImageWant, now: Timestamp) {
        let waiter = (uid.to_owned(), want.container.clone());
        match self.images.get_mut(&want.image) {
            Some(op) if op.is_pull == want.is_pull => op.waiters.push(waiter),
            // Another operation is under way: its end wakes this pod.
            Some(op) => {
                op.others.insert(uid.to_owned());
                return;
            }
            None => {
                let op = ImageOp { is_pull: want.is_pull, since: now, waiters: vec![waiter], others: BTreeSet::new() };
                self.images.insert(want.image.clone(), op);
                let image = want.image.clone();
                self.outputs.push(Output::Act(if want.is_pull {
                    Action::PullImage { image, credentials: want.credentials }
                } else {
                    Action::FindImage { image }
                }));
            }
        }
        if let Some(state) = self.pods.get_mut(uid) {
            let is_pull = want.is_pull;
            state.run(&want.container).image = if is_pull { ImageWait::Pulling } else { ImageWait::Finding };
        }
        if want.is_pull {
            let note = Note::normal("Pulling", format!("Pulling image \"{}\"", want.image));
            self.tell(uid, &note.of(&want.container), now);
        }
    }

    fn want_token(&mut self, key: TokenKey, now: Timestamp, wake_at: &mut Option<Timestamp>) {
        if let Some(at) = self.token_retry.get(&key).filter(|at| now < **at) {
            *wake_at = Some(wake_at.map_or(*at, |w| w.min(*at)));
            return;
        }
        if !self.tokens_under_way.insert(key.clone()) {
            return;
        }
        let audiences: Vec<&str> = [key.audience.as_str()].into_iter().filter(|a| !a.is_empty()).collect();
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": key.expiration_seconds,
                "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": key.pod_name, "uid": key.pod_uid},
            },
        });
        let resource = Resource {
            version: "v1".into(),
            plural: "serviceaccounts".into(),
            namespace: key.namespace.clone(),
            name: key.service_account.clone(),
            subresource: "token".into(),
            ..Resource::default()
        };
        self.request(Pending::Token(key), Verb::Create, resource, body);
    }

    /// Patches the status if it changed, then confirms the deletion if the pod is down.
    fn sync_status(&mut self, uid: &str, now: Timestamp, wake_at: &mut Option<Timestamp>) {
        let api = self.api.entry(uid.to_owned()).or_default();
        let Some(state) = self.pods.get(uid) else { return };
        let (Some(object), Some(typed)) = (&state.object, &state.spec) else { return };
        if api.is_status_under_way || object.revision() < api.acked {
            return;
        }
        if let Some(at) = api.retry_at.filter(|at| now < *at) {
            *wake_at = Some(wake_at.map_or(at, |w| w.min(at)));
            return;
        }
        if is_in_passing(state, typed) {
            return;
        }
        let wanted = to_value(&status::pod_status(state, typed, now));
        let stored = typed.status.as_ref().map(to_value).unwrap_or_else(|| json!({}));
        let difference = difference(&stored, &wanted);
        // What the server made of our last patch is what it keeps: the same patch again would change nothing.
        let is_settled = object.revision() == api.acked && api.sent.as_ref() == Some(&wanted);
        if !difference.is_empty() && !is_settled {
            api.is_status_under_way = true;
            api.sent = Some(wanted);
            let body = json!({"metadata": {"uid": uid}, "status": difference});
            let resource = pod_resource(state, "status");
            let pending = Pending::Status(uid.to_owned());
            return self.request(pending, Verb::Patch(PatchType::Strategic), resource, body);
        }
        let meta = &object.meta;
        let is_unconfirmed = meta.is_deleting() && meta.deletion_grace_period_seconds != Some(0) && !api.is_confirmed;
        if is_unconfirmed && !api.is_confirm_under_way && stop::is_down(state) {
            api.is_confirm_under_way = true;
            let body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
                "preconditions": {"uid": uid}});
            let resource = pod_resource(state, "");
            self.request(Pending::Confirm(uid.to_owned()), Verb::Delete, resource, body);
        }
    }

    /// Takes the answer to one of our requests.
    pub(crate) fn replied(&mut self, now: Timestamp, id: RequestId, result: Result<Bytes, Status>) {
        match self.pending.remove(&id) {
            None => {}
            Some(Pending::Status(uid)) => self.status_replied(now, uid, result),
            Some(Pending::Confirm(uid)) => {
                let Some(api) = self.api.get_mut(&uid) else { return };
                api.is_confirm_under_way = false;
                match result {
                    Ok(_) => api.is_confirmed = true,
                    // It is gone, or another pod has its name: the head will tell.
                    Err(status) if matches!(status.code, 404 | 409) => api.is_confirmed = true,
                    Err(_) => {
                        api.failures += 1;
                        api.retry_at = Some(now + request_retry(api.failures));
                    }
                }
                self.dirty.insert(uid);
            }
            Some(Pending::Token(key)) => self.token_replied(now, key, result),
            Some(Pending::Event(name)) if result.is_err() => self.recorder.forget(&name),
            Some(Pending::Event(_)) => {}
            Some(other @ (Pending::Node | Pending::NodeStatus | Pending::Lease { .. })) => {
                self.node.replied(now, &other, result.err().as_ref());
            }
            Some(Pending::Reclaim(key)) => self.reclaim.replied(now, &key, result.is_ok()),
        }
    }

    fn status_replied(&mut self, now: Timestamp, uid: String, result: Result<Bytes, Status>) {
        let Some(api) = self.api.get_mut(&uid) else { return };
        api.is_status_under_way = false;
        match result {
            Ok(body) => {
                api.acked = revision(&body).unwrap_or(0);
                api.failures = 0;
                api.retry_at = None;
            }
            Err(status) if matches!(status.code, 404) => {}
            Err(_) => {
                // The server may have it or not; what was sent says nothing of what is kept.
                api.sent = None;
                api.failures += 1;
                api.retry_at = Some(now + request_retry(api.failures));
            }
        }
        self.dirty.insert(uid);
    }

    fn token_replied(&mut self, now: Timestamp, key: TokenKey, result: Result<Bytes, Status>) {
        self.tokens_under_way.remove(&key);
        if !self.pods.contains_key(&key.pod_uid) {
            return;
        }
        self.dirty.insert(key.pod_uid.clone());
        match result.map_err(|s| s.message).and_then(|body| token(&body, now)) {
            Ok(token) => {
                self.token_retry.remove(&key);
                self.tokens.insert(key, token);
            }
            Err(why) => {
                let text = format!("MountVolume.SetUp failed : failed to fetch token: {why}");
                let uid = key.pod_uid.clone();
                self.token_retry.insert(key, now + TOKEN_RETRY);
                self.tell(&uid, &Note::warning("FailedMount", text), now);
            }
        }
    }
}

/// Remembers what was asked of the machine.
fn issued(state: &mut PodState, action: &Action, now: Timestamp) {
    match action {
        Action::EnsureSandbox(_) => {
            state.busy.insert(Busy::Sandbox);
        }
        Action::EnsureVolumes { volumes, .. } => {
            state.busy.insert(Busy::Volumes);
            state.volumes_asked = Some(volumes.clone());
        }
        Action::StopSandbox { .. } => {
            state.busy.insert(Busy::StopSandbox);
        }
        Action::RemovePod { .. } => {
            state.busy.insert(Busy::RemovePod);
        }
        Action::EmptyPod { .. } => {
            state.busy.insert(Busy::EmptyPod);
        }
        Action::EnsureContainer(spec) => {
            let name = &spec.container.name;
            state.busy.insert(Busy::Start(name.clone()));
            let image = state.container_spec(name).and_then(|c| c.image.clone()).unwrap_or_default();
            state.begin(name, &image);
        }
        Action::StopContainer { container, grace, .. } => {
            let run = state.run(&container.name);
            run.stopping_since.get_or_insert(now);
            let grace = SignedDuration::try_from(*grace).unwrap_or(SignedDuration::MAX);
            run.stop = Some(Stop { kill_at: now + grace, retry_at: None });
        }
        Action::ResizeContainer { container, .. } => {
            state.busy.insert(Busy::Resize(container.name.clone()));
        }
        Action::RunHook { container, hook: Hook::PostStart, .. } => {
            state.run(&container.name).post_start = HookState::Running;
        }
        Action::RunHook { container, hook: Hook::PreStop, .. } => {
            let run = state.run(&container.name);
            run.stopping_since.get_or_insert(now);
            run.pre_stop = HookState::Running;
        }
        Action::RemoveContainer { container } => {
            state.busy.insert(Busy::Remove(container.clone()));
        }
        Action::Probe { container, kind, .. } => state.run(&container.name).probes.issued(*kind),
        Action::FindImage { .. }
        | Action::PullImage { .. }
        | Action::RemoveImage { .. }
        | Action::LookAtDisk
        | Action::MeasurePods { .. }
        | Action::DeleteDirectory { .. } => {}
    }
}

/// A moment in which a patch would be overtaken by the next: between sandbox and container of a pod that says Pending already, and
/// between the last container and the sandbox of one that is being deleted.
fn is_in_passing(state: &PodState, typed: &Pod) -> bool {
    let status = typed.status.as_ref();
    let is_pending = status.is_some_and(|s| s.start_time.is_some() && s.phase.as_deref() == Some("Pending"));
    let is_starting = state.busy.iter().any(|b| matches!(b, Busy::Sandbox | Busy::Volumes | Busy::Start(_)))
        || state.runs.values().any(|r| r.image == ImageWait::Finding);
    let is_deleting = state.object.as_ref().is_some_and(|o| o.meta.is_deleting());
    let is_stopping = state.busy.contains(&Busy::StopSandbox);
    (is_pending && is_starting && !is_deleting) || (is_deleting && is_stopping)
}

fn pod_resource(state: &PodState, subresource: &str) -> Resource {
    Resource {
        version: "v1".into(),
        plural: "pods".into(),
        namespace: state.pod.namespace.clone(),
        name: state.pod.name.clone(),
        subresource: subresource.into(),
        ..Resource::default()
    }
}

fn to_value<T: serde::Serialize>(of: &T) -> Value {
    serde_json::to_value(of).expect("API types have string keys only")
}

/// The strategic merge patch that makes `stored` into `wanted`, field by field of the status.
fn difference(stored: &Value, wanted: &Value) -> Map<String, Value> {
    let mut patch = Map::new();
    let empty = Map::new();
    let (stored, wanted) = (stored.as_object().unwrap_or(&empty), wanted.as_object().unwrap_or(&empty));
    for (field, value) in wanted {
        match (stored.get(field), field.as_str()) {
            (Some(old), _) if old == value => {}
            // Merged by address: what is gone has to be deleted by name.
            (Some(Value::Array(old)), "podIPs") => {
                let new = value.as_array().cloned().unwrap_or_default();
                let gone = old.iter().filter(|ip| !new.contains(ip));
                let mut list: Vec<Value> = gone.map(|ip| json!({"ip": ip["ip"], "$patch": "delete"})).collect();
                list.extend(new.iter().cloned());
                patch.insert(field.clone(), Value::Array(list));
            }
            // Merged by type: only what changed is sent, so that conditions of others stay.
            (Some(Value::Array(old)), "conditions") => {
                let new = value.as_array().cloned().unwrap_or_default();
                let is_over = |c: &&Value| {
                    let name = c["type"].as_str().unwrap_or_default();
                    status::PASSING.contains(&name) && new.iter().all(|n| n["type"] != name)
                };
                let over: Vec<Value> =
                    old.iter().filter(is_over).map(|c| json!({"type": c["type"], "$patch": "delete"})).collect();
                let mut changed: Vec<Value> =
                    new.into_iter().filter(|c| !old.contains(c)).map(|c| explicit(c, old)).collect();
                changed.extend(over);
                if !changed.is_empty() {
                    patch.insert(field.clone(), Value::Array(changed));
                }
            }
            (_, _) => {
                patch.insert(field.clone(), value.clone());
            }
        }
    }
    for field in stored.keys().filter(|f| !wanted.contains_key(*f)) {
        patch.insert(field.clone(), Value::Null);
    }
    patch
}

/// A condition that takes away what its earlier version said and it does not.
fn explicit(mut condition: Value, old: &[Value]) -> Value {
    let before = old.iter().find(|c| c["type"] == condition["type"]).and_then(Value::as_object);
    for field in before.into_iter().flat_map(Map::keys) {
        if condition.get(field).is_none() {
            condition[field.as_str()] = Value::Null;
        }
    }
    condition
}

#[derive(serde::Deserialize)]
struct Answered {
    metadata: AnsweredMeta,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnsweredMeta {
    resource_version: String,
}

fn revision(body: &[u8]) -> Option<Revision> {
    let answered: Answered = serde_json::from_slice(body).ok()?;
    answered.metadata.resource_version.parse().ok()
}

fn token(body: &[u8], now: Timestamp) -> Result<Token, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let text = answer["status"]["token"].as_str().filter(|t| !t.is_empty()).ok_or("no token in the answer")?;
    let until = answer["status"]["expirationTimestamp"].as_str().unwrap_or_default();
    let expires_at: Timestamp = until.parse().map_err(|_| format!("not a time: \"{until}\""))?;
    Ok(Token { text: text.to_owned(), issued_at: now, expires_at })
}
