//! Parts of pods that are changed by way of subresources.

use serde_json::{Value, json};

use crate::fixture::{Server, pod};

const POD: &str = "/api/v1/namespaces/default/pods/web-0";

fn server() -> Server {
    let mut server = Server::new();
    server.make("/api/v1/namespaces/default/pods", pod("web-0"));
    server
}

#[test]
fn ephemeral_containers_are_added_as_kubectl_debug_does() {
    let mut server = server();
    let patch = |name: &str, image: &str| {
        json!({"metadata": {"labels": {"more": "yes"}}, "spec": {"hostname": "other", "ephemeralContainers": [
            {"name": name, "image": image, "targetContainerName": "c", "stdin": true, "tty": true}]}})
    };
    let path = format!("PATCH:strategic {POD}/ephemeralcontainers");
    let made = server.done(&path, patch("debugger", "busybox"));
    let one = &made["spec"]["ephemeralContainers"][0];
    assert_eq!(
        (&one["imagePullPolicy"], &one["terminationMessagePath"]),
        (&json!("Always"), &json!("/dev/termination-log"))
    );
    assert_eq!(made["metadata"]["generation"], 2);
    assert!(made["spec"]["hostname"].is_null() && made["metadata"]["labels"]["more"].is_null(), "{made}");
    let more = server.done(&path, patch("second", "busybox:1"));
    assert_eq!(more["spec"]["ephemeralContainers"].as_array().map(Vec::len), Some(2));
    assert_eq!(server.get(&format!("{POD}/ephemeralcontainers"))["spec"], more["spec"]);
    assert_eq!(
        server.refused(&path, patch("debugger", "busybox:2")),
        "422 Invalid Pod \"web-0\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers \
         \"debugger\" may not be changed\n"
    );
    let mut without = server.get(POD);
    without["spec"]["ephemeralContainers"] = json!([]);
    let refused = server.refused(&format!("PUT {POD}/ephemeralcontainers"), without);
    assert!(refused.contains("existing ephemeral containers \"debugger\" may not be removed"), "{refused}");
}

#[test]
fn an_ephemeral_container_keeps_to_its_namespaces_security_level() {
    let mut server = server();
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    server.done("PATCH:merge /api/v1/namespaces/default", label);
    let patch = json!({"spec": {"ephemeralContainers": [
        {"name": "debugger", "image": "busybox", "securityContext": {"privileged": true}}]}});
    let path = format!("PATCH:strategic {POD}/ephemeralcontainers");
    let refused = server.refused(&path, patch);
    assert!(refused.contains("violates PodSecurity \"baseline:latest\": privileged"), "{refused}");
    assert_eq!(server.get(POD)["spec"]["ephemeralContainers"], Value::Null);
}

#[test]
fn resources_are_resized_within_the_class_the_ranges_and_the_quota() {
    let mut server = Server::new();
    let mut body = pod("web-0");
    body["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m", "memory": "64Mi"}});
    server.make("/api/v1/namespaces/default/pods", body);
    let hard = json!({"requests.cpu": "1"});
    server
        .make("/api/v1/namespaces/default/resourcequotas", json!({"metadata": {"name": "q"}, "spec": {"hard": hard}}));
    let max = json!({"limits": [{"type": "Container", "max": {"memory": "1Gi"}}]});
    server.make("/api/v1/namespaces/default/limitranges", json!({"metadata": {"name": "r"}, "spec": max}));
    let path = format!("PATCH:strategic {POD}/resize");
    let patch = |resources: Value| {
        json!({"metadata": {"labels": {"more": "yes"}},
            "spec": {"containers": [{"name": "c", "image": "other", "resources": resources}]}})
    };
    let made = server.done(&path, patch(json!({"requests": {"cpu": "0.5"}, "limits": {"cpu": "800m"}})));
    let container = &made["spec"]["containers"][0];
    assert_eq!(
        container["resources"],
        json!({"requests": {"cpu": "500m", "memory": "64Mi"}, "limits": {"cpu": "800m", "memory": "64Mi"}})
    );
    assert_eq!((&container["image"], &made["metadata"]["generation"]), (&json!("stead.local/demo:1"), &json!(2)));
    assert!(made["metadata"]["labels"]["more"].is_null(), "{made}");
    assert_eq!(server.get(&format!("{POD}/resize"))["spec"], made["spec"]);
    for (resources, why) in [
        (json!({"requests": {"cpu": "800m"}}), "Pod QOS Class may not change as a result of resizing"),
        (
            json!({"limits": {"memory": null}}),
            "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
        ),
        (json!({"limits": {"ephemeral-storage": "1Gi"}}), "only cpu and memory resources are mutable"),
        (json!({"requests": {"cpu": "2"}}), "must be less than or equal to cpu limit of 800m"),
        (json!({"limits": {"memory": "2Gi"}}), "maximum memory usage per Container is 1Gi, but limit is 2Gi"),
        (json!({"requests": {"cpu": "2"}, "limits": {"cpu": "4"}}), "exceeded quota: q, requested: requests.cpu=1500m"),
    ] {
        let refused = server.refused(&path, patch(resources));
        assert!(refused.contains(why), "{why}: {refused}");
    }
    let by_update = server.refused(
        &format!("PATCH:strategic {POD}"),
        json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]}}),
    );
    assert!(by_update.contains("pod updates may not change fields other than"), "{by_update}");
}
