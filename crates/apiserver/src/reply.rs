//! `Reply`: an answer as data, without HTTP.

use bytes::Bytes;
use stead_api::{KindName, Request, Resource, Revision, Status};

#[derive(Debug)]
pub enum Reply {
    /// A whole body.
    Body(Body),
    Failure {
        status: Box<Status>,
        warnings: Vec<String>,
    },
    /// Events from the head, driven by the shell with `watch::next`.
    Watch(Box<WatchPlan>),
    /// A connection to a container: the shell finds the node and carries the bytes (log, exec, attach, portforward).
    Stream(Box<StreamPlan>),
}

#[derive(Debug)]
pub struct Body {
    pub code: u16,
    pub content_type: &'static str,
    /// Pieces to be sent one after the other; shared bytes are not copied.
    pub pieces: Vec<Bytes>,
    pub warnings: Vec<String>,
    /// ETag, for OpenAPI and discovery documents.
    pub etag: Option<String>,
}

/// A checked and authorised stream request; the pod exists and is bound to `node`.
#[derive(Debug)]
pub struct StreamPlan {
    pub resource: Resource,
    pub node: String,
    pub pod_uid: String,
    /// The container meant, resolved from the query or the pod's default.
    pub container: String,
    pub request: Request,
}

/// A watch: where it stands and what it lets through.
#[derive(Debug)]
pub struct WatchPlan {
    pub kind: KindName,
    /// Everything up to here was delivered.
    pub revision: Revision,
    pub namespace: String,
    pub request: Request,
    /// Frames to send before the first event (initial events and their bookmark).
    pub initial: Vec<Bytes>,
}

impl Reply {
    pub fn json(code: u16, body: impl Into<Bytes>) -> Reply {
        Reply::Body(Body {
            code,
            content_type: "application/json",
            pieces: vec![body.into()],
            warnings: Vec::new(),
            etag: None,
        })
    }

    pub fn failure(status: Status) -> Reply {
        Reply::Failure { status: Box::new(status), warnings: Vec::new() }
    }
}
