//! What the kubelet would write: a whole status, a container with everything, files, refusals.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::world::{World, show};
use crate::action::{Action, ContainerSpec, NodeFile, SandboxSpec, Volume, VolumeSource};

/// Applies a pod and gives the actions that it caused.
fn actions(world: &mut World, spec: Value) -> Vec<Action> {
    world.run(1);
    world.held = vec!["sandbox".into(), "volumes".into(), "start".into()];
    world.pod("web-0", "u1", spec);
    let mut all = Vec::new();
    for _ in 0..4 {
        world.run(0);
        for action in std::mem::take(&mut world.on_hold) {
            all.push(action.clone());
            let observation = world.machine.perform(action, world.now);
            world.observe(observation);
        }
    }
    all
}

fn sandbox(actions: &[Action]) -> &SandboxSpec {
    let found = actions.iter().find_map(|a| if let Action::EnsureSandbox(spec) = a { Some(&**spec) } else { None });
    found.expect("a sandbox was asked for")
}

fn started(actions: &[Action]) -> &ContainerSpec {
    let found = actions.iter().find_map(|a| if let Action::EnsureContainer(spec) = a { Some(&**spec) } else { None });
    found.unwrap_or_else(|| panic!("nothing started: {:?}", actions.iter().map(show).collect::<Vec<_>>()))
}

fn volumes(actions: &[Action]) -> &[Volume] {
    let found = actions
        .iter()
        .find_map(|a| if let Action::EnsureVolumes { volumes, .. } = a { Some(&**volumes) } else { None });
    found.expect("volumes were asked for")
}

fn text(file: &NodeFile) -> String {
    match file {
        NodeFile::Text(text) => text.clone(),
        NodeFile::FromNode { append } => format!("(the node's)\n{append}"),
    }
}

fn show_volume(volume: &Volume) -> String {
    let VolumeSource::Files { files } = &volume.source else {
        return format!("{} {:?} {:?}\n", volume.name, volume.source, volume.fs_group);
    };
    let mut out = format!("{} files\n", volume.name);
    for (path, file) in files {
        let owner = file.uid.map(|uid| format!(" uid={uid}")).unwrap_or_default();
        out.push_str(&format!("  {path} {:o}{owner} {:?}\n", file.mode, String::from_utf8_lossy(&file.data)));
    }
    out
}

