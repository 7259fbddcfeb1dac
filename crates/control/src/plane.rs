//! `Plane`: the whole control plane as one single-threaded state machine.
//!
//! Contract: `step(now, requests)` applies the requests in order, then lets controllers act on what changed until nothing is left to
//! say or the step's budget is used up (then `wake_at` is now). One step is one `Batch` is one atomic commit (Durable): replies and
//! the new head come out of a batch only through `synced`, with which the caller states that its writes are on disk.
//!
//! - **One path**: a plan is applied through `serve_write`, as a user's request is, under the controller's own name; where webhooks
//!   are to be asked, the key waits for them (`parking.rs`).
//! - **Level**: what to do depends on the snapshot, the key and now; a restored plane wakes every key and goes on.
//! - **AtMostOne** (B-39): a pod is stored under its name, so a second one can be made only when the first object is gone; and no
//!   controller but the pod garbage collector may remove a pod without its node's consent, which `apply` asserts.
//! - **Bounded**: `RECONCILES_PER_STEP_MAX`, `WRITES_PER_STEP_MAX`, back-off per key in `queue.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use stead_api::call::{Answer, Question};
use stead_api::request::Propagation;
use stead_api::{Key, KindName, Request, Resource, Revision, Status, User, Verb};
use stead_apiserver::{Bootstrap, CallPlan, Cluster, Context, Head, Ids, Reply, bootstrap, registry_of, serve_write};
use stead_kinds::Registry;
use stead_store::{Corrupt, Event, Record, Store};

use crate::effect::Effect;
use crate::facts;
use crate::memory::{Memories, Memory};
use crate::names::{CUSTOM_RESOURCE, EVENT, POD};
use crate::parking::{CallId, Parking};
use crate::plan::{ANY, Action, Blame, Controller, Note, Plan, Settles, View};
use crate::queue::{Item, Queue, Tally};
use crate::recorder::{Recorder, Write};
use crate::usage::{Measured, Meter};

/// How many keys one step looks at, and how many revisions its controllers may write, before it hands over what it has.
pub const RECONCILES_PER_STEP_MAX: usize = 4096;
pub const WRITES_PER_STEP_MAX: u64 = 512;
/// How often one step looks at one key.
pub const RECONCILES_PER_KEY_MAX: u32 = 256;

/// Names a request of a batch to whoever waits for its reply.
pub type RequestId = u64;

type Keys = fn(&View, &Event) -> Vec<Key>;

pub struct Plane {
    store: Store,
    registry: Arc<Registry>,
    ids: Ids,
    cluster: Cluster,
    controllers: &'static [Controller],
    users: Vec<Arc<User>>,
    /// Who is woken by a kind; kinds that nobody watches cost one failed look-up.
    watchers: BTreeMap<KindName, Vec<(usize, Keys)>>,
    any: Vec<(usize, Keys)>,
    queue: Queue,
    parking: Parking,
    recorder: Recorder,
    memories: Memories,
    meter: Meter,
    /// What the shell is to do since the last batch.
    effects: Vec<Effect>,
    now: Timestamp,
    /// When the first step woke every key.
    started: Option<Timestamp>,
}

