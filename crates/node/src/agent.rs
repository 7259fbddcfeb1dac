//! `NodeAgent`: takes inputs apart, marks the pods they touch, and lets sync.rs plan those.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use stead_api::request::{Resource, Verb};
use stead_api::{Key, Object, Request, Revision};
use stead_store::Snapshot;

use crate::action::{ContainerRef, Image, PodRef, PodUid, Sandbox, World};
use crate::config::{NodeConfig, provisioner_user};
use crate::disk::Disk;
use crate::duty::NodeDuty;
use crate::event::{Note, Recorder, Subject};
use crate::evict::Shortage;
use crate::exchange::{Input, Output, Pending, RequestId};
use crate::reclaim_steps::Reclaim;
use crate::state::PodState;
use crate::token::{TokenKey, Tokens, tokens_of};

/// An image being looked for or pulled: one at a time per image, and who waits for it.
#[derive(Clone, Debug)]
pub(crate) struct ImageOp {
    pub is_pull: bool,
    pub since: Timestamp,
    pub waiters: Vec<(PodUid, String)>,
    /// Pods that want the other operation on the image next.
    pub others: BTreeSet<PodUid>,
}

/// What is known of the API server's side of a pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApiSide {
    pub is_status_under_way: bool,
    /// The revision of our newest status; older heads are not judged by.
    pub acked: Revision,
    /// The newest status that was sent.
    pub sent: Option<Value>,
    pub is_confirm_under_way: bool,
    pub is_confirmed: bool,
    pub failures: u32,
    pub retry_at: Option<Timestamp>,
}

/// The agent of one node.
pub struct NodeAgent {
    pub(crate) config: NodeConfig,
    pub(crate) snapshot: Option<Snapshot>,
    /// Until the world is known: the head is kept, nothing is planned.
    pub(crate) is_world_known: bool,
    is_adopted: bool,
    pub(crate) pods: BTreeMap<PodUid, PodState>,
    pub(crate) api: BTreeMap<PodUid, ApiSide>,
    /// The pods of the API server, by key; and of the machine and the API server together, by namespace and name.
    pub(crate) by_key: BTreeMap<Key, PodUid>,
    pub(crate) by_name: BTreeMap<(String, String), Vec<PodUid>>,
    /// Which pods a ConfigMap, Secret or claim wakes.
    pub(crate) users: BTreeMap<Key, BTreeSet<PodUid>>,
    pub(crate) tokens: Tokens,
    pub(crate) tokens_under_way: BTreeSet<TokenKey>,
    pub(crate) token_retry: BTreeMap<TokenKey, Timestamp>,
    pub(crate) images: BTreeMap<String, ImageOp>,
    /// `status.imageID` by the image's id.
    pub(crate) image_ids: BTreeMap<String, String>,
    pub(crate) dirty: BTreeSet<PodUid>,
    wakes: BTreeSet<(Timestamp, PodUid)>,
    wake_of: BTreeMap<PodUid, Timestamp>,
    pub(crate) pending: BTreeMap<RequestId, Pending>,
    next_request: RequestId,
    pub(crate) recorder: Recorder,
    pub(crate) node: NodeDuty,
    pub(crate) disk: Disk,
    /// What the pods are being measured for.
    pub(crate) disk_wanted: Option<Shortage>,
    pub(crate) reclaim: Reclaim,
    /// The node stops, and no pod lives longer than this.
    pub(crate) kill_all_at: Option<Timestamp>,
    pub(crate) outputs: Vec<Output>,
}

