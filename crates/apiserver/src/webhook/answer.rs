//! What a webhook's answer means: a verdict, or a failure in Kubernetes' words.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use stead_api::Status;
use stead_api::call::{Answer, Said};
use stead_api::status::{Cause, Details};

/// The longest part of a body that an error repeats.
const QUOTED_BYTES_MAX: usize = 2048;

pub(super) enum Outcome {
    Verdict(Verdict),
    /// It did not answer, or not as a webhook does.
    Failed(String),
}

#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub refusal: Option<Status>,
    pub warnings: Vec<String>,
    /// For the audit log.
    pub annotations: Vec<(String, String)>,
    /// Operations of a JSON patch; never empty.
    pub patch: Option<Value>,
}

/// Reads an answer to a review of a version.
pub(super) fn read(hook: &str, api_version: &str, is_mutating: bool, answer: &Answer) -> Outcome {
    let review = match review(answer) {
        Ok(review) => review,
        Err(why) => return Outcome::Failed(format!("failed to call webhook: {why}")),
    };
    match verify(&review, api_version, is_mutating, &answer.uid) {
        Ok(()) => {}
        Err(why) => return Outcome::Failed(format!("received invalid webhook response: {why}")),
    }
    let response = &review["response"];
    let warnings = response["warnings"].as_array().into_iter().flatten();
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    let mut verdict = Verdict {
        refusal: None,
        annotations: annotations.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
        warnings: warnings.filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        patch: None,
    };
    if response["allowed"] != true {
        verdict.refusal = Some(refusal(hook, &response["status"]));
        return Outcome::Verdict(verdict);
    }
    match patch(response) {
        Ok(patch) => verdict.patch = patch.filter(|_| is_mutating),
        Err(Unread::NotBase64(why)) => return Outcome::Failed(format!("failed to call webhook: {why}")),
        Err(Unread::NoPatch(why)) => verdict.refusal = Some(Status::internal(why)),
        Err(Unread::Type(name)) => return Outcome::Failed(format!("unsupported patch type \"{name}\"")),
    }
    Outcome::Verdict(verdict)
}

/// The review that came back.
///
/// # Errors
/// What Go's client says of any other answer.
pub(crate) fn review(answer: &Answer) -> Result<Value, String> {
    let said = answer.said.as_ref().map_err(Clone::clone)?;
    if !(200..300).contains(&said.code) {
        return Err(refused(said));
    }
    if said.body.is_empty() {
        return Err(format!("0-length response with status code: {} and content type: ", said.code));
    }
    let found: Result<Value, _> = serde_json::from_slice(&said.body);
    found.map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))
}

fn quoted(said: &Said) -> String {
    String::from_utf8_lossy(&said.body[..said.body.len().min(QUOTED_BYTES_MAX)]).into_owned()
}

/// A status in the body, or what the code means.
fn refused(said: &Said) -> String {
    let status: Value = serde_json::from_slice(&said.body).unwrap_or_default();
    if status["kind"] == "Status"
        && let Some(message) = status["message"].as_str()
    {
        return message.to_owned();
    }
    let text = match said.code {
        400 => "the server rejected our request for an unknown reason",
        401 => "the server has asked for the client to provide credentials",
        404 => "the server could not find the requested resource",
        405 => "the server does not allow this method on the requested resource",
        406 => "the server was unable to respond with a content type that the client supports",
        409 => "the server reported a conflict",
        415 => "the server was unable to process the request because the media type of the request was not supported",
        422 => "the server rejected our request due to an error in our request",
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
        }
        403 => return quoted(said).trim().to_owned(),
        code if code >= 500 => {
            let body = quoted(said).trim().escape_debug().to_string();
            return format!("an error on the server (\"{body}\") has prevented the request from succeeding");
        }
        code => return format!("the server responded with the status code {code} but did not return more information"),
    };
    text.to_owned()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn verify(review: &Value, api_version: &str, is_mutating: bool, uid: &str) -> Result<(), String> {
    let response = &review["response"];
    if !response.is_object() {
        return Err("webhook response was absent".into());
    }
    // The first version did not say what an answer must look like.
    if api_version.ends_with("v1beta1") {
        return Ok(());
    }
    if text(response, "uid") != uid {
        return Err(format!("expected response.uid=\"{uid}\", got \"{}\"", text(response, "uid")));
    }
    let (version, kind) = (text(review, "apiVersion"), text(review, "kind"));
    if (version, kind) != (api_version, "AdmissionReview") {
        let slash = if version.contains('/') { "" } else { "/" };
        return Err(format!(
            "expected webhook response of {api_version}, Kind=AdmissionReview, got {slash}{version}, Kind={kind}"
        ));
    }
    let (has_patch, patch_type) = (!text(response, "patch").is_empty(), response["patchType"].as_str());
    match (is_mutating, has_patch, patch_type) {
        (true, true, None) => Err("webhook returned response.patch but not response.patchType".into()),
        (true, false, Some(_)) => Err("webhook returned response.patchType but not response.patch".into()),
        (true, true, Some("")) => Err("webhook returned invalid response.patchType of \"\"".into()),
        (false, true, _) => Err("validating webhook may not return response.patch".into()),
        (false, _, Some(_)) => Err("validating webhook may not return response.patchType".into()),
        _ => Ok(()),
    }
}

