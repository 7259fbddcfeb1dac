//! Defaults of PodSpec: what Kubernetes fills in for a pod and for the template of a workload, so that applying the stored
//! object again changes nothing.

use serde_json::{Map, Value};

use super::sources;
use crate::fill::{each, object, object_or_new, put, quantities, quantity, set, set_number, set_text};

const FILE_MODE: i64 = 0o644;

/// Defaults of a workload's `spec.template`.
pub fn default_template(owner_spec: &mut Value) {
    if let Some(template) = object_or_new(owner_spec, "template") {
        object_or_new(template, "metadata");
        if let Some(spec) = object_or_new(template, "spec") {
            default_pod_spec(spec);
        }
    }
}

/// Defaults of a PodSpec, in a pod and in a template alike.
pub fn default_pod_spec(spec: &mut Value) {
    set_text(spec, "dnsPolicy", "ClusterFirst");
    set_text(spec, "restartPolicy", "Always");
    set_text(spec, "schedulerName", "default-scheduler");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "securityContext", Map::new());
    mirror_service_account(spec);
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        for container in each(spec, field) {
            default_container(container);
        }
    }
    for volume in each(spec, "volumes") {
        default_volume(volume);
    }
    if let Some(resources) = object(spec, "resources") {
        canonical_resources(resources);
    }
    quantities(spec, "overhead");
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are stored.
fn mirror_service_account(spec: &mut Value) {
    let text = |field: &str| spec.get(field).and_then(Value::as_str).filter(|name| !name.is_empty()).map(Value::from);
    if let Some(name) = text("serviceAccountName").or_else(|| text("serviceAccount")) {
        put(spec, "serviceAccountName", Some(name.clone()));
        put(spec, "serviceAccount", Some(name));
    }
}

/// What only a pod gets, not a template: requests from limits, service links, host ports.
pub fn default_pod_only(spec: &mut Value) {
    set(spec, "enableServiceLinks", true);
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or(false);
    for field in ["containers", "initContainers"] {
        for container in each(spec, field) {
            if let Some(resources) = object(container, "resources") {
                requests_from_limits(resources);
            }
            if host_network {
                for port in each(container, "ports") {
                    let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or(0);
                    set_number(port, "hostPort", number);
                }
            }
        }
    }
}

fn requests_from_limits(resources: &mut Value) {
    let Some(limits) = object(resources, "limits").map(|limits| limits.clone()) else { return };
    let Some(limits) = limits.as_object().filter(|limits| !limits.is_empty()) else { return };
    if let Some(requests) = object_or_new(resources, "requests") {
        for (name, amount) in limits {
            set(requests, name, amount.clone());
        }
    }
}

fn default_container(container: &mut Value) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or("");
    let policy = pull_policy(image);
    set_text(container, "imagePullPolicy", policy);
    set_text(container, "terminationMessagePath", "/dev/termination-log");
    set_text(container, "terminationMessagePolicy", "File");
    if let Some(resources) = object_or_new(container, "resources") {
        canonical_resources(resources);
    }
    for port in each(container, "ports") {
        set_text(port, "protocol", "TCP");
    }
    for variable in each(container, "env") {
        if let Some(source) = object(variable, "valueFrom") {
            default_field_source(source);
        }
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object(container, field) {
            default_probe(probe);
        }
    }
    if let Some(lifecycle) = object(container, "lifecycle") {
        for field in ["postStart", "preStop"] {
            if let Some(handler) = object(lifecycle, field) {
                default_http_get(handler);
            }
        }
    }
}

/// `Always` for `latest` and for no tag at all, else `IfNotPresent`.
pub fn pull_policy(image: &str) -> &'static str {
    let (before_digest, digest) = match image.split_once('@') {
        Some((before, digest)) => (before, Some(digest)),
        None => (image, None),
    };
    let last = before_digest.rsplit('/').next().unwrap_or("");
    match (last.split_once(':').map(|(_, tag)| tag), digest) {
        (Some("latest"), _) | (None, None) if !last.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

fn canonical_resources(resources: &mut Value) {
    quantities(resources, "limits");
    quantities(resources, "requests");
}

fn default_field_source(source: &mut Value) {
    if let Some(field) = object(source, "fieldRef") {
        set_text(field, "apiVersion", "v1");
    }
    if let Some(resource) = object(source, "resourceFieldRef") {
        set(resource, "divisor", "0");
        quantity(resource, "divisor");
    }
}

fn default_probe(probe: &mut Value) {
    for (field, seconds) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        set_number(probe, field, seconds);
    }
    default_http_get(probe);
    if let Some(grpc) = object(probe, "grpc") {
        set(grpc, "service", "");
    }
}