impl NodeAgent {
    /// `seed` only makes request ids differ between lives, so that a late reply to an earlier life is no one's.
    pub fn new(config: NodeConfig, seed: u64) -> NodeAgent {
        let machine = &config.machine;
        let is_short = machine.disk_free_bytes < config.disk_pressure.bytes_of(machine.disk_bytes);
        NodeAgent {
            disk: Disk::at_start(is_short),
            disk_wanted: None,
            recorder: Recorder::new(&config.name),
            config,
            snapshot: None,
            is_world_known: false,
            is_adopted: false,
            image_ids: BTreeMap::new(),
            pods: BTreeMap::new(),
            api: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_name: BTreeMap::new(),
            users: BTreeMap::new(),
            tokens: Tokens::new(),
            tokens_under_way: BTreeSet::new(),
            token_retry: BTreeMap::new(),
            images: BTreeMap::new(),
            dirty: BTreeSet::new(),
            wakes: BTreeSet::new(),
            wake_of: BTreeMap::new(),
            pending: BTreeMap::new(),
            next_request: seed << 20,
            node: NodeDuty::default(),
            reclaim: Reclaim::default(),
            kill_all_at: None,
            outputs: Vec::new(),
        }
    }

    /// Takes one input and tells what to do.
    pub fn step(&mut self, now: Timestamp, input: Input) -> Vec<Output> {
        match input {
            Input::Head { snapshot, changed } => self.head(now, snapshot, changed),
            Input::World(world) => self.world(now, world),
            Input::Observed(observation) => self.observed(now, observation),
            Input::Reply(id, result) => self.replied(now, id, result),
            Input::ShutDown { within } => self.shut_down(now, within),
            Input::Wake => {}
        }
        if let (Some(snapshot), true) = (self.snapshot.clone(), self.is_world_known) {
            if !self.is_adopted {
                self.adopt(now);
            }
            self.node_duties(now, &snapshot);
            self.wake_due(now);
            while let Some(uid) = self.dirty.pop_first() {
                self.sync(&uid, &snapshot, now);
            }
            self.reclaim_volumes(now);
            self.look_at_disk(now);
        }
        std::mem::take(&mut self.outputs)
    }

    /// When to step again even if nothing happens.
    pub fn wake_at(&self) -> Option<Timestamp> {
        if !self.is_world_known || self.snapshot.is_none() {
            return None;
        }
        let pods = self.wakes.first().map(|(at, _)| *at);
        [pods, self.node.wake_at(&self.config), self.reclaim.wake_at(), self.disk.wake_at()].into_iter().flatten().min()
    }