impl Plane {
    /// Starts from durable records. `seed` must differ at every start of a cluster: uids come from it.
    ///
    /// # Errors
    /// The first record that cannot be trusted.
    pub fn restore(
        seed: u64,
        cluster: Cluster,
        revision: Revision,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Plane, Corrupt> {
        Plane::restore_with(crate::all::ALL, seed, cluster, revision, records)
    }

    /// The same with other controllers.
    pub fn restore_with(
        controllers: &'static [Controller],
        seed: u64,
        cluster: Cluster,
        revision: Revision,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Plane, Corrupt> {
        let records: Vec<Record> = records.into_iter().collect();
        // What to index of custom resources is told by their definitions, so these are read first.
        let definitions = records.iter().filter(|r| r.key.kind == CUSTOM_RESOURCE).cloned();
        let built_in = Registry::with([]);
        let definitions = stead_store::durable::restore(revision, definitions, |kind| built_in.fields(kind))?;
        let registry = registry_of(&definitions);
        let snapshot = stead_store::durable::restore(revision, records.into_iter(), |kind| registry.fields(kind))?;

        let mut watchers: BTreeMap<KindName, Vec<(usize, Keys)>> = BTreeMap::new();
        for (index, controller) in controllers.iter().enumerate() {
            for watch in controller.watches {
                watchers.entry(watch.kind).or_default().push((index, watch.keys));
            }
        }
        let any = watchers.remove(ANY).unwrap_or_default();
        Ok(Plane {
            recorder: Recorder::default(),
            memories: Memories::default(),
            meter: Meter::default(),
            effects: Vec::new(),
            store: Store::restored(snapshot),
            registry,
            ids: Ids::seeded(seed ^ revision.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            cluster,
            controllers,
            users: controllers.iter().map(|c| Arc::new(User::controller(c.name))).collect(),
            watchers,
            any,
            queue: Queue::default(),
            parking: Parking::default(),
            now: Timestamp::UNIX_EPOCH,
            started: None,
        })
    }

    /// Has watchers fall behind sooner: the simulator's way to see what happens to them then.
    pub fn keep_history(&mut self, events_per_kind: usize) {
        self.store.keep_history(events_per_kind);
    }

    /// Makes the objects that every cluster has.
    pub fn bootstrap(&mut self, now: Timestamp, facts: &Bootstrap) -> Batch {
        self.now = self.now.max(now);
        bootstrap(&mut self.context(), facts);
        self.settle();
        self.batch(Vec::new())
    }

    /// Applies requests and lets controllers act.
    pub fn step(&mut self, now: Timestamp, requests: Vec<(RequestId, Request)>) -> Batch {
        // A clock that was set back must not undo what was decided by it.
        self.now = self.now.max(now);
        let mut replies = Vec::with_capacity(requests.len());
        for (id, request) in requests {
            replies.push((id, serve_write(&mut self.context(), &request)));
        }
        self.settle();
        self.batch(replies)
    }

    /// Takes the answer to a question of an earlier batch; the next step acts on it.
    pub fn answer(&mut self, id: CallId, answer: Answer) {
        if let Some(item) = self.parking.answer(id, answer) {
            self.queue.wake(item);
        }
    }

    /// Takes what pods use; the next step acts on it.
    pub fn measured(&mut self, measured: Measured) {
        self.meter.told(measured).into_iter().for_each(|item| self.queue.wake(item));
    }

    /// What was counted of the controllers' keys, by their names.
    pub fn tallies(&self) -> impl Iterator<Item = (&'static str, Tally)> {
        self.controllers.iter().map(|controller| controller.name).zip(self.queue.tallies().iter().copied())
    }

    /// When to step even without requests; now or earlier while work is queued.
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.started.is_none() || !self.queue.is_idle() || self.parking.has_due_notes() {
            Some(self.now)
        } else {
            self.queue.wake_at()
        }
    }

    /// The head as it is in memory, which may be ahead of the disk: for the first publication after restore and for tests.
    pub fn head(&self) -> Head {
        Head { store: self.store.head().clone(), registry: Arc::clone(&self.registry) }
    }

    /// What every controller would still do about every key, were it asked now. Nothing, once the plane has come to rest (Stable), but
    /// for keys that were refused and wait to be tried again. For the simulator and for tests, since it looks at everything.
    pub fn plans_left(&self) -> Vec<(&'static str, Key, Plan)> {
        let view = self.view();
        let mut items = std::collections::BTreeSet::new();
        for object in self.store.snapshot().all() {
            let event = Event::new(None, Arc::clone(object), false);
            for (controller, keys) in self.watchers.get(event.key().kind).into_iter().flatten().chain(&self.any) {
                items.extend(keys(&view, &event).into_iter().map(|key| (*controller, key)));
            }
        }
        let plan = |(controller, key): Item| {
            let view = View { memory: self.memory(&(controller, key.clone())), ..view };
            let controller = &self.controllers[controller];
            let plan = (controller.reconcile)(&view, &key);
            (controller.name, key, plan)
        };
        let items = items.into_iter().filter(|item| {
            // Nor of those whose questions are open.
            !self.queue.is_failing(item) && self.parking.waits_until(item).is_none()
        });
        items.map(plan).filter(|(_, _, plan)| !plan.actions.is_empty()).collect()
    }

    fn context(&mut self) -> Context<'_> {
        Context {
            now: self.now,
            store: &mut self.store,
            registry: &mut self.registry,
            ids: &mut self.ids,
            cluster: &self.cluster,
        }
    }

    fn view(&self) -> View<'_> {
        View {
            snapshot: self.store.snapshot(),
            registry: &self.registry,
            cluster: &self.cluster,
            now: self.now,
            started: self.started.unwrap_or(self.now),
            memory: None,
            measured: self.meter.last(),
        }
    }

