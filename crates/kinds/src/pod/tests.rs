use serde_json::{Value, json};
use stead_api::{Key, Object};

use super::*;
use crate::Kind;

/// A pod with these containers, defaulted and prepared.
fn pod(spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0", "namespace": "default"},
        "spec": spec});
    (POD.hooks.default)(&mut pod);
    (POD.hooks.prepare)(&mut pod, None);
    pod
}

fn stored(value: &Value) -> Object {
    let mut value = value.clone();
    value["metadata"]["resourceVersion"] = "1".into();
    Object::of_value(Key::new("pods", "default", "web-0"), &value, &POD.stored_fields()).expect("an object")
}

fn errors(kind: &Kind, new: &Value, old: Option<&Object>) -> Vec<String> {
    kind.check(new, old).expect("decodes").errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_pod_passes_and_starts_pending() {
    let new = pod(
        json!({"containers": [{"name": "c", "image": "nginx:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "readinessProbe": {"exec": {"command": ["true"]}},
        "env": [{"name": "IDX", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}}]}],
        "initContainers": [{"name": "i", "image": "x", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "v-web-0"}}]}),
    );
    assert_eq!(errors(&POD, &new, None), Vec::<String>::new());
    assert_eq!(new["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
}

#[test]
fn every_mistake_is_reported_with_its_path() {
    let bad = pod(json!({"restartPolicy": "Never!", "containers": [
        {"name": "c", "image": " x ", "ports": [{"containerPort": 0}, {"containerPort": 70000, "name": "BAD"}],
         "env": [{"name": ""}, {"name": "A", "valueFrom": {}}],
         "volumeMounts": [{"name": "nope", "mountPath": ""}],
         "livenessProbe": {}, "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2", "bogus": "1"}}},
        {"name": "c", "image": ""}],
        "volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}, {"name": "w", "hostPath": {"path": "/x/../y"}},
            {"name": "v", "configMap": {}}]}));
    let found = errors(&POD, &bad, None);
    let expected = [
        "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        "spec.volumes[1].hostPath.path: Invalid value: \"/x/../y\": must not contain '..'",
        "spec.volumes[2].name: Duplicate value: \"v\"",
        "spec.volumes[2].configMap.name: Required value",
        "spec.containers[0].image: Invalid value: \" x \": must not have leading or trailing whitespace",
        "spec.containers[0].env[0].name: Required value",
        "spec.containers[0].env[1].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        "spec.containers[0].volumeMounts[0].name: Not found: \"nope\"",
        "spec.containers[0].volumeMounts[0].mountPath: Required value",
        "spec.containers[0].resources.requests[bogus]: Invalid value: \"bogus\": must be a standard resource type or fully qualified",
        "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        "spec.containers[0].ports[0].containerPort: Required value",
        "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        "spec.containers[1].name: Duplicate value: \"c\"",
        "spec.containers[1].image: Required value",
        "spec.restartPolicy: Unsupported value: \"Never!\": supported values: \"Always\", \"OnFailure\", \"Never\"",
    ];
    for text in expected {
        assert!(found.iter().any(|error| error == text), "{text} is missing in {found:#?}");
    }
}

