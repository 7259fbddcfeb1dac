//! A cluster of the test's own: data, port, address ranges and kubeconfig that no other cluster has.
//!
//! Guarantees: whatever happens in the test, the cluster and all it made are gone afterwards; after a failure it first tells
//! what the cluster looked like.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// No single command may take longer.
const COMMAND_SECONDS_MAX: &str = "180";
/// Clusters that tests on one machine may have at once.
const PLACES: u16 = 64;

/// The binary under test: $STEAD_BINARY, else built as the release is, only faster.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("STEAD_BINARY") {
        Some(path) => std::path::absolute(path).expect("STEAD_BINARY is a path"),
        None => build(),
    })
}

/// The built-in image is the binary itself, so it must need no libraries.
fn build() -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let words = ["rustc", "--quiet", "-p", "stead", "--bin", "stead", "--", "-C", "target-feature=+crt-static"];
    let status = Command::new(cargo).args(words).status().expect("cargo starts");
    assert!(status.success(), "the binary could not be built");
    let own = std::env::current_exe().expect("a test has a file");
    // target/debug/deps/system-… → target/debug/stead
    own.ancestors().nth(2).expect("tests live below the target directory").join("stead")
}

/// The repository's top.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/stead has two parents").to_owned()
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    pub command: String,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Outcome {
    /// Standard output of a command that must have worked.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.out
    }

    /// Standard error of a command that must have failed.
    #[track_caller]
    pub fn fails(self) -> String {
        assert_ne!(self.code, 0, "{self}");
        self.err
    }

    /// It worked and printed this somewhere, however wide its columns are.
    #[track_caller]
    pub fn says(self, text: &str) -> String {
        let is_said = squeezed(&self.out).contains(&squeezed(text));
        assert!(self.code == 0 && is_said, "expected {text:?} in:\n{self}");
        self.out
    }
}

/// Runs of blanks as one.
pub fn squeezed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter != ' ' || !out.ends_with(' ') {
            out.push(letter);
        }
    }
    out
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "$ {}\n{}{}(exit code {})", self.command, self.out, self.err, self.code)
    }
}

/// A part of a story and its name.
pub type Part = (&'static str, fn(&Cluster));

pub struct Cluster {
    /// Holds everything of the test: data, kubeconfig, scratch files.
    pub dir: PathBuf,
    pub api_port: u16,
    /// The second byte of this cluster's addresses.
    pub network: u16,
    /// Held while the place is ours; the kernel gives it back with the process.
    _place: File,
}

impl Cluster {
    /// A place for a cluster; nothing is started.
    pub fn new(name: &str) -> Cluster {
        let (place, number) = take_place();
        let dir = std::env::temp_dir().join(format!("stead-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("bin")).expect("the temporary directory is writable");
        std::os::unix::fs::symlink(binary(), dir.join("bin/stead")).expect("a link is made");
        Cluster { dir, api_port: 17000 + number, network: 160 + number, _place: place }
    }

    /// A running cluster.
    pub fn up(name: &str) -> Cluster {
        let cluster = Cluster::new(name);
        cluster.start("").says("stead is up: https://127.0.0.1:");
        cluster
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("config")
    }

    /// `stead up` with this cluster's own flags and more.
    pub fn start(&self, more: &str) -> Outcome {
        self.sh(&format!("stead up {} {more}", self.flags()))
    }

    /// The flags that keep this cluster apart from others.
    pub fn flags(&self) -> String {
        let (data, config) = (self.data(), self.kubeconfig());
        format!(
            "--data-dir {} --kubeconfig {} --api-port {} --service-cidr 10.{n}.0.0/17 --pod-cidr 10.{n}.128.0/17 \
             --eviction-hard nodefs.available\\<10Mi",
            data.display(),
            config.display(),
            self.api_port,
            n = self.network
        )
    }

    /// `stead VERB --data-dir …`.
    pub fn stead(&self, verb: &str) -> Outcome {
        self.sh(&format!("stead {verb} --data-dir {}", self.data().display()))
    }

    /// kubectl with arguments as one would type them.
    pub fn kubectl(&self, arguments: &str) -> Outcome {
        self.sh(&format!("kubectl {arguments}"))
    }

    /// Applies a manifest written in the test.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.feed("kubectl apply -f -", manifest).ok()
    }

    /// A shell command; `stead` and `kubectl` in it mean this cluster's.
    pub fn sh(&self, command: &str) -> Outcome {
        self.feed(command, "")
    }

    /// The same with standard input.
    pub fn feed(&self, command: &str, input: &str) -> Outcome {
        let fed = self.dir.join(format!("stdin-{:?}", std::thread::current().id()));
        fs::write(&fed, input).expect("the scratch directory is writable");
        let output = self
            .shell(command)
            .stdin(File::open(&fed).expect("just written"))
            .output()
            .unwrap_or_else(|error| panic!("{command}: {error}"));
        Outcome {
            command: command.to_owned(),
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The command, not yet started, with the cluster's environment and a deadline.
    pub fn shell(&self, command: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("timeout");
        shell
            .args([COMMAND_SECONDS_MAX, "bash", "-c", command])
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", &self.dir)
            .env("PATH", format!("{}:{path}", self.dir.join("bin").display()))
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        shell
    }

    /// Tells the parts of a story one after the other; one that fails does not hide what is wrong with the rest.
    #[track_caller]
    pub fn tells(&self, parts: &[Part]) {
        let is_failed = |part: &&Part| catch_unwind(AssertUnwindSafe(|| part.1(self))).is_err();
        let failed: Vec<&str> = parts.iter().filter(is_failed).map(|part| part.0).collect();
        assert!(failed.is_empty(), "failed: {}", failed.join(", "));
    }

    /// Waits until a JSON path of an object has a value.
    #[track_caller]
    pub fn wait(&self, object: &str, condition: &str) {
        self.kubectl(&format!("wait {object} --for='{condition}' --timeout=90s")).ok();
    }

    /// A value from an object, by JSON path.
    #[track_caller]
    pub fn value(&self, object: &str, path: &str) -> String {
        self.kubectl(&format!("get {object} -o jsonpath='{path}'")).ok()
    }

    /// The server's process.
    pub fn pid(&self) -> String {
        let status = self.stead("status").ok();
        let after = status.split("pid ").nth(1).expect("status names the process");
        after.split(',').next().expect("a split has a first part").to_owned()
    }

    fn tell(&self) {
        let state = self.sh(
            "kubectl get all,pvc,endpointslices -A -o wide; kubectl get events -A --sort-by=.metadata.creationTimestamp \
             | tail -40; echo; echo '--- stead.log'; tail -40 data/stead.log",
        );
        eprintln!("--- the cluster in {} when the test failed\n{state}", self.dir.display());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() && self.data().join("cluster.json").exists() {
            self.tell();
        }
        if self.data().join("cluster.json").exists() {
            let gone = self.stead(&format!("delete --kubeconfig {}", self.kubeconfig().display()));
            if gone.code != 0 {
                eprintln!("{gone}");
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A number that no other test on this machine has now, whose port is free.
fn take_place() -> (File, u16) {
    for number in 0..PLACES {
        let path = std::env::temp_dir().join(format!("stead-place-{number}.lock"));
        let Ok(file) = File::create(path) else { continue };
        let is_free = || std::net::TcpListener::bind(("127.0.0.1", 17000 + number)).is_ok();
        if file.try_lock().is_ok() && is_free() {
            return (file, number);
        }
    }
    panic!("{PLACES} clusters of tests are running already");
}
