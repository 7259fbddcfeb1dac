//! A cluster of one store, one agent and one fake machine, with every message in a queue.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use stead_api::request::{PatchType, Resource, Verb};
use stead_api::{Key, Object, Request, Status, intern};
use stead_store::Store;

use crate::action::{Action, Check, ContainerRef, HookAction, Machine, Observation};
use crate::machine::FakeMachine;
use crate::{Input, NodeAgent, NodeConfig, Output, RequestId, node_user};

pub enum Message {
    Act(Action),
    Request(RequestId, Box<Request>),
    Input(Input),
}

pub struct World {
    pub store: Store,
    registry: stead_kinds::Registry,
    pub agent: NodeAgent,
    pub machine: FakeMachine,
    pub now: Timestamp,
    pub queue: VecDeque<Message>,
    pub log: String,
    pub lives: u64,
    /// Actions not performed until released: by the text they begin with.
    pub held: Vec<String>,
    pub on_hold: Vec<Action>,
    pub shows: Shows,
    /// Requests fail.
    pub is_api_down: bool,
    start: Timestamp,
}

/// What goes into the log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    All,
    Actions,
    Nothing,
}

pub fn config() -> NodeConfig {
    NodeConfig {
        name: "n1".into(),
        node_ip: "192.168.0.1".parse().unwrap(),
        pod_cidr: "10.244.0.0/24".into(),
        dns_ip: "10.96.0.10".parse().unwrap(),
        domain: "cluster.local".into(),
        volumes_dir: "/data/volumes".into(),
        machine: Machine {
            machine_id: "m".into(),
            boot_id: "b".into(),
            kernel_version: "6.1".into(),
            os_image: "Debian".into(),
            architecture: "amd64".into(),
            runtime_version: "stead://0.1".into(),
            cpus: 4,
            memory_bytes: 8 << 30,
            disk_bytes: 100 << 30,
            disk_free_bytes: 50 << 30,
        },
        max_pods: 110,
        labels: BTreeMap::new(),
        port: 10250,
        version: "v1.36.0".into(),
        user: node_user("n1"),
        fence_after: None,
        disk_pressure: crate::Threshold::DISK_PRESSURE,
    }
}

impl World {
    pub fn new() -> World {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut world = World {
            store: Store::default(),
            registry: stead_kinds::Registry::with([]),
            agent: NodeAgent::new(config(), 0),
            machine: FakeMachine::new(Ipv4Addr::new(10, 244, 0, 1)),
            now: start,
            queue: VecDeque::new(),
            log: String::new(),
            lives: 0,
            held: Vec::new(),
            on_hold: Vec::new(),
            shows: Shows::Actions,
            is_api_down: false,
            start,
        };
        world.boot();
        world
    }

    /// A new life of the agent; what was under way to or from the old one is lost.
    pub fn boot(&mut self) {
        self.lives += 1;
        self.agent = NodeAgent::new(config(), self.lives);
        self.queue.clear();
        self.on_hold.clear();
        let world = self.machine.observe();
        self.queue.push_back(Message::Input(Input::World(world)));
        let snapshot = self.store.snapshot().clone();
        self.queue.push_back(Message::Input(Input::Head { snapshot, changed: None }));
    }

    pub fn say(&mut self, text: &str) {
        let since = self.now.duration_since(self.start).as_secs_f64();
        self.log.push_str(&format!("{since:.1}s {text}\n"));
    }

    /// Delivers one message; false when there is none.
    pub fn deliver(&mut self) -> bool {
        self.deliver_at(0)
    }