    fn memory(&self, item: &Item) -> Option<&Memory> {
        self.memories.of(item, self.store.snapshot().get(&item.1).map(Arc::as_ref))
    }

    fn batch(&mut self, replies: Vec<(RequestId, Reply)>) -> Batch {
        Batch {
            writes: self.store.take_writes(),
            revision: self.store.snapshot().revision(),
            replies,
            effects: std::mem::take(&mut self.effects),
            calls: self.parking.take_calls(),
            measures: self.meter.take_ask(),
            head: self.head(),
        }
    }

    /// Reconciles until nothing is queued or the budget is used up.
    fn settle(&mut self) {
        if self.started.is_none() {
            self.started = Some(self.now);
            self.wake_everything();
        }
        self.queue.wake_due(self.now);
        for request in self.parking.due_notes(self.now) {
            self.write_note(&request);
        }
        self.dispatch(None);
        let first = self.store.snapshot().revision();
        let mut looks = BTreeMap::new();
        for _ in 0..RECONCILES_PER_STEP_MAX {
            if self.store.snapshot().revision() - first >= WRITES_PER_STEP_MAX {
                return;
            }
            let Some(item) = self.queue.pop() else { return };
            let looks = looks.entry(item.clone()).or_insert(0u32);
            *looks += 1;
            if *looks > RECONCILES_PER_KEY_MAX {
                // Two controllers that undo each other's work must not keep the plane from everybody else.
                self.queue.failed(item, self.now);
                continue;
            }
            if let Some(until) = self.parking.waits_until(&item) {
                self.queue.wake_later(item, until);
                continue;
            }
            let now = self.parking.began(&item).unwrap_or(self.now);
            let view = View { now, memory: self.memory(&item), ..self.view() };
            let plan = (self.controllers[item.0].reconcile)(&view, &item.1);
            let settled = self.settles(&item, &plan).then(|| item.clone());
            self.perform(item, plan);
            self.dispatch(settled.as_ref());
        }
    }

    fn wake_everything(&mut self) {
        let all: Vec<Event> =
            self.store.snapshot().all().map(|object| Event::new(None, Arc::clone(object), false)).collect();
        for event in &all {
            self.wake_watchers(event, None);
        }
    }

    /// Whether the plan's own writes need not wake its key.
    fn settles(&self, item: &Item, plan: &Plan) -> bool {
        let is_status = |action: &Action| matches!(action, Action::UpdateStatus { .. });
        match self.controllers[item.0].settles {
            Settles::Never => false,
            Settles::AfterStatus => plan.actions.iter().all(is_status),
            Settles::Always => true,
        }
    }

    /// Wakes the watchers of what was written since the last call, but for the key that was settled by it.
    fn dispatch(&mut self, settled: Option<&Item>) {
        for event in self.store.take_events() {
            self.wake_watchers(&event, settled);
        }
    }

    fn wake_watchers(&mut self, event: &Event, settled: Option<&Item>) {
        let view = self.view();
        let watchers = self.watchers.get(event.key().kind).into_iter().flatten().chain(&self.any);
        let woken =
            watchers.flat_map(|(controller, keys)| keys(&view, event).into_iter().map(|key| (*controller, key)));
        let woken: Vec<Item> = woken.filter(|item| settled != Some(item)).collect();
        woken.into_iter().for_each(|item| self.queue.wake(item));
    }

    /// Applies a plan; the first refusal cuts it, and so does the first question that is open.
    fn perform(&mut self, item: Item, plan: Plan) {
        let mut refused = false;
        for action in plan.actions {
            let (on_success, on_failure) = notes(&action);
            match self.apply(&item, action) {
                Ok(Done::Written) => {
                    if let Some(note) = on_success {
                        self.record_success(item.0, note);
                    }
                }
                Ok(Done::Asks(call)) => {
                    let until = self.parking.park(&item, call, self.now);
                    return self.queue.wake_later(item, until);
                }
                Err(status) => {
                    // In a namespace that goes away nothing can be made, and nobody needs to be told.
                    if !is_namespace_terminating(&status) {
                        self.record_refusal(&item, on_failure, &status);
                        if let Some(blame) = &plan.blame {
                            self.show_refusal(&item, blame, &status);
                        }
                    }
                    refused = true;
                    break;
                }
            }
        }
        self.parking.forget(&item);
        for note in &plan.events {
            self.record(item.0, note);
        }
        if let Some(at) = plan.wake_at {
            self.queue.wake_later(item.clone(), at);
        }
        if plan.measure {
            self.meter.ask(&item);
        }
        let object = self.store.snapshot().get(&item.1).map(Arc::as_ref);
        self.memories.keep(&item, object, plan.remember.filter(|_| !refused));
        if refused || plan.retry {
            self.queue.failed(item, self.now);
        } else {
            self.queue.succeeded(&item);
        }
    }

