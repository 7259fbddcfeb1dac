//! Interfaces, addresses, routes and namespaces: the cluster's own interface and one veth pair per pod.
//!
//! Contract: the alias of a pod's host-side interface, set last, says whose it is and which address it has; an interface
//! without it was never completed and is made again. Interface names are a function of cluster id and pod uid.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::link::{BridgeLink, VethLink};
use nlink::netlink::messages::LinkMessage;
use nlink::netlink::namespace::{self, Netns};
use nlink::netlink::neigh::Neighbor;
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::types::addr::Scope;
use nlink::netlink::types::link::OperState;
use nlink::netlink::types::route::{RouteScope, RouteType};
use nlink::netlink::{Connection, Route};
use stead_net::Cidr;

use super::config::{ID_LEN, NetworkConfig, NetworkError, PodNet};
use super::digest::fnv1a;
use super::ipam::Pool;

/// Where a pod sends everything. No interface has this address: both sides know each other's hardware address.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The hardware address of the host's end of every pair; each pair is a segment of its own.
const HOST_MAC: [u8; 6] = [0x0a, 0x58, 0xa9, 0xfe, 0x01, 0x01];
/// The interface inside a pod.
const POD_INTERFACE: &str = "eth0";
const DEFAULT_MTU: u32 = 1500;
const MAIN_TABLE: u32 = 254;
/// The link watch runs within a second at most.
const CARRIER_TRIES_MAX: u32 = 1000;
const CARRIER_PAUSE: Duration = Duration::from_millis(1);
/// Threads that remove pods when all go.
const REMOVALS_AT_ONCE: usize = 16;
/// Worse than any other route: the range's catch-all only answers for addresses that no pod has.
const UNREACHABLE_METRIC: u32 = 4_278_198_272;

pub struct Links {
    route: Connection<Route>,
    netns_dir: PathBuf,
    /// A bridge without ports: it is there wherever containers run, while some kernels have no `dummy` interfaces.
    own: String,
    pod_prefix: String,
    pod_range: Cidr,
    service_range: Cidr,
    nodes: BTreeMap<String, Pool>,
    pods: BTreeMap<String, Ipv4Addr>,
}

impl Links {
    pub async fn open(config: &NetworkConfig) -> Result<Links, NetworkError> {
        let id = &config.cluster_id[..ID_LEN];
        let mut links = Links {
            route: Connection::<Route>::new().map_err(|e| fail("open", "netlink socket", e))?,
            netns_dir: config.run_dir.join("netns"),
            own: format!("st-{id}"),
            pod_prefix: format!("s{id}"),
            pod_range: config.pod_range,
            service_range: config.service_range,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
        };
        for node in &config.nodes {
            let pool = Pool::new(node.range)
                .ok_or_else(|| NetworkError::new("open", &node.name, format!("range {} is too small", node.range)))?;
            links.nodes.insert(node.name.clone(), pool);
        }
        std::fs::create_dir_all(&links.netns_dir).map_err(|e| fail("create", links.netns_dir.display(), e))?;
        set_sysctl("net/ipv4/ip_forward", "1")?;
        links.ensure_own_interface(config).await?;
        links.adopt_pods().await?;
        Ok(links)
    }

    /// The interface of the nodes' addresses, and the routes of the cluster's ranges.
    async fn ensure_own_interface(&self, config: &NetworkConfig) -> Result<(), NetworkError> {
        let name = &self.own;
        let index = match self.link(name).await? {
            Some(link) => link.ifindex(),
            None => {
                let created = self.route.add_link(BridgeLink::new(name)).await;
                created.map_err(|e| fail("create interface", name, e))?;
                quiet_ipv6(name);
                let link = self.link(name).await?;
                link.ok_or_else(|| fail("create interface", name, "it is gone"))?.ifindex()
            }
        };
        let node_ips = config.nodes.iter().map(|node| node.node_ip());
        for ip in node_ips.chain([config.dns_ip]) {
            let added = self.route.replace_address_by_index(index, ip.into(), 32);
            added.await.map_err(|e| fail("add address", ip, e))?;
        }
        let up = self.route.set_link_up_by_index(index).await;
        up.map_err(|e| fail("bring up", name, e))?;

        let services = Ipv4Route::from_addr(self.service_range.first(), self.service_range.prefix_len())
            .dev_index(index)
            .scope(RouteScope::Link)
            .prefsrc(config.nodes[0].node_ip());
        let routed = self.route.replace_route(services).await;
        routed.map_err(|e| fail("route", self.service_range, e))?;
        let routed = self.route.replace_route(self.catch_all()).await;
        routed.map_err(|e| fail("route", self.pod_range, e))
    }

