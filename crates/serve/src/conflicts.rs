//! Tells the Services and pods of a cluster that a port which they ask for is another's, too, a cluster's or a process's of
//! the machine: one Event for each, when it is found. Processes are looked for when what we ask for changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use stead_api::{Object, Request, Resource, User, Verb};
use stead_net::proxy::{Claim, Claimant, Claims, Conflict, conflicts};

use crate::claims::Register;
use crate::clock;
use crate::listeners::listeners;
use crate::plane::PlaneHandle;
use crate::say::say;

const SOURCE: &str = "service-proxy";
/// In the place of another cluster's directory, which is an absolute path.
const PROCESS: &str = "a process";

/// What was told, and is still so.
pub struct Conflicts {
    register: Register,
    /// What we asked for at the last look; None: it is not written down.
    asked: Option<Claims>,
    told: BTreeSet<Conflict>,
}

impl Conflicts {
    pub fn new(register: Register) -> Conflicts {
        Conflicts { register, asked: None, told: BTreeSet::new() }
    }

    /// Whether we ask for other ports than at the last look: most changes of rules are about none.
    pub fn differs(&self, ours: &Claims) -> bool {
        self.asked.as_ref() != Some(ours)
    }

    /// Writes down what we ask for, and tells what of it others do.
    pub fn look(&mut self, plane: &PlaneHandle, ours: Claims) {
        let written = self.register.write(ours.keys().copied().collect());
        if let Err(error) = &written {
            say(format_args!("the ports that this cluster asks for could not be written down: {error:#}"));
        }
        let mut others = self.register.others();
        if !ours.is_empty() {
            // On other addresses than these the clusters' own DNS servers listen.
            let is_shared = |claim: &Claim| claim.address.is_none_or(|address| address.is_loopback());
            others.insert(PROCESS.to_owned(), listeners().into_iter().filter(is_shared).collect());
        }
        let found = conflicts(&ours, others.iter().map(|(other, claims)| (other.as_str(), claims)));
        for conflict in found.difference(&self.told) {
            tell(plane, conflict);
        }
        self.told = found;
        self.asked = written.is_ok().then_some(ours);
    }
}

/// Best effort, as an Event is.
fn tell(plane: &PlaneHandle, conflict: &Conflict) {
    let Claimant { kind, namespace, name } = &conflict.claimant;
    let plural = if *kind == "Pod" { "pods" } else { "services" };
    let head = plane.head();
    let Some(about) = head.store.snapshot.find(plural, namespace, name) else { return };
    let port = &conflict.claim;
    let message = match conflict.other.as_str() {
        PROCESS => {
            format!("A process of this machine listens on port {port} as well: what is sent there goes to this {kind}")
        }
        other => format!(
            "Port {port} of this machine is asked for by the cluster in {other} as well: only one of the two gets what is sent there, until the other gives the port up or goes down"
        ),
    };
    let resource =
        Resource { version: "v1".into(), plural: "events".into(), namespace: namespace.clone(), ..Resource::default() };
    let user = Arc::new(User::controller(SOURCE));
    let request = Request::of(user, Verb::Create, resource, event(about, kind, &message, clock::now()));
    plane.ask(request, Box::new(drop));
}

fn event(about: &Object, kind: &str, message: &str, now: Timestamp) -> Value {
    let name: String = about.key.name.chars().take(236).collect();
    let unique = now.as_nanosecond().unsigned_abs() as u64;
    let at = stead_control::facts::time(now);
    let namespace = &*about.key.namespace;
    json!({"apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{name}.{unique:016x}"), "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": kind, "namespace": namespace, "name": &*about.key.name,
            "uid": about.meta.uid},
        "reason": "PortConflict", "message": message, "type": "Warning", "count": 1,
        "source": {"component": SOURCE}, "firstTimestamp": at, "lastTimestamp": at,
        "reportingComponent": SOURCE, "reportingInstance": ""})
}
