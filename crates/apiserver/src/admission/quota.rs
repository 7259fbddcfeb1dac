//! ResourceQuota: what a namespace uses, and whether one more fits.
//!
//! Admission adds what a new object uses to the quota's status in the same step as the object itself is stored, so that no two
//! writes can pass the limit together; the quota controller counts anew when something goes. `usage.rs` says what an object uses.

mod scopes;
mod usage;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::{Object, Status};
use stead_kinds::Kind;
use stead_kinds::pod::amounts::{Amounts, of_map};
use stead_store::Snapshot;

use crate::Context;
use crate::draft::Draft;

pub use scopes::matches;
pub use usage::{of_object, required};

const QUOTAS: &str = "resourcequotas";

/// Checks a change against the quotas of its namespace, and charges them unless it is only tried.
pub(crate) fn charge(ctx: &mut Context, draft: &Draft, dry_run: bool) -> Result<(), Status> {
    let namespace = &*draft.key.namespace;
    if namespace.is_empty() || draft.new["metadata"]["deletionTimestamp"].is_string() {
        return Ok(());
    }
    let quotas: Vec<Arc<Object>> = ctx.store.snapshot().list(QUOTAS, namespace).cloned().collect();
    if quotas.is_empty() {
        return Ok(());
    }
    let kind = draft.kind;
    let uses = |value: &Value| if value.is_null() { Amounts::new() } else { of_object(&kind, value, ctx.now) };
    let (before, after) = (uses(&draft.old_value), uses(&draft.new));
    let mut charged = Vec::new();
    for quota in quotas.into_iter().filter(|quota| quota.key != draft.key) {
        let value = quota.value();
        if !matches(&value["spec"], &kind, &draft.new) {
            continue;
        }
        let covers_old = !draft.is_creation() && matches(&value["spec"], &kind, &draft.old_value);
        let nothing = Amounts::new();
        let change = increase(if covers_old { &before } else { &nothing }, &after);
        let hard = of_map(&value["spec"]["hard"]);
        if draft.is_creation() {
            check_required(draft, &quota, &hard)?;
        }
        let change: Amounts = change.into_iter().filter(|(name, _)| hard.contains_key(name)).collect();
        if change.is_empty() {
            continue;
        }
        let used = match value["status"]["used"].is_object() && value["status"]["hard"] == value["spec"]["hard"] {
            true => of_map(&value["status"]["used"]),
            false => count(ctx.store.snapshot(), ctx.registry, &value["spec"], namespace, ctx.now),
        };
        check(draft, &quota, &change, &used, &hard)?;
        charged.push((quota, value, change, used));
    }
    if !dry_run {
        charged.into_iter().for_each(|(quota, value, change, used)| store(ctx, &quota, value, change, used));
    }
    Ok(())
}

/// What is used more than before.
fn increase(before: &Amounts, after: &Amounts) -> Amounts {
    let mut change = Amounts::new();
    for (name, amount) in after {
        let more = *amount - before.get(name).copied().unwrap_or(stead_api::Quantity::ZERO);
        if more.sign() > 0 {
            change.insert(name.clone(), more);
        }
    }
    change
}

/// A quota of cpu or memory demands that every container says how much.
fn check_required(draft: &Draft, quota: &Object, hard: &Amounts) -> Result<(), Status> {
    let names: BTreeSet<&str> = hard.keys().map(String::as_str).collect();
    let missing = required(&draft.kind, &draft.new, &names);
    if missing.is_empty() {
        return Ok(());
    }
    let parts: Vec<String> =
        missing.into_iter().map(|(name, containers)| format!("{name} for: {}", containers.join(","))).collect();
    Err(draft.forbidden(&format!("failed quota: {}: must specify {}", quota.key.name, parts.join("; "))))
}

fn check(draft: &Draft, quota: &Object, change: &Amounts, used: &Amounts, hard: &Amounts) -> Result<(), Status> {
    let zero = stead_api::Quantity::ZERO;
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or(zero);
    let exceeded: Vec<&String> =
        change.iter().filter(|(name, more)| of(used, name) + **more > of(hard, name)).map(|(name, _)| name).collect();
    if exceeded.is_empty() {
        return Ok(());
    }
    let show = |amounts: &Amounts| {
        let parts: Vec<String> = exceeded.iter().map(|name| format!("{name}={}", of(amounts, name))).collect();
        parts.join(",")
    };
    let why = format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        quota.key.name,
        show(change),
        show(used),
        show(hard)
    );
    Err(draft.forbidden(&why))
}

fn store(ctx: &mut Context, quota: &Object, mut value: Value, change: Amounts, mut used: Amounts) {
    stead_kinds::pod::amounts::add(&mut used, &change);
    value["status"] = status(&value["spec"], &used);
    value["metadata"]["resourceVersion"] = json!(ctx.store.next_revision().to_string());
    let Some(kind) = ctx.registry.stored(QUOTAS) else { return };
    if let Ok(object) = Object::of_value(quota.key.clone(), &value, &kind.stored_fields()) {
        ctx.store.put(object);
    }
}

/// The status of a quota: the limits that were looked at, and what is used of each.
pub fn status(spec: &Value, used: &Amounts) -> Value {
    let mut shown = json!({});
    for (name, _) in spec["hard"].as_object().into_iter().flatten() {
        shown[name] = json!(used.get(name).copied().unwrap_or(stead_api::Quantity::ZERO).to_string());
    }
    match spec["hard"].is_null() {
        true => json!({}),
        false => json!({"hard": spec["hard"], "used": shown}),
    }
}

/// What the objects of a namespace use of what a quota limits.
pub fn count(
    snapshot: &Snapshot,
    registry: &stead_kinds::Registry,
    spec: &Value,
    namespace: &str,
    now: jiff::Timestamp,
) -> Amounts {
    let names: BTreeSet<&str> = spec["hard"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let mut used = Amounts::new();
    for kind in registry.all().filter(|kind| kind.convert.is_none() && usage::counts_for(kind, &names)) {
        for object in snapshot.list(kind.storage, namespace) {
            let value = object.value();
            if matches(spec, kind, &value) {
                stead_kinds::pod::amounts::add(&mut used, &of_object(kind, &value, now));
            }
        }
    }
    used.retain(|name, _| names.contains(name.as_str()));
    used
}

/// Whether a quota may limit something of this kind.
pub fn concerns(kind: &Kind, spec: &Value) -> bool {
    let names: BTreeSet<&str> = spec["hard"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    usage::counts_for(kind, &names)
}
