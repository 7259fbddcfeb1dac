//! What a pod may be made of: init containers, sidecars, probes, volumes, environment, limits, identity. And Services to it.

use crate::cluster::Cluster;
use crate::images;

#[test]
fn pods_of_every_make_run() {
    let cluster = Cluster::up("pods");
    images::load(&cluster, &images::busybox("test/busybox:1"));
    cluster.tells(&[
        ("init containers and sidecars", init_containers_and_sidecars),
        ("volumes and environment", volumes_and_environment),
        ("probes", probes),
        ("limits and identity", limits_and_identity),
        ("hooks and restarts", hooks_and_restarts),
        ("an ephemeral container", an_ephemeral_container),
        ("services", services),
        ("custom resources", custom_resources),
        ("in the pod", a_pod_asks_the_api),
    ]);
}

/// A pod of shell containers: `containers` and other fields of its spec, as YAML flow.
fn pod(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}, tier: back}}}}\nspec: {{terminationGracePeriodSeconds: 1, {spec}}}\n"
    )
}

fn shell(name: &str, command: &str, more: &str) -> String {
    format!("{{name: {name}, image: 'test/busybox:1', command: [sh, -c, {command:?}] {more}}}")
}

/// SC-01 to SC-04: in order, each to its end; the sidecar beside the rest and stopped last.
fn init_containers_and_sidecars(cluster: &Cluster) {
    let mount = ", volumeMounts: [{name: shared, mountPath: /shared}]";
    let first = shell("first", "echo first >> /shared/order", mount);
    let sidecar =
        shell("sidecar", "echo sidecar >> /shared/order; exec sleep 3600", &format!("{mount}, restartPolicy: Always"));
    let second = shell("second", "echo second >> /shared/order", mount);
    let main = shell("main", "echo main >> /shared/order; exec sleep 3600", mount);
    let spec = format!(
        "initContainers: [{first}, {sidecar}, {second}], containers: [{main}], volumes: [{{name: shared, emptyDir: {{}}}}]"
    );
    cluster.apply(&pod("init", &spec));
    cluster.wait("pod/init", "condition=Ready");
    let order = cluster.kubectl("exec init -c main -- cat /shared/order").ok();
    let lines: Vec<&str> = order.lines().filter(|line| *line != "sidecar").collect();
    assert_eq!(lines, ["first", "second", "main"]);
    cluster.kubectl("get pod init --no-headers").says("init 2/2 Running");
    // One that fails holds all that follow.
    let fails = shell("fails", "exit 7", "");
    let never = shell("never", "echo never", "");
    cluster.apply(&pod("stuck", &format!("restartPolicy: Never, initContainers: [{fails}], containers: [{never}]")));
    cluster.wait("pod/stuck", "jsonpath={.status.phase}=Failed");
    cluster.kubectl("get pod stuck --no-headers").says("Init:Error");
}

