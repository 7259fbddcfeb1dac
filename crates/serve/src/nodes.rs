//! The nodes of this process: a machine and an agent each, the network between them, and the DNS server.
//!
//! Guarantees (Isolated): ending the process stops no container. `stop` takes the pods down as the kubelet does when its machine
//! shuts down (hooks, signals, grace, sidecars last), and then leaves nothing of the cluster on the machine but files.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use stead_host::network::{Network, NetworkConfig, NodeRange};
use stead_host::{Host, HostConfig, ImageStore};
use stead_net::Cidr;
use stead_node::action::{Action, ContainerState, Observation};
use stead_node::{Input, NodeAgent, NodeConfig, node_user};
use tokio::runtime::Handle;

use crate::Server;
use crate::admin::Containers;
use crate::agent::{AgentThread, Word, words};
use crate::config::{Config, node_name};

/// As many pods as a node's range has addresses for, without its own first one and the broadcast's.
const PODS_MAX: u32 = 250;
/// The grace of containers when there is no agent to ask for their pods'.
const SWEEP_GRACE: Duration = Duration::from_secs(10);

/// One node: the machine below and the agent's thread.
struct Node {
    name: String,
    host: Arc<Host>,
    thread: AgentThread,
}

pub struct Nodes {
    nodes: Vec<Node>,
    network: Option<Arc<Network>>,
    services: Option<crate::services::Services>,
}

/// Where a node keeps what is its own.
fn node_dir(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join("nodes").join(name)
}

/// The images of the cluster's nodes.
pub fn image_store(data_dir: &Path) -> Result<ImageStore> {
    Ok(ImageStore::open(&data_dir.join("images"))?)
}

fn open_network(data_dir: &Path, config: &Config, nodes: u32) -> Result<Network> {
    let nodes = (0..nodes).map(|n| NodeRange { name: node_name(n), range: config.node_cidr(n) }).collect();
    let network = NetworkConfig {
        cluster_id: config.id.clone(),
        run_dir: data_dir.join("run"),
        pod_range: config.pod_cidr,
        service_range: config.service_cidr,
        dns_ip: config.dns_ip,
        nodes,
    };
    Network::open(network).context("the cluster's network could not be made")
}

impl Nodes {
    /// Starts the nodes that run containers, and those that only pretend to. `ends`: only to take down what runs.
    pub fn start(
        server: &Arc<Server>,
        config: &Config,
        data_dir: &Path,
        runtime: &Handle,
        ends: Option<Containers>,
    ) -> Result<Nodes> {
        let mut nodes = Nodes { nodes: Vec::new(), network: None, services: None };
        if config.nodes > 0 {
            let network = Arc::new(open_network(data_dir, config, config.nodes)?);
            let images = Arc::new(image_store(data_dir)?);
            let place = Place { server, config, data_dir, network: &network, images: &images, runtime };
            for n in 0..config.nodes {
                nodes.nodes.push(start_node(n, &place, ends)?);
            }
            nodes.services = Some(crate::services::start(server, config, &network)?);
            nodes.network = Some(network);
        }
        let hosts = nodes.nodes.iter().map(|node| (node.name.clone(), Arc::clone(&node.host))).collect();
        server.hosts.set(hosts).map_err(|_| anyhow::anyhow!("the nodes were started twice"))?;
        if ends.is_none() {
            crate::fake::start(server, config)?;
        }
        Ok(nodes)
    }

    /// Ends the agents, and with them the containers unless they are kept.
    ///
    /// # Errors
    /// When something of the cluster could not be taken off the machine.
    pub fn stop(&mut self, containers: Containers) -> Result<()> {
        let Containers::Stop { within } = containers else {
            self.nodes.iter_mut().for_each(|node| node.thread.stop());
            return Ok(());
        };
        // All at once: a pod may need one on another node to end in peace.
        self.nodes.iter().for_each(|node| node.thread.shut_down(within));
        self.nodes.iter_mut().for_each(|node| node.thread.join());
        if let Some(services) = self.services.take() {
            services.withdraw();
        }
        for node in &self.nodes {
            node.host.leave().with_context(|| format!("take the pods of {} off the machine", node.name))?;
        }
        match &self.network {
            Some(network) => network.remove_all().context("take the cluster's network off the machine"),
            None => Ok(()),
        }
    }
}

/// What the nodes of a cluster share.
struct Place<'a> {
    server: &'a Arc<Server>,
    config: &'a Config,
    data_dir: &'a Path,
    network: &'a Arc<Network>,
    images: &'a Arc<ImageStore>,
    runtime: &'a Handle,
}

impl Place<'_> {
    fn host_config(&self, name: &str) -> HostConfig {
        host_config(self.data_dir, self.config, name, self.images, self.network)
    }
}

