//! From nothing to a serving cluster, and back: the order of start and stop.
//!
//! Start: check the machine, take the lock, listen, restore, bootstrap, publish, serve, then say `ready`. Nothing is answered
//! before the restored state is published. Stop: the node agents first, then the rest ends with the process.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use serde_json::json;
use stead_api::User;
use stead_apiserver::{Bootstrap, Cluster};
use stead_control::Plane;
use tokio::sync::mpsc;

use crate::admin::{Admin, Containers, Down};
use crate::audit::Audit;
use crate::config::{Config, Options, bind_api, preflight};
use crate::disk::{Disk, Restored};
use crate::effects::{self, Keys};
use crate::files::{make_dirs, write_private};
use crate::front_proxy::FrontProxy;
use crate::neighbours::Neighbours;
use crate::nodes::Nodes;
use crate::pki::{Identity, Pki};
use crate::plane::PlaneHandle;
use crate::say::say;
use crate::seal::Seal;
use crate::{Server, clock, listen, nodes, plane, token};

/// How long a server that was just killed may hold its lock: the kernel takes its time over a large process.
const DYING_WAIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Runs the server until it is told to stop. What goes wrong before it is ready is told to whoever started it.
pub fn run(options: &Options) -> Result<()> {
    let mut starter = Starter::connect(options.notify.as_deref());
    match start(options) {
        Ok(running) => {
            starter.tell("ready");
            drop(starter);
            tell_init();
            running.until_stopped()
        }
        Err(error) => {
            starter.tell(&format!("error {error:#}"));
            Err(error)
        }
    }
}

/// How long the answer to `down` may take to leave a machine that is busy.
const ANSWERS_LEAVE: Duration = Duration::from_secs(10);
/// What other connections are given to end.
const CONNECTIONS_END: Duration = Duration::from_millis(200);

/// The process that started us and waits for our word.
struct Starter(Option<UnixStream>);

impl Starter {
    fn connect(name: Option<&str>) -> Starter {
        let address = name.and_then(|name| SocketAddr::from_abstract_name(name).ok());
        Starter(address.and_then(|address| UnixStream::connect_addr(&address).ok()))
    }

    fn tell(&mut self, word: &str) {
        if let Some(stream) = &mut self.0 {
            let _ = writeln!(stream, "{}", word.replace('\n', " "));
        }
    }
}

/// Tells an init system that waits for it (sd_notify) that the API answers.
fn tell_init() {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match place.as_encoded_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&place),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address));
    if let Err(error) = sent {
        say(format_args!("NOTIFY_SOCKET could not be told: {error}"));
    }
}

/// A started server.
struct Running {
    runtime: tokio::runtime::Runtime,
    nodes: Nodes,
    plane: PlaneHandle,
    thread: JoinHandle<()>,
    down: mpsc::Receiver<Down>,
    /// Held for as long as the process lives.
    _lock: File,
}

fn start(options: &Options) -> Result<Running> {
    let started = Instant::now();
    let nodes_wanted = !options.no_node && options.nodes != Some(0);
    preflight(options, nodes_wanted)?;
    let dir = &options.data_dir;
    make_dirs(&dir.join("run"), 0o700)?;
    let lock = take_lock(dir)?;
    if nodes_wanted {
        stead_host::check_overlay(&dir.join("run"))?;
    }
    let (config, listener) = settle(options, nodes_wanted)?;
    if options.notify.is_some() {
        leave_terminal(dir)?;
    }

    let audit = Audit::open(&options.audit)?;
    let pki = Pki::open(&dir.join("pki"))?;
    let front_proxy = FrontProxy::open(&dir.join("pki"))?;
    let (plane, thread) = open_plane(dir, &config, &pki, &front_proxy)?;
    let runtime = new_runtime()?;
    let url = format!("https://127.0.0.1:{}", config.api_port);
    let (server, down) = new_server(&plane, &pki, front_proxy, &url, started, audit);
    let identity = serving_identity(&pki, &config)?;
    let tls = pki.tls(&identity)?;
    write_kubeconfig(dir, &pki, &url)?;
    let guard = runtime.enter();
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let admin_socket = bind_admin(dir)?;
    drop(guard);
    crate::errands::start(&server, runtime.handle());
    let nodes = Nodes::start(&server, &config, dir, runtime.handle(), None)?;
    let guard = runtime.enter();
    crate::extensions::start(&server);
    drop(guard);
    runtime.spawn(listen::api(Arc::clone(&server), listener, tls));
    runtime.spawn(listen::admin(server, admin_socket));
    Ok(Running { runtime, nodes, plane, thread, down, _lock: lock })
}