/// ID-09 and the kinds of volumes and variables.
fn volumes_and_environment(cluster: &Cluster) {
    cluster.kubectl("create configmap app --from-literal=colour=red --from-literal=size=big").ok();
    cluster.kubectl("create secret generic key --from-literal=key=hunter2").ok();
    let container = "{name: c, image: 'test/busybox:1', command: [sleep, '3600'], resources: {limits: {memory: 64Mi}},
      envFrom: [{configMapRef: {name: app}}],
      env: [{name: ME, valueFrom: {fieldRef: {fieldPath: metadata.name}}},
            {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}},
            {name: KEY, valueFrom: {secretKeyRef: {name: key, key: key}}},
            {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}},
            {name: BOTH, value: '$(ME)-$(KEY)-$$(ME)'}],
      volumeMounts: [{name: map, mountPath: /map}, {name: key, mountPath: /key}, {name: down, mountPath: /down},
                     {name: one, mountPath: /one/colour, subPath: colour}]}";
    let volumes = "[{name: map, configMap: {name: app}}, {name: key, secret: {secretName: key, defaultMode: 0400}},
      {name: down, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}},
      {name: one, configMap: {name: app}}]";
    cluster.apply(&pod("filled", &format!("containers: [{container}], volumes: {volumes}")));
    cluster.wait("pod/filled", "condition=Ready");
    let address = cluster.value("pod filled", "{.status.podIP}");
    let env = cluster.kubectl("exec filled -- env").ok();
    for line in [
        "colour=red",
        "ME=filled",
        "KEY=hunter2",
        "MEMORY=67108864",
        "BOTH=filled-hunter2-$(ME)",
        &format!("IP={address}"),
        "KUBERNETES_SERVICE_PORT=443",
    ] {
        assert!(env.lines().any(|l| l == line), "{line:?} in\n{env}");
    }
    assert_eq!(cluster.kubectl("exec filled -- cat /map/size /key/key /one/colour").ok(), "bighunter2red");
    assert_eq!(cluster.kubectl("exec filled -- stat -L -c %a /key/key").ok(), "400\n");
    cluster.kubectl("exec filled -- cat /down/labels").says("tier=\"back\"");
    // A change of the object arrives in the running container.
    cluster.kubectl("patch configmap app --type=merge -p '{\"data\":{\"size\":\"small\"}}'").ok();
    let seen = "timeout 80 sh -c 'until [ \"$(cat /map/size)\" = small ]; do sleep 0.2; done'";
    cluster.sh(&format!("kubectl exec filled -- {seen}")).ok();
}

/// SC-06: readiness takes the pod out, liveness starts it again, startup holds both back.
fn probes(cluster: &Cluster) {
    let probe = "readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}";
    cluster.apply(&pod("readied", &format!("containers: [{}]", shell("c", "exec sleep 3600", &format!(", {probe}")))));
    cluster.wait("pod/readied", "jsonpath={.status.phase}=Running");
    assert_eq!(cluster.value("pod readied", "{.status.conditions[?(@.type==\"Ready\")].status}"), "False");
    cluster.kubectl("exec readied -- touch /tmp/ready").ok();
    cluster.wait("pod/readied", "condition=Ready");
    cluster.kubectl("exec readied -- rm /tmp/ready").ok();
    cluster.wait("pod/readied", "condition=Ready=false");
    cluster.kubectl("events --for pod/readied").says("Readiness probe failed");

    let probe = "livenessProbe: {tcpSocket: {port: 9}, periodSeconds: 1, failureThreshold: 1}, startupProbe: {exec: {command: ['true']}, periodSeconds: 1}";
    cluster.apply(&pod("revived", &format!("containers: [{}]", shell("c", "exec sleep 3600", &format!(", {probe}")))));
    cluster.wait("pod/revived", "jsonpath={.status.containerStatuses[0].restartCount}=1");
    cluster.kubectl("events --for pod/revived").says("Container c failed liveness probe, will be restarted");
    cluster.kubectl("delete pod revived readied --now").ok();
}

/// What `kubectl debug` adds sees the target's processes, answers, and is not started again.
fn an_ephemeral_container(cluster: &Cluster) {
    cluster.apply(&pod("looked-into", &format!("containers: [{}]", shell("c", "exec sleep 3600", ""))));
    cluster.wait("pod/looked-into", "condition=Ready");
    let debug = "kubectl debug -i looked-into --image=test/busybox:1 --target=c -c debugger --profile=general -- sh";
    cluster.sh(&format!("echo 'ps; exit 4' | {debug}")).ok();
    let state = "jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.exitCode}=4";
    cluster.wait("pod/looked-into", state);
    cluster.kubectl("logs looked-into -c debugger").says("1 root sleep 3600");
    cluster.kubectl("delete pod looked-into --now").ok();
}

