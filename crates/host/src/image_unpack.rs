//! One image layer: a tar stream becomes a directory that overlayfs can stack.
//!
//! Guarantees: nothing is written outside the directory, whatever paths and symlinks the stream holds (every parent is resolved
//! by the kernel with that directory as root); owners, modes with setuid, times, extended attributes and hard links are kept;
//! whiteouts become overlayfs' own; the digests of the bytes before and after decompression are known at the end.
//! Upstream: the OCI image layer specification.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use ring::digest::{Context, SHA256};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use tar::{Entry, EntryType};

/// A layer with more entries is refused: it would fill the disk with empty files.
const ENTRIES_MAX: usize = 4_000_000;

/// Counts and hashes what passes.
pub struct Hashing<R> {
    inner: R,
    context: Context,
    pub bytes: u64,
}

impl<R: Read> Hashing<R> {
    pub fn new(inner: R) -> Hashing<R> {
        Hashing { inner, context: Context::new(&SHA256), bytes: 0 }
    }
    pub fn digest(self) -> String {
        format!("sha256:{}", hex(self.context.finish().as_ref()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.context.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(ring::digest::digest(&SHA256, bytes).as_ref()))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Undoes gzip or zstd, told by the first bytes.
pub fn decompress<'a>(reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(128 << 10, reader);
    let start = reader.fill_buf()?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)));
    }
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(reader).map_err(io::Error::other)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(reader))
}

/// What a layer turned out to be.
pub struct Unpacked {
    /// Digest of the uncompressed stream.
    pub diff_id: String,
    /// Bytes of file contents.
    pub size_bytes: u64,
}

/// Unpacks the (compressed or plain) stream into `dir`, which is empty. Reads it to its end.
pub fn unpack(stream: impl Read, dir: &Path) -> io::Result<Unpacked> {
    let mut plain = Hashing::new(decompress(stream)?);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut layer = Layer { root: rustix::fs::open(dir, flags, Mode::empty())?, dirs: Vec::new(), size_bytes: 0 };
    let mut archive = tar::Archive::new(&mut plain);
    for (count, entry) in archive.entries()?.enumerate() {
        if count > ENTRIES_MAX {
            return Err(io::Error::other(format!("the layer has more than {ENTRIES_MAX} entries")));
        }
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        layer.add(&mut entry, &path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    }
    layer.finish()?;
    io::copy(&mut plain, &mut io::sink())?;
    let size_bytes = layer.size_bytes;
    Ok(Unpacked { diff_id: plain.digest(), size_bytes })
}

struct Layer {
    root: OwnedFd,
    /// Directories get their times last: filling them changes those.
    dirs: Vec<(PathBuf, Timestamps)>,
    size_bytes: u64,
}

impl Layer {
    fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &Path) -> io::Result<()> {
        let path = clean(path)?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let Some(name) = path.file_name() else {
            return self.add_directory(entry, Path::new("."));
        };
        let parent = self.parent(path.parent().unwrap_or(Path::new("")))?;
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return whiteout(&parent, hidden);
        }
        if !kind.is_dir() {
            remove(&parent, name)?;
        }
        match kind {
            EntryType::Directory => self.add_directory(entry, &path),
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
                rustix::fs::symlinkat(target.as_ref(), &parent, name)?;
                let (uid, gid) = owner(entry)?;
                rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                rustix::fs::utimensat(&parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(())
            }
            EntryType::Link => {
                let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
                let target = clean(&target)?;
                let target_name = target.file_name().ok_or(io::ErrorKind::InvalidData)?;
                let target_parent = self.parent(target.parent().unwrap_or(Path::new("")))?;
                rustix::fs::linkat(&target_parent, target_name, &parent, name, AtFlags::empty())?;
                Ok(())
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => add_node(entry, &parent, name, kind),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.add_file(entry, &parent, name),
            _ => Ok(()),
        }
    }

    fn add_file<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        parent: &OwnedFd,
        name: &std::ffi::OsStr,
    ) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(fd);
        self.size_bytes += io::copy(entry, &mut file)?;
        set_attributes(entry, file.as_fd())?;
        rustix::fs::futimens(&file, &times(entry))?;
        Ok(())
    }

    fn add_directory<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &Path) -> io::Result<()> {
        let fd = match path.file_name() {
            None => rustix::io::dup(&self.root)?,
            Some(name) => {
                let parent = self.parent(path.parent().unwrap_or(Path::new("")))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) => {}
                    Err(rustix::io::Errno::EXIST) => {
                        if rustix::fs::openat(&parent, name, flags, Mode::empty()).is_err() {
                            remove(&parent, name)?;
                            rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                        }
                    }
                    Err(e) => return Err(e.into()),
                }
                rustix::fs::openat(&parent, name, flags, Mode::empty())?
            }
        };
        set_attributes(entry, fd.as_fd())?;
        self.dirs.push((path.to_path_buf(), times(entry)));
        Ok(())
    }

    /// Opens a directory of the layer, making what is missing; symlinks are followed as if the layer were the root.
    fn parent(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let mut done = PathBuf::new();
        for part in path.components() {
            let above = self.open(&done)?;
            done.push(part);
            match rustix::fs::mkdirat(&above, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.open(&done)
    }

    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).map_err(Into::into)
    }

    fn finish(&self) -> io::Result<()> {
        for (path, times) in self.dirs.iter().rev() {
            // Gone when a later entry of the same name replaced it.
            if let Ok(dir) = self.open(path) {
                rustix::fs::futimens(&dir, times)?;
            }
        }
        Ok(())
    }
}