    /// In the note, `{name}` is the object that was written last: what a generated name became.
    fn record_success(&mut self, controller: usize, mut note: Note) {
        if note.message.contains("{name}")
            && let Some(event) = self.store.last_event()
        {
            note.message = note.message.replace("{name}", &event.key().name);
        }
        self.record(controller, &note);
    }

    fn record_refusal(&mut self, item: &Item, on_failure: Option<Note>, status: &Status) {
        // A conflict means that the plan was made for an older version; the next one is not.
        if status.reason == "Conflict" {
            return;
        }
        let mut note = on_failure.unwrap_or_else(|| Note::warning(&item.1, "FailedSync", "{error}"));
        note.message = note.message.replace("{error}", &status.message);
        self.record(item.0, &note);
    }

    /// Best effort, as the Event is; the key need not look at what it says itself.
    fn show_refusal(&mut self, item: &Item, blame: &Blame, refusal: &Status) {
        self.dispatch(None);
        let Some(object) = self.store.snapshot().get(&blame.about).filter(|_| refusal.reason != "Conflict") else {
            return;
        };
        let mut value = object.value();
        let mut conditions = facts::list(&value["status"]["conditions"]).to_vec();
        if !blame.replaces && conditions.iter().any(|one| one["type"] == blame.condition) {
            return;
        }
        let message = format!("{}{}", blame.prefix, refusal.message);
        facts::set_condition(
            &mut conditions,
            json!({"type": blame.condition, "status": blame.status,
            "lastTransitionTime": facts::time(self.now), "reason": blame.reason, "message": message}),
        );
        value["status"]["conditions"] = json!(conditions);
        let _ = self.apply(item, Action::UpdateStatus { kind: blame.about.kind, value });
        self.dispatch(Some(item));
    }

    fn apply(&mut self, item: &Item, action: Action) -> Result<Done, Status> {
        let controller = item.0;
        if let Action::Make { kind, subresource, value, work } = action {
            let request = self.request(controller, Verb::Update, kind, subresource, value, None)?;
            self.effects.push(Effect { work, request });
            return Ok(Done::Written);
        }
        let (verb, kind, subresource, body, deleted) = match action {
            Action::Create { kind, value, .. } => (Verb::Create, kind, "", value, None),
            Action::Update { kind, value, .. } => (Verb::Update, kind, "", value, None),
            Action::UpdateStatus { kind, value } => (Verb::Update, kind, "status", value, None),
            Action::UpdateSubresource { kind, subresource, value, .. } => {
                (Verb::Update, kind, subresource, value, None)
            }
            Action::Bind { pod, uid, node, .. } => {
                (Verb::Create, POD, "binding", binding(&pod, &uid, &node), Some(pod))
            }
            Action::Make { .. } => return Ok(Done::Written),
            Action::Delete { key, uid, propagation, grace_seconds, .. } => {
                let removes_at_once = key.kind == POD && grace_seconds == Some(0);
                assert!(
                    !removes_at_once || self.controllers[controller].name == crate::garbage::POD_COLLECTOR,
                    "AtMostOne: {key} would be removed without its node's consent"
                );
                (Verb::Delete, key.kind, "", delete_options(&uid, propagation, grace_seconds), Some(key))
            }
        };
        let is_delete = verb == Verb::Delete;
        let mut request = self.request(controller, verb, kind, subresource, body, deleted)?;
        request.replay = self.parking.replay(item, verb, &request.target);
        let reply = serve_write(&mut self.context(), &request);
        if let Reply::Call(call) = reply {
            return Ok(Done::Asks(call));
        }
        if request.replay.is_some() {
            // The next write asks for itself.
            self.parking.forget(item);
        }
        match reply {
            Reply::Failure { status, .. } if is_delete && status.code == 404 => Ok(Done::Written),
            Reply::Failure { status, .. } => Err(*status),
            _ => Ok(Done::Written),
        }
    }

