//! Nothing panics on input: bodies and patches with rubbish in any place, to every kind, verb and subresource.

use std::sync::Arc;

use serde_json::{Value, json};
use stead_kinds::Kind;

use crate::Ids;
use crate::fixture::{Server, pod, statefulset};

const ROUNDS: usize = 1_000;

fn rubbish(ids: &mut Ids) -> Value {
    let choices = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(18_446_744_073_709_551_615u64),
        json!(""),
        json!("%s\u{0}ü/.."),
        json!("x".repeat(300)),
        json!([]),
        json!([null, 1, "a", {}]),
        json!({}),
        json!({"": {"a": []}}),
        json!([[[]]]),
        json!("1Gi"),
        json!({"matchLabels": {"a": "b"}}),
    ];
    choices[(ids.next_u64() % choices.len() as u64) as usize].clone()
}

/// Every place in a value, the root included.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    found.push(at.clone());
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, one)| {
                places(one, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found)
            });
        }
        Value::Array(list) => list.iter().enumerate().for_each(|(i, one)| places(one, format!("{at}/{i}"), found)),
        _ => {}
    }
}

fn spoil(value: &mut Value, ids: &mut Ids) {
    for _ in 0..1 + ids.next_u64() % 3 {
        let mut all = Vec::new();
        places(value, String::new(), &mut all);
        let place = &all[(ids.next_u64() % all.len() as u64) as usize];
        if let Some(target) = value.pointer_mut(place) {
            *target = rubbish(ids);
        }
    }
}

fn sample(kind: &Kind) -> Value {
    let mut body = match kind.plural {
        "pods" => pod("a"),
        "statefulsets" => statefulset("a"),
        "deployments" | "replicasets" => {
            let mut body = statefulset("a");
            body["spec"].as_object_mut().map(|spec| spec.shift_remove("serviceName"));
            body
        }
        "services" => json!({"spec": {"type": "NodePort", "ports": [{"port": 80}], "selector": {"a": "b"}}}),
        "persistentvolumeclaims" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        }
        "clusterrolebindings" | "rolebindings" => json!({"subjects": [{"kind": "User", "name": "u"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "x"}}),
        "clusterroles" | "roles" => {
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["a"]}]})
        }
        "customresourcedefinitions" => json!({"spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "as", "kind": "A", "shortNames": ["x"]}, "versions": [{"name": "v1", "served": true,
            "storage": true, "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n",
                "statusReplicasPath": ".status.n"}},
            "additionalPrinterColumns": [{"name": "N", "type": "integer", "jsonPath": ".spec.l[?(@.a=='b')].c"}],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}}]}}),
        "poddisruptionbudgets" => json!({"spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "web"}}}}),
        "subjectaccessreviews" | "selfsubjectaccessreviews" | "localsubjectaccessreviews" => {
            json!({"spec": {"user": "u", "groups": ["g"], "resourceAttributes": {"verb": "get", "resource": "pods"}}})
        }
        _ => {
            json!({"spec": {}, "data": {"a": "YQ=="}, "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 1}],
            "subsets": [{"addresses": [{"ip": "10.0.0.1"}]}], "provisioner": "x", "value": 1, "addressType": "IPv4",
            "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"}, "reason": "r", "type": "Normal"})
        }
    };
    body["metadata"] = json!({"name": "a", "labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["example.com/f"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}], "managedFields": [],
        "resourceVersion": "", "deletionTimestamp": null});
    if kind.plural == "customresourcedefinitions" {
        body["metadata"]["name"] = json!("as.example.com");
    }
    body
}

#[test]
fn rubbish_is_answered() {
    let mut server = Server::new();
    let mut ids = Ids::seeded(11);
    let mut answered = [0usize; 6];
    let verbs = ["POST", "PUT", "PATCH:merge", "PATCH:strategic", "PATCH:json", "PATCH:apply", "DELETE"];
    for round in 0..ROUNDS {
        let registry = Arc::clone(&server.registry);
        let kinds: Vec<&Kind> = registry.all().collect();
        let kind = kinds[(ids.next_u64() % kinds.len() as u64) as usize];
        let group = if kind.group.is_empty() { "api".to_owned() } else { format!("apis/{}", kind.group) };
        let namespace = if kind.namespaced { "/namespaces/default" } else { "" };
        let path = format!("/{group}/{}{namespace}/{}", kind.version, kind.plural);
        let sound = sample(kind);
        if round % 4 == 0 {
            server.ask(&format!("POST {path}"), sound.clone());
        }
        let verb = verbs[(ids.next_u64() % verbs.len() as u64) as usize];
        let mut subresources = vec![""];
        subresources.extend(kind.subresources.iter().map(|one| one.name()));
        let subresource = subresources[(ids.next_u64() % subresources.len() as u64) as usize];
        let name = sound["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut body = match verb {
            "PATCH:json" => {
                json!([{"op": "replace", "path": "", "value": sound}, {"op": "add", "path": "/spec/x", "value": 1}])
            }
            "DELETE" => json!({"gracePeriodSeconds": 3, "propagationPolicy": "Orphan", "preconditions": {"uid": "u"}}),
            _ => sound,
        };
        spoil(&mut body, &mut ids);
        let target = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
        let url = if verb == "POST" && target.is_empty() { path.clone() } else { format!("{path}/{name}{target}") };
        let (code, _) = server.ask(&format!("{verb} {url}?fieldManager=f&force={}", verb == "PATCH:apply"), body);
        answered[usize::from(code / 100)] += 1;
        for form in ["GET", "GET:table", "GET:metadata"] {
            assert!(server.ask(&format!("{form} {path}"), Value::Null).0 < 500);
        }
    }
    assert!(answered[2] > ROUNDS / 20 && answered[4] > ROUNDS / 20, "both outcomes are met: {answered:?}");
    // Whatever was accepted can be read back from its bytes.
    for object in server.store.snapshot().all() {
        let fields = server.registry.fields(object.key.kind);
        let read =
            stead_api::Object::of_json(object.key.clone(), object.json.clone(), &fields).expect("a stored object");
        assert_eq!(read.meta, object.meta);
    }
}
