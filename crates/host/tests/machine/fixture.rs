//! A host with a busybox image in a temporary directory, which takes everything away when dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use stead_host::{Host, HostConfig};
use stead_node::action::*;

pub const IMAGE: &str = "registry.test/busybox:1";

pub struct World {
    pub dir: PathBuf,
    pub cluster: String,
    host: Option<Host>,
    pub seen: Receiver<Observation>,
}

impl World {
    pub fn new(name: &str) -> World {
        let cluster = format!("t{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(format!("stead-{cluster}"));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let (host, seen) = open(&dir, &cluster);
        let world = World { dir, cluster, host: Some(host), seen };
        let archive = world.dir.join("busybox.tar");
        std::fs::write(&archive, docker_archive(IMAGE)).unwrap();
        world.host().load_images(&archive, &|_, _| {}).unwrap();
        world
    }

    pub fn host(&self) -> &Host {
        self.host.as_ref().unwrap()
    }

    /// As after a restart of the agent.
    pub fn reopen(&mut self) {
        self.host = None;
        let (host, seen) = open(&self.dir, &self.cluster);
        (self.host, self.seen) = (Some(host), seen);
    }

    pub fn close(&mut self) {
        self.host = None;
    }

    pub fn perform(&self, action: Action) -> Observation {
        self.host().perform(action)
    }

    pub fn sandbox(&self, uid: &str) -> Sandbox {
        match self.perform(Action::EnsureSandbox(Box::new(sandbox(uid)))) {
            Observation::Sandbox(sandbox) => sandbox,
            other => panic!("{other:?}"),
        }
    }

    /// Starts `sh -c script` in pod `pod`.
    pub fn start(&self, pod: &str, name: &str, script: &str) -> Container {
        self.start_spec(container(pod, name, script))
    }

    pub fn start_spec(&self, spec: ContainerSpec) -> Container {
        match self.perform(Action::EnsureContainer(Box::new(spec))) {
            Observation::Container(container) => container,
            other => panic!("{other:?}"),
        }
    }

    pub fn failure(&self, action: Action) -> Failure {
        match self.perform(action) {
            Observation::Failed { failure, .. } => failure,
            other => panic!("{other:?}"),
        }
    }

    /// The next end that comes unasked.
    pub fn exited(&self) -> (ContainerRef, Exit) {
        loop {
            match self.seen.recv_timeout(Duration::from_secs(20)).unwrap() {
                Observation::Exited(Container { container, state: ContainerState::Exited(exit), .. }) => {
                    return (container, exit);
                }
                Observation::PullProgress { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Runs a script to its end: exit and log.
    pub fn run(&self, pod: &str, name: &str, script: &str) -> (Exit, String) {
        self.run_spec(container(pod, name, script))
    }

    pub fn run_spec(&self, spec: ContainerSpec) -> (Exit, String) {
        let key = spec.container.clone();
        self.start_spec(spec);
        let (ended, exit) = self.exited();
        assert_eq!(ended, key);
        (exit, self.log(&key))
    }

    pub fn log(&self, key: &ContainerRef) -> String {
        let mut reader = self.host().logs(key, stead_host::log::Options::default()).unwrap();
        let mut text = Vec::new();
        while let Some(piece) = reader.next(&|| true).unwrap() {
            text.extend(piece);
        }
        String::from_utf8(text).unwrap()
    }

    pub fn state(&self, key: &ContainerRef) -> ContainerState {
        let all = self.host().observe().unwrap().containers;
        all.into_iter().find(|c| c.container == *key).unwrap().state
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.host.is_none() {
            self.host = Some(open(&self.dir, &self.cluster).0);
        }
        let host = self.host.take().unwrap();
        let removed = host.leave();
        if !std::thread::panicking() {
            removed.unwrap();
        }
        drop(host);
        if !std::thread::panicking() {
            self.assert_nothing_left();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl World {
    /// No mount, group or process carries the cluster's name.
    fn assert_nothing_left(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours: Vec<&str> = mounts.lines().filter(|l| l.contains(&self.cluster)).collect();
        assert!(ours.is_empty(), "mounts left: {ours:#?}");
        assert_eq!(groups(&self.cluster), Vec::<PathBuf>::new(), "groups left");
        assert!(!Path::new("/run/stead").join(&self.cluster).exists(), "run directory left");
    }
}

fn groups(cluster: &str) -> Vec<PathBuf> {
    let name = format!("stead-{cluster}");
    let root = Path::new("/sys/fs/cgroup");
    let below = std::fs::read_dir(root).unwrap().flatten().map(|e| e.path());
    below.chain([root.to_path_buf()]).map(|p| p.join(&name)).filter(|p| p.exists()).collect()
}

pub fn open(dir: &Path, cluster: &str) -> (Host, Receiver<Observation>) {
    let (sender, seen) = channel();
    let config = HostConfig {
        data_dir: dir.to_path_buf(),
        cluster_id: cluster.to_string(),
        node: "node".into(),
        network: None,
        insecure_registries: vec![],
        images: None,
    };
    let host = Host::open(config, move |observation| drop(sender.send(observation))).unwrap();
    (host, seen)
}

pub fn sandbox(uid: &str) -> SandboxSpec {
    SandboxSpec {
        pod: PodRef { uid: uid.into(), namespace: "default".into(), name: "web-0".into() },
        attempt: 0,
        hostname: "web-0".into(),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        resolv_conf: NodeFile::Text("nameserver 10.96.0.10\n".into()),
        sysctls: BTreeMap::new(),
        resources: Resources::default(),
    }
}

pub fn key(pod: &str, name: &str, attempt: u32) -> ContainerRef {
    ContainerRef { pod: pod.into(), name: name.into(), attempt }
}

pub fn container(pod: &str, name: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        container: key(pod, name, 0),
        image_id: IMAGE.into(),
        command: vec!["sh".into(), "-c".into(), script.into()],
        args: vec![],
        env: vec![],
        working_dir: None,
        mounts: vec![],
        devices: vec![],
        etc_hosts: Some(NodeFile::Text("127.0.0.1 localhost\n".into())),
        security: Security::default(),
        resources: Resources::default(),
        oom_score_adj: 500,
        process_namespace_of: None,
        tty: false,
        stdin: false,
        stdin_once: false,
        termination_message: TerminationMessage {
            path: "/dev/termination-log".into(),
            fallback_to_logs_on_error: false,
        },
    }
}

/// `docker save` of an image with busybox and a user.
pub fn docker_archive(name: &str) -> Vec<u8> {
    let layer = busybox_layer();
    let diff_id = sha256(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["FROM_IMAGE=yes"],"Cmd":["sh"],"WorkingDir":"/srv"}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let manifest = format!(r#"[{{"Config":"config.json","RepoTags":["{name}"],"Layers":["layer.tar"]}}]"#);
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in
        [("layer.tar", &layer[..]), ("config.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())]
    {
        append(&mut tar, name, 0o644, bytes);
    }
    tar.into_inner().unwrap()
}

pub fn busybox_layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    append(&mut tar, "bin/busybox", 0o755, &busybox);
    for tool in [
        "sh", "cat", "echo", "id", "sleep", "env", "ls", "stat", "mount", "touch", "head", "yes", "tail", "hostname",
        "ip", "kill", "stty", "true", "false", "mkdir", "grep", "nc", "dd", "tr", "wc", "rm", "sed", "mknod", "pwd",
        "trap", "ps",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{tool}"), "busybox").unwrap();
    }
    append(&mut tar, "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n");
    append(&mut tar, "etc/group", 0o644, b"root:x:0:\nwww:x:34:\nlog:x:4:web\n");
    tar.into_inner().unwrap()
}

pub fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, name, bytes).unwrap();
}

pub fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}