fn host_config(
    data_dir: &Path,
    config: &Config,
    name: &str,
    images: &Arc<ImageStore>,
    network: &Arc<Network>,
) -> HostConfig {
    HostConfig {
        data_dir: node_dir(data_dir, name),
        cluster_id: config.id.clone(),
        node: name.to_owned(),
        images: Some(Arc::clone(images)),
        network: Some(Arc::clone(network)),
        insecure_registries: Vec::new(),
    }
}

fn start_node(n: u32, place: &Place, ends: Option<Containers>) -> Result<Node> {
    let name = node_name(n);
    let (sender, inbox) = words();
    let (unasked, streams) = (sender.clone(), Arc::downgrade(place.server));
    let host = Host::open(place.host_config(&name), move |observation| {
        if let (Observation::Exited(container), Some(server)) = (&observation, streams.upgrade()) {
            server.ends.ended(&container.container);
        }
        let _ = unasked.send(Word::Input(Box::new(Input::Observed(observation))));
    });
    let host = Arc::new(host.with_context(|| format!("node {name} could not be started"))?);
    let world = host.observe().with_context(|| format!("look at what runs on {name}"))?;
    let agent = NodeAgent::new(node_config(n, place.config, place.data_dir, &host), u64::from(std::process::id()));
    if let Some(Containers::Stop { within }) = ends {
        // Before it knows of anything, so that it starts nothing.
        sender.send(Word::ShutDown(within)).ok();
    }
    sender.send(Word::Input(Box::new(Input::World(world)))).ok();
    let performer = Arc::clone(&host);
    let machine = Arc::new(move |action| performer.perform(action));
    let thread = AgentThread::start(agent, machine, place.server, place.runtime, (sender, inbox))?;
    Ok(Node { name, host, thread })
}

fn node_config(n: u32, config: &Config, data_dir: &Path, host: &Host) -> NodeConfig {
    let name = node_name(n);
    NodeConfig {
        node_ip: IpAddr::V4(config.node_ip(n)),
        pod_cidr: config.node_cidr(n).to_string(),
        dns_ip: IpAddr::V4(config.dns_ip),
        domain: config.domain.clone(),
        volumes_dir: node_dir(data_dir, &name).join("volumes"),
        machine: host.machine().clone(),
        max_pods: PODS_MAX,
        labels: Default::default(),
        port: config.api_port,
        version: format!("{}.0+stead", crate::KUBERNETES_VERSION),
        user: node_user(&name),
        fence_after: None,
        disk_pressure: config.disk_pressure,
        name,
    }
}

/// Ends what a server that is gone left running, and takes everything of the cluster off the machine but files.
pub fn sweep(data_dir: &Path) -> Result<()> {
    let names = node_names(data_dir);
    let Some(config) = Config::load(data_dir)?.filter(|_| !names.is_empty()) else {
        // Without a node that ran anything there is nothing on the machine but files.
        return Ok(());
    };
    let network = Arc::new(open_network(data_dir, &config, names.len() as u32)?);
    let images = Arc::new(image_store(data_dir)?);
    for name in names {
        let host = Arc::new(Host::open(host_config(data_dir, &config, &name, &images, &network), |_| {})?);
        stop_containers(&host);
        host.leave().with_context(|| format!("take the pods of {name} off the machine"))?;
    }
    network.remove_all().context("take the cluster's network off the machine")
}

/// The nodes that this cluster had at any time, those of a `--nodes` that was larger once included.
fn node_names(data_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data_dir.join("nodes")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Ends every container of a host, all at once.
fn stop_containers(host: &Arc<Host>) {
    let Ok(world) = host.observe() else { return };
    let running = world.containers.into_iter().filter(|c| matches!(c.state, ContainerState::Running { .. }));
    let stops: Vec<_> = running
        .map(|c| {
            let (host, container) = (Arc::clone(host), c.container);
            let stop = Action::StopContainer { container, signal: None, grace: SWEEP_GRACE };
            std::thread::spawn(move || host.perform(stop))
        })
        .collect();
    for stop in stops {
        let _ = stop.join();
    }
}

/// Whether the cluster may have something on the machine, running or mounted. A reboot takes all of it, and this trace too.
pub fn has_remains(config: &Config) -> bool {
    stead_host::run_dir(&config.id).exists()
}

/// Ranges that this machine uses already.
pub fn ranges_in_use() -> Vec<Cidr> {
    stead_host::network::ranges_in_use().unwrap_or_default()
}

/// The addresses of this machine's default way out, to be named by the serving certificate.
pub fn host_addresses() -> Vec<IpAddr> {
    // Connecting a datagram socket sends nothing; it only asks the routing table.
    let asked = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect((Ipv4Addr::new(192, 0, 2, 254), 9)).and_then(|()| socket.local_addr()));
    asked.into_iter().map(|address| address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified()).collect()
}
