//! The server: a plane, a disk that keeps a prefix of the batches, and what is published.
//!
//! As in serve: requests that arrive during a commit form the next batch; replies and heads leave when the commit is on disk. A crash
//! loses the plane and everything waiting; the batch under way is on disk or not, whole.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use stead_api::call::Answer;
use stead_api::{Key, KindName, Request, Status};
use stead_apiserver::{Bootstrap, Cluster, Head, Reply, is_read, serve_read};
use stead_control::{Batch, CallId, Plane, Released};
use stead_node::Input;
use stead_store::Record;

use crate::Sabotage;
use crate::checks::{self, Verdict, Violation, disk, machines, violated};
use crate::parts::{Disk, From, Sender, Waiting};
use crate::world::{Message, World};

pub fn cluster() -> Cluster {
    Cluster {
        service_cidr: (Ipv4Addr::new(10, 96, 0, 0), 16),
        node_ports: 30000..=32767,
        domain: "cluster.local".into(),
        ca_pem: "CA".into(),
    }
}

fn records(disk: &Disk) -> Vec<Record> {
    disk.objects.iter().map(|(key, json)| Record { key: key.clone(), json: json.clone() }).collect()
}

/// The body of an answer, or the refusal: as the shell hands it to agents.
fn flat(reply: Reply) -> Result<Bytes, Status> {
    let reply = match reply {
        Reply::Sign(plan) => plan.signed("a-token"),
        other => other,
    };
    match reply.status() {
        Some(status) => Err(status.clone()),
        None => Ok(reply.flat().1.into()),
    }
}

impl World {
    pub fn start_server(&mut self) -> Verdict {
        let seed = self.chance.word();
        let revision = self.server.disk.revision;
        self.say(&format!("the server starts at revision {revision}"));
        disk::remembered(revision, self.server.told)?;
        let restore = || {
            let records = records(&self.server.disk);
            if self.sabotage == Sabotage::Idle && !self.faults && self.server.life > 0 {
                return Plane::restore_with(&[], seed, cluster(), revision, records);
            }
            Plane::restore(seed, cluster(), revision, records)
        };
        let plane = restore();
        let mut plane = match plane {
            Ok(plane) => plane,
            Err(error) => return violated(&checks::FOLD, format!("the records do not restore: {error}")),
        };
        plane.keep_history(self.events_kept);
        let head = plane.head();
        disk::fold(&head.store.snapshot, &head.registry, records(&self.server.disk), revision)?;
        disk::named(&plane.plans_left())?;
        self.server.restored = revision;
        let facts = Bootstrap {
            api_address: Ipv4Addr::new(192, 0, 2, 1),
            api_port: 6443,
            dns_ip: Ipv4Addr::new(10, 96, 0, 10),
            front_proxy_ca: "FRONT".into(),
            tells_usage: true,
        };
        let batch = plane.bootstrap(self.clock(), &facts);
        self.server.plane = Some(plane);
        let durable = self.commit(batch)?;
        self.publish(durable, Vec::new(), true)?;
        self.set_alarm();
        Ok(())
    }

    /// The server dies. What waits for an answer learns that the connection broke.
    pub fn crash_server(&mut self, may_keep: bool) -> Verdict {
        self.crashes += 1;
        self.say("the server crashes");
        self.server.plane = None;
        self.server.life += 1;
        self.server.alarm = None;
        let mut waiting: Vec<Sender> = std::mem::take(&mut self.server.inbox).into_iter().map(|(s, _)| s).collect();
        if let Some((batch, senders)) = self.server.in_flight.take() {
            if may_keep && !self.server.is_refused && self.chance.percent(50) {
                self.say("the batch under way is on disk");
                self.commit(batch)?;
            }
            waiting.extend(senders);
        }
        self.server.is_refused = false;
        if self.sabotage == Sabotage::LoseLastBatch
            && let Some((objects, revision)) = self.server.before_last.take()
        {
            self.server.disk = Disk { objects, revision };
        }
        for sender in waiting {
            self.answer(&sender, Err(Status::unavailable("the connection broke")));
        }
        let most = if self.chance.percent(20) { 8000 } else { 400 };
        let wait = self.chance.millis(10, most);
        let life = self.server.life;
        self.send_in(wait, Message::ServerStart(life));
        Ok(())
    }

