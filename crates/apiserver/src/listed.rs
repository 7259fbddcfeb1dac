//! A list before it has a form: its objects, which may stay in their snapshot, and its metadata.

use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::{Object, Revision};
use stead_kinds::Kind;
use stead_store::Snapshot;

/// The objects of a list.
#[derive(Clone)]
pub struct Listed {
    pub(crate) kind: Kind,
    pub(crate) objects: Objects,
    pub(crate) meta: ListMeta,
}

/// Objects in key order.
#[derive(Clone)]
pub(crate) enum Objects {
    These(Vec<Arc<Object>>),
    /// Everything of a namespace or, when that is empty, of the kind: the objects stay in their snapshot.
    All {
        snapshot: Snapshot,
        namespace: String,
    },
}

impl Objects {
    pub(crate) fn iter<'a>(&'a self, kind: &Kind) -> Box<dyn Iterator<Item = &'a Arc<Object>> + 'a> {
        match self {
            Objects::These(objects) => Box::new(objects.iter()),
            Objects::All { snapshot, namespace } => Box::new(snapshot.list(kind.storage, namespace)),
        }
    }
}

impl Listed {
    pub(crate) fn is_longer_than(&self, count: usize) -> bool {
        self.objects.iter(&self.kind).nth(count).is_some()
    }
}

impl std::fmt::Debug for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "list of {} at {}", self.kind.storage, self.meta.revision)
    }
}

/// The metadata of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListMeta {
    pub revision: Revision,
    pub continue_token: String,
    pub remaining: Option<usize>,
}

impl ListMeta {
    pub(crate) fn to_json(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.revision.to_string()});
        if !self.continue_token.is_empty() {
            meta["continue"] = json!(self.continue_token);
        }
        if let Some(count) = self.remaining {
            meta["remainingItemCount"] = json!(count);
        }
        meta
    }
}
