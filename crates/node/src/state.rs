//! What the agent remembers of one pod: the newest wish, what the machine answered, and what was asked and not yet answered.
//!
//! Guarantees: `issued` and `observe` are the only ways in; planning never changes it. All of it can be lost: [`PodState::adopt`]
//! makes it again from the machine's [`World`](crate::action::World) and from the pod's own status (crash-only, there is no
//! state file).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{self as core, Pod};
use stead_api::{Key, Object};
use stead_kinds::template::ephemeral::as_container;

use crate::action::{
    Container, ContainerRef, ContainerState, Exit, Failure, Image, PodRef, Sandbox, SandboxState, Volume,
};
use crate::probe::Probes;
use crate::resize;

/// `status.reason` of a pod that had to go for the node's sake.
pub const EVICTED: &str = "Evicted";
/// First and longest wait before a container is started again (CrashLoopBackOff), and before an image is pulled again.
pub const BACKOFF_FIRST: SignedDuration = SignedDuration::from_secs(10);
pub const BACKOFF_MAX: SignedDuration = SignedDuration::from_secs(300);
/// A run longer than this clears the container's back-off.
pub const BACKOFF_RESET: SignedDuration = SignedDuration::from_secs(600);
/// Waits after a failure of the machine itself (sandbox, mounts, cleaning up).
const RETRY_FIRST: SignedDuration = SignedDuration::from_secs(1);
const RETRY_MAX: SignedDuration = SignedDuration::from_secs(60);

/// Something asked of the machine for this pod that is not answered yet. One of a kind at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Busy {
    Sandbox,
    Volumes,
    StopSandbox,
    RemovePod,
    EmptyPod,
    Resize(String),
    Start(String),
    Remove(ContainerRef),
}

/// Something that failed and waits for its next try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    pub failure: Failure,
    pub since: Timestamp,
    pub at: Timestamp,
    wait: SignedDuration,
}

impl Retry {
    /// The wait doubles with each failure in a row.
    pub fn after(
        earlier: Option<&Retry>,
        failure: Failure,
        now: Timestamp,
        first: SignedDuration,
        max: SignedDuration,
    ) -> Retry {
        let wait = earlier.map_or(first, |e| (e.wait * 2).min(max));
        Retry { failure, since: now, at: now + wait, wait }
    }

    pub fn of_machine(earlier: Option<&Retry>, failure: Failure, now: Timestamp) -> Retry {
        Retry::after(earlier, failure, now, RETRY_FIRST, RETRY_MAX)
    }

    pub fn wait_seconds(&self) -> i64 {
        self.wait.as_secs()
    }
}

/// Where the image of a container's next start stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ImageWait {
    #[default]
    Unasked,
    Finding,
    /// Asked for and not here.
    Missing,
    Pulling,
    Found(Arc<Image>),
}

/// A lifecycle hook of the newest attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookState {
    #[default]
    NotRun,
    Running,
    Done,
}

/// A stop that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// When the machine was told to kill.
    pub kill_at: Timestamp,
    pub retry_at: Option<Timestamp>,
}

/// One container of the pod over all its attempts.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub image: ImageWait,
    pub image_retry: Option<Retry>,
    /// The failure of the newest start; the last one in a row, for the next wait.
    pub start_retry: Option<Retry>,
    pub failed_start: Option<Retry>,
    /// Restarts that count for the back-off.
    pub restarts: u32,
    /// Not to be started before.
    pub restart_at: Option<Timestamp>,
    pub post_start: HookState,
    pub pre_stop: HookState,
    /// Since when the newest attempt is being stopped, preStop included.
    pub stopping_since: Option<Timestamp>,
    pub stop: Option<Stop>,
    /// Why the newest attempt must be restarted although it runs, as the Killing event says it.
    pub must_restart: Option<String>,
    pub probes: Probes,
    /// `image` of the spec with which the newest attempt was started.
    pub started_image: Option<String>,
    /// The resources that the newest attempt has.
    pub applied: Option<core::ResourceRequirements>,
    pub resize_retry: Option<Retry>,
}

impl Run {
    /// What belongs to one attempt goes with it.
    fn begin_attempt(&mut self) {
        self.image = ImageWait::Unasked;
        self.start_retry = None;
        self.resize_retry = None;
        self.restart_at = None;
        self.post_start = HookState::NotRun;
        self.pre_stop = HookState::NotRun;
        self.stopping_since = None;
        self.stop = None;
        self.must_restart = None;
        self.probes = Probes::default();
    }

