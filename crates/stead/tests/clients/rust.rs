//! kube-rs with its runtime: a package of its own beside this file, so that nothing else waits for its compilation.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::Cluster;
use crate::{images, install};

#[test]
fn the_rust_client_notices_no_difference() {
    let program = build();
    let cluster = Cluster::up("rust");
    images::load(&cluster, &images::busybox("test/busybox:1"));
    cluster.sh(&program.display().to_string()).says("streams: passed\n");
}

/// Compiled beside the rest, so that what both need is compiled once.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = install::sources("rust").join("Cargo.toml");
    let words = ["build", "--quiet", "--locked", "--manifest-path"];
    install::run(Command::new(cargo).args(words).arg(manifest).env("CARGO_TARGET_DIR", target));
    target.join("debug/stead-client-tests")
}
