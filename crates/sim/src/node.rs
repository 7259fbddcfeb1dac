//! A node: an agent that may die, a machine that goes on without it, and the way to the server.

use jiff::SignedDuration;
use serde_json::json;
use stead_api::{Key, Request, Resource, Status, Verb};
use stead_node::action::{Action, ContainerRef};
use stead_node::{Input, NodeAgent, Output, node_user};

use crate::Sabotage;
use crate::checks::{Verdict, machines};
use crate::machine::{Machine, short, show, show_observation};
use crate::parts::{From, Sender};
use crate::server::show_target;
use crate::world::{Message, World, after};

impl World {
    pub fn start_agent(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life || self.nodes[node].agent.is_some() {
            return;
        }
        self.say(&format!("agent {node} starts"));
        let seed = self.chance.word() >> 24;
        let own = &mut self.nodes[node];
        own.life += 1;
        own.agent = Some(NodeAgent::new(own.config(), seed));
        let world = own.machine.fake.observe();
        self.step_agent(node, Input::World(world));
        self.send_head(node, None);
    }

    /// The agent dies. What it had asked of the machine is done or is not, but not later.
    pub fn crash_agent(&mut self, node: usize, reboots: bool) -> Verdict {
        self.crashes += 1;
        self.say(&format!("agent {node} crashes{}", if reboots { " with its machine" } else { "" }));
        let own = &mut self.nodes[node];
        own.agent = None;
        own.life += 1;
        own.link += 1;
        own.alarm = None;
        let under_way = std::mem::take(&mut own.under_way);
        let now = self.clock();
        for (_, action) in under_way {
            if self.chance.percent(50) {
                self.say(&format!("node {node}: {} was done at the last moment", show(&action)));
                self.nodes[node].machine.fake.perform(action.clone(), now);
                self.check_machines()?;
                self.end_init(node, action);
            }
        }
        if reboots {
            self.nodes[node].machine.reboot(now);
        }
        let most = if self.chance.percent(10) { 90_000 } else { 5000 };
        let wait = self.chance.millis(5, most);
        let life = self.nodes[node].life;
        self.send_in(wait, Message::AgentStart(node, life));
        Ok(())
    }

    /// An init container that was started at the last moment ends by itself, too.
    fn end_init(&mut self, node: usize, action: Action) {
        let Action::EnsureContainer(spec) = action else { return };
        if spec.container.name == "init" {
            let boot = self.nodes[node].machine.boot;
            let span = SignedDuration::from_millis(100);
            self.send_in(span, Message::Ends(node, boot, spec.container.clone(), 0));
        }
    }

    /// Cuts a node off from the server for a while.
    pub fn cut_off(&mut self, node: usize, span: SignedDuration) {
        self.say(&format!("node {node} is cut off"));
        self.nodes[node].is_cut_off = true;
        self.nodes[node].link += 1;
        self.nodes[node].cuts += 1;
        let cuts = self.nodes[node].cuts;
        self.send_in(span, Message::Reconnect(node, cuts));
    }

    pub fn reconnect(&mut self, node: usize, cuts: u64) {
        if self.nodes[node].is_cut_off && self.nodes[node].cuts == cuts {
            self.say(&format!("node {node} is connected again"));
            self.nodes[node].is_cut_off = false;
            self.send_head(node, None);
        }
    }

    /// Sends the published head; in order, and whole where a stream begins.
    pub fn send_head(&mut self, node: usize, changed: Option<Vec<Key>>) {
        let is_slow = self.nodes[node].slow_until.is_some_and(|until| self.now < until);
        let wait = if is_slow || (self.faults && self.chance.percent(3)) {
            self.chance.millis(20, 3000)
        } else {
            self.chance.micros(50, 2000)
        };
        let own = &mut self.nodes[node];
        if own.agent.is_none() || own.is_cut_off || self.server.plane.is_none() {
            return;
        }
        if changed.is_none() {
            own.link += 1;
        }
        let at = after(self.now, wait).max(after(own.newest_head, SignedDuration::from_nanos(1)));
        own.newest_head = at;
        let snapshot = self.server.head.store.snapshot.clone();
        let link = own.link;
        self.send(at, Message::Head { node, link, snapshot, changed });
    }

    pub fn step_agent(&mut self, node: usize, input: Input) {
        let now = self.clock();
        let Some(agent) = self.nodes[node].agent.as_mut() else { return };
        let outputs = agent.step(now, input);
        for output in outputs {
            match output {
                Output::Request(id, request) => self.ask(node, id, request),
                Output::Act(action) => {
                    if self.sabotage == Sabotage::ConfirmEarly {
                        self.confirm_early(node, &action);
                    }
                    self.begin(node, action);
                }
            }
        }
        let Some(wake) = self.nodes[node].agent.as_ref().map(NodeAgent::wake_at) else { return };
        let wake = wake.map(|at| self.when(at));
        if self.nodes[node].alarm != wake {
            self.nodes[node].alarm = wake;
            if let Some(at) = wake {
                self.send(at, Message::AgentWake(node, at));
            }
        }
    }

