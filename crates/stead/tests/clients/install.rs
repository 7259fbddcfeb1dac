//! Clients from the package registries, in the versions that lock files beside the tests name.
//!
//! They are installed once below the target directory, under a name that holds what is locked: other versions, another place.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::repository;

/// The folder of a client's programs.
pub fn sources(client: &str) -> PathBuf {
    repository().join("crates/stead/tests/clients").join(client)
}

/// The Python interpreter that has the Python clients.
pub fn python() -> PathBuf {
    let requirements = sources("python").join("requirements.txt");
    let place = installed("python", &requirements, |place| {
        run(Command::new("python3").args(["-m", "venv"]).arg(place));
        let pip = ["-m", "pip", "install", "--quiet", "--requirement"];
        run(Command::new(place.join("bin/python")).args(pip).arg(&requirements));
    });
    place.join("bin/python")
}

/// Has a client installed if it is not yet, and says where.
pub fn installed(client: &str, lock_file: &Path, install: impl FnOnce(&Path)) -> PathBuf {
    let locked = fs::read(lock_file).unwrap_or_else(|error| panic!("{}: {error}", lock_file.display()));
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    fs::create_dir_all(&all).expect("the target directory is writable");
    let place = all.join(format!("{client}-{:08x}", fingerprint(&locked)));
    // One test installs, the others wait; what was broken off is done again.
    let lock = File::create(all.join(format!("{client}.lock"))).expect("the target directory is writable");
    lock.lock().expect("a lock is waited for");
    let done = place.join("installed");
    if !done.exists() {
        let _ = fs::remove_dir_all(&place);
        install(&place);
        fs::write(done, "").expect("the target directory is writable");
    }
    place
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().take(4).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

pub fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
