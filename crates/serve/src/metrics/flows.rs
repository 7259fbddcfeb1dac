//! What became of requests by their FlowSchemas and levels, under Kubernetes' names.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use stead_apiserver::fairness::Refused;

use super::family::{family, histogram};
use crate::Server;
use crate::fairness::Counts;

type Value = fn(&Counts) -> u64;

const FAMILIES: [(&str, &str, &str, Value); 3] = [
    (
        "apiserver_flowcontrol_dispatched_requests_total",
        "counter",
        "[BETA] Number of requests executed by API Priority and Fairness subsystem",
        |counts| counts.dispatched.load(Relaxed),
    ),
    (
        "apiserver_flowcontrol_current_executing_requests",
        "gauge",
        "[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and \
         Fairness subsystem",
        |counts| {
            let ended = counts.ended.load(Relaxed);
            counts.dispatched.load(Relaxed).saturating_sub(ended)
        },
    ),
    (
        "apiserver_flowcontrol_current_inqueue_requests",
        "gauge",
        "[BETA] Number of requests currently pending in queues of the API Priority and Fairness subsystem",
        |counts| counts.waiting.load(Relaxed),
    ),
];

pub(super) fn write(out: &mut String, server: &Server) {
    let all: Vec<(String, Arc<Counts>)> = server
        .fairness
        .counts()
        .into_iter()
        .map(|(schema, level, counts)| (format!("flow_schema=\"{schema}\",priority_level=\"{level}\""), counts))
        .collect();
    for (name, kind, help, value) in FAMILIES {
        family(out, name, kind, help);
        for (labels, counts) in &all {
            let _ = writeln!(out, "{name}{{{labels}}} {}", value(counts));
        }
    }
    let name = "apiserver_flowcontrol_rejected_requests_total";
    family(out, name, "counter", "[BETA] Number of requests rejected by API Priority and Fairness subsystem");
    for (labels, counts) in &all {
        for (why, count) in Refused::ALL.into_iter().zip(&counts.refused) {
            let count = count.load(Relaxed);
            if count > 0 {
                let _ = writeln!(out, "{name}{{{labels},reason=\"{}\"}} {count}", why.name());
            }
        }
    }
    let name = "apiserver_flowcontrol_request_wait_duration_seconds";
    family(out, name, "histogram", "[BETA] Length of time a request spent waiting in its queue");
    for (labels, counts) in &all {
        histogram(out, name, &format!("execute=\"false\",{labels}"), &counts.waited_in_vain);
        histogram(out, name, &format!("execute=\"true\",{labels}"), &counts.waited);
    }
    let name = "apiserver_flowcontrol_request_execution_seconds";
    let help = "[ALPHA] Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API \
                Priority and Fairness subsystem";
    family(out, name, "histogram", help);
    for (labels, counts) in &all {
        histogram(out, name, &format!("{labels},type=\"regular\""), &counts.executed);
        histogram(out, name, &format!("{labels},type=\"watch\""), &counts.watches_begun);
    }
    let levels = server.fairness.levels();
    let name = "apiserver_flowcontrol_nominal_limit_seats";
    family(out, name, "gauge", "[BETA] Nominal number of execution seats configured for each priority level");
    for level in &levels {
        let _ = writeln!(out, "{name}{{priority_level=\"{}\"}} {}", level.name, level.standing().nominal);
    }
    let name = "apiserver_flowcontrol_current_executing_seats";
    let help = "[BETA] Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage \
                otherwise) requests in the API Priority and Fairness subsystem";
    family(out, name, "gauge", help);
    for level in &levels {
        let _ = writeln!(out, "{name}{{priority_level=\"{}\"}} {}", level.name, level.standing().executing);
    }
}
