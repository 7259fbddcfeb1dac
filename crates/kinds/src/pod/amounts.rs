//! How much a whole pod asks for, or is limited to.
//!
//! Upstream: `PodRequests`, `PodLimits` (sidecars add to the sum, ordinary init containers count by their maximum, pod-level
//! resources win, overhead comes on top; on a limit only where there is one).

use std::collections::BTreeMap;

use serde_json::Value;
use stead_api::Quantity;

/// By resource name.
pub type Amounts = BTreeMap<String, Quantity>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Requests,
    Limits,
}

/// The amounts of a map such as `resources.requests`; what is no quantity is left out.
pub fn of_map(map: &Value) -> Amounts {
    let pairs = map.as_object().into_iter().flatten();
    pairs.filter_map(|(name, text)| Some((name.clone(), Quantity::from_value(text).ok()?))).collect()
}

pub fn add(into: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = into.get(name).copied().unwrap_or(Quantity::ZERO) + *amount;
        into.insert(name.clone(), sum);
    }
}

fn raise(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if into.get(name).is_none_or(|found| amount > found) {
            into.insert(name.clone(), *amount);
        }
    }
}

/// One side of a container's resources.
pub fn of_container(container: &Value, side: Side) -> Amounts {
    let field = if side == Side::Requests { "requests" } else { "limits" };
    of_map(&container["resources"][field])
}

/// One side of a pod's resources, from its spec.
pub fn of_pod(spec: &Value, side: Side) -> Amounts {
    let containers = |field: &str| spec[field].as_array().map_or(&[][..], Vec::as_slice);
    let mut total = Amounts::new();
    containers("containers").iter().for_each(|container| add(&mut total, &of_container(container, side)));
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in containers("initContainers") {
        let mut at_once = of_container(container, side);
        if container["restartPolicy"] == "Always" {
            add(&mut sidecars, &at_once);
            raise(&mut starting, &sidecars);
        } else {
            add(&mut at_once, &sidecars);
            raise(&mut starting, &at_once);
        }
    }
    add(&mut total, &sidecars);
    raise(&mut total, &starting);
    total.extend(of_container(spec, side));
    let mut overhead = of_map(&spec["overhead"]);
    if side == Side::Limits {
        overhead.retain(|name, _| total.contains_key(name));
    }
    add(&mut total, &overhead);
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_larger_of_starting_and_running_counts() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("100m");
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({"containers": [container("1"), container("500m")], "overhead": {"cpu": "10m"},
            "initContainers": [sidecar, container("2")]});
        assert_eq!(of_pod(&spec, Side::Requests)["cpu"].to_string(), "2110m");
        assert!(of_pod(&spec, Side::Limits).is_empty());
    }
}
