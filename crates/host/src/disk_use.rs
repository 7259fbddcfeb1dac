//! What pods have taken of the disk, and giving it back.
//!
//! Only what goes with the pod counts: writable layers, logs, emptyDirs on disk. What cannot be read counts as nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use stead_node::action::{ContainerRef, Observation, PodDisk, PodUid, Reason};

use crate::Host;
use crate::fault::Fault;
use crate::record::{check_name, names_in, remove_all};

/// The unit of a file's blocks.
const BLOCK_BYTES: u64 = 512;

impl Host {
    pub(crate) fn measure_pods(&self, pods: &[PodUid]) -> BTreeMap<PodUid, PodDisk> {
        pods.iter().map(|uid| (uid.clone(), self.measure(uid).unwrap_or_default())).collect()
    }

    fn measure(&self, uid: &str) -> io::Result<PodDisk> {
        let mut found = PodDisk::default();
        let Some(record) = self.sandbox_record(uid)? else { return Ok(found) };
        let sandbox = self.paths.sandbox(uid);
        for name in names_in(&sandbox.join("containers"))? {
            let mut bytes = bytes_below(&self.paths.logs(&record.pod()).join(&name));
            for attempt in names_in(&self.paths.containers(uid, &name))? {
                bytes += bytes_below(&self.paths.containers(uid, &name).join(attempt).join("upper"));
            }
            found.containers.insert(name, bytes);
        }
        found.volumes = bytes_below(&sandbox.join("volumes"));
        Ok(found)
    }

    /// Of a pod that was stopped: no container runs and nothing is mounted.
    pub(crate) fn empty_pod(&self, uid: &str) -> Result<Observation, Fault> {
        let fault = |e: io::Error| Fault { reason: Reason::FailedCleanup, message: format!("empty pod {uid}: {e}") };
        check_name(uid).map_err(fault)?;
        let _pod = self.locks.lock(uid);
        let sandbox = self.paths.sandbox(uid);
        for name in names_in(&sandbox.join("containers")).map_err(fault)? {
            for attempt in names_in(&self.paths.containers(uid, &name)).map_err(fault)? {
                let Ok(attempt) = attempt.parse() else { continue };
                let key = ContainerRef { pod: uid.to_owned(), name: name.clone(), attempt };
                if self.known(&key).is_some_and(|known| known.is_running()) {
                    return Err(fault(io::Error::other(format!("container {name} still runs"))));
                }
                remove_all(&self.paths.container(&key).join("upper")).map_err(fault)?;
            }
        }
        remove_all(&sandbox.join("volumes")).map_err(fault)?;
        Ok(Observation::PodEmptied { pod: uid.to_owned() })
    }
}

/// Directories of other file systems, which are mounts, are not entered.
fn bytes_below(path: &Path) -> u64 {
    let Ok(top) = fs::symlink_metadata(path) else { return 0 };
    let device = top.dev();
    let (mut bytes, mut left) = (top.blocks() * BLOCK_BYTES, vec![path.to_path_buf()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != device {
                continue;
            }
            bytes += meta.blocks() * BLOCK_BYTES;
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    bytes
}
