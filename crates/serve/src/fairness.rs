//! Seats for requests, and those who wait for one.
//!
//! What is decided is in `stead_apiserver::fairness`; here it is carried out. A request that finds a seat takes no lock: it loads
//! the schemas as they are compiled, and counts. Only where there is none are the queues locked, for a moment and never across
//! an await. Agents and controllers of this process do not come over HTTP: they take no seat and wait for none.

mod line;
mod seats;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use stead_api::{Key, Request, Status, Verb};
use stead_apiserver::Head;
use stead_apiserver::fairness::{
    Classifier, FLOW_SCHEMAS, PRIORITY_LEVELS, REFUSAL, RETRY_SECONDS, Refused, is_unbounded, patience, width,
};
use stead_kinds::flowcontrol::defaults::EXEMPT;
use stead_store::Snapshot;
use tokio::sync::Semaphore;

use crate::metrics::SeatTimes;
use crate::plane::PlaneHandle;
use line::{Entered, Line};
pub use seats::Level;
use seats::{Grant, Pool};

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

pub struct Fairness {
    current: ArcSwap<Current>,
    pool: Pool,
    line: Line,
    /// Turns at making long answers: more at once than there are processors would only keep short ones from them.
    pub encoding: Semaphore,
}

/// The schemas and levels as they are now.
pub struct Current {
    classifier: Classifier,
    /// Of the classifier's levels, in their order.
    levels: Vec<Arc<Level>>,
    /// Of its schemas.
    tags: Vec<Tag>,
}

/// What the requests of a schema have in common.
struct Tag {
    schema_uid: Option<HeaderValue>,
    level_uid: Option<HeaderValue>,
    counts: Arc<Counts>,
}

/// What became of the requests of a schema.
#[derive(Default)]
pub struct Counts {
    pub dispatched: AtomicU64,
    pub ended: AtomicU64,
    pub waiting: AtomicU64,
    pub refused: [AtomicU64; Refused::ALL.len()],
    /// How long those who got a seat had waited for it, and those who got none.
    pub waited: SeatTimes,
    pub waited_in_vain: SeatTimes,
    /// How long seats were held: to the end, and until a watch began.
    pub executed: SeatTimes,
    pub watches_begun: SeatTimes,
}

/// Where a request belongs, and its seat once it has one, which it gives back at its end.
pub struct Flow<'a> {
    fairness: &'a Fairness,
    current: Arc<Current>,
    schema: usize,
    grant: Option<(Grant, Instant)>,
    is_watch: bool,
}

impl Fairness {
    /// That of the plane's head, now and whenever it changes.
    pub fn follow(plane: &PlaneHandle) -> Arc<Fairness> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let fairness = Arc::new(Fairness {
            current: ArcSwap::from_pointee(Current::of(Classifier::of(&Snapshot::default()), Vec::new(), None)),
            pool: Pool::default(),
            line: Line::default(),
            encoding: Semaphore::new(processors),
        });
        let follower = Arc::clone(&fairness);
        // A change of them is compiled before its writer has its reply, so that it holds from then on.
        plane.listen(Box::new(move |head: &Arc<Head>, keys: &[Key]| {
            if keys.iter().any(|key| matches!(key.kind, FLOW_SCHEMAS | PRIORITY_LEVELS)) {
                follower.configure(&head.store.snapshot);
            }
        }));
        fairness.configure(&plane.head().store.snapshot);
        fairness
    }

    fn configure(&self, snapshot: &Snapshot) {
        let classifier = Classifier::of(snapshot);
        self.pool.resize(classifier.pool);
        let levels = self.line.configure(&self.pool, &classifier.levels);
        let current = Current::of(classifier, levels, Some(&self.current.load()));
        self.current.store(Arc::new(current));
    }

    /// Where a request belongs; nowhere, if it may last as long as its client likes.
    pub fn classify(&self, request: &Request) -> Option<Flow<'_>> {
        if is_unbounded(request) {
            return None;
        }
        let current = self.current.load_full();
        let schema = current.classifier.classify(request);
        let is_watch = request.verb == Verb::Watch;
        Some(Flow { fairness: self, current, schema, grant: None, is_watch })
    }

    /// Names of schema and level, and what became of their requests.
    pub fn counts(&self) -> Vec<(String, String, Arc<Counts>)> {
        let current = self.current.load();
        let schemas = current.classifier.schemas.iter().zip(&current.tags);
        let named = schemas.map(|(schema, tag)| {
            let level = current.levels.get(schema.level).map_or_else(String::new, |level| level.name.clone());
            (schema.name.clone(), level, Arc::clone(&tag.counts))
        });
        named.collect()
    }

    pub fn levels(&self) -> Vec<Arc<Level>> {
        self.current.load().levels.clone()
    }
}

