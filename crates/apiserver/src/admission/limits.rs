//! LimitRange: defaults for containers that say nothing, and bounds for pods, containers and claims.

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use serde_json::{Value, json};
use stead_api::{Quantity, Remarks, Request, Status};
use stead_kinds::limitrange::items;
use stead_kinds::pod::amounts::{self, Amounts, Side};
use stead_kinds::pod::qos;

use crate::Context;
use crate::draft::{Draft, Part};

const RANGES: &str = "limitranges";
const NOTE: &str = "kubernetes.io/limit-ranger";

fn ranges(ctx: &Context, namespace: &str) -> Vec<std::sync::Arc<LimitRange>> {
    ctx.store.snapshot().list(RANGES, namespace).map(|object| object.view::<LimitRange>()).collect()
}

/// Fills in what containers leave out.
pub(super) fn defaults(ctx: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    if !draft.is_creation() {
        return Ok(());
    }
    for range in ranges(ctx, &draft.key.namespace) {
        let mut notes = Vec::new();
        for (field, what) in [("containers", "container"), ("initContainers", "init container")] {
            for container in draft.new["spec"].get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
                for item in items(&range, "Container") {
                    notes.extend(fill(container, item, what));
                }
            }
        }
        if !notes.is_empty() {
            draft.new["metadata"]["annotations"][NOTE] = json!(format!("LimitRanger plugin set: {}", notes.join("; ")));
            // The class follows from the amounts, which are others now.
            draft.new["status"]["qosClass"] = json!(qos::class(&draft.new["spec"]));
        }
    }
    Ok(())
}

/// Puts the defaults of an item into a container; says what it put there.
fn fill(container: &mut Value, item: &LimitRangeItem, what: &str) -> Vec<String> {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    let mut notes = Vec::new();
    for (field, word, amounts) in [("requests", "request", &item.default_request), ("limits", "limit", &item.default)] {
        let mut set = Vec::new();
        for (resource, amount) in amounts.iter().flatten() {
            let place = &mut container["resources"][field][resource];
            if place.is_null() {
                *place = json!(amount.0);
                set.push(resource.as_str());
            }
        }
        if !set.is_empty() {
            notes.push(format!("{} {word} for {what} {name}", set.join(", ")));
        }
    }
    notes
}

/// Refuses pods whose containers or sums are out of bounds, or would be.
pub(super) fn pod(ctx: &mut Context, _: &Request, draft: &mut Draft, _: &mut Remarks) -> Result<(), Status> {
    if !draft.is_creation() && draft.part != Part::Resize {
        return Ok(());
    }
    let spec = &draft.new["spec"];
    for range in ranges(ctx, &draft.key.namespace) {
        let mut faults = Vec::new();
        for item in range.spec.iter().flat_map(|spec| &spec.limits) {
            match item.type_.as_str() {
                "Container" => {
                    for field in ["containers", "initContainers"] {
                        for container in spec[field].as_array().into_iter().flatten() {
                            let of = |side| amounts::of_container(container, side);
                            bounds(item, &of(Side::Requests), &of(Side::Limits), &mut faults);
                        }
                    }
                }
                "Pod" => {
                    let of = |side| amounts::of_pod(spec, side);
                    bounds(item, &of(Side::Requests), &of(Side::Limits), &mut faults);
                }
                _ => {}
            }
        }
        refuse(draft, faults)?;
    }
    Ok(())
}

/// Refuses claims that are too small or too large.
pub(super) fn claim(ctx: &mut Context, _: &Request, draft: &mut Draft, _: &mut Remarks) -> Result<(), Status> {
    let requests = amounts::of_map(&draft.new["spec"]["resources"]["requests"]);
    for range in ranges(ctx, &draft.key.namespace) {
        let mut faults = Vec::new();
        for item in items(&range, "PersistentVolumeClaim") {
            for (name, least) in quantities(&item.min) {
                faults.extend(too_little(item, &name, least, requests.get(&name).copied(), None));
            }
            for (name, most) in quantities(&item.max) {
                let kind = &item.type_;
                match requests.get(&name) {
                    None => faults.push(format!("maximum {name} usage per {kind} is {most}. No request is specified")),
                    Some(asked) if *asked > most => {
                        faults.push(format!("maximum {name} usage per {kind} is {most}, but request is {asked}"));
                    }
                    Some(_) => {}
                }
            }
        }
        refuse(draft, faults)?;
    }
    Ok(())
}

fn refuse(draft: &Draft, mut faults: Vec<String>) -> Result<(), Status> {
    match faults.len() {
        0 => Ok(()),
        1 => Err(draft.forbidden(&faults.remove(0))),
        _ => {
            // The same fault of two containers is told once.
            let mut seen = std::collections::BTreeSet::new();
            faults.retain(|fault| seen.insert(fault.clone()));
            let text = if faults.len() == 1 { faults.remove(0) } else { format!("[{}]", faults.join(", ")) };
            Err(draft.forbidden(&text))
        }
    }
}

fn quantities(
    map: &Option<std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
) -> Amounts {
    map.iter().flatten().filter_map(|(name, text)| Some((name.clone(), text.0.parse().ok()?))).collect()
}

fn bounds(item: &LimitRangeItem, requests: &Amounts, limits: &Amounts, faults: &mut Vec<String>) {
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied();
    for (name, least) in quantities(&item.min) {
        faults.extend(too_little(item, &name, least, of(requests, &name), of(limits, &name)));
    }
    for (name, most) in quantities(&item.max) {
        faults.extend(too_much(item, &name, most, of(requests, &name), of(limits, &name)));
    }
    for (name, ratio) in quantities(&item.max_limit_request_ratio) {
        faults.extend(too_far_apart(item, &name, ratio, of(requests, &name), of(limits, &name)));
    }
}

fn too_little(
    item: &LimitRangeItem,
    name: &str,
    least: Quantity,
    request: Option<Quantity>,
    limit: Option<Quantity>,
) -> Option<String> {
    let start = format!("minimum {name} usage per {} is {least}", item.type_);
    match (request, limit) {
        (None, _) => Some(format!("{start}.  No request is specified")),
        (Some(request), _) if request < least => Some(format!("{start}, but request is {request}")),
        (_, Some(limit)) if limit < least => Some(format!("{start}, but limit is {limit}")),
        _ => None,
    }
}

fn too_much(
    item: &LimitRangeItem,
    name: &str,
    most: Quantity,
    request: Option<Quantity>,
    limit: Option<Quantity>,
) -> Option<String> {
    let start = format!("maximum {name} usage per {} is {most}", item.type_);
    match (limit, request) {
        (None, _) => Some(format!("{start}.  No limit is specified")),
        (Some(limit), _) if limit > most => Some(format!("{start}, but limit is {limit}")),
        (_, Some(request)) if request > most => Some(format!("{start}, but request is {request}")),
        _ => None,
    }
}

fn too_far_apart(
    item: &LimitRangeItem,
    name: &str,
    most: Quantity,
    request: Option<Quantity>,
    limit: Option<Quantity>,
) -> Option<String> {
    let start = format!("{name} max limit to request ratio per {} is {most}", item.type_);
    let is_set = |amount: &Quantity| !amount.is_zero();
    let Some(request) = request.filter(is_set) else {
        return Some(format!("{start}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(is_set) else {
        return Some(format!("{start}, but no limit is specified or limit is 0"));
    };
    let ratio = limit.milli_value() as f64 / request.milli_value() as f64;
    let is_over = ratio * 1000.0 > most.milli_value() as f64;
    is_over.then(|| format!("{start}, but provided ratio is {ratio:.6}"))
}
