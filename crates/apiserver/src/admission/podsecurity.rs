//! PodSecurity: what pods of a namespace may ask of their node, by the namespace's labels.
//!
//! `enforce` refuses pods; `warn` tells the client, also of templates, whose pods would be refused. `audit` is
//! noted for the audit log. The levels are `levels.rs`.

mod levels;

use std::collections::BTreeMap;

use serde_json::Value;
use stead_api::{Errors, FieldPath, Object, Remarks, Request, Status};
use stead_store::Snapshot;

use crate::Context;
use crate::draft::{Draft, Part};
use levels::Level;

const PREFIX: &str = "pod-security.kubernetes.io/";
const MODES: [&str; 3] = ["enforce", "audit", "warn"];
/// How many pods of a namespace are looked at when its level changes.
const PODS_LOOKED_AT_MAX: usize = 3000;

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

/// Refuses a pod that its namespace does not allow, new or with new ephemeral containers.
pub(super) fn pod(ctx: &mut Context, _: &Request, draft: &mut Draft, remarks: &mut Remarks) -> Result<(), Status> {
    if !draft.is_creation() && draft.part != Part::EphemeralContainers {
        return Ok(());
    }
    let Some(namespace) = namespace_of(ctx.store.snapshot(), draft) else { return Ok(()) };
    let spec = &draft.new["spec"];
    let enforced = Policy::of(&namespace, "enforce");
    remarks.note(|| (format!("{PREFIX}enforce-policy"), enforced.to_string()));
    note(&namespace, spec, remarks);
    let broken = enforced.violations(spec);
    if !broken.is_empty() {
        return Err(draft.forbidden(&format!("violates PodSecurity \"{enforced}\": {}", broken.join(", "))));
    }
    warn(&namespace, spec, remarks);
    Ok(())
}

/// What breaks the policy of a mode, in words.
fn would_violate(namespace: &Object, mode: &str, spec: &Value) -> Option<String> {
    let policy = Policy::of(namespace, mode);
    let broken = policy.violations(spec);
    (!broken.is_empty()).then(|| format!("would violate PodSecurity \"{policy}\": {}", broken.join(", ")))
}

fn note(namespace: &Object, spec: &Value, remarks: &mut Remarks) {
    if remarks.is_noted()
        && let Some(why) = would_violate(namespace, "audit", spec)
    {
        remarks.note(|| (format!("{PREFIX}audit-violations"), why));
    }
}

fn warn(namespace: &Object, spec: &Value, remarks: &mut Remarks) {
    remarks.warnings.extend(would_violate(namespace, "warn", spec));
}

/// Notes and warns of a template whose pods would break the namespace's policy.
pub(super) fn template(ctx: &mut Context, _: &Request, draft: &mut Draft, remarks: &mut Remarks) -> Result<(), Status> {
    let Some(namespace) = namespace_of(ctx.store.snapshot(), draft) else { return Ok(()) };
    if ["warn", "audit"].iter().all(|mode| Policy::of(&namespace, mode).level == Level::Privileged) {
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
        note(&namespace, &template["spec"], remarks);
        warn(&namespace, &template["spec"], remarks);
    }
    Ok(())
}

/// Labels of a namespace must be known, and a stricter level warns of the pods that break it already.
pub(super) fn namespace(
    ctx: &mut Context,
    _: &Request,
    draft: &mut Draft,
    remarks: &mut Remarks,
) -> Result<(), Status> {
    check_labels(draft)?;
    let Some(before) = &draft.old else { return Ok(()) };
    let fields = draft.kind.stored_fields();
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
        remarks.warnings.push(format!(
            "existing pods in namespace {:?} violate the new PodSecurity enforce level \"{new}\"",
            &*draft.key.name
        ));
    }
    for (why, pods) in broken {
        remarks.warnings.push(match pods.as_slice() {
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
