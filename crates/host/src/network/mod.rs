//! The machine's part of the pod network: a network namespace and an address per pod, routes, and the Services' rules.
//!
//! Every pod has a namespace of its own, pinned at `<run_dir>/netns/<uid>`, and a veth pair whose other end stays on the
//! host. There is no bridge: a pod has one address with 32 bits and sends everything to a link-local gateway, and the host
//! has one route per pod. So all traffic is routed and passes the same rules, to oneself, to a neighbour or to the outside.
//! One interface per cluster (a bridge without ports) carries the nodes' addresses and the DNS Service's, and the route of the Service range.
//!
//! Guarantees: every call is an idempotent "ensure". There is no state file: what exists is read back from the kernel, so
//! a restart adopts it. Only interfaces, routes and the nftables table that carry this cluster's id are ever changed.
//! Assumes: root, and one [`Network`] per cluster id at a time. IPv4 only.
//! Everything is done through netlink; no program is run.

mod config;
mod digest;
mod ipam;
mod links;
mod rules;

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use stead_net::Cidr;
use stead_net::proxy::Ruleset;

pub use config::{NetworkConfig, NetworkError, NodeRange, PodNet};

use config::ID_LEN;
use links::{Links, current_thread_runtime};
use rules::Rules;

type Job = Box<dyn FnOnce(&mut State) + Send>;

/// The network of one cluster on this machine. Calls may come from any thread; a thread of its own does them in order.
pub struct Network {
    /// `None` once dropped: closing the channel ends the thread.
    jobs: Option<Mutex<Sender<Job>>>,
    thread: Option<JoinHandle<()>>,
}

/// What the network thread owns.
struct State {
    runtime: tokio::runtime::Runtime,
    links: Links,
    rules: Rules,
}

impl Network {
    /// Makes the cluster's interface, routes and table, or adopts those that are there.
    pub fn open(config: NetworkConfig) -> Result<Network, NetworkError> {
        check_config(&config)?;
        let (jobs, inbox) = channel::<Job>();
        let (opened, result) = channel();
        let thread = std::thread::Builder::new()
            .name("stead-network".into())
            .spawn(move || {
                let mut state = match State::open(config) {
                    Ok(state) => state,
                    Err(error) => return drop(opened.send(Err(error))),
                };
                if opened.send(Ok(())).is_err() {
                    return;
                }
                while let Ok(job) = inbox.recv() {
                    job(&mut state);
                }
            })
            .map_err(|e| NetworkError::new("start", "network thread", e))?;
        result.recv().unwrap_or_else(|_| Err(thread_gone("open network")))?;
        Ok(Network { jobs: Some(Mutex::new(jobs)), thread: Some(thread) })
    }

    /// Gives the pod a namespace and an address of the node's range: `wanted` if it is given and free, else the next one.
    /// For a pod that has them already, tells which.
    pub fn ensure_pod(&self, node: &str, uid: &str, wanted: Option<Ipv4Addr>) -> Result<PodNet, NetworkError> {
        let (node, uid) = (node.to_owned(), uid.to_owned());
        self.call("ensure network of pod", move |state| {
            let State { runtime, links, .. } = state;
            runtime.block_on(links.ensure_pod(&node, &uid, wanted))
        })
    }

    /// Removes the pod's interface and namespace and gives its address back. A pod that has none is fine.
    pub fn remove_pod(&self, uid: &str) -> Result<(), NetworkError> {
        let op = "remove network of pod";
        let owned = uid.to_owned();
        let removal = self.call(op, move |state| state.links.remove_pod(&owned))?;
        links::finish_removal(removal)?;
        let owned = uid.to_owned();
        self.call(op, move |state| {
            state.links.release(&owned);
            Ok(())
        })
    }

    /// The pods that have something here, by uid. Without an address: the interface is gone or was never completed.
    pub fn observe(&self) -> Result<Vec<(String, Option<Ipv4Addr>)>, NetworkError> {
        self.call("observe network", |state| {
            let State { runtime, links, .. } = state;
            runtime.block_on(links.observe())
        })
    }

    /// Makes the kernel forward as the ruleset says, in one transaction. Only what differs from the last one is sent.
    pub fn apply(&self, rules: &Ruleset) -> Result<(), NetworkError> {
        let wanted = rules.clone();
        self.call("apply service rules", move |state| {
            let State { runtime, rules, .. } = state;
            runtime.block_on(rules.apply(wanted))
        })
    }

    /// Removes everything of this cluster: pods, interface, routes, table. For `stead delete`.
    pub fn remove_all(&self) -> Result<(), NetworkError> {
        self.call("remove network", |state| {
            let State { runtime, links, rules } = state;
            runtime.block_on(async {
                links.remove_all().await?;
                rules.remove_all().await
            })
        })
    }

    fn call<T: Send + 'static>(
        &self,
        op: &'static str,
        work: impl FnOnce(&mut State) -> Result<T, NetworkError> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let (answer, result) = channel();
        let job: Job = Box::new(move |state| drop(answer.send(work(state))));
        let jobs = self.jobs.as_ref().ok_or_else(|| thread_gone(op))?;
        jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).send(job).map_err(|_| thread_gone(op))?;
        result.recv().unwrap_or_else(|_| Err(thread_gone(op)))
    }
}

impl Drop for Network {
    /// Ends the thread. Interfaces, namespaces and rules stay: containers go on without us.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The IPv4 ranges that the machine's routes and addresses use, so that a new cluster can choose others. The default route
/// does not count.
pub fn ranges_in_use() -> Result<Vec<Cidr>, NetworkError> {
    // A thread of its own, because the caller may be inside a runtime.
    std::thread::scope(|scope| {
        scope
            .spawn(|| current_thread_runtime()?.block_on(links::ranges_in_use()))
            .join()
            .unwrap_or_else(|_| Err(thread_gone("read routes")))
    })
}

impl State {
    fn open(config: NetworkConfig) -> Result<State, NetworkError> {
        let runtime = current_thread_runtime()?;
        let (links, rules) = runtime.block_on(async {
            let links = Links::open(&config).await?;
            let rules = Rules::open(&config).await?;
            Ok::<_, NetworkError>((links, rules))
        })?;
        Ok(State { runtime, links, rules })
    }
}

fn thread_gone(op: &'static str) -> NetworkError {
    NetworkError::new(op, "network", "the network thread ended")
}

fn check_config(config: &NetworkConfig) -> Result<(), NetworkError> {
    let refuse = |why: String| Err(NetworkError::new("open", "network", why));
    let id = &config.cluster_id;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if id.len() < ID_LEN || id.len() > 63 || !id.chars().all(is_plain) {
        return refuse(format!("cluster id {id:?} is not 6 to 63 lower-case letters and digits"));
    }
    if config.pod_range.overlaps(config.service_range) {
        return refuse(format!("pod range {} and service range {} overlap", config.pod_range, config.service_range));
    }
    for (index, node) in config.nodes.iter().enumerate() {
        if !config.pod_range.contains(node.range.first()) || node.range.prefix_len() < config.pod_range.prefix_len() {
            return refuse(format!(
                "range {} of node {} is not in the pod range {}",
                node.range, node.name, config.pod_range
            ));
        }
        let earlier = &config.nodes[..index];
        if let Some(other) = earlier.iter().find(|o| o.range.overlaps(node.range)) {
            return refuse(format!("ranges of nodes {} and {} overlap", other.name, node.name));
        }
    }
    if config.nodes.is_empty() {
        return refuse("there is no node".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