    pub fn image_found(&self) -> Option<&Arc<Image>> {
        match &self.image {
            ImageWait::Found(image) => Some(image),
            ImageWait::Unasked | ImageWait::Finding | ImageWait::Missing | ImageWait::Pulling => None,
        }
    }
}

/// Why a container waits, in the words of `state.waiting`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: Option<String>,
}

/// The end of a pod: it never runs again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub phase: &'static str,
    pub reason: Option<String>,
    pub message: Option<String>,
}

/// Why a pod is not taken, as its status says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: String,
    pub message: String,
}

impl Rejection {
    pub fn of(reason: impl Into<String>, message: impl Into<String>) -> Rejection {
        Rejection { reason: reason.into(), message: message.into() }
    }

    pub fn predicate(name: &str, why: &str) -> Rejection {
        Rejection::of(name, format!("Predicate {name} failed: {why}"))
    }
}

/// One pod on this machine or meant for it.
#[derive(Clone, Debug)]
pub struct PodState {
    pub pod: PodRef,
    /// The version the API server has. `None`: it is gone from there, or was never known.
    pub object: Option<Arc<Object>>,
    /// The newest known typed view; stays when the object is gone, for an orderly stop.
    pub spec: Option<Arc<Pod>>,
    /// The ephemeral containers of `spec`, as containers.
    pub ephemeral: Vec<core::Container>,
    pub sandbox: Option<Sandbox>,
    /// All attempts on the machine, by container name and attempt.
    pub containers: BTreeMap<String, BTreeMap<u32, Container>>,
    /// What the last `EnsureVolumes` was given, and what it has confirmed.
    pub volumes_asked: Option<Vec<Volume>>,
    pub volumes: Option<Vec<Volume>>,
    pub busy: BTreeSet<Busy>,
    pub runs: BTreeMap<String, Run>,
    pub sandbox_retry: Option<Retry>,
    pub volumes_retry: Option<Retry>,
    pub cleanup_retry: Option<Retry>,
    /// When the end was first asked for: deletion, or the end of the last main container.
    pub ending_since: Option<Timestamp>,
    /// Namespaces and mounts were given back and nothing was made since.
    pub is_torn_down: bool,
    /// When this pod was first seen by an agent: `status.startTime` until the API server has one.
    pub seen_at: Timestamp,
    pub node_ip: IpAddr,
    pub waiting: BTreeMap<String, Waiting>,
    pub mount_problem: Option<String>,
    /// `status.imageID` by the image's id, for the containers of this pod.
    pub image_ids: BTreeMap<String, String>,
    /// The ConfigMaps, Secrets and claims whose changes wake it.
    pub references: BTreeSet<Key>,
    /// The resources that its containers were granted, and what is asked for beyond that.
    pub granted: resize::Granted,
    pub resize: Option<resize::Asked>,
    /// The node has taken it, or would not.
    pub is_admitted: bool,
    pub rejected: Option<Rejection>,
    /// It has to go, for the node's sake: the text for its status.
    pub evicted: Option<String>,
    /// What it wrote was given back.
    pub is_emptied: bool,
    /// The lease is lost and this pod may run once only: it is held down.
    pub is_fenced: bool,
    /// The node stops: the pod is taken down, and killed at this time whatever its grace.
    pub shutdown_at: Option<Timestamp>,
}

impl PodState {
    pub fn new(pod: PodRef, node_ip: IpAddr, now: Timestamp) -> PodState {
        PodState {
            pod,
            node_ip,
            object: None,
            spec: None,
            ephemeral: Vec::new(),
            sandbox: None,
            containers: BTreeMap::new(),
            volumes_asked: None,
            volumes: None,
            busy: BTreeSet::new(),
            runs: BTreeMap::new(),
            sandbox_retry: None,
            volumes_retry: None,
            cleanup_retry: None,
            ending_since: None,
            is_torn_down: false,
            seen_at: now,
            waiting: BTreeMap::new(),
            mount_problem: None,
            image_ids: BTreeMap::new(),
            references: BTreeSet::new(),
            granted: BTreeMap::new(),
            resize: None,
            is_admitted: false,
            rejected: None,
            evicted: None,
            is_emptied: false,
            is_fenced: false,
            shutdown_at: None,
        }
    }

    /// Takes the newest version from the API server.
    pub fn set_object(&mut self, object: Arc<Object>, now: Timestamp) {
        let typed = object.view::<Pod>();
        let ephemeral = typed.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
        self.ephemeral = ephemeral.map(as_container).collect();
        self.set_typed(typed);
        if self.object.is_none() && !object.meta.is_deleting() {
            self.ending_since = None;
        }
        if object.meta.is_deleting() && self.ending_since.is_none() {
            self.ending_since = Some(now);
        }
        self.object = Some(object);
    }

