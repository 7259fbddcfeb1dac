//! The whole control plane in one process: real requests in, what kubectl would see out. The nodes are played by the test.

use std::net::Ipv4Addr;

use expect_test::expect;
use jiff::SignedDuration;
use serde_json::Value;
use stead_api::Target;
use stead_api::request::target;
use stead_store::Snapshot;

use super::*;
use crate::fixture::cluster;
use crate::names::*;

mod monkey;
mod refusals;
mod scaling;
mod webhooks;

struct World {
    plane: Plane,
    now: Timestamp,
    disk: BTreeMap<Key, Bytes>,
    revision: Revision,
    /// Plays the webhooks: from a review's request to its response; None: it does not answer yet.
    webhook: fn(&Value) -> Option<Value>,
    calls: Vec<(CallId, Question)>,
    asked: Vec<Value>,
    /// Whether the shell was asked what pods use.
    measures: bool,
}

impl World {
    fn new() -> World {
        let plane = Plane::restore(7, cluster(), 0, []).expect("an empty store");
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut world = World {
            plane,
            now,
            disk: BTreeMap::new(),
            revision: 0,
            webhook: |_| Some(json!({"allowed": true})),
            calls: Vec::new(),
            asked: Vec::new(),
            measures: false,
        };
        let facts = Bootstrap {
            api_address: Ipv4Addr::new(192, 0, 2, 1),
            api_port: 6443,
            dns_ip: Ipv4Addr::new(10, 96, 0, 10),
            front_proxy_ca: "FRONT".into(),
            tells_usage: true,
        };
        let batch = world.plane.bootstrap(now, &facts);
        world.commit(batch);
        world.settle();
        world
    }

    /// What a server makes of the disk at its start.
    fn restored(&self) -> Plane {
        let records = self.disk.iter().map(|(key, json)| Record { key: key.clone(), json: json.clone() });
        Plane::restore(9, cluster(), self.revision, records.collect::<Vec<_>>()).expect("sound records")
    }

    fn restart(&mut self) {
        self.plane = self.restored();
    }

    fn commit(&mut self, batch: Batch) -> Vec<Reply> {
        for (key, bytes) in batch.writes() {
            match bytes {
                Some(bytes) => self.disk.insert(key.clone(), bytes.clone()),
                None => self.disk.remove(key),
            };
        }
        self.revision = batch.revision();
        let released = batch.synced();
        self.calls.extend(released.calls);
        self.measures |= released.measures;
        released.replies.into_iter().map(|(_, reply)| reply).collect()
    }

    /// Steps until nothing is queued.
    fn settle(&mut self) {
        for _ in 0..100 {
            if self.plane.wake_at().is_none_or(|at| at > self.now) {
                let left = self.plane.plans_left();
                assert!(left.is_empty(), "Stable: {left:?}");
                return;
            }
            let batch = self.plane.step(self.now, Vec::new());
            self.commit(batch);
            self.answer_calls();
        }
        panic!("the plane does not come to rest: {:?}", self.plane.queue);
    }

    /// Lets time pass, waking the plane whenever it asks to be.
    fn wait(&mut self, seconds: i64) {
        let end = self.now.checked_add(SignedDuration::from_secs(seconds)).expect("a time");
        while let Some(at) = self.plane.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    fn send(&mut self, verb: Verb, path: &str, body: Value) -> Result<(), Status> {
        let Target::Resource(resource) = target(path) else { panic!("{path} is no resource") };
        let user = User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() };
        let mut request = Request::of(Arc::new(user), verb, resource, body);
        let reply = loop {
            let batch = self.plane.step(self.now, vec![(1, request)]);
            match self.commit(batch).pop().expect("a reply") {
                Reply::Call(call) => {
                    let answers = call.questions.iter().map(|question| self.say(question).expect("an answer"));
                    request = {
                        let answers = answers.collect();
                        call.answered(answers)
                    };
                }
                reply => break reply,
            }
        };
        self.answer_calls();
        self.settle();
        match reply {
            Reply::Failure { status, .. } => Err(*status),
            _ => Ok(()),
        }
    }