    pub fn request_arrives(&mut self, sender: Sender, request: Request) -> Verdict {
        self.say(&format!("{:?} asks {:?} {}", sender.from, request.verb, show_target(&request)));
        if self.server.plane.is_none() {
            self.answer(&sender, Err(Status::unavailable("the server is down")));
            return Ok(());
        }
        if is_read(&request) {
            let reply = serve_read(&self.server.head, self.clock(), &request);
            self.answer(&sender, flat(reply));
            return Ok(());
        }
        self.server.inbox.push((sender, request));
        self.step_server()
    }

    pub fn server_wakes(&mut self, at: Timestamp) -> Verdict {
        if self.server.alarm != Some(at) {
            return Ok(());
        }
        self.server.alarm = None;
        self.step_server()
    }

    pub fn server_is_told(&mut self, id: CallId, answer: Answer) -> Verdict {
        if let Some(plane) = self.server.plane.as_mut() {
            plane.answer(id, answer);
        }
        self.step_server()
    }

    fn step_server(&mut self) -> Verdict {
        if self.server.in_flight.is_some() {
            return Ok(());
        }
        let now = self.clock();
        let Some(plane) = self.server.plane.as_mut() else { return Ok(()) };
        let inbox = std::mem::take(&mut self.server.inbox);
        let (senders, requests): (Vec<Sender>, Vec<Request>) = inbox.into_iter().unzip();
        let requests = (0..).zip(requests).collect();
        let batch = plane.step(now, requests);
        if batch.writes().is_empty() {
            let durable = (Vec::new(), batch.synced());
            self.publish(durable, senders, false)?;
        } else {
            self.say(&format!("a batch of {} writes up to revision {}", batch.writes().len(), batch.revision()));
            self.server.in_flight = Some((batch, senders));
            let wait = if self.faults && self.chance.percent(2) {
                self.chance.millis(100, 3000)
            } else {
                self.chance.micros(200, 4000)
            };
            let life = self.server.life;
            self.send_in(wait, Message::Synced(life));
        }
        self.set_alarm();
        Ok(())
    }

    pub fn synced(&mut self, life: u64) -> Verdict {
        if life != self.server.life {
            return Ok(());
        }
        if self.server.full_until.is_some_and(|until| self.now < until) {
            self.say("the disk is full");
            self.server.is_refused = true;
            self.send_in(SignedDuration::from_secs(1), Message::Synced(life));
            return Ok(());
        }
        self.server.is_refused = false;
        let Some((batch, senders)) = self.server.in_flight.take() else { return Ok(()) };
        let durable = self.commit(batch)?;
        self.publish(durable, senders, false)?;
        if !self.server.inbox.is_empty() {
            return self.step_server();
        }
        self.set_alarm();
        Ok(())
    }

    /// The disk takes a batch, and the ledger judges it.
    fn commit(&mut self, batch: Batch) -> Result<(Vec<Key>, Released), Violation> {
        if self.sabotage == Sabotage::LoseLastBatch {
            self.server.before_last = Some((self.server.disk.objects.clone(), self.server.disk.revision));
        }
        for (key, json) in batch.writes() {
            match json {
                Some(json) => self.server.disk.objects.insert(key.clone(), json.clone()),
                None => self.server.disk.objects.remove(key),
            };
        }
        self.server.disk.revision = batch.revision();
        let keys: Vec<Key> = batch.writes().iter().map(|(key, _)| key.clone()).collect();
        let kinds: BTreeSet<KindName> = keys.iter().map(|key| key.kind).collect();
        let released = batch.synced();
        if self.trace.is_loud {
            self.show_events(&released.head, &kinds)?;
        }
        self.ledger.advance(&released.head, &kinds, self.clock())?;
        if self.is_server_at_rest() {
            self.ledger.rest(&kinds)?;
        }
        machines::gone_when_removed(self.nodes.iter().map(|node| &node.machine.fake), &self.ledger)?;
        Ok((keys, released))
    }

