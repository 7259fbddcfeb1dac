use expect_test::{Expect, expect};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::fixture::{World, show};
use crate::usage::{ContainerUsage, Measured, Usage};

/// Each pod of `web` uses so many thousandths of a processor.
fn measured(world: &World, millis: &[u64]) -> Measured {
    let pods = millis.iter().enumerate().map(|(index, millis)| {
        let one = ContainerUsage { name: "main".into(), cpu_nanos: millis * 1_000_000, memory_bytes: 64 << 20 };
        (format!("pod-web-{index}"), vec![one])
    });
    let usage = Usage { window: SignedDuration::from_secs(15), pods: pods.collect() };
    Measured { at: world.now, usage: Ok(usage) }
}

/// A Deployment with pods that have long been ready and request 100m each, and its autoscaler.
fn world(replicas: usize, spec: &str) -> World {
    let mut text = format!(
        r#"deploy web {{"spec":{{"replicas":{replicas}}}}}
        hpa web {{"metadata":{{"generation":1}},"spec":{{"minReplicas":1,"maxReplicas":10,"scaleTargetRef":{{"apiVersion":"apps/v1","kind":"Deployment","name":"web"}}}}}}"#
    );
    for index in 0..replicas {
        text += &format!(
            "\npod web-{index} ready {}",
            r#"{"spec":{"containers":[{"name":"main","image":"x","resources":{"requests":{"cpu":"100m","memory":"64Mi"}}}]},"status":{"startTime":"1970-01-12T00:00:00Z"}}"#
        );
    }
    let mut world = World::of(&text);
    let mut scaler = world.store.snapshot().find(AUTOSCALER, "default", "web").expect("it is there").value();
    crate::fixture::merge(&mut scaler["spec"], &serde_json::from_str::<Value>(spec).expect("JSON"));
    world.put(AUTOSCALER, scaler);
    world
}

const HALF: &str = r#"{"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}}]}"#;

fn plan(world: &World, memory: Option<&Scaling>, measured: Option<&Measured>) -> Plan {
    let memory = memory.cloned().map(Memory::Scaling);
    let view = View { memory: memory.as_ref(), measured, ..world.view() };
    reconcile(&view, &Key::new(AUTOSCALER, "default", "web"))
}

fn check(world: &World, measured: Option<&Measured>, expected: Expect) -> Option<Scaling> {
    let plan = plan(world, None, measured);
    expected.assert_eq(&show(world, &plan));
    match plan.remember {
        Some(Memory::Scaling(memory)) => Some(memory),
        _ => None,
    }
}

#[test]
fn it_asks_what_pods_use_before_it_says_anything() {
    let world = world(2, HALF);
    let first = plan(&world, None, None);
    assert!(first.measure && first.actions.is_empty() && first.remember.is_none());
    let mut old = measured(&world, &[10, 10]);
    old.at = facts::after(world.now, -15);
    assert!(plan(&world, None, Some(&old)).measure, "what is old is not what pods use now");
}

