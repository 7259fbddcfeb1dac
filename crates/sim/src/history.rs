//! One whole history: chaos, calm and what must hold then; and the loop that delivers the messages.
//!
//! The loop pops the earliest message, delivers it to one machine, queues what that one says and checks. Time is what the message
//! says, chance is the seed's. Heads keep their order per node (a watch is Ordered); requests and observations may overtake each other.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use stead_node::Input;
use stead_store::history::EVENTS_PER_KIND_MAX;

use crate::Options;
use crate::chance::Chance;
use crate::checks::{self, Verdict, desired, machines, violated};
use crate::ledger::Ledger;
use crate::monkey;
use crate::pager::Pager;
use crate::parts::{Node, Server, start_of_time};
use crate::trace::Trace;
use crate::watcher::Watcher;
use crate::world::{Message, World, after};

impl World {
    pub fn new(seed: u64, options: &Options) -> World {
        let mut chance = Chance::of(seed);
        let now = start_of_time();
        let mut trace = Trace::starting_at(now);
        trace.is_loud = options.is_loud;
        let count = 1 + chance.below(4) as usize;
        let fences = chance.percent(50);
        let nodes = (0..count).map(|index| Node::new(index, fences)).collect();
        World {
            now,
            clock_is_ahead: SignedDuration::ZERO,
            seq: 0,
            queue: BTreeMap::new(),
            trace,
            server: Server::default(),
            nodes,
            monkey: monkey::people(&mut chance),
            watchers: (0..3).map(|index| Watcher::new(index, &mut chance)).collect(),
            pager: Pager::default(),
            events_kept: *chance.pick(&[768, 1024, EVENTS_PER_KIND_MAX]).unwrap_or(&EVENTS_PER_KIND_MAX),
            ledger: Ledger::default(),
            faults: false,
            users: false,
            sabotage: options.sabotage,
            crashes: 0,
            has_webhooks: seed % 4 == 3,
            wakes: BTreeMap::new(),
            chance,
        }
    }

    /// One whole history.
    pub fn run(&mut self) -> Verdict {
        self.start_server()?;
        if self.has_webhooks {
            self.configure_webhooks();
        }
        for node in 0..self.nodes.len() {
            self.send_in(SignedDuration::from_millis(node as i64), Message::AgentStart(node, 0));
        }
        for watcher in 0..self.watchers.len() {
            self.send_in(SignedDuration::from_secs(1), Message::Watch(watcher));
        }
        self.send_in(SignedDuration::from_secs(1), Message::Page);
        self.run_for(SignedDuration::from_secs(2))?;
        self.chaos()?;
        self.calm()
    }

    fn chaos(&mut self) -> Verdict {
        (self.faults, self.users) = (true, true);
        let seconds = 40 + self.chance.below(160);
        self.send_in(SignedDuration::from_millis(1), Message::User);
        self.send_in(SignedDuration::from_secs(1), Message::Fault);
        self.run_for(SignedDuration::from_secs(seconds as i64))
    }

    /// Stable: the faults stop, what is broken is repaired, and the end is reached and kept.
    fn calm(&mut self) -> Verdict {
        const TRIES: u32 = 90;
        const ROUND: SignedDuration = SignedDuration::from_secs(20);
        (self.faults, self.users) = (false, false);
        self.say("the faults stop");
        self.repair();
        // Containers that were doomed to end still do.
        self.run_for(SignedDuration::from_secs(45))?;
        let mut missing = String::new();
        for _ in 0..TRIES {
            self.run_for(ROUND)?;
            match self.is_desired() {
                Ok(()) => {
                    missing.clear();
                    break;
                }
                Err(text) => missing = text,
            }
        }
        if !missing.is_empty() {
            return violated(
                &checks::STABLE,
                format!("not reached: {missing}\n  {}", desired::summary(&self.server.head.store.snapshot)),
            );
        }
        self.run_for(ROUND)?;
        let revision = self.server.head.store.snapshot.revision();
        self.run_for(SignedDuration::from_secs(60))?;
        self.is_quiet(revision)?;
        self.is_desired().or_else(|text| violated(&checks::STABLE, format!("not kept: {text}")))?;
        self.crash_server(false)?;
        self.server.disk.wipe_statuses();
        self.run_for(SignedDuration::from_secs(30))?;
        self.is_desired().or_else(|text| violated(&checks::LEVEL, format!("not the same again: {text}")))
    }

