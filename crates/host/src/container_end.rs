//! How a container ended: what its shim has written down, or what is said of one that nobody saw end.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use stead_node::action::{ContainerRef, ContainerState, Exit, Observation};

use crate::host::Inner;
use crate::record::Known;
use crate::record::{self, ContainerRecord, ExitRecord, RunningRecord};
use crate::{log, mount};

const TERMINATION_MESSAGE_BYTES_MAX: u64 = 4096;

impl Inner {
    /// The shim of a container is gone: read how it ended, tell the agent, wake those who wait.
    pub(crate) fn ended(&self, key: &ContainerRef, tell: bool) {
        let Some(known) = self.state().get(key).cloned() else { return };
        let dir = self.paths.container(key);
        let record = match record::read::<ExitRecord>(&dir.join("exit.json")) {
            Ok(Some(record)) => record,
            _ => self.lost(&known.record, &dir),
        };
        let _ = mount::unmount(&self.paths.rootfs(key));
        let exit = Exit {
            message: termination_message(&known.record, &dir, record.code),
            code: record.code,
            signal: record.signal,
            oom_killed: record.oom_killed,
            started_at: record.started_at,
            finished_at: record.finished_at,
            is_lost: record.is_lost,
        };
        let ended = Known { state: ContainerState::Exited(exit), record: known.record };
        let container = ended.present();
        let mut state = self.state();
        // Removed meanwhile: then nobody asks.
        if let Some(slot) = state.get_mut(key) {
            *slot = ended;
        }
        drop(state);
        self.changed.notify_all();
        if tell {
            self.tell(Observation::Exited(container));
        }
    }

    /// Nobody saw the end: make sure that there was one, and remember it.
    fn lost(&self, record: &ContainerRecord, dir: &Path) -> ExitRecord {
        let _ = self.cgroups.kill_all(&record.shim.cgroup).and_then(|()| self.cgroups.remove(&record.shim.cgroup));
        let _ = fs::remove_dir_all(record.shim.libcontainer_root.join(&record.id));
        let _ = fs::remove_file(&record.shim.socket);
        let running = record::read::<RunningRecord>(&dir.join("running.json")).ok().flatten();
        let exit = ExitRecord {
            code: 137,
            signal: None,
            oom_killed: false,
            started_at: running.map(|r| r.started_at),
            finished_at: jiff::Timestamp::now(),
            is_lost: true,
            error: None,
        };
        let _ = record::write_durably(&dir.join("exit.json"), &exit);
        exit
    }

    /// Waits until the attempt has ended or is forgotten; `None` when the time is up.
    pub(crate) fn wait_ended(&self, key: &ContainerRef, timeout: Duration) -> Option<Known> {
        let until = Instant::now() + timeout;
        let mut state = self.state();
        loop {
            match state.get(key) {
                Some(known) if !known.is_running() => return Some(known.clone()),
                Some(_) => {}
                None => return None,
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// Sleeps, but no longer than the container runs.
    pub(crate) fn sleep_while_running(&self, key: &ContainerRef, length: Duration) {
        let _ = self.wait_ended(key, length);
    }
}

fn termination_message(record: &ContainerRecord, dir: &Path, code: i32) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(dir.join("termination-log")) {
        let _ = file.take(TERMINATION_MESSAGE_BYTES_MAX).read_to_end(&mut bytes);
    }
    if bytes.is_empty() && record.fallback_to_logs_on_error && code != 0 {
        return log::tail(&record.shim.log).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
