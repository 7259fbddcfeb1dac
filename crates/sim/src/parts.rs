//! The parts of a world that other parts look into: the server, its disk, the nodes, who asks and who waits.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stead_api::call::Question;
use stead_api::{Key, Request, Revision};
use stead_apiserver::{CallPlan, Head};
use stead_control::names::{DEPLOYMENT, REPLICA_SET, STATEFUL_SET};
use stead_control::{Batch, CallId, Plane};
use stead_node::action::{Action, Machine as Facts};
use stead_node::{NodeAgent, NodeConfig, node_user};

use crate::machine::Machine;

pub fn start_of_time() -> Timestamp {
    Timestamp::from_second(1_767_225_600).expect("2026 is a time")
}

/// Who asked, and whether the answer gets lost on its way.
pub struct Sender {
    pub from: From,
    pub loses_reply: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum From {
    Agent {
        node: usize,
        life: u64,
        id: u64,
    },
    User,
    /// Nobody waits for the answer: a copy of a request, or one whose sender has given it up for lost.
    Nobody,
}

#[derive(Default)]
pub struct Disk {
    pub objects: BTreeMap<Key, Bytes>,
    pub revision: Revision,
}

impl Disk {
    /// Forgets what controllers say of the world: they can say it again.
    pub fn wipe_statuses(&mut self) {
        for (key, json) in &mut self.objects {
            if [STATEFUL_SET, DEPLOYMENT, REPLICA_SET].contains(&key.kind) {
                let mut value: Value = serde_json::from_slice(json).unwrap_or_default();
                value["status"] = json!({});
                *json = value.to_string().into();
            }
        }
    }
}

#[derive(Default)]
pub struct Server {
    pub plane: Option<Plane>,
    /// Rises with every crash.
    pub life: u64,
    pub disk: Disk,
    pub before_last: Option<(BTreeMap<Key, Bytes>, Revision)>,
    pub head: Head,
    pub inbox: Vec<(Sender, Request)>,
    pub in_flight: Option<(Batch, Vec<Sender>)>,
    /// Until when the disk refuses writes, and whether it has refused the batch under way.
    pub full_until: Option<Timestamp>,
    pub is_refused: bool,
    pub alarm: Option<Timestamp>,
    /// The newest revision that anybody was told of.
    pub told: Revision,
    pub restored: Revision,
}

/// The user of people: may do everything.
pub fn admin() -> Arc<stead_api::User> {
    Arc::new(stead_api::User {
        name: "admin".into(),
        groups: vec!["system:masters".into(), "system:authenticated".into()],
        ..stead_api::User::default()
    })
}

pub struct Node {
    pub name: String,
    pub agent: Option<NodeAgent>,
    /// Rises with every start of the agent; what was meant for an earlier one is lost.
    pub life: u64,
    pub machine: Machine,
    pub alarm: Option<Timestamp>,
    /// Names one stream of heads; a new one begins with a whole head.
    pub link: u64,
    pub is_cut_off: bool,
    /// How often it was cut off.
    pub cuts: u64,
    pub newest_head: Timestamp,
    /// Until when its heads come late.
    pub slow_until: Option<Timestamp>,
    pub fence_after: Option<SignedDuration>,
    pub address: Ipv4Addr,
    pub network: Ipv4Addr,
    /// Actions under way, by a number in order.
    pub under_way: BTreeMap<u64, Action>,
    pub next_action: u64,
}

impl Node {
    pub fn new(index: usize, fences: bool) -> Node {
        let number = index as u8;
        let network = Ipv4Addr::new(10, 244 + number, 0, 0);
        Node {
            name: format!("n{index}"),
            agent: None,
            life: 0,
            machine: Machine::new(network),
            alarm: None,
            link: 0,
            is_cut_off: false,
            cuts: 0,
            newest_head: start_of_time(),
            slow_until: None,
            fence_after: fences.then(|| SignedDuration::from_secs(35)),
            address: Ipv4Addr::new(192, 168, 0, number + 1),
            network,
            under_way: BTreeMap::new(),
            next_action: 0,
        }
    }

    pub fn config(&self) -> NodeConfig {
        NodeConfig {
            name: self.name.clone(),
            node_ip: IpAddr::V4(self.address),
            pod_cidr: format!("{}/16", self.network),
            dns_ip: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)),
            domain: "cluster.local".into(),
            volumes_dir: format!("/{}/volumes", self.name).into(),
            machine: Facts {
                machine_id: self.name.clone(),
                boot_id: self.machine.boot.to_string(),
                kernel_version: "6.1".into(),
                os_image: "none".into(),
                architecture: "amd64".into(),
                runtime_version: "fake://1".into(),
                cpus: 16,
                memory_bytes: 64 << 30,
                disk_bytes: 1 << 40,
                disk_free_bytes: 1 << 39,
            },
            max_pods: 110,
            labels: BTreeMap::new(),
            port: 10250,
            version: "v1.36.0".into(),
            user: node_user(&self.name),
            fence_after: self.fence_after,
            disk_pressure: stead_node::Threshold::DISK_PRESSURE,
        }
    }
}

/// Who goes on when a webhook has answered.
pub enum Waiting {
    Request(Sender, Box<CallPlan>),
    Own(CallId, Question),
}

/// What people are like.
pub struct Monkey {
    pub acts: u64,
    pub weights: Vec<u64>,
    pub is_hasty: bool,
}
