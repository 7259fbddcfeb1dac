//! The QoS class of a pod: Guaranteed when every container limits cpu and memory to what it asks for, BestEffort when none asks
//! for either, else Burstable.

use serde_json::Value;
use stead_api::Quantity;

pub fn class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for field in ["containers", "initContainers"] {
        for container in spec.get(field).and_then(Value::as_array).into_iter().flatten() {
            for resource in ["cpu", "memory"] {
                let amount = |side: &str| {
                    let found = container.get("resources")?.get(side)?.get(resource)?;
                    Quantity::from_value(found).ok().filter(|quantity| !quantity.is_zero())
                };
                let (request, limit) = (amount("requests"), amount("limits"));
                any |= request.is_some() || limit.is_some();
                guaranteed &= limit.is_some() && request == limit;
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
