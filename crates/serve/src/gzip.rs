//! Large answers are packed for clients that take gzip, as Kubernetes does: from 128 KiB on, at the fastest level.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// Answers up to this size are sent as they are.
const PLAIN_BYTES_MAX: u64 = 128 << 10;
/// The same for OpenAPI documents, which are text that repeats itself.
const PLAIN_DOCUMENT_BYTES_MAX: u64 = 1400;

/// Whether an answer of this size is packed.
pub fn is_due(headers: &HeaderMap, path: &str, length: u64) -> bool {
    let limit = if path.starts_with("/openapi/") { PLAIN_DOCUMENT_BYTES_MAX } else { PLAIN_BYTES_MAX };
    let accepted = || headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    length > limit && accepted().split(',').any(|one| one.trim() == "gzip")
}

/// Packs on a thread that may be busy for a while. None: it could not, and the answer goes as it is.
pub async fn pack(pieces: impl IntoIterator<Item = Bytes> + Send + 'static) -> Option<Bytes> {
    tokio::task::spawn_blocking(move || packed(pieces)).await.ok()?.ok()
}

fn packed(pieces: impl IntoIterator<Item = Bytes>) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for piece in pieces {
        encoder.write_all(&piece)?;
    }
    Ok(encoder.finish()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn large_answers_are_packed_for_those_who_take_it() {
        let due = |accept: &str, path: &str, length: u64| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, accept.parse().expect("a value"));
            is_due(&headers, path, length)
        };
        assert!(due("gzip", "/api/v1/pods", (128 << 10) + 1) && due("br, gzip ,x", "/openapi/v2", 1401));
        assert!(!due("gzip", "/api/v1/pods", 128 << 10) && !due("br", "/api/v1/pods", 1 << 20));
        assert!(!due("gzip;q=0", "/api/v1/pods", 1 << 20), "as Kubernetes reads it");
        let bytes = packed([Bytes::from_static(b"ab"), Bytes::from_static(b"cd")]).expect("bytes");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("gzip");
        assert_eq!(text, "abcd");
    }
}