    /// Keeps what the pod asks for apart from what is granted.
    fn set_typed(&mut self, typed: Arc<Pod>) {
        if self.granted.is_empty() {
            self.granted = resize::granted_at_first(&typed);
        }
        if resize::is_granted(&typed, &self.granted) {
            (self.spec, self.resize) = (Some(typed), None);
            return;
        }
        self.spec = Some(Arc::new(resize::with_granted(&typed, &self.granted)));
        let refusal = self.resize.take().and_then(|asked| asked.refusal);
        self.resize = Some(resize::Asked { pod: typed, refusal });
    }

    /// What is asked for is granted.
    pub fn grant(&mut self) {
        if let Some(asked) = self.resize.take() {
            self.granted = resize::granted_by(&asked.pod);
            self.spec = Some(asked.pod);
        }
    }

    pub fn refuse(&mut self, why: resize::Refusal) {
        if let Some(asked) = &mut self.resize {
            asked.refusal = Some(why);
        }
    }

    /// Its object is gone: what is left on the machine is an orphan.
    pub fn set_gone(&mut self, now: Timestamp) {
        self.object = None;
        self.ending_since.get_or_insert(now);
    }

    /// Fits the memory to containers that an earlier life of the agent started: their attempts are their restart counts, and what
    /// the status says of the same container stays true until a probe says otherwise.
    pub fn adopt(&mut self) {
        let is_sandbox_ready = self.is_sandbox_ready();
        let names: Vec<String> = self.containers.keys().cloned().collect();
        for name in names {
            let Some(newest) = self.newest(&name).cloned() else { continue };
            let known = self.api_status(&name).filter(|s| s.container_id.as_deref() == Some(&container_id(&newest.id)));
            let resources = known.and_then(|s| s.resources.clone());
            let known = known.map(|s| (s.image.clone(), s.started == Some(true), s.ready));
            let run = self.runs.entry(name).or_default();
            run.restarts = if is_sandbox_ready { newest.container.attempt } else { 0 };
            match &newest.state {
                ContainerState::Running { .. } => {
                    run.post_start = HookState::Done;
                    run.applied = resources;
                    if let Some((image, started, ready)) = known {
                        run.started_image = Some(image);
                        run.probes = Probes::adopted(started, ready);
                    }
                }
                ContainerState::Exited(exit) => run.restart_at = is_sandbox_ready.then(|| restart_at(run, exit)),
            }
        }
    }

    /// The pod's address; the node's own on the host's network or before there is a sandbox.
    pub fn ip(&self) -> IpAddr {
        self.sandbox.as_ref().and_then(|s| s.ip).unwrap_or(self.node_ip)
    }

    /// `name_namespace(uid)`, as the kubelet prints pods.
    pub fn full_name(&self) -> String {
        format!("{}_{}({})", self.pod.name, self.pod.namespace, self.pod.uid)
    }

    /// The container's status as the API server has it.
    pub fn api_status(&self, name: &str) -> Option<&core::ContainerStatus> {
        let status = self.spec.as_ref()?.status.as_ref()?;
        let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
        lists.into_iter().flatten().flatten().find(|s| s.name == name)
    }

    /// A container of the spec, init and ephemeral ones included.
    pub fn container_spec(&self, name: &str) -> Option<&core::Container> {
        let spec = self.spec.as_ref()?.spec.as_ref()?;
        let all = spec.containers.iter().chain(spec.init_containers.iter().flatten()).chain(&self.ephemeral);
        all.into_iter().find(|c| c.name == name)
    }

    /// The container in whose process namespace an ephemeral one is to be.
    pub fn target_of(&self, name: &str) -> Option<&str> {
        let spec = self.spec.as_ref()?.spec.as_ref()?;
        let found = spec.ephemeral_containers.iter().flatten().find(|c| c.name == name)?;
        found.target_container_name.as_deref().filter(|target| !target.is_empty())
    }

    /// Whether a container was ever started: an ephemeral one is started once.
    pub fn was_started(&self, name: &str) -> bool {
        let has_id = |s: &core::ContainerStatus| s.container_id.as_deref().is_some_and(|id| !id.is_empty());
        self.newest(name).is_some() || self.api_status(name).is_some_and(has_id)
    }

    pub fn newest(&self, name: &str) -> Option<&Container> {
        self.containers.get(name)?.values().next_back()
    }

