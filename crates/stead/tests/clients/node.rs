//! The JavaScript client under Node.js.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::Cluster;
use crate::{images, install};

#[test]
fn the_javascript_client_notices_no_difference() {
    let cluster = Cluster::up("node");
    images::load(&cluster, &images::busybox("test/busybox:1"));
    // Node.js looks for packages beside a program, so the program goes where they are.
    let place = packages();
    let program = "client.test.mjs";
    fs::copy(install::sources("node").join(program), cluster.dir.join(program))
        .expect("the scratch directory is writable");
    std::os::unix::fs::symlink(place.join("node_modules"), cluster.dir.join("node_modules")).expect("a link is made");
    let told = cluster.sh(&format!("node {program}"));
    assert!(told.code == 0 && told.out.contains("\n# fail 0\n") && !told.out.contains("\n# pass 0\n"), "{told}");
}

fn packages() -> PathBuf {
    let sources = install::sources("node");
    install::installed("node", &sources.join("package-lock.json"), |place: &Path| {
        fs::create_dir_all(place).expect("the target directory is writable");
        for file in ["package.json", "package-lock.json"] {
            fs::copy(sources.join(file), place.join(file)).expect("the target directory is writable");
        }
        install::run(Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(place));
    })
}