impl Current {
    fn of(classifier: Classifier, levels: Vec<Arc<Level>>, old: Option<&Current>) -> Current {
        let uid = |text: &str| (!text.is_empty()).then(|| HeaderValue::from_str(text).ok()).flatten();
        let tags = classifier.schemas.iter().map(|schema| {
            let level = &classifier.levels[schema.level];
            // Counts go on for as long as the schema leads to the same level.
            let known = old.and_then(|old| {
                let at = old.classifier.schemas.iter().position(|one| one.name == schema.name)?;
                let was_of = &old.classifier.levels[old.classifier.schemas[at].level].name;
                (*was_of == level.name).then(|| Arc::clone(&old.tags[at].counts))
            });
            Tag { schema_uid: uid(&schema.uid), level_uid: uid(&level.uid), counts: known.unwrap_or_default() }
        });
        Current { tags: tags.collect(), classifier, levels }
    }
}

impl Flow<'_> {
    /// Takes a seat, or waits for one.
    ///
    /// # Errors
    /// 429 when the level's queues are full, it has none, or the wait was too long.
    pub async fn admit(&mut self, head: &Head, request: &Request) -> Result<(), Status> {
        let current = &*self.current;
        let (counts, schema) = (&current.tags[self.schema].counts, &current.classifier.schemas[self.schema]);
        let Some(level) = current.levels.get(schema.level) else { return Ok(()) };
        let (line, pool) = (&self.fairness.line, &self.fairness.pool);
        let width = width(head, request);
        let mut waited = Duration::ZERO;
        let granted = match line.at_once(pool, level, width) {
            Some(grant) => Ok(grant),
            None => match line.enter(pool, level, schema.flow(request), width) {
                Entered::Granted(grant) => Ok(grant),
                Entered::Refused(why) => Err(why),
                Entered::Waits(place) => {
                    counts.waiting.fetch_add(1, Relaxed);
                    let _waits = Waits(counts);
                    let begun = Instant::now();
                    let outcome = place.wait(patience(&request.options)).await;
                    waited = begun.elapsed();
                    outcome
                }
            },
        };
        match granted {
            Ok(grant) => {
                counts.dispatched.fetch_add(1, Relaxed);
                // An exempt request does not come to a queue.
                if level.name != EXEMPT {
                    counts.waited.add(waited);
                }
                self.grant = Some((grant, Instant::now()));
                Ok(())
            }
            Err(why) => {
                counts.refused[why as usize].fetch_add(1, Relaxed);
                counts.waited_in_vain.add(waited);
                Err(Status::too_many_requests(REFUSAL, RETRY_SECONDS))
            }
        }
    }

    /// Says in a response where its request belonged.
    pub fn mark(&self, headers: &mut HeaderMap) {
        let tag = &self.current.tags[self.schema];
        for (name, uid) in [(SCHEMA_UID, &tag.schema_uid), (LEVEL_UID, &tag.level_uid)] {
            if let Some(uid) = uid {
                headers.insert(name, uid.clone());
            }
        }
    }
}

/// One that waits, also when its client goes away.
struct Waits<'a>(&'a Counts);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

impl Drop for Flow<'_> {
    fn drop(&mut self) {
        let Some((grant, since)) = self.grant.take() else { return };
        let counts = &self.current.tags[self.schema].counts;
        counts.ended.fetch_add(1, Relaxed);
        let times = if self.is_watch { &counts.watches_begun } else { &counts.executed };
        times.add(since.elapsed());
        let level = &self.current.levels[self.current.classifier.schemas[self.schema].level];
        self.fairness.line.give_back(&self.fairness.pool, level, grant);
    }
}
