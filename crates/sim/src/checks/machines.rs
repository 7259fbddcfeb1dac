//! What runs on the machines.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PersistentVolume;
use stead_control::names::VOLUME;
use stead_node::machine::FakeMachine;

use super::kept::has_claim;
use super::{AT_MOST_ONE, KEPT, Verdict, violated};
use crate::ledger::Ledger;

/// AtMostOne: over all machines, by the names that their sandboxes carry.
pub fn at_most_one<'a>(machines: impl Iterator<Item = &'a FakeMachine>, ledger: &Ledger) -> Verdict {
    let mut live: BTreeMap<(&str, &str), BTreeSet<(usize, &str)>> = BTreeMap::new();
    for (index, machine) in machines.enumerate() {
        for container in machine.running() {
            let uid = container.container.pod.as_str();
            let Some(sandbox) = machine.sandboxes.get(uid) else {
                return violated(&AT_MOST_ONE, format!("a container of {uid} runs without a sandbox"));
            };
            let name = (sandbox.pod.namespace.as_str(), sandbox.pod.name.as_str());
            live.entry(name).or_default().insert((index, uid));
        }
    }
    for (name, holders) in live.iter().filter(|(_, holders)| holders.len() > 1) {
        let unforced = holders.iter().filter(|(_, uid)| !ledger.forced.contains(*uid)).count();
        let machines: BTreeSet<usize> = holders.iter().map(|(machine, _)| *machine).collect();
        if unforced > 1 || machines.len() < holders.len() {
            return violated(&AT_MOST_ONE, format!("{}/{} runs as {holders:?} (machine, uid)", name.0, name.1));
        }
    }
    Ok(())
}

/// AtMostOne: a pod's object goes only when nothing of it runs, for its name is free from then on.
pub fn gone_when_removed<'a>(mut machines: impl Iterator<Item = &'a FakeMachine>, ledger: &Ledger) -> Verdict {
    let alive = |uid: &str, machine: &FakeMachine| machine.running().any(|c| c.container.pod == uid);
    for uid in &ledger.just_removed {
        if !ledger.forced.contains(uid) && machines.any(|machine| alive(uid, machine)) {
            return violated(&AT_MOST_ONE, format!("pod {uid} was removed while it runs"));
        }
    }
    Ok(())
}

/// Kept: of a directory that a node is told to delete.
pub fn kept_directory(ledger: &Ledger, path: &std::path::Path) -> Verdict {
    for object in ledger.list(VOLUME) {
        let volume = object.view::<PersistentVolume>();
        let Some(spec) = &volume.spec else { continue };
        let own = spec.host_path.as_ref().map(|h| &h.path).or(spec.local.as_ref().map(|l| &l.path));
        if own.is_some_and(|own| std::path::Path::new(own) == path) && has_claim(ledger, &volume) {
            return violated(&KEPT, format!("the directory of {} is deleted, and its claim is there", object.key));
        }
    }
    Ok(())
}