    fn is_desired(&self) -> Result<(), String> {
        let machines: Vec<_> = self.nodes.iter().map(|node| &node.machine.fake).collect();
        desired::is_desired(&self.server.head.store.snapshot, &machines)
    }

    /// Stable: since a revision nothing was written but signs of life.
    fn is_quiet(&self, since: u64) -> Verdict {
        let allowed = ["leases.coordination.k8s.io", "nodes"];
        let snapshot = &self.server.head.store.snapshot;
        for kind in snapshot.kinds().filter(|kind| !allowed.contains(kind)) {
            let Ok(events) = self.server.head.store.history.since(kind, since) else {
                return violated(&checks::RELIABLE, format!("the history of {kind} does not reach back a minute"));
            };
            if let Some(event) = events.filter(|e| !(e.deleted && kind == "events")).last() {
                let detail = format!("{} is written without need: {}", event.key(), event.object.value());
                return violated(&checks::STABLE, detail);
            }
        }
        let left = self.server.plane.as_ref().map(|plane| plane.plans_left()).unwrap_or_default();
        match left.first() {
            Some((controller, key, plan)) => {
                violated(&checks::STABLE, format!("{controller} still plans for {key}: {plan:?}"))
            }
            None => Ok(()),
        }
    }

    fn run_for(&mut self, span: SignedDuration) -> Verdict {
        let end = after(self.now, span);
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), message) = entry.remove_entry();
            self.now = at;
            self.deliver(message)?;
            if self.trace.count > MESSAGES_MAX {
                return violated(&checks::BOUNDED, format!("more than {MESSAGES_MAX} messages"));
            }
        }
        self.now = end;
        Ok(())
    }

    fn deliver(&mut self, message: Message) -> Verdict {
        match message {
            Message::Request(sender, request) => self.request_arrives(sender, *request),
            Message::Answered(life, waiting) => self.webhook_answers(life, *waiting),
            Message::ServerWake(at) => {
                self.rest("the server")?;
                self.server_wakes(at)
            }
            Message::Synced(life) => self.synced(life),
            Message::ServerStart(life) if life == self.server.life && self.server.plane.is_none() => {
                self.start_server()
            }
            Message::ServerStart(_) => Ok(()),
            Message::Head { node, link, snapshot, changed } => {
                if self.nodes[node].link == link {
                    self.say(&format!("node {node} sees revision {}", snapshot.revision()));
                    self.step_agent(node, Input::Head { snapshot, changed });
                }
                Ok(())
            }
            Message::Input(node, life, input) => {
                if self.nodes[node].life == life {
                    self.say_input(node, &input);
                    self.step_agent(node, *input);
                }
                Ok(())
            }
            Message::AgentWake(node, at) => {
                if self.nodes[node].alarm == Some(at) {
                    self.rest(NODES[node])?;
                    self.say(&format!("node {node} wakes"));
                    self.nodes[node].alarm = None;
                    self.step_agent(node, Input::Wake);
                }
                Ok(())
            }
            Message::AgentStart(node, life) => {
                self.start_agent(node, life);
                Ok(())
            }
            Message::Act(node, life, action) => self.act(node, life, *action),
            Message::Ends(node, boot, container, code) => self.ends(node, boot, &container, code),
            Message::Reconnect(node, cuts) => {
                self.reconnect(node, cuts);
                Ok(())
            }
            Message::User => {
                self.user_acts();
                Ok(())
            }
            Message::Fault => self.strike(),
            Message::Watch(index) => self.watch_turn(index),
            Message::Page => self.page_turn(),
        }
    }

    /// Bounded: whoever wakes has something to do, and not over and over.
    fn rest(&mut self, who: &'static str) -> Verdict {
        let second = self.now.as_second();
        let (of, count) = self.wakes.entry(who).or_default();
        if *of != second {
            (*of, *count) = (second, 0);
        }
        *count += 1;
        if *count > WAKES_PER_SECOND_MAX {
            return violated(&checks::BOUNDED, format!("{who} wakes {count} times in a second"));
        }
        Ok(())
    }

    /// AtMostOne, after anything that may start a container.
    pub fn check_machines(&self) -> Verdict {
        machines::at_most_one(self.nodes.iter().map(|node| &node.machine.fake), &self.ledger)
    }
}

/// How many messages one history may take.
pub const MESSAGES_MAX: u64 = 400_000;

/// How often a part may wake by itself in a second.
const WAKES_PER_SECOND_MAX: u32 = 2000;

const NODES: &[&str] = &["agent 0", "agent 1", "agent 2", "agent 3"];
