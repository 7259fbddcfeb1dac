//! What a batch makes durable, and restore from it.
//!
//! The seam with the disk (or etcd) is two functions of the shell: commit a list of `(Key, Option<bytes>)` with a revision in one
//! atomic, synced write; and read all records back in key order. Keys are text: `kind`, namespace and name joined by NUL, which
//! none of them can contain.

use bytes::Bytes;
use stead_api::object::{Fields, NotAnObject};
use stead_api::{Key, KindName, Object, Revision, intern};

use crate::snapshot::Snapshot;

/// One durable object.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub key: Key,
    pub json: Bytes,
}

/// What was read back cannot be trusted: refuse to start rather than guess.
#[derive(Debug, thiserror::Error)]
pub enum Corrupt {
    #[error("stored key {0:?} is not a key")]
    Key(String),
    #[error("stored object {0}")]
    Object(#[from] NotAnObject),
    #[error("stored object {key} is of revision {revision}, newer than the store's own {store}")]
    Future { key: Key, revision: Revision, store: Revision },
}

/// The bytes under which a key is stored. Their order is the order of keys.
pub fn key_bytes(key: &Key) -> Vec<u8> {
    [key.kind, &key.namespace, &key.name].join("\0").into_bytes()
}

/// The key behind stored bytes.
pub fn key_of_bytes(bytes: &[u8]) -> Result<Key, Corrupt> {
    let wrong = || Corrupt::Key(String::from_utf8_lossy(bytes).into_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
    let mut parts = text.split('\0');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(kind), Some(namespace), Some(name), None) if !kind.is_empty() && !name.is_empty() => {
            Ok(Key::new(intern(kind), namespace, name))
        }
        _ => Err(wrong()),
    }
}

/// Folds durable records into a snapshot. `fields` tells what to index of each kind.
///
/// # Errors
/// The first record that does not decode, with its key.
pub fn restore(
    revision: Revision,
    records: impl Iterator<Item = Record>,
    fields: impl Fn(KindName) -> Fields,
) -> Result<Snapshot, Corrupt> {
    let mut objects = Vec::new();
    for record in records {
        let object = Object::of_json(record.key.clone(), record.json, &fields(record.key.kind))?;
        if object.revision() > revision {
            return Err(Corrupt::Future { key: record.key, revision: object.revision(), store: revision });
        }
        objects.push(object);
    }
    Ok(Snapshot::restored(revision, objects.into_iter()))
}
