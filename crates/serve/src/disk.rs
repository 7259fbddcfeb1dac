//! The durable seam on redb: commit a batch in one atomic, synced write; read everything back in key order.
//!
//! Guarantees: after a crash or a power cut the store holds a prefix of the committed batches, each whole. Every value carries a
//! checksum over its key and bytes, and the number of objects is stored beside the revision: what is damaged or missing stops
//! the start with its key named, it is never guessed. What is encrypted (seal.rs) is so from here on downwards only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use stead_api::{Key, Revision};
use stead_store::Record;
use stead_store::durable::{key_bytes, key_of_bytes};

use crate::seal::{self, Seal};

const OBJECTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("objects");
const FACTS: TableDefinition<&str, u64> = TableDefinition::new("facts");
const CHECKSUM_BYTES: usize = 4;
/// redb's own page cache. The objects live in our memory; this only has to serve writes.
const CACHE_BYTES: usize = 4 << 20;

pub struct Disk {
    path: PathBuf,
    /// What is stored encrypted; None: nothing.
    seal: Option<Arc<Seal>>,
    /// None while an error has closed it.
    database: Option<Database>,
}

impl Disk {
    /// Opens or makes the store's file. A new one gets its name when it is whole and on disk.
    pub fn open(path: &Path, seal: Option<Arc<Seal>>) -> Result<Disk> {
        if !path.exists() {
            let fresh = path.with_extension("new");
            let _ = std::fs::remove_file(&fresh);
            let mut disk = Disk { path: fresh.clone(), seal: None, database: None };
            disk.reopen()?;
            drop(disk);
            take_name(&fresh, path)?;
        }
        let mut disk = Disk { path: path.to_owned(), seal, database: None };
        disk.reopen()?;
        Ok(disk)
    }

    /// Writes everything into a new file that takes the place of this one: what was stored otherwise is nowhere any more, not even
    /// in free pages.
    pub fn rewrite(mut self, revision: Revision, records: &[Record]) -> Result<Disk> {
        let fresh = self.path.with_extension("new");
        let _ = std::fs::remove_file(&fresh);
        let mut disk = Disk { path: fresh.clone(), seal: self.seal.clone(), database: None };
        disk.reopen()?;
        let writes: Vec<(Key, Option<Bytes>)> =
            records.iter().map(|record| (record.key.clone(), Some(record.json.clone()))).collect();
        disk.commit(revision, &writes)?;
        drop(disk);
        self.database = None;
        take_name(&fresh, &self.path)?;
        self.reopen()?;
        Ok(self)
    }

    /// Closes and opens the file: redb trusts nothing after an error.
    pub fn reopen(&mut self) -> Result<()> {
        self.database = None;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        self.database = Some(builder.create(&self.path).with_context(|| format!("open {}", self.path.display()))?);
        Ok(())
    }

    /// The store's file.
    pub fn place(&self) -> &Path {
        &self.path
    }

    fn database(&self) -> Result<&Database> {
        self.database.as_ref().context("the store is closed")
    }

