//! From what is recommended to what is asked for: recommendations are smoothed over a window, and changes and sizes have bounds.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;

use super::behavior;
use crate::facts;
use crate::memory::Scaling;

/// Without rules of its own a target grows to four pods or twofold at a look.
const UP_FACTOR: i32 = 2;
const UP_MIN: i32 = 4;

const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_MANY: (&str, &str) = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_FAST_UP: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const LOWER_BEFORE: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const HIGHER_BEFORE: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");

#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub current: i32,
    pub recommended: i32,
    pub low: i32,
    pub high: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub wanted: i32,
    /// Reason and message of AbleToScale.
    pub able: (&'static str, &'static str),
    /// Status, reason and message of ScalingLimited.
    pub limited: (&'static str, &'static str, &'static str),
}

/// Settles the size, and remembers what was recommended.
pub fn settle(
    rules: Option<&HorizontalPodAutoscalerBehavior>,
    sizes: Sizes,
    memory: &mut Scaling,
    now: Timestamp,
) -> Size {
    let (lowest, highest) = recent(sizes.recommended, behavior::windows(rules), memory, now);
    // Without rules nothing but the highest recommendation counts; with them, whoever is between the two stays.
    let stable = if rules.is_some() { sizes.current.max(lowest).min(highest) } else { highest };
    let able = match stable {
        same if same == sizes.recommended => READY,
        _ if sizes.recommended >= sizes.current && rules.is_some() => LOWER_BEFORE,
        _ => HIGHER_BEFORE,
    };
    let (wanted, (reason, message)) = match rules {
        None => bound(stable, sizes),
        Some(rules) => {
            behavior::forget_old(rules, memory, now);
            bound_by(rules, stable, sizes, memory, now)
        }
    };
    let limited = if wanted == stable { "False" } else { "True" };
    Size { wanted, able, limited: (limited, reason, message) }
}

/// The lowest recommendation of the one window and the highest of the other, this one among them.
fn recent(recommended: i32, windows: behavior::Windows, memory: &mut Scaling, now: Timestamp) -> (i32, i32) {
    let longest = facts::after(now, -i64::from(windows.up.max(windows.down)));
    memory.recommendations.retain(|(at, _)| *at > longest);
    let within = |seconds| {
        let from = facts::after(now, -i64::from(seconds));
        memory.recommendations.iter().filter(move |(at, _)| *at > from).map(|(_, recommended)| *recommended)
    };
    let lowest = within(windows.up).fold(recommended, i32::min);
    let highest = within(windows.down).fold(recommended, i32::max);
    memory.recommendations.push((now, recommended));
    (lowest, highest)
}

fn bound(stable: i32, sizes: Sizes) -> (i32, (&'static str, &'static str)) {
    let fastest = sizes.current.saturating_mul(UP_FACTOR).max(UP_MIN);
    let (high, why) = if sizes.high > fastest { (fastest, TOO_FAST_UP) } else { (sizes.high, TOO_MANY) };
    match stable {
        few if few < sizes.low => (sizes.low, TOO_FEW),
        many if many > high => (high, why),
        fine => (fine, WITHIN),
    }
}

