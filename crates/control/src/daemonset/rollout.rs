//! Bringing a new template to every node.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSetSpec;
use serde_json::json;
use stead_api::{IntOrPercent, Object};

use super::pods::{create, remove};
use super::seat::{Member, Seat};
use crate::plan::Plan;

/// One step of a rolling update; with OnDelete, people replace pods.
pub fn roll(set: &Arc<Object>, spec: &DaemonSetSpec, hash: &str, seats: &[Seat], plan: &mut Plan) {
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return;
    }
    let desired = i32::try_from(seats.iter().filter(|seat| seat.should_run).count()).unwrap_or(i32::MAX);
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let amount = |value: Option<serde_json::Value>, default: i32| {
        let parsed = value.and_then(|value| IntOrPercent::from_value(&value).ok());
        parsed.map_or(default, |amount| amount.of(desired, true))
    };
    let surge = amount(rolling.and_then(|rolling| rolling.max_surge.as_ref()).map(|value| json!(value)), 0);
    let unavailable = amount(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).map(|value| json!(value)), 1);
    match surge {
        0 => replace(set, unavailable.max(1), seats, plan),
        surge => add_beside(set, surge, hash, seats, plan),
    }
}

fn alive<'s, 'a>(seat: &'s Seat<'a>, current: bool) -> Option<&'s Member<'a>> {
    seat.members.iter().find(|member| member.is_current == current && !member.is_going() && !member.has_failed())
}

/// Removes old pods, those that do no work at once and others as far as nodes may go without.
fn replace(set: &Arc<Object>, most: i32, seats: &[Seat], plan: &mut Plan) {
    let wanted = || seats.iter().filter(|seat| seat.should_run);
    let is_served = |seat: &&Seat| seat.members.iter().any(|member| member.is_available && !member.is_going());
    let without = i32::try_from(wanted().filter(|seat| !is_served(seat)).count()).unwrap_or(i32::MAX);
    let mut budget = most - without;
    for seat in wanted() {
        let Some(old) = alive(seat, false) else { continue };
        if !old.is_available {
            remove(set, old, plan);
        } else if budget > 0 {
            budget -= 1;
            remove(set, old, plan);
        }
    }
}

/// Makes new pods beside old ones, and removes an old one when the new one is available.
fn add_beside(set: &Arc<Object>, most: i32, hash: &str, seats: &[Seat], plan: &mut Plan) {
    let wanted = || seats.iter().filter(|seat| seat.should_run);
    let both = |seat: &&Seat| alive(seat, true).is_some() && alive(seat, false).is_some();
    let mut budget = most - i32::try_from(wanted().filter(both).count()).unwrap_or(i32::MAX);
    for seat in wanted() {
        let Some(old) = alive(seat, false) else { continue };
        match alive(seat, true) {
            Some(new) if new.is_available => remove(set, old, plan),
            Some(_) => {}
            None if !old.is_available => create(set, hash, seat.node, plan),
            None if budget > 0 => {
                budget -= 1;
                create(set, hash, seat.node, plan);
            }
            None => {}
        }
    }
}