/// The path without `/` and `.`; `..` is refused.
fn clean(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the path leads out of the layer"));
            }
        }
    }
    Ok(clean)
}

fn whiteout(parent: &OwnedFd, hidden: &[u8]) -> io::Result<()> {
    if hidden == b".wh..opq" {
        rustix::fs::fsetxattr(parent, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
        return Ok(());
    }
    if hidden.starts_with(b".wh.") || hidden.is_empty() {
        return Ok(());
    }
    let name = std::ffi::OsStr::from_bytes(hidden);
    remove(parent, name)?;
    rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?;
    Ok(())
}

fn remove(parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        // A directory that a later entry replaces by something else: what is in it goes too.
        Err(rustix::io::Errno::ISDIR) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            for entry in rustix::fs::Dir::read_from(&dir)? {
                let entry = entry?;
                let inner = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
                if inner != "." && inner != ".." {
                    remove(&dir, inner)?;
                }
            }
            rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(Into::into)
        }
        Err(e) => Err(e.into()),
    }
}

fn add_node<R: Read>(
    entry: &Entry<'_, R>,
    parent: &OwnedFd,
    name: &std::ffi::OsStr,
    kind: EntryType,
) -> io::Result<()> {
    let header = entry.header();
    let (major, minor) = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
    let kind = match kind {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
    rustix::fs::mknodat(parent, name, kind, mode, rustix::fs::makedev(major, minor))?;
    let (uid, gid) = owner(entry)?;
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
    Ok(())
}

/// Owner first: changing it clears setuid and capabilities.
fn set_attributes<R: Read>(entry: &mut Entry<'_, R>, fd: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    let (uid, gid) = owner(entry)?;
    rustix::fs::fchown(fd, Some(uid), Some(gid))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.header().mode()? & 0o7777))?;
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions.flatten() {
            let Some(name) = extension.key().ok().and_then(|k| k.strip_prefix("SCHILY.xattr.")) else { continue };
            // The overlay's own attributes are ours to set, not the image's.
            if name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.") {
                continue;
            }
            match rustix::fs::fsetxattr(fd, name, extension.value_bytes(), XattrFlags::empty()) {
                // SELinux labels and the like, where the file system knows none.
                Err(rustix::io::Errno::OPNOTSUPP) => {}
                result => result?,
            }
        }
    }
    Ok(())
}

fn owner<R: Read>(entry: &Entry<'_, R>) -> io::Result<(Uid, Gid)> {
    let narrow = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(io::ErrorKind::InvalidData);
    // Writers leave the field empty for 0; the header's checksum guards it against damage.
    let (uid, gid) = (entry.header().uid().unwrap_or(0), entry.header().gid().unwrap_or(0));
    Ok((Uid::from_raw(narrow(uid)?), Gid::from_raw(narrow(gid)?)))
}

fn times<R: Read>(entry: &Entry<'_, R>) -> Timestamps {
    let at = Timespec { tv_sec: i64::try_from(entry.header().mtime().unwrap_or(0)).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: at, last_modification: at }
}

