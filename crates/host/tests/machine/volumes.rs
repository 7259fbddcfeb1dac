//! Volumes in containers, security settings, limits, shared namespaces.

use std::collections::BTreeMap;
use std::time::Duration;

use stead_node::action::*;

use crate::Test;
use crate::fixture::{World, container, key, sandbox};

pub const TESTS: &[Test] = &[
    ("volumes_are_shared_and_as_asked", volumes_are_shared_and_as_asked),
    ("what_a_pod_wrote_is_measured_and_given_back", what_a_pod_wrote_is_measured_and_given_back),
    ("files_change_under_a_running_container", files_change_under_a_running_container),
    ("capabilities_users_and_groups", capabilities_users_and_groups),
    ("paths_are_masked_and_roots_read_only", paths_are_masked_and_roots_read_only),
    ("the_default_seccomp_profile_holds", the_default_seccomp_profile_holds),
    ("privileged_containers_may_more", privileged_containers_may_more),
    ("limits_reach_the_kernel", limits_reach_the_kernel),
    ("ipc_is_shared_in_a_pod_and_sysctls_are_its_own", ipc_is_shared_in_a_pod_and_sysctls_are_its_own),
    ("host_namespaces", host_namespaces),
    ("a_shared_process_namespace", a_shared_process_namespace),
    (
        "provisioned_directories_are_deleted_only_where_they_belong",
        provisioned_directories_are_deleted_only_where_they_belong,
    ),
];

fn mount(volume: &str, path: &str) -> Mount {
    Mount {
        volume: volume.into(),
        container_path: path.into(),
        sub_path: None,
        read_only: false,
        propagation: Propagation::None,
    }
}

fn volume(name: &str, source: VolumeSource) -> Volume {
    Volume { name: name.into(), source, fs_group: None }
}

fn files(list: &[(&str, &str)]) -> VolumeSource {
    let content = |text: &str| FileContent { data: text.into(), mode: 0o644, uid: None };
    VolumeSource::Files { files: list.iter().map(|(n, t)| (n.to_string(), content(t))).collect() }
}

fn ensure(world: &World, volumes: Vec<Volume>) {
    let answer = world.perform(Action::EnsureVolumes { pod: "uid-1".into(), volumes });
    assert_eq!(answer, Observation::Volumes { pod: "uid-1".into() });
}

fn what_a_pod_wrote_is_measured_and_given_back() {
    let world = World::new("measure");
    world.sandbox("uid-1");
    ensure(&world, vec![volume("scratch", VolumeSource::EmptyDir)]);
    let write = "dd if=/dev/zero of=/scratch/f bs=1M count=3 2>/dev/null; dd if=/dev/zero of=/own bs=1M count=2 2>/dev/null; echo done";
    let mut writer = container("uid-1", "writer", write);
    writer.mounts = vec![mount("scratch", "/scratch")];
    assert_eq!(world.run_spec(writer).1, "done\n");
    let measure = || {
        let pods = vec!["uid-1".to_owned(), "uid-2".to_owned()];
        let Observation::PodsOnDisk(found) = world.perform(Action::MeasurePods { pods }) else { panic!("no measure") };
        assert_eq!(found["uid-2"], PodDisk::default(), "what is not here has nothing");
        (found["uid-1"].containers["writer"] >> 20, found["uid-1"].volumes >> 20)
    };
    assert_eq!(measure(), (2, 3));
    world.perform(Action::StopSandbox { pod: "uid-1".into() });
    let emptied = world.perform(Action::EmptyPod { pod: "uid-1".into() });
    assert_eq!(emptied, Observation::PodEmptied { pod: "uid-1".into() });
    assert_eq!(measure(), (0, 0));
    assert_eq!(world.log(&key("uid-1", "writer", 0)), "done\n", "logs stay");
}