/// The control plane over its store, restored and with what every cluster has.
pub(crate) fn open_plane(
    dir: &Path,
    config: &Config,
    pki: &Pki,
    front_proxy: &FrontProxy,
) -> Result<(PlaneHandle, JoinHandle<()>)> {
    let seal = config.encryption_config.as_deref().map(Seal::load).transpose()?.map(Arc::new);
    let store = dir.join("store");
    if !store.exists() && dir.join("store.redb").exists() {
        bail!("{} was written by an older Stead: start it with that one, or `stead delete` it", dir.display());
    }
    let (mut disk, Restored { revision, records }) = Disk::open(&store, seal)?;
    let cluster = Cluster {
        service_cidr: (config.service_cidr.first(), config.service_cidr.prefix_len()),
        node_ports: 30000..=32767,
        domain: config.domain.clone(),
        ca_pem: pki.ca_pem.clone(),
    };
    let mut restored = Plane::restore(crate::chance::number()?, cluster, revision, records)?;
    let facts = Bootstrap {
        api_address: api_address(config),
        api_port: config.api_port,
        dns_ip: config.dns_ip,
        front_proxy_ca: front_proxy.ca_pem.clone(),
        tells_usage: config.nodes > 0,
    };
    let first = restored.bootstrap(clock::now(), &facts);
    disk.commit(first.revision(), first.writes())?;
    let keys = Keys { authority: pki.authority()?, signer: token::Signer::new(&pki.token_key)? };
    let perform = move |effect| effects::perform(&keys, effect);
    Ok(plane::start(restored, disk, Box::new(perform), first.synced().effects)?)
}

pub(crate) fn new_runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// What connections and agents share, and where it is told that the server shall end.
pub(crate) fn new_server(
    plane: &PlaneHandle,
    pki: &Pki,
    front_proxy: FrontProxy,
    url: &str,
    started: Instant,
    audit: Option<Arc<Audit>>,
) -> (Arc<Server>, mpsc::Receiver<Down>) {
    let (down, is_down) = mpsc::channel(1);
    let server = Server {
        plane: plane.clone(),
        signer: token::Signer::new(&pki.token_key)
            .unwrap_or_else(|error| panic!("the key was made by Pki::open: {error}")),
        anonymous: Arc::new(User::anonymous()),
        administrator: Arc::new(administrator()),
        admin: Admin { started, url: url.to_owned(), down, connections: Arc::default() },
        hosts: OnceLock::new(),
        ends: crate::streams::Ends::default(),
        audit,
        outbound: crate::outbound::Outbound::default(),
        front_proxy,
        extensions: crate::extensions::Extensions::default(),
        metrics: crate::metrics::Metrics::default(),
        fairness: crate::fairness::Fairness::follow(plane),
        meter: crate::usage::Meter::default(),
    };
    (Arc::new(server), is_down)
}

impl Running {
    /// Waits for `down` or a signal, then stops in order.
    fn until_stopped(mut self) -> Result<()> {
        let down = self.runtime.block_on(async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
            let down = tokio::select! {
                down = self.down.recv() => down,
                _ = terminate.recv() => None,
                _ = interrupt.recv() => None,
            };
            Ok::<_, std::io::Error>(down)
        })?;
        // A signal is how an init system restarts us: containers stay. Only `down` ends them.
        let containers = down.as_ref().map_or(Containers::Keep, |down| down.containers);
        let stopped = self.nodes.stop(containers);
        self.plane.stop();
        let _ = self.thread.join();
        if let Some(down) = down {
            let _ = down.done.send(stopped.as_ref().map_err(|error| format!("{error:#}")).copied());
            let answers = async { tokio::time::timeout(ANSWERS_LEAVE, down.connections.write()).await.is_ok() };
            self.runtime.block_on(answers);
        }
        self.runtime.shutdown_timeout(CONNECTIONS_END);
        stopped
    }
}

