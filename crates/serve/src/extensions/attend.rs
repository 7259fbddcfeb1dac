//! One task per extension: ask whether it answers, write that down, learn what it serves, and wait for a reason to ask again.
//!
//! A reason is a change of its APIService, its Service or their endpoints, or that some time has passed; an extension that fails
//! is asked again soon, and ever less often.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use stead_api::{Revision, User};
use stead_apiserver::{API_SERVICES, Availability, Extension, extensions};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::call::{ask, masters};
use super::learn;
use crate::plane::PlaneHandle;
use crate::{Server, clock};

/// How often one that answers is asked.
const RESYNC: Duration = Duration::from_secs(30);
/// How soon one that fails is asked again: at first, and at the slowest.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_SLOWEST: Duration = Duration::from_secs(30);

/// Follows the APIServices for as long as the server lives.
pub fn start(server: &Arc<Server>) {
    let changes = server.plane.changes(API_SERVICES);
    tokio::spawn(follow(Arc::downgrade(server), changes));
}

async fn follow(server: Weak<Server>, mut changes: watch::Receiver<Revision>) {
    let mut attended: BTreeMap<String, AbortHandle> = BTreeMap::new();
    loop {
        {
            let Some(server) = server.upgrade() else { return };
            let found = extensions(&server.plane.head().store.snapshot);
            let routes: BTreeMap<String, Extension> = found.into_iter().map(|one| (one.name.clone(), one)).collect();
            attended.retain(|name, task| {
                let stays = routes.contains_key(name);
                if !stays {
                    task.abort();
                    server.extensions.told.lock().unwrap_or_else(|e| e.into_inner()).remove(name);
                }
                stays
            });
            for name in routes.keys() {
                let task = || tokio::spawn(attend(Arc::downgrade(&server), name.clone())).abort_handle();
                attended.entry(name.clone()).or_insert_with(task);
            }
            server.extensions.routes.store(Arc::new(routes));
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// What is news to an extension.
struct News([watch::Receiver<Revision>; 3]);

impl News {
    fn of(plane: &PlaneHandle) -> News {
        News([API_SERVICES, "services", "endpointslices.discovery.k8s.io"].map(|kind| plane.changes(kind)))
    }

    async fn next(&mut self) {
        let [a, b, c] = &mut self.0;
        let _ = tokio::select! {
            heard = a.changed() => heard,
            heard = b.changed() => heard,
            heard = c.changed() => heard,
        };
    }
}

/// What a verdict was made of: the extension as declared, and the objects behind it.
#[derive(PartialEq)]
struct Seen {
    declared: Extension,
    behind: Vec<u64>,
}

fn look(server: &Server, name: &str) -> Option<Seen> {
    let head = server.plane.head();
    let mut all = extensions(&head.store.snapshot).into_iter();
    let found = all.find(|one| one.name == name)?;
    let behind = found.circumstances(&head.store.snapshot);
    // Whether it is available is what is written, not what is asked.
    Some(Seen { declared: Extension { is_available: false, ..found }, behind })
}

async fn attend(server: Weak<Server>, name: String) {
    let mut pause = RETRY_FIRST;
    loop {
        let (mut news, seen, wait) = {
            let Some(server) = server.upgrade() else { return };
            let news = News::of(&server.plane);
            let Some(seen) = look(&server, &name) else { return };
            let verdict = judge(&server, &seen.declared).await;
            tell(&server, &name, &verdict).await;
            let answers = verdict.status == "True";
            learn::learn(&server, &seen.declared, answers).await;
            pause = if answers { RETRY_FIRST } else { (pause * 2).min(RETRY_SLOWEST) };
            (news, seen, if answers { RESYNC } else { pause })
        };
        let until = Instant::now() + wait;
        loop {
            if timeout_at(until, news.next()).await.is_err() {
                break;
            }
            let Some(server) = server.upgrade() else { return };
            if look(&server, &name).as_ref() != Some(&seen) {
                break;
            }
        }
    }
}

/// Whether an extension answers, as the cluster's objects and a call to it tell.
async fn judge(server: &Arc<Server>, extension: &Extension) -> Availability {
    let head = server.plane.head();
    if let Some(obstacle) = extension.obstacle(&head.store.snapshot) {
        return obstacle;
    }
    drop(head);
    match ask(server, extension, &extension.path(), "application/json").await {
        Ok(_) => Availability::passed(),
        Err(why) => Availability::failed("FailedDiscoveryCheck", why),
    }
}

/// Writes a verdict into the APIService; another write in between is no reason to give up.
async fn tell(server: &Arc<Server>, name: &str, verdict: &Availability) {
    const ATTEMPTS_MAX: u32 = 5;
    for attempt in 0..ATTEMPTS_MAX {
        let head = server.plane.head();
        let user = Arc::new(User { name: "system:apiserver".into(), groups: masters(), ..User::default() });
        let write = stead_apiserver::tell_availability(&head.store.snapshot, user, name, clock::now(), verdict);
        drop(head);
        let Some(write) = write else { return };
        if server.plane.call(write).await.status().is_none() {
            return;
        }
        sleep_until(Instant::now() + Duration::from_millis(20 << attempt)).await;
    }
}