fn bound_by(
    rules: &HorizontalPodAutoscalerBehavior,
    stable: i32,
    sizes: Sizes,
    memory: &Scaling,
    now: Timestamp,
) -> (i32, (&'static str, &'static str)) {
    if stable > sizes.current {
        let fastest = behavior::most(rules, sizes.current, memory, now).max(sizes.current);
        let (high, why) = if sizes.high > fastest { (fastest, TOO_FAST_UP) } else { (sizes.high, TOO_MANY) };
        if stable > high {
            return (high, why);
        }
    } else if stable < sizes.current {
        let fastest = behavior::fewest(rules, sizes.current, memory, now).min(sizes.current);
        let (low, why) = if sizes.low < fastest { (fastest, TOO_FAST_DOWN) } else { (sizes.low, TOO_FEW) };
        if stable < low {
            return (low, why);
        }
    }
    (stable, WITHIN)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::{Value, json};

    use super::*;

    struct Story {
        rules: Option<HorizontalPodAutoscalerBehavior>,
        memory: Scaling,
        now: Timestamp,
        current: i32,
    }

    impl Story {
        fn of(current: i32, rules: Value) -> Story {
            let now = Timestamp::from_second(10_000).expect("a time");
            let memory = Scaling {
                looked_at: now,
                generation: 1,
                recommendations: Vec::new(),
                changes: Vec::new(),
                forgotten: None,
            };
            let rules = (!rules.is_null()).then(|| serde_json::from_value(rules).expect("rules"));
            Story { rules, memory, now, current }
        }

        /// After so many seconds so many pods are recommended, between one and a hundred.
        fn then(&mut self, seconds: i64, recommended: i32) -> (i32, &'static str, &'static str) {
            self.now += SignedDuration::from_secs(seconds);
            let sizes = Sizes { current: self.current, recommended, low: 1, high: 100 };
            let size = settle(self.rules.as_ref(), sizes, &mut self.memory, self.now);
            if size.wanted != self.current && self.rules.is_some() {
                self.memory.changes.push((self.now, size.wanted - self.current));
            }
            self.current = size.wanted;
            (size.wanted, size.able.0, size.limited.1)
        }
    }

    fn rules(up: Value, down: Value) -> Value {
        let filled = |rules: Value, window: Value, policies: Value| {
            let mut all = json!({"selectPolicy": "Max", "policies": policies, "stabilizationWindowSeconds": window});
            for (field, value) in rules.as_object().into_iter().flatten() {
                all[field] = value.clone();
            }
            all
        };
        let double = json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]);
        let all = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
        json!({"scaleUp": filled(up, json!(0), double), "scaleDown": filled(down, Value::Null, all)})
    }

    #[test]
    fn it_grows_twofold_at_a_look_and_shrinks_after_five_minutes() {
        let mut story = Story::of(3, Value::Null);
        assert_eq!(story.then(0, 20), (6, "ReadyForNewScale", "ScaleUpLimit"));
        assert_eq!(story.then(15, 20), (12, "ReadyForNewScale", "ScaleUpLimit"));
        assert_eq!(
            story.then(15, 14),
            (20, "ScaleDownStabilized", "DesiredWithinRange"),
            "twenty were wanted just now"
        );
        assert_eq!(story.then(284, 2), (20, "ScaleDownStabilized", "DesiredWithinRange"));
        assert_eq!(story.then(10, 2), (14, "ScaleDownStabilized", "DesiredWithinRange"));
        assert_eq!(story.then(295, 0), (2, "ScaleDownStabilized", "DesiredWithinRange"));
        assert_eq!(story.then(301, 0), (1, "ReadyForNewScale", "TooFewReplicas"));
        assert_eq!(Story::of(90, Value::Null).then(0, 120), (100, "ReadyForNewScale", "TooManyReplicas"));
        assert_eq!(Story::of(1, Value::Null).then(0, 9), (4, "ReadyForNewScale", "ScaleUpLimit"));
    }

    #[test]
    fn policies_say_how_fast() {
        let up = json!({"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}, {"type": "Percent", "value": 10, "periodSeconds": 60}]});
        let mut story = Story::of(10, rules(up.clone(), Value::Null));
        assert_eq!(story.then(0, 50), (12, "ReadyForNewScale", "ScaleUpLimit"));
        assert_eq!(story.then(15, 50), (12, "ReadyForNewScale", "ScaleUpLimit"), "used up for this minute");
        assert_eq!(story.then(45, 50), (14, "ReadyForNewScale", "ScaleUpLimit"));
        let mut least = up;
        least["selectPolicy"] = json!("Min");
        assert_eq!(Story::of(10, rules(least.clone(), Value::Null)).then(0, 50).0, 11);
        least["selectPolicy"] = json!("Disabled");
        assert_eq!(Story::of(10, rules(least, Value::Null)).then(0, 50), (10, "ReadyForNewScale", "ScaleUpLimit"));

        let down =
            json!({"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]});
        let mut story = Story::of(10, rules(Value::Null, down));
        assert_eq!(story.then(0, 1), (9, "ReadyForNewScale", "ScaleDownLimit"));
        assert_eq!(story.then(30, 1), (9, "ReadyForNewScale", "ScaleDownLimit"));
        assert_eq!(story.then(30, 1), (8, "ReadyForNewScale", "ScaleDownLimit"));
        assert_eq!(
            story.then(1, 20),
            (18, "ReadyForNewScale", "ScaleUpLimit"),
            "twice what there was before the minute"
        );
    }

    #[test]
    fn windows_smooth_both_directions() {
        let mut story = Story::of(5, rules(json!({"stabilizationWindowSeconds": 60}), Value::Null));
        assert_eq!(story.then(0, 5), (5, "ReadyForNewScale", "DesiredWithinRange"));
        assert_eq!(story.then(15, 9), (5, "ScaleUpStabilized", "DesiredWithinRange"));
        assert_eq!(story.then(30, 8), (5, "ScaleUpStabilized", "DesiredWithinRange"));
        assert_eq!(story.then(30, 9), (8, "ScaleUpStabilized", "DesiredWithinRange"));
        assert_eq!(story.then(15, 3), (8, "ScaleDownStabilized", "DesiredWithinRange"));
    }

    #[test]
    fn what_an_earlier_life_took_counts_as_all_that_it_might() {
        let down =
            json!({"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 600}]});
        let mut story = Story::of(10, rules(Value::Null, down));
        story.memory.forgotten = Some(story.now);
        assert_eq!(story.then(60, 1), (10, "ReadyForNewScale", "ScaleDownLimit"));
        assert_eq!(story.then(0, 12), (12, "ReadyForNewScale", "DesiredWithinRange"), "up is free");
        assert_eq!(story.then(540, 1), (8, "ReadyForNewScale", "ScaleDownLimit"));
    }
}