    /// An address of the pod range that no pod has must not leave the machine by the default route.
    fn catch_all(&self) -> Ipv4Route {
        Ipv4Route::from_addr(self.pod_range.first(), self.pod_range.prefix_len())
            .route_type(RouteType::Unreachable)
            .metric(UNREACHABLE_METRIC)
    }

    /// Reads back which pods have which address.
    async fn adopt_pods(&mut self) -> Result<(), NetworkError> {
        for (uid, ip) in self.complete_pods().await? {
            if let Some(pool) = self.nodes.values_mut().find(|p| p.range().contains(ip)) {
                pool.claim(ip);
            }
            self.pods.insert(uid, ip);
        }
        Ok(())
    }

    /// The pods whose interface is complete, from the kernel.
    async fn complete_pods(&self) -> Result<BTreeMap<String, Ipv4Addr>, NetworkError> {
        let links = self.route.get_links().await;
        let links = links.map_err(|e| fail("list", "interfaces", e))?;
        let own = links.iter().filter(|l| self.is_pod_link(l));
        Ok(own.filter_map(parse_alias).collect())
    }

    fn is_pod_link(&self, link: &LinkMessage) -> bool {
        let name = link.name().unwrap_or_default();
        name.len() == POD_LINK_LEN && name.starts_with(&self.pod_prefix)
    }

    pub async fn ensure_pod(
        &mut self,
        node: &str,
        uid: &str,
        wanted: Option<Ipv4Addr>,
    ) -> Result<PodNet, NetworkError> {
        let netns = self.netns_path(uid)?;
        let name = self.pod_link_name(uid);
        if let Some(&ip) = self.pods.get(uid)
            && namespace::is_namespace_path(&netns)
            && let Some(link) = self.link(&name).await?
            && parse_alias(&link).is_some_and(|(owner, _)| owner == uid)
        {
            return Ok(PodNet { ip, netns });
        }
        let ip = self.address_for(node, uid, wanted)?;
        match self.connect(&name, &netns, uid, ip).await {
            Ok(()) => {
                self.pods.insert(uid.to_owned(), ip);
                Ok(PodNet { ip, netns })
            }
            Err(error) => {
                self.forget(uid, ip);
                drop(self.route.del_link_if_exists(name.as_str()).await);
                Err(error)
            }
        }
    }

