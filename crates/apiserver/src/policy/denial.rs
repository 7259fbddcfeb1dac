//! Why a policy refuses, and the refusal that the client is told.

use stead_api::{Cause, Status};
use stead_kinds::admissionpolicy::Validation;

use super::variables::Vars;
use crate::attempt::Attempt;

/// The longest text that a messageExpression may come to.
pub(super) const MESSAGE_BYTES_MAX: usize = 5 * 1024;

/// Why a policy refuses.
pub(super) struct Denial {
    pub message: String,
    pub reason: String,
    /// Which of the policy's validations it comes from.
    pub index: usize,
    /// Whatever the binding's actions are: the policy itself could not be asked.
    pub always: bool,
}

impl Denial {
    pub(super) fn always(message: String) -> Denial {
        Denial { message, reason: String::new(), index: 0, always: true }
    }
}

pub(super) fn refusal(attempt: &Attempt, why: &str, denial: &Denial) -> Status {
    let cause = Cause { message: denial.message.clone(), ..Cause::default() };
    let kind = &attempt.kind;
    let mut status = Status::forbidden(kind.group, kind.plural, attempt.name, why).with_causes(vec![cause]);
    let (code, reason) = match denial.reason.as_str() {
        "Unauthorized" => (401, "Unauthorized"),
        "Forbidden" => (403, "Forbidden"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    status.code = code;
    status.reason = reason.into();
    status
}

pub(super) fn denial<'a>(index: usize, validation: &'a Validation, vars: &Vars<'a>) -> Denial {
    let from_program = validation.message_program.as_ref().and_then(|program| match vars.evaluate(program) {
        Ok(stead_cel::Value::String(text)) => Some(text.trim().to_owned()),
        _ => None,
    });
    let is_fit = |text: &String| !text.is_empty() && !text.contains('\n') && text.len() <= MESSAGE_BYTES_MAX;
    let message = match from_program.filter(is_fit) {
        Some(message) => message,
        None if !validation.message.is_empty() => validation.message.trim().to_owned(),
        None => format!("failed expression: {}", validation.program.source().trim()),
    };
    Denial { message, reason: validation.reason.clone(), index, always: false }
}
