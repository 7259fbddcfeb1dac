use serde_json::{Value, json};
use stead_api::{Key, Object};

use super::*;

fn service(spec: Value) -> Value {
    let mut value = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    (SERVICE.hooks.default)(&mut value);
    value
}

fn errors(new: &Value, old: Option<&Value>) -> Vec<String> {
    let old = old.map(|old| {
        let mut old = old.clone();
        old["metadata"]["resourceVersion"] = "1".into();
        Object::of_value(Key::new("services", "default", "web"), &old, &SERVICE.stored_fields()).expect("an object")
    });
    let checked = SERVICE.check(new, old.as_ref()).expect("decodes");
    checked.errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults() {
    assert_eq!(
        service(json!({"ports": [{"port": 80}], "selector": {"a": "b"}}))["spec"],
        json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "selector": {"a": "b"},
            "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster",
            "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]})
    );
    let headless = service(json!({"clusterIP": "None", "selector": {"a": "b"}}));
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(errors(&headless, None), Vec::<String>::new());
    let sticky = service(json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}));
    assert_eq!(sticky["spec"]["sessionAffinityConfig"], json!({"clientIP": {"timeoutSeconds": 10800}}));
    let no_longer =
        service(json!({"sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 9}}}));
    assert_eq!(no_longer["spec"].get("sessionAffinityConfig"), None);
    assert_eq!(sticky["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(sticky["spec"]["allocateLoadBalancerNodePorts"], true);
    let alias = service(json!({"type": "ExternalName", "externalName": "db.example.com"}));
    assert_eq!(
        alias["spec"],
        json!({"type": "ExternalName", "externalName": "db.example.com", "sessionAffinity": "None"})
    );
    assert_eq!(errors(&alias, None), Vec::<String>::new());
}

#[test]
fn mistakes_are_named() {
    let bad = service(
        json!({"ports": [{"port": 0, "nodePort": 30000}, {"port": 80, "name": "a"}, {"port": 80, "name": "a"}],
        "sessionAffinity": "Maybe", "externalTrafficPolicy": "Local"}),
    );
    let found = errors(&bad, None);
    for text in [
        "spec.ports[0].name: Required value",
        "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        "spec.ports[2].name: Duplicate value: \"a\"",
        "spec.ports[2]: Duplicate value: {\"protocol\":\"TCP\",\"port\":80}",
        "spec.sessionAffinity: Unsupported value: \"Maybe\": supported values: \"ClientIP\", \"None\"",
        "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
    ] {
        assert!(found.iter().any(|error| error == text), "{text} is missing in {found:#?}");
    }
    assert_eq!(errors(&service(json!({})), None), ["spec.ports: Required value"]);
}

#[test]
fn addresses_and_node_ports_stay() {
    let mut old =
        service(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}], "clusterIP": "10.96.0.7"}));
    let mut new = service(json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 81, "name": "b"}]}));
    (SERVICE.hooks.prepare)(&mut new, Some(&old));
    assert_eq!(new["spec"]["clusterIP"], "10.96.0.7");
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.96.0.7"]));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30080);
    assert_eq!(new["spec"]["ports"][1].get("nodePort"), None);
    let mut alias = old.clone();
    alias["spec"]["type"] = "ExternalName".into();
    alias["spec"]["externalName"] = "x.example".into();
    (SERVICE.hooks.prepare)(&mut alias, Some(&old));
    assert_eq!(errors(&alias, Some(&old)), Vec::<String>::new());
    assert_eq!(alias["spec"].get("clusterIP"), None);
    let moved = service(json!({"ports": [{"port": 80}], "clusterIP": "10.96.0.8"}));
    old["spec"]["type"] = "ClusterIP".into();
    assert_eq!(
        errors(&moved, Some(&old)),
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.8\"]: may not change once set"]
    );
}

#[test]
fn columns_read_as_kubectl_shows_them() {
    let row = |spec: Value| {
        let mut value = service(spec);
        value["metadata"]["resourceVersion"] = "1".into();
        let object = Object::of_value(Key::new("services", "default", "web"), &value, &SERVICE.stored_fields())
            .expect("an object");
        let cells = SERVICE.columns.iter().filter_map(|column| match column.cell {
            crate::Cell::Of(cell) => cell(&object, jiff::Timestamp::UNIX_EPOCH).as_str().map(str::to_owned),
            _ => None,
        });
        cells.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        row(json!({"type": "NodePort", "clusterIP": "10.96.0.7", "selector": {"a": "b", "c": "d"},
            "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "name": "dns", "protocol": "UDP"}]})),
        "10.96.0.7 <none> 80:30080/TCP,53/UDP a=b,c=d"
    );
    assert_eq!(row(json!({"type": "ExternalName", "externalName": "x.y"})), "<none> x.y <none> <none>");
    assert_eq!(row(json!({"type": "LoadBalancer", "ports": [{"port": 80}]})), "<none> <pending> 80/TCP <none>");
}