/// What the cluster is, written down, with its port taken and its ranges known to the machine's other clusters.
fn settle(options: &Options, nodes_wanted: bool) -> Result<(Config, TcpListener)> {
    let neighbours = nodes_wanted.then(Neighbours::of_machine).transpose()?;
    let mut taken = nodes::ranges_in_use();
    taken.extend(neighbours.iter().flat_map(Neighbours::ranges));
    let config = Config::settle(options, &taken, &fresh_id()?)?;
    let listener = bind_api(config.api_port)?;
    config.save(&options.data_dir)?;
    if let Some(neighbours) = &neighbours {
        neighbours.add(&config, &options.data_dir)?;
    }
    Ok((config, listener))
}

/// One server per data directory: the kernel gives the lock back however the process ends.
pub(crate) fn take_lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let lock = File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
    let until = Instant::now() + DYING_WAIT;
    while lock.try_lock().is_err() {
        if Instant::now() < until {
            std::thread::sleep(LOCK_PAUSE);
            continue;
        }
        bail!("a cluster runs in {} already: `stead status` tells about it, `stead down` stops it", dir.display());
    }
    Ok(lock)
}

/// Leaves the starter's session, and says everything into the log from now on.
fn leave_terminal(dir: &Path) -> Result<()> {
    let log = File::options().create(true).append(true).open(dir.join("stead.log"))?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    let _ = rustix::process::setsid();
    Ok(())
}

fn bind_admin(dir: &Path) -> Result<tokio::net::UnixListener> {
    let path = dir.join("run/api.sock");
    let _ = fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn administrator() -> User {
    User {
        name: "kubernetes-admin".into(),
        groups: vec!["system:masters".into(), "system:authenticated".into()],
        ..User::default()
    }
}

/// Where pods reach the API: the first node's own address, or loopback without nodes.
fn api_address(config: &Config) -> Ipv4Addr {
    if config.nodes == 0 { Ipv4Addr::LOCALHOST } else { config.node_ip(0) }
}

fn serving_identity(pki: &Pki, config: &Config) -> Result<Identity> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let internal = format!("kubernetes.default.svc.{}", config.domain);
    let names = ["localhost", host.trim(), "kubernetes", "kubernetes.default", "kubernetes.default.svc", &internal];
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    let first_service = config.service_cidr.nth(1).unwrap_or(config.dns_ip);
    let mut addresses: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), first_service.into()];
    addresses.extend((0..config.nodes).map(|n| IpAddr::from(config.node_ip(n))));
    addresses.extend(nodes::host_addresses());
    pki.server(&names, &addresses)
}

/// The administrator's kubeconfig, as JSON, which is YAML too.
fn write_kubeconfig(dir: &Path, pki: &Pki, url: &str) -> Result<()> {
    let identity = pki.client("kubernetes-admin", &["system:masters"])?;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let config = json!({"apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": "stead",
        "clusters": [{"name": "stead", "cluster": {"server": url, "certificate-authority-data": encode(&pki.ca_pem)}}],
        "users": [{"name": "stead", "user": {"client-certificate-data": encode(&identity.certificate),
            "client-key-data": encode(&identity.key)}}],
        "contexts": [{"name": "stead", "context": {"cluster": "stead", "user": "stead"}}]});
    write_private(&dir.join("kubeconfig"), format!("{config:#}\n").as_bytes())
}

fn fresh_id() -> Result<String> {
    Ok(format!("{:06x}", crate::chance::number()? & 0xff_ffff))
}
