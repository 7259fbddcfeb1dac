//! HorizontalPodAutoscalers in a whole control plane: what pods use goes in, sizes come out.

use std::collections::BTreeMap as Map;

use super::*;
use crate::usage::{ContainerUsage, Usage};

const SCALERS: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";

fn scaler(target: Value, low: i32, high: i32) -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "scaler"},
        "spec": {"minReplicas": low, "maxReplicas": high, "scaleTargetRef": target,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}, "metrics": [{"type": "Resource",
            "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Mi"}}}]}})
}

impl World {
    /// Every pod uses so many bytes.
    fn measured(&mut self, bytes: u64) {
        let one = |pod: &Arc<stead_api::Object>| {
            let used = ContainerUsage { name: "main".into(), cpu_nanos: 0, memory_bytes: bytes };
            (pod.meta.uid.clone(), vec![used])
        };
        let pods: Map<String, Vec<ContainerUsage>> = self.snapshot().list(POD, "").map(one).collect();
        let usage = Usage { window: SignedDuration::from_secs(15), pods };
        self.plane.measured(Measured { at: self.now, usage: Ok(usage) });
        self.settle();
        self.play();
    }

    /// The size of the set, and whether the shell was asked what pods use.
    fn size(&mut self) -> (Value, bool) {
        (self.value(STATEFUL_SET, "web")["spec"]["replicas"].clone(), std::mem::take(&mut self.measures))
    }
}

#[test]
fn what_pods_use_is_asked_for_while_there_is_an_autoscaler_and_makes_sets_grow() {
    let mut world = with_web(1);
    world.play();
    world.wait(60);
    assert_eq!(world.size(), (json!(1), false), "nobody wants to know");
    world.create(SCALERS, scaler(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"}), 1, 3));
    assert_eq!(world.size(), (json!(1), true));
    world.measured(2 << 20);
    assert_eq!(world.size(), (json!(2), false), "not again before it is due");
    assert_eq!(world.value(AUTOSCALER, "scaler")["status"]["desiredReplicas"], 2);
    assert!(
        world
            .events("scaler")
            .iter()
            .any(|told| told == "Normal SuccessfulRescale New size: 2; reason: memory resource above target")
    );
    world.wait(15);
    assert_eq!(world.size(), (json!(2), true));
    // A server that begins anew remembers nothing, and takes no pods away for it.
    world.restart();
    world.settle();
    for _ in 0..4 {
        world.measured(1 << 10);
        assert_eq!(world.size().0, 2);
        world.wait(15);
    }
    world.measured(1 << 10);
    assert_eq!(world.size().0, 1, "a minute is enough");
    world.send(Verb::Delete, &format!("{SCALERS}/scaler"), Value::Null).expect("it may go");
    world.wait(60);
    assert!(!world.size().1, "nobody wants to know any more");
}

#[test]
fn a_size_that_is_refused_is_told() {
    let mut world = World::new();
    let size = json!({"type": "integer", "maximum": 1});
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"size": size}},
        "status": {"type": "object", "properties": {"size": {"type": "integer"}, "selector": {"type": "string"}}}}});
    let scale = json!({"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size",
        "labelSelectorPath": ".status.selector"});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": scale}});
    let names = json!({"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"});
    world.create(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}}),
    );
    let thing =
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "it"}, "spec": {"size": 1}});
    world.create("/apis/example.com/v1/namespaces/default/things", thing);
    world.create(SCALERS, scaler(json!({"apiVersion": "example.com/v1", "kind": "Thing", "name": "it"}), 2, 3));
    world.measured(0);
    let able = world.value(AUTOSCALER, "scaler")["status"]["conditions"][0].clone();
    assert_eq!((&able["type"], &able["status"]), (&json!("AbleToScale"), &json!("False")), "{able}");
    assert_eq!(able["reason"], "FailedUpdateScale");
    let message = able["message"].as_str().expect("a text");
    assert!(message.starts_with("the HPA controller was unable to update the target scale: "), "{message}");
    let told = world.events("scaler");
    let begin = "Warning FailedRescale New size: 2; reason: Current number of replicas below Spec.MinReplicas; error: ";
    assert!(told.iter().any(|one| one.starts_with(begin)), "{told:?}");
}