enum Unread {
    NotBase64(String),
    NoPatch(String),
    Type(String),
}

fn patch(response: &Value) -> Result<Option<Value>, Unread> {
    let encoded = text(response, "patch");
    if encoded.is_empty() {
        return Ok(None);
    }
    let bytes = STANDARD.decode(encoded).map_err(|error| Unread::NotBase64(error.to_string()))?;
    let operations: Value = serde_json::from_slice(&bytes).map_err(|error| Unread::NoPatch(error.to_string()))?;
    if operations.as_array().is_some_and(Vec::is_empty) || operations.is_null() {
        return Ok(None);
    }
    match response["patchType"].as_str() {
        None | Some("JSONPatch") => Ok(Some(operations)),
        Some(other) => Err(Unread::Type(other.to_owned())),
    }
}

/// The status that a webhook refuses with.
fn refusal(hook: &str, status: &Value) -> Status {
    let (message, reason) = (text(status, "message"), text(status, "reason"));
    let why = match (message, reason) {
        ("", "") => " without explanation".to_owned(),
        ("", reason) => format!(": {reason}"),
        (message, _) => format!(": {message}"),
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 400);
    let message = format!("admission webhook \"{hook}\" denied the request{why}");
    let mut refusal = Status::new(code.unwrap_or(400), reason.to_owned(), message);
    refusal.details = details(&status["details"]);
    refusal
}

fn details(value: &Value) -> Option<Box<Details>> {
    let details = value.as_object()?;
    let own = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let causes = value["causes"].as_array().into_iter().flatten();
    let cause = |one: &Value| Cause {
        reason: own(one.get("reason")),
        message: own(one.get("message")),
        field: own(one.get("field")),
    };
    Some(Box::new(Details {
        name: own(details.get("name")),
        group: own(details.get("group")),
        kind: own(details.get("kind")),
        uid: own(details.get("uid")),
        causes: causes.map(cause).collect(),
        retry_after_seconds: value["retryAfterSeconds"].as_u64().and_then(|seconds| seconds.try_into().ok()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_of(api_version: &str, review: &Value) -> Outcome {
        let said = Ok(Said { code: 200, body: review.to_string().into() });
        read("hook", api_version, true, &Answer { uid: "u".into(), said })
    }

    #[test]
    fn only_the_first_version_takes_an_answer_of_no_kind() {
        let bare = json!({"response": {"uid": "u", "allowed": true}});
        assert!(
            matches!(read_of("admission.k8s.io/v1beta1", &bare), Outcome::Verdict(verdict) if verdict.refusal.is_none())
        );
        let Outcome::Failed(why) = read_of("admission.k8s.io/v1", &bare) else { panic!("it was taken") };
        let expected = "received invalid webhook response: expected webhook response of admission.k8s.io/v1, \
                        Kind=AdmissionReview, got /, Kind=";
        assert_eq!(why, expected);
    }
}