    /// The pod's address: the one it has, the one that is asked for, or the next free one of its node.
    fn address_for(&mut self, node: &str, uid: &str, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, NetworkError> {
        if let Some(&ip) = self.pods.get(uid) {
            return Ok(ip);
        }
        let pool = self.nodes.get_mut(node).ok_or_else(|| fail("find node", node, "it has no pod range here"))?;
        if let Some(ip) = wanted
            && pool.claim(ip)
        {
            return Ok(ip);
        }
        pool.allocate().ok_or_else(|| fail("allocate address for pod", uid, format!("range {} is full", pool.range())))
    }

    /// Makes what is missing: the namespace, the pair of interfaces, addresses and routes on both sides.
    async fn connect(&self, name: &str, netns: &Path, uid: &str, ip: Ipv4Addr) -> Result<(), NetworkError> {
        let failed = |e: nlink::Error| fail("connect pod", uid, e);
        if !namespace::is_namespace_path(netns) {
            remove_netns(netns)?;
            namespace::create_path(netns).map_err(|e| fail("create", netns.display(), e))?;
        }
        let inside = Netns::from_path(netns).map_err(failed)?;
        self.route.del_link_if_exists(name).await.map_err(failed)?;
        let pod_mac = mac_of(ip);
        let pair = VethLink::new(name, POD_INTERFACE)
            .mtu(self.mtu().await?)
            .address(HOST_MAC)
            .peer_address(pod_mac)
            .peer_netns_fd(inside.as_fd());
        self.route.add_link(pair).await.map_err(failed)?;
        let inside: Connection<Route> = Connection::new_in(inside.as_fd()).map_err(failed)?;
        let pod_index = connect_inside(&inside, ip).await.map_err(failed)?;

        quiet_ipv6(name);
        // Replies to 127.0.0.1:nodePort come back here (N-22); the rules refuse everything else to 127.0.0.0/8.
        set_sysctl(&format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
        let link = self.link(name).await?;
        let index = link.ok_or_else(|| fail("connect pod", uid, "the interface is gone"))?.ifindex();
        let up = self.route.set_link_up_by_index(index).await;
        up.map_err(failed)?;
        wait_carrying(&inside, pod_index).await.map_err(failed)?;
        let neighbour = Neighbor::with_index_v4(index, ip).lladdr(pod_mac).permanent();
        self.route.replace_neighbor(neighbour).await.map_err(failed)?;
        let to_pod =
            Ipv4Route::from_addr(ip, 32).dev_index(index).scope(RouteScope::Link).prefsrc(self.node_ip_for(ip));
        self.route.replace_route(to_pod).await.map_err(failed)?;
        let alias = format!("{ALIAS} {uid} {ip}");
        let named = self.route.set_link_alias_by_index(index, &alias).await;
        named.map_err(failed)
    }

    /// The host speaks to a pod with the address of the pod's node.
    fn node_ip_for(&self, pod: Ipv4Addr) -> Ipv4Addr {
        let own = self.nodes.values().find(|p| p.range().contains(pod));
        let any = own.or_else(|| self.nodes.values().next());
        any.map_or(Ipv4Addr::UNSPECIFIED, Pool::node)
    }

    /// That of the interface to the outside, so that nothing has to be fragmented on the way.
    async fn mtu(&self) -> Result<u32, NetworkError> {
        let failed = |e| fail("read", "routes", e);
        let routes = self.route.get_routes_for_table(MAIN_TABLE).await.map_err(failed)?;
        let outside = routes.iter().filter(|r| r.is_ipv4() && r.is_default());
        let Some(index) = outside.min_by_key(|r| r.priority().unwrap_or(0)).and_then(|r| r.oif()) else {
            return Ok(DEFAULT_MTU);
        };
        let link = self.route.get_link_by_index(index).await.map_err(failed)?;
        Ok(link.and_then(|l| l.mtu()).unwrap_or(DEFAULT_MTU))
    }

    /// Begins to remove what a pod has, on a thread of its own: the kernel takes its time over an interface, and others
    /// need not wait for that. Once it is done, [`Links::release`] gives the address back.
    pub fn remove_pod(&self, uid: &str) -> Result<Removal, NetworkError> {
        let (netns, name) = (self.netns_path(uid)?, self.pod_link_name(uid));
        let thread = std::thread::Builder::new().name("stead-network-rm".into());
        thread.spawn(move || remove_pod(&name, &netns)).map_err(|e| fail("remove network of pod", uid, e))
    }

    pub fn release(&mut self, uid: &str) {
        if let Some(ip) = self.pods.get(uid).copied() {
            self.forget(uid, ip);
        }
    }

    fn forget(&mut self, uid: &str, ip: Ipv4Addr) {
        self.pods.remove(uid);
        for pool in self.nodes.values_mut() {
            pool.release(ip);
        }
    }

    pub async fn observe(&self) -> Result<Vec<(String, Option<Ipv4Addr>)>, NetworkError> {
        let failed = |e| fail("list", self.netns_dir.display(), e);
        let mut found: BTreeMap<String, Option<Ipv4Addr>> = BTreeMap::new();
        for entry in std::fs::read_dir(&self.netns_dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if self.netns_path(&name).is_ok() {
                found.insert(name, None);
            }
        }
        for (uid, ip) in self.complete_pods().await? {
            let is_pinned = namespace::is_namespace_path(self.netns_dir.join(&uid));
            found.insert(uid, is_pinned.then_some(ip));
        }
        Ok(found.into_iter().collect())
    }

    /// Everything with this cluster's name, also what no pod claims.
    pub async fn remove_all(&mut self) -> Result<(), NetworkError> {
        let pods = self.observe().await?;
        for some in pods.chunks(REMOVALS_AT_ONCE) {
            let removals: Vec<Removal> = some.iter().map(|(uid, _)| self.remove_pod(uid)).collect::<Result<_, _>>()?;
            removals.into_iter().try_for_each(finish_removal)?;
            some.iter().for_each(|(uid, _)| self.release(uid));
        }
        let links = self.route.get_links().await;
        for link in links.map_err(|e| fail("list", "interfaces", e))? {
            if self.is_pod_link(&link) || link.name() == Some(self.own.as_str()) {
                let removed = self.route.del_link_if_exists(link.ifindex()).await;
                removed.map_err(|e| fail("remove interface", link.name_or("?"), e))?;
            }
        }
        let removed = self.route.del_route_if_exists(self.catch_all()).await;
        removed.map_err(|e| fail("remove route", self.pod_range, e))?;
        Ok(())
    }

    async fn link(&self, name: &str) -> Result<Option<LinkMessage>, NetworkError> {
        let found = self.route.get_link_by_name(name).await;
        found.map_err(|e| fail("find interface", name, e))
    }

    fn netns_path(&self, uid: &str) -> Result<PathBuf, NetworkError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if uid.is_empty() || uid.len() > 128 || !uid.chars().all(is_plain) {
            return Err(fail("name pod", uid, "a uid has only letters, digits and dashes"));
        }
        Ok(self.netns_dir.join(uid))
    }

    fn pod_link_name(&self, uid: &str) -> String {
        format!("{}{}", self.pod_prefix, short_hash(uid))
    }
}

/// The work of removing one pod's interface and namespace.
pub type Removal = JoinHandle<Result<(), NetworkError>>;

pub fn finish_removal(removal: Removal) -> Result<(), NetworkError> {
    removal.join().unwrap_or_else(|_| Err(fail("remove network of", "pod", "the thread panicked")))
}

fn remove_pod(name: &str, netns: &Path) -> Result<(), NetworkError> {
    let failed = |e| fail("remove interface", name, e);
    current_thread_runtime()?.block_on(async {
        let route = Connection::<Route>::new().map_err(failed)?;
        route.del_link_if_exists(name).await.map_err(failed)
    })?;
    remove_netns(netns)
}

/// Inside the pod: loopback, the address, and everything to the gateway. The index of the pod's interface.
async fn connect_inside(inside: &Connection<Route>, ip: Ipv4Addr) -> nlink::Result<u32> {
    inside.set_link_up("lo").await?;
    let link = inside.get_link_by_name(POD_INTERFACE).await?;
    let index = link.map(|l| l.ifindex()).unwrap_or_default();
    let address = Ipv4Address::with_index(index, ip, 32).scope(Scope::Universe);
    inside.replace_address(address).await?;
    inside.set_link_up_by_index(index).await?;
    let gateway = Neighbor::with_index_v4(index, GATEWAY).lladdr(HOST_MAC).permanent();
    inside.replace_neighbor(gateway).await?;
    let outside = Ipv4Route::from_addr(Ipv4Addr::UNSPECIFIED, 0).gateway(GATEWAY).dev_index(index).onlink();
    inside.replace_route(outside).await?;
    Ok(index)
}

/// An interface whose peer came up after it carries packets only when the kernel's link watch has run; until then it drops
/// them. A recent kernel makes up for that when asked for the state; of an older one it is asked until it has.
async fn wait_carrying(inside: &Connection<Route>, index: u32) -> nlink::Result<()> {
    for _ in 0..CARRIER_TRIES_MAX {
        let link = inside.get_link_by_index(index).await?;
        if link.is_none_or(|link| link.operstate() == Some(OperState::Up)) {
            return Ok(());
        }
        tokio::time::sleep(CARRIER_PAUSE).await;
    }
    Ok(())
}

/// The IPv4 ranges of all routes and addresses of this namespace.
pub async fn ranges_in_use() -> Result<Vec<Cidr>, NetworkError> {
    let failed = |e| fail("read", "routes", e);
    let route = Connection::<Route>::new().map_err(failed)?;
    let mut ranges = Vec::new();
    for known in route.get_routes().await.map_err(failed)? {
        if let Some(&IpAddr::V4(to)) = known.destination()
            && known.dst_len() > 0
        {
            ranges.extend(Cidr::new(to, known.dst_len()));
        }
    }
    for known in route.get_addresses().await.map_err(failed)? {
        if let Some(&IpAddr::V4(ip)) = known.primary_address() {
            ranges.extend(Cidr::new(ip, known.prefix_len()));
        }
    }
    ranges.sort();
    ranges.dedup();
    Ok(ranges)
}

const ALIAS: &str = "stead pod";
/// Prefix (1 + 6) and hash (8): the longest name an interface may have.
const POD_LINK_LEN: usize = 15;

fn parse_alias(link: &LinkMessage) -> Option<(String, Ipv4Addr)> {
    let rest = link.alias()?.strip_prefix(ALIAS)?.trim_start();
    let (uid, ip) = rest.split_once(' ')?;
    Some((uid.to_owned(), ip.parse().ok()?))
}

/// Eight characters that stand for a pod's uid in its interface's name: 40 bits of FNV-1a.
fn short_hash(text: &str) -> String {
    let hash = fnv1a(text.as_bytes());
    let digits = b"0123456789abcdefghijklmnopqrstuv";
    (0..8).map(|i| char::from(digits[(hash >> (i * 5) & 31) as usize])).collect()
}

/// A hardware address made of the pod's own address, so nobody has to ask for it.
fn mac_of(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x0a, 0x58, a, b, c, d]
}

fn remove_netns(path: &Path) -> Result<(), NetworkError> {
    match namespace::delete_path(path) {
        Err(e) if !e.is_not_found() => Err(fail("remove", path.display(), e)),
        _ => Ok(()),
    }
}

/// No IPv6 on our side of a pair: nobody would answer, and duplicate address detection costs time. A kernel without IPv6
/// has no such file, which is as good.
fn quiet_ipv6(interface: &str) {
    drop(set_sysctl(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "1"));
}

fn set_sysctl(key: &str, value: &str) -> Result<(), NetworkError> {
    let path = Path::new("/proc/sys").join(key);
    std::fs::write(&path, value).map_err(|e| fail("write", path.display(), e))
}

fn fail(
    op: &'static str,
    target: impl ToString,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> NetworkError {
    NetworkError::new(op, target.to_string(), source)
}

pub fn current_thread_runtime() -> Result<tokio::runtime::Runtime, NetworkError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| NetworkError::new("start", "network runtime", e))
}