    fn create(&mut self, path: &str, body: Value) {
        self.send(Verb::Create, path, body).unwrap_or_else(|status| panic!("{path}: {status}"));
    }

    fn snapshot(&self) -> &Snapshot {
        self.plane.store.snapshot()
    }

    fn value(&self, kind: KindName, name: &str) -> Value {
        let namespace = if self.plane.registry.stored(kind).is_some_and(|k| k.namespaced) { "default" } else { "" };
        self.snapshot().find(kind, namespace, name).map_or(Value::Null, |object| object.value())
    }

    fn node(&mut self, name: &str) {
        self.create(
            "/api/v1/nodes",
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name},
                "annotations": {VOLUMES_DIRECTORY: "/vols"}}}),
        );
        let mut node = self.value(NODE, name);
        node["status"] = json!({"allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": self.now.to_string()}]});
        self.send(Verb::Update, &format!("/api/v1/nodes/{name}/status"), node).expect("a status");
    }

    /// Plays the nodes once: bound pods run, terminating ones go. True when something changed.
    fn play_nodes(&mut self) -> bool {
        let keys: Vec<Key> = self.snapshot().list(POD, "").map(|pod| pod.key.clone()).collect();
        let mut changed = false;
        for key in keys {
            let Some(pod) = self.snapshot().get(&key).cloned() else { continue };
            let path = format!("/api/v1/namespaces/{}/pods/{}", pod.key.namespace, pod.key.name);
            let mut value = pod.value();
            if value["spec"]["nodeName"].is_null() {
                continue;
            }
            if pod.meta.is_deleting() {
                let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod.meta.uid}});
                self.send(Verb::Delete, &path, options).expect("the node may remove its pod");
                changed = true;
            } else if value["status"]["phase"] == "Pending" {
                value["status"]["phase"] = json!("Running");
                let ip = format!("10.244.0.{}", pod.revision() % 250);
                value["status"]["podIP"] = json!(ip);
                value["status"]["podIPs"] = json!([{"ip": ip}]);
                value["status"]["conditions"] = json!([{"type": "Ready", "status": "True",
                    "lastTransitionTime": self.now.to_string()}]);
                self.send(Verb::Update, &format!("{path}/status"), value).expect("a status");
                changed = true;
            }
        }
        changed
    }

    fn play(&mut self) {
        for _ in 0..100 {
            if !self.play_nodes() {
                return;
            }
        }
        panic!("the nodes do not come to rest");
    }

    fn names(&self, kind: KindName) -> String {
        self.snapshot().list(kind, "").map(|o| o.key.name.to_string()).collect::<Vec<_>>().join(" ")
    }

    fn events(&self, name: &str) -> Vec<String> {
        let events = self.snapshot().list(EVENT, "").map(|event| event.value());
        let mut of: Vec<String> = events
            .filter(|e| e["involvedObject"]["name"] == name)
            .map(|e| {
                format!(
                    "{} {} {}",
                    e["type"].as_str().unwrap(),
                    e["reason"].as_str().unwrap(),
                    e["message"].as_str().unwrap()
                )
            })
            .collect();
        of.sort();
        of
    }
}

fn web(replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "stead.local/demo:1"}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}]}})
}

fn with_web(replicas: i64) -> World {
    let mut world = World::new();
    world.node("n1");
    world.create(
        "/api/v1/namespaces/default/services",
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}}),
    );
    world.create("/apis/apps/v1/namespaces/default/statefulsets", web(replicas));
    world
}

