//! The image store: names, configurations and unpacked layers under `<data>/images`.
//!
//! Guarantees: a layer or image is there whole or not at all (made aside, synced, renamed), also over a power cut; layers are
//! shared by their digest; an image that a container uses is not removed.
//! Several processes may have it open (the server, and `stead image` beside it): changes are made under a file lock and seen by
//! all, and layers are only removed while nobody loads or mounts any.
//! The built-in image [`BUILT_IN`] is the running binary itself, made when first asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use stead_node::action::{Image, ImageConfig};

use crate::image_name::{ImageName, is_hash};
use crate::{image_unpack, mount, record};

pub const BUILT_IN: &str = "stead.local/demo:1";

/// What an image operation can end in; the agent's words are chosen by the caller.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("couldn't parse image name {0:?}: {1}")]
    InvalidName(String, String),
    /// The registry does not know it, or does not let us see it.
    #[error("{0}")]
    Refused(String),
    /// The registry cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Damaged(String),
    #[error("image {0} is in use by a container")]
    InUse(String),
    #[error("{0}: {1}")]
    Disk(String, #[source] io::Error),
}

impl ImageError {
    pub fn disk(what: impl Into<String>) -> impl FnOnce(io::Error) -> ImageError {
        let what = what.into();
        move |e| ImageError::Disk(what, e)
    }
}

pub struct ImageStore {
    dir: PathBuf,
    state: Mutex<State>,
    next_temporary: AtomicU64,
}

