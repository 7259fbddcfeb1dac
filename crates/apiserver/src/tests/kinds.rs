//! Every kind's whole life, from one table: made, read, listed as a table, patched, its status written, deleted.

use serde_json::{Value, json};
use stead_kinds::{ALL, Kind, Verbs, old};

use crate::fixture::{CERTIFICATE_REQUEST, Server, pod};

/// The least that makes an object of a kind, without apiVersion, kind and metadata; None for kinds without instances of their own.
fn minimal(kind: &Kind) -> Option<Value> {
    let template = || json!({"metadata": {"labels": {"app": "a"}}, "spec": pod("x")["spec"]});
    let selector = || json!({"matchLabels": {"app": "a"}});
    let once = || {
        let mut spec = pod("x")["spec"].clone();
        spec["restartPolicy"] = json!("Never");
        json!({"spec": spec})
    };
    let policy = || {
        json!({"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["pods"]}]})
    };
    let webhook = || {
        json!([{"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
            "clientConfig": {"service": {"name": "s", "namespace": "n"}}}])
    };
    Some(match kind.kind {
        // Reviews are answered and bindings performed; nothing is stored. Parts of the control plane are only read.
        _ if kind.verbs != Verbs::All => return None,
        // A custom definition brings kinds: its own tests have it.
        "CustomResourceDefinition" => return None,
        "Namespace"
        | "Node"
        | "ConfigMap"
        | "Secret"
        | "ServiceAccount"
        | "LimitRange"
        | "ResourceQuota"
        | "Role"
        | "ClusterRole"
        | "Lease"
        | "PriorityClass"
        | "PodDisruptionBudget"
        | "NetworkPolicy"
        | "Endpoints"
        | "DeviceClass"
        | "ResourceClaim"
        | "ResourceClaimTemplate" => json!({}),
        "Pod" => json!({"spec": pod("x")["spec"]}),
        "Service" => json!({"spec": {"ports": [{"port": 80}]}}),
        "Event" if kind.group.is_empty() => json!({"involvedObject": {"namespace": "default"}}),
        "Event" => json!({"regarding": {"namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "c", "reportingInstance": "i", "action": "a", "reason": "r", "type": "Normal"}),
        "PersistentVolume" => json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/x"}}}),
        "PersistentVolumeClaim" => json!({"spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": []}),
        "StorageClass" => json!({"provisioner": "p"}),
        "VolumeAttachment" => {
            json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
        }
        "CSINode" => json!({"spec": {"drivers": []}}),
        "CSIDriver" => json!({"spec": {}}),
        "CSIStorageCapacity" => json!({"storageClassName": "s"}),
        "VolumeAttributesClass" => json!({"driverName": "Example.com/driver", "parameters": {"a": "b"}}),
        "StatefulSet" => json!({"spec": {"serviceName": "s", "selector": selector(), "template": template()}}),
        "Deployment" | "ReplicaSet" | "DaemonSet" => json!({"spec": {"selector": selector(), "template": template()}}),
        "ReplicationController" => json!({"spec": {"template": template()}}),
        "PodTemplate" => json!({"template": template()}),
        "ControllerRevision" => json!({"revision": 1, "data": {"a": 1}}),
        "RoleBinding" | "ClusterRoleBinding" => json!({"roleRef": {"kind": "ClusterRole", "name": "view",
            "apiGroup": "rbac.authorization.k8s.io"}}),
        "Job" => json!({"spec": {"template": once()}}),
        "CronJob" => json!({"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": once()}}}}),
        "HorizontalPodAutoscaler" => json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment",
            "name": "web", "apiVersion": "apps/v1"}}}),
        "Ingress" => json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
        "IngressClass" => json!({"spec": {"controller": "example.com/x"}}),
        "ServiceCIDR" => json!({"spec": {"cidrs": ["10.0.0.0/24"]}}),
        "IPAddress" => {
            json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "services", "name": "s"}}})
        }
        "CertificateSigningRequest" => json!({"spec": {"request": CERTIFICATE_REQUEST, "signerName": "example.com/x",
            "usages": ["client auth"]}}),
        "RuntimeClass" => json!({"handler": "h"}),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => json!({"webhooks": webhook()}),
        "ValidatingAdmissionPolicy" => {
            json!({"spec": {"matchConstraints": policy(), "validations": [{"expression": "true"}]}})
        }
        "MutatingAdmissionPolicy" => json!({"spec": {"matchConstraints": policy(), "mutations": [
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}}),
        "ValidatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        "MutatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "p"}}),
        "APIService" => {
            json!({"metadata": {"name": "v1.example.com"}, "spec": {"group": "example.com", "version": "v1",
            "groupPriorityMinimum": 100, "versionPriority": 10}})
        }
        "FlowSchema" => json!({"spec": {"priorityLevelConfiguration": {"name": "p"}}}),
        "PriorityLevelConfiguration" => {
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}})
        }
        "ResourceSlice" => {
            json!({"spec": {"driver": "d", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1}}})
        }
        other => panic!("how is a {other} made?"),
    })
}

