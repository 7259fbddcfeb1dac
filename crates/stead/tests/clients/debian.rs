//! Images made of Debian packages that are installed on this machine: their files, and those of all that they need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ring::digest::{Context, SHA256};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Nothing that runs in the tests needs these: a compiler of queries, languages, the machine's own upkeep.
const LEFT_OUT: &[&str] = &[
    "debconf",
    "dpkg",
    "init-system-helpers",
    "libc-l10n",
    "libllvm14",
    "libsystemd-shared",
    "libz3-4",
    "locales",
    "logrotate",
    "systemd",
    "ucf",
];
const FOLDERS_LEFT_OUT: &[&str] =
    &["/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/", "/usr/lib/udev/"];
/// The programs that shell scripts of the packages expect, and the shell.
const ALWAYS: &[&str] = &["bash", "coreutils", "dash", "grep", "libc-bin", "mawk", "procps", "sed", "util-linux"];

/// Loads an image of packages into a cluster.
pub fn load(cluster: &Cluster, name: &str, packages: &[&str], settings: Value) {
    let directory = cluster.dir.join("image");
    fs::create_dir_all(&directory).expect("the scratch directory is writable");
    let image = archive(&directory, name, packages, settings);
    cluster.stead(&format!("image load {}", image.display())).says("loaded ");
    fs::remove_dir_all(directory).expect("the scratch directory is writable");
}

/// An archive of an image as `docker save` writes it, in a directory.
fn archive(directory: &Path, name: &str, packages: &[&str], settings: Value) -> PathBuf {
    let layer = directory.join("layer.tar");
    pack(&layer, packages);
    let config = json!({"architecture": "amd64", "os": "linux", "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]}});
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    fs::write(directory.join("config.json"), config.to_string()).expect("the scratch directory is writable");
    fs::write(directory.join("manifest.json"), manifest.to_string()).expect("the scratch directory is writable");
    let image = directory.join("image.tar");
    tar(Command::new("tar").arg("-cf").arg(&image).arg("-C").arg(directory).args([
        "config.json",
        "manifest.json",
        "layer.tar",
    ]));
    let _ = fs::remove_file(layer);
    image
}

/// The files of packages in a layer, beside accounts for the services' users.
fn pack(layer: &Path, packages: &[&str]) {
    let needed: Vec<&str> = ALWAYS.iter().chain(packages).copied().collect();
    let files: String = files(&closure(&needed)).into_iter().map(|file| file + "\n").collect();
    let directory = layer.parent().expect("a file has a directory");
    let list = directory.join("files");
    fs::write(&list, files).expect("the scratch directory is writable");
    let own = directory.join("own");
    fs::create_dir_all(own.join("etc")).expect("the scratch directory is writable");
    for folder in ["tmp", "run", "var/tmp", "var/run/postgresql", "proc", "sys", "dev"] {
        fs::create_dir_all(own.join(folder)).expect("the scratch directory is writable");
        open_to_all(&own.join(folder));
    }
    let (passwd, group) =
        ("root:x:0:0::/root:/bin/bash\nservice:x:999:999::/tmp:/bin/bash\n", "root:x:0:\nservice:x:999:\n");
    fs::write(own.join("etc/passwd"), passwd).expect("the scratch directory is writable");
    fs::write(own.join("etc/group"), group).expect("the scratch directory is writable");
    let root = ["--owner=0", "--group=0", "--numeric-owner"];
    tar(Command::new("tar").arg("-cf").arg(layer).args(root).args(["--no-recursion", "-C", "/", "-T"]).arg(&list));
    tar(Command::new("tar").arg("-rf").arg(layer).args(root).arg("-C").arg(&own).arg("."));
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)).expect("the folder is ours");
}

/// These packages and all that they need, as far as they are installed.
fn closure(packages: &[&str]) -> Vec<String> {
    let without =
        ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"].map(|what| format!("--no-{what}"));
    let text =
        said(Command::new("apt-cache").args(["depends", "--recurse", "--installed"]).args(without).args(packages));
    let names = text.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_alphanumeric()));
    let mut names: Vec<String> = names.map(str::to_owned).filter(|name| !LEFT_OUT.contains(&name.as_str())).collect();
    names.sort();
    names.dedup();
    assert!(
        packages.iter().all(|package| names.iter().any(|name| name == package)),
        "not installed: some of {packages:?}"
    );
    names
}

/// The files of packages, links followed in their folders but not at their ends.
fn files(packages: &[String]) -> Vec<String> {
    let text = said(Command::new("dpkg-query").arg("-L").args(packages));
    let mut files: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with('/') && *line != "/.")
        .filter(|line| !FOLDERS_LEFT_OUT.iter().any(|folder| line.starts_with(folder)))
        .map(Path::new)
        .filter_map(|file| Some(file.parent()?.canonicalize().ok()?.join(file.file_name()?)))
        .filter(|file| file.symlink_metadata().is_ok())
        .map(|file| file.display().to_string().trim_start_matches('/').to_owned())
        .collect();
    // The folders that were merged into /usr, and what is chosen among alternatives or made at installation.
    files.extend(
        ["bin", "sbin", "lib", "lib64", "etc/alternatives/awk", "etc/ld.so.cache", "etc/nsswitch.conf"]
            .map(str::to_owned),
    );
    files.sort();
    files.dedup();
    files
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn tar(command: &mut Command) {
    let status = command.status().expect("tar is part of every system");
    assert!(status.success(), "{command:?}: {status}");
}

/// `sha256:…` of a large file.
fn sha256(file: &Path) -> String {
    let mut context = Context::new(&SHA256);
    let mut reader = fs::File::open(file).expect("just written");
    std::io::copy(&mut reader, &mut Hashing(&mut context)).expect("a file is read");
    let hex: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

struct Hashing<'a>(&'a mut Context);

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
