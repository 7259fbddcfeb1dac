//! How many replicas each ReplicaSet of a Deployment is to have.
//!
//! Guarantees: never more than replicas + maxSurge pods asked for, never fewer than replicas - maxUnavailable available by our doing;
//! broken old pods go first; a change of size during a rollout is shared in proportion.
//! Upstream: rolling.go, recreate.go, sync.go (`scale`).

use super::sets::{DESIRED, Desired, MAX, Set, Sets, runs_old_pods};

/// Sets the counts. Some(n): the new ReplicaSet is missing and is to be made with n replicas.
pub fn decide(desired: &Desired, sets: &mut Sets) -> Option<i64> {
    if desired.is_paused() || is_resized(desired, sets) {
        scale(desired, sets);
        return None;
    }
    if desired.is_recreate() { recreate(desired, sets) } else { roll(desired, sets) }
}

/// The Deployment's size was changed since its ReplicaSets were written.
fn is_resized(desired: &Desired, sets: &Sets) -> bool {
    let differs = |set: &Set| set.annotated(DESIRED).is_some_and(|n| n != desired.replicas());
    sets.all().filter(|set| set.replicas > 0).any(differs)
}

fn scale(desired: &Desired, sets: &mut Sets) {
    let wanted = desired.replicas();
    let active = sets.all().filter(|set| set.replicas > 0).count();
    if active <= 1 {
        // One has it all: the active one, else the new one, else the latest.
        let index = sets.old.iter().position(|set| set.replicas > 0).filter(|_| active == 1);
        let only = match (index, &mut sets.new) {
            (Some(index), _) => Some(&mut sets.old[index]),
            (None, Some(new)) => Some(new),
            (None, None) => sets.old.last_mut(),
        };
        if let Some(set) = only {
            set.replicas = wanted;
        }
        return;
    }
    let is_saturated = sets.new.as_ref().is_some_and(|new| {
        new.replicas == wanted && new.annotated(DESIRED) == Some(wanted) && new.available() == wanted
    });
    if is_saturated {
        sets.old.iter_mut().for_each(|set| set.replicas = 0);
    } else if !desired.is_recreate() {
        share(desired, sets);
    }
}

/// Shares the difference over the active ReplicaSets in proportion to their sizes; what rounding leaves goes to the first.
fn share(desired: &Desired, sets: &mut Sets) {
    let (surge, _) = desired.limits();
    let wanted = desired.replicas();
    let allowed = if wanted > 0 { wanted + surge } else { 0 };
    let to_add = allowed - sets.total();
    let status_replicas = desired.typed.status.as_ref().and_then(|s| s.replicas).map_or(0, i64::from);
    let mut active: Vec<&mut Set> = sets.old.iter_mut().chain(&mut sets.new).filter(|s| s.replicas > 0).collect();
    // Bigger first; of equals the newer when growing, the older when shrinking.
    active.sort_by(|a, b| {
        let age = a.object.meta.creation_timestamp.cmp(&b.object.meta.creation_timestamp);
        b.replicas.cmp(&a.replicas).then(if to_add > 0 { age.reverse() } else { age })
    });
    let mut added = 0;
    for set in &mut active {
        if to_add == 0 {
            break;
        }
        let fraction = if wanted == 0 {
            -set.replicas
        } else {
            let before = set.annotated(MAX).filter(|n| *n > 0).unwrap_or(status_replicas).max(1);
            // Rounded to the nearest.
            (2 * set.replicas * (wanted + surge) + before).div_euclid(2 * before) - set.replicas
        };
        let room = to_add - added;
        let part = if to_add > 0 { fraction.clamp(0, room) } else { fraction.clamp(room, 0) };
        set.replicas = (set.replicas + part).max(0);
        added += part;
    }
    if let Some(first) = active.first_mut() {
        first.replicas = (first.replicas + to_add - added).max(0);
    }
}

fn recreate(desired: &Desired, sets: &mut Sets) -> Option<i64> {
    if sets.old.iter().any(|set| set.replicas > 0) {
        sets.old.iter_mut().for_each(|set| set.replicas = 0);
        return None;
    }
    if runs_old_pods(desired, sets) {
        return None;
    }
    match &mut sets.new {
        None => Some(desired.replicas()),
        Some(new) => {
            new.replicas = desired.replicas();
            None
        }
    }
}

fn roll(desired: &Desired, sets: &mut Sets) -> Option<i64> {
    let wanted = desired.replicas();
    let (surge, unavailable) = desired.limits();
    let total = sets.total();
    let grown = |size: i64| size + (wanted + surge - total).max(0).min(wanted - size);
    let Some(new) = &mut sets.new else { return Some(grown(0).max(0)) };
    if new.replicas != wanted {
        let before = new.replicas;
        new.replicas = if before > wanted { wanted } else { grown(before) };
        if new.replicas != before {
            return None;
        }
    }
    let new_unavailable = new.replicas - new.available();
    let min_available = wanted - unavailable;
    shrink(sets, total - min_available - new_unavailable, min_available);
    None
}

/// Takes replicas from old ReplicaSets: the unhealthy at once, the healthy as far as enough stay available.
fn shrink(sets: &mut Sets, max_removed: i64, min_available: i64) {
    if max_removed <= 0 {
        return;
    }
    let mut left = max_removed;
    for set in &mut sets.old {
        let broken = (set.replicas - set.available()).clamp(0, left);
        set.replicas -= broken;
        left -= broken;
    }
    let available: i64 = sets.all().map(Set::available).sum();
    let mut spare = (available - min_available).max(0);
    for set in &mut sets.old {
        let part = set.replicas.min(spare);
        set.replicas -= part;
        spare -= part;
    }
}