fn limits_and_identity(cluster: &Cluster) {
    let security = ", resources: {limits: {memory: 32Mi, cpu: 500m}}, securityContext: {runAsUser: 1000, runAsGroup: 1001, \
        readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}";
    let command =
        "id; grep CapEff /proc/self/status; touch /file; touch /data/file && stat -c %g /data/file; exec sleep 3600";
    let container = shell("c", command, &format!("{security}, volumeMounts: [{{name: data, mountPath: /data}}]"));
    cluster.apply(&pod(
        "nobody",
        &format!(
            "securityContext: {{fsGroup: 2000}}, containers: [{container}], volumes: [{{name: data, emptyDir: {{}}}}]"
        ),
    ));
    cluster.wait("pod/nobody", "condition=Ready");
    let log = cluster.kubectl("logs nobody").ok();
    for text in ["uid=1000 gid=1001", "2000", "Read-only file system"] {
        assert!(log.contains(text), "{text:?} in\n{log}");
    }
    assert_eq!(cluster.value("pod nobody", "{.status.qosClass}"), "Guaranteed");
    // More is given to it as it runs.
    let more = "{\"spec\":{\"containers\":[{\"name\":\"c\",\"resources\":{\"limits\":{\"memory\":\"48Mi\"},\"requests\":{\"memory\":\"48Mi\"}}}]}}";
    cluster.kubectl(&format!("patch pod nobody --subresource=resize -p '{more}'")).ok();
    cluster.wait("pod/nobody", "jsonpath={.status.containerStatuses[0].resources.limits.memory}=48Mi");
    let limit = "cat /sys/fs/cgroup/memory.max || cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
    cluster.sh(&format!("kubectl exec nobody -- sh -c '{limit}'")).says("50331648");
    assert_eq!(cluster.value("pod nobody", "{.status.containerStatuses[0].restartCount}"), "0");
    // More memory than allowed is not to be had.
    let greedy = shell("c", "tail /dev/zero", ", resources: {limits: {memory: 16Mi}}");
    cluster.apply(&pod("greedy", &format!("restartPolicy: Never, containers: [{greedy}]")));
    cluster.wait("pod/greedy", "jsonpath={.status.phase}=Failed");
    assert_eq!(cluster.value("pod greedy", "{.status.containerStatuses[0].state.terminated.reason}"), "OOMKilled");
    assert_eq!(cluster.value("pod greedy", "{.status.containerStatuses[0].state.terminated.exitCode}"), "137");
}