fn collection(kind: &Kind) -> String {
    let base = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
    let place = if kind.namespaced { "/namespaces/default" } else { "" };
    format!("{base}/{}{place}/{}", kind.version, kind.plural)
}

#[test]
fn every_kind_lives_a_whole_life() {
    let mut server = Server::new();
    server.make("/apis/rbac.authorization.k8s.io/v1/clusterroles", json!({"metadata": {"name": "view"}}));
    for kind in ALL.iter().chain(old::ALL) {
        let Some(mut body) = minimal(kind) else { continue };
        if body["metadata"].is_null() {
            body["metadata"] = json!({"name": "a"});
        }
        let of = collection(kind);
        let made = server.make(&of, body);
        assert_eq!((&made["kind"], &made["apiVersion"]), (&json!(kind.kind), &json!(kind.api_version())));
        let name = made["metadata"]["name"].as_str().expect("a name").to_owned();
        let at = format!("{of}/{name}");
        assert_eq!(server.get(&at), made, "{at}");

        let table = server.done(&format!("GET:table {of}"), Value::Null);
        let columns = table["columnDefinitions"].as_array().map_or(0, Vec::len);
        let rows = table["rows"].as_array().expect("rows").clone();
        assert!(rows.iter().all(|row| row["cells"].as_array().map_or(0, Vec::len) == columns), "{table}");
        assert!(rows.iter().any(|row| row["object"]["metadata"]["name"] == json!(name)), "{table}");

        let patch = json!({"metadata": {"labels": {"patched": "yes"}}});
        for how in ["merge", "strategic"] {
            let patched = server.done(&format!("PATCH:{how} {at}"), patch.clone());
            assert_eq!(patched["metadata"]["labels"]["patched"], "yes", "{at}");
            assert_eq!(
                patched["metadata"]["generation"], made["metadata"]["generation"],
                "{at}: labels count for nothing"
            );
        }
        let applied = json!({"apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {"name": name, "labels": {"applied": "yes"}}});
        let applied = server.done(&format!("PATCH:apply {at}?fieldManager=test"), applied);
        assert_eq!(applied["metadata"]["labels"]["applied"], "yes", "{at}");
        let same = server.get(&at);
        assert_eq!(
            server.done(&format!("PUT {at}"), same.clone()),
            same,
            "{at}: writing what was read changes nothing"
        );
        if kind.subresource("status").is_some() {
            let status = server.done(&format!("PUT {at}/status"), same.clone());
            assert_eq!(status["metadata"]["generation"], same["metadata"]["generation"], "{at}");
        } else {
            assert!(server.refused(&format!("PUT {at}/status"), same).starts_with("404"), "{at} has no status");
        }
        let selected = server.get(&format!("{of}?fieldSelector=metadata.name%3D{name}&labelSelector=applied%3Dyes"));
        assert_eq!(selected["items"].as_array().map_or(0, Vec::len), 1, "{at}");
        for selectable in kind.fields.selectable {
            server.get(&format!("{of}?fieldSelector={selectable}%3Dnone"));
        }
        server.done(&format!("DELETE {at}?propagationPolicy=Background"), Value::Null);
    }
}

/// Makes one object of a kind, named `a` where its kind lets it be.
fn made(server: &mut Server, kind: &str) -> (&'static Kind, Value) {
    let kind = ALL.iter().find(|one| one.kind == kind).expect("a kind");
    let mut body = minimal(kind).expect("instances");
    if body["metadata"].is_null() {
        body["metadata"] = json!({"name": "a"});
    }
    (kind, server.make(&collection(kind), body))
}

fn path_of(kind: &Kind, object: &Value) -> String {
    format!("{}/{}", collection(kind), object["metadata"]["name"].as_str().expect("a name"))
}

#[test]
fn younger_kinds_keep_their_metadata_when_the_status_is_written() {
    const KEPT: &[&str] = &[
        "APIService",
        "FlowSchema",
        "PriorityLevelConfiguration",
        "ResourceClaim",
        "ServiceCIDR",
        "ValidatingAdmissionPolicy",
        "VolumeAttachment",
    ];
    let mut server = Server::new();
    for kind in ["Deployment", "StatefulSet", "Namespace"].iter().chain(KEPT) {
        let (declared, object) = made(&mut server, kind);
        let path = format!("{}/status", path_of(declared, &object));
        let marks = json!({"metadata": {"labels": {"l": "1"}, "annotations": {"a": "1"}}});
        let meta = server.done(&format!("PATCH:merge {path}"), marks)["metadata"].clone();
        let taken = (meta["labels"]["l"] == "1", meta["annotations"]["a"] == "1");
        let expected = match *kind {
            "Deployment" => (false, true),
            kind => (!KEPT.contains(&kind), !KEPT.contains(&kind)),
        };
        assert_eq!(taken, expected, "{kind}");
        let applied = json!({"apiVersion": declared.api_version(), "kind": kind, "metadata": {"labels": {"s": "1"}}});
        let meta = server.done(&format!("PATCH:apply {path}?fieldManager=s"), applied)["metadata"].clone();
        let owner =
            meta["managedFields"].as_array().into_iter().flatten().find(|entry| entry["manager"] == "s").cloned();
        let owns = owner.is_some_and(|entry| entry["fieldsV1"]["f:metadata"]["f:labels"]["f:s"].is_object());
        assert_eq!(
            (owns, meta["labels"]["s"] == "1"),
            (expected.0, expected.0),
            "{kind}: nobody owns what is not written"
        );
    }
}

#[test]
fn some_kinds_are_made_by_a_put_and_some_must_name_what_they_replace() {
    let mut server = Server::new();
    for kind in ["LimitRange", "RuntimeClass", "Lease", "Endpoints", "Service", "ClusterRole", "RoleBinding", "Event"] {
        let kind = ALL.iter().find(|one| one.kind == kind).expect("a kind");
        let mut body = minimal(kind).expect("instances");
        body["metadata"] = json!({"name": "put"});
        if kind.kind == "RoleBinding" {
            body["roleRef"]["name"] = json!("put");
        }
        server.done(&format!("PUT {}/put", collection(kind)), body);
    }
    for kind in [
        "APIService",
        "CSIDriver",
        "CSINode",
        "CSIStorageCapacity",
        "Lease",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "MutatingWebhookConfiguration",
        "PodDisruptionBudget",
        "RuntimeClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "VolumeAttachment",
    ] {
        let (kind, mut object) = made(&mut server, kind);
        let path = path_of(kind, &object);
        object["metadata"].as_object_mut().expect("metadata").shift_remove("resourceVersion");
        let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
        let of = if kind.group.is_empty() { kind.plural.to_owned() } else { format!("{}.{}", kind.plural, kind.group) };
        let name = object["metadata"]["name"].clone();
        let refusal = format!("422 Invalid {of} {name} is invalid: {why}");
        assert_eq!(server.refused(&format!("PUT {path}"), object.clone()), refusal);
        if kind.subresource("status").is_some() {
            assert_eq!(server.refused(&format!("PUT {path}/status"), object), refusal);
        }
    }
}

#[test]
fn what_has_no_instances_is_performed_or_computed() {
    let mut server = Server::new();
    let parts = server.get("/api/v1/componentstatuses");
    let names: Vec<&Value> =
        parts["items"].as_array().into_iter().flatten().map(|one| &one["metadata"]["name"]).collect();
    assert_eq!(names, ["controller-manager", "etcd-0", "scheduler"]);
    assert_eq!(server.get("/api/v1/componentstatuses/scheduler")["conditions"][0]["status"], "True");
    assert!(server.refused("GET /api/v1/componentstatuses/x", Value::Null).starts_with("404 NotFound"));
    assert!(server.refused("DELETE /api/v1/componentstatuses/etcd-0", Value::Null).starts_with("405"));

    server.make("/api/v1/namespaces/default/pods", pod("p"));
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    server.make("/api/v1/namespaces/default/bindings", binding);
    assert_eq!(server.get("/api/v1/namespaces/default/pods/p")["spec"]["nodeName"], "n1");
}

#[test]
fn both_versions_of_an_autoscaler_are_one_object() {
    let mut server = Server::new();
    let body = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 60,
        "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}}});
    let v1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let v2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/a";
    server.make(v1, body);
    assert_eq!(server.get(v2)["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 60);
    server.done(&format!("PATCH:merge {v2}"), json!({"spec": {"maxReplicas": 9}}));
    let old = server.get(&format!("{v1}/a"));
    assert_eq!((&old["spec"]["maxReplicas"], &old["spec"]["targetCPUUtilizationPercentage"]), (&json!(9), &json!(60)));
}

#[test]
fn a_controllers_scale_shows_its_map_as_a_selector() {
    let mut server = Server::new();
    let body = json!({"metadata": {"name": "a"}, "spec": {"template": {"metadata": {"labels": {"app": "a"}},
        "spec": pod("x")["spec"]}}});
    let of = "/api/v1/namespaces/default/replicationcontrollers";
    server.make(of, body);
    let scale = server.get(&format!("{of}/a/scale"));
    assert_eq!((&scale["status"]["selector"], &scale["spec"]["replicas"]), (&json!("app=a"), &json!(1)));
}

#[test]
fn pods_of_jobs_stay_unless_the_client_says_otherwise() {
    let mut server = Server::new();
    let mut spec = pod("x")["spec"].clone();
    spec["restartPolicy"] = json!("Never");
    let of = "/apis/batch/v1/namespaces/default/jobs";
    for name in ["a", "b"] {
        server.make(of, json!({"metadata": {"name": name}, "spec": {"template": {"spec": spec}}}));
    }
    let kept = server.done(&format!("DELETE {of}/a"), Value::Null);
    assert_eq!(kept["metadata"]["finalizers"], json!(["orphan"]));
    let gone = server.done(&format!("DELETE {of}/b?propagationPolicy=Background"), Value::Null);
    assert_eq!(gone["status"], "Success");
}

#[test]
fn what_is_kept_and_changes_nothing_says_so() {
    let mut server = Server::new();
    for (kind, word) in
        [("NetworkPolicy", "does not enforce"), ("ServiceCIDR", "not used"), ("RuntimeClass", "one runtime")]
    {
        let kind = ALL.iter().find(|one| one.kind == kind).expect("a kind");
        let mut body = minimal(kind).expect("instances");
        body["metadata"] = json!({"name": "a"});
        let warnings = match server.reply(&format!("POST {}", collection(kind)), &body.to_string()) {
            crate::Reply::Body(body) => body.warnings,
            other => panic!("{}: {other:?}", kind.kind),
        };
        assert!(warnings.iter().any(|warning| warning.contains(word)), "{}: {warnings:?}", kind.kind);
    }
}