#[test]
fn an_update_may_change_images_and_little_else() {
    let old = pod(json!({"containers": [{"name": "c", "image": "a:1"}], "activeDeadlineSeconds": 10}));
    let stored = stored(&old);
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "a:2".into();
    new["spec"]["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
    new["spec"]["activeDeadlineSeconds"] = 5.into();
    assert_eq!(errors(&POD, &new, Some(&stored)), Vec::<String>::new());
    new["spec"]["hostname"] = "other".into();
    let found = errors(&POD, &new, Some(&stored));
    assert!(
        found[0]
            .starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`")
    );
    assert!(found[0].ends_with("- hostname: null\n+ hostname: \"other\"\n"), "{}", found[0]);
    let mut more = old.clone();
    more["spec"]["containers"] = json!([{"name": "c", "image": "a:1"}, {"name": "d", "image": "a:1"}]);
    assert!(
        errors(&POD, &more, Some(&stored))
            .contains(&"spec.containers: Forbidden: pod updates may not add or remove containers".to_owned())
    );
}

#[test]
fn qos_follows_resources() {
    let class = |resources: Value| {
        pod(json!({"containers": [{"name": "c", "image": "a", "resources": resources}]}))["status"]["qosClass"].clone()
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"limits": {"cpu": 1, "memory": "1Gi"}})), "Guaranteed");
    assert_eq!(class(json!({"limits": {"memory": "1Gi"}})), "Burstable");
}

#[test]
fn status_reads_as_kubectl_shows_it() {
    let row = |meta: Value, spec: Value, status: Value| {
        let mut value = pod(spec);
        value["status"] = status;
        for (key, entry) in meta.as_object().expect("a map") {
            value["metadata"][key] = entry.clone();
        }
        let object = stored(&value);
        let now = "2026-01-01T00:10:00Z".parse().expect("a time");
        let cell = |name: &str| {
            let column = COLUMN_LIST.iter().find(|column| column.name == name).expect("a column");
            match column.cell {
                crate::Cell::Of(cell) => cell(&object, now).as_str().unwrap_or("").to_owned(),
                _ => String::new(),
            }
        };
        format!("{} {} {}", cell("Ready"), cell("Status"), cell("Restarts"))
    };
    const COLUMN_LIST: &[crate::Column] = columns::COLUMNS;
    let two = json!({"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]});
    let init = json!({"containers": [{"name": "a", "image": "x"}],
        "initContainers": [{"name": "i", "image": "x"}, {"name": "s", "image": "x", "restartPolicy": "Always"}]});
    let container = |name: &str, ready: bool, state: Value| json!({"name": name, "ready": ready, "restartCount": 0, "image": "x", "imageID": "", "state": state});
    let running = json!({"running": {}});
    let none = json!({});
    assert_eq!(row(none.clone(), two.clone(), json!({"phase": "Pending"})), "0/2 Pending 0");
    let status = json!({"phase": "Running", "containerStatuses": [container("a", true, running.clone()),
        {"name": "b", "ready": false, "restartCount": 3, "image": "x", "imageID": "",
         "state": {"waiting": {"reason": "CrashLoopBackOff"}},
         "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:05:00Z"}}}]});
    assert_eq!(row(none.clone(), two.clone(), status.clone()), "1/2 CrashLoopBackOff 3 (5m ago)");
    let deleting = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30});
    assert_eq!(row(deleting, two.clone(), status), "1/2 Terminating 3 (5m ago)");
    let status = json!({"phase": "Pending", "initContainerStatuses": [container("i", false, running.clone())]});
    assert_eq!(row(none.clone(), init.clone(), status), "0/2 Init:0/2 0");
    let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let mut sidecar = container("s", true, running.clone());
    sidecar["started"] = true.into();
    let status = json!({"phase": "Running", "initContainerStatuses": [container("i", false, done.clone()), sidecar],
        "containerStatuses": [container("a", true, running)]});
    assert_eq!(row(none.clone(), init.clone(), status), "2/2 Running 0");
    let failed = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    let status = json!({"phase": "Pending", "initContainerStatuses": [container("i", false, failed)]});
    assert_eq!(row(none.clone(), init, status), "0/2 Init:Error 0");
    let killed = json!({"terminated": {"exitCode": 137, "signal": 9}});
    let status =
        json!({"phase": "Failed", "containerStatuses": [container("a", false, killed), container("b", false, done)]});
    assert_eq!(row(none.clone(), two.clone(), status), "0/2 Signal:9 0");
    assert_eq!(row(none, two, json!({"phase": "Failed", "reason": "Evicted"})), "0/2 Evicted 0");
}

#[test]
fn ephemeral_containers_are_added_and_never_changed() {
    let spec = json!({"containers": [{"name": "c", "image": "a:1"}], "volumes": [{"name": "v", "emptyDir": {}}]});
    let part = |new: &Value, old: &Value| -> Vec<String> {
        let (typed, mut found) = ((POD.hooks.decode)(new).expect("decodes"), stead_api::Errors::default());
        (POD.hooks.validate_part)("ephemeralcontainers", &*typed, Some(&stored(old)), &mut found);
        found.0.iter().map(ToString::to_string).collect()
    };
    let old = pod(spec.clone());
    let with = |containers: Value| {
        let mut spec = spec.clone();
        spec["ephemeralContainers"] = containers;
        pod(spec)
    };
    let debugger = json!({"name": "d", "image": "b:1", "targetContainerName": "c"});
    let one = with(json!([debugger]));
    assert_eq!(part(&one, &old), Vec::<String>::new());
    assert_eq!(part(&with(json!([{"name": "e", "image": "b:1"}, debugger])), &one), Vec::<String>::new());
    assert_eq!(
        part(&with(json!([{"name": "d", "image": "b:2", "targetContainerName": "c"}])), &one),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be changed\n"]
    );
    assert_eq!(
        part(&old, &one),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n"]
    );
    let wrong = json!([{"name": "c", "image": ""},
        {"name": "e", "image": "b:1", "targetContainerName": "x", "ports": [{"containerPort": 80}],
         "resources": {"limits": {"cpu": "1"}}, "livenessProbe": {"exec": {"command": ["true"]}},
         "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}]}]);
    assert_eq!(
        part(&with(wrong), &old),
        [
            "spec.ephemeralContainers[0].image: Required value",
            "spec.ephemeralContainers[0].name: Duplicate value: \"c\"",
            "spec.ephemeralContainers[1].targetContainerName: Not found: \"x\"",
            "spec.ephemeralContainers[1].ports: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[1].resources: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[1].livenessProbe: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[1].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container",
        ]
    );
    assert_eq!(errors(&POD, &one, None), ["spec.ephemeralContainers: Forbidden: cannot be set on create"]);
    let by_update = errors(&POD, &one, Some(&stored(&old)));
    assert!(by_update[0].starts_with("spec: Forbidden: pod updates may not change fields other than"), "{by_update:?}");
}

#[test]
fn what_is_said_twice_or_of_nobody_is_refused() {
    let spread = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    let mut bad = pod(json!({"containers": [{"name": "c", "image": "x",
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "$%", "key": "k"}}}],
        "volumeDevices": [{"name": "v", "devicePath": "/a"}, {"name": "v", "devicePath": "/b"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "v"}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"metadata": {"name": "n", "labels": {"a": "b"}},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}],
        "topologySpreadConstraints": [spread, spread],
        "securityContext": {"sysctls": [{"name": "a.b", "value": "1"}, {"name": "a.b", "value": "2"}],
            "windowsOptions": {"runAsUserName": ""}, "appArmorProfile": {"type": "Localhost"}}}));
    bad["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "m",
        "container.apparmor.security.beta.kubernetes.io/c": "bad", "container.apparmor.security.beta.kubernetes.io/d": ""});
    let found = errors(&POD, &bad, None);
    let armor = "metadata.annotations[container.apparmor.security.beta.kubernetes.io";
    for text in [
        "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"m\": must set spec.nodeName if mirror pod annotation is set",
        &format!("{armor}/c]: Invalid value: \"bad\": invalid AppArmor profile name: \"bad\""),
        &format!("{armor}/d]: Invalid value: \"d\": container not found"),
        "spec.volumes[1].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set for an ephemeral volume",
        "spec.containers[0].volumeDevices[1].name: Invalid value: \"v\": must be unique",
        "spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{zone, DoNotSchedule}\"",
        "spec.securityContext.sysctls[1].name: Duplicate value: \"a.b\"",
        "spec.securityContext.windowsOptions.runAsUserName: Invalid value: \"\": runAsUserName cannot be an empty string",
        "spec.securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost",
    ] {
        assert!(found.iter().any(|error| error == text), "{text} is missing in {found:#?}");
    }
    assert!(
        found
            .iter()
            .any(|error| error.starts_with("spec.containers[0].env[0].valueFrom.configMapKeyRef.name: Invalid"))
    );
    assert_eq!(found.len(), 10, "{found:#?}");
}

#[test]
fn whose_mirror_a_pod_is_stays() {
    let mut old = pod(json!({"nodeName": "n", "containers": [{"name": "c", "image": "x"}]}));
    let mirror = json!({"kubernetes.io/config.mirror": "a"});
    let mut new = old.clone();
    new["metadata"]["annotations"] = mirror.clone();
    new["spec"]["activeDeadlineSeconds"] = 5.into();
    let at = "metadata.annotations[kubernetes.io/config.mirror]: Forbidden";
    assert_eq!(errors(&POD, &new, Some(&stored(&old))), [format!("{at}: may not add mirror pod annotation")]);
    old["metadata"]["annotations"] = mirror;
    new["metadata"]["annotations"] = json!({});
    assert_eq!(
        errors(&POD, &new, Some(&stored(&old))),
        [format!("{at}: may not remove or update mirror pod annotation")]
    );
}

#[test]
fn init_containers_run_one_by_one_and_may_have_the_same_port() {
    let port = json!({"containerPort": 80, "hostPort": 80});
    let init = |name: &str, ports: serde_json::Value| json!({"name": name, "image": "x", "ports": ports});
    let good = pod(json!({"containers": [{"name": "c", "image": "x", "ports": [port]}],
        "initContainers": [init("a", json!([port])), init("b", json!([port]))]}));
    assert_eq!(errors(&POD, &good, None), Vec::<String>::new());
    let bad =
        pod(json!({"containers": [{"name": "c", "image": "x"}], "initContainers": [init("a", json!([port, port]))]}));
    assert_eq!(errors(&POD, &bad, None), ["spec.initContainers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""]);
}
