//! The control plane's thread: gather requests, step, commit, publish, answer.
//!
//! Guarantees (Durable): a reply leaves, and a head is published, only after the batch it came from is on disk. Requests that
//! arrive during a commit form the next batch, so the cost of a sync is shared. What happens when the disk refuses is in persist.rs.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use stead_api::call::{self, Question};
use stead_api::{Key, KindName, Request, Revision, Status};
use stead_apiserver::fairness::{REFUSAL, RETRY_SECONDS};
use stead_apiserver::{CallPlan, Head, Reply};
use stead_control::{CallId, Effect, Measured, Plane, Tally, Work};
use tokio::sync::{Semaphore, watch};

use crate::asks::{Answer, Ask};
use crate::disk::Disk;
use crate::persist::{Outcome, Trouble, persist};
use crate::say::say;

/// Writes of clients that have no answer yet; more are refused with 429.
pub const CLIENT_REQUESTS_MAX: usize = 4096;
/// Places that are kept free for the server's own: agents, and requests whose webhooks have answered.
const OWN_REQUESTS_MAX: usize = 4096;
/// Requests in one batch.
const BATCH_REQUESTS_MAX: usize = 512;
/// After so many writes, memory that they have left free is given back once nobody has asked for anything for a while.
const WRITES_BEFORE_TRIM: usize = 4096;
const QUIET_BEFORE_TRIM: Duration = Duration::from_secs(2);
/// The number of requests that our own shell makes.
const UNANSWERED: u64 = u64::MAX;
/// The longest sleep between two looks at the clock.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// Told of every published batch, on the plane's thread: must only pass the news on.
pub type Listener = Box<dyn Fn(&Arc<Head>, &[Key]) + Send + Sync>;

/// Who goes on when webhooks have answered.
pub enum Waiting {
    Request(Box<CallPlan>, Answer),
    /// A write of the plane's own.
    Own(CallId, Question),
    /// What extension API servers have of a namespace that ends.
    Sweep(Box<Effect>),
    /// The plane, for what pods use.
    Usage,
}

/// Asks webhooks, on other threads; told on the plane's.
pub type Asker = Box<dyn Fn(Waiting) + Send>;

/// Nobody asks yet while the server starts; what waits then is kept.
enum Asking {
    NotYet(Vec<Waiting>),
    Through(Asker),
}

/// The other threads' side of the plane. Cheap to clone.
#[derive(Clone)]
pub struct PlaneHandle {
    shared: Arc<Shared>,
    asks: SyncSender<Ask>,
}

struct Shared {
    head: ArcSwap<Head>,
    kinds: RwLock<BTreeMap<KindName, watch::Sender<Revision>>>,
    listeners: RwLock<Vec<Listener>>,
    trouble: Trouble,
    asking: Mutex<Asking>,
    /// What was counted of the controllers' keys at the last step.
    tallies: Mutex<Vec<(&'static str, Tally)>>,
    /// Places for clients' writes.
    clients: Arc<Semaphore>,
}

impl PlaneHandle {
    /// Why nothing can be written now, if so.
    pub fn trouble(&self) -> Option<Arc<String>> {
        self.shared.trouble.load_full()
    }