fn volumes_are_shared_and_as_asked() {
    let world = World::new("vol");
    world.sandbox("uid-1");
    let claim = world.dir.join("volumes/pv-1");
    let host = world.dir.join("hostpath");
    ensure(
        &world,
        vec![
            volume("scratch", VolumeSource::EmptyDir),
            volume("mem", VolumeSource::Memory { size_bytes: Some(1 << 20) }),
            volume("host", VolumeSource::HostPath { path: host.clone(), kind: HostPathKind::DirectoryOrCreate }),
            Volume {
                fs_group: Some(FsGroup { gid: 2000, only_on_root_mismatch: false }),
                ..volume("claim", VolumeSource::Directory { path: claim.clone() })
            },
        ],
    );
    let mut writer = container(
        "uid-1",
        "writer",
        "set -e; echo a > /scratch/f; echo b > /claim/f; echo c > /part/f; echo d > /host/f; \
         stat -c '%u:%g %a' /claim /claim/f; dd if=/dev/zero of=/mem/big bs=1M count=2 2>/dev/null || echo full",
    );
    writer.mounts =
        vec![mount("scratch", "/scratch"), mount("mem", "/mem"), mount("host", "/host"), mount("claim", "/claim")];
    writer.mounts.push(Mount { sub_path: Some("deep/er".into()), ..mount("claim", "/part") });
    writer.security.run_as_user = Some(1000);
    writer.security.supplementary_groups = vec![2000];
    std::fs::create_dir_all(&host).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&host, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (exit, log) = world.run_spec(writer);
    assert_eq!((exit.code, log.as_str()), (0, "0:2000 2777\n1000:2000 644\nfull\n"));
    assert_eq!(std::fs::read_to_string(claim.join("deep/er/f")).unwrap(), "c\n");
    assert_eq!(std::fs::read_to_string(host.join("f")).unwrap(), "d\n");
    let mut reader = container("uid-1", "reader", "cat /scratch/f /claim/f; echo x > /scratch/g || echo refused");
    reader.mounts = vec![Mount { read_only: true, ..mount("scratch", "/scratch") }, mount("claim", "/claim")];
    assert_eq!(
        world.run_spec(reader).1.replace("sh: can't create /scratch/g: Read-only file system\n", ""),
        "a\nb\nrefused\n"
    );
    // The claim's directory outlives the pod, emptyDirs do not.
    world.perform(Action::RemovePod { pod: "uid-1".into() });
    assert!(claim.join("f").exists() && !world.dir.join("sandboxes/uid-1").exists());
    let bad = volume("bad", VolumeSource::HostPath { path: "/nonexistent".into(), kind: HostPathKind::Directory });
    let failure = world.failure(Action::EnsureVolumes { pod: "uid-1".into(), volumes: vec![bad] });
    world.perform(Action::RemovePod { pod: "uid-1".into() });
    assert_eq!(failure.reason, Reason::FailedMount);
    assert_eq!(
        failure.message,
        "MountVolume.SetUp failed for volume \"bad\" : hostPath type check failed: /nonexistent is not a directory"
    );
}

fn files_change_under_a_running_container() {
    let world = World::new("files");
    world.sandbox("uid-1");
    ensure(&world, vec![volume("config", files(&[("a", "one"), ("b", "x")]))]);
    let mut spec = container(
        "uid-1",
        "main",
        "cat /etc/config/a; while ! grep -q two /etc/config/a; do sleep 0.02; done; ls /etc/config",
    );
    spec.mounts = vec![Mount { read_only: true, ..mount("config", "/etc/config") }];
    world.start_spec(spec);
    ensure(&world, vec![volume("config", files(&[("a", "two")]))]);
    assert_eq!(world.exited().1.code, 0);
    let log = world.log(&key("uid-1", "main", 0));
    assert!(log == "onea\n" || log == "twoa\n", "{log}");
}

