//! `Reply`: an answer as data, without HTTP.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use stead_api::call::{Answer, Question};
use stead_api::form::Format;
use stead_api::protobuf;
use stead_api::token::TokenClaims;
use stead_api::{Key, Notes, Object, Remarks, Request, Resource, Revision, Status};
use stead_kinds::Kind;
use stead_store::Snapshot;

use crate::encode::json::object_bytes;
use crate::listed::{ListMeta, Listed, Objects};
use crate::long_list::LongList;
use crate::select::Selection;

#[derive(Debug)]
pub enum Reply {
    /// A whole body.
    Body(Body),
    /// An object, which `present` puts in the form asked for.
    Object {
        code: u16,
        kind: Box<Kind>,
        object: Arc<Object>,
        warnings: Vec<String>,
    },
    /// The same for many.
    List {
        listed: Box<Listed>,
        warnings: Vec<String>,
    },
    /// A list in its form, which is put together as it is sent.
    LongList {
        list: Box<LongList>,
        warnings: Vec<String>,
    },
    Failure {
        status: Box<Status>,
        warnings: Vec<String>,
    },
    /// Events from the head, driven by the shell with `watch_next`.
    Watch(Box<WatchPlan>),
    /// A connection to a container: the shell finds the node and carries the bytes (log, exec, attach, portforward).
    Stream(Box<StreamPlan>),
    /// A token to sign: the shell signs `claims` and answers `SignPlan::signed`.
    Sign(Box<SignPlan>),
    /// A reply, and what the audit log is to be told of its decision: only for requests that it wants to know of.
    Noted(Box<Reply>, Notes),
    /// Nothing is decided yet: the shell asks webhooks and submits `CallPlan::answered`.
    Call(Box<CallPlan>),
}

#[derive(Debug)]
pub struct Body {
    pub code: u16,
    pub content_type: Cow<'static, str>,
    /// Pieces to be sent one after the other; shared bytes are not copied.
    pub pieces: Vec<Bytes>,
    pub warnings: Vec<String>,
    /// ETag, for OpenAPI and discovery documents.
    pub etag: Option<String>,
}

impl Body {
    pub fn json(code: u16, bytes: impl Into<Bytes>) -> Body {
        Body::of("application/json", code, bytes)
    }

    fn of(content_type: &'static str, code: u16, bytes: impl Into<Bytes>) -> Body {
        let pieces = vec![bytes.into()];
        Body { code, content_type: content_type.into(), pieces, warnings: Vec::new(), etag: None }
    }
}

/// A checked and authorised stream request; the pod exists and is bound to `node`.
#[derive(Debug)]
pub struct StreamPlan {
    pub resource: Resource,
    pub node: String,
    pub pod_uid: String,
    /// The container meant, resolved from the query or the pod's default. Empty for portforward and proxy.
    pub container: String,
    pub request: Request,
    /// What webhooks warn of.
    pub warnings: Vec<String>,
}

/// A TokenRequest that was granted.
#[derive(Debug)]
pub struct SignPlan {
    /// Everything but the issuer.
    pub claims: TokenClaims,
    /// The TokenRequest object without `status.token`.
    pub review: Value,
    pub warnings: Vec<String>,
}

impl SignPlan {
    /// The answer, given the signed token.
    pub fn signed(mut self, token: &str) -> Reply {
        self.review["status"]["token"] = json!(token);
        Reply::json(201, self.review.to_string()).with_warnings(self.warnings)
    }
}

/// A request that waits for answers.
#[derive(Debug)]
pub struct CallPlan {
    /// To be asked all at once.
    pub questions: Vec<Question>,
    /// The time that is left for the answers.
    pub within: Duration,
    pub(crate) request: Request,
}

impl CallPlan {
    /// The request again, with what was answered, in the order of the questions.
    pub fn answered(self, answers: Vec<Answer>) -> Request {
        let mut request = self.request;
        if let Some(replay) = &mut request.replay {
            replay.answers.extend(self.questions.into_iter().zip(answers));
        }
        request
    }
}

/// A watch: where it stands and what it lets through.
pub struct WatchPlan {
    pub kind: Kind,
    /// Everything up to here was delivered.
    pub revision: Revision,
    pub selection: Selection,
    pub request: Request,
    /// The objects to send as ADDED before the first event, as long as there are any left.
    pub(crate) initial: Option<Initial>,
    /// The objects that wait to be converted, and those that were, for the next frames.
    pub(crate) unconverted: Vec<Arc<Object>>,
    pub(crate) converted: BTreeMap<(String, Revision), Arc<Object>>,
    /// Whether the first Table frame, which alone carries the column definitions, has been made.
    pub(crate) columns_sent: bool,
}

