//! What the expressions about one change have in common: what they see of it, and whether it is theirs.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::Object;
use stead_cel::Program;
use stead_kinds::Kind;
use stead_store::Snapshot;

use super::authorizer;
use super::variables::Vars;
use crate::attempt::Attempt;
use crate::context::Place;

/// What all expressions of one policy may cost for one request.
const POLICY_COST_MAX: u64 = 10_000_000;

/// Why a policy cannot see a change in the version that it is about: only a webhook knows that version, and policies ask nobody.
pub(super) fn unseen(attempt: &Attempt, matched: &Kind) -> Option<String> {
    let is_unseen = attempt.kind.by_webhook && attempt.kind.version != matched.version;
    is_unseen.then(|| {
        let (sent, wanted) = (attempt.kind.api_version(), matched.api_version());
        format!("objects of {sent} are not converted to {wanted} for policies: name {sent} in the policy's rules, too")
    })
}

/// Whether all match conditions hold; one that does not hides errors of others.
pub(crate) fn is_wanted<'a>(conditions: &'a [(String, Program)], vars: &Vars<'a>) -> Result<bool, String> {
    let mut failure = None;
    for (name, program) in conditions {
        match vars.evaluate(program) {
            Ok(stead_cel::Value::Bool(true)) => {}
            Ok(_) => return Ok(false),
            Err(error) => failure = failure.or(Some(format!("matchCondition '{name}' resulted in error: {error}"))),
        }
    }
    failure.map_or(Ok(true), Err)
}

/// What is the same for every expression about one change.
pub(crate) struct Scene<'a> {
    snapshot: &'a Snapshot,
    attempt: &'a Attempt<'a>,
    pub new: Value,
    pub old: Value,
    pub request: Value,
    namespace: Value,
}

impl<'a> Scene<'a> {
    /// Objects are shown in the version that was matched.
    pub(crate) fn of(place: Place<'a>, attempt: &'a Attempt<'a>, matched: &Kind) -> Scene<'a> {
        let snapshot = place.snapshot;
        let shown = |value: &Value| {
            let mut value = value.clone();
            if value.is_object() && attempt.object_kind.is_none() {
                if let Some(convert) = matched.convert {
                    (convert.from_stored)(&mut value);
                }
                value["apiVersion"] = json!(matched.api_version());
                value["kind"] = json!(matched.kind);
            }
            value
        };
        let namespace = snapshot.find("namespaces", "", attempt.namespace).filter(|_| attempt.kind.namespaced);
        Scene {
            snapshot,
            attempt,
            new: shown(&attempt.new),
            old: shown(&attempt.old),
            request: attempt.admission_request(matched),
            namespace: namespace.map_or(Value::Null, |object: &Arc<Object>| object.value()),
        }
    }

    pub(crate) fn vars<'v>(&'v self, variables: &'v [(String, Program)], param: Option<&'v Value>) -> Vars<'v> {
        let value = |json: &'v Value| stead_cel::Value::of(json, None);
        let authorizer = authorizer::of(self.snapshot, self.attempt);
        let known = vec![
            ("object", value(&self.new)),
            ("oldObject", value(&self.old)),
            ("request", value(&self.request)),
            ("namespaceObject", value(&self.namespace)),
            ("params", param.map_or(stead_cel::Value::Null, value)),
            ("authorizer", stead_cel::Value::Asked(Rc::new(authorizer))),
        ];
        Vars::of(known, variables, POLICY_COST_MAX)
    }
}