    /// The newest attempt, if it was made in the present sandbox: an end before the sandbox was made belongs to an earlier one.
    pub fn current(&self, name: &str) -> Option<&Container> {
        let newest = self.newest(name)?;
        match (&newest.state, &self.sandbox) {
            (ContainerState::Running { .. }, _) => Some(newest),
            (ContainerState::Exited(exit), Some(sandbox)) if exit.finished_at >= sandbox.created_at => Some(newest),
            (ContainerState::Exited(_), _) => None,
        }
    }

    pub fn is_running(&self, name: &str) -> bool {
        matches!(self.newest(name), Some(Container { state: ContainerState::Running { .. }, .. }))
    }

    pub fn is_any_running(&self) -> bool {
        self.containers.keys().any(|name| self.is_running(name))
    }

    /// Nothing of the pod runs and nothing is on its way to.
    pub fn is_at_rest(&self) -> bool {
        !self.is_any_running() && !self.busy.iter().any(|b| matches!(b, Busy::Start(_) | Busy::Sandbox | Busy::Volumes))
    }

    pub fn is_sandbox_ready(&self) -> bool {
        matches!(&self.sandbox, Some(Sandbox { state: SandboxState::Ready, .. }))
    }

    /// The attempt number of the next start.
    pub fn next_attempt(&self, name: &str) -> u32 {
        match self.newest(name) {
            Some(newest) => newest.container.attempt + 1,
            None => match self.api_status(name) {
                Some(s) if s.container_id.as_deref().is_some_and(|id| !id.is_empty()) => s.restart_count as u32 + 1,
                Some(_) | None => 0,
            },
        }
    }

    pub fn run(&mut self, name: &str) -> &mut Run {
        self.runs.entry(name.to_owned()).or_default()
    }

    /// An attempt is on its way to the machine.
    pub fn begin(&mut self, name: &str, image: &str) {
        let resources = self.container_spec(name).and_then(|c| c.resources.clone()).unwrap_or_default();
        let run = self.run(name);
        run.begin_attempt();
        run.applied = Some(resources);
        run.started_image = Some(image.to_owned());
        self.is_torn_down = false;
    }

    /// Records what the machine says of a container. What happened, happened by now: the clock may have been set back since.
    pub fn put(&mut self, mut container: Container, now: Timestamp) {
        match &mut container.state {
            ContainerState::Running { started_at } => *started_at = now.min(*started_at),
            ContainerState::Exited(exit) => {
                exit.started_at = exit.started_at.map(|at| now.min(at));
                exit.finished_at = now.min(exit.finished_at);
            }
        }
        let name = container.container.name.clone();
        let was_running = self.is_running(&name);
        let is_newest = self.newest(&name).is_none_or(|n| n.container.attempt <= container.container.attempt);
        let exit = match &container.state {
            ContainerState::Exited(exit) => Some(exit.clone()),
            ContainerState::Running { .. } => None,
        };
        let known = self
            .containers
            .get(&name)
            .and_then(|all| all.get(&container.container.attempt))
            .is_some_and(|c| matches!(c.state, ContainerState::Exited(_)));
        if known && exit.is_none() {
            // A late answer: the end was seen already.
            return;
        }
        let attempt = container.container.attempt;
        let is_restart =
            self.containers.entry(name.clone()).or_default().insert(attempt, container).is_none() && attempt > 0;
        self.run(&name).restarts += u32::from(is_restart);
        if let (Some(exit), true) = (exit, is_newest) {
            let run = self.run(&name);
            if was_running || run.restart_at.is_none() {
                run.restart_at = Some(restart_at(run, &exit));
            }
            run.stop = None;
        }
    }
}

/// When a container that ended may start again: at once the first time, then after 10 s doubling to 300 s; a long run clears it.
fn restart_at(run: &mut Run, exit: &Exit) -> Timestamp {
    let ran = exit.started_at.map_or(SignedDuration::ZERO, |start| exit.finished_at.duration_since(start));
    if ran > BACKOFF_RESET {
        run.restarts = 0;
    }
    exit.finished_at + backoff(run.restarts)
}

/// The wait before restart number `restarts + 1`.
pub fn backoff(restarts: u32) -> SignedDuration {
    match restarts {
        0 => SignedDuration::ZERO,
        1..=5 => (BACKOFF_FIRST * (1 << (restarts - 1))).min(BACKOFF_MAX),
        _ => BACKOFF_MAX,
    }
}

/// `status.containerStatuses[].containerID`.
pub fn container_id(id: &str) -> String {
    format!("stead://{id}")
}
