//! Mounts and volumes on disk: overlay roots, tmpfs, atomically swapped files, fsGroup, subPath.
//!
//! Guarantees: "ensure": a second call changes nothing that fits; files of one volume change all at once (the `..data` symlink);
//! a subPath cannot leave its volume, whatever symlinks a container puts there, for the kernel resolves it and the result
//! is pinned by a mount of its own.
//! Upstream: kubelet's AtomicWriter, SetVolumeOwnership, hostPath type checks and subPath handling.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use stead_node::action::{FileContent, FsGroup, HostPathKind, Volume, VolumeSource};

/// Stacks an image's layers (lowest first) below a fresh writable one.
pub fn overlay(layers: &[PathBuf], upper: &Path, work: &Path, target: &Path, no_devices: bool) -> io::Result<()> {
    for dir in [upper, work, target] {
        fs::create_dir_all(dir)?;
    }
    fs::set_permissions(upper, fs::Permissions::from_mode(0o755))?;
    let lower: Vec<String> = layers.iter().rev().map(|l| l.display().to_string()).collect();
    let paths = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), work.display());
    if paths.len() > OPTIONS_BYTES_MAX {
        return overlay_of_many(&lower, upper, work, target, no_devices);
    }
    let mut flags = MountFlags::empty();
    if no_devices {
        flags |= MountFlags::NODEV;
    }
    // `volatile`: what a container writes outside its volumes dies with it, so unmounting need not sync it.
    let volatile = mount("overlay", "overlay", target, flags, &format!("{paths},volatile"));
    let result = match volatile {
        Err(rustix::io::Errno::INVAL) => mount("overlay", "overlay", target, flags, &paths),
        result => result,
    };
    result.map_err(|e| match e {
        rustix::io::Errno::NODEV => io::Error::other(
            "the kernel has no overlayfs: load it (modprobe overlay) or boot a kernel built with CONFIG_OVERLAY_FS",
        ),
        rustix::io::Errno::INVAL => io::Error::other(format!(
            "overlayfs refuses {} as its writable layer: put the data directory on ext4, xfs or btrfs (--data-dir)",
            upper.display()
        )),
        e => io::Error::from(e),
    })
}

/// The kernel takes a page of options, with room for `,volatile`.
const OPTIONS_BYTES_MAX: usize = 4000;

