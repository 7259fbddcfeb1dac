//! How many pods would bring what is used to what is wanted. Only numbers.

use std::collections::{BTreeMap, BTreeSet};

/// How far the ratio of used to wanted may be from one without consequence.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub down: f64,
    pub up: f64,
}

impl Tolerance {
    fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// The target's pods by what can be said of them, by their names.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    /// What those use that count, in thousandths.
    pub used: BTreeMap<String, i64>,
    /// They take no load yet.
    pub unready: BTreeSet<String>,
    /// Nobody knows what they use.
    pub missing: BTreeSet<String>,
}

pub enum Goal {
    /// A share of what each pod requests.
    Utilization { percent: i32, requests: BTreeMap<String, i64> },
    /// The same for each pod, in thousandths.
    Average(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub replicas: i32,
    /// In percent, where the goal is a share.
    pub utilization: Option<i32>,
    pub average: i64,
}

/// # Errors
/// Why it cannot be said.
pub fn wanted(current: i32, pods: Pods, goal: &Goal, tolerance: Tolerance) -> Result<Found, String> {
    let Pods { mut used, unready, missing } = pods;
    if used.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let (ratio, utilization, average) = goal.ratio(&used)?;
    let found = |replicas: i32| Found { replicas, utilization, average };
    let joins = !unready.is_empty() && ratio > 1.0;
    if !joins && missing.is_empty() {
        let replicas = if tolerance.covers(ratio) { current } else { times(ratio, used.len()) };
        return Ok(found(replicas));
    }
    // Who is not seen is taken to use what makes the change smaller.
    for name in missing {
        if ratio < 1.0 {
            used.insert(name.clone(), goal.full(&name));
        } else if ratio > 1.0 {
            used.insert(name, 0);
        }
    }
    if joins {
        used.extend(unready.into_iter().map(|name| (name, 0)));
    }
    let (again, _, _) = goal.ratio(&used)?;
    let turns = (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0);
    if turns || tolerance.covers(again) {
        return Ok(found(current));
    }
    let replicas = times(again, used.len());
    let turns = (again < 1.0 && replicas > current) || (again > 1.0 && replicas < current);
    Ok(found(if turns { current } else { replicas }))
}

fn times(ratio: f64, pods: usize) -> i32 {
    // Saturates.
    (ratio * pods as f64).ceil() as i32
}

impl Goal {
    /// What is used, of what is wanted: the ratio, the percentage of what is requested, and the average.
    fn ratio(&self, used: &BTreeMap<String, i64>) -> Result<(f64, Option<i32>, i64), String> {
        let sum = |values: &mut dyn Iterator<Item = i64>| values.map(i128::from).sum::<i128>();
        match self {
            Goal::Average(wanted) => {
                let average = sum(&mut used.values().copied()) / used.len().max(1) as i128;
                let average = i64::try_from(average).unwrap_or(i64::MAX);
                Ok((average as f64 / (*wanted).max(1) as f64, None, average))
            }
            Goal::Utilization { percent, requests } => {
                let known = || used.iter().filter_map(|(name, used)| Some((*used, *requests.get(name)?)));
                let requested = sum(&mut known().map(|(_, requested)| requested));
                if requested == 0 {
                    return Err("no metrics returned matched known pods".into());
                }
                let total = sum(&mut known().map(|(used, _)| used));
                let utilization = i32::try_from(total * 100 / requested).unwrap_or(i32::MAX);
                let average = i64::try_from(total / known().count().max(1) as i128).unwrap_or(i64::MAX);
                Ok((f64::from(utilization) / f64::from((*percent).max(1)), Some(utilization), average))
            }
        }
    }