/// Initial events that were not sent yet: they are read from the snapshot as the client takes them.
#[derive(Clone)]
pub(crate) struct Initial {
    pub snapshot: Snapshot,
    pub after: Option<Key>,
    /// Whether a bookmark marks their end.
    pub marks_end: bool,
}

impl WatchPlan {
    /// Whether there may be more to send of this head.
    pub fn is_behind(&self, head: &crate::Head) -> bool {
        self.initial.is_some() || self.revision < head.store.snapshot.revision()
    }

    /// The media type of the frames.
    pub fn content_type(&self) -> &'static str {
        match self.request.options.form.format {
            Format::Protobuf => protobuf::WATCH_MEDIA_TYPE,
            Format::Json | Format::Yaml => "application/json",
        }
    }
}

impl std::fmt::Debug for WatchPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "watch of {} in {:?} from {}", self.kind.storage, self.selection.namespace, self.revision)
    }
}

impl Reply {
    pub fn json(code: u16, body: impl Into<Bytes>) -> Reply {
        Reply::Body(Body::json(code, body))
    }

    pub fn text(code: u16, body: impl Into<Bytes>) -> Reply {
        Reply::Body(Body::of("text/plain", code, body))
    }

    pub(crate) fn object(code: u16, kind: &Kind, object: Arc<Object>) -> Reply {
        Reply::Object { code, kind: Box::new(*kind), object, warnings: Vec::new() }
    }

    pub(crate) fn list(kind: &Kind, objects: Objects, meta: ListMeta) -> Reply {
        Reply::List { listed: Box::new(Listed { kind: *kind, objects, meta }), warnings: Vec::new() }
    }

    pub fn failure(status: Status) -> Reply {
        Reply::Failure { status: Box::new(status), warnings: Vec::new() }
    }

    pub fn with_warnings(self, add: Vec<String>) -> Reply {
        let mut reply = match self {
            Reply::Noted(reply, notes) => return Reply::Noted(Box::new(reply.with_warnings(add)), notes),
            reply => reply,
        };
        match &mut reply {
            Reply::Body(Body { warnings, .. })
            | Reply::Object { warnings, .. }
            | Reply::List { warnings, .. }
            | Reply::LongList { warnings, .. }
            | Reply::Failure { warnings, .. } => warnings.extend(add),
            Reply::Stream(plan) => plan.warnings.extend(add),
            Reply::Sign(plan) => plan.warnings.extend(add),
            Reply::Watch(_) | Reply::Noted(..) | Reply::Call(_) => {}
        }
        reply
    }

    pub(crate) fn with_remarks(self, remarks: Remarks) -> Reply {
        let is_open = matches!(self, Reply::Call(_));
        let reply = self.with_warnings(remarks.warnings);
        if is_open || remarks.notes.is_empty() { reply } else { Reply::Noted(Box::new(reply), remarks.notes) }
    }

    /// The reply itself, and what is to be noted of it.
    pub fn split(self) -> (Reply, Notes) {
        match self {
            Reply::Noted(reply, notes) => (*reply, notes),
            reply => (reply, Notes::new()),
        }
    }

    /// The status code and the whole body, objects as JSON: what our own parts read.
    pub fn flat(&self) -> (u16, Vec<u8>) {
        match self {
            Reply::Body(body) => (body.code, body.pieces.concat()),
            Reply::Object { code, kind, object, .. } => (*code, object_bytes(kind, object).to_vec()),
            Reply::List { listed, .. } => (200, LongList::of(Listed::clone(listed)).collect::<Vec<_>>().concat()),
            Reply::LongList { list, .. } => (200, LongList::clone(list).collect::<Vec<_>>().concat()),
            Reply::Failure { status, .. } => (status.code, status.to_json().to_string().into_bytes()),
            Reply::Noted(reply, _) => reply.flat(),
            Reply::Watch(_) | Reply::Stream(_) | Reply::Sign(_) | Reply::Call(_) => (200, Vec::new()),
        }
    }

    /// The failure, if this is one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Reply::Failure { status, .. } => Some(status),
            Reply::Noted(reply, _) => reply.status(),
            _ => None,
        }
    }
}