#[test]
fn busy_pods_become_more() {
    let world = world(2, HALF);
    let memory = check(&world, Some(&measured(&world, &[90, 100])), expect![[r#"
        scale Scale web {"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"generation":null},"spec":{"replicas":4,"selector":null,"template":null},"status":{"selector":"app=web"}}
        status HorizontalPodAutoscaler web {"currentMetrics":[{"type":"Resource","resource":{"name":"cpu","current":{"averageValue":"95m","averageUtilization":95}}}],"desiredReplicas":4,"observedGeneration":1,"currentReplicas":2,"lastScaleTime":"1970-01-12T13:46:40Z","conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"SucceededRescale","message":"the HPA controller was able to update the target scale to 4"},{"type":"ScalingActive","status":"True","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"ValidMetricFound","message":"the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)"},{"type":"ScalingLimited","status":"False","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"DesiredWithinRange","message":"the desired count is within the acceptable range"}]}
        wake in 15 s
    "#]]).expect("a memory");
    assert_eq!(memory.recommendations.last().map(|(_, recommended)| *recommended), Some(4));
    let again = plan(&world, Some(&memory), None);
    assert!(!again.measure && again.actions.is_empty(), "not before 15 seconds have passed");
    assert_eq!(again.wake_at, Some(facts::after(world.now, 15)));
}

#[test]
fn idle_pods_stay_for_five_minutes_even_after_a_start_of_the_server() {
    let mut world = world(4, HALF);
    let now = world.now;
    let look = |world: &World, memory: Option<&Scaling>| {
        let plan = plan(world, memory, Some(&measured(world, &[1, 1, 1, 1])));
        let Some(Memory::Scaling(memory)) = plan.remember else { panic!("a memory") };
        (plan.actions.len(), memory)
    };
    let (_, mut memory) = look(&world, None);
    for seconds in [15, 150, 285] {
        world.now = facts::after(now, seconds);
        let (_, next) = look(&world, Some(&memory));
        assert!(next.changes.is_empty());
        memory = next;
    }
    world.now = facts::after(now, 301);
    let plan = plan(&world, Some(&memory), Some(&measured(&world, &[1, 1, 1, 1])));
    let notes: Vec<&Action> =
        plan.actions.iter().filter(|one| matches!(one, Action::UpdateSubresource { .. })).collect();
    assert_eq!(notes.len(), 1, "now they may go");
}

#[test]
fn what_cannot_be_measured_is_told() {
    let world = world(1, HALF);
    let why = "the server could not find the requested resource (get pods.metrics.k8s.io)".to_owned();
    check(
        &world,
        Some(&Measured { at: world.now, usage: Err(why) }),
        expect![[r#"
        status HorizontalPodAutoscaler web {"currentMetrics":[{"type":""}],"desiredReplicas":0,"observedGeneration":1,"currentReplicas":1,"conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"SucceededGetScale","message":"the HPA controller was able to get the target's current scale"},{"type":"ScalingActive","status":"False","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"FailedGetResourceMetric","message":"the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"}]}
        event horizontalpodautoscalers.autoscaling/default/web Warning FailedGetResourceMetric: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)
        event horizontalpodautoscalers.autoscaling/default/web Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)
        wake in 15 s
    "#]],
    );
}

#[test]
fn one_metric_that_fails_keeps_pods_and_lets_others_ask_for_more() {
    let both = json!({"metrics": [
        {"type": "Pods", "pods": {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
        {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "32Mi"}}}]});
    let world = world(2, &both.to_string());
    check(
        &world,
        Some(&measured(&world, &[1, 1])),
        expect![[r#"
        scale Scale web {"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"generation":null},"spec":{"replicas":4,"selector":null,"template":null},"status":{"selector":"app=web"}}
        status HorizontalPodAutoscaler web {"currentMetrics":[{"type":""},{"type":"Resource","resource":{"name":"memory","current":{"averageValue":"67108864"}}}],"desiredReplicas":4,"observedGeneration":1,"currentReplicas":2,"lastScaleTime":"1970-01-12T13:46:40Z","conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"SucceededRescale","message":"the HPA controller was able to update the target scale to 4"},{"type":"ScalingActive","status":"True","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"ValidMetricFound","message":"the HPA was able to successfully calculate a replica count from memory resource"},{"type":"ScalingLimited","status":"False","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"DesiredWithinRange","message":"the desired count is within the acceptable range"}]}
        event horizontalpodautoscalers.autoscaling/default/web Warning FailedGetPodsMetric: unable to get metric hits: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
        wake in 15 s
    "#]],
    );
    let less = both.to_string().replace("32Mi", "1Gi");
    let world = self::world(2, &less);
    check(
        &world,
        Some(&measured(&world, &[1, 1])),
        expect![[r#"
        status HorizontalPodAutoscaler web {"currentMetrics":[{"type":""},{"type":"Resource","resource":{"name":"memory","current":{"averageValue":"67108864"}}}],"desiredReplicas":0,"observedGeneration":1,"currentReplicas":2,"conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"SucceededGetScale","message":"the HPA controller was able to get the target's current scale"},{"type":"ScalingActive","status":"False","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"FailedGetPodsMetric","message":"the HPA was unable to compute the replica count: unable to get metric hits: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"}]}
        event horizontalpodautoscalers.autoscaling/default/web Warning FailedGetPodsMetric: unable to get metric hits: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
        event horizontalpodautoscalers.autoscaling/default/web Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 2), first error is: unable to get metric hits: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
        wake in 15 s
    "#]],
    );
}

#[test]
fn what_is_not_there_cannot_be_scaled() {
    let gone =
        world(1, r#"{"scaleTargetRef":{"apiVersion":"apps/v1","kind":"StatefulSet","name":"web"},"metrics":[]}"#);
    check(
        &gone,
        None,
        expect![[r#"
        status HorizontalPodAutoscaler web {"currentMetrics":null,"desiredReplicas":0,"observedGeneration":1,"conditions":[{"type":"AbleToScale","status":"False","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"FailedGetScale","message":"the HPA controller was unable to get the target's current scale: statefulsets.apps \"web\" not found"}]}
        event horizontalpodautoscalers.autoscaling/default/web Warning FailedGetScale: statefulsets.apps "web" not found
        wake in 15 s
    "#]],
    );
    let none = world(0, HALF);
    check(
        &none,
        Some(&measured(&none, &[])),
        expect![[r#"
        status HorizontalPodAutoscaler web {"currentMetrics":null,"desiredReplicas":0,"observedGeneration":1,"currentReplicas":0,"conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"SucceededGetScale","message":"the HPA controller was able to get the target's current scale"},{"type":"ScalingActive","status":"False","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"ScalingDisabled","message":"scaling is disabled since the replica count of the target is zero"}]}
        wake in 15 s
    "#]],
    );
    let many = world(1, r#"{"minReplicas":3,"metrics":[]}"#);
    check(
        &many,
        None,
        expect![[r#"
        scale Scale web {"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"generation":null},"spec":{"replicas":3,"selector":null,"template":null},"status":{"selector":"app=web"}}
        status HorizontalPodAutoscaler web {"currentMetrics":null,"desiredReplicas":3,"observedGeneration":1,"currentReplicas":1,"lastScaleTime":"1970-01-12T13:46:40Z","conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"SucceededRescale","message":"the HPA controller was able to update the target scale to 3"}]}
        wake in 15 s
    "#]],
    );
}

#[test]
fn two_autoscalers_of_the_same_pods_do_nothing() {
    let mut world = world(1, HALF);
    let mut other = world.store.snapshot().find(AUTOSCALER, "default", "web").expect("it is there").value();
    other["metadata"]["name"] = json!("also");
    other["metadata"]["uid"] = json!("hpa-also");
    world.put(AUTOSCALER, other);
    check(
        &world,
        Some(&measured(&world, &[90])),
        expect![[r#"
        status HorizontalPodAutoscaler web {"currentMetrics":[],"desiredReplicas":0,"observedGeneration":1,"currentReplicas":1,"conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"SucceededGetScale","message":"the HPA controller was able to get the target's current scale"},{"type":"ScalingActive","status":"False","lastTransitionTime":"1970-01-12T13:46:40Z","reason":"AmbiguousSelector","message":"pods by selector app=web are controlled by multiple HPAs: [{also default} {web default}]"}]}
        event horizontalpodautoscalers.autoscaling/default/web Warning AmbiguousSelector: pods by selector app=web are controlled by multiple HPAs: [{also default} {web default}]
        event horizontalpodautoscalers.autoscaling/default/web Warning FailedComputeMetricsReplicas: pods by selector app=web are controlled by multiple HPAs: [{also default} {web default}]
        wake in 15 s
    "#]],
    );
}
