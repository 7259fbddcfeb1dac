//! Ports of the machine that several clusters ask for: each writes down what it asks for, beside the link to its description
//! (`neighbours.rs`), and is told when another does.
//!
//! What a cluster wrote holds for as long as its rules are in the kernel: it goes when they are taken away, and a restart of the
//! machine, or another network of it, makes it void. Of two clusters the kernel asks the rules of one first, whose they are is chance;
//! when that one gives the port up, the other's rule begins to work by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use serde_json::{Value, json};
use stead_net::proxy::Claim;

/// Our own claims, and the way to those of others.
#[derive(Clone)]
pub struct Register {
    directory: PathBuf,
    id: String,
    /// What must be the same for a claim to mean anything: the start of the machine and the network.
    place: String,
    written: Option<BTreeSet<Claim>>,
}

impl Register {
    pub fn new(directory: &Path, id: &str) -> Register {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let network = fs::read_link("/proc/self/ns/net").unwrap_or_default();
        let place = format!("{} {}", boot.trim(), network.display());
        Register { directory: directory.to_owned(), id: id.to_owned(), place, written: None }
    }

    fn file(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.ports"))
    }

    /// Writes down what we ask for, if that is another than before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, claims: BTreeSet<Claim>) -> Result<()> {
        if self.written.as_ref() == Some(&claims) {
            return Ok(());
        }
        if claims.is_empty() {
            self.withdraw();
        } else {
            let ports: Vec<String> = claims.iter().map(Claim::to_string).collect();
            let text = json!({"place": self.place, "ports": ports}).to_string();
            crate::files::write_private(&self.file(&self.id), text.as_bytes())?;
        }
        self.written = Some(claims);
        Ok(())
    }

    /// We ask for nothing any more.
    pub fn withdraw(&self) {
        let _ = fs::remove_file(self.file(&self.id));
    }

    /// What other clusters ask for, by their data directories. What a deleted one left is taken away.
    pub fn others(&self) -> BTreeMap<String, BTreeSet<Claim>> {
        let mut found = BTreeMap::new();
        for path in fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let id = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".ports"));
            let Some(id) = id.filter(|id| *id != self.id) else { continue };
            let description = fs::read_link(self.directory.join(id)).ok().filter(|description| description.exists());
            let Some(data_dir) = description.as_ref().and_then(|description| description.parent()) else {
                let _ = fs::remove_file(&path);
                continue;
            };
            if let Some(claims) = self.read(&path) {
                found.insert(data_dir.display().to_string(), claims);
            }
        }
        found
    }

    fn read(&self, path: &Path) -> Option<BTreeSet<Claim>> {
        let value: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        if value["place"] != self.place.as_str() {
            return None;
        }
        Some(value["ports"].as_array()?.iter().filter_map(|port| Claim::parse(port.as_str()?)).collect())
    }
}

/// Tells when a cluster writes; dropped, it ends.
pub struct Lookout {
    /// Closed on drop, which the thread sees.
    _stop: OwnedFd,
}

impl Lookout {
    /// `changed` is called in a thread of its own.
    ///
    /// # Errors
    /// When the directory cannot be watched.
    pub fn start(directory: &Path, changed: impl Fn() + Send + 'static) -> Result<Lookout> {
        let files = inotify::init(inotify::CreateFlags::CLOEXEC).context("watch for files")?;
        let what = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE;
        inotify::add_watch(&files, directory, what).with_context(|| format!("watch {}", directory.display()))?;
        let (stop, hold) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        std::thread::Builder::new().name("claims".into()).stack_size(128 << 10).spawn(move || {
            loop {
                let mut both = [PollFd::new(&files, PollFlags::IN), PollFd::new(&stop, PollFlags::IN)];
                match poll(&mut both, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return,
                }
                if !both[1].revents().is_empty() {
                    return;
                }
                let mut buffer = [MaybeUninit::uninit(); 4096];
                let is_ports =
                    |name: Option<&std::ffi::CStr>| name.is_some_and(|name| name.to_bytes().ends_with(b".ports"));
                let mut reader = inotify::Reader::new(&files, &mut buffer);
                // All that one read brought: the first event reads, the others are there already.
                let mut is_news = reader.next().is_ok_and(|event| is_ports(event.file_name()));
                while !reader.is_buffer_empty() {
                    is_news |= reader.next().is_ok_and(|event| is_ports(event.file_name()));
                }
                if is_news {
                    changed();
                }
            }
        })?;
        Ok(Lookout { _stop: hold })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_cluster_writes_the_others_read() {
        let root = std::env::temp_dir().join(format!("stead-claims-{}", std::process::id()));
        let made = |name: &str| {
            let data = root.join(name);
            fs::create_dir_all(&data).unwrap();
            fs::write(data.join("description"), "").unwrap();
            symlink(data.join("description"), root.join(format!("id-{name}"))).unwrap();
            Register::new(&root, &format!("id-{name}"))
        };
        let (mut one, two) = (made("one"), made("two"));
        let (tell, told) = channel();
        let lookout = Lookout::start(&root, move || tell.send(()).unwrap_or_default()).unwrap();
        let claims = BTreeSet::from([Claim::parse("*:30080/TCP").unwrap()]);
        one.write(claims.clone()).unwrap();
        told.recv_timeout(Duration::from_secs(10)).expect("it is told");
        let of_one = root.join("one").display().to_string();
        assert_eq!(two.others(), BTreeMap::from([(of_one, claims.clone())]));
        assert!(one.others().is_empty(), "its own do not count");
        let elsewhere = Register { place: "another start".into(), ..Register::new(&root, "id-two") };
        assert!(elsewhere.others().is_empty());
        one.write(BTreeSet::new()).unwrap();
        told.recv_timeout(Duration::from_secs(10)).expect("it is told");
        assert!(two.others().is_empty());
        one.write(claims).unwrap();
        fs::remove_dir_all(root.join("one")).unwrap();
        assert!(two.others().is_empty() && !root.join("id-one.ports").exists(), "what is left of a deleted one");
        drop(lookout);
        fs::remove_dir_all(&root).unwrap();
    }
}
