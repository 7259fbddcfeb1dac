//! Startup, readiness and liveness as state machines over (now, result).
//!
//! Guarantees: defaults of SC-06; while a startup probe has not succeeded, nothing else is asked; a verdict flips after its
//! threshold of equal results in a row; a failed startup or liveness verdict holds until the container is restarted. One
//! question per kind is under way at a time. A container that was never ready is asked sooner than its period, as upstream
//! allows, so that a StatefulSet does not wait out 10 s for an application that took 300 ms.
//! Upstream: pkg/kubelet/prober/worker.go.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{self as core, Probe};

use crate::action::{ProbeKind, ProbeResult};
use crate::event::Note;

/// First wait between two questions to a container that was never ready; doubles up to its period.
const EARLY_FIRST: SignedDuration = SignedDuration::from_millis(20);

/// One probe of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asking {
    is_under_way: bool,
    next_at: Option<Timestamp>,
    /// The last result and how many times it came in a row.
    last: Option<bool>,
    in_a_row: i32,
    verdict: Option<bool>,
    /// Whether the verdict ever was success, and early questions until then.
    has_succeeded: bool,
    early: u32,
}

/// The probes of one attempt of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    startup: Asking,
    readiness: Asking,
    liveness: Asking,
}

/// The probe of a kind, if the container has it.
pub fn of(container: &core::Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
    }
}

fn seconds(value: Option<i32>, default: i32) -> SignedDuration {
    let value = value.filter(|v| *v > 0).unwrap_or(default);
    SignedDuration::from_secs(value.into())
}

pub fn threshold(value: Option<i32>, default: i32) -> i32 {
    value.filter(|v| *v > 0).unwrap_or(default)
}

fn period(probe: &Probe) -> SignedDuration {
    seconds(probe.period_seconds, 10)
}

impl Probes {
    /// The probes of a container that an earlier life of the agent started: what was true stays true until asked again.
    pub fn adopted(started: bool, ready: bool) -> Probes {
        let settled =
            |verdict: bool| Asking { verdict: verdict.then_some(true), has_succeeded: verdict, ..Asking::default() };
        Probes { startup: settled(started), readiness: settled(ready), liveness: Asking::default() }
    }

    fn asking(&mut self, kind: ProbeKind) -> &mut Asking {
        match kind {
            ProbeKind::Startup => &mut self.startup,
            ProbeKind::Readiness => &mut self.readiness,
            ProbeKind::Liveness => &mut self.liveness,
        }
    }

    /// No startup probe, or it has succeeded.
    pub fn has_started(&self, container: &core::Container) -> bool {
        container.startup_probe.is_none() || self.startup.verdict == Some(true)
    }

    pub fn is_ready(&self, container: &core::Container) -> bool {
        self.has_started(container) && (container.readiness_probe.is_none() || self.readiness.verdict == Some(true))
    }