/// While it lives no process removes a layer.
pub struct Loading(#[allow(dead_code, reason = "its drop gives the lock back")] fs::File);

#[derive(Default)]
struct State {
    /// Normalised name → image id.
    names: BTreeMap<String, String>,
    images: BTreeMap<String, Stored>,
    /// Which `names.json` this was read from: another inode means that another process changed it.
    stamp: Option<(u64, i64, i64)>,
}

/// `configs/<hash>.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stored {
    pub id: String,
    pub digests: Vec<String>,
    /// Lowest first; each is a directory below `layers/`.
    pub layers: Vec<String>,
    pub size_bytes: u64,
    pub config: StoredConfig,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StoredConfig {
    pub user: String,
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    pub exposed_ports: Vec<String>,
    pub stop_signal: Option<String>,
}

impl ImageStore {
    pub fn open(dir: &Path) -> Result<ImageStore, ImageError> {
        let at = |what: &str| ImageError::disk(format!("open image store {}: {what}", dir.display()));
        for sub in ["tmp", "layers", "configs"] {
            fs::create_dir_all(dir.join(sub)).map_err(at(sub))?;
        }
        let state = read_state(dir).map_err(at("names"))?;
        let store = ImageStore { dir: dir.to_path_buf(), state: Mutex::new(state), next_temporary: AtomicU64::new(0) };
        store.remove_unused().map_err(at("layers"))?;
        Ok(store)
    }

    /// Beside the images: the certificate authorities of registries.
    pub fn certs_dir(&self) -> PathBuf {
        self.dir.with_file_name("certs.d")
    }

    /// What is on disk now. A store that cannot be read any more answers from what it knew.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp(&self.dir) != state.stamp
            && let Ok(fresh) = read_state(&self.dir)
        {
            *state = fresh;
        }
        state
    }

    fn lock(&self, name: &str, operation: FlockOperation) -> io::Result<fs::File> {
        let file = fs::File::options().create(true).append(true).open(self.dir.join(name))?;
        rustix::fs::flock(&file, operation)?;
        Ok(file)
    }

    /// The one process that changes names at a time.
    fn changing(&self) -> Result<fs::File, ImageError> {
        let lock = self.lock("names.lock", FlockOperation::LockExclusive);
        lock.map_err(ImageError::disk("lock the image store"))
    }

    /// By name or id; makes the built-in image when it is the one asked for.
    pub fn find(&self, image: &str) -> Result<Option<Image>, ImageError> {
        if let Some(id) = as_id(image) {
            return Ok(self.present(&id));
        }
        let name = parse(image)?;
        if name.to_string() == BUILT_IN {
            return self.built_in().map(Some);
        }
        let state = self.state();
        let id = match &name.digest {
            Some(digest) => {
                let full = format!("{}@{digest}", name.without_version());
                state.images.values().find(|i| i.digests.contains(&full)).map(|i| i.id.clone())
            }
            None => state.names.get(&name.to_string()).cloned(),
        };
        drop(state);
        Ok(id.and_then(|id| self.present(&id)))
    }

    pub fn list(&self) -> Vec<Image> {
        let ids: Vec<String> = self.state().images.keys().cloned().collect();
        ids.iter().filter_map(|id| self.present(id)).collect()
    }

    fn present(&self, id: &str) -> Option<Image> {
        let state = self.state();
        let stored = state.images.get(id)?;
        Some(Image {
            id: stored.id.clone(),
            names: state.names.iter().filter(|(_, of)| *of == id).map(|(name, _)| name.clone()).collect(),
            digests: stored.digests.clone(),
            size_bytes: stored.size_bytes,
            config: stored.config.clone().into(),
        })
    }

    /// The directories to stack, lowest first.
    pub fn layers(&self, id: &str) -> Option<Vec<PathBuf>> {
        let state = self.state();
        let stored = state.images.get(id)?;
        Some(stored.layers.iter().map(|layer| self.layer_dir(layer)).collect())
    }

    fn layer_dir(&self, diff_id: &str) -> PathBuf {
        // Short names: all of an image's layers must fit one page of mount options.
        let hash = diff_id.trim_start_matches("sha256:");
        self.dir.join("layers").join(&hash[..hash.len().min(24)])
    }

    pub fn has_layer(&self, diff_id: &str) -> bool {
        self.layer_dir(diff_id).exists()
    }

    /// To be held from before the first layer until the image is added, and until its layers are mounted.
    pub fn loading(&self) -> Result<Loading, ImageError> {
        let lock = self.lock("layers.lock", FlockOperation::LockShared);
        lock.map(Loading).map_err(ImageError::disk("lock the image store"))
    }

    pub fn temporary(&self) -> Result<PathBuf, ImageError> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.join("tmp").join(format!("{}-{number}", std::process::id()));
        fs::create_dir(&dir).map_err(ImageError::disk(format!("create {}", dir.display())))?;
        Ok(dir)
    }

    /// Unpacks one layer; afterwards it is on disk under its digest. Returns its size.
    pub fn add_layer(&self, diff_id: &str, stream: impl Read) -> Result<u64, ImageError> {
        let aside = self.temporary()?;
        let result = self.unpack_layer(diff_id, stream, &aside);
        let _ = fs::remove_dir_all(&aside);
        result
    }

    fn unpack_layer(&self, diff_id: &str, stream: impl Read, aside: &Path) -> Result<u64, ImageError> {
        let what = format!("unpack layer {diff_id}");
        let unpacked = image_unpack::unpack(stream, aside).map_err(ImageError::disk(what.clone()))?;
        if unpacked.diff_id != diff_id {
            return Err(ImageError::Damaged(format!("{what}: its digest is {}", unpacked.diff_id)));
        }
        self.publish_layer(aside, diff_id).map_err(ImageError::disk(what))?;
        Ok(unpacked.size_bytes)
    }

    fn publish_layer(&self, aside: &Path, diff_id: &str) -> io::Result<()> {
        image_unpack::sync_tree(aside)?;
        match fs::rename(aside, self.layer_dir(diff_id)) {
            // Another thread unpacked the same layer meanwhile.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => {}
            result => result?,
        }
        fs::File::open(self.dir.join("layers"))?.sync_all()
    }

    /// Makes the image known, its layers being there.
    pub fn add(&self, stored: Stored, names: &[String]) -> Result<Image, ImageError> {
        let id = stored.id.clone();
        let what = format!("record image {id}");
        let _changing = self.changing()?;
        let mut state = self.state();
        let mut stored = stored;
        if let Some(known) = state.images.get(&id) {
            let more: Vec<String> = known.digests.iter().filter(|d| !stored.digests.contains(d)).cloned().collect();
            stored.digests.extend(more);
        }
        record::write_durably(&self.config_path(&id), &stored).map_err(ImageError::disk(what.clone()))?;
        let mut all = state.names.clone();
        for name in names {
            all.insert(name.clone(), id.clone());
        }
        record::write_durably(&self.dir.join("names.json"), &all).map_err(ImageError::disk(what.clone()))?;
        state.images.insert(id.clone(), stored);
        state.names = all;
        state.stamp = stamp(&self.dir);
        drop(state);
        self.present(&id).ok_or(ImageError::Damaged(what))
    }

    fn config_path(&self, id: &str) -> PathBuf {
        self.dir.join("configs").join(format!("{}.json", id.trim_start_matches("sha256:")))
    }

    /// Removes a name, and the image when it was the last one (or when named by its id). `in_use`: ids of containers' images.
    pub fn remove(&self, image: &str, in_use: &BTreeSet<String>) -> Result<bool, ImageError> {
        let Some(found) = self.find(image)? else { return Ok(false) };
        let name = match as_id(image) {
            Some(_) => None,
            None => Some(parse(image)?.to_string()),
        };
        let changing = self.changing()?;
        let mut state = self.state();
        let others = state.names.iter().any(|(n, id)| *id == found.id && Some(n) != name.as_ref());
        let goes = name.is_none() || !others;
        let what = format!("remove image {image}");
        let top = state.images.get(&found.id).and_then(|i| i.layers.last()).map(|layer| self.layer_dir(layer));
        let is_mounted = top.is_some_and(|top| mount::is_top_of_an_overlay(&top));
        if goes && (in_use.contains(&found.id) || is_mounted) {
            return Err(ImageError::InUse(image.to_string()));
        }
        let mut names = state.names.clone();
        names.retain(|n, id| if goes { *id != found.id } else { Some(n) != name.as_ref() });
        if goes {
            // First, for a name without an image is none, but an image without a name stays.
            fs::remove_file(self.config_path(&found.id)).map_err(ImageError::disk(what.clone()))?;
            state.images.remove(&found.id);
        }
        record::write_durably(&self.dir.join("names.json"), &names).map_err(ImageError::disk(what.clone()))?;
        state.names = names;
        state.stamp = stamp(&self.dir);
        drop((state, changing));
        self.remove_unused().map_err(ImageError::disk(what))?;
        Ok(true)
    }

    /// Layers of no image, and what loads that were killed left; later, if anybody loads just now.
    fn remove_unused(&self) -> io::Result<()> {
        let Ok(_alone) = self.lock("layers.lock", FlockOperation::NonBlockingLockExclusive) else { return Ok(()) };
        let used: BTreeSet<PathBuf> =
            self.state().images.values().flat_map(|i| &i.layers).map(|l| self.layer_dir(l)).collect();
        for dir in ["layers", "tmp"] {
            for entry in fs::read_dir(self.dir.join(dir))? {
                let path = entry?.path();
                if !used.contains(&path) {
                    fs::remove_dir_all(&path)?;
                }
            }
        }
        Ok(())
    }

    /// The running binary as an image; a new binary is a new image.
    fn built_in(&self) -> Result<Image, ImageError> {
        let _loading = self.loading()?;
        let disk = |what: &str| ImageError::disk(format!("make the built-in image: {what}"));
        let exe = fs::metadata("/proc/self/exe").map_err(disk("/proc/self/exe"))?;
        let identity = format!("{}-{}-{}-{}.{}", exe.dev(), exe.ino(), exe.size(), exe.mtime(), exe.mtime_nsec());
        let id = image_unpack::sha256(identity.as_bytes());
        if let Some(image) = self.present(&id).filter(|i| i.names.iter().any(|n| n == BUILT_IN)) {
            return Ok(image);
        }
        if !self.has_layer(&id) {
            let aside = self.temporary()?;
            fill_built_in(&aside).map_err(disk("copy the binary"))?;
            fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).map_err(disk("layer"))?;
            self.publish_layer(&aside, &id).map_err(disk("layer"))?;
        }
        let config = StoredConfig { entrypoint: vec!["/stead".into(), "demo".into()], ..StoredConfig::default() };
        let stored = Stored { layers: vec![id.clone()], id, digests: vec![], size_bytes: exe.size(), config };
        self.add(stored, &[BUILT_IN.to_string()])
    }
}