/// Layer by layer, for images of so many that one page of options cannot name them.
fn overlay_of_many(lower: &[String], upper: &Path, work: &Path, target: &Path, no_devices: bool) -> io::Result<()> {
    let too_old = |e: rustix::io::Errno| match e {
        rustix::io::Errno::INVAL => io::Error::other(format!(
            "the image has {} layers, more than this kernel can stack: Linux 6.5 can",
            lower.len()
        )),
        e => e.into(),
    };
    let fs = rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in lower {
        rustix::mount::fsconfig_set_string(fs.as_fd(), "lowerdir+", layer.as_str()).map_err(too_old)?;
    }
    rustix::mount::fsconfig_set_string(fs.as_fd(), "upperdir", upper)?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), "workdir", work)?;
    rustix::mount::fsconfig_set_flag(fs.as_fd(), "volatile")?;
    rustix::mount::fsconfig_create(fs.as_fd())?;
    let mut flags = rustix::mount::MountAttrFlags::empty();
    if no_devices {
        flags |= rustix::mount::MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    let tree = rustix::mount::fsmount(fs.as_fd(), rustix::mount::FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    rustix::mount::move_mount(tree.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

fn mount(source: &str, kind: &str, target: &Path, flags: MountFlags, data: &str) -> rustix::io::Result<()> {
    let data = std::ffi::CString::new(data).map_err(|_| rustix::io::Errno::INVAL)?;
    rustix::mount::mount(source, target, kind, flags, Some(data.as_c_str()))
}

/// A tmpfs, once.
pub fn tmpfs(target: &Path, options: &str, flags: MountFlags) -> io::Result<()> {
    if is_mount_point(target)? {
        return Ok(());
    }
    fs::create_dir_all(target)?;
    mount("tmpfs", "tmpfs", target, flags, options)?;
    // What happens below is nobody else's business, whatever the machine's root says.
    rustix::mount::mount_change(target, MountPropagationFlags::PRIVATE)?;
    Ok(())
}

pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let flags = rustix::fs::StatxFlags::BASIC_STATS;
    match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, flags) {
        Ok(stat) => Ok(stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Takes the mount and everything mounted below it away; fine when there is none.
pub fn unmount(target: &Path) -> io::Result<()> {
    while is_mount_point(target)? {
        match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Mount points at or below a path, deepest first.
pub fn mounts_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|l| l.split(' ').nth(4)).map(|p| PathBuf::from(p.replace("\\040", " ")));
    let mut below: Vec<PathBuf> = points.filter(|p| p.starts_with(path)).collect();
    below.reverse();
    Ok(below)
}

/// Is the directory the topmost layer of a mounted overlay?
pub fn is_top_of_an_overlay(layer: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let layer = layer.display().to_string();
    let tops = table.lines().filter_map(|l| l.split("lowerdir").nth(1)).map(|rest| rest.trim_start_matches(['+', '=']));
    tops.map(|rest| rest.split([':', ',']).next().unwrap_or_default()).any(|top| top == layer)
}

/// Where a volume lies on the node once it is ensured.
pub fn place(volume: &Volume, sandbox: &Path, pod_run: &Path) -> PathBuf {
    match &volume.source {
        VolumeSource::EmptyDir => sandbox.join("volumes").join(&volume.name),
        VolumeSource::Memory { .. } | VolumeSource::Files { .. } => pod_run.join("volumes").join(&volume.name),
        VolumeSource::HostPath { path, .. } | VolumeSource::Directory { path } => path.clone(),
        VolumeSource::Block { device } => device.clone(),
    }
}

/// Makes one volume true on disk; `pod_run` is the pod's tmpfs.
pub fn ensure_volume(volume: &Volume, at: &Path, now: Timestamp) -> io::Result<()> {
    match &volume.source {
        VolumeSource::EmptyDir => make_directory(at, 0o777)?,
        VolumeSource::Memory { size_bytes } => {
            let size = size_bytes.map(|n| format!(",size={n}")).unwrap_or_default();
            tmpfs(at, &format!("mode=1777{size}"), MountFlags::NOSUID | MountFlags::NODEV)?;
        }
        VolumeSource::Directory { path } => make_lasting_directory(path)?,
        VolumeSource::HostPath { path, kind } => return ensure_host_path(path, *kind),
        VolumeSource::Block { device } => {
            return match fs::metadata(device) {
                Ok(meta) if meta.file_type().is_block_device() => Ok(()),
                Ok(_) => Err(io::Error::other(format!("{} is not a block device", device.display()))),
                Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", device.display()))),
            };
        }
        VolumeSource::Files { files } => return write_files(at, files, volume.fs_group, now),
    }
    match volume.fs_group {
        Some(group) => own_by_group(at, group),
        None => Ok(()),
    }
}

/// Only a directory made here gets the mode: what a user changed later stays.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|e| io::Error::new(e.kind(), format!("create {}: {e}", path.display())))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// The directory of a persistent volume: what its users sync into it must not be lost with its own name.
fn make_lasting_directory(path: &Path) -> io::Result<()> {
    let kept = path.ancestors().find(|ancestor| ancestor.is_dir()).map(Path::to_path_buf);
    make_directory(path, 0o777)?;
    let made = path.ancestors().take_while(|ancestor| Some(*ancestor) != kept.as_deref());
    made.filter_map(Path::parent).try_for_each(|parent| fs::File::open(parent)?.sync_all())
}

fn ensure_host_path(path: &Path, kind: HostPathKind) -> io::Result<()> {
    let meta = fs::metadata(path);
    match (kind, &meta) {
        (HostPathKind::DirectoryOrCreate, Err(e)) if e.kind() == io::ErrorKind::NotFound => {
            return make_directory(path, 0o755);
        }
        (HostPathKind::FileOrCreate, Err(e)) if e.kind() == io::ErrorKind::NotFound => {
            fs::File::options().create(true).append(true).open(path)?;
            return fs::set_permissions(path, fs::Permissions::from_mode(0o644));
        }
        // The runtime makes a directory for a path that does not exist.
        (HostPathKind::Any, Err(e)) if e.kind() == io::ErrorKind::NotFound => return make_directory(path, 0o755),
        (HostPathKind::Any, _) => return Ok(()),
        _ => {}
    }
    let file_type = meta.ok().map(|m| m.file_type());
    let (fits, what): (fn(&fs::FileType) -> bool, &str) = match kind {
        HostPathKind::Directory | HostPathKind::DirectoryOrCreate => (fs::FileType::is_dir, "a directory"),
        HostPathKind::File | HostPathKind::FileOrCreate => (fs::FileType::is_file, "a file"),
        HostPathKind::Socket => (|t| t.is_socket(), "a socket file"),
        HostPathKind::CharDevice => (|t| t.is_char_device(), "a character device"),
        HostPathKind::BlockDevice => (|t| t.is_block_device(), "a block device"),
        HostPathKind::Any => (|_| true, ""),
    };
    match file_type.is_some_and(|t| fits(&t)) {
        true => Ok(()),
        false => Err(io::Error::other(format!("hostPath type check failed: {} is not {what}", path.display()))),
    }
}

/// Gives the tree to a group: readable and writable for it, new files inherit it.
fn own_by_group(root: &Path, group: FsGroup) -> io::Result<()> {
    let meta = fs::symlink_metadata(root)?;
    let fits = meta.gid() == group.gid && meta.mode() & 0o2770 == 0o2770;
    if group.only_on_root_mismatch && fits {
        return Ok(());
    }
    // The root last: an interrupted walk is then seen as one.
    for entry in fs::read_dir(root)? {
        own_entry(&entry?.path(), group.gid)?;
    }
    own_one(root, &meta, group.gid)
}

fn own_entry(path: &Path, gid: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    own_one(path, &meta, gid)?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            own_entry(&entry?.path(), gid)?;
        }
    }
    Ok(())
}

fn own_one(path: &Path, meta: &fs::Metadata, gid: u32) -> io::Result<()> {
    if meta.gid() != gid {
        lchown(path, None, Some(gid))?;
    }
    if meta.is_symlink() {
        return Ok(());
    }
    let wanted = meta.mode() | 0o660 | if meta.is_dir() { 0o2110 } else { 0 };
    if wanted & 0o7777 != meta.mode() & 0o7777 || meta.gid() != gid {
        fs::set_permissions(path, fs::Permissions::from_mode(wanted & 0o7777))?;
    }
    Ok(())
}

const DATA: &str = "..data";

/// Swaps the volume's files for these, all at once.
fn write_files(
    dir: &Path,
    files: &BTreeMap<String, FileContent>,
    fs_group: Option<FsGroup>,
    now: Timestamp,
) -> io::Result<()> {
    if let Some(bad) = files.keys().find(|key| !is_inner_path(key)) {
        return Err(io::Error::other(format!("invalid path {bad:?} in a volume")));
    }
    fs::create_dir_all(dir)?;
    if let Some(group) = fs_group {
        lchown(dir, None, Some(group.gid))?;
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(if fs_group.is_some() { 0o3777 } else { 0o1777 }))?;
    let current = fs::read_link(dir.join(DATA)).ok();
    if let Some(current) = &current
        && holds(&dir.join(current), files)?
    {
        return link_names(dir, files);
    }
    let name = format!("..{}", now.strftime("%Y_%m_%d_%H_%M_%S.%9f"));
    let fresh = dir.join(&name);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, content) in files {
        write_one(&fresh, path, content, fs_group)?;
    }
    let aside = dir.join("..data_tmp");
    let _ = fs::remove_file(&aside);
    symlink(&name, &aside)?;
    fs::rename(&aside, dir.join(DATA))?;
    link_names(dir, files)?;
    if let Some(old) = current {
        fs::remove_dir_all(dir.join(old))?;
    }
    Ok(())
}

fn write_one(fresh: &Path, path: &str, content: &FileContent, fs_group: Option<FsGroup>) -> io::Result<()> {
    let target = fresh.join(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&target, &content.data)?;
    lchown(&target, content.uid, fs_group.map(|g| g.gid))?;
    let readable = if fs_group.is_some() { 0o440 } else { 0 };
    fs::set_permissions(&target, fs::Permissions::from_mode(content.mode | readable))
}

fn is_inner_path(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with("..")
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Are exactly these files there, with these contents and modes?
fn holds(dir: &Path, files: &BTreeMap<String, FileContent>) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    list_files(dir, Path::new(""), &mut found)?;
    if found.len() != files.len() {
        return Ok(false);
    }
    for (path, content) in files {
        let target = dir.join(path);
        let Ok(meta) = fs::metadata(&target) else { return Ok(false) };
        let fits = meta.len() == content.data.len() as u64
            && meta.mode() & 0o7777 & !0o440 == content.mode & !0o440
            && content.uid.is_none_or(|uid| uid == meta.uid());
        if !fits || fs::read(&target)? != content.data {
            return Ok(false);
        }
    }
    Ok(true)
}

fn list_files(dir: &Path, prefix: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = prefix.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => list_files(&entry.path(), &path, found)?,
            false => drop(found.insert(path)),
        }
    }
    Ok(())
}