fn capabilities_users_and_groups() {
    let world = World::new("caps");
    world.sandbox("uid-1");
    let show = "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status | tr -s '\\t' ' '; id";
    let (_, log) = world.run("uid-1", "default", show);
    // The default set; without mknod where version 2 has no rules for devices.
    let is_v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let set = if is_v2 { "00000000a00425fb" } else { "00000000a80425fb" };
    assert!(log.starts_with(&format!("CapEff: {set}\nCapBnd: {set}\nNoNewPrivs: 0\nuid=0(root)")), "{log}");
    let mut spec = container("uid-1", "web", show);
    spec.security.run_as_user = Some(33);
    spec.security.run_as_group = Some(7);
    spec.security.supplementary_groups = vec![99];
    spec.security.capabilities_drop = vec!["ALL".into()];
    spec.security.capabilities_add = vec!["NET_ADMIN".into()];
    spec.security.no_new_privileges = true;
    let (_, log) = world.run_spec(spec);
    assert!(log.starts_with("CapEff: 0000000000000000\nCapBnd: 0000000000001000\nNoNewPrivs: 1\n"), "{log}");
    assert!(
        log.contains("uid=33(web) gid=7 groups=4(log),99\n") || log.contains("uid=33(web) gid=7 groups=7,4(log),99\n"),
        "{log}"
    );
}

fn paths_are_masked_and_roots_read_only() {
    let world = World::new("mask");
    world.sandbox("uid-1");
    let mut spec = container(
        "uid-1",
        "main",
        "cat /proc/kcore | wc -c; echo 1 > /proc/sys/kernel/panic; echo 1 > /sys/kernel/x; touch /file; touch /dev/shm/ok && echo ok",
    );
    spec.security.read_only_root = true;
    let (_, log) = world.run_spec(spec);
    let read_only = log.matches("Read-only file system").count();
    assert!(log.contains("0\n") && log.contains("ok\n") && read_only == 3, "{log}");
}

fn the_default_seccomp_profile_holds() {
    let world = World::new("seccomp");
    world.sandbox("uid-1");
    let mut spec = container(
        "uid-1",
        "main",
        "grep '^Seccomp:' /proc/self/status; mkdir /tmp/x /x && echo made; mount -t tmpfs none /x; echo mount=$?",
    );
    spec.security.seccomp = Seccomp::RuntimeDefault;
    spec.security.capabilities_add = vec!["NET_ADMIN".into()];
    let (_, log) = world.run_spec(spec.clone());
    assert!(log.contains("Seccomp:\t2\n") && log.contains("mount=1\n"), "{log}");
    spec.container.name = "localhost".into();
    spec.security.seccomp = Seccomp::Localhost("none.json".into());
    let failure = world.failure(Action::EnsureContainer(Box::new(spec.clone())));
    assert_eq!(failure.message, "seccomp profile \"none.json\": no such file");
    std::fs::create_dir_all(world.dir.join("seccomp")).unwrap();
    let profile =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(world.dir.join("seccomp/none.json"), profile).unwrap();
    spec.command[2] = "mkdir /y || echo no".into();
    let (_, log) = world.run_spec(spec);
    assert!(log.contains("no\n"), "{log}");
}

fn privileged_containers_may_more() {
    let world = World::new("priv");
    world.sandbox("uid-1");
    let mut spec = container("uid-1", "main", "mkdir /x && mount -t tmpfs none /x && echo mounted");
    spec.security.privileged = true;
    let (exit, log) = world.run_spec(spec);
    assert_eq!((exit.code, log.as_str()), (0, "mounted\n"));
}

fn limits_reach_the_kernel() {
    let world = World::new("limits");
    world.sandbox("uid-1");
    let script = "cd /sys/fs/cgroup; cat cpu/cpu.shares cpu/cpu.cfs_quota_us pids/pids.max cpu.weight cpu.max pids.max 2>/dev/null";
    let mut spec = container("uid-1", "main", script);
    spec.resources =
        Resources { cpu_shares: Some(512), cpu_quota_us: Some(25_000), pids: Some(50), ..Resources::default() };
    let (_, log) = world.run_spec(spec);
    assert!(log == "512\n25000\n50\n" || log == "20\n25000 100000\n50\n", "{log}");
}