fn stamp(dir: &Path) -> Option<(u64, i64, i64)> {
    let meta = fs::metadata(dir.join("names.json")).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

fn read_state(dir: &Path) -> io::Result<State> {
    // Before the contents: a change that comes between is then seen as one.
    let mut state = State { stamp: stamp(dir), ..State::default() };
    for entry in fs::read_dir(dir.join("configs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json")
            && let Some(stored) = record::read::<Stored>(&path)?
        {
            state.images.insert(stored.id.clone(), stored);
        }
    }
    state.names = record::read(&dir.join("names.json"))?.unwrap_or_default();
    state.names.retain(|_, id| state.images.contains_key(id));
    Ok(state)
}

fn fill_built_in(layer: &Path) -> io::Result<()> {
    let target = layer.join("stead");
    // A hard link costs nothing; across file systems, or to a deleted binary, it must be a copy.
    let link = rustix::fs::linkat(
        rustix::fs::CWD,
        "/proc/self/exe",
        rustix::fs::CWD,
        &target,
        rustix::fs::AtFlags::SYMLINK_FOLLOW,
    );
    let is_executable = |path: &Path| fs::metadata(path).is_ok_and(|m| m.mode() & 0o555 == 0o555);
    if link.is_err() || !is_executable(&target) {
        let _ = fs::remove_file(&target);
        fs::copy("/proc/self/exe", &target)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    }
    for (dir, mode) in [("tmp", 0o1777), ("etc", 0o755), ("var/log", 0o755)] {
        fs::create_dir_all(layer.join(dir))?;
        fs::set_permissions(layer.join(dir), fs::Permissions::from_mode(mode))?;
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/:/stead\n")?;
    fs::write(layer.join("etc/group"), "root:x:0:\n")
}

fn as_id(image: &str) -> Option<String> {
    let hash = image.strip_prefix("sha256:").unwrap_or(image);
    is_hash(hash).then(|| format!("sha256:{hash}"))
}

pub fn parse(image: &str) -> Result<ImageName, ImageError> {
    ImageName::parse(image).map_err(|e| ImageError::InvalidName(image.to_string(), e))
}

/// The parts of an image's configuration file that matter here.
#[derive(Debug, Deserialize)]
pub struct ConfigFile {
    #[serde(default)]
    config: Option<ConfigSection>,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigSection {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    stop_signal: Option<String>,
}

impl ConfigFile {
    pub fn parse(bytes: &[u8]) -> Result<ConfigFile, ImageError> {
        let file: ConfigFile = serde_json::from_slice(bytes)
            .map_err(|e| ImageError::Damaged(format!("the image's configuration cannot be read: {e}")))?;
        match file.rootfs.diff_ids.iter().find(|d| !crate::image_name::is_digest(d)) {
            Some(bad) => Err(ImageError::Damaged(format!("the image's configuration has a bad layer digest {bad:?}"))),
            None => Ok(file),
        }
    }

    pub fn diff_ids(&self) -> &[String] {
        &self.rootfs.diff_ids
    }

    pub fn stored(&self) -> StoredConfig {
        let none = ConfigSection::default();
        let config = self.config.as_ref().unwrap_or(&none);
        StoredConfig {
            user: config.user.clone().unwrap_or_default(),
            env: config.env.clone().unwrap_or_default(),
            entrypoint: config.entrypoint.clone().unwrap_or_default(),
            cmd: config.cmd.clone().unwrap_or_default(),
            working_dir: config.working_dir.clone().unwrap_or_default(),
            exposed_ports: config.exposed_ports.iter().flat_map(|p| p.keys().cloned()).collect(),
            stop_signal: config.stop_signal.clone().filter(|s| !s.is_empty()),
        }
    }
}

impl From<StoredConfig> for ImageConfig {
    fn from(c: StoredConfig) -> ImageConfig {
        ImageConfig {
            user: c.user,
            env: c.env,
            entrypoint: c.entrypoint,
            cmd: c.cmd,
            working_dir: c.working_dir,
            exposed_ports: c.exposed_ports,
            stop_signal: c.stop_signal,
        }
    }
}