#[test]
fn a_running_pods_status_is_the_kubelets() {
    let mut world = World::new();
    world.run(1);
    let spec = json!({"containers": [{"name": "main", "image": "nginx:1.27", "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "100m"}}}]});
    world.pod("web-0", "u1", spec);
    world.run(1);
    let status = world.get("pods", "web-0").unwrap().value()["status"].clone();
    expect![[r#"
        {
          "phase": "Running",
          "conditions": [
            {
              "lastTransitionTime": "2026-01-01T00:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "PodReadyToStartContainers"
            },
            {
              "lastTransitionTime": "2026-01-01T00:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "Initialized"
            },
            {
              "lastTransitionTime": "2026-01-01T00:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "Ready"
            },
            {
              "lastTransitionTime": "2026-01-01T00:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "ContainersReady"
            },
            {
              "lastTransitionTime": "2026-01-01T00:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "PodScheduled"
            }
          ],
          "containerStatuses": [
            {
              "allocatedResources": {
                "cpu": "100m"
              },
              "containerID": "stead://u1-main-0",
              "image": "nginx:1.27",
              "imageID": "sha256:nginx:1.27",
              "lastState": {},
              "name": "main",
              "ready": true,
              "resources": {
                "requests": {
                  "cpu": "100m"
                }
              },
              "restartCount": 0,
              "started": true,
              "state": {
                "running": {
                  "startedAt": "2026-01-01T00:00:01Z"
                }
              }
            }
          ],
          "hostIP": "192.168.0.1",
          "hostIPs": [
            {
              "ip": "192.168.0.1"
            }
          ],
          "observedGeneration": 1,
          "qosClass": "Burstable",
          "startTime": "2026-01-01T00:00:01Z",
          "podIP": "10.244.0.2",
          "podIPs": [
            {
              "ip": "10.244.0.2"
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&status).unwrap());
}

#[test]
fn conditions_of_others_and_gates() {
    let mut world = World::new();
    world.run(1);
    let spec = json!({"containers": [{"name": "main", "image": "i:1", "imagePullPolicy": "IfNotPresent"}],
        "readinessGates": [{"conditionType": "example.com/ready"}]});
    world.pod("p", "u1", spec);
    world.run(1);
    let condition = |world: &World, name: &str| {
        let status = world.get("pods", "p").unwrap().value()["status"].clone();
        status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == name).cloned().unwrap_or_default()
    };
    let closed = condition(&world, "Ready");
    assert_eq!(closed["reason"], "ReadinessGatesNotReady");
    assert_eq!(
        closed["message"],
        "corresponding condition of pod readiness gate \"example.com/ready\" does not exist."
    );
    let mut value = world.get("pods", "p").unwrap().value();
    let gate = json!({"type": "example.com/ready", "status": "True"});
    value["status"]["conditions"].as_array_mut().unwrap().push(gate.clone());
    world.put("pods", value);
    world.run(1);
    assert_eq!(condition(&world, "Ready")["status"], "True");
    assert_eq!(condition(&world, "Ready").get("reason"), None);
    assert_eq!(condition(&world, "example.com/ready"), gate);
}

#[test]
fn names_and_files_of_a_pod() {
    let check = |spec: Value, expect: Expect| {
        let mut world = World::new();
        let mut spec = spec;
        spec["containers"] = json!([{"name": "main", "image": "i:1", "imagePullPolicy": "IfNotPresent"}]);
        let actions = actions(&mut world, spec);
        let sandbox = sandbox(&actions);
        let hosts = started(&actions).etc_hosts.as_ref().map(text).unwrap_or_default();
        let out = format!("{}\n--\n{}--\n{hosts}", sandbox.hostname, text(&sandbox.resolv_conf)).replace('\t', "<tab>");
        expect.assert_eq(&out);
    };
    check(
        json!({"hostname": "web-0", "subdomain": "web"}),
        expect![[r#"
        web-0
        --
        search ns.svc.cluster.local svc.cluster.local cluster.local
        nameserver 10.96.0.10
        options ndots:5
        --
        # Kubernetes-managed hosts file.
        127.0.0.1<tab>localhost
        ::1<tab>localhost ip6-localhost ip6-loopback
        fe00::0<tab>ip6-localnet
        fe00::0<tab>ip6-mcastprefix
        fe00::1<tab>ip6-allnodes
        fe00::2<tab>ip6-allrouters
        10.244.0.2<tab>web-0.web.ns.svc.cluster.local<tab>web-0
    "#]],
    );
    let full = json!({"hostNetwork": true, "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]});
    check(
        full,
        expect![[r#"
        n1
        --
        (the node's)
        --
        (the node's)

        # Entries added by HostAliases.
        1.2.3.4<tab>a<tab>b
    "#]],
    );
    let own = json!({"dnsPolicy": "None", "hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true,
        "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["x.y"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}});
    check(
        own,
        expect![[r#"
        h.s.ns.svc.cluster.local
        --
        search x.y
        nameserver 1.1.1.1
        options ndots:2 edns0
        --
        # Kubernetes-managed hosts file.
        127.0.0.1<tab>localhost
        ::1<tab>localhost ip6-localhost ip6-loopback
        fe00::0<tab>ip6-localnet
        fe00::0<tab>ip6-mcastprefix
        fe00::1<tab>ip6-allnodes
        fe00::2<tab>ip6-allrouters
        10.244.0.2<tab>h.s.ns.svc.cluster.local<tab>h
    "#]],
    );
}

#[test]
fn a_container_with_everything() {
    let mut world = World::new();
    world.put("configmaps", json!({"metadata": {"name": "cm", "namespace": "ns"}, "data": {"a": "1", "b": "2"}}));
    world.put("secrets", json!({"metadata": {"name": "s", "namespace": "ns"}, "data": {"k": "dg=="}}));
    let port = json!({"port": 443, "name": "https"});
    world.put(
        "services",
        json!({"metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [port]}}),
    );
    world.put("services", json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": {"clusterIP": "None"}}));
    let spec = json!({
        "enableServiceLinks": false,
        "securityContext": {"fsGroup": 1000, "runAsUser": 7, "supplementalGroups": [4]},
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "cfg", "configMap": {"name": "cm"}}],
        "containers": [{"name": "main", "image": "i:1", "imagePullPolicy": "IfNotPresent",
            "command": ["run", "$(POD)"], "args": ["$$(POD)", "$(NONE)"],
            "envFrom": [{"prefix": "CM_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "no", "optional": true}}],
            "env": [
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "BOTH", "value": "$(POD)-$(CM_a)-$(KUBERNETES_SERVICE_PORT)"},
                {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "MIB", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "ALL", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory"}}}],
            "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}},
            "securityContext": {"runAsGroup": 8, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                "seccompProfile": {"type": "RuntimeDefault"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data", "subPathExpr": "$(POD)/x"},
                {"name": "cfg", "mountPath": "/etc/cfg"}],
            "terminationMessagePolicy": "FallbackToLogsOnError"}]});
    let actions = actions(&mut world, spec);
    expect![[r##"
        ContainerSpec {
            container: ContainerRef {
                pod: "u1",
                name: "main",
                attempt: 0,
            },
            image_id: "sha256:i:1",
            command: [
                "run",
                "web-0",
            ],
            args: [
                "$(POD)",
                "$(NONE)",
            ],
            env: [
                (
                    "HOSTNAME",
                    "web-0",
                ),
                (
                    "KUBERNETES_PORT",
                    "tcp://10.96.0.1:443",
                ),
                (
                    "KUBERNETES_PORT_443_TCP",
                    "tcp://10.96.0.1:443",
                ),
                (
                    "KUBERNETES_PORT_443_TCP_ADDR",
                    "10.96.0.1",
                ),
                (
                    "KUBERNETES_PORT_443_TCP_PORT",
                    "443",
                ),
                (
                    "KUBERNETES_PORT_443_TCP_PROTO",
                    "tcp",
                ),
                (
                    "KUBERNETES_SERVICE_HOST",
                    "10.96.0.1",
                ),
                (
                    "KUBERNETES_SERVICE_PORT",
                    "443",
                ),
                (
                    "KUBERNETES_SERVICE_PORT_HTTPS",
                    "443",
                ),
                (
                    "CM_a",
                    "1",
                ),
                (
                    "CM_b",
                    "2",
                ),
                (
                    "POD",
                    "web-0",
                ),
                (
                    "IP",
                    "10.244.0.2",
                ),
                (
                    "NODE",
                    "192.168.0.1",
                ),
                (
                    "KEY",
                    "v",
                ),
                (
                    "BOTH",
                    "web-0-1-443",
                ),
                (
                    "CPUS",
                    "2",
                ),
                (
                    "MIB",
                    "1024",
                ),
                (
                    "ALL",
                    "1073741824",
                ),
            ],
            working_dir: None,
            mounts: [
                Mount {
                    volume: "data",
                    container_path: "/data",
                    sub_path: Some(
                        "web-0/x",
                    ),
                    read_only: false,
                    propagation: None,
                },
                Mount {
                    volume: "cfg",
                    container_path: "/etc/cfg",
                    sub_path: None,
                    read_only: true,
                    propagation: None,
                },
            ],
            devices: [],
            etc_hosts: Some(
                Text(
                    "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n10.244.0.2\tweb-0\n",
                ),
            ),
            security: Security {
                run_as_user: Some(
                    7,
                ),
                run_as_group: Some(
                    8,
                ),
                supplementary_groups: [
                    4,
                    1000,
                ],
                privileged: false,
                capabilities_add: [
                    "NET_BIND_SERVICE",
                ],
                capabilities_drop: [
                    "ALL",
                ],
                read_only_root: true,
                no_new_privileges: true,
                seccomp: RuntimeDefault,
                unmasked_proc: false,
            },
            resources: Resources {
                cpu_shares: Some(
                    512,
                ),
                cpu_quota_us: Some(
                    150000,
                ),
                cpu_period_us: None,
                memory_bytes: Some(
                    1073741824,
                ),
                pids: None,
            },
            oom_score_adj: 875,
            process_namespace_of: None,
            tty: false,
            stdin: false,
            stdin_once: false,
            termination_message: TerminationMessage {
                path: "/dev/termination-log",
                fallback_to_logs_on_error: true,
            },
        }
    "##]].assert_eq(&format!("{:#?}\n", started(&actions)));
}

#[test]
fn volumes_and_what_is_in_them() {
    let mut world = World::new();
    let map = json!({"metadata": {"name": "cm", "namespace": "ns"}, "data": {"a": "1", "b": "2"}, "binaryData": {"c": "Aw=="}});
    world.put("configmaps", map);
    world.put("secrets", json!({"metadata": {"name": "s", "namespace": "ns"}, "data": {"k": "dg=="}}));
    for (name, source, by) in [
        ("made", json!({"local": {"path": "/data/volumes/made"}}), "stead.local/directory"),
        ("host", json!({"hostPath": {"path": "/mnt", "type": "Directory"}}), ""),
        ("local", json!({"local": {"path": "/disk"}}), ""),
    ] {
        world.put(
            "persistentvolumes",
            json!({"metadata": {"name": name, "annotations":
            {"pv.kubernetes.io/provisioned-by": by}}, "spec": source}),
        );
        world.put(
            "persistentvolumeclaims",
            json!({"metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {"volumeName": name}, "status": {"phase": "Bound"}}),
        );
    }
    let claim = |name: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    let spec = json!({
        "containers": [{"name": "main", "image": "i:1", "imagePullPolicy": "IfNotPresent",
            "resources": {"limits": {"memory": "64Mi"}}}],
        "securityContext": {"fsGroup": 5, "runAsUser": 9, "fsGroupChangePolicy": "OnRootMismatch"},
        "volumes": [
            claim("made"), claim("host"), claim("local"),
            {"name": "empty", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "all", "configMap": {"name": "cm", "defaultMode": 0o400}},
            {"name": "some", "configMap": {"name": "cm", "items": [{"key": "a", "path": "x/y", "mode": 0o755}]}},
            {"name": "missing", "configMap": {"name": "no", "optional": true}},
            {"name": "down", "downwardAPI": {"items": [
                {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
                {"path": "mem", "resourceFieldRef": {"containerName": "main", "resource": "limits.memory"}}]}},
            {"name": "api", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}},
                {"secret": {"name": "s", "items": [{"key": "k", "path": "key"}]}},
                {"configMap": {"name": "cm", "items": [{"key": "b", "path": "b"}]}}]}}]});
    let actions = actions(&mut world, spec);
    let out: String = volumes(&actions).iter().map(show_volume).collect();
    expect![[r#"
        made Directory { path: "/data/volumes/made" } Some(FsGroup { gid: 5, only_on_root_mismatch: true })
        host HostPath { path: "/mnt", kind: Directory } Some(FsGroup { gid: 5, only_on_root_mismatch: true })
        local HostPath { path: "/disk", kind: Directory } Some(FsGroup { gid: 5, only_on_root_mismatch: true })
        empty EmptyDir Some(FsGroup { gid: 5, only_on_root_mismatch: true })
        memory Memory { size_bytes: Some(1048576) } Some(FsGroup { gid: 5, only_on_root_mismatch: true })
        all files
          a 400 "1"
          b 400 "2"
          c 400 "\u{3}"
        some files
          x/y 755 "1"
        missing files
        down files
          mem 644 "67108864"
          name 644 "web-0"
        api files
          b 644 "2"
          key 644 "v"
          token 600 uid=9 "t12"
    "#]]
    .assert_eq(&out);
}

#[test]
fn volumes_that_cannot_be_mounted_say_why() {
    let problem = |setup: &dyn Fn(&mut World), volume: Value| {
        let mut world = World::new();
        setup(&mut world);
        world.shows = super::world::Shows::All;
        let spec = json!({"containers": [{"name": "main", "image": "i:1"}], "volumes": [volume]});
        world.pod("p", "u1", spec);
        world.run(1);
        let line = world.log.lines().find_map(|l| l.split_once("FailedMount ")).map(|(_, text)| text.to_owned());
        line.unwrap_or_else(|| panic!("no FailedMount:\n{}", world.log))
    };
    let none = |_: &mut World| {};
    let unbound = |world: &mut World| {
        let claim = json!({"metadata": {"name": "c", "namespace": "ns"}, "spec": {}, "status": {"phase": "Pending"}});
        world.put("persistentvolumeclaims", claim);
    };
    let map = |world: &mut World| {
        world.put("configmaps", json!({"metadata": {"name": "cm", "namespace": "ns"}, "data": {}}));
    };
    let claim = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
    let lines = [
        problem(&none, claim.clone()),
        problem(&unbound, claim),
        problem(&none, json!({"name": "v", "configMap": {"name": "cm"}})),
        problem(&map, json!({"name": "v", "configMap": {"name": "cm", "items": [{"key": "k", "path": "p"}]}})),
        problem(&none, json!({"name": "v", "nfs": {"server": "s", "path": "/"}})),
    ];
    expect![[r#"
        MountVolume.SetUp failed for volume "v" : persistentvolumeclaim "c" not found
        MountVolume.SetUp failed for volume "v" : error processing PVC ns/c: PVC is not bound
        MountVolume.SetUp failed for volume "v" : configmap "cm" not found
        MountVolume.SetUp failed for volume "v" : references non-existent config key: k
        MountVolume.SetUp failed for volume "v" : no volume plugin matched
    "#]]
    .assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn a_lost_lease_stops_only_what_must_be_unique() {
    let mut world = World::new();
    let mut config = super::world::config();
    config.fence_after = Some(jiff::SignedDuration::from_secs(40));
    world.agent = crate::NodeAgent::new(config, 9);
    world.run(1);
    let spec = json!({"containers": [{"name": "main", "image": "i:1", "imagePullPolicy": "IfNotPresent"}]});
    world.pod("free", "u1", spec.clone());
    world.pod("web-0", "u2", spec);
    let mut value = world.get("pods", "web-0").unwrap().value();
    value["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "s", "controller": true}]);
    world.put("pods", value);
    world.run(1);
    let running = |world: &World| -> Vec<String> { world.machine.running().map(|c| c.container.pod.clone()).collect() };
    assert_eq!(running(&world), ["u1", "u2"]);
    world.is_api_down = true;
    world.run(60);
    assert_eq!(running(&world), ["u1"]);
    world.is_api_down = false;
    world.run(60);
    assert_eq!(running(&world), ["u1", "u2"], "it comes back with the lease");
}
