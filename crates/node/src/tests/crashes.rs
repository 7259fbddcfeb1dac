//! Random histories with crashes of the agent at every moment: the invariants hold after each message and the end is reached.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::json;

use super::world::{Message, Shows, World};
use crate::Input;
use crate::action::Action;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// AtMostOne on this machine: one live container per pod name and container name.
fn at_most_one(world: &World, names: &BTreeMap<String, String>, seed: u64) {
    let mut live: BTreeMap<(String, String), String> = BTreeMap::new();
    for container in world.machine.running() {
        let reference = &container.container;
        let name = names.get(&reference.pod).cloned().unwrap_or_default();
        let other = live.insert((name.clone(), reference.name.clone()), reference.pod.clone());
        assert!(other.is_none(), "seed {seed}: two of {name}/{}: {other:?} and {}", reference.name, reference.pod);
    }
}

/// Any message next; a container takes its time to stop.
fn deliver_one(world: &mut World, chance: &mut Chance) {
    let place = chance.below(world.queue.len().max(1) as u64) as usize;
    let is_stop = matches!(world.queue.get(place), Some(Message::Act(Action::StopContainer { .. })));
    if !is_stop || chance.below(10) == 0 {
        world.deliver_at(place);
    }
}

fn history(seed: u64) -> World {
    let mut chance = Chance(seed);
    let mut world = World::new();
    world.shows = Shows::Nothing;
    let mut names = BTreeMap::new();
    let mut uids = 0;
    for _ in 0..500 {
        match chance.below(100) {
            0 => world.boot(),
            1 => {
                let now = world.now;
                world.machine.reboot(now);
                world.now += SignedDuration::from_secs(2);
                world.boot();
            }
            2..=8 => {
                let name = format!("web-{}", chance.below(3));
                if world.get("pods", &name).is_none() {
                    uids += 1;
                    let uid = format!("u{uids}");
                    names.insert(uid.clone(), name.clone());
                    let init = json!([{"name": "init", "image": "i:1"}, {"name": "side", "image": "i:1", "restartPolicy": "Always"}]);
                    let spec = json!({"containers": [{"name": "main", "image": "i:1",
                        "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}], "initContainers": init});
                    world.pod(&name, &uid, spec);
                }
            }
            9..=10 => world.delete(&format!("web-{}", chance.below(3)), 30),
            11..=12 => {
                world.remove(&format!("web-{}", chance.below(3)));
            }
            13..=18 => {
                let running: Vec<_> = world.machine.running().map(|c| c.container.clone()).collect();
                if let Some(container) = running.get(chance.below(running.len().max(1) as u64) as usize) {
                    let code = if container.name == "init" { 0 } else { 1 };
                    let now = world.now;
                    let ended = world.machine.end(container, code, now);
                    ended.into_iter().for_each(|o| world.observe(o));
                }
            }
            19..=24 => {
                world.now += SignedDuration::from_secs(chance.below(20) as i64);
                world.queue.push_back(Message::Input(Input::Wake));
            }
            _ => {
                for _ in 0..chance.below(20) {
                    deliver_one(&mut world, &mut chance);
                    at_most_one(&world, &names, seed);
                }
            }
        }
        at_most_one(&world, &names, seed);
    }
    settle(&mut world, &names, seed);
    world
}

/// The faults stop: what is in the API server runs, what is not is gone from the machine.
fn settle(world: &mut World, names: &BTreeMap<String, String>, seed: u64) {
    for _ in 0..16 {
        world.run(60);
        at_most_one(world, names, seed);
        let inits: Vec<_> = world.machine.running().map(|c| c.container.clone()).filter(|c| c.name == "init").collect();
        for container in inits {
            let now = world.now;
            let ended = world.machine.end(&container, 0, now);
            ended.into_iter().for_each(|o| world.observe(o));
        }
    }
    let alive: Vec<String> = names
        .iter()
        .filter(|(uid, name)| world.get("pods", name).is_some_and(|o| o.meta.uid == **uid))
        .map(|(uid, _)| uid.clone())
        .collect();
    for uid in &alive {
        let object = world.get("pods", &names[uid]).unwrap();
        assert!(!object.meta.is_deleting(), "seed {seed}: {uid} is still being deleted");
        let running = world.machine.running().filter(|c| c.container.pod == *uid).count();
        assert_eq!(running, 2, "seed {seed}: {uid} does not run: {:?}", object.value()["status"]);
        let status = super::world::summary(&object.value()["status"]);
        assert!(status.contains(" Ready"), "seed {seed}: {status}");
    }
    let left: Vec<_> = world.machine.sandboxes.keys().filter(|uid| !alive.contains(uid)).collect();
    assert!(left.is_empty(), "seed {seed}: left behind {left:?}");
    let revision = world.store.snapshot().revision();
    world.run(5);
    let pods_quiet = world.store.snapshot().list("pods", "").all(|o| o.revision() <= revision);
    assert!(pods_quiet, "seed {seed}: not stable");
}

#[test]
fn every_history_keeps_at_most_one_and_settles() {
    let mut restarts = 0;
    for seed in 0..24 {
        let world = history(seed);
        restarts += world.machine.containers.keys().filter(|c| c.attempt > 0).count();
    }
    assert!(restarts > 24, "the histories are too tame: {restarts} restarts");
}
