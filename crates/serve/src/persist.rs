//! Commits, however long the disk refuses.
//!
//! Guarantees (Durable): a batch that was decided is kept and tried again until the disk takes it; meanwhile nothing of it is seen,
//! its writers are told after a moment that nobody knows yet, and writes that come later are refused with what to do. Reads go on.
//! Only `stop` gives up, and then the batch was never acknowledged.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use stead_api::{Key, Revision, Status};
use stead_apiserver::Reply;

use crate::asks::{Answer, Ask};
use crate::disk::Disk;
use crate::say::say;

/// How often the disk is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// How long the writers of the batch wait for an answer before they are told why there is none.
const HOLD: Duration = Duration::from_secs(5);

/// What the disk says while it refuses; None while it works.
pub type Trouble = ArcSwapOption<String>;

/// The end of a batch.
#[derive(PartialEq, Eq)]
pub enum Outcome {
    Durable,
    /// Asked to stop before the disk took it.
    GivenUp,
}

/// Makes a batch durable.
pub fn persist(
    disk: &mut Disk,
    (revision, writes): (Revision, &[(Key, Option<bytes::Bytes>)]),
    answers: &mut [Option<Answer>],
    inbox: &Receiver<Ask>,
    trouble: &Trouble,
) -> Outcome {
    let Err(error) = disk.commit(revision, writes) else { return Outcome::Durable };
    let why = format!("the disk of {} refuses writes ({error:#}): free space there", disk.place().display());
    say(format_args!("{why}; writes wait, reads go on"));
    trouble.store(Some(Arc::new(why.clone())));
    let began = Instant::now();
    loop {
        if began.elapsed() >= HOLD {
            let unknown = format!("{why}; this write is tried again until then, so look before you repeat it");
            for answer in answers.iter_mut().filter_map(Option::take) {
                answer(Reply::failure(Status::timeout(&unknown)));
            }
        }
        if !refuse_for(RETRY, &why, inbox) {
            return Outcome::GivenUp;
        }
        if let Err(error) = disk.reopen() {
            say(format_args!("open the store again: {error:#}"));
            continue;
        }
        if disk.commit(revision, writes).is_ok() {
            say(format_args!("the disk takes writes again"));
            trouble.store(None);
            return Outcome::Durable;
        }
    }
}

/// Refuses what comes, for a while. False: it is time to stop.
fn refuse_for(length: Duration, why: &str, inbox: &Receiver<Ask>) -> bool {
    let until = Instant::now() + length;
    loop {
        match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Ask::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
            // It is asked again when nothing has come for a while.
            Ok(Ask::Said(..) | Ask::Measured(_)) => {}
            Ok(Ask::Request(_, answer)) => {
                // No Retry-After: clients would come again in silence, and nobody would read why.
                let status = Status::unavailable(format!("{why}; this write was not made"));
                answer(Reply::failure(status));
            }
        }
    }
}