    /// The probe because of which the container must be restarted.
    pub fn failed(&self, container: &core::Container) -> Option<&'static str> {
        if container.startup_probe.is_some() && self.startup.verdict == Some(false) {
            return Some("startup");
        }
        (container.liveness_probe.is_some() && self.liveness.verdict == Some(false)).then_some("liveness")
    }

    /// `terminationGracePeriodSeconds` of the probe that failed.
    pub fn failed_grace(&self, container: &core::Container) -> Option<i64> {
        let probe = match self.failed(container)? {
            "startup" => container.startup_probe.as_ref(),
            _ => container.liveness_probe.as_ref(),
        };
        probe?.termination_grace_period_seconds
    }

    /// The question is on its way.
    pub fn issued(&mut self, kind: ProbeKind) {
        self.asking(kind).is_under_way = true;
    }

    /// The machine could not ask: try again in a period.
    pub fn lost(&mut self, container: &core::Container, kind: ProbeKind, at: Timestamp) {
        let wait = of(container, kind).map_or(EARLY_FIRST, period);
        let asking = self.asking(kind);
        asking.is_under_way = false;
        asking.next_at = Some(at + wait);
    }

    /// Takes an answer; tells what to say about it.
    pub fn answered(
        &mut self,
        container: &core::Container,
        kind: ProbeKind,
        result: &ProbeResult,
        asked_at: Timestamp,
    ) -> Option<Note> {
        let probe = of(container, kind)?;
        let period = period(probe);
        let asking = self.asking(kind);
        asking.is_under_way = false;
        asking.next_at = Some(asked_at + period);
        let is_success = match result {
            ProbeResult::Success => true,
            ProbeResult::Failure(_) => false,
            ProbeResult::Unknown(_) => return None,
        };
        asking.in_a_row = if asking.last == Some(is_success) { asking.in_a_row.saturating_add(1) } else { 1 };
        asking.last = Some(is_success);
        let needed = match is_success {
            true if kind == ProbeKind::Readiness => threshold(probe.success_threshold, 1),
            true => 1,
            false => threshold(probe.failure_threshold, 3),
        };
        if asking.in_a_row >= needed {
            asking.verdict = Some(is_success);
            asking.has_succeeded |= is_success;
        }
        let mut is_early = false;
        if kind == ProbeKind::Readiness && !asking.has_succeeded {
            let wait = EARLY_FIRST * (1 << asking.early.min(16));
            if wait < period {
                asking.early += 1;
                asking.next_at = Some(asked_at + wait);
                is_early = true;
            }
        }
        let ProbeResult::Failure(text) = result else { return None };
        let name = match kind {
            ProbeKind::Startup => "Startup",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
        };
        (!is_early).then(|| Note::warning("Unhealthy", format!("{name} probe failed: {text}")).of(&container.name))
    }

    /// Which probe kinds are due, and when the next one is.
    pub fn due(
        &self,
        container: &core::Container,
        running_since: Timestamp,
        now: Timestamp,
    ) -> (Vec<ProbeKind>, Option<Timestamp>) {
        let kinds: &[ProbeKind] = if self.has_started(container) {
            &[ProbeKind::Readiness, ProbeKind::Liveness]
        } else {
            &[ProbeKind::Startup]
        };
        let (mut due, mut wake) = (Vec::new(), None::<Timestamp>);
        for kind in kinds {
            let Some(probe) = of(container, *kind) else { continue };
            let asking = match kind {
                ProbeKind::Startup => &self.startup,
                ProbeKind::Readiness => &self.readiness,
                ProbeKind::Liveness => &self.liveness,
            };
            let is_held = *kind != ProbeKind::Readiness && asking.verdict == Some(false);
            if asking.is_under_way || is_held {
                continue;
            }
            let first = running_since + seconds(probe.initial_delay_seconds, 0);
            let at = asking.next_at.unwrap_or(first);
            if at <= now {
                due.push(*kind);
            } else {
                wake = Some(wake.map_or(at, |w| w.min(at)));
            }
        }
        (due, wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Feeds `+` and `-` results at their due times; prints when each question came and what became of it.
    fn check(kind: ProbeKind, probe: &str, results: &str, expect: Expect) {
        let probe: Probe = serde_json::from_str(probe).unwrap();
        let mut container = core::Container { name: "c".into(), ..core::Container::default() };
        match kind {
            ProbeKind::Startup => container.startup_probe = Some(probe),
            ProbeKind::Readiness => container.readiness_probe = Some(probe),
            ProbeKind::Liveness => container.liveness_probe = Some(probe),
        }
        let start = Timestamp::UNIX_EPOCH;
        let (mut probes, mut now, mut out) = (Probes::default(), start, String::new());
        for result in results.chars() {
            let (mut due, wake) = probes.due(&container, start, now);
            if due.is_empty() {
                let Some(at) = wake else {
                    out.push_str("not asked again\n");
                    break;
                };
                now = at;
                due = probes.due(&container, start, now).0;
            }
            assert_eq!(due, [kind]);
            probes.issued(kind);
            assert_eq!(probes.due(&container, start, now), (vec![], None), "one question at a time");
            let answer = if result == '+' { ProbeResult::Success } else { ProbeResult::Failure("no answer".into()) };
            let note = probes.answered(&container, kind, &answer, now);
            out.push_str(&format!(
                "{:.1}s {result} started={} ready={} failed={:?}{}\n",
                now.duration_since(start).as_secs_f64(),
                probes.has_started(&container),
                probes.is_ready(&container),
                probes.failed(&container),
                note.map(|n| format!(" event {} {}", n.reason, n.message)).unwrap_or_default()
            ));
        }
        expect.assert_eq(&out);
    }

    #[test]
    fn readiness_is_asked_early_until_it_was_ready_once() {
        check(
            ProbeKind::Readiness,
            "{}",
            "--+---+",
            expect![[r#"
                0.0s - started=true ready=false failed=None
                0.0s - started=true ready=false failed=None
                0.1s + started=true ready=true failed=None
                10.1s - started=true ready=true failed=None event Unhealthy Readiness probe failed: no answer
                20.1s - started=true ready=true failed=None event Unhealthy Readiness probe failed: no answer
                30.1s - started=true ready=false failed=None event Unhealthy Readiness probe failed: no answer
                40.1s + started=true ready=true failed=None
            "#]],
        );
    }

    #[test]
    fn liveness_fails_at_its_threshold_and_holds() {
        check(
            ProbeKind::Liveness,
            r#"{"initialDelaySeconds": 3, "periodSeconds": 5, "failureThreshold": 2}"#,
            "+-+--+",
            expect![[r#"
                3.0s + started=true ready=true failed=None
                8.0s - started=true ready=true failed=None event Unhealthy Liveness probe failed: no answer
                13.0s + started=true ready=true failed=None
                18.0s - started=true ready=true failed=None event Unhealthy Liveness probe failed: no answer
                23.0s - started=true ready=true failed=Some("liveness") event Unhealthy Liveness probe failed: no answer
                not asked again
            "#]],
        );
    }

    #[test]
    fn startup_holds_readiness_back() {
        check(
            ProbeKind::Startup,
            r#"{"periodSeconds": 1, "failureThreshold": 3}"#,
            "--+",
            expect![[r#"
                0.0s - started=false ready=false failed=None event Unhealthy Startup probe failed: no answer
                1.0s - started=false ready=false failed=None event Unhealthy Startup probe failed: no answer
                2.0s + started=true ready=true failed=None
            "#]],
        );
    }
}
