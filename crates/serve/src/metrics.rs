//! What the server counts of its requests, and `/metrics` in Prometheus' text.
//!
//! Counting takes no lock, and allocates only the first time that a combination of labels is seen: each has a place of its own in a
//! table of fixed size, found by a hash of its labels. What finds no place is counted under empty labels.

mod family;
mod flows;
mod histogram;
mod labels;
mod process;
pub mod table;
pub mod text;

pub use family::family;
pub use process::facts as process_facts;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use stead_api::{Request, Target, Verb};
use stead_apiserver::Head;

use histogram::Histogram;
pub use histogram::SeatTimes;
use labels::Labels;
use table::Table;

#[derive(Default)]
pub struct Metrics {
    /// Requests by their labels and the answer's code.
    requests: Table<AtomicU64>,
    durations: Table<Histogram>,
    reading: AtomicI64,
    writing: AtomicI64,
}

/// A request that is being answered.
pub struct InFlight<'a> {
    labels: Labels<'static>,
    takes_long: bool,
    gauge: Option<&'a AtomicI64>,
    since: Instant,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(gauge) = self.gauge {
            gauge.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Metrics {
    /// Counts a request as one that is being answered; those that take as long as their client likes are not.
    pub fn begin(&self, head: &Head, request: &Request) -> InFlight<'_> {
        let takes_long = takes_long(request);
        let gauge = match request.verb {
            _ if takes_long => None,
            Verb::Get | Verb::List => Some(&self.reading),
            _ => Some(&self.writing),
        };
        if let Some(gauge) = gauge {
            gauge.fetch_add(1, Ordering::Relaxed);
        }
        InFlight { labels: labels(head, request), takes_long, gauge, since: Instant::now() }
    }

    /// Counts a request that was answered; None: it was refused before it was understood.
    pub fn end(&self, begun: Option<InFlight>, code: u16) {
        let labels = begun.as_ref().map_or([""; 6], |begun| begun.labels);
        let mut digits = [0; 3];
        self.requests.with(&labels, code_text(code, &mut digits), |count| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        if let Some(begun) = begun.filter(|begun| !begun.takes_long) {
            self.durations.with(&labels, "", |histogram| histogram.add(begun.since.elapsed()));
        }
    }
}

fn code_text(code: u16, digits: &mut [u8; 3]) -> &str {
    for (place, digit) in [100, 10, 1].into_iter().zip(digits.iter_mut()) {
        *digit = b'0' + (code / place % 10) as u8;
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

fn takes_long(request: &Request) -> bool {
    let subresource = request.resource().map_or("", |resource| resource.subresource.as_str());
    matches!(request.verb, Verb::Watch | Verb::Connect) || matches!(subresource, "proxy" | "log")
}

/// What nobody serves has no labels: anybody can ask for it under any name.
fn labels(head: &Head, request: &Request) -> Labels<'static> {
    let verb = verb_text(request.verb);
    let Target::Resource(resource) = &request.target else { return ["", "", "", "", "", verb] };
    let Some(kind) = head.registry.find(&resource.group, &resource.version, &resource.plural) else {
        return ["", "", "", "", "", verb];
    };
    let known = kind.subresources.iter().map(|one| one.name()).find(|name| *name == resource.subresource);
    let scope = match (resource.name.is_empty(), resource.namespace.is_empty()) {
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    };
    [kind.group, kind.version, kind.plural, known.unwrap_or(""), scope, verb]
}

fn verb_text(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch(_) => "PATCH",
        Verb::Delete => "DELETE",
        Verb::DeleteCollection => "DELETECOLLECTION",
        Verb::Connect => "CONNECT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_written_without_allocating() {
        assert_eq!(code_text(404, &mut [0; 3]), "404");
    }
}