/// The names that a container sees lead through `..data`; those no longer there go.
fn link_names(dir: &Path, files: &BTreeMap<String, FileContent>) -> io::Result<()> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with("..") && !wanted.contains(text.as_ref()) {
            fs::remove_file(dir.join(&name))?;
        }
    }
    for name in wanted {
        match symlink(Path::new(DATA).join(name), dir.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Resolves a subPath inside its volume and pins it at `pin` by a mount.
pub fn pin_sub_path(volume: &Path, sub_path: &str, pin: &Path) -> io::Result<()> {
    let inner = Path::new(sub_path);
    if inner.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(io::Error::other(format!("subPath {sub_path:?} must not be absolute or contain '..'")));
    }
    let found = open_or_make(volume, inner, fs::metadata(volume)?.mode() & 0o777)?;
    let is_dir = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode).is_dir();
    unmount(pin)?;
    if is_dir {
        fs::create_dir_all(pin)?;
    } else {
        if let Some(parent) = pin.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::options().create(true).append(true).open(pin)?;
    }
    bind_fd(found.as_fd(), pin)
}

/// Opens a path inside `root` as if that were `/`; what is missing is made as directories.
pub fn open_or_make(root: &Path, inner: &Path, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, root, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)
    };
    match open(inner) {
        Err(rustix::io::Errno::NOENT) => {}
        found => return found.map_err(Into::into),
    }
    let mode = Mode::from_raw_mode(mode);
    let mut done = PathBuf::new();
    for part in inner.components().filter(|part| *part != Component::RootDir) {
        let above = open(&done)?;
        done.push(part);
        match rustix::fs::mkdirat(&above, part.as_os_str(), mode) {
            // Beyond the umask.
            Ok(()) => rustix::fs::chmodat(&above, part.as_os_str(), mode, AtFlags::empty())?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    open(&done).map_err(Into::into)
}

/// Mounts what the descriptor stands for, wherever its name leads now.
pub fn bind_fd(source: std::os::fd::BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(source, "", flags)?;
    rustix::mount::move_mount(tree.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("stead-mount-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, FileContent> {
        let content = |text: &str| FileContent { data: text.as_bytes().to_vec(), mode: 0o640, uid: None };
        list.iter().map(|(path, text)| (path.to_string(), content(text))).collect()
    }

    fn show(dir: &Path) -> String {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names.retain(|n| !n.starts_with(".."));
        names.iter().map(|n| format!("{n}>{} ", fs::read_link(dir.join(n)).unwrap().display())).collect()
    }

    #[test]
    fn files_are_swapped_through_one_symlink() {
        let dir = dir("files");
        let at = |s| Timestamp::new(s, 0).unwrap();
        write_files(&dir, &files(&[("a", "1"), ("sub/b", "2")]), None, at(1)).unwrap();
        assert_eq!(show(&dir), "a>..data/a sub>..data/sub ");
        assert_eq!(fs::read_to_string(dir.join("sub/b")).unwrap(), "2");
        assert_eq!(fs::metadata(dir.join("a")).unwrap().mode() & 0o777, 0o640);
        let before = fs::read_link(dir.join(DATA)).unwrap();
        write_files(&dir, &files(&[("a", "1"), ("sub/b", "2")]), None, at(2)).unwrap();
        assert_eq!(fs::read_link(dir.join(DATA)).unwrap(), before, "the same contents change nothing");
        write_files(&dir, &files(&[("a", "one")]), None, at(3)).unwrap();
        assert_eq!((show(&dir).as_str(), fs::read_to_string(dir.join("a")).unwrap().as_str()), ("a>..data/a ", "one"));
        assert!(!dir.join(before).exists());
        assert!(write_files(&dir, &files(&[("../x", "")]), None, at(4)).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_sub_path_stays_in_its_volume() {
        let dir = dir("subpath");
        fs::create_dir_all(dir.join("volume/real")).unwrap();
        fs::write(dir.join("secret"), "no").unwrap();
        symlink("../../secret", dir.join("volume/escape")).unwrap();
        assert!(pin_sub_path(&dir.join("volume"), "../secret", &dir.join("pin")).is_err());
        // Resolved as if the volume were the root: there is no `secret` in it.
        assert!(pin_sub_path(&dir.join("volume"), "escape", &dir.join("pin")).is_err());
        pin_sub_path(&dir.join("volume"), "real/made", &dir.join("pin")).unwrap();
        fs::write(dir.join("pin/f"), "x").unwrap();
        assert_eq!(fs::read_to_string(dir.join("volume/real/made/f")).unwrap(), "x");
        unmount(&dir.join("pin")).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_image_of_many_layers_is_stacked() {
        let dir = dir("layers");
        let layers: Vec<PathBuf> = (0..120).map(|n| dir.join(format!("{n:024}"))).collect();
        for (number, layer) in layers.iter().enumerate() {
            fs::create_dir(layer).unwrap();
            fs::write(layer.join("top"), number.to_string()).unwrap();
        }
        let root = dir.join("root");
        overlay(&layers, &dir.join("upper"), &dir.join("work"), &root, true).unwrap();
        assert_eq!(fs::read_to_string(root.join("top")).unwrap(), "119");
        unmount(&root).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn fs_group_owns_the_tree() {
        let dir = dir("fsgroup");
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/f"), "").unwrap();
        fs::set_permissions(dir.join("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
        own_by_group(&dir, FsGroup { gid: 1234, only_on_root_mismatch: true }).unwrap();
        let show = |p: &str| fs::metadata(dir.join(p)).map(|m| (m.gid(), format!("{:o}", m.mode() & 0o7777))).unwrap();
        assert_eq!(show("d/f"), (1234, "660".to_string()));
        assert_eq!(show("d"), (1234, "2775".to_string()));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn host_path_types_are_checked() {
        let dir = dir("hostpath");
        let check = |kind| ensure_host_path(&dir.join("x"), kind).map_err(|e| e.to_string());
        let error = check(HostPathKind::File).unwrap_err();
        assert!(error.starts_with("hostPath type check failed: ") && error.ends_with(" is not a file"), "{error}");
        check(HostPathKind::DirectoryOrCreate).unwrap();
        check(HostPathKind::Directory).unwrap();
        assert!(check(HostPathKind::Socket).is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