    fn request(
        &self,
        controller: usize,
        verb: Verb,
        kind: KindName,
        subresource: &str,
        body: Value,
        key: Option<Key>,
    ) -> Result<Request, Status> {
        let Some(kind) = self.registry.stored(kind) else {
            return Err(Status::no_such_path());
        };
        let of_body = |field: &str| body["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = match &key {
            Some(key) => (key.namespace.to_string(), key.name.to_string()),
            None if verb == Verb::Create => (of_body("namespace"), String::new()),
            None => (of_body("namespace"), of_body("name")),
        };
        let resource = Resource {
            group: kind.group.into(),
            version: kind.version.into(),
            plural: kind.plural.into(),
            namespace,
            name,
            subresource: subresource.into(),
            subpath: String::new(),
        };
        let mut request = Request::of(Arc::clone(&self.users[controller]), verb, resource, body);
        request.options.field_manager = self.controllers[controller].name.into();
        Ok(request)
    }

    /// Records a note as an Event. A refusal is dropped: Events are best effort, as upstream's are.
    fn record(&mut self, controller: usize, note: &Note) {
        let Some(about) = self.store.snapshot().get(&note.about).cloned() else { return };
        let id = self.ids.next_u64();
        let source = self.controllers[controller].name;
        let view = View {
            snapshot: self.store.snapshot(),
            registry: &self.registry,
            cluster: &self.cluster,
            now: self.now,
            started: self.started.unwrap_or(self.now),
            memory: None,
            measured: None,
        };
        let (verb, value) = match self.recorder.write(&view, source, note, &about, id) {
            Some(Write::Create(value)) => (Verb::Create, value),
            Some(Write::Update(value)) => (Verb::Update, value),
            None => return,
        };
        if let Ok(request) = self.request(controller, verb, EVENT, "", value, None) {
            self.write_note(&request);
        }
    }

    fn write_note(&mut self, request: &Request) {
        if let Reply::Call(call) = serve_write(&mut self.context(), request) {
            self.parking.park_note(call, self.now);
        }
    }
}

/// What became of an action that was not refused.
enum Done {
    Written,
    Asks(Box<CallPlan>),
}

fn notes(action: &Action) -> (Option<Note>, Option<Note>) {
    match action {
        Action::Create { on_success, on_failure, .. }
        | Action::Update { on_success, on_failure, .. }
        | Action::UpdateSubresource { on_success, on_failure, .. }
        | Action::Delete { on_success, on_failure, .. } => (on_success.clone(), on_failure.clone()),
        Action::Bind { on_success, .. } => (on_success.clone(), None),
        Action::UpdateStatus { .. } | Action::Make { .. } => (None, None),
    }
}

fn is_namespace_terminating(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
}

fn binding(pod: &Key, uid: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": &*pod.name, "namespace": &*pod.namespace, "uid": uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node}})
}

fn delete_options(uid: &str, propagation: Propagation, grace_seconds: Option<i64>) -> Value {
    let policy = match propagation {
        Propagation::Orphan => "Orphan",
        Propagation::Background => "Background",
        Propagation::Foreground => "Foreground",
    };
    let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy,
        "preconditions": {"uid": uid}});
    if let Some(seconds) = grace_seconds {
        options["gracePeriodSeconds"] = json!(seconds);
    }
    options
}

/// What a step wants durable, and what may be told once it is.
#[must_use]
pub struct Batch {
    writes: Vec<(Key, Option<Bytes>)>,
    revision: Revision,
    replies: Vec<(RequestId, Reply)>,
    effects: Vec<Effect>,
    calls: Vec<(CallId, Question)>,
    measures: bool,
    head: Head,
}

impl Batch {
    /// The last state of every key that was written: bytes, or None when it is gone. To be committed together.
    pub fn writes(&self) -> &[(Key, Option<Bytes>)] {
        &self.writes
    }

    /// The store's revision after these writes; durable with them.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The caller states that `writes` and `revision` are durable.
    pub fn synced(self) -> Released {
        let Batch { replies, effects, calls, measures, head, .. } = self;
        Released { replies, effects, calls, measures, head }
    }
}

/// What may leave the plane after a commit.
pub struct Released {
    pub replies: Vec<(RequestId, Reply)>,
    /// To be done in any order; one that is lost with the process is asked for again after the next start (Level).
    pub effects: Vec<Effect>,
    /// Questions about the plane's own writes, to be answered with `Plane::answer`.
    pub calls: Vec<(CallId, Question)>,
    /// Whether it is to be told what pods use, with `Plane::measured`.
    pub measures: bool,
    pub head: Head,
}

#[cfg(test)]
mod tests;
