//! Calls out: what a decision has to ask a webhook, as a value that the shell performs and hands back.
//!
//! A request is decided as a function of the snapshot, the request and the answers so far. What meets a question without an answer
//! stops there and has stored nothing; the same request comes again with the answer. Answers are found by the whole question and
//! not by a digest of it, so that nobody can make one answer fit another question.

use bytes::Bytes;
use jiff::Timestamp;

/// Where a webhook listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Url(String),
    Service {
        namespace: String,
        name: String,
        port: u16,
        /// With its slash, or empty.
        path: String,
    },
}

impl Endpoint {
    /// The URL as errors name it.
    pub fn url(&self) -> String {
        match self {
            Endpoint::Url(url) => {
                let place = url.split_once("://").map_or(url.as_str(), |(_, place)| place);
                let slash = if place.contains('/') { "" } else { "/" };
                format!("{url}{slash}")
            }
            Endpoint::Service { namespace, name, port, path } => {
                let slash = if path.is_empty() { "/" } else { "" };
                format!("https://{name}.{namespace}.svc:{port}{path}{slash}")
            }
        }
    }
}

/// A review to send to a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who is asked: the configuration and the webhook.
    pub asked: String,
    pub endpoint: Endpoint,
    /// Certificates in PEM, or empty for those that the machine trusts.
    pub ca_bundle: Vec<u8>,
    pub seconds: u32,
    /// `admission.k8s.io/v1` and `AdmissionReview`.
    pub api_version: &'static str,
    pub kind: &'static str,
    /// The review's `request`, a JSON object without its uid.
    pub request: Bytes,
}

impl Question {
    /// The URL with the time that is left, as the webhook is told.
    pub fn url(&self) -> String {
        let url = self.endpoint.url();
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("{url}{mark}timeout={}s", self.seconds)
    }

    /// The review; `uid` ties the answer to it.
    pub fn body(&self, uid: &str) -> Bytes {
        let head = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"request\":{{\"uid\":\"{uid}\",",
            self.kind, self.api_version
        );
        let mut body = Vec::with_capacity(head.len() + self.request.len() + 1);
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(self.request.get(1..).unwrap_or_default());
        body.push(b'}');
        body.into()
    }
}

/// What a webhook said, or why it could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The uid that the review was sent with.
    pub uid: String,
    pub said: Result<Said, String>,
}

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub code: u16,
    pub body: Bytes,
}

/// What a request has learnt so far, and what must stay as it was when it is decided again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// When it was decided first: what it writes is of that time.
    pub began: Timestamp,
    /// Names and uids that it gives come from this.
    pub seed: u64,
    /// How often it was decided.
    pub rounds: u32,
    pub answers: Vec<(Question, Answer)>,
    /// Whether webhooks are passed over: for what the cluster cannot start without.
    pub asks_nobody: bool,
}

impl Replay {
    pub fn begin(began: Timestamp, seed: u64) -> Replay {
        Replay { began, seed, rounds: 0, answers: Vec::new(), asks_nobody: false }
    }

    /// For a request that no webhook is asked about.
    pub fn unasked() -> Replay {
        Replay { asks_nobody: true, ..Replay::begin(Timestamp::UNIX_EPOCH, 0) }
    }

    pub fn answer(&self, question: &Question) -> Option<&Answer> {
        self.answers.iter().find(|(asked, _)| asked == question).map(|(_, answer)| answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_is_sent_with_its_uid_and_its_time() {
        let question = Question {
            asked: "a".into(),
            endpoint: Endpoint::Service {
                namespace: "ns".into(),
                name: "hook".into(),
                port: 443,
                path: "/mutate".into(),
            },
            ca_bundle: Vec::new(),
            seconds: 10,
            api_version: "admission.k8s.io/v1",
            kind: "AdmissionReview",
            request: Bytes::from_static(br#"{"operation":"CREATE"}"#),
        };
        assert_eq!(question.url(), "https://hook.ns.svc:443/mutate?timeout=10s");
        let body = question.body("u-1");
        let review: serde_json::Value = serde_json::from_slice(&body).expect("a review is JSON");
        assert_eq!(
            review,
            serde_json::json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
                "request": {"uid": "u-1", "operation": "CREATE"}})
        );
    }

    #[test]
    fn a_url_without_a_path_gets_one() {
        let of = |url: &str| Endpoint::Url(url.into()).url();
        assert_eq!(of("https://127.0.0.1:8443"), "https://127.0.0.1:8443/");
        assert_eq!(of("https://hook.example/"), "https://hook.example/");
        assert_eq!(of("https://hook.example/mutate"), "https://hook.example/mutate");
    }
}
