//! `cargo xtask conformance [FOCUS]`: Kubernetes' own conformance tests against a cluster of two nodes on this machine.
//!
//! The tests are those of Kubernetes 1.20, the newest whose whole source Debian has. Source, tools and images come from Debian's packages;
//! everything is made below `target/conformance` and kept there, so that the next run begins at once. The first takes about ten minutes
//! to build and as long to run. Disk: 6 GB; where less than 15 % is free, the node would take the images for what can be removed.

mod images;
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{build, packages, run};

const PACKAGES: &[&str] = &["golang-go", "debootstrap", "busybox-static", "etcd-server", "curl"];
const API_PORT: &str = "16443";
/// Tests that run beside each other.
const AT_ONCE: &str = "4";

/// What a cluster of today does otherwise than one of 1.20, and why.
const OTHERWISE: &[(&str, &str)] = &[
    ("ServiceAccounts should mount an API token", "tokens are no longer made as secrets"),
    ("ServiceAccounts should allow opting out of API token", "tokens are no longer made as secrets"),
    ("Kubectl version should check is all data", "kubectl prints its version in other words"),
    ("works for CRD with validation schema", "kubectl leaves validation to the server, whose words are others"),
    (
        "Events API should ensure that an event can be fetched, patched",
        "a note cannot be changed through events.k8s.io",
    ),
    (
        "should run through the lifecycle of Pods and PodStatus",
        "writes a status without trying again, as later tests do",
    ),
    ("update strategy is RollingUpdate", "revisions no longer hold a null creationTimestamp"),
];

/// Where everything is.
struct Place {
    root: PathBuf,
}

impl Place {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn text(&self, path: &str) -> String {
        self.at(path).display().to_string()
    }

    /// Makes something unless it was made before; half of it is made again.
    fn once(&self, path: &str, what: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let (there, mark) = (self.at(path), self.at(&format!("{path}.made")));
        if mark.exists() {
            return Ok(());
        }
        println!("{what}");
        if there.is_dir() {
            fs::remove_dir_all(&there)?;
        }
        make(&there).with_context(|| what.to_owned())?;
        Ok(fs::write(mark, "")?)
    }
}

/// Runs the tests whose names match `focus`, all of the conformance suite when there is none.
pub fn test(focus: Option<&str>) -> Result<()> {
    packages::ensure(PACKAGES)?;
    let kubectl = packages::which("kubectl").context("the tests drive the real kubectl: install it and run again")?;
    let place = Place { root: build::target_dir()?.join("conformance") };
    fs::create_dir_all(&place.root)?;
    source::make(&place)?;
    images::make(&place)?;
    let stead = build::release()?;
    let cluster = Cluster::start(&place, &stead)?;
    for (name, why) in OTHERWISE {
        println!("left out: {name}: {why}");
    }
    let skipped: Vec<&str> = OTHERWISE.iter().map(|(name, _)| *name).collect();
    let ordinary = cluster.run(
        &kubectl,
        AT_ONCE,
        focus.unwrap_or(r"\[Conformance\]"),
        &format!(r"\[Serial\]|{}", skipped.join("|")),
    );
    let serial = match focus {
        Some(_) => Ok(()),
        None => cluster.run(&kubectl, "1", r"\[Serial\].*\[Conformance\]", &skipped.join("|")),
    };
    ordinary.and(serial)
}

/// A cluster for the tests alone, forgotten with this value.
struct Cluster<'p> {
    place: &'p Place,
    stead: PathBuf,
    data: String,
    kubeconfig: String,
}

impl<'p> Cluster<'p> {
    fn start(place: &'p Place, stead: &Path) -> Result<Cluster<'p>> {
        let (data, kubeconfig) = (place.text("cluster"), place.text("kubeconfig"));
        let cluster = Cluster { place, stead: stead.to_owned(), data, kubeconfig };
        run(cluster.stead(&["up"]).args([
            "--kubeconfig",
            &cluster.kubeconfig,
            "--api-port",
            API_PORT,
            "--nodes",
            "2",
        ]))?;
        for archive in images::archives(place)? {
            run(&mut cluster.stead(&["image", "load", &archive.display().to_string()]))?;
        }
        Ok(cluster)
    }

    fn stead(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.stead);
        command.args(words).args(["--data-dir", &self.data]);
        command
    }

    fn run(&self, kubectl: &Path, at_once: &str, focus: &str, skip: &str) -> Result<()> {
        let mut command = Command::new(self.place.at("bin/ginkgo"));
        command.args(["-noColor", &format!("-nodes={at_once}"), &format!("-focus={focus}"), &format!("-skip={skip}")]);
        command.arg(self.place.at("bin/e2e.test")).args([
            "--",
            "-provider=skeleton",
            "-num-nodes=2",
            "-disable-log-dump",
        ]);
        command.args([format!("-kubeconfig={}", self.kubeconfig), format!("-kubectl-path={}", kubectl.display())]);
        command.env("KUBECONFIG", &self.kubeconfig);
        match run(&mut command) {
            Ok(()) => Ok(()),
            Err(_) => bail!("some conformance tests failed; lines with \"FAILED\" above name them"),
        }
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        let _ = run(&mut self.stead(&["delete"]));
    }
}
