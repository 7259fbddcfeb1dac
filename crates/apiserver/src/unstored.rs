//! Admission of what is not stored: bindings, evictions, token requests, reviews, connections, deletions.
//!
//! Policies and webhooks look at them in the order in which they look at objects. The object that is sent may be changed.

use serde_json::Value;
use stead_api::{Remarks, Request};
use stead_store::Snapshot;

use crate::attempt::Attempt;
use crate::context::Place;
use crate::halt::Halt;
use crate::{policy, webhook};

/// Whether anybody is to be asked about a request.
pub(crate) fn is_concerned(snapshot: &Snapshot, request: &Request) -> bool {
    policy::are_used(snapshot) || policy::may_mutate(snapshot) || webhook::is_concerned(snapshot, request)
}

/// Asks all who are concerned; what they make of the object.
///
/// # Errors
/// What the first one that refuses says, or the questions that are open.
pub(crate) fn admit(place: Place, mut attempt: Attempt, remarks: &mut Remarks) -> Result<Value, Halt> {
    let asks = webhook::is_concerned(place.snapshot, attempt.request);
    policy::mutate_unstored(place, &mut attempt)?;
    if asks {
        let before = attempt.new.clone();
        webhook::mutate_unstored(place, &mut attempt, remarks)?;
        if attempt.new != before {
            policy::mutate_unstored_again(place, &mut attempt)?;
        }
    }
    policy::look_at(place, &attempt, remarks)?;
    if asks {
        webhook::validate(place, &attempt, remarks)?;
    }
    Ok(attempt.new)
}
