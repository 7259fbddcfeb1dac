//! Requests that come again: a decision that meets an open question stops, and is made from the start when the answer is there.
//!
//! Contract: what is decided again gives the same names and uids and is of the same time, so that it asks the same questions; what
//! others have changed since is seen, and asked about again. Both the rounds and the time are bounded.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use stead_api::call::{Question, Replay};
use stead_api::{Remarks, Request, Resource, Status, Verb};

use crate::halt::Halt;
use crate::reply::CallPlan;
use crate::{Context, Head, Ids, Reply, access, connect, read, webhook, write};

/// How often a request is decided.
pub const ROUNDS_MAX: u32 = 100;
/// How long a request may go on asking.
pub const ASKING_MAX: SignedDuration = SignedDuration::from_secs(60);

pub(crate) fn write(ctx: &mut Context, request: &Request) -> Reply {
    let is_pinned = request.replay.as_ref().is_some_and(|replay| !replay.asks_nobody);
    if !is_pinned && !may_ask(ctx, request) {
        return write::serve(ctx, request).unwrap_or_else(|_| Reply::failure(Status::internal("nobody can be asked")));
    }
    let mut replay = request.replay.as_deref().cloned();
    let replay = replay.get_or_insert_with(|| Replay::begin(ctx.now, ctx.ids.next_u64()));
    if left(request, replay, ctx.now).is_none() {
        return too_late();
    }
    let mut ids = Ids::seeded(replay.seed);
    let now = ctx.now;
    let is_deletion = matches!(request.verb, Verb::Delete | Verb::DeleteCollection);
    let mut pinned = Context {
        // A grace period begins when the deletion is granted.
        now: if is_deletion { now } else { replay.began },
        store: ctx.store,
        registry: ctx.registry,
        ids: &mut ids,
        cluster: ctx.cluster,
    };
    match write::serve(&mut pinned, request) {
        Ok(reply) => reply,
        Err(questions) => ask(request, replay, now, questions),
    }
}

/// Whether somebody may have to be asked.
fn may_ask(ctx: &Context, request: &Request) -> bool {
    let by_webhook = |resource: &Resource| {
        ctx.registry.find(&resource.group, &resource.version, &resource.plural).is_some_and(|kind| kind.by_webhook)
    };
    webhook::is_concerned(ctx.store.snapshot(), request) || request.resource().is_some_and(by_webhook)
}

pub(crate) fn read(head: &Head, now: Timestamp, request: &Request) -> Reply {
    if request.replay.as_ref().is_some_and(|replay| !replay.asks_nobody && left(request, replay, now).is_none()) {
        return too_late();
    }
    let mut remarks = Remarks::about(request);
    let reply = read::serve(head, now, request, &mut remarks);
    reply.unwrap_or_else(|halt| halted(halt, now, request)).with_remarks(remarks)
}

/// What roles and webhooks say about a connection that `serve_read` does not make: a refusal, that they are to be asked, or nothing.
pub fn permit_connection(head: &Head, now: Timestamp, request: &Request, remarks: &mut Remarks) -> Option<Reply> {
    let resource = request.resource()?;
    let kind = head.registry.find(&resource.group, &resource.version, &resource.plural)?;
    let permitted = access::authorize_request(&head.store.snapshot, request).map_err(Halt::from);
    let permitted = permitted.and_then(|()| connect::permit(head, request, kind, remarks));
    permitted.err().map(|halt| halted(halt, now, request))
}

fn halted(halt: Halt, now: Timestamp, request: &Request) -> Reply {
    match halt {
        Halt::Refused(status) => Reply::failure(status),
        Halt::Asks(questions) => {
            let replay = request.replay.as_deref().cloned().unwrap_or_else(|| Replay::begin(now, 0));
            ask(request, &replay, now, questions)
        }
    }
}

/// The questions of a request that halted, unless it has asked for too long.
pub(crate) fn ask(request: &Request, replay: &Replay, now: Timestamp, questions: Vec<Question>) -> Reply {
    let Some(within) = left(request, replay, now) else { return too_late() };
    if replay.rounds >= ROUNDS_MAX {
        let resource = request.resource().cloned().unwrap_or_default();
        return Reply::failure(Status::modified(&resource.group, &resource.plural, &resource.name));
    }
    let replay = Replay { rounds: replay.rounds + 1, ..replay.clone() };
    let request = Request { replay: Some(Box::new(replay)), ..request.clone() };
    Reply::Call(Box::new(CallPlan { request, questions, within }))
}

/// How long a request may still ask: its own limit counts, too. None: it is over.
fn left(request: &Request, replay: &Replay, now: Timestamp) -> Option<Duration> {
    let own = request.options.param("timeout").and_then(|text| text.parse::<SignedDuration>().ok());
    let limit = own.filter(SignedDuration::is_positive).map_or(ASKING_MAX, |own| own.min(ASKING_MAX));
    let left = limit - now.duration_since(replay.began);
    left.is_positive().then(|| left.unsigned_abs())
}

fn too_late() -> Reply {
    Reply::failure(Status::timeout("Timeout: request did not complete within requested timeout"))
}