#[test]
fn a_stateful_set_comes_up_in_order_with_volumes_and_endpoints_i9() {
    let mut world = with_web(3);
    assert_eq!(world.names(POD), "web-0", "the first pod alone");
    assert_eq!(world.value(POD, "web-0")["spec"]["nodeName"], "n1", "{:?}", world.events("web-0"));
    assert_eq!(world.value(CLAIM, "data-web-0")["status"]["phase"], "Bound");
    world.play_nodes();
    assert_eq!(world.names(POD), "web-0 web-1");
    world.play();
    assert_eq!(world.names(POD), "web-0 web-1 web-2");
    assert_eq!(world.names(CLAIM), "data-web-0 data-web-1 data-web-2");
    let status = world.value(STATEFUL_SET, "web")["status"].clone();
    assert_eq!((&status["readyReplicas"], &status["currentReplicas"]), (&json!(3), &json!(3)), "{status}");
    let slices: Vec<Value> = world.snapshot().list(ENDPOINT_SLICE, "default").map(|s| s.value()).collect();
    let web = slices.iter().find(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == "web").expect("a slice");
    let hostnames: Vec<&str> =
        web["endpoints"].as_array().expect("a list").iter().filter_map(|e| e["hostname"].as_str()).collect();
    assert_eq!(hostnames, ["web-0", "web-1", "web-2"]);
    expect![[r#"
        Normal Scheduled Successfully assigned default/web-0 to n1
    "#]]
    .assert_eq(&(world.events("web-0").join("\n") + "\n"));
    expect![[r#"
        Normal SuccessfulCreate Create Claim data-web-0 Pod web-0 in StatefulSet web success
        Normal SuccessfulCreate Create Claim data-web-1 Pod web-1 in StatefulSet web success
        Normal SuccessfulCreate Create Claim data-web-2 Pod web-2 in StatefulSet web success
        Normal SuccessfulCreate Create Pod web-0 in StatefulSet web successful
        Normal SuccessfulCreate Create Pod web-1 in StatefulSet web successful
        Normal SuccessfulCreate Create Pod web-2 in StatefulSet web successful
    "#]]
    .assert_eq(&(world.events("web").join("\n") + "\n"));
}

#[test]
fn scaling_down_goes_from_the_top_and_keeps_claims_b11_b29() {
    let mut world = with_web(3);
    world.play();
    let mut set = world.value(STATEFUL_SET, "web");
    set["spec"]["replicas"] = json!(1);
    world.send(Verb::Update, "/apis/apps/v1/namespaces/default/statefulsets/web", set).expect("a new size");
    let terminating = |world: &World| -> Vec<String> {
        let pods = world.snapshot().list(POD, "default").filter(|p| p.meta.is_deleting());
        pods.map(|p| p.key.name.to_string()).collect()
    };
    assert_eq!(terminating(&world), ["web-2"]);
    world.play_nodes();
    assert_eq!(terminating(&world), ["web-1"]);
    world.play();
    assert_eq!(world.names(POD), "web-0");
    assert_eq!(world.names(CLAIM), "data-web-0 data-web-1 data-web-2");
}

#[test]
fn a_new_template_rolls_from_the_top_and_rolls_back_by_its_revision_b16_b22() {
    let mut world = with_web(2);
    world.play();
    let path = "/apis/apps/v1/namespaces/default/statefulsets/web";
    let change = |world: &mut World, image: &str| {
        let mut set = world.value(STATEFUL_SET, "web");
        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        world.send(Verb::Update, path, set).expect("a new template");
    };
    change(&mut world, "new");
    assert!(world.value(POD, "web-1")["metadata"]["deletionTimestamp"].is_string());
    assert!(world.value(POD, "web-0")["metadata"]["deletionTimestamp"].is_null());
    world.play();
    assert_eq!(world.value(POD, "web-0")["spec"]["containers"][0]["image"], "new");
    let status = world.value(STATEFUL_SET, "web")["status"].clone();
    assert_eq!(status["currentRevision"], status["updateRevision"]);
    change(&mut world, "stead.local/demo:1");
    world.play();
    assert_eq!(world.snapshot().list(CONTROLLER_REVISION, "default").count(), 2, "no third revision");
    assert_ne!(world.value(STATEFUL_SET, "web")["status"]["currentRevision"], status["currentRevision"]);
}

#[test]
fn a_restored_plane_is_equal_and_has_nothing_left_to_say_i3_i5_i7() {
    let mut world = with_web(2);
    world.play();
    world.wait(60);
    let mut again = world.restored();
    assert!(again.store.snapshot() == world.plane.store.snapshot(), "Fold");
    let batch = again.step(world.now, Vec::new());
    assert!(batch.writes().is_empty(), "Stable: {:?}", batch.writes());
}

#[test]
fn deleting_a_set_takes_its_pods_and_orphaning_leaves_them_b27_b28() {
    let mut world = with_web(2);
    world.play();
    let path = "/apis/apps/v1/namespaces/default/statefulsets";
    world.send(Verb::Delete, &format!("{path}/web"), json!({"propagationPolicy": "Orphan"})).expect("an orphaning");
    assert_eq!(world.names(STATEFUL_SET), "");
    assert_eq!(world.names(POD), "web-0 web-1");
    assert!(world.value(POD, "web-0")["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty));
    world.create(path, web(2));
    let uid = world.value(STATEFUL_SET, "web")["metadata"]["uid"].clone();
    assert_eq!(world.value(POD, "web-1")["metadata"]["ownerReferences"][0]["uid"], uid, "adopted");
    world.send(Verb::Delete, &format!("{path}/web"), json!({})).expect("a deletion");
    world.play();
    assert_eq!((world.names(POD), world.names(CONTROLLER_REVISION)), (String::new(), String::new()));
    assert_eq!(world.names(CLAIM), "data-web-0 data-web-1", "Kept");
}

#[test]
fn a_deleted_claim_takes_its_directory_once_no_pod_uses_it_v11_v13() {
    let mut world = with_web(1);
    world.play();
    let volume = world.names(VOLUME);
    world
        .send(Verb::Delete, "/api/v1/namespaces/default/persistentvolumeclaims/data-web-0", json!({}))
        .expect("a deletion");
    assert_eq!(world.names(CLAIM), "data-web-0", "in use");
    world.send(Verb::Delete, "/apis/apps/v1/namespaces/default/statefulsets/web", json!({})).expect("a deletion");
    world.play();
    assert_eq!(world.names(CLAIM), "");
    let mut left = world.value(VOLUME, &volume);
    assert_eq!(left["metadata"]["finalizers"], json!([DIRECTORY_PROVISIONER]), "the node has the last word");
    left["metadata"]["finalizers"] = json!([]);
    world.send(Verb::Update, &format!("/api/v1/persistentvolumes/{volume}"), left).expect("the node's word");
    assert_eq!(world.names(VOLUME), "");
}

#[test]
fn a_deployment_rolls_to_a_new_template() {
    let mut world = World::new();
    world.node("n1");
    let path = "/apis/apps/v1/namespaces/default/deployments";
    world.create(
        path,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "m", "image": "a"}]}}}}),
    );
    world.play();
    assert_eq!(world.value(DEPLOYMENT, "web")["status"]["availableReplicas"], 3);
    let mut changed = world.value(DEPLOYMENT, "web");
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = json!("b");
    world.send(Verb::Update, &format!("{path}/web"), changed).expect("a new template");
    world.play();
    let images: Vec<Value> =
        world.snapshot().list(POD, "").map(|p| p.value()["spec"]["containers"][0]["image"].clone()).collect();
    assert_eq!(images, ["b", "b", "b"]);
    let deployment = world.value(DEPLOYMENT, "web");
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
    assert_eq!(deployment["status"]["updatedReplicas"], 3);
    let progressing = &deployment["status"]["conditions"][1];
    assert_eq!(progressing["reason"], "NewReplicaSetAvailable", "{deployment}");
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    let mut world = World::new();
    world.node("n1");
    world.create("/api/v1/namespaces", json!({"metadata": {"name": "shop"}}));
    assert!(world.snapshot().find(SERVICE_ACCOUNT, "shop", "default").is_some());
    world.create("/apis/apps/v1/namespaces/shop/statefulsets", {
        let mut set = web(1);
        set["metadata"]["namespace"] = json!("shop");
        set
    });
    world.play();
    world.send(Verb::Delete, "/api/v1/namespaces/shop", json!({})).expect("a deletion");
    world.play();
    let left: Vec<_> = world.snapshot().all().filter(|o| &*o.key.namespace == "shop").map(|o| o.key.clone()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(world.snapshot().find(NAMESPACE, "", "shop").is_none());
}

