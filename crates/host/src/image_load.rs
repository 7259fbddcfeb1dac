//! `stead image load FILE`: docker-archive and OCI layouts, as tar (also compressed) or directory.
//!
//! Guarantees: digests are verified where the format carries them; nothing of an archive that fails is left; an image found
//! under its own name afterwards is exactly the file's.
//! Upstream: `docker save`'s manifest.json; the OCI image layout with `org.opencontainers.image.ref.name`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use stead_node::action::Image;

use crate::image::{self, ConfigFile, ImageError, ImageStore, Stored};
use crate::image_unpack::{self, Hashing};

/// Told the bytes done and in all.
pub type Progress<'a> = &'a dyn Fn(u64, u64);

/// A manifest, index or configuration is never larger.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;

/// Loads every image of the file or directory.
pub fn load(store: &ImageStore, path: &Path, progress: Progress) -> Result<Vec<Image>, ImageError> {
    let _loading = store.loading()?;
    let scratch = store.temporary()?;
    let result = Archive::open(path, &scratch)
        .map_err(ImageError::disk(format!("read {}", path.display())))
        .and_then(|archive| load_archive(store, &archive, path, progress));
    let _ = fs::remove_dir_all(&scratch);
    result
}

fn load_archive(
    store: &ImageStore,
    archive: &Archive,
    path: &Path,
    progress: Progress,
) -> Result<Vec<Image>, ImageError> {
    let images = if archive.has("index.json") {
        oci_images(archive)?
    } else if archive.has("manifest.json") {
        docker_images(archive)?
    } else {
        let what = "neither a docker-archive (manifest.json) nor an OCI layout (index.json)";
        return Err(ImageError::Damaged(format!("{} is {what}", path.display())));
    };
    if images.is_empty() {
        return Err(ImageError::Damaged(format!("{} holds no image for linux/amd64", path.display())));
    }
    let total = images.iter().flat_map(|i| &i.layers).map(|layer| archive.size(layer)).sum();
    let mut done = 0;
    progress(0, total);
    images.into_iter().map(|found| load_image(store, archive, found, &mut done, total, progress)).collect()
}

/// An image of an archive: names of its members.
struct Found {
    names: Vec<String>,
    config: String,
    layers: Vec<String>,
    manifest_digest: Option<String>,
}

fn load_image(
    store: &ImageStore,
    archive: &Archive,
    found: Found,
    done: &mut u64,
    total: u64,
    progress: Progress,
) -> Result<Image, ImageError> {
    let bytes = archive.document(&found.config)?;
    let config = ConfigFile::parse(&bytes)?;
    if config.diff_ids().len() != found.layers.len() {
        return Err(ImageError::Damaged("the image has another number of layers than its configuration says".into()));
    }
    let mut size_bytes = 0;
    for (diff_id, layer) in config.diff_ids().iter().zip(&found.layers) {
        if !store.has_layer(diff_id) {
            let stream = archive.read(layer).map_err(ImageError::disk(format!("read {layer}")))?;
            store.add_layer(diff_id, Counting { inner: stream, done: *done, total, progress })?;
        }
        let size = archive.size(layer);
        size_bytes += size;
        *done += size;
        progress(*done, total);
    }
    let names: Vec<String> =
        found.names.iter().map(|n| image::parse(n).map(|n| n.to_string())).collect::<Result<_, _>>()?;
    let digests = match (&found.manifest_digest, names.first()) {
        (Some(digest), Some(name)) => vec![format!("{}@{digest}", image::parse(name)?.without_version())],
        _ => vec![],
    };
    let stored = Stored {
        id: image_unpack::sha256(&bytes),
        digests,
        layers: config.diff_ids().to_vec(),
        size_bytes,
        config: config.stored(),
    };
    store.add(stored, &names)
}

/// Reports progress while a layer is read.
pub struct Counting<'a, R> {
    pub inner: R,
    pub done: u64,
    pub total: u64,
    pub progress: Progress<'a>,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.done += n as u64;
        (self.progress)(self.done, self.total.max(self.done));
        Ok(n)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn docker_images(archive: &Archive) -> Result<Vec<Found>, ImageError> {
    let manifests: Vec<DockerManifest> = archive.json("manifest.json")?;
    let found = manifests.into_iter().map(|m| Found {
        names: m.repo_tags.unwrap_or_default(),
        config: m.config,
        layers: m.layers,
        manifest_digest: None,
    });
    Ok(found.collect())
}

/// A manifest or an index, whichever it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    #[serde(default)]
    pub config: Option<Descriptor>,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub digest: String,
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
}

impl Manifest {
    /// The manifest of this machine's kind in an index.
    pub fn for_this_machine(&self) -> Option<&Descriptor> {
        let is_ours =
            |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == "amd64");
        let only = || self.manifests.first().filter(|d| self.manifests.len() == 1 && d.platform.is_none());
        self.manifests.iter().find(is_ours).or_else(only)
    }
}

