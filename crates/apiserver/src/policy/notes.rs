//! What validating policies have to say to the audit log: their own annotations, and what they would have refused.
//!
//! Upstream: `validating/dispatcher.go`; the value of an annotation that several bindings make is a list of the different ones.

use std::collections::BTreeMap;

use serde_json::json;
use stead_api::Remarks;
use stead_cel::{Program, Value};

use super::denial::{Denial, MESSAGE_BYTES_MAX};
use super::variables::Vars;

const VALIDATION_FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";
/// The longest annotation; what is beyond it is cut off.
const VALUE_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

/// The annotations of one policy, by their keys, from all of its bindings.
#[derive(Default)]
pub(super) struct Annotations(BTreeMap<String, Vec<String>>);

impl Annotations {
    /// Evaluates a policy's annotations; the errors of those that fail.
    pub(super) fn add<'a>(&mut self, programs: &'a [(String, Program)], vars: &Vars<'a>) -> Vec<String> {
        let mut errors = Vec::new();
        for (key, program) in programs {
            match vars.evaluate(program) {
                Ok(Value::String(text)) => self.keep(key, text.trim()),
                Ok(_) => {}
                Err(error) => errors.push(format!("expression '{}' resulted in error: {error}", program.source())),
            }
        }
        errors
    }

    fn keep(&mut self, key: &str, text: &str) {
        let end = (0..=text.len().min(VALUE_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end));
        let text = &text[..end.unwrap_or(0)];
        let values = self.0.entry(key.to_owned()).or_default();
        if !text.is_empty() && !values.iter().any(|known| known == text) {
            values.push(text.to_owned());
        }
    }

    pub(super) fn tell(self, policy: &str, remarks: &mut Remarks) {
        for (key, values) in self.0.into_iter().filter(|(_, values)| !values.is_empty()) {
            remarks.note(|| (format!("{policy}/{key}"), values.join(", ")));
        }
    }
}

/// Notes what a binding with the action Audit would have refused.
pub(super) fn failure(remarks: &mut Remarks, (policy, binding): (&str, &str), actions: &[String], denial: &Denial) {
    remarks.note(|| {
        let failure = json!([{"message": denial.message, "policy": policy, "binding": binding,
            "expressionIndex": denial.index, "validationActions": actions}]);
        (VALIDATION_FAILURE.to_owned(), failure.to_string())
    });
}
