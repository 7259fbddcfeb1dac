//! Jobs that run on real containers, the clock's jobs, quotas, and manifests of old tutorials.

use crate::cluster::Cluster;

const JOBS: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: parts}
spec:
  completionMode: Indexed
  completions: 3
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: stead.local/demo:1, args: [env]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: broken}
spec:
  backoffLimit: 5
  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {containerName: c, operator: In, values: [1]}}]}
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: stead.local/demo:1, args: [cat, /none]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: brief}
spec:
  ttlSecondsAfterFinished: 1
  template:
    spec:
      restartPolicy: OnFailure
      containers: [{name: c, image: stead.local/demo:1, args: [id]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: clock}
spec:
  schedule: '0 0 1 1 *'
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: c, image: stead.local/demo:1, args: [id]}]
";

#[test]
fn jobs_run_to_their_end() {
    let cluster = Cluster::up("jobs");
    cluster.apply(JOBS);
    cluster.kubectl("wait job/parts --for=condition=Complete --timeout=90s").ok();
    assert_eq!(cluster.value("job parts", "{.status.succeeded} {.status.completedIndexes}"), "3 0-2");
    let pod = cluster.value("pods -l batch.kubernetes.io/job-completion-index=2", "{.items[0].metadata.name}");
    cluster.kubectl(&format!("logs {pod}")).says("JOB_COMPLETION_INDEX=2");
    assert_eq!(cluster.value(&format!("pod {pod}"), "{.metadata.finalizers}{.spec.hostname}"), "parts-2");

    cluster.kubectl("wait job/broken --for=condition=Failed --timeout=60s").ok();
    let why = cluster.value("job broken", "{.status.conditions[?(@.type==\"Failed\")].reason} {.status.failed}");
    assert_eq!(why, "PodFailurePolicy 1");
    cluster.kubectl("describe job broken").says("failed with exit code 1 matching FailJob rule at index 0");

    cluster.kubectl("wait job/brief --for=delete --timeout=60s").ok();
    cluster.kubectl("create job --from=cronjob/clock now").ok();
    cluster.kubectl("wait job/now --for=condition=Complete --timeout=60s").ok();
    cluster.kubectl("get jobs").says("Complete");
    cluster.kubectl("delete job parts").ok();
    cluster.kubectl("wait pod -l batch.kubernetes.io/job-name=parts --for=delete --timeout=60s").ok();
}

const LIMITS: &str = "
apiVersion: v1
kind: ResourceQuota
metadata: {name: few}
spec: {hard: {pods: '1', count/configmaps: '1'}}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: 1
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: stead.local/demo:1, args: [counter, --dir, /tmp]}]
";

#[test]
fn quotas_are_counted_and_given_back() {
    let cluster = Cluster::up("quotas");
    cluster.apply(LIMITS);
    cluster.kubectl("wait pod -l app=web --for=condition=Ready --timeout=60s").ok();
    cluster.kubectl("get quota few").says("pods: 1/1");
    let refusal = cluster.kubectl("run more --image=stead.local/demo:1").fails();
    assert!(
        refusal.contains(
            "pods \"more\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1"
        ),
        "{refusal}"
    );
    cluster.kubectl("scale rc/web --replicas=0").ok();
    cluster.kubectl("wait quota/few --for=jsonpath={.status.used.pods}=0 --timeout=60s").ok();
    cluster.kubectl("run more --image=stead.local/demo:1 -- id").ok();
}

#[test]
fn a_manifest_of_an_old_tutorial_applies() {
    let cluster = Cluster::new("tutorial");
    cluster.start("--no-node").says("stead is up: ");
    cluster.apply(
        "
apiVersion: storage.k8s.io/v1beta1
kind: StorageClass
metadata: {name: fast}
provisioner: example.com/disk
---
apiVersion: v1
kind: Service
metadata: {name: mongo, labels: {name: mongo}}
spec: {ports: [{port: 27017, targetPort: 27017}], clusterIP: None, selector: {role: mongo}}
---
apiVersion: apps/v1beta1
kind: StatefulSet
metadata: {name: mongo}
spec:
  serviceName: mongo
  replicas: 3
  template:
    metadata: {labels: {role: mongo, environment: test}}
    spec:
      terminationGracePeriodSeconds: 10
      containers: [{name: mongo, image: 'mongo:3.4'}]
  volumeClaimTemplates:
  - metadata: {name: data, annotations: {volume.beta.kubernetes.io/storage-class: fast}}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}
---
apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: mongo}
spec: {rules: [{host: a.example.com, http: {paths: [{path: /, backend: {serviceName: mongo, servicePort: 27017}}]}}]}
",
    );
    assert_eq!(cluster.value("statefulset mongo", "{.apiVersion} {.spec.selector.matchLabels.role}"), "apps/v1 mongo");
    assert_eq!(cluster.value("ingress mongo", "{.apiVersion}"), "networking.k8s.io/v1");
    cluster.kubectl("get statefulsets.v1beta1.apps mongo").says("0/3");
    let listed = cluster.kubectl("api-resources").ok();
    assert!(!listed.contains("beta"), "{listed}");
}