#[test]
fn a_silent_node_keeps_its_pod_until_a_person_says_that_it_is_gone_f01_f03_f08_i8() {
    let mut world = with_web(1);
    world.play();
    let uid = world.value(POD, "web-0")["metadata"]["uid"].clone();
    world.wait(60);
    let ready = world.value(POD, "web-0")["status"]["conditions"][0].clone();
    assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("False")));
    let slices: Vec<Value> = world.snapshot().list(ENDPOINT_SLICE, "default").map(|s| s.value()).collect();
    let web = slices.iter().find(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == "web").expect("a slice");
    assert_eq!(web["endpoints"][0]["conditions"]["ready"], false);
    world.wait(280);
    assert!(world.value(POD, "web-0")["metadata"]["deletionTimestamp"].is_null(), "tolerated for 300 s");
    world.wait(20);
    assert!(world.value(POD, "web-0")["metadata"]["deletionTimestamp"].is_string());
    world.node("n2");
    world.wait(100_000);
    assert_eq!(world.value(POD, "web-0")["metadata"]["uid"], uid, "nobody but the node may say that it is gone");
    world.send(Verb::Delete, "/api/v1/nodes/n1", json!({})).expect("a person");
    world.wait(39);
    assert_eq!(world.value(POD, "web-0")["metadata"]["uid"], uid);
    world.wait(2);
    let again = world.value(POD, "web-0");
    assert_ne!(again["metadata"]["uid"], uid);
    assert!(again["spec"]["nodeName"].is_null(), "its volume was on the lost node (F-11)");
}