    fn ask(&mut self, node: usize, id: u64, request: Box<Request>) {
        let life = self.nodes[node].life;
        let from = From::Agent { node, life, id };
        let is_lost = self.nodes[node].is_cut_off || (self.faults && self.chance.percent(2));
        if is_lost {
            self.say(&format!("node {node} asks {:?} {}: lost", request.verb, show_target(&request)));
            let wait = self.chance.millis(500, 8000);
            let reply = Input::Reply(id, Err(Status::timeout("no answer came")));
            self.send_in(wait, Message::Input(node, life, Box::new(reply)));
        }
        // What seemed lost may come late, and what came may come again.
        if (is_lost && self.chance.percent(30)) || (self.faults && self.chance.percent(2)) {
            let late = self.chance.millis(1, 10_000);
            let sender = Sender { from: From::Nobody, loses_reply: true };
            self.send_in(late, Message::Request(sender, request.clone()));
        }
        if is_lost {
            return;
        }
        let is_slow = self.faults && self.chance.percent(2);
        let wait = if is_slow { self.chance.millis(50, 6000) } else { self.chance.micros(50, 2000) };
        let loses_reply = self.faults && self.chance.percent(2);
        self.send_in(wait, Message::Request(Sender { from, loses_reply }, request));
    }

    fn begin(&mut self, node: usize, action: Action) {
        let wait = Machine::duration(&action, self.faults, &mut self.chance);
        let own = &mut self.nodes[node];
        own.next_action += 1;
        let (number, life) = (own.next_action, own.life);
        own.under_way.insert(number, action.clone());
        self.send_in(wait, Message::Act(node, life, Box::new((number, action))));
    }

    pub fn act(&mut self, node: usize, life: u64, (number, action): (u64, Action)) -> Verdict {
        if self.nodes[node].life != life {
            return Ok(());
        }
        self.say(&format!("node {node}: {}", show(&action)));
        if let Action::DeleteDirectory { path } = &action {
            machines::kept_directory(&self.ledger, path)?;
        }
        let (now, faults) = (self.clock(), self.faults);
        let own = &mut self.nodes[node];
        own.under_way.remove(&number);
        let effects = own.machine.perform(action, now, faults, &mut self.chance);
        let boot = own.machine.boot;
        self.check_machines()?;
        for observation in effects.exits.into_iter().chain([effects.observation]) {
            let wait = self.chance.micros(10, 1000);
            self.send_in(wait, Message::Input(node, life, Box::new(Input::Observed(observation))));
        }
        if let Some((container, span, code)) = effects.ends {
            self.send_in(span, Message::Ends(node, boot, container, code));
        }
        Ok(())
    }

    pub fn ends(&mut self, node: usize, boot: u64, container: &ContainerRef, code: i32) -> Verdict {
        let now = self.clock();
        let own = &mut self.nodes[node];
        if own.machine.boot != boot {
            return Ok(());
        }
        let Some(observation) = own.machine.fake.end(container, code, now) else { return Ok(()) };
        let life = own.life;
        self.say(&format!("node {node}: {}/{} ends with {code}", short(&container.pod), container.name));
        let wait = self.chance.micros(10, 1000);
        self.send_in(wait, Message::Input(node, life, Box::new(Input::Observed(observation))));
        Ok(())
    }

    pub fn say_input(&mut self, node: usize, input: &Input) {
        let text = match input {
            Input::Observed(observation) => show_observation(observation),
            Input::Reply(id, Ok(_)) => format!("answer {} ok", id & 0xf_ffff),
            Input::Reply(id, Err(status)) => format!("answer {}: {}", id & 0xf_ffff, status.message),
            Input::Head { .. } | Input::World(_) | Input::ShutDown { .. } | Input::Wake => "input".into(),
        };
        self.say(&format!("agent {node} is told: {text}"));
    }

    /// The broken agent of a test: says that a pod is gone when it has only begun to stop it.
    fn confirm_early(&mut self, node: usize, action: &Action) {
        let Action::StopContainer { container, .. } = action else { return };
        let sandbox = self.nodes[node].machine.fake.sandboxes.get(&container.pod);
        let Some(pod) = sandbox.map(|sandbox| sandbox.pod.clone()) else { return };
        let resource = Resource {
            version: "v1".into(),
            plural: "pods".into(),
            namespace: pod.namespace,
            name: pod.name,
            ..Resource::default()
        };
        let body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": pod.uid}});
        let request = Request::of(node_user(&self.nodes[node].name), Verb::Delete, resource, body);
        self.ask(node, u64::MAX, Box::new(request));
    }
}
