//! Random users, nodes and restarts against the whole plane: order, claims first, and rest at the end (I5, I7, I9).
//!
//! One seed is one history; `STEAD_MONKEY_SEEDS`, set when the tests are built, asks for more of them. The full simulator has networks
//! and agents between; this one is for the controllers alone.

use std::collections::BTreeMap;

use super::*;

struct Monkey {
    world: World,
    chance: Ids,
    seen: Revision,
    /// The pods as the events tell: ready and not terminating, or not.
    pods: BTreeMap<String, bool>,
    claims: BTreeMap<String, ()>,
    trace: Vec<String>,
}

const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";

impl Monkey {
    fn pick(&mut self, n: u64) -> u64 {
        self.chance.next_u64() % n
    }

    fn some_pod(&mut self) -> Option<Value> {
        let pods: Vec<_> = self.world.snapshot().list(POD, "default").cloned().collect();
        let index = self.pick(pods.len().max(1) as u64) as usize;
        pods.get(index).map(|pod| pod.value())
    }

    fn edit_set(&mut self, edit: impl Fn(&mut Value)) {
        let mut set = self.world.value(STATEFUL_SET, "web");
        if set["metadata"]["deletionTimestamp"].is_null() && !set.is_null() {
            edit(&mut set);
            self.world.send(Verb::Update, &format!("{SETS}/web"), set).expect("an edit");
        }
    }

