//! How a remote command ended, in the words of the error channel.
//!
//! Contract: protocol versions 4 and 5 carry a `metav1.Status` as JSON, success included; older ones carry a
//! plain text and nothing on success. Rule: behaviour row K-07; `NonZeroExitCode` with the cause `ExitCode` is
//! where kubectl takes its own exit code from.

use serde_json::{Value, json};

/// How a remote command ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The process ended with code 0, or (attach) the stream simply ended.
    Success,
    /// The process ended with another code. By convention 128 + the signal's number after a signal.
    Exited { code: i32, command: Vec<String> },
    /// The command could not be run; the message completes "error executing command in container: ".
    Failed { message: String },
    /// A `Status` the caller has already.
    Status(Value),
}

impl Outcome {
    /// The `Status` object of this outcome.
    pub fn status(&self) -> Value {
        match self {
            Outcome::Success => json!({"metadata": {}, "status": "Success"}),
            Outcome::Exited { code, command } => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!(
                    "command terminated with non-zero exit code: error executing command [{}], exit code {code}",
                    command.join(" ")
                ),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Outcome::Failed { message } => {
                let message = format!("error executing command in container: {message}");
                json!({
                    "metadata": {},
                    "status": "Failure",
                    "message": format!("Internal error occurred: {message}"),
                    "reason": "InternalError",
                    "details": {"causes": [{"message": message}]},
                    "code": 500,
                })
            }
            Outcome::Status(status) => status.clone(),
        }
    }

    /// What the error channel carries: the status as JSON, or for old protocols its message unless it succeeded.
    pub(crate) fn bytes(&self, status_json: bool) -> Vec<u8> {
        let status = self.status();
        if status_json {
            return status.to_string().into_bytes();
        }
        if status["status"] == "Success" {
            return Vec::new();
        }
        let message = status["message"].as_str().unwrap_or("unknown error");
        message.as_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn an_exit_code_is_a_cause() {
        let outcome = Outcome::Exited { code: 7, command: vec!["sh".into(), "-c".into(), "exit 7".into()] };
        expect![[r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: error executing command [sh -c exit 7], exit code 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#]]
            .assert_eq(&String::from_utf8(outcome.bytes(true)).unwrap());
        expect!["command terminated with non-zero exit code: error executing command [sh -c exit 7], exit code 7"]
            .assert_eq(&String::from_utf8(outcome.bytes(false)).unwrap());
        assert!(Outcome::Success.bytes(false).is_empty());
    }
}