    /// What controllers had to look at, by their names.
    pub fn tallies(&self) -> Vec<(&'static str, Tally)> {
        self.shared.tallies.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// The published head.
    pub fn head(&self) -> Arc<Head> {
        self.shared.head.load_full()
    }

    /// Hands a request of the server's own to the plane; the answer comes on the plane's thread once it is durable.
    pub fn ask(&self, request: Request, answer: Answer) {
        match self.asks.try_send(Ask::Request(Box::new(request), answer)) {
            Ok(()) => {}
            Err(TrySendError::Full(Ask::Request(_, answer))) => answer(Reply::failure(too_many())),
            Err(TrySendError::Disconnected(Ask::Request(_, answer))) => {
                answer(Reply::failure(Status::unavailable("the server is shutting down")));
            }
            Err(_) => {}
        }
    }

    /// The same for a client, of whom there may be too many before the inbox is full.
    pub async fn call(&self, request: Request) -> Reply {
        let Ok(place) = Arc::clone(&self.shared.clients).try_acquire_owned() else {
            return Reply::failure(too_many());
        };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.ask(
            request,
            Box::new(move |reply| {
                drop(place);
                let _ = sender.send(reply);
            }),
        );
        receiver.await.unwrap_or_else(|_| Reply::failure(Status::unavailable("the server is shutting down")))
    }

    /// Changes whenever objects of this kind were published.
    pub fn changes(&self, kind: KindName) -> watch::Receiver<Revision> {
        if let Some(sender) = self.shared.kinds.read().unwrap_or_else(|e| e.into_inner()).get(kind) {
            return sender.subscribe();
        }
        let mut kinds = self.shared.kinds.write().unwrap_or_else(|e| e.into_inner());
        kinds.entry(kind).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    /// Has a listener told of every batch from now on.
    pub fn listen(&self, listener: Listener) {
        self.shared.listeners.write().unwrap_or_else(|e| e.into_inner()).push(listener);
    }

    /// Has webhooks asked from now on, and about what waits already.
    pub fn ask_through(&self, asker: Asker) {
        let mut asking = self.shared.asking.lock().unwrap_or_else(|e| e.into_inner());
        if let Asking::NotYet(waiting) = &mut *asking {
            waiting.drain(..).for_each(&asker);
        }
        *asking = Asking::Through(asker);
    }

    /// Hands the plane the answer to a question of its own; waits while it is busy.
    pub fn answer(&self, id: CallId, said: call::Answer) {
        let _ = self.asks.send(Ask::Said(id, Box::new(said)));
    }

    /// Tells the plane what pods use; waits while it is busy.
    pub fn measured(&self, measured: Measured) {
        let _ = self.asks.send(Ask::Measured(Box::new(measured)));
    }

    /// Has webhooks asked about a request, which is decided here when they have answered.
    pub fn resume(&self, plan: Box<CallPlan>, answer: Answer) {
        wait(&self.shared, Waiting::Request(plan, answer));
    }

    /// Ends the plane's thread after what it is doing.
    pub fn stop(&self) {
        let _ = self.asks.send(Ask::Stop);
    }
}

fn too_many() -> Status {
    Status::too_many_requests(REFUSAL, RETRY_SECONDS)
}

/// Does what a batch asks of the shell; the request that brings the product back, unless it failed.
pub type Perform = Box<dyn Fn(Effect) -> Option<Request> + Send>;

/// Starts the thread. `first` is what the first batch asked for.
pub fn start(
    plane: Plane,
    disk: Disk,
    perform: Perform,
    first: Vec<Effect>,
) -> std::io::Result<(PlaneHandle, JoinHandle<()>)> {
    let (asks, inbox) = sync_channel(CLIENT_REQUESTS_MAX + OWN_REQUESTS_MAX);
    let shared = Arc::new(Shared {
        head: ArcSwap::from_pointee(plane.head()),
        kinds: RwLock::new(BTreeMap::new()),
        listeners: RwLock::new(Vec::new()),
        trouble: Trouble::empty(),
        asking: Mutex::new(Asking::NotYet(Vec::new())),
        tallies: Mutex::new(Vec::new()),
        clients: Arc::new(Semaphore::new(CLIENT_REQUESTS_MAX)),
    });
    let handle = PlaneHandle { shared: Arc::clone(&shared), asks };
    let thread = std::thread::Builder::new().name("plane".into()).spawn(move || {
        let products = perform_all(first, &shared, &perform);
        run(plane, disk, inbox, &shared, &perform, products);
    })?;
    Ok((handle, thread))
}

fn run(
    mut plane: Plane,
    mut disk: Disk,
    inbox: Receiver<Ask>,
    shared: &Shared,
    perform: &Perform,
    mut products: Vec<Request>,
) {
    // A start leaves as much behind as a burst.
    let mut untrimmed = WRITES_BEFORE_TRIM;
    loop {
        let wake_at = if products.is_empty() { plane.wake_at() } else { Some(Timestamp::MIN) };
        let Some(gathered) = gather(&inbox, wake_at, &mut untrimmed) else { return };
        let Gathered { mut requests, mut answers, said, measured } = gathered;
        // Nobody waits for these: what was refused is asked for again by the controller that wanted it.
        requests.extend(products.drain(..).map(|request| (UNANSWERED, request)));
        for (id, said) in said {
            plane.answer(id, said);
        }
        if let Some(measured) = measured {
            plane.measured(*measured);
        }
        let batch = plane.step(crate::clock::now(), requests);
        note(shared, plane.tallies());
        if !batch.writes().is_empty() {
            let work = (batch.revision(), batch.writes());
            if persist(&mut disk, work, &mut answers, &inbox, &shared.trouble) == Outcome::GivenUp {
                return;
            }
        }
        untrimmed += batch.writes().len();
        let keys: Vec<Key> = batch.writes().iter().map(|(key, _)| key.clone()).collect();
        let released = batch.synced();
        if !keys.is_empty() {
            publish(shared, released.head, &keys);
            shorten(&mut disk, shared);
        }
        for (id, reply) in released.replies {
            match (answers.get_mut(id as usize).and_then(Option::take), reply) {
                (Some(answer), Reply::Call(plan)) => wait(shared, Waiting::Request(plan, answer)),
                (Some(answer), reply) => answer(reply),
                (None, Reply::Call(plan)) => wait(shared, Waiting::Request(plan, Box::new(drop))),
                (None, _) => {}
            }
        }
        products = perform_all(released.effects, shared, perform);
        for (id, question) in released.calls {
            wait(shared, Waiting::Own(id, question));
        }
        if released.measures {
            wait(shared, Waiting::Usage);
        }
    }
}

/// Has the store's log replaced when it has grown long.
fn shorten(disk: &mut Disk, shared: &Shared) {
    if disk.is_long()
        && let Err(error) = disk.rebase(shared.head.load().store.snapshot.clone())
    {
        say(format_args!("shorten the store's log: {error:#}; it grows until that works"));
    }
}

/// The requests that bring back what was made at once; what takes calls comes back by itself.
fn perform_all(effects: Vec<Effect>, shared: &Shared, perform: &Perform) -> Vec<Request> {
    let mut products = Vec::new();
    for effect in effects {
        match effect.work {
            Work::Sweep(_) => wait(shared, Waiting::Sweep(Box::new(effect))),
            Work::Certificate(_) | Work::Token(_) => products.extend(perform(effect)),
        }
    }
    products
}

fn note(shared: &Shared, tallies: impl Iterator<Item = (&'static str, Tally)>) {
    let mut noted = shared.tallies.lock().unwrap_or_else(|e| e.into_inner());
    noted.clear();
    noted.extend(tallies);
}

fn wait(shared: &Shared, waiting: Waiting) {
    match &mut *shared.asking.lock().unwrap_or_else(|e| e.into_inner()) {
        Asking::NotYet(early) => early.push(waiting),
        Asking::Through(asker) => asker(waiting),
    }
}

/// What goes into one step.
#[derive(Default)]
struct Gathered {
    requests: Vec<(u64, Request)>,
    answers: Vec<Option<Answer>>,
    said: Vec<(CallId, call::Answer)>,
    /// The last.
    measured: Option<Box<Measured>>,
}

/// Waits for requests or the plane's own next moment. None: stop.
fn gather(inbox: &Receiver<Ask>, wake_at: Option<Timestamp>, untrimmed: &mut usize) -> Option<Gathered> {
    let mut gathered = Gathered::default();
    let mut count = 0;
    let wait = match wake_at {
        Some(at) => at.duration_since(crate::clock::now()).try_into().unwrap_or(Duration::ZERO).min(SLEEP_MAX),
        None => SLEEP_MAX,
    };
    let trims = *untrimmed >= WRITES_BEFORE_TRIM && wait > QUIET_BEFORE_TRIM;
    let mut next = match inbox.recv_timeout(if trims { QUIET_BEFORE_TRIM } else { wait }) {
        Ok(ask) => Some(ask),
        Err(RecvTimeoutError::Timeout) => {
            if trims {
                stead_host::trim_memory();
                *untrimmed = 0;
            }
            None
        }
        Err(RecvTimeoutError::Disconnected) => return None,
    };
    while let Some(ask) = next {
        match ask {
            Ask::Stop => return None,
            Ask::Request(request, answer) => {
                gathered.requests.push((gathered.answers.len() as u64, *request));
                gathered.answers.push(Some(answer));
            }
            Ask::Measured(measured) => gathered.measured = Some(measured),
            Ask::Said(id, said) => gathered.said.push((id, *said)),
        }
        count += 1;
        next = if count < BATCH_REQUESTS_MAX { inbox.try_recv().ok() } else { None };
    }
    Some(gathered)
}

fn publish(shared: &Shared, head: Head, keys: &[Key]) {
    let head = Arc::new(head);
    let revision = head.store.snapshot.revision();
    shared.head.store(Arc::clone(&head));
    {
        let kinds = shared.kinds.read().unwrap_or_else(|e| e.into_inner());
        let mut last = "";
        for key in keys.iter().filter(|key| std::mem::replace(&mut last, key.kind) != key.kind) {
            if let Some(sender) = kinds.get(key.kind) {
                sender.send_replace(revision);
            }
        }
    }
    for listener in shared.listeners.read().unwrap_or_else(|e| e.into_inner()).iter() {
        listener(&head, keys);
    }
}
