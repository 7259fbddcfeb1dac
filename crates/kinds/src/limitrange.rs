//! LimitRange: defaults and bounds for what one object of a namespace may use.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
use serde_json::Value;
use stead_api::names::qualified_name;
use stead_api::{Errors, Quantity};

use crate::check::quantity;
use crate::columns::{CREATED_AT_COLUMN, NAME_COLUMN};
use crate::fill::{each, object, object_or_new, quantities, set};
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Hooks, Kind};

pub const LIMITRANGE: Kind = Kind {
    short: &["limits"],
    create_on_update: true,
    columns: &[NAME_COLUMN, CREATED_AT_COLUMN],
    hooks: Hooks::of::<LimitRange>(),
    ..Kind::plain(
        "limitranges",
        "",
        "v1",
        names!("LimitRange", "limitrange", "limitranges"),
        "io.k8s.api.core.v1.LimitRange",
    )
};

type Amounts = BTreeMap<String, QuantityText>;

const MAPS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

impl Behavior for LimitRange {
    /// Containers: what is missing follows from the maximum, the default and the minimum, in this order.
    fn default(new: &mut Value) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        for item in each(spec, "limits") {
            MAPS.iter().for_each(|field| quantities(item, field));
            if item.get("type").is_none_or(|kind| kind != "Container") {
                continue;
            }
            for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
                let amounts = object(item, from).and_then(|found| found.as_object().cloned()).unwrap_or_default();
                if let Some(target) = object_or_new(item, to) {
                    for (name, amount) in amounts {
                        set(target, &name, amount);
                    }
                }
            }
        }
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let at = at.child("limits");
        let mut seen = BTreeSet::new();
        for (index, item) in self.spec.iter().flat_map(|spec| &spec.limits).enumerate() {
            let at = at.index(index);
            validate_type(at.child("type"), &item.type_, errors);
            if !seen.insert(item.type_.as_str()) {
                at.child("type").duplicate(errors, item.type_.as_str());
            }
            validate_item(at, item, errors);
        }
    }
}

fn validate_type(at: Path, name: &str, errors: &mut Errors) {
    for message in qualified_name(name) {
        at.invalid(errors, name, message);
    }
    if !name.contains('/') && !matches!(name, "Pod" | "Container" | "PersistentVolumeClaim") {
        at.invalid(errors, name, "must be a standard limit type or fully qualified");
    }
}

fn maps(item: &LimitRangeItem) -> [(&'static str, Option<&Amounts>); 5] {
    [
        ("max", item.max.as_ref()),
        ("min", item.min.as_ref()),
        ("default", item.default.as_ref()),
        ("defaultRequest", item.default_request.as_ref()),
        ("maxLimitRequestRatio", item.max_limit_request_ratio.as_ref()),
    ]
}

fn validate_item(at: Path, item: &LimitRangeItem, errors: &mut Errors) {
    let mut found: BTreeMap<&str, [Option<Quantity>; 5]> = BTreeMap::new();
    for (place, (field, amounts)) in maps(item).into_iter().enumerate() {
        let at = at.child(field);
        if item.type_ == "Pod" && (2..4).contains(&place) && amounts.is_some_and(|map| !map.is_empty()) {
            at.forbidden(errors, "may not be specified when `type` is 'Pod'");
        }
        for (name, amount) in amounts.into_iter().flatten() {
            for message in qualified_name(name) {
                at.key(name).invalid(errors, name.as_str(), message);
            }
            if !name.contains('/') && !is_standard(name) {
                at.key(name).invalid(errors, name.as_str(), "must be a standard resource type or fully qualified");
            }
            found.entry(name).or_default()[place] = quantity(at.key(name), amount, errors);
        }
    }
    let is_claim = item.type_ == "PersistentVolumeClaim";
    if is_claim && [&item.min, &item.max].iter().all(|map| !map.iter().flatten().any(|(name, _)| name == "storage")) {
        at.child("limits")
            .required(errors, "either minimum or maximum storage value is required, but neither was provided");
    }
    for (name, amounts) in found {
        compare(at, name, &amounts, errors);
    }
}

fn is_standard(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage" | "storage") || name.starts_with("hugepages-")
}

/// Minimum ≤ default request ≤ default ≤ maximum, and a ratio of at least one that the bounds allow.
fn compare(at: Path, name: &str, amounts: &[Option<Quantity>; 5], errors: &mut Errors) {
    let [max, min, default, request, ratio] = amounts;
    let mut refuse = |field: &str, value: &Quantity, than: &str, bound: &Quantity| {
        let detail = format!("{than} {bound}");
        at.child(field).key(name).invalid(errors, value.to_string(), detail);
    };
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        refuse("min", min, &format!("min value {min} is greater than max value"), max);
    }
    for (field, label, value) in [("defaultRequest", "default request", request), ("default", "default", default)] {
        if let (Some(min), Some(value)) = (min, value)
            && min > value
        {
            refuse(field, value, &format!("min value {min} is greater than {label} value"), value);
        }
        if let (Some(max), Some(value)) = (max, value)
            && value > max
        {
            refuse(field, value, &format!("{label} value {value} is greater than max value"), max);
        }
    }
    if let (Some(request), Some(default)) = (request, default)
        && request > default
    {
        refuse(
            "defaultRequest",
            request,
            &format!("default request value {request} is greater than default limit value"),
            default,
        );
    }
    let Some(ratio) = ratio else { return };
    if *ratio < Quantity::from_int(1) {
        let detail = format!("ratio {ratio} is less than 1");
        at.child("maxLimitRequestRatio").key(name).invalid(errors, ratio.to_string(), detail);
    }
    if let (Some(min), Some(max)) = (min, max) {
        let (low, high) = (min.milli_value() as f64, max.milli_value() as f64);
        let most = high / low;
        if low > 0.0 && ratio.milli_value() as f64 / 1000.0 > most {
            let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
            at.child("maxLimitRequestRatio").key(name).invalid(errors, ratio.to_string(), detail);
        }
    }
}

/// The bounds of one type in a LimitRange.
pub fn items<'a>(range: &'a LimitRange, of: &'a str) -> impl Iterator<Item = &'a LimitRangeItem> {
    range.spec.iter().flat_map(|spec| &spec.limits).filter(move |item| item.type_ == of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(limits: Value) -> (Value, Vec<String>) {
        let mut value = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"limits": limits}});
        (LIMITRANGE.hooks.default)(&mut value);
        let found = LIMITRANGE.check(&value, None).expect("decodes").errors;
        (value["spec"]["limits"].clone(), found.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn defaults_of_containers_follow_from_bounds() {
        let (limits, errors) = check(json!([{"type": "Container", "max": {"cpu": "1"}, "min": {"memory": "1Mi"}}]));
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(limits[0]["default"], json!({"cpu": "1"}));
        assert_eq!(limits[0]["defaultRequest"], json!({"cpu": "1", "memory": "1Mi"}));
    }

    #[test]
    fn bounds_that_contradict_are_named() {
        let (_, errors) = check(json!([{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}},
            {"type": "Pod", "default": {"cpu": "1"}}, {"type": "Pod"}, {"type": "Thing"}]));
        assert_eq!(
            errors,
            [
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1",
                "spec.limits[0].default[cpu]: Invalid value: \"1\": min value 2 is greater than default value 1",
                "spec.limits[1].default: Forbidden: may not be specified when `type` is 'Pod'",
                "spec.limits[2].type: Duplicate value: \"Pod\"",
                "spec.limits[3].type: Invalid value: \"Thing\": must be a standard limit type or fully qualified",
            ]
        );
    }
}
