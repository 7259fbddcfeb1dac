//! PodSecurity: what pods of a namespace may ask of their node, by the namespace's labels.
//!
//! `enforce` refuses pods; `warn` tells the client, also of templates, whose pods would be refused. `audit` is
//! told to the audit log, if there is one, which asks `annotations` after the fact. The levels are `levels.rs`.

mod levels;

use std::collections::BTreeMap;

use serde_json::Value;
use stead_api::{Errors, FieldPath, Object, Request, Status, Verb};
use stead_store::Snapshot;

use crate::Context;
use crate::draft::Draft;

const PREFIX: &str = "pod-security.kubernetes.io/";
const MODES: [&str; 3] = ["enforce", "audit", "warn"];
/// How many pods of a namespace are looked at when its level changes.
const PODS_LOOKED_AT_MAX: usize = 3000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level in the form that a minor version of Kubernetes gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Policy {
    level: Level,
    /// None: the latest.
    minor: Option<u32>,
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Policy {
    /// The policy of a mode; a level that is not known is the strictest one, as upstream reads it.
    fn of(namespace: &Object, mode: &str) -> Policy {
        let label = |suffix: &str| namespace.meta.label(&format!("{PREFIX}{mode}{suffix}"));
        let level = label("").map_or(Level::Privileged, |text| level(text).unwrap_or(Level::Restricted));
        Policy { level, minor: label("-version").and_then(|text| minor(text).ok().flatten()) }
    }

    /// What a pod breaks of it.
    fn violations(&self, spec: &Value) -> Vec<String> {
        if self.level == Level::Privileged {
            return Vec::new();
        }
        levels::violations(self.level, self.minor.unwrap_or(u32::MAX), spec)
    }
}

fn level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

fn minor(text: &str) -> Result<Option<u32>, ()> {
    match text.strip_prefix("v1.") {
        Some(number) => number.parse().map(Some).map_err(|_| ()),
        None if text == "latest" => Ok(None),
        None => Err(()),
    }
}

fn namespace_of(snapshot: &Snapshot, draft: &Draft) -> Option<std::sync::Arc<Object>> {
    snapshot.find("namespaces", "", &draft.key.namespace).cloned()
}

/// Refuses a pod that its namespace does not allow.
pub(super) fn pod(ctx: &mut Context, _: &Request, draft: &mut Draft, warnings: &mut Vec<String>) -> Result<(), Status> {
    if !draft.is_creation() {
        return Ok(());
    }
    let Some(namespace) = namespace_of(ctx.store.snapshot(), draft) else { return Ok(()) };
    let spec = &draft.new["spec"];
    let enforced = Policy::of(&namespace, "enforce");
    let broken = enforced.violations(spec);
    if !broken.is_empty() {
        return Err(draft.forbidden(&format!("violates PodSecurity \"{enforced}\": {}", broken.join(", "))));
    }
    warn(&namespace, spec, warnings);
    Ok(())
}

/// What the audit log says of a pod, or of a template, that somebody wants to have.
pub(crate) fn annotations(snapshot: &Snapshot, request: &Request) -> Vec<(&'static str, String)> {
    let Some(resource) = request.resource().filter(|resource| resource.subresource.is_empty()) else {
        return Vec::new();
    };
    let is_pod = resource.plural == "pods" && resource.group.is_empty();
    if !matches!(request.verb, Verb::Create | Verb::Update) || (is_pod && request.verb != Verb::Create) {
        return Vec::new();
    }
    let body = &request.body;
    let spec = match resource.plural.as_str() {
        "pods" if is_pod => &body["spec"],
        "cronjobs" => &body["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        "podtemplates" => &body["template"]["spec"],
        _ => &body["spec"]["template"]["spec"],
    };
    let namespace = snapshot.find("namespaces", "", &resource.namespace);
    let Some(namespace) = namespace.filter(|_| spec["containers"].is_array()) else { return Vec::new() };
    let mut told = Vec::new();
    if is_pod {
        told.push(("pod-security.kubernetes.io/enforce-policy", Policy::of(namespace, "enforce").to_string()));
    }
    let policy = Policy::of(namespace, "audit");
    let broken = policy.violations(spec);
    if !broken.is_empty() {
        let why = format!("would violate PodSecurity \"{policy}\": {}", broken.join(", "));
        told.push(("pod-security.kubernetes.io/audit-violations", why));
    }
    told
}

fn warn(namespace: &Object, spec: &Value, warnings: &mut Vec<String>) {
    let policy = Policy::of(namespace, "warn");
    let broken = policy.violations(spec);
    if !broken.is_empty() {
        warnings.push(format!("would violate PodSecurity \"{policy}\": {}", broken.join(", ")));
    }
}

/// Warns of a template whose pods would break the namespace's policy.
pub(super) fn template(
    ctx: &mut Context,
    _: &Request,
    draft: &mut Draft,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let Some(namespace) = namespace_of(ctx.store.snapshot(), draft) else { return Ok(()) };
    if Policy::of(&namespace, "warn").level == Level::Privileged {
        return Ok(());
    }
    let of = |value: &Value| -> Value {
        match draft.kind.storage {
            "cronjobs.batch" => value["spec"]["jobTemplate"]["spec"]["template"].clone(),
            "podtemplates" => value["template"].clone(),
            _ => value["spec"]["template"].clone(),
        }
    };
    let template = of(&draft.new);
    if draft.is_creation() || of(&draft.old_value) != template {
        warn(&namespace, &template["spec"], warnings);
    }
    Ok(())
}

/// Labels of a namespace must be known, and a stricter level warns of the pods that break it already.
pub(super) fn namespace(
    ctx: &mut Context,
    _: &Request,
    draft: &mut Draft,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    check_labels(draft)?;
    let Some(before) = &draft.old else { return Ok(()) };
    let fields = draft.kind.fields;
    let Ok(after) = Object::of_value(draft.key.clone(), &draft.new, &fields) else { return Ok(()) };
    let (old, new) = (Policy::of(before, "enforce"), Policy::of(&after, "enforce"));
    if new.level == Level::Privileged || new.level < old.level || new == old {
        return Ok(());
    }
    let mut broken: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in ctx.store.snapshot().list("pods", &draft.key.name).take(PODS_LOOKED_AT_MAX) {
        let value = pod.value();
        let violations = new.violations(&value["spec"]);
        if !violations.is_empty() {
            // Existing pods are told by the kinds of violations, without their details.
            let kinds: Vec<&str> = violations.iter().map(|text| text.split(" (").next().unwrap_or(text)).collect();
            broken.entry(kinds.join(", ")).or_default().push(pod.key.name.to_string());
        }
    }
    if !broken.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {:?} violate the new PodSecurity enforce level \"{new}\"",
            &*draft.key.name
        ));
    }
    for (why, pods) in broken {
        warnings.push(match pods.as_slice() {
            [one] => format!("{one}: {why}"),
            [first, _] => format!("{first} (and 1 other pod): {why}"),
            [first, rest @ ..] => format!("{first} (and {} other pods): {why}", rest.len()),
            [] => continue,
        });
    }
    Ok(())
}

fn check_labels(draft: &Draft) -> Result<(), Status> {
    let mut errors = Errors::default();
    let at = FieldPath::new("metadata").child("labels");
    for mode in MODES {
        for (suffix, expected) in
            [("", "must be one of privileged, baseline, restricted"), ("-version", "must be \"latest\" or \"v1.x\"")]
        {
            let key = format!("{PREFIX}{mode}{suffix}");
            let (new, old) = (&draft.new["metadata"]["labels"][&key], &draft.old_value["metadata"]["labels"][&key]);
            let Some(text) = new.as_str().filter(|_| new != old) else { continue };
            let is_known = if suffix.is_empty() { level(text).is_some() } else { minor(text).is_ok() };
            if !is_known {
                errors.invalid(&at.key(&key), text, expected);
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(draft.invalid(errors)) }
}
