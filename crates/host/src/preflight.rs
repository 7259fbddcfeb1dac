//! What the machine must be able to do, tried before anything is started.

use std::fs;
use std::io;
use std::path::Path;

use crate::mount;
use crate::record::remove_all;

/// Stacks two directories below `dir` and takes them apart again, as every container's root file system needs it.
///
/// # Errors
/// One line that says what to do.
pub fn check_overlay(dir: &Path) -> io::Result<()> {
    let probe = dir.join("overlay-probe");
    // A probe that was killed may have left its mount.
    let clear = || mount::unmount(&probe.join("merged")).and_then(|()| remove_all(&probe));
    clear()?;
    fs::create_dir_all(probe.join("lower"))?;
    let layers = [probe.join("lower")];
    let stacked = mount::overlay(&layers, &probe.join("upper"), &probe.join("work"), &probe.join("merged"), false);
    clear()?;
    stacked.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::other(
            "this root may not mount (CAP_SYS_ADMIN is missing, as in a container without privileges): \
             run stead on the machine itself, or `stead up --no-node` for the control plane alone",
        ),
        _ => error,
    })
}