fn oci_images(archive: &Archive) -> Result<Vec<Found>, ImageError> {
    let index: Manifest = archive.json("index.json")?;
    let mut found = Vec::new();
    for entry in &index.manifests {
        let is_other = entry.platform.as_ref().is_some_and(|p| p.os != "linux" || p.architecture != "amd64");
        if is_other {
            continue;
        }
        let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
            .iter()
            .find_map(|key| entry.annotations.get(*key).cloned());
        let mut digest = entry.digest.clone();
        let mut manifest: Manifest = archive.json(&blob(&digest)?)?;
        if let Some(inner) = manifest.for_this_machine() {
            digest = inner.digest.clone();
            manifest = archive.json(&blob(&digest)?)?;
        }
        let Some(config) = manifest.config else { continue };
        found.push(Found {
            names: name.into_iter().collect(),
            config: blob(&config.digest)?,
            layers: manifest.layers.iter().map(|l| blob(&l.digest)).collect::<Result<_, _>>()?,
            manifest_digest: Some(digest),
        });
    }
    Ok(found)
}

fn blob(digest: &str) -> Result<String, ImageError> {
    match crate::image_name::is_digest(digest) {
        true => Ok(digest.replacen(':', "/", 1)).map(|path| format!("blobs/{path}")),
        false => Err(ImageError::Damaged(format!("bad digest {digest:?}"))),
    }
}

/// The members of a tar file or the files of a directory, by name.
enum Archive {
    Directory(PathBuf),
    Tar { file: PathBuf, members: BTreeMap<String, Member> },
}

enum Member {
    At {
        offset: u64,
        size: u64,
    },
    /// Older `docker save` links equal layers.
    Link(String),
}

impl Archive {
    fn open(path: &Path, scratch: &Path) -> io::Result<Archive> {
        if path.is_dir() {
            return Ok(Archive::Directory(path.to_path_buf()));
        }
        let mut start = [0; 4];
        let mut file = File::open(path)?;
        let is_seekable = file.metadata()?.is_file();
        let read = if is_seekable { file.read(&mut start)? } else { 0 };
        let is_compressed = start[..read].starts_with(&[0x1f, 0x8b]) || start[..read] == [0x28, 0xb5, 0x2f, 0xfd];
        if is_seekable && !is_compressed {
            return Archive::index(path.to_path_buf());
        }
        if is_seekable {
            file.seek(SeekFrom::Start(0))?;
        }
        let plain = scratch.join("archive.tar");
        io::copy(&mut image_unpack::decompress(file)?, &mut File::create(&plain)?)?;
        Archive::index(plain)
    }

    fn index(path: PathBuf) -> io::Result<Archive> {
        let mut members = BTreeMap::new();
        let mut archive = tar::Archive::new(BufReader::new(File::open(&path)?));
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let name = entry.path()?.display().to_string();
            let name = name.trim_start_matches("./").to_string();
            let member = match entry.link_name()? {
                Some(target) => Member::Link(join(&name, &target.display().to_string(), entry.header().entry_type())),
                None => Member::At { offset: entry.raw_file_position(), size: entry.size() },
            };
            members.insert(name, member);
        }
        Ok(Archive::Tar { file: path, members })
    }

    fn locate(&self, name: &str) -> Option<(u64, u64)> {
        let Archive::Tar { members, .. } = self else { return None };
        let mut name = name;
        for _ in 0..8 {
            match members.get(name)? {
                Member::At { offset, size } => return Some((*offset, *size)),
                Member::Link(target) => name = target,
            }
        }
        None
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Archive::Directory(dir) => dir.join(name).is_file(),
            Archive::Tar { .. } => self.locate(name).is_some(),
        }
    }

    fn size(&self, name: &str) -> u64 {
        match self {
            Archive::Directory(dir) => fs::metadata(dir.join(name)).map_or(0, |m| m.len()),
            Archive::Tar { .. } => self.locate(name).map_or(0, |(_, size)| size),
        }
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read>> {
        match self {
            Archive::Directory(dir) => Ok(Box::new(File::open(dir.join(name))?)),
            Archive::Tar { file, .. } => {
                let (offset, size) = self.locate(name).ok_or(io::ErrorKind::NotFound)?;
                let mut file = File::open(file)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(file.take(size)))
            }
        }
    }

    /// A small member; one that is named by its digest must have it.
    fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let reader = self.read(name).map_err(ImageError::disk(format!("read {name}")))?;
        let mut hashing = Hashing::new(reader.take(DOCUMENT_BYTES_MAX));
        hashing.read_to_end(&mut bytes).map_err(ImageError::disk(format!("read {name}")))?;
        let digest = hashing.digest();
        match name.strip_prefix("blobs/sha256/") {
            Some(expected) if digest != format!("sha256:{expected}") => {
                Err(ImageError::Damaged(format!("{name} has digest {digest}")))
            }
            _ => Ok(bytes),
        }
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T, ImageError> {
        serde_json::from_slice(&self.document(name)?).map_err(|e| ImageError::Damaged(format!("{name}: {e}")))
    }
}

/// A symlink's target is relative to its directory, a hard link's to the archive.
fn join(name: &str, target: &str, kind: tar::EntryType) -> String {
    if kind != tar::EntryType::Symlink {
        return target.trim_start_matches("./").to_string();
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}