/// Everything written below `dir` so far is on disk.
pub fn sync_tree(dir: &Path) -> io::Result<()> {
    let fd = rustix::fs::openat(CWD, dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::syncfs(&fd).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    fn entry(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, path: &str, link: &str, mode: u32, data: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        // Not `set_path`, which refuses what this test is about.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("stead-unpack-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("layer")).unwrap();
        dir
    }

    #[test]
    fn modes_owners_links_and_whiteouts_are_kept() {
        let dir = dir("keeps");
        let mut tar = tar::Builder::new(Vec::new());
        entry(&mut tar, EntryType::Directory, "usr/bin/", "", 0o755, b"");
        entry(&mut tar, EntryType::Regular, "usr/bin/su", "", 0o4755, b"setuid");
        entry(&mut tar, EntryType::Symlink, "bin", "/usr/bin", 0o777, b"");
        entry(&mut tar, EntryType::Regular, "bin/sh", "", 0o755, b"through an absolute link");
        entry(&mut tar, EntryType::Link, "usr/bin/again", "usr/bin/su", 0o755, b"");
        entry(&mut tar, EntryType::Regular, "etc/.wh.passwd", "", 0o644, b"");
        entry(&mut tar, EntryType::Regular, "var/.wh..wh..opq", "", 0o644, b"");
        let bytes = tar.into_inner().unwrap();
        let unpacked = unpack(&bytes[..], &dir.join("layer")).unwrap();
        assert_eq!(unpacked.diff_id, sha256(&bytes));
        let meta = |path: &str| std::fs::symlink_metadata(dir.join("layer").join(path)).unwrap();
        assert_eq!(
            (meta("usr/bin/su").mode() & 0o7777, meta("usr/bin/su").uid(), meta("usr/bin/su").gid()),
            (0o4755, 7, 8)
        );
        assert_eq!(meta("usr/bin/again").ino(), meta("usr/bin/su").ino());
        assert_eq!(meta("usr/bin").mtime(), 1_000_000_000);
        assert_eq!(std::fs::read(dir.join("layer/usr/bin/sh")).unwrap(), b"through an absolute link");
        assert!(meta("etc/passwd").file_type().is_char_device() && meta("etc/passwd").rdev() == 0);
        let mut value = [0; 4];
        let n = rustix::fs::getxattr(dir.join("layer/var"), "trusted.overlay.opaque", &mut value[..]).unwrap();
        assert_eq!(&value[..n], b"y");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn nothing_leaves_the_layer() {
        let dir = dir("stays");
        std::fs::write(dir.join("victim"), "safe").unwrap();
        for (kind, path, link) in [
            (EntryType::Regular, "../victim", ""),
            (EntryType::Regular, "a/../../victim", ""),
            (EntryType::Link, "stolen", "../victim"),
        ] {
            let mut tar = tar::Builder::new(Vec::new());
            entry(&mut tar, kind, path, link, 0o644, if link.is_empty() { b"bad" } else { b"" });
            let error = unpack(&tar.into_inner().unwrap()[..], &dir.join("layer")).err().unwrap();
            assert!(error.to_string().contains("leads out of the layer"), "{error}");
        }
        // Through symlinks made by the layer itself: they lead to the layer's own root at most.
        let mut tar = tar::Builder::new(Vec::new());
        entry(&mut tar, EntryType::Symlink, "up", "../../..", 0o777, b"");
        entry(&mut tar, EntryType::Regular, "up/victim", "", 0o644, b"bad");
        unpack(&tar.into_inner().unwrap()[..], &dir.join("layer")).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("victim")).unwrap(), "safe");
        assert_eq!(std::fs::read_to_string(dir.join("layer/victim")).unwrap(), "bad");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn compressed_layers_have_the_digest_of_the_plain_stream() {
        use std::io::Write;
        let mut tar = tar::Builder::new(Vec::new());
        entry(&mut tar, EntryType::Regular, "f", "", 0o644, b"x");
        let plain = tar.into_inner().unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&plain).unwrap();
        let zst = ruzstd::encoding::compress_to_vec(&plain[..], ruzstd::encoding::CompressionLevel::Fastest);
        for (name, bytes) in [("gz", gz.finish().unwrap()), ("zst", zst)] {
            let dir = dir(name);
            assert_eq!(unpack(&bytes[..], &dir.join("layer")).unwrap().diff_id, sha256(&plain));
            std::fs::remove_dir_all(dir).unwrap();
        }
    }
}