    fn set_ready(&mut self, ready: bool) {
        let Some(mut pod) = self.some_pod().filter(|pod| pod["status"]["phase"] == "Running") else { return };
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": if ready { "True" } else { "False" },
            "lastTransitionTime": self.world.now.to_string()}]);
        let path =
            format!("/api/v1/namespaces/default/pods/{}/status", pod["metadata"]["name"].as_str().expect("a name"));
        self.world.send(Verb::Update, &path, pod).expect("a status");
    }

    fn act(&mut self) {
        let choice = self.pick(16);
        self.trace.push(format!("{choice}"));
        match choice {
            0 | 1 => {
                let replicas = self.pick(5);
                self.edit_set(|set| set["spec"]["replicas"] = json!(replicas));
            }
            2 => {
                let image = self.pick(3).to_string();
                self.edit_set(|set| set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image));
            }
            3 | 4 => {
                let Some(pod) = self.some_pod() else { return };
                let force = self.pick(2) == 0;
                let options = if force { json!({"gracePeriodSeconds": 0}) } else { json!({}) };
                let path =
                    format!("/api/v1/namespaces/default/pods/{}", pod["metadata"]["name"].as_str().expect("a name"));
                self.world.send(Verb::Delete, &path, options).expect("a deletion");
            }
            5 => self.set_ready(false),
            6 | 7 => self.set_ready(true),
            8 => {
                let Some(mut pod) = self.some_pod() else { return };
                if !pod["spec"]["nodeName"].is_null() {
                    pod["status"]["phase"] = json!("Failed");
                    let path = format!(
                        "/api/v1/namespaces/default/pods/{}/status",
                        pod["metadata"]["name"].as_str().expect("a name")
                    );
                    self.world.send(Verb::Update, &path, pod).expect("a status");
                }
            }
            9 => {
                let policy = ["Orphan", "Background", "Foreground"][self.pick(3) as usize];
                if !self.world.value(STATEFUL_SET, "web").is_null() {
                    let options = json!({"propagationPolicy": policy});
                    self.world.send(Verb::Delete, &format!("{SETS}/web"), options).expect("a deletion");
                }
            }
            10 => {
                let records = self.world.disk.iter().map(|(key, json)| Record { key: key.clone(), json: json.clone() });
                let records: Vec<_> = records.collect();
                let seed = self.chance.next_u64();
                self.check();
                self.world.plane =
                    Plane::restore(seed, cluster(), self.world.revision, records).expect("sound records");
                self.world.settle();
            }
            11 => self.world.wait(7),
            _ => {
                self.world.play_nodes();
            }
        }
        if self.world.value(STATEFUL_SET, "web").is_null() {
            self.world.create(SETS, web(2));
        }
        self.check();
    }

    /// Replays what was written and checks the order in which pods were made.
    fn check(&mut self) {
        let head = self.world.plane.head();
        let mut events: Vec<Arc<Event>> = Vec::new();
        for kind in [POD, CLAIM] {
            events.extend(head.store.history.since(kind, self.seen).expect("a recent place").cloned());
        }
        events.sort_by_key(|event| event.revision());
        for event in events {
            let name = event.key().name.to_string();
            match (event.key().kind, event.deleted) {
                (CLAIM, false) => drop(self.claims.insert(name, ())),
                (CLAIM, true) => drop(self.claims.remove(&name)),
                (_, true) => drop(self.pods.remove(&name)),
                (_, false) => {
                    if event.old.is_none() {
                        assert!(self.claims.contains_key(&format!("data-{name}")), "the claim comes first: {name}");
                        let ordinal: u32 = name.rsplit('-').next().and_then(|n| n.parse().ok()).expect("an ordinal");
                        for lower in 0..ordinal {
                            let state = self.pods.get(&format!("web-{lower}"));
                            assert_eq!(state, Some(&true), "Order: {name} was made before web-{lower} was ready");
                        }
                    }
                    let typed = event.object.view::<k8s_openapi::api::core::v1::Pod>();
                    let is_running = crate::facts::phase(&typed) == "Running" && crate::facts::is_ready(&typed);
                    self.pods.insert(name, is_running && !event.object.meta.is_deleting());
                }
            }
        }
        self.seen = head.store.snapshot.revision();
    }

    /// Everybody does his duty now: the set must come to what it asks for.
    fn finish(&mut self) {
        for _ in 0..200 {
            self.world.wait(1);
            let broken: Vec<_> = self.world.snapshot().list(POD, "default").cloned().collect();
            for pod in broken {
                let mut value = pod.value();
                if value["status"]["phase"] == "Running" && value["status"]["conditions"][0]["status"] == "False" {
                    value["status"]["conditions"][0]["status"] = json!("True");
                    let path = format!("/api/v1/namespaces/default/pods/{}/status", pod.key.name);
                    self.world.send(Verb::Update, &path, value).expect("a status");
                    break;
                }
            }
            self.world.play_nodes();
            self.check();
            if self.world.value(STATEFUL_SET, "web").is_null() {
                self.world.create(SETS, web(2));
            }
            if self.is_done() {
                return;
            }
        }
        panic!("not reconciled: {} pods {:?}", self.world.value(STATEFUL_SET, "web"), self.pods);
    }

    fn is_done(&self) -> bool {
        let set = self.world.value(STATEFUL_SET, "web");
        let status = &set["status"];
        let replicas = set["spec"]["replicas"].as_i64().unwrap_or(0);
        let is = |field: &str| status[field].as_i64().unwrap_or(0) == replicas;
        set["metadata"]["deletionTimestamp"].is_null()
            && status["observedGeneration"] == set["metadata"]["generation"]
            && is("replicas")
            && is("readyReplicas")
            && is("updatedReplicas")
            && status["currentRevision"] == status["updateRevision"]
            && self.pods.len() as i64 == replicas
    }
}

fn run(seed: u64) {
    let mut world = with_web(2);
    // A node that has told no heartbeat in this hour would be given up; it is heard of far in the future.
    let mut node = world.value(NODE, "n1");
    node["status"]["conditions"][0]["lastHeartbeatTime"] = json!("2030-01-01T00:00:00Z");
    world.send(Verb::Update, "/api/v1/nodes/n1/status", node).expect("a status");
    let mut monkey = Monkey {
        world,
        chance: Ids::seeded(seed),
        seen: 0,
        pods: BTreeMap::new(),
        claims: BTreeMap::new(),
        trace: Vec::new(),
    };
    monkey.check();
    for _ in 0..40 {
        monkey.act();
    }
    monkey.finish();
}

#[test]
fn whatever_happens_pods_come_in_order_and_the_set_is_made_whole() {
    let seeds: u64 = option_env!("STEAD_MONKEY_SEEDS").and_then(|n| n.parse().ok()).unwrap_or(8);
    for seed in 0..seeds {
        if std::panic::catch_unwind(|| run(seed)).is_err() {
            panic!("seed {seed}");
        }
    }
}