fn ipc_is_shared_in_a_pod_and_sysctls_are_its_own() {
    let world = World::new("ipc");
    let mut spec = sandbox("uid-1");
    spec.sysctls =
        BTreeMap::from([("kernel.shm_rmid_forced".into(), "1".into()), ("net.ipv4.tcp_syncookies".into(), "0".into())]);
    world.perform(Action::EnsureSandbox(Box::new(spec.clone())));
    let script = "echo x > /dev/shm/f; cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/tcp_syncookies; stat -Lc %i /proc/self/ns/ipc";
    let (_, first) = world.run("uid-1", "a", script);
    let (_, second) = world.run("uid-1", "b", &script.replace("echo x > /dev/shm/f", "cat /dev/shm/f"));
    assert_eq!(second, format!("x\n{first}"));
    assert!(first.starts_with("1\n0\n"), "{first}");
    spec.pod.uid = "uid-2".into();
    spec.sysctls = BTreeMap::from([("vm.swappiness".into(), "1".into())]);
    let failure = world.failure(Action::EnsureSandbox(Box::new(spec)));
    world.perform(Action::RemovePod { pod: "uid-2".into() });
    assert!(failure.message.contains("sysctl \"vm.swappiness\" is not namespaced"), "{failure:?}");
}

fn host_namespaces() {
    let world = World::new("hostns");
    let mut spec = sandbox("uid-1");
    (spec.host_network, spec.host_pid, spec.host_ipc) = (true, true, true);
    let answer = world.perform(Action::EnsureSandbox(Box::new(spec)));
    assert!(matches!(answer, Observation::Sandbox(Sandbox { ip: None, .. })), "{answer:?}");
    let links = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    let mut script =
        container("uid-1", "main", "for n in net pid ipc uts; do readlink /proc/self/ns/$n; done; sleep 1000 & echo");
    script.command[0] = "busybox".into();
    script.command.insert(1, "sh".into());
    let (_, log) = world.run_spec(script);
    let expected: String = ["net", "pid", "ipc", "uts"].iter().map(|k| links(k) + "\n").collect();
    assert_eq!(log, expected + "\n");
    // What it left in the background went with it, though it shared our process ids.
    world.perform(Action::RemovePod { pod: "uid-1".into() });
}

fn a_shared_process_namespace() {
    let world = World::new("share");
    let mut spec = sandbox("uid-1");
    spec.share_process_namespace = true;
    world.perform(Action::EnsureSandbox(Box::new(spec)));
    world.start("uid-1", "main", "while :; do sleep 0.3; done");
    world.run("uid-1", "early", "sleep 0.5 & echo");
    let (exit, log) =
        world.run("uid-1", "side", "ps | grep -c 'while [:]'; echo $$ > /dev/shm/pid; [ $$ -gt 1 ] && echo shared");
    assert_eq!((exit.code, log.as_str()), (0, "1\nshared\n"));
    // The end of one is not the end of the other.
    assert!(matches!(world.state(&key("uid-1", "main", 0)), ContainerState::Running { .. }));
    let stop = Action::StopContainer {
        container: key("uid-1", "main", 0),
        signal: Some("KILL".into()),
        grace: Duration::from_secs(9),
    };
    world.perform(stop);
}

fn provisioned_directories_are_deleted_only_where_they_belong() {
    let world = World::new("delete");
    let inside = world.dir.join("volumes/pv-1");
    std::fs::create_dir_all(inside.join("x")).unwrap();
    let delete = |path: std::path::PathBuf| Action::DeleteDirectory { path };
    assert_eq!(world.perform(delete(inside.clone())), Observation::DirectoryDeleted { path: inside.clone() });
    assert!(!inside.exists());
    assert_eq!(world.perform(delete(inside.clone())), Observation::DirectoryDeleted { path: inside.clone() });
    for outside in ["/etc", "volumes/../sandboxes", "volumes", "volumes/."] {
        let failure = world.failure(delete(world.dir.join(outside)));
        assert_eq!(failure.reason, Reason::FailedCleanup, "{outside}");
    }
}