    /// Both the machine and the API server have been seen.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_adopted
    }

    fn wake_due(&mut self, now: Timestamp) {
        while let Some((at, uid)) = self.wakes.first().cloned() {
            if at > now {
                break;
            }
            self.wakes.pop_first();
            self.wake_of.remove(&uid);
            self.dirty.insert(uid);
        }
    }

    /// Sets when a pod is looked at again.
    pub(crate) fn set_wake(&mut self, uid: &str, at: Option<Timestamp>) {
        if let Some(old) = self.wake_of.remove(uid) {
            self.wakes.remove(&(old, uid.to_owned()));
        }
        if let Some(at) = at {
            self.wake_of.insert(uid.to_owned(), at);
            self.wakes.insert((at, uid.to_owned()));
        }
    }

    fn head(&mut self, now: Timestamp, snapshot: Snapshot, changed: Option<Vec<Key>>) {
        let is_first = self.snapshot.is_none();
        let changed = changed.filter(|_| !is_first);
        match changed {
            Some(keys) => {
                for key in &keys {
                    match key.kind {
                        "pods" => self.pod_changed(now, &snapshot, key),
                        "configmaps" | "secrets" | "persistentvolumeclaims" => {
                            self.dirty.extend(self.users.get(key).into_iter().flatten().cloned());
                        }
                        "persistentvolumes" => self.volume_changed(&snapshot, key),
                        _ => {}
                    }
                }
            }
            None => {
                let mine: Vec<Arc<Object>> = snapshot
                    .list("pods", "")
                    .filter(|o| o.field("spec.nodeName") == Some(self.config.name.as_str()))
                    .cloned()
                    .collect();
                let mut keys: BTreeSet<Key> = self.by_key.keys().cloned().collect();
                keys.extend(mine.iter().map(|o| o.key.clone()));
                for key in &keys {
                    self.pod_changed(now, &snapshot, key);
                }
                self.dirty.extend(self.pods.keys().cloned());
                self.reclaim.look_at_all();
            }
        }
        self.snapshot = Some(snapshot);
    }

    fn pod_changed(&mut self, now: Timestamp, snapshot: &Snapshot, key: &Key) {
        let object = snapshot.get(key).filter(|o| o.field("spec.nodeName") == Some(self.config.name.as_str()));
        let known = self.by_key.get(key).cloned();
        if let Some(uid) = known.filter(|uid| object.is_none_or(|o| o.meta.uid != *uid)) {
            self.by_key.remove(key);
            if let Some(state) = self.pods.get_mut(&uid) {
                state.set_gone(now);
            }
            self.dirty.insert(uid);
        }
        let Some(object) = object else { return };
        let uid = object.meta.uid.clone();
        self.by_key.insert(key.clone(), uid.clone());
        let pod = PodRef { uid: uid.clone(), namespace: key.namespace.to_string(), name: key.name.to_string() };
        let references = stead_kinds::pod::references(&object.view());
        let references: Vec<Key> = references.iter().map(|(k, name)| Key::new(k, &key.namespace, name)).collect();
        for key in &references {
            self.users.entry(key.clone()).or_default().insert(uid.clone());
        }
        let state = self.state_of(pod, now);
        state.references.extend(references);
        state.set_object(Arc::clone(object), now);
        self.dirty.insert(uid);
    }

    /// A persistent volume wakes the pods of its claim, and may have to be deleted.
    fn volume_changed(&mut self, snapshot: &Snapshot, key: &Key) {
        self.reclaim.look_at(key.clone());
        let Some(object) = snapshot.get(key) else { return };
        let volume = object.view::<k8s_openapi::api::core::v1::PersistentVolume>();
        let Some(claim) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else { return };
        let (namespace, name) = (claim.namespace.as_deref().unwrap_or(""), claim.name.as_deref().unwrap_or(""));
        let claim = Key::new("persistentvolumeclaims", namespace, name);
        self.dirty.extend(self.users.get(&claim).into_iter().flatten().cloned());
    }

    fn state_of(&mut self, pod: PodRef, now: Timestamp) -> &mut PodState {
        let names = self.by_name.entry((pod.namespace.clone(), pod.name.clone())).or_default();
        if !names.contains(&pod.uid) {
            names.push(pod.uid.clone());
        }
        let node_ip = self.config.node_ip;
        let state = self.pods.entry(pod.uid.clone()).or_insert_with(|| PodState::new(pod.clone(), node_ip, now));
        if !pod.name.is_empty() {
            state.pod = pod;
        }
        state
    }

    /// Forgets a pod of which nothing is left on the machine or in the API server; a later pod of its name may go on.
    pub(crate) fn forget(&mut self, uid: &str) {
        let Some(state) = self.pods.remove(uid) else { return };
        self.look_at_resizes();
        self.api.remove(uid);
        self.set_wake(uid, None);
        for key in &state.references {
            if let Some(pods) = self.users.get_mut(key) {
                pods.remove(uid);
                if pods.is_empty() {
                    self.users.remove(key);
                }
            }
        }
        let tokens: Vec<TokenKey> = tokens_of(&self.tokens, uid).map(|(key, _)| key.clone()).collect();
        for key in tokens {
            self.tokens.remove(&key);
        }
        self.token_retry.retain(|key, _| key.pod_uid != uid);
        let name = (state.pod.namespace, state.pod.name);
        if let Some(all) = self.by_name.get_mut(&name) {
            all.retain(|other| other != uid);
            self.dirty.extend(all.iter().cloned());
            if all.is_empty() {
                self.by_name.remove(&name);
            }
        }
    }

    /// Whether an earlier pod of this name is still on the machine: the one the API server does not have any more.
    pub(crate) fn is_name_taken(&self, state: &PodState) -> bool {
        let name = (state.pod.namespace.clone(), state.pod.name.clone());
        let others = self.by_name.get(&name).into_iter().flatten().filter(|uid| **uid != state.pod.uid);
        others.filter_map(|uid| self.pods.get(uid)).any(|other| other.object.is_none())
    }

    /// The machine as it was found.
    fn world(&mut self, now: Timestamp, world: World) {
        for sandbox in world.sandboxes {
            let sandbox = Sandbox { created_at: now.min(sandbox.created_at), ..sandbox };
            let state = self.state_of(sandbox.pod.clone(), now);
            if state.sandbox.as_ref().is_none_or(|known| known.attempt <= sandbox.attempt) {
                state.sandbox = Some(sandbox);
            }
        }
        for container in world.containers {
            let uid = container.container.pod.clone();
            // A container without a sandbox: only its uid is known, which is enough to take it down.
            let unnamed = PodRef { uid, namespace: String::new(), name: String::new() };
            self.state_of(unnamed, now).put(container, now);
        }
        for image in world.images {
            self.image_ids.insert(image.id.clone(), image_id(&image));
        }
        self.is_world_known = true;
    }

    /// Both the world and the head are known: what runs is adopted with its restart counts.
    fn adopt(&mut self, now: Timestamp) {
        for (uid, state) in &mut self.pods {
            state.adopt();
            if state.object.is_none() {
                state.set_gone(now);
            }
            self.dirty.insert(uid.clone());
        }
        self.is_adopted = true;
    }

    pub(crate) fn request(&mut self, pending: Pending, verb: Verb, resource: Resource, body: Value) {
        let user = match pending {
            Pending::Reclaim(_) => provisioner_user(),
            _ => Arc::clone(&self.config.user),
        };
        let id = self.next_request;
        self.next_request += 1;
        let mut request = Request::of(user, verb, resource, body);
        request.user_agent = "kubelet/stead".into();
        self.pending.insert(id, pending);
        self.outputs.push(Output::Request(id, Box::new(request)));
    }

    /// Records an event about a pod.
    pub(crate) fn tell(&mut self, uid: &str, note: &Note, now: Timestamp) {
        let Some(state) = self.pods.get(uid) else { return };
        // Without an object nobody could find it.
        if state.object.is_none() {
            return;
        }
        let field_path = note.container.as_ref().map(|name| field_path(state, name));
        let subject = Subject {
            kind: "Pod",
            namespace: state.pod.namespace.clone(),
            name: state.pod.name.clone(),
            uid: uid.to_owned(),
            field_path,
        };
        self.tell_of(subject, note, now);
    }

    pub(crate) fn tell_of(&mut self, subject: Subject, note: &Note, now: Timestamp) {
        if let Some((verb, resource, body)) = self.recorder.record(subject, note, now) {
            let name = resource.name.clone();
            self.request(Pending::Event(name), verb, resource, body);
        }
    }

    /// The pod's state of a container that the machine speaks of.
    pub(crate) fn state_by_container(&mut self, container: &ContainerRef) -> Option<&mut PodState> {
        self.dirty.insert(container.pod.clone());
        self.pods.get_mut(&container.pod)
    }
}

/// `status.imageID`: by which manifest the image was pulled, else its own id.
pub(crate) fn image_id(image: &Image) -> String {
    image.digests.first().cloned().unwrap_or_else(|| image.id.clone())
}

fn field_path(state: &PodState, name: &str) -> String {
    let spec = state.spec.as_ref().and_then(|p| p.spec.as_ref());
    let is_init = spec.is_some_and(|s| s.init_containers.iter().flatten().any(|c| c.name == name));
    let is_ephemeral = state.ephemeral.iter().any(|c| c.name == name);
    let list = match (is_init, is_ephemeral) {
        (true, _) => "initContainers",
        (false, true) => "ephemeralContainers",
        (false, false) => "containers",
    };
    format!("spec.{list}{{{name}}}")
}