fn default_http_get(handler: &mut Value) {
    if let Some(get) = object(handler, "httpGet") {
        set_text(get, "path", "/");
        set_text(get, "scheme", "HTTP");
    }
}

/// Defaults of one volume.
fn default_volume(volume: &mut Value) {
    let has_source = volume
        .as_object()
        .is_some_and(|fields| fields.iter().any(|(field, source)| field != "name" && !source.is_null()));
    if !has_source {
        set(volume, "emptyDir", Map::new());
    }
    for field in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = object(volume, field) {
            set(source, "defaultMode", FILE_MODE);
            default_downward_items(source);
            for projection in each(source, "sources") {
                default_projection(projection);
            }
        }
    }
    sources::default(volume);
    if let Some(path) = object(volume, "hostPath") {
        set(path, "type", "");
    }
    if let Some(empty) = object(volume, "emptyDir") {
        quantity(empty, "sizeLimit");
    }
    if let Some(image) = object(volume, "image") {
        let reference = image.get("reference").and_then(Value::as_str).unwrap_or("");
        let policy = pull_policy(reference);
        set_text(image, "pullPolicy", policy);
    }
    let claim = object(volume, "ephemeral").and_then(|e| object(e, "volumeClaimTemplate"));
    if let Some(spec) = claim.and_then(|template| object(template, "spec")) {
        default_claim_spec(spec);
    }
}

/// Defaults of a PersistentVolumeClaim's spec (V-01); also of claim templates.
pub fn default_claim_spec(spec: &mut Value) {
    set_text(spec, "volumeMode", "Filesystem");
    if let Some(resources) = object_or_new(spec, "resources") {
        canonical_resources(resources);
    }
}

fn default_projection(projection: &mut Value) {
    if let Some(token) = object(projection, "serviceAccountToken") {
        set(token, "expirationSeconds", 3600);
    }
    if let Some(downward) = object(projection, "downwardAPI") {
        default_downward_items(downward);
    }
}

fn default_downward_items(source: &mut Value) {
    for item in each(source, "items") {
        default_field_source(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bare_container_becomes_what_kubernetes_stores() {
        let mut spec = json!({"containers": [{"name": "c", "image": "nginx",
            "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}},
            "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": 80}},
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]}],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}, {"name": "h", "hostPath": {"path": "/"}},
                {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
            "serviceAccountName": "sa"});
        default_pod_spec(&mut spec);
        let once = spec.clone();
        default_pod_spec(&mut spec);
        assert_eq!(spec, once, "defaults are idempotent");
        assert_eq!(
            spec,
            json!({"containers": [{"name": "c", "image": "nginx",
                "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}},
                        {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}}],
                "imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"}],
              "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}},
                {"name": "h", "hostPath": {"path": "/", "type": ""}},
                {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
                    "defaultMode": 420}}],
              "serviceAccountName": "sa", "serviceAccount": "sa", "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
              "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30, "securityContext": {}})
        );
    }

    #[test]
    fn only_pods_get_requests_from_limits() {
        let mut spec = json!({"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}}]});
        default_pod_only(&mut spec);
        assert_eq!(spec["containers"][0]["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
        assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], 80);
        assert_eq!(spec["enableServiceLinks"], true);
    }

    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("host:5000/nginx", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
            ("nginx:latest@sha256:0123", "Always"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn garbage_is_left_for_validation() {
        for mut spec in
            [json!("x"), json!({"containers": "x", "volumes": [1], "resources": []}), json!({"containers": [null]})]
        {
            default_pod_spec(&mut spec);
            default_pod_only(&mut spec);
        }
    }
}
