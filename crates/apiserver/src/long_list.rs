//! A list in plain JSON, put together as it is sent.
//!
//! Contract: the pieces one after the other are the list. The objects stay where they are, in a snapshot that lives as long as the
//! answer; only the piece that is sent next is copied, so that a list of any length needs little memory, and a piece is
//! still in the processor's cache when it is encrypted.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde_json::json;
use stead_api::{Key, Object};
use stead_kinds::Kind;
use stead_store::Snapshot;

use crate::encode::json::object_bytes;
use crate::listed::{Listed, Objects};

/// A piece is sent when it has grown so far: with a last object and its frame still four records of TLS, which is as much as
/// rustls takes at once.
const PIECE_BYTES: usize = 60 << 10;
/// Larger objects are pieces of their own, shared with the store.
const COPIED_BYTES_MAX: usize = 16 << 10;

/// The pieces of a list that are still to be sent.
#[derive(Clone)]
pub struct LongList {
    kind: Kind,
    /// What stands before the first object; taken by the first piece.
    head: String,
    rest: Rest,
    items: Items,
    is_over: bool,
}

#[derive(Clone)]
enum Rest {
    These(std::vec::IntoIter<Arc<Object>>),
    All { snapshot: Snapshot, namespace: String, after: Option<Key> },
}

#[derive(Clone, Default)]
struct Items {
    has_any: bool,
    /// An object that is the next piece.
    large: Option<Bytes>,
}

impl LongList {
    pub(crate) fn of(listed: Listed) -> LongList {
        let Listed { kind, objects, meta } = listed;
        let (list_kind, version) = (json!(kind.list_kind), json!(kind.api_version()));
        LongList {
            head: format!(
                "{{\"kind\":{list_kind},\"apiVersion\":{version},\"metadata\":{},\"items\":[",
                meta.to_json()
            ),
            kind,
            rest: match objects {
                Objects::These(objects) => Rest::These(objects.into_iter()),
                Objects::All { snapshot, namespace } => Rest::All { snapshot, namespace, after: None },
            },
            items: Items::default(),
            is_over: false,
        }
    }

    /// Whether the last piece is out.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Copies objects until the piece is full; false when there are none left.
    fn fill(&mut self, piece: &mut BytesMut) -> bool {
        let (kind, items) = (&self.kind, &mut self.items);
        match &mut self.rest {
            Rest::These(objects) => objects.any(|object| items.push(piece, kind, &object)),
            Rest::All { snapshot, namespace, after } => {
                let mut objects = snapshot.list_after(kind.storage, namespace, after.as_ref());
                let last = objects.find(|object| items.push(piece, kind, object)).map(|object| object.key.clone());
                let is_full = last.is_some();
                *after = last;
                is_full
            }
        }
    }
}

impl Items {
    /// Adds an object; true when the piece is to be sent.
    fn push(&mut self, piece: &mut BytesMut, kind: &Kind, object: &Object) -> bool {
        if std::mem::replace(&mut self.has_any, true) {
            piece.extend_from_slice(b",");
        }
        if kind.convert.is_none() && object.json.len() <= COPIED_BYTES_MAX {
            piece.extend_from_slice(&object.json);
            return piece.len() >= PIECE_BYTES;
        }
        let bytes = object_bytes(kind, object);
        if bytes.len() > COPIED_BYTES_MAX {
            self.large = Some(bytes);
            return true;
        }
        piece.extend_from_slice(&bytes);
        piece.len() >= PIECE_BYTES
    }
}

impl Iterator for LongList {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(large) = self.items.large.take() {
            return Some(large);
        }
        if self.is_over {
            return None;
        }
        let mut piece = BytesMut::with_capacity(PIECE_BYTES + (4 << 10));
        piece.extend_from_slice(std::mem::take(&mut self.head).as_bytes());
        if !self.fill(&mut piece) {
            piece.extend_from_slice(b"]}");
            self.is_over = true;
        }
        Some(piece.freeze())
    }
}

impl std::fmt::Debug for LongList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "list of {}", self.kind.storage)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::fixture::Server;
    use crate::{LongList, Reply, present, serve_read};

    const MAPS: &str = "/api/v1/namespaces/default/configmaps";

    /// The pieces of the list of a server's ConfigMaps.
    fn pieces(server: &Server, query: &str) -> Vec<usize> {
        let request = server.request(&format!("GET {MAPS}{query}"), "").expect("a request");
        let reply = present(serve_read(&server.head(), server.now, &request), &request.options, server.now);
        let Reply::LongList { list, .. } = reply else { panic!("a plain list is not encoded at once: {reply:?}") };
        let pieces: Vec<_> = LongList::collect::<Vec<_>>(*list);
        let list: Value = serde_json::from_slice(&pieces.concat()).expect("the pieces are JSON");
        let names = |items: &Value| -> Vec<String> {
            items.as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect()
        };
        let stored = server.store.snapshot().list("configmaps", "default").map(|o| o.value()).collect();
        assert_eq!(names(&list["items"]), names(&Value::Array(stored)));
        assert_eq!((&list["kind"], &list["apiVersion"]), (&"ConfigMapList".into(), &"v1".into()));
        pieces.iter().map(|piece| piece.len()).collect()
    }

    #[test]
    fn a_list_of_any_length_is_its_pieces() {
        let mut server = Server::new();
        let empty = pieces(&server, "");
        assert_eq!(empty.len(), 1);
        for (number, size) in [10, 20_000, 20_000, 100, 100_000].into_iter().chain([3_000; 60]).enumerate() {
            let body =
                serde_json::json!({"metadata": {"name": format!("m{number:03}")}, "data": {"k": "x".repeat(size)}});
            let request = server.request(&format!("POST {MAPS}"), &body.to_string()).expect("a request");
            assert!(server.perform(&request).status().is_none());
        }
        for query in ["", "?limit=500"] {
            let sizes = pieces(&server, query);
            assert!(sizes.len() > 6, "{sizes:?}");
            assert!(sizes.iter().all(|size| *size < 65_536 || *size > 100_000), "one write of TLS each: {sizes:?}");
        }
    }
}
