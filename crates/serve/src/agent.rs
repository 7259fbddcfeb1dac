//! The node agents' threads: between the plane and the machine.
//!
//! A thread takes what happened (a published head, a reply, an observation, its alarm), steps the agent and carries its outputs
//! out: requests go to the plane like everybody's, actions run on the blocking pool and come back as observations. Heads that
//! were published while the agent was busy are taken as one.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use stead_api::{Key, Request, Status};
use stead_apiserver::{Head, Reply};
use stead_node::action::{Action, Observation};
use stead_node::{Input, NodeAgent, Output, RequestId};
use tokio::runtime::Handle;

use crate::Server;

/// The longest sleep between two looks at the clock.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// What an agent's thread is told.
pub enum Word {
    Head(Arc<Head>, Vec<Key>),
    Input(Box<Input>),
    /// Take every pod down, then end: see [`Input::ShutDown`].
    ShutDown(Option<Duration>),
    Stop,
}

/// Performs actions; blocks.
pub type Machine = Arc<dyn Fn(Action) -> Observation + Send + Sync>;

/// Heads that were published while an agent was busy, taken as one: the newest, and what changed in all of them.
#[derive(Default)]
pub struct Heads(pub Option<(Arc<Head>, BTreeSet<Key>)>);

impl Heads {
    pub fn add(&mut self, head: Arc<Head>, keys: Vec<Key>) {
        let changed = self.0.take().map(|(_, changed)| changed).unwrap_or_default();
        self.0 = Some((head, changed.into_iter().chain(keys).collect()));
    }
}

/// One agent's thread, from outside.
pub struct AgentThread {
    words: Sender<Word>,
    thread: Option<JoinHandle<()>>,
}

impl AgentThread {
    /// Starts an agent over a machine. What comes unasked from the machine is sent to `words`.
    pub fn start(
        agent: NodeAgent,
        machine: Machine,
        server: &Arc<Server>,
        runtime: &Handle,
        (words, inbox): (Sender<Word>, Receiver<Word>),
    ) -> Result<AgentThread> {
        let news = words.clone();
        server.plane.listen(Box::new(move |head, keys| {
            let _ = news.send(Word::Head(Arc::clone(head), keys.to_vec()));
        }));
        let head = server.plane.head();
        let mut shell = Shell {
            agent,
            machine,
            reach: Reach::new(Arc::downgrade(server)),
            runtime: runtime.clone(),
            words: words.clone(),
        };
        let thread = std::thread::Builder::new().name("node-agent".into()).spawn(move || {
            shell.step(Input::Head { snapshot: head.store.snapshot.clone(), changed: None });
            drop(head);
            shell.run(&inbox);
        });
        Ok(AgentThread { words, thread: Some(thread.context("start a node agent's thread")?) })
    }

    /// Ends the thread; what it asked of the machine goes on.
    pub fn stop(&mut self) {
        let _ = self.words.send(Word::Stop);
        self.join();
    }

    /// Begins to take every pod down in order; `join` tells when that is done or hopeless.
    pub fn shut_down(&self, within: Option<Duration>) {
        let _ = self.words.send(Word::ShutDown(within));
    }

    /// Waits until the thread has ended.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A new pair of ends.
pub fn words() -> (Sender<Word>, Receiver<Word>) {
    channel()
}

struct Shell {
    agent: NodeAgent,
    machine: Machine,
    reach: Reach,
    runtime: Handle,
    words: Sender<Word>,
}

impl Shell {
    fn run(&mut self, inbox: &Receiver<Word>) {
        loop {
            let over_at = self.agent.shutdown_over_at();
            if self.agent.is_shut_down() || over_at.is_some_and(|at| at <= crate::clock::now()) {
                return;
            }
            let alarm = [self.agent.wake_at(), over_at].into_iter().flatten().min();
            let mut next = match inbox.recv_timeout(wait_for(alarm)) {
                Ok(word) => Some(word),
                Err(RecvTimeoutError::Timeout) => {
                    self.step(Input::Wake);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut heads = Heads::default();
            while let Some(word) = next {
                match word {
                    Word::Stop => return,
                    Word::ShutDown(within) => self.step(Input::ShutDown { within: within.and_then(signed) }),
                    Word::Input(input) => self.step(*input),
                    Word::Head(head, keys) => heads.add(head, keys),
                }
                next = inbox.try_recv().ok();
            }
            if let Some((head, changed)) = heads.0 {
                let changed = Some(changed.into_iter().collect());
                self.step(Input::Head { snapshot: head.store.snapshot.clone(), changed });
            }
        }
    }

    fn step(&mut self, input: Input) {
        for output in self.agent.step(crate::clock::now(), input) {
            match output {
                Output::Request(id, request) => self.ask(id, *request),
                Output::Act(action) => self.act(action),
            }
        }
    }

    fn act(&self, action: Action) {
        let (machine, words) = (Arc::clone(&self.machine), self.words.clone());
        self.runtime.spawn_blocking(move || {
            let _ = words.send(Word::Input(Box::new(Input::Observed(machine(action)))));
        });
    }

    fn ask(&self, id: RequestId, request: Request) {
        let words = self.words.clone();
        self.reach.ask(request, move |reply| {
            let _ = words.send(Word::Input(Box::new(Input::Reply(id, reply))));
        });
    }
}

fn signed(length: Duration) -> Option<SignedDuration> {
    length.try_into().ok()
}

/// How long to sleep until an alarm.
pub fn wait_for(alarm: Option<Timestamp>) -> Duration {
    match alarm {
        Some(at) => at.duration_since(crate::clock::now()).try_into().unwrap_or(Duration::ZERO).min(SLEEP_MAX),
        None => SLEEP_MAX,
    }
}

/// How agents reach the API: by a call, for as long as the server lives.
pub struct Reach(Weak<Server>);

impl Reach {
    pub fn new(server: Weak<Server>) -> Reach {
        Reach(server)
    }

    pub fn is_there(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Asks; the answer may come at once or on another thread.
    pub fn ask(&self, request: Request, answer: impl FnOnce(Result<Bytes, Status>) + Send + 'static) {
        let Some(server) = self.0.upgrade() else { return };
        if stead_apiserver::is_read(&request) {
            let head = server.plane.head();
            return match stead_apiserver::serve_read(&head, crate::clock::now(), &request) {
                Reply::Call(plan) => {
                    let signer = Arc::clone(&server);
                    server.plane.resume(plan, Box::new(move |reply| answer(flat(&signer, reply))));
                }
                reply => answer(flat(&server, reply)),
            };
        }
        let signer = Arc::clone(&server);
        server.plane.ask(request, Box::new(move |reply| answer(flat(&signer, reply))));
    }
}

/// The body of an answer, or the refusal.
fn flat(server: &Server, reply: Reply) -> Result<Bytes, Status> {
    let reply = match reply {
        Reply::Sign(plan) => crate::auth::sign(server, *plan)?,
        other => other,
    };
    match reply.status() {
        Some(status) => Err(status.clone()),
        None => Ok(reply.flat().1.into()),
    }
}