    /// What a pod would use that uses all it may.
    fn full(&self, pod: &str) -> i64 {
        match self {
            Goal::Average(wanted) => *wanted,
            Goal::Utilization { percent, requests } => {
                let requested = i128::from(requests.get(pod).copied().unwrap_or(0));
                i64::try_from(requested * i128::from((*percent).max(100)) / 100).unwrap_or(i64::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { down: 0.1, up: 0.1 };

    fn named(values: &[i64]) -> BTreeMap<String, i64> {
        values.iter().enumerate().map(|(index, value)| (format!("used-{index}"), *value)).collect()
    }

    fn names(what: &str, count: usize) -> BTreeSet<String> {
        (0..count).map(|index| format!("{what}-{index}")).collect()
    }

    /// Pods that request 1000 each: what some use, and how many are not ready and not seen.
    fn of_share(current: i32, percent: i32, used: &[i64], unready: usize, missing: usize) -> (i32, Option<i32>, i64) {
        let pods = Pods { used: named(used), unready: names("unready", unready), missing: names("missing", missing) };
        let all = pods.used.keys().chain(&pods.unready).chain(&pods.missing);
        let goal = Goal::Utilization { percent, requests: all.map(|name| (name.clone(), 1000)).collect() };
        let found = wanted(current, pods, &goal, TOLERANCE).expect("a count");
        (found.replicas, found.utilization, found.average)
    }

    #[test]
    fn the_ratio_of_used_to_wanted_says_how_many() {
        assert_eq!(of_share(3, 30, &[300, 500, 700], 0, 0), (5, Some(50), 500));
        assert_eq!(of_share(5, 50, &[100, 300, 500, 250, 250], 0, 0), (3, Some(28), 280));
        assert_eq!(of_share(3, 100, &[1010, 1030, 1020], 0, 0), (3, Some(102), 1020), "within a tenth");
        assert_eq!(of_share(3, 100, &[890, 890, 890], 0, 0), (3, Some(89), 890), "0.89 of three is still three");
    }

    #[test]
    fn who_is_not_ready_takes_a_share_of_what_is_too_much() {
        assert_eq!(of_share(3, 30, &[500, 700], 1, 0), (4, Some(60), 600));
        assert_eq!(of_share(3, 30, &[400], 2, 0), (3, Some(40), 400), "it would turn around");
        assert_eq!(of_share(3, 60, &[100, 100], 1, 0), (1, Some(10), 100), "it counts for nothing on the way down");
    }

    #[test]
    fn who_is_not_seen_makes_the_change_smaller() {
        assert_eq!(of_share(4, 100, &[100, 100, 100], 0, 1), (2, Some(10), 100));
        assert_eq!(of_share(3, 50, &[1000], 0, 2), (3, Some(100), 1000), "nothing, on the way up");
        assert_eq!(of_share(5, 200, &[100, 100, 100, 100], 0, 1), (2, Some(10), 100), "a goal above what is requested");
        assert_eq!(of_share(2, 100, &[1000], 0, 1), (2, Some(100), 1000), "right as it is");
    }

    #[test]
    fn an_average_needs_no_requests() {
        let find = |current, used: &[i64], missing| {
            let pods = Pods { used: named(used), missing: names("missing", missing), ..Pods::default() };
            let found = wanted(current, pods, &Goal::Average(15_000), TOLERANCE).expect("a count");
            (found.replicas, found.utilization, found.average)
        };
        assert_eq!(find(3, &[20_000, 10_000, 30_000], 0), (4, None, 20_000));
        assert_eq!(find(3, &[15_000, 15_100], 0), (3, None, 15_050));
        assert_eq!(find(3, &[5_000, 5_000], 1), (2, None, 5_000));
    }

    #[test]
    fn nothing_can_be_said_without_pods_that_count() {
        let pods = Pods { unready: names("unready", 2), ..Pods::default() };
        let why = wanted(2, pods, &Goal::Average(1), TOLERANCE).expect_err("nothing is known");
        assert_eq!(why, "did not receive metrics for targeted pods (pods might be unready)");
        let goal = Goal::Utilization { percent: 50, requests: BTreeMap::new() };
        let pods = Pods { used: named(&[1]), ..Pods::default() };
        let why = wanted(1, pods, &goal, TOLERANCE).expect_err("no requests");
        assert_eq!(why, "no metrics returned matched known pods");
    }

    #[test]
    fn directions_have_tolerances_of_their_own() {
        let replicas = |used: i64, down: f64, up: f64| {
            let pods = Pods { used: named(&[used; 10]), ..Pods::default() };
            wanted(10, pods, &Goal::Average(100), Tolerance { down, up }).expect("a count").replicas
        };
        assert_eq!((replicas(105, 0.1, 0.0), replicas(105, 0.1, 0.1)), (11, 10));
        assert_eq!((replicas(80, 0.3, 0.1), replicas(80, 0.1, 0.3)), (10, 8));
    }
}