    /// Makes a batch durable. Returns after the disk has it.
    pub fn commit(&self, revision: Revision, writes: &[(Key, Option<Bytes>)]) -> Result<()> {
        let transaction = self.database()?.begin_write()?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            let mut value = Vec::new();
            for (key, json) in writes {
                let kind = key.kind;
                let key = key_bytes(key);
                match json {
                    Some(json) => {
                        let sealed = self.seal.as_ref().map_or(Ok(None), |seal| seal.seal(kind, &key, json))?;
                        let stored = sealed.as_deref().unwrap_or(json);
                        value.clear();
                        value.extend_from_slice(&checksum(&key, stored));
                        value.extend_from_slice(stored);
                        objects.insert(key.as_slice(), value.as_slice())?;
                    }
                    None => {
                        objects.remove(key.as_slice())?;
                    }
                }
            }
            let count = objects.len()?;
            let mut facts = transaction.open_table(FACTS)?;
            facts.insert("revision", revision)?;
            facts.insert("objects", count)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Everything that was committed, in key order, with the last revision.
    pub fn restore(&self) -> Result<Restored> {
        let transaction = self.database()?.begin_read()?;
        let objects = match transaction.open_table(OBJECTS) {
            Ok(objects) => objects,
            Err(redb::TableError::TableDoesNotExist(_)) => {
                return Ok(Restored { revision: 0, records: Vec::new(), is_current: true });
            }
            Err(error) => return Err(error.into()),
        };
        let facts = transaction.open_table(FACTS)?;
        let fact = |name: &str| facts.get(name)?.map(|v| v.value()).with_context(|| format!("the store has no {name}"));
        let (revision, count) = (fact("revision")?, fact("objects")?);
        let mut records = Vec::with_capacity(count as usize);
        let mut is_current = true;
        for entry in objects.iter()? {
            let (key, value) = entry?;
            let (record, as_now) = record(self.seal.as_deref(), key.value(), value.value())?;
            records.push(record);
            is_current &= as_now;
        }
        if records.len() as u64 != count {
            bail!("the store holds {} objects where {count} were committed", records.len());
        }
        Ok(Restored { revision, records, is_current })
    }
}

/// What a store holds.
#[derive(Debug)]
pub struct Restored {
    pub revision: Revision,
    pub records: Vec<Record>,
    /// Whether all of it is stored as it would be written now.
    pub is_current: bool,
}

/// Gives a new file, once it is on disk, the name under which it is looked for.
fn take_name(fresh: &Path, path: &Path) -> Result<()> {
    std::fs::File::open(fresh).and_then(|file| file.sync_all()).with_context(|| format!("sync {}", fresh.display()))?;
    crate::files::rename(fresh, path)?;
    Ok(())
}

fn record(seal: Option<&Seal>, key: &[u8], value: &[u8]) -> Result<(Record, bool)> {
    let named = key_of_bytes(key)?;
    let (sum, json) =
        value.split_at_checked(CHECKSUM_BYTES).with_context(|| format!("stored object {named} is cut off"))?;
    if sum != checksum(key, json) {
        bail!("stored object {named} is damaged: its checksum does not match");
    }
    let opened = seal::open(seal, named.kind, key, json).with_context(|| format!("stored object {named}"))?;
    Ok((Record { key: named, json: opened.value.into() }, opened.is_current))
}

fn checksum(key: &[u8], json: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(json);
    hasher.finalize().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("stead-disk-{name}-{}", std::process::id()))
    }

    fn write(name: &str, json: Option<&str>) -> (Key, Option<Bytes>) {
        (Key::new("pods", "d", name), json.map(|j| Bytes::copy_from_slice(j.as_bytes())))
    }

    #[test]
    fn durable_what_was_committed_comes_back() {
        let path = path("back");
        {
            let disk = Disk::open(&path, None).unwrap();
            assert_eq!(disk.restore().unwrap().revision, 0);
            disk.commit(2, &[write("a", Some("{1}")), write("b", Some("{2}"))]).unwrap();
            disk.commit(3, &[write("a", None)]).unwrap();
        }
        let Restored { revision, records, .. } = Disk::open(&path, None).unwrap().restore().unwrap();
        assert_eq!(revision, 3);
        assert_eq!(
            records.iter().map(|r| (r.key.to_string(), &r.json[..])).collect::<Vec<_>>(),
            [("pods/d/b".into(), &b"{2}"[..])]
        );
        std::fs::remove_file(&path).unwrap();
    }

    /// A power cut while the store was made left half of it beside: it never had its name.
    #[test]
    fn half_a_new_store_is_made_again() {
        let path = path("half");
        std::fs::write(path.with_extension("new"), b"redb").unwrap();
        Disk::open(&path, None).unwrap().commit(1, &[write("a", Some("{1}"))]).unwrap();
        assert!(!path.with_extension("new").exists());
        assert_eq!(Disk::open(&path, None).unwrap().restore().unwrap().revision, 1);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_flipped_bit_in_a_value_stops_the_restore() {
        let path = path("flip");
        let marker = "x".repeat(300);
        Disk::open(&path, None).unwrap().commit(1, &[write("a", Some(&marker))]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(marker.len()).position(|w| w == marker.as_bytes()).unwrap();
        bytes[at + 100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = Disk::open(&path, None).and_then(|disk| disk.restore().map(|_| ())).unwrap_err();
        assert!(format!("{error:#}").contains("pods/d/a is damaged"), "{error:#}");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_record_under_another_key_is_damaged() {
        let (a, b) = (key_bytes(&Key::new("pods", "d", "a")), key_bytes(&Key::new("pods", "d", "b")));
        let mut value = checksum(&a, b"{}").to_vec();
        value.extend_from_slice(b"{}");
        assert!(record(None, &a, &value).is_ok());
        assert!(record(None, &b, &value).is_err());
        assert!(record(None, &a, b"x").is_err());
    }
}
