//! `/metrics`: everything that is counted, in Prometheus' text format.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use stead_control::Tally;

use super::family::{family, histogram};
use super::process;
use super::table::Place;
use crate::Server;

/// The whole document.
pub fn all(server: &Server) -> String {
    let mut out = String::with_capacity(64 << 10);
    requests(&mut out, server);
    in_flight(&mut out, server);
    super::flows::write(&mut out, server);
    objects(&mut out, server);
    controllers(&mut out, server);
    build(&mut out);
    for (name, kind, help, value) in process::facts() {
        family(&mut out, name, kind, help);
        let _ = writeln!(out, "{name} {value}");
    }
    out
}

fn labels<T>(place: &Place<T>) -> String {
    let [group, version, resource, subresource, scope, verb] = &place.labels;
    format!(
        "component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",\
         subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
    )
}

fn requests(out: &mut String, server: &Server) {
    let name = "apiserver_request_total";
    let help = "[STABLE] Counter of apiserver requests broken out for each verb, group, version, resource, scope, \
                component, and HTTP response code.";
    family(out, name, "counter", help);
    for place in server.metrics.requests.all() {
        let count = place.value.load(Ordering::Relaxed);
        if count > 0 {
            let _ = writeln!(out, "{name}{{code=\"{}\",{}}} {count}", place.code, labels(place));
        }
    }
    let name = "apiserver_request_duration_seconds";
    let help = "[STABLE] Response latency distribution in seconds for each verb, group, version, resource, subresource, \
                scope and component.";
    family(out, name, "histogram", help);
    for place in server.metrics.durations.all() {
        histogram(out, name, &labels(place), &place.value);
    }
}

fn in_flight(out: &mut String, server: &Server) {
    let name = "apiserver_current_inflight_requests";
    let help = "[STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last \
                second.";
    family(out, name, "gauge", help);
    for (kind, gauge) in [("mutating", &server.metrics.writing), ("readOnly", &server.metrics.reading)] {
        let _ = writeln!(out, "{name}{{request_kind=\"{kind}\"}} {}", gauge.load(Ordering::Relaxed));
    }
}

fn objects(out: &mut String, server: &Server) {
    let head = server.plane.head();
    let snapshot = &head.store.snapshot;
    let name = "apiserver_storage_objects";
    let help = "[STABLE] Number of stored objects at the time of last check split by kind.";
    family(out, name, "gauge", help);
    for kind in snapshot.kinds() {
        let _ = writeln!(out, "{name}{{resource=\"{kind}\"}} {}", snapshot.count(kind));
    }
    family(out, "stead_store_revision", "counter", "Revision of the last durable write.");
    let _ = writeln!(out, "stead_store_revision {}", snapshot.revision());
    let name = "stead_store_trouble";
    family(out, name, "gauge", "1 while the disk refuses writes, 0 otherwise.");
    let _ = writeln!(out, "{name} {}", u8::from(server.plane.trouble().is_some()));
}

fn controllers(out: &mut String, server: &Server) {
    let tallies = server.plane.tallies();
    type Value = fn(&Tally) -> u64;
    let families: [(&str, &str, &str, Value); 3] = [
        ("workqueue_depth", "gauge", "[ALPHA] Current depth of workqueue", |tally| tally.depth),
        ("workqueue_adds_total", "counter", "[ALPHA] Total number of adds handled by workqueue", |tally| tally.adds),
        ("workqueue_retries_total", "counter", "[ALPHA] Total number of retries handled by workqueue", |tally| {
            tally.retries
        }),
    ];
    for (name, kind, help, value) in families {
        family(out, name, kind, help);
        for (controller, tally) in &tallies {
            let _ = writeln!(out, "{name}{{name=\"{controller}\"}} {}", value(tally));
        }
    }
}

fn build(out: &mut String) {
    let name = "kubernetes_build_info";
    let help =
        "A metric with a constant '1' value labeled by major, minor, git version and platform from which it was built.";
    family(out, name, "gauge", help);
    let version = crate::KUBERNETES_VERSION;
    let (major, minor) = version.trim_start_matches('v').split_once('.').unwrap_or(("", ""));
    let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let _ = writeln!(
        out,
        "{name}{{git_version=\"{version}.0+stead\",major=\"{major}\",minor=\"{minor}\",platform=\"{platform}\"}} 1"
    );
}