/// SC-08 and the restart policies.
fn hooks_and_restarts(cluster: &Cluster) {
    let hooks = ", lifecycle: {postStart: {exec: {command: [sh, -c, 'echo started > /tmp/hook']}}, \
        preStop: {exec: {command: [sh, -c, 'echo stopping > /proc/1/fd/1']}}}";
    cluster.apply(&pod(
        "hooked",
        &format!("containers: [{}]", shell("c", "trap 'exit 0' TERM; while :; do sleep 0.1; done", hooks)),
    ));
    cluster.wait("pod/hooked", "condition=Ready");
    assert_eq!(cluster.kubectl("exec hooked -- cat /tmp/hook").ok(), "started\n");
    let mut logs = cluster.shell("kubectl logs -f hooked > hooked.log").spawn().unwrap();
    cluster.kubectl("delete pod hooked").ok();
    logs.wait().unwrap();
    assert_eq!(std::fs::read_to_string(cluster.dir.join("hooked.log")).unwrap(), "stopping\n");

    cluster.apply(&pod("onfailure", &format!("restartPolicy: OnFailure, containers: [{}]", shell("c", "exit 0", ""))));
    cluster.wait("pod/onfailure", "jsonpath={.status.phase}=Succeeded");
    cluster.kubectl("get pod onfailure --no-headers").says("onfailure 0/1 Completed 0");
    cluster.apply(&pod("absent", "containers: [{name: c, image: 'localhost:1/absent:1', imagePullPolicy: Never}]"));
    cluster.wait("pod/absent", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImageNeverPull");
}

/// N-01, N-05: by address, by name, by node port from the host and from a pod; without endpoints, refused.
fn services(cluster: &Cluster) {
    let manifest = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: front}
spec:
  replicas: 2
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec:
      terminationGracePeriodSeconds: 5
      containers: [{name: c, image: 'stead.local/demo:1', args: [counter, --dir, /tmp], ports: [{name: http, containerPort: 8080}],
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {type: NodePort, selector: {app: front}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody-at-all}, ports: [{port: 80}]}
";
    cluster.apply(manifest);
    cluster.kubectl("rollout status deployment/front --timeout=90s").ok();
    let address = cluster.value("service front", "{.spec.clusterIP}");
    let port = cluster.value("service front", "{.spec.ports[0].nodePort}");
    let node = cluster.value("node node-0", "{.status.addresses[?(@.type==\"InternalIP\")].address}");
    cluster.sh(&format!("curl -s --fail --max-time 5 http://{address}/")).says("has counted");
    cluster.sh(&format!("curl -s --fail --max-time 5 http://127.0.0.1:{port}/")).says("has counted");
    let pod = cluster.value("pods -l app=front", "{.items[0].metadata.name}");
    for place in [
        "front".to_owned(),
        "front.default.svc.cluster.local:80".to_owned(),
        format!("{node}:{port}"),
        format!("{address}:80"),
    ] {
        cluster.kubectl(&format!("exec {pod} -- /stead demo get http://{place}/")).says("has counted");
    }
    // Both answer.
    let seen = cluster.sh(&format!(
        "for i in $(seq 40); do curl -s --max-time 5 http://{address}/; done | cut -d' ' -f1 | sort -u | wc -l"
    ));
    assert_eq!(seen.ok().trim(), "2");
    let refused = cluster.kubectl(&format!("exec {pod} -- /stead demo get http://nobody/")).fails();
    assert!(refused.contains("refused"), "{refused}");
    cluster.kubectl("delete deployment front").ok();
}

/// A kind that a definition brings: strict, printed by its columns, watched and deleted like any other.
fn custom_resources(cluster: &Cluster) {
    let definition = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: backups.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: backups, singular: backup, kind: Backup, shortNames: [bk]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Every, type: string, jsonPath: .spec.every}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [every]
            properties: {every: {type: string}, keep: {type: integer, minimum: 1, default: 7}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
";
    cluster.apply(definition);
    cluster.wait("crd/backups.example.com", "condition=Established");
    let object = "apiVersion: example.com/v1\nkind: Backup\nmetadata: {name: nightly}\nspec: {every: 24h}\n";
    assert_eq!(cluster.apply(object), "backup.example.com/nightly created\n");
    cluster.kubectl("get bk").says("NAME EVERY\nnightly 24h");
    assert_eq!(cluster.value("backup nightly", "{.spec.keep}"), "7");
    let wrong = cluster.feed("kubectl apply -f -", &object.replace("24h", "24h, keep: 0")).fails();
    assert!(
        wrong.contains("spec.keep: Invalid value: 0: spec.keep in body should be greater than or equal to 1"),
        "{wrong}"
    );
    cluster.kubectl("explain backup.spec.keep").says("FIELD: keep <integer>");
    cluster.kubectl("delete -n default backup nightly").ok();
    cluster.kubectl("delete crd backups.example.com").ok();
    cluster.kubectl("get backups").fails();
}

/// ID-01, ID-08: a pod's token is known to the API and may do what its account may.
fn a_pod_asks_the_api(cluster: &Cluster) {
    cluster.apply(&pod("asks", &format!("containers: [{}]", shell("c", "exec sleep 3600", ""))));
    cluster.wait("pod/asks", "condition=Ready");
    let ask = "curl -s --cacert ca --max-time 5 -H \"Authorization: Bearer $(kubectl exec asks -- cat /var/run/secrets/kubernetes.io/serviceaccount/token)\" \
        $(kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}')/api/v1/namespaces/default/pods";
    cluster.sh("kubectl exec asks -- cat /var/run/secrets/kubernetes.io/serviceaccount/ca.crt > ca").ok();
    cluster.sh(ask).says("pods is forbidden: User \\\"system:serviceaccount:default:default\\\" cannot list resource");
    cluster.kubectl("create rolebinding view --clusterrole=view --serviceaccount=default:default").ok();
    cluster.sh(ask).says("PodList");
}
