//! The source of Kubernetes, from Debian's archive, and the programs that are built of it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Place;
use crate::run;

/// The package of the release whose whole source is there, and what its archive's digest is.
const PACKAGE: &str = "kubernetes-client=1.20.5+really1.20.2-1.1+deb12u1";
const ARCHIVE: &str = "kubernetes_1.20.5+really1.20.2.orig.tar.gz";
const DIGEST: &str = "b83c0780efb182d928dc63d46488a847f161f04e40a94b96bf5247dd671ecdfc";
const TREE: &str = "gopath/src/k8s.io/kubernetes";
/// Files that the tests carry with them.
const CARRIED: &[&str] = &[
    "test/conformance/testdata/...",
    "test/e2e/testing-manifests/...",
    "test/e2e_node/testing-manifests/...",
    "test/images/...",
    "test/fixtures/...",
];

/// Fetches the source and builds what is needed of it.
pub fn make(place: &Place) -> Result<()> {
    place.once("gopath", "fetching the source of Kubernetes", |_| fetch(place))?;
    place.once("bin", "building the tests (several minutes)", |bin| {
        std::fs::create_dir_all(bin)?;
        go(place, "bin/go-bindata", "./vendor/github.com/go-bindata/go-bindata/go-bindata")?;
        go(place, "bin/ginkgo", "./vendor/github.com/onsi/ginkgo/ginkgo")?;
        carry(place, "test/e2e/generated/bindata.go", CARRIED, "")?;
        carry(place, "staging/src/k8s.io/kubectl/pkg/generated/bindata.go", &["translations/..."], "-nocompress")?;
        wait_for_no_secret(&place.at(TREE).join("test/e2e/framework/util.go"))?;
        run(compiler(place).args(["test", "-c", "-o"]).arg(place.at("bin/e2e.test")).arg("./test/e2e"))?;
        go(place, "bin/agnhost", "./test/images/agnhost")?;
        go(place, "bin/nnp", "./test/images/nonewprivs")?;
        go(place, "bin/sample-apiserver", "./vendor/k8s.io/sample-apiserver")
    })
}

/// A file of the source.
pub fn file(place: &Place, path: &str) -> std::path::PathBuf {
    place.at(TREE).join(path)
}

fn fetch(place: &Place) -> Result<()> {
    let asked = Command::new("apt-get").args(["download", "--print-uris", PACKAGE]).output()?;
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    let uri = said.trim_start_matches('\'').split('\'').next().unwrap_or_default();
    let folder = uri.rsplit_once('/').context("apt-get does not know the package kubernetes-client of Debian 12")?.0;
    let (archive, tree) = (place.at(ARCHIVE), place.at(TREE));
    run(Command::new("curl").args(["-sSf", "--retry", "3", "-o"]).arg(&archive).arg(format!("{folder}/{ARCHIVE}")))?;
    let sum = Command::new("sha256sum").arg(&archive).output()?;
    if !sum.stdout.starts_with(DIGEST.as_bytes()) {
        bail!("{} is not what it should be", archive.display());
    }
    std::fs::create_dir_all(&tree)?;
    run(Command::new("tar").args(["--strip-components=1", "-xzf"]).arg(&archive).arg("-C").arg(&tree))
}

/// Go as it was when this source was written: without modules.
fn compiler(place: &Place) -> Command {
    let mut command = Command::new("go");
    command.current_dir(place.at(TREE)).env("GO111MODULE", "off").env("CGO_ENABLED", "0");
    command.env("GOPATH", place.at("gopath")).env("GOCACHE", place.at("go-cache"));
    command
}

fn go(place: &Place, output: &str, package: &str) -> Result<()> {
    run(compiler(place).args(["build", "-o"]).arg(place.at(output)).arg(package))
}

fn carry(place: &Place, output: &str, files: &[&str], flag: &str) -> Result<()> {
    let mut command = Command::new(place.at("bin/go-bindata"));
    command.current_dir(place.at(TREE)).args(["-nometadata", "-pkg", "generated", "-o", output]);
    command.args(Some(flag).filter(|flag| !flag.is_empty()));
    for left_out in [".jpg", ".png", ".md", "BUILD(\\.bazel)?"] {
        command.args(["-ignore", left_out]);
    }
    run(command.args(files))
}

/// Service accounts have had no secrets since 1.24: the tests' framework must not wait for one.
fn wait_for_no_secret(path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    let changed = text.replace(
        "switch t := event.Object.(type) {\n\tcase *v1.ServiceAccount:\n\t\treturn len(t.Secrets) > 0, nil",
        "switch event.Object.(type) {\n\tcase *v1.ServiceAccount:\n\t\treturn true, nil",
    );
    if changed == text {
        bail!("the wait for a service account's secret is not where it was");
    }
    Ok(std::fs::write(path, changed)?)
}
