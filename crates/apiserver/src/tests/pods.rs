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
