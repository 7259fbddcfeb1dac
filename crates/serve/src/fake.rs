//! Nodes that only pretend (`--fake-nodes N`): the real agents over machines of memory, all on one thread, for tests of scale.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use anyhow::{Context, Result};
use jiff::Timestamp;
use stead_api::Key;
use stead_apiserver::Head;
use stead_node::action::Machine as Facts;
use stead_node::machine::FakeMachine;
use stead_node::{Input, NodeAgent, NodeConfig, Output, node_user};

use crate::Server;
use crate::agent::{Heads, Reach, wait_for};
use crate::config::Config;

/// What a pretended node says it has: enough for the pods of any test.
const CPUS: u32 = 64;
const MEMORY_BYTES: u64 = 256 << 30;
const DISK_BYTES: u64 = 1 << 40;
const PODS_MAX: u32 = 10_000;

enum Word {
    Head(Arc<Head>, Vec<Key>),
    For(usize, Box<Input>),
}

struct FakeNode {
    name: String,
    agent: NodeAgent,
    machine: FakeMachine,
}

struct Fakes {
    nodes: Vec<FakeNode>,
    index: BTreeMap<String, usize>,
    /// Which node has a pod.
    owner: BTreeMap<Key, usize>,
    reach: Reach,
    words: Sender<Word>,
    /// When each node wants to be woken.
    alarms: BTreeSet<(Timestamp, usize)>,
    alarm_of: Vec<Option<Timestamp>>,
}

/// Starts the pretended nodes, if there shall be any.
pub fn start(server: &Arc<Server>, config: &Config) -> Result<()> {
    if config.fake_nodes == 0 {
        return Ok(());
    }
    let (words, inbox) = channel();
    let tell = words.clone();
    server.plane.listen(Box::new(move |head, keys| {
        let _ = tell.send(Word::Head(Arc::clone(head), keys.to_vec()));
    }));
    let nodes: Vec<FakeNode> = (0..config.fake_nodes).map(|n| fake_node(n, config)).collect();
    let index = nodes.iter().enumerate().map(|(i, node)| (node.name.clone(), i)).collect();
    let alarm_of = vec![None; nodes.len()];
    let reach = Reach::new(Arc::downgrade(server));
    let mut fakes = Fakes { nodes, index, owner: BTreeMap::new(), reach, words, alarms: BTreeSet::new(), alarm_of };
    let head = server.plane.head();
    let thread = std::thread::Builder::new().name("fake-nodes".into()).spawn(move || {
        for node in 0..fakes.nodes.len() {
            fakes.step(node, Input::World(fakes.nodes[node].machine.observe()));
            fakes.step(node, Input::Head { snapshot: head.store.snapshot.clone(), changed: None });
        }
        for pod in head.store.snapshot.list("pods", "") {
            fakes.own(&head, &pod.key);
        }
        drop(head);
        fakes.run(&inbox);
    });
    thread.map(drop).context("start the pretended nodes' thread")
}

fn fake_node(n: u32, config: &Config) -> FakeNode {
    let name = format!("fake-{n}");
    let range = config.node_cidr(config.nodes + n);
    let agent = NodeConfig {
        node_ip: IpAddr::V4(config.node_ip(config.nodes + n)),
        pod_cidr: range.to_string(),
        dns_ip: IpAddr::V4(config.dns_ip),
        domain: config.domain.clone(),
        volumes_dir: "/nowhere".into(),
        machine: facts(),
        max_pods: PODS_MAX,
        labels: BTreeMap::from([("type".into(), "fake".into())]),
        port: config.api_port,
        version: format!("{}.0+stead", crate::KUBERNETES_VERSION),
        user: node_user(&name),
        fence_after: None,
        disk_pressure: stead_node::Threshold::DISK_PRESSURE,
        name: name.clone(),
    };
    FakeNode {
        agent: NodeAgent::new(agent, u64::from(std::process::id())),
        machine: FakeMachine::new(range.first()),
        name,
    }
}

fn facts() -> Facts {
    Facts {
        machine_id: "fake".into(),
        boot_id: "fake".into(),
        kernel_version: "none".into(),
        os_image: "none".into(),
        architecture: "amd64".into(),
        runtime_version: "fake://1".into(),
        cpus: CPUS,
        memory_bytes: MEMORY_BYTES,
        disk_bytes: DISK_BYTES,
        disk_free_bytes: DISK_BYTES,
    }
}

impl Fakes {
    fn run(&mut self, inbox: &Receiver<Word>) {
        loop {
            let mut next = match inbox.recv_timeout(wait_for(self.alarms.first().map(|(at, _)| *at))) {
                Ok(word) => Some(word),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut heads = Heads::default();
            while let Some(word) = next {
                match word {
                    Word::For(node, input) => self.step(node, *input),
                    Word::Head(head, keys) => heads.add(head, keys),
                }
                next = inbox.try_recv().ok();
            }
            if let Some((head, changed)) = heads.0 {
                self.published(&head, changed);
            }
            self.ring();
            if !self.reach.is_there() {
                return;
            }
        }
    }

    /// Wakes the nodes whose time has come.
    fn ring(&mut self) {
        let now = crate::clock::now();
        while let Some((at, node)) = self.alarms.first().copied() {
            if at > now {
                return;
            }
            self.alarms.pop_first();
            self.alarm_of[node] = None;
            self.step(node, Input::Wake);
        }
    }

    /// Tells every node of the changes that are its own; a node that has none is not stepped.
    fn published(&mut self, head: &Head, changed: BTreeSet<Key>) {
        let mut shares: BTreeMap<usize, Vec<Key>> = BTreeMap::new();
        for key in changed {
            if key.kind == "pods" {
                let before = self.owner.get(&key).copied();
                let now = self.own(head, &key);
                for node in before.into_iter().chain(now.filter(|n| Some(*n) != before)) {
                    shares.entry(node).or_default().push(key.clone());
                }
            } else if key.kind == "nodes"
                && let Some(node) = self.index.get(&*key.name)
            {
                shares.entry(*node).or_default().push(key);
            }
        }
        for (node, keys) in shares {
            self.step(node, Input::Head { snapshot: head.store.snapshot.clone(), changed: Some(keys) });
        }
    }

    fn own(&mut self, head: &Head, key: &Key) -> Option<usize> {
        let node = head.store.snapshot.get(key).and_then(|pod| self.index.get(pod.field("spec.nodeName")?)).copied();
        match node {
            Some(node) => self.owner.insert(key.clone(), node),
            None => self.owner.remove(key),
        };
        node
    }

    /// Steps a node; what its machine answers at once is the next input.
    fn step(&mut self, node: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = crate::clock::now();
            for output in self.nodes[node].agent.step(now, input) {
                match output {
                    Output::Act(action) => {
                        inputs.push_back(Input::Observed(self.nodes[node].machine.perform(action, now)));
                    }
                    Output::Request(id, request) => {
                        let words = self.words.clone();
                        self.reach.ask(*request, move |reply| {
                            let _ = words.send(Word::For(node, Box::new(Input::Reply(id, reply))));
                        });
                    }
                }
            }
        }
        let wake = self.nodes[node].agent.wake_at();
        if let Some(old) = std::mem::replace(&mut self.alarm_of[node], wake) {
            self.alarms.remove(&(old, node));
        }
        if let Some(at) = wake {
            self.alarms.insert((at, node));
        }
    }
}