    /// Delivers the message at a place in the queue. Actions overtake each other as on a real machine; inputs stay in order.
    pub fn deliver_at(&mut self, place: usize) -> bool {
        let place = match self.queue.get(place) {
            Some(Message::Input(_)) => self.queue.iter().position(|m| matches!(m, Message::Input(_))).unwrap_or(place),
            Some(_) | None => place,
        };
        let Some(message) = self.queue.remove(place) else { return false };
        match message {
            Message::Act(action) => {
                let text = show(&action);
                if self.shows != Shows::Nothing && action != Action::LookAtDisk {
                    self.say(&text);
                }
                if self.held.iter().any(|prefix| text.starts_with(prefix)) {
                    self.on_hold.push(action);
                } else {
                    let observation = self.machine.perform(action, self.now);
                    self.queue.push_back(Message::Input(Input::Observed(observation)));
                }
            }
            Message::Request(id, request) => {
                let result = self.serve(&request);
                self.queue.push_back(Message::Input(Input::Reply(id, result)));
            }
            Message::Input(input) => {
                for output in self.agent.step(self.now, input) {
                    self.queue.push_back(match output {
                        Output::Act(action) => Message::Act(action),
                        Output::Request(id, request) => Message::Request(id, request),
                    });
                }
            }
        }
        true
    }