#[test]
fn a_node_is_not_blamed_for_the_servers_own_absence_f01() {
    let mut world = with_web(1);
    world.play();
    world.restart();
    world.now = world.now.checked_add(SignedDuration::from_hours(5)).expect("a time");
    let batch = world.plane.step(world.now, Vec::new());
    world.commit(batch);
    world.settle();
    let ready = |world: &World| world.value(POD, "web-0")["status"]["conditions"][0]["status"].clone();
    assert_eq!(ready(&world), "True");
    world.wait(50);
    assert_eq!(ready(&world), "False", "it had its time");
}

#[test]
fn a_clock_set_back_while_all_was_down_lets_no_dead_node_look_alive_f01() {
    let mut world = with_web(1);
    world.play();
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    world.create(
        lease,
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1"},
        "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}),
    );
    world.restart();
    world.now = world.now.checked_sub(SignedDuration::from_hours(5)).expect("a time");
    let batch = world.plane.step(world.now, Vec::new());
    world.commit(batch);
    world.settle();
    let ready = |world: &World| world.value(POD, "web-0")["status"]["conditions"][0]["status"].clone();
    assert_eq!(ready(&world), "True");
    world.wait(50);
    assert_eq!(ready(&world), "False", "its last sign of life lies ahead of the clock");
}

#[test]
fn events_expire_after_an_hour_i12() {
    let mut world = with_web(1);
    world.play();
    assert_ne!(world.names(EVENT), "");
    world.wait(3601);
    let before: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let left = world.snapshot().list(EVENT, "").filter(|e| e.meta.creation_timestamp == Some(before));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_crowd_of_plain_creates_costs_no_reconcile() {
    let mut world = World::new();
    let user = Arc::new(User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() });
    let before = world.revision;
    for round in 0..10 {
        let requests = (0..100).map(|n| {
            let Target::Resource(resource) = target("/api/v1/namespaces/default/configmaps") else {
                panic!("a resource")
            };
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m-{round}-{n}")}});
            (n, Request::of(Arc::clone(&user), Verb::Create, resource, body))
        });
        let batch = world.plane.step(world.now, requests.collect());
        assert!(world.plane.queue.is_idle(), "nobody watches plain ConfigMaps");
        world.commit(batch);
    }
    assert_eq!(world.revision - before, 1000);
}