    /// Whether the last step did all there was to do: one that has used up its budget goes on in the next.
    fn is_server_at_rest(&self) -> bool {
        let wake_at = self.server.plane.as_ref().map(Plane::wake_at);
        wake_at.is_some_and(|at| at.is_none_or(|at| self.clock() < at))
    }

    /// For a person who reads the trace: every write, before it is judged.
    fn show_events(&self, head: &Head, kinds: &BTreeSet<KindName>) -> Verdict {
        for event in self.ledger.news(head, kinds)? {
            let meta = &event.object.meta;
            let owners: Vec<&str> =
                meta.owner_references.iter().map(|owner| owner.uid.get(..8).unwrap_or("")).collect();
            println!(
                "    {} {} {} uid={} generation={} deleting={:?} finalizers={:?} owners={owners:?}",
                event.revision(),
                event.change().name(),
                event.key(),
                meta.uid.get(..8).unwrap_or(""),
                meta.generation,
                meta.deletion_grace_period_seconds,
                meta.finalizers,
            );
        }
        Ok(())
    }

    /// Publishes what is durable and lets its answers go.
    fn publish(&mut self, (keys, released): (Vec<Key>, Released), senders: Vec<Sender>, is_start: bool) -> Verdict {
        if !keys.is_empty() || is_start {
            disk::durable(&released.head.store.snapshot, &self.server.disk.objects, self.server.disk.revision)?;
            self.server.head = released.head;
            self.server.told = self.server.head.store.snapshot.revision();
            for node in 0..self.nodes.len() {
                let changed = (!is_start).then(|| keys.clone());
                self.send_head(node, changed);
            }
        }
        let mut senders: Vec<Option<Sender>> = senders.into_iter().map(Some).collect();
        for (id, question) in released.calls {
            self.call_out(Waiting::Own(id, question));
        }
        for (id, reply) in released.replies {
            let sender = senders.get_mut(id as usize).and_then(Option::take);
            let (reply, sender) = match (reply, sender) {
                (Reply::Call(plan), Some(sender)) => {
                    self.call_out(Waiting::Request(sender, plan));
                    continue;
                }
                (reply, sender) => (reply, sender),
            };
            let code = reply.status().map_or(200, |status| status.code);
            if code >= 500 {
                return violated(&checks::HEALTHY, format!("a write was answered with {:?}", reply.status()));
            }
            let answer = flat(reply);
            if let Ok(body) = &answer {
                disk::answered(body, self.server.disk.revision)?;
            }
            if let Some(sender) = sender {
                self.answer(&sender, answer);
            }
        }
        Ok(())
    }

    pub fn answer(&mut self, sender: &Sender, answer: Result<Bytes, Status>) {
        let (node, life, id) = match (sender.from, &answer) {
            (From::Agent { node, life, id }, _) => (node, life, id),
            (From::User, Err(status)) => return self.say(&format!("the user is refused: {}", status.message)),
            (From::User | From::Nobody, _) => return,
        };
        let (answer, wait) = if sender.loses_reply {
            (Err(Status::timeout("no answer came")), self.chance.millis(500, 8000))
        } else {
            (answer, self.chance.micros(50, 2000))
        };
        self.send_in(wait, Message::Input(node, life, Box::new(Input::Reply(id, answer))));
    }

    fn set_alarm(&mut self) {
        if self.server.in_flight.is_some() {
            return;
        }
        let Some(at) = self.server.plane.as_ref().and_then(Plane::wake_at) else { return };
        let at = self.when(at);
        if self.server.alarm != Some(at) {
            self.server.alarm = Some(at);
            self.send(at, Message::ServerWake(at));
        }
    }
}

pub fn show_target(request: &Request) -> String {
    let Some(r) = request.resource() else { return String::new() };
    let parts = [&r.plural, &r.namespace, &r.name, &r.subresource];
    parts.into_iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("/")
}