    /// Runs until nothing is under way, jumping over waits up to `seconds`.
    pub fn run(&mut self, seconds: i64) {
        let until = self.now + SignedDuration::from_secs(seconds);
        for _ in 0..100_000 {
            if self.deliver() {
                continue;
            }
            match self.agent.wake_at() {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    self.queue.push_back(Message::Input(Input::Wake));
                }
                Some(_) | None => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("never at rest:\n{}", self.log);
    }

    pub fn release(&mut self) {
        self.held.clear();
        for action in std::mem::take(&mut self.on_hold) {
            let observation = self.machine.perform(action, self.now);
            self.queue.push_back(Message::Input(Input::Observed(observation)));
        }
    }

    pub fn observe(&mut self, observation: Observation) {
        self.queue.push_back(Message::Input(Input::Observed(observation)));
    }

    /// A container of a pod ends by itself.
    pub fn end(&mut self, pod: &str, container: &str, code: i32) {
        let newest = self.machine.containers.keys().filter(|c| c.pod == pod && c.name == container);
        let newest: ContainerRef = newest.max_by_key(|c| c.attempt).cloned().unwrap();
        let now = self.now;
        let ended = self.machine.end(&newest, code, now).unwrap();
        self.observe(ended);
    }

    // ------------------------------------------------------------------------------------------------- the API server

    pub fn put(&mut self, kind: &str, mut value: Value) {
        let revision = self.store.next_revision();
        value["metadata"]["resourceVersion"] = json!(revision.to_string());
        let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = Key::new(intern(kind), &text("namespace"), &text("name"));
        let fields = self.registry.fields(key.kind);
        self.store.put(Object::of_value(key.clone(), &value, &fields).unwrap());
        self.changed(key);
    }

    pub fn changed(&mut self, key: Key) {
        let snapshot = self.store.snapshot().clone();
        self.queue.push_back(Message::Input(Input::Head { snapshot, changed: Some(vec![key]) }));
    }

    pub fn pod(&mut self, name: &str, uid: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("n1");
        self.put(
            "pods",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns", "uid": uid,
            "generation": 1}, "spec": spec, "status": {"phase": "Pending"}}),
        );
    }

    pub fn get(&self, kind: &str, name: &str) -> Option<Arc<Object>> {
        self.store.snapshot().find(intern(kind), "ns", name).cloned()
    }

    /// A user's deletion of a pod.
    pub fn delete(&mut self, name: &str, grace: i64) {
        let Some(object) = self.get("pods", name) else { return };
        let mut value = object.value();
        let at = self.now + SignedDuration::from_secs(grace);
        value["metadata"]["deletionTimestamp"] = json!(crate::event::time(at));
        value["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self.put("pods", value);
    }

    /// A forced deletion: the object is gone at once.
    pub fn remove(&mut self, name: &str) {
        let Some(object) = self.get("pods", name) else { return };
        let mut value = object.value();
        value["metadata"]["resourceVersion"] = json!(self.store.next_revision().to_string());
        self.store.remove(Object::of_value(object.key.clone(), &value, &self.registry.fields("pods")).unwrap());
        self.changed(object.key.clone());
    }

    fn serve(&mut self, request: &Request) -> Result<Bytes, Status> {
        if self.is_api_down {
            return Err(Status::new(503, "ServiceUnavailable", "down"));
        }
        let resource = request.resource().unwrap().clone();
        let answer = match (request.verb, resource.plural.as_str(), resource.subresource.as_str()) {
            (Verb::Patch(PatchType::Strategic), "pods", "status") => self.patch_status(&resource, &request.body)?,
            (Verb::Delete, "pods", "") => self.confirm(&resource, &request.body)?,
            (Verb::Create, "serviceaccounts", "token") => {
                let until = self.now + SignedDuration::from_secs(3600);
                json!({"status": {"token": format!("t{}", self.store.next_revision()),
                    "expirationTimestamp": crate::event::time(until)}})
            }
            (Verb::Create, "nodes" | "leases", _) => {
                let mut value = request.body.clone();
                value["metadata"]["uid"] = json!("node-uid");
                let kind = if resource.plural == "nodes" { "nodes" } else { "leases.coordination.k8s.io" };
                self.put(kind, value.clone());
                value
            }
            (Verb::Patch(PatchType::Strategic), "nodes", "status") => {
                let mut value =
                    self.store.snapshot().find("nodes", "", "n1").map(|node| node.value()).unwrap_or_default();
                value["status"] = request.body["status"].clone();
                value["status"]["allocatable"].as_object_mut().unwrap().retain(|_, amount| !amount.is_null());
                self.put("nodes", value.clone());
                value
            }
            (Verb::Create, "events", _) => {
                if self.shows == Shows::All {
                    let body = &request.body;
                    let text = format!(
                        "event {} {} {}",
                        body["type"].as_str().unwrap(),
                        body["reason"].as_str().unwrap(),
                        body["message"].as_str().unwrap()
                    );
                    self.say(&text);
                }
                json!({})
            }
            _ => json!({}),
        };
        Ok(serde_json::to_vec(&answer).unwrap().into())
    }

    fn patch_status(&mut self, resource: &Resource, body: &Value) -> Result<Value, Status> {
        let not_found = || Status::not_found("", "pods", &resource.name);
        let object = self.get("pods", &resource.name).ok_or_else(not_found)?;
        if body["metadata"]["uid"] != json!(object.meta.uid) {
            return Err(Status::conflict("", "pods", &resource.name, "uid"));
        }
        let mut value = object.value();
        let mut status: Map<String, Value> = value["status"].as_object().cloned().unwrap_or_default();
        for (field, new) in body["status"].as_object().unwrap() {
            match (field.as_str(), new) {
                (_, Value::Null) => {
                    status.remove(field);
                }
                ("conditions", Value::Array(new)) => {
                    let mut all = status.get("conditions").and_then(|c| c.as_array().cloned()).unwrap_or_default();
                    for condition in new {
                        let mut condition = condition.clone();
                        if condition["$patch"] == "delete" {
                            all.retain(|c| c["type"] != condition["type"]);
                            continue;
                        }
                        condition.as_object_mut().unwrap().retain(|_, v| !v.is_null());
                        match all.iter_mut().find(|c| c["type"] == condition["type"]) {
                            Some(old) => *old = condition,
                            None => all.push(condition),
                        }
                    }
                    status.insert(field.clone(), Value::Array(all));
                }
                ("podIPs", Value::Array(new)) => {
                    let kept = new.iter().filter(|ip| ip["$patch"].is_null()).cloned().collect();
                    status.insert(field.clone(), Value::Array(kept));
                }
                (_, new) => {
                    status.insert(field.clone(), new.clone());
                }
            }
        }
        value["status"] = Value::Object(status);
        if self.shows == Shows::All {
            let text = summary(&value["status"]);
            self.say(&format!("status {text}"));
        }
        self.put("pods", value);
        Ok(self.get("pods", &resource.name).unwrap().value())
    }

    fn confirm(&mut self, resource: &Resource, body: &Value) -> Result<Value, Status> {
        let not_found = || Status::not_found("", "pods", &resource.name);
        let object = self.get("pods", &resource.name).ok_or_else(not_found)?;
        assert_eq!(body["gracePeriodSeconds"], json!(0));
        if body["preconditions"]["uid"] != json!(object.meta.uid) {
            return Err(Status::conflict("", "pods", &resource.name, "uid"));
        }
        let uid = object.meta.uid.clone();
        assert!(self.machine.running().all(|c| c.container.pod != uid), "confirmed while {uid} runs\n{}", self.log);
        if self.shows != Shows::Nothing {
            self.say(&format!("confirm {}", resource.name));
        }
        self.remove(&resource.name);
        Ok(object.value())
    }
}