#[test]
fn both_policies_delete_claims_with_scale_and_with_the_set_b32() {
    let mut world = World::new();
    world.node("n1");
    let mut set = web(3);
    set["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
    let path = "/apis/apps/v1/namespaces/default/statefulsets";
    world.create(path, set);
    world.play();
    let owner =
        |world: &World, claim: &str| world.value(CLAIM, claim)["metadata"]["ownerReferences"][0]["kind"].clone();
    assert_eq!(owner(&world, "data-web-2"), "StatefulSet");
    let mut set = world.value(STATEFUL_SET, "web");
    set["spec"]["replicas"] = json!(2);
    world.send(Verb::Update, &format!("{path}/web"), set).expect("a new size");
    assert_eq!(owner(&world, "data-web-2"), "Pod");
    world.play();
    assert_eq!((world.names(POD), world.names(CLAIM)), ("web-0 web-1".into(), "data-web-0 data-web-1".into()));
    world.send(Verb::Delete, &format!("{path}/web"), json!({})).expect("a deletion");
    world.play();
    assert_eq!((world.names(POD), world.names(CLAIM)), (String::new(), String::new()));
}

#[test]
fn foreground_deletion_keeps_the_owner_until_its_pods_are_gone_k17() {
    let mut world = with_web(2);
    world.play();
    let path = "/apis/apps/v1/namespaces/default/statefulsets/web";
    world.send(Verb::Delete, path, json!({"propagationPolicy": "Foreground"})).expect("a deletion");
    assert_eq!(world.names(STATEFUL_SET), "web");
    world.play();
    assert_eq!((world.names(STATEFUL_SET), world.names(POD)), (String::new(), String::new()));
}

#[test]
fn parallel_sets_come_up_at_once_and_roll_within_max_unavailable_b12_x02() {
    let mut world = World::new();
    world.node("n1");
    let mut set = web(5);
    set["spec"]["podManagementPolicy"] = json!("Parallel");
    set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%"}});
    let path = "/apis/apps/v1/namespaces/default/statefulsets";
    world.create(path, set);
    assert_eq!(world.names(POD), "web-0 web-1 web-2 web-3 web-4");
    world.play();
    let mut set = world.value(STATEFUL_SET, "web");
    set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("new");
    world.send(Verb::Update, &format!("{path}/web"), set).expect("a new template");
    let going = |world: &World| -> Vec<String> {
        world.snapshot().list(POD, "").filter(|p| p.meta.is_deleting()).map(|p| p.key.name.to_string()).collect()
    };
    assert_eq!(going(&world), ["web-3", "web-4"], "half of five, rounded down, from the top");
    world.play();
    let images: Vec<Value> =
        world.snapshot().list(POD, "").map(|p| p.value()["spec"]["containers"][0]["image"].clone()).collect();
    assert_eq!(images, ["new"; 5]);
}

#[test]
fn definitions_bring_their_apiservices_and_take_them_away() {
    let mut world = World::new();
    const SERVICES: &str = stead_apiserver::API_SERVICES;
    let versions = json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
        {"name": "v2", "served": false, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}}]);
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": versions}});
    world.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition);
    let of_v1 = world.value(SERVICES, "v1.example.com");
    assert_eq!(of_v1["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    assert_eq!(of_v1["status"]["conditions"][0]["reason"], "Local");
    assert_eq!(world.value(SERVICES, "v2.example.com"), Value::Null);
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.com";
    world.send(Verb::Delete, path, Value::Null).expect("it may go");
    assert_eq!(world.value(SERVICES, "v1.example.com"), Value::Null);
}
