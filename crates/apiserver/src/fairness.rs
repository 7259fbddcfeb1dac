//! Priority and fairness: whose request is answered now, whose waits, and whose is refused.
//!
//! Pure: `classify.rs` tells a request's flow by the cluster's FlowSchemas, `limits.rs` how many requests of a level may be
//! answered at once, `queues.rs` who of those that wait is next. The shell counts seats and wakes those who wait.
//!
//! What is bounded is requests being answered, in seats. Reads never wait while they hold one, so that they are bounded by the
//! threads there are; writes wait for the plane's next commits, so that the seats bound how many lie between a request and its
//! commit, whoever sent them.

mod classify;
mod limits;
mod queues;

use std::time::Duration;

use stead_api::{Options, Request, Verb};

pub use classify::{Classifier, FLOW_SCHEMAS, FlowSchema, Level, PRIORITY_LEVELS};
pub use limits::{Limits, SEATS, Standing, least_served};
pub use queues::{Queues, Shape, Ticket};

use crate::Head;

/// What is said to those who are refused.
pub const REFUSAL: &str = "too many requests, please try again later";
/// In how many seconds they may come again.
pub const RETRY_SECONDS: u32 = 1;

/// A request may take so long, if its client does not say less; a part of that it may wait for its seat.
const REQUEST_TIME: Duration = Duration::from_secs(60);
const PATIENCE_DIVISOR: u32 = 4;
/// How many objects of a list take a seat, and how many seats it takes at most.
const OBJECTS_PER_SEAT: u64 = 1000;
const WIDTH_MAX: u32 = 10;

/// Why a request is refused, in the words of Kubernetes' metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
}

impl Refused {
    pub const ALL: [Refused; 3] = [Refused::QueueFull, Refused::ConcurrencyLimit, Refused::TimeOut];

    pub fn name(self) -> &'static str {
        match self {
            Refused::QueueFull => "queue-full",
            Refused::ConcurrencyLimit => "concurrency-limit",
            Refused::TimeOut => "time-out",
        }
    }
}

/// Whether a request is not counted at all, because it lasts as long as its client likes. A watch is: until it has begun.
pub fn is_unbounded(request: &Request) -> bool {
    let subresource = request.resource().map_or("", |resource| resource.subresource.as_str());
    request.verb == Verb::Connect || matches!(subresource, "proxy" | "log")
}

/// How long a request may wait for its seat.
pub fn patience(options: &Options) -> Duration {
    let asked = options.param("timeout").and_then(seconds).unwrap_or(REQUEST_TIME);
    asked.min(REQUEST_TIME) / PATIENCE_DIVISOR
}

/// `32s`, `2m`, `500ms`: as clients write it.
fn seconds(text: &str) -> Option<Duration> {
    let millis = |digits: &str, unit: u64| digits.parse::<u64>().ok()?.checked_mul(unit).map(Duration::from_millis);
    let known = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let found = known.into_iter().find_map(|(unit, length)| millis(text.strip_suffix(unit)?, length));
    found.filter(|length| !length.is_zero())
}

/// How many seats a request takes: one, or more for a long list.
pub fn width(head: &Head, request: &Request) -> u32 {
    let Some(resource) = request.resource().filter(|_| request.verb == Verb::List) else { return 1 };
    let kind = head.registry.find(&resource.group, &resource.version, &resource.plural);
    let count = kind.map_or(0, |kind| head.store.snapshot.count(kind.storage) as u64);
    let objects = request.options.limit.map_or(count, |limit| limit.min(count));
    u32::try_from(1 + objects / OBJECTS_PER_SEAT).unwrap_or(WIDTH_MAX).min(WIDTH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_time_may_be_waited() {
        let of = |query: &str| patience(&stead_api::request::options(query).expect("a query"));
        assert_eq!(of(""), Duration::from_secs(15));
        assert_eq!(of("timeout=32s"), Duration::from_secs(8));
        assert_eq!(of("timeout=500ms"), Duration::from_millis(125));
        for query in ["timeout=2h", "timeout=0s", "timeout=much", "timeout=-1s"] {
            assert_eq!(of(query), Duration::from_secs(15), "{query}");
        }
    }

    #[test]
    fn a_long_list_takes_more_seats() {
        let mut server = crate::fixture::Server::new();
        for n in 0..1001 {
            let map = serde_json::json!({"metadata": {"name": format!("m{n}")}});
            server.make("/api/v1/namespaces/default/configmaps", map);
        }
        let of = |line: &str| width(&server.head(), &server.request(line, "").expect("a request"));
        assert_eq!(of("GET /api/v1/configmaps"), 2);
        assert_eq!(of("GET /api/v1/configmaps?limit=500"), 1);
        assert_eq!(of("GET /api/v1/namespaces/default/configmaps/m1"), 1);
        assert_eq!(of("GET /api/v1/pods"), 1);
    }
}