/// `Running ip Ready main=running(0) …`
pub fn summary(status: &Value) -> String {
    let mut text = status["phase"].as_str().unwrap_or_default().to_owned();
    if let Some(reason) = status["reason"].as_str() {
        text.push_str(&format!("({reason})"));
    }
    if let Some(ip) = status["podIP"].as_str() {
        text.push_str(&format!(" {ip}"));
    }
    for condition in status["conditions"].as_array().into_iter().flatten() {
        if condition["status"] == "True" && condition["type"] != "PodScheduled" {
            text.push_str(&format!(" {}", condition["type"].as_str().unwrap()));
        }
    }
    for list in ["initContainerStatuses", "containerStatuses"] {
        for status in status[list].as_array().into_iter().flatten() {
            let state = &status["state"];
            let shown = if let Some(reason) = state["waiting"]["reason"].as_str() {
                reason.to_owned()
            } else if let Some(reason) = state["terminated"]["reason"].as_str() {
                format!("{reason}:{}", state["terminated"]["exitCode"])
            } else {
                "running".into()
            };
            let ready = if status["ready"] == true { " ready" } else { "" };
            let name = status["name"].as_str().unwrap();
            text.push_str(&format!(" [{name} {shown} #{}{ready}]", status["restartCount"]));
        }
    }
    text
}

/// An action in a few words.
pub fn show(action: &Action) -> String {
    let of = |c: &ContainerRef| format!("{}/{}#{}", c.pod, c.name, c.attempt);
    let check = |check: &Check| match check {
        Check::Exec { command } => format!("exec {}", command.join(" ")),
        Check::Http { host, port, path, .. } => format!("http {host}:{port}{path}"),
        Check::Tcp { address } => format!("tcp {address}"),
        Check::Grpc { address, service } => format!("grpc {address} {service}"),
    };
    match action {
        Action::FindImage { image } => format!("find {image}"),
        Action::PullImage { image, .. } => format!("pull {image}"),
        Action::RemoveImage { image } => format!("remove image {image}"),
        Action::LookAtDisk => "look at the disk".into(),
        Action::MeasurePods { pods } => format!("measure {}", pods.join(" ")),
        Action::EmptyPod { pod } => format!("empty {pod}"),
        Action::EnsureSandbox(spec) => format!("sandbox {}#{} hostname={}", spec.pod.uid, spec.attempt, spec.hostname),
        Action::EnsureVolumes { pod, volumes } => {
            let names: Vec<&str> = volumes.iter().map(|v| v.name.as_str()).collect();
            format!("volumes {pod} [{}]", names.join(" "))
        }
        Action::StopSandbox { pod } => format!("stop sandbox {pod}"),
        Action::RemovePod { pod } => format!("remove pod {pod}"),
        Action::EnsureContainer(spec) => format!("start {}", of(&spec.container)),
        Action::StopContainer { container, grace, .. } => format!("stop {} grace={}", of(container), grace.as_secs()),
        Action::RemoveContainer { container } => format!("remove {}", of(container)),
        Action::ResizeContainer { container, resources, .. } => {
            format!("resize {} cpu={:?} memory={:?}", of(container), resources.cpu_quota_us, resources.memory_bytes)
        }
        Action::Probe { container, kind, check: what, .. } => {
            format!("probe {} {kind:?} {}", of(container), check(what))
        }
        Action::RunHook { container, hook, check: what, .. } => {
            let what = match what {
                HookAction::Run(what) => check(what),
                HookAction::Sleep(time) => format!("sleep {}", time.as_secs()),
            };
            format!("hook {} {hook:?} {what}", of(container))
        }
        Action::DeleteDirectory { path } => format!("delete {}", path.display()),
    }
}
