//! Deletion: preconditions, grace, finalizers, propagation (K-17, F-05, F-10, V-13).
//!
//! Contract: an object goes at once only when nothing waits for it: no finalizer, no namespace content, no grace period. Until
//! then it stays with a deletionTimestamp. A grace period can only be shortened.

use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::request::Propagation;
use stead_api::{Errors, FieldPath, Object, Remarks, Request, Status};
use stead_kinds::{Kind, SchemaRef};

use crate::attempt::Attempt;
use crate::draft::{restore, time_text};
use crate::halt::Halt;
use crate::listed::ListMeta;
use crate::select::Selection;
use crate::{Context, Reply, admission, conversion, custom, target, unstored};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const CRD_CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const IMMORTAL_NAMESPACES: &[&str] = &["default", "kube-system", "kube-public"];
/// Kinds whose deletion is answered with the object; others with a Status.
pub(crate) const RETURNED: &[&str] = &[
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "resourcequotas",
    "serviceaccounts",
    "services",
    "deviceclasses.resource.k8s.io",
    "resourceclaims.resource.k8s.io",
    "resourceclaimtemplates.resource.k8s.io",
    "resourceslices.resource.k8s.io",
    "csidrivers.storage.k8s.io",
    "csinodes.storage.k8s.io",
    "storageclasses.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
    "volumeattributesclasses.storage.k8s.io",
];

const KEEPS_PODS: &[&str] = &["jobs.batch", "replicationcontrollers"];
const JOB_WARNING: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// DeleteOptions, from the body and, where it says nothing, from the query.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub grace_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

impl DeleteOptions {
    pub(crate) fn of(request: &Request) -> Result<DeleteOptions, Status> {
        DeleteOptions::read(&request.body, request)
    }

    pub(crate) fn read(body: &Value, request: &Request) -> Result<DeleteOptions, Status> {
        let param = |name: &str| request.options.param(name).filter(|text| !text.is_empty());
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let grace_seconds = match body["gracePeriodSeconds"].as_i64() {
            Some(seconds) => Some(seconds),
            None => match param("gracePeriodSeconds") {
                Some(text) => Some(text.parse().map_err(|_| {
                    Status::bad_request(format!("invalid value \"{text}\" for query parameter \"gracePeriodSeconds\""))
                })?),
                None => None,
            },
        };
        if grace_seconds.is_some_and(|seconds| seconds < 0) {
            let mut errors = Errors::default();
            let at = FieldPath::new("gracePeriodSeconds");
            errors.invalid(&at, grace_seconds.unwrap_or_default(), "must be greater than or equal to 0");
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", errors));
        }
        let policy = text(&body["propagationPolicy"]).or_else(|| param("propagationPolicy").map(str::to_owned));
        let orphans = body["orphanDependents"].as_bool().or_else(|| param("orphanDependents").map(|t| t == "true"));
        let dry_runs = body["dryRun"].as_array().is_some_and(|list| !list.is_empty());
        Ok(DeleteOptions {
            grace_seconds,
            propagation: propagation(policy.as_deref(), orphans)?,
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            dry_run: dry_runs || request.options.dry_run,
        })
    }

    pub(crate) fn check(&self, kind: &Kind, object: &Object) -> Result<(), Status> {
        let conflict = |what: &str, given: &str, is: &str| {
            let why = format!("Precondition failed: {what} in precondition: {given}, {what} in object meta: {is}");
            Err(Status::conflict(kind.group, kind.plural, &object.key.name, &why))
        };
        if let Some(uid) = self.uid.as_deref().filter(|uid| *uid != object.meta.uid) {
            return conflict("UID", uid, &object.meta.uid);
        }
        let current = object.revision().to_string();
        match self.resource_version.as_deref().filter(|version| *version != current) {
            Some(version) => conflict("ResourceVersion", version, &current),
            None => Ok(()),
        }
    }
}

fn propagation(policy: Option<&str>, orphans: Option<bool>) -> Result<Option<Propagation>, Status> {
    match (policy, orphans) {
        (Some(given), Some(_)) => {
            let mut errors = Errors::default();
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.invalid(&FieldPath::new("propagationPolicy"), given, why);
            Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", errors))
        }
        (Some("Orphan"), _) | (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (Some("Background"), _) | (None, Some(false)) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), _) => Ok(Some(Propagation::Foreground)),
        (None, None) => Ok(None),
        (Some(other), _) => {
            let mut errors = Errors::default();
            let allowed = ["Foreground", "Background", "Orphan", "nil"];
            errors.not_supported(&FieldPath::new("propagationPolicy"), other, &allowed);
            Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", errors))
        }
    }
}

/// What became of an object that was asked to go.
pub(crate) enum Deleted {
    /// It is gone; this was its last version.
    Gone(Arc<Object>),
    /// It waits for its grace period or finalizers.
    Waiting(Arc<Object>),
}

impl Deleted {
    fn object(&self) -> &Arc<Object> {
        match self {
            Deleted::Gone(object) | Deleted::Waiting(object) => object,
        }
    }
}

pub(crate) fn one(ctx: &mut Context, request: &Request, kind: &Kind, remarks: &mut Remarks) -> Result<Reply, Halt> {
    let resource = request.resource().ok_or_else(Status::method_not_allowed)?;
    let options = DeleteOptions::of(request)?;
    let found = ctx.store.snapshot().find(kind.storage, target::namespace_of(kind, resource), &resource.name).cloned();
    let object = found.ok_or_else(|| Status::not_found(kind.group, kind.plural, &resource.name))?;
    permit(ctx, request, kind, &object, remarks)?;
    let shown = conversion::shown(ctx.place(), request, kind, vec![Arc::clone(&object)])?;
    let deleted = delete(ctx, kind, object, &options)?;
    let deleted = match (&deleted, shown.first()) {
        (Deleted::Waiting(last), Some(shown)) if kind.schema == SchemaRef::Custom => {
            Deleted::Waiting(with_metadata(kind, shown, last)?)
        }
        _ => deleted,
    };
    let warns = kind.storage == "jobs.batch" && options.propagation.is_none();
    if warns {
        remarks.warnings.insert(0, JOB_WARNING.to_owned());
    }
    Ok(answer(kind, &deleted))
}

fn answer(kind: &Kind, deleted: &Deleted) -> Reply {
    match deleted {
        Deleted::Gone(object) if !RETURNED.contains(&kind.storage) => {
            let details = json!({"name": &*object.key.name, "group": kind.group, "kind": kind.plural,
                "uid": object.meta.uid});
            let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": details});
            if kind.group.is_empty() {
                status["details"].as_object_mut().map(|details| details.shift_remove("group"));
            }
            Reply::json(200, status.to_string())
        }
        deleted => Reply::object(200, kind, Arc::clone(deleted.object())),
    }
}

pub(crate) fn collection(
    ctx: &mut Context,
    request: &Request,
    kind: &Kind,
    remarks: &mut Remarks,
) -> Result<Reply, Halt> {
    if kind.storage == "namespaces" {
        return Err(Status::method_not_allowed().into());
    }
    let options = DeleteOptions::of(request)?;
    let selection = Selection::of(kind, request)?;
    let objects: Vec<Arc<Object>> = selection.list(kind, ctx.store.snapshot()).cloned().collect();
    let mut last = Vec::with_capacity(objects.len());
    permit_all(ctx, request, kind, &objects, remarks)?;
    let shown = conversion::shown(ctx.place(), request, kind, objects.clone())?;
    for (object, shown) in objects.into_iter().zip(shown) {
        let deleted = Arc::clone(delete(ctx, kind, object, &options)?.object());
        last.push(if kind.schema == SchemaRef::Custom { with_metadata(kind, &shown, &deleted)? } else { deleted });
    }
    let meta = ListMeta { revision: ctx.store.snapshot().revision(), ..ListMeta::default() };
    Ok(Reply::list(kind, crate::listed::Objects::These(last), meta))
}

/// An object in the version that was asked for, with the metadata that it has now.
fn with_metadata(kind: &Kind, shown: &Object, last: &Object) -> Result<Arc<Object>, Status> {
    let mut value = shown.value();
    let (labels, annotations) = (value["metadata"]["labels"].take(), value["metadata"]["annotations"].take());
    value["metadata"] = last.value()["metadata"].take();
    if let Some(meta) = value["metadata"].as_object_mut() {
        restore(meta, "labels", &labels);
        restore(meta, "annotations", &annotations);
    }
    Ok(Arc::new(conversion::rebuilt(kind, last, &value)?))
}

/// Asks policies and webhooks.
fn permit(ctx: &Context, request: &Request, kind: &Kind, object: &Object, remarks: &mut Remarks) -> Result<(), Halt> {
    admission::node::restrict_removal(request, kind, object, "delete")?;
    if !unstored::is_concerned(ctx.store.snapshot(), request) {
        return Ok(());
    }
    let is_dry_run = DeleteOptions::of(request)?.dry_run;
    let (of, old) = match conversion::concerns(ctx.registry, kind, object) {
        true => (*kind, conversion::of_object(ctx.place(), request, kind, object)?),
        false => (ctx.registry.stored(kind.storage).copied().unwrap_or(*kind), object.value()),
    };
    match Attempt::deletion(request, of, (object, old), is_dry_run) {
        Some(attempt) => unstored::admit(ctx.place(), attempt, remarks).map(drop),
        None => Ok(()),
    }
}

/// The same about many, before any of them goes: all questions are asked together.
fn permit_all(
    ctx: &Context,
    request: &Request,
    kind: &Kind,
    objects: &[Arc<Object>],
    remarks: &mut Remarks,
) -> Result<(), Halt> {
    let mut open = Vec::new();
    for object in objects {
        match permit(ctx, request, kind, object, remarks) {
            Ok(()) => {}
            Err(Halt::Asks(questions)) => open.extend(questions),
            Err(refused) => return Err(refused),
        }
    }
    if open.is_empty() { Ok(()) } else { Err(Halt::Asks(open)) }
}

/// Asks one object to go.
pub(crate) fn delete(
    ctx: &mut Context,
    kind: &Kind,
    object: Arc<Object>,
    options: &DeleteOptions,
) -> Result<Deleted, Status> {
    options.check(kind, &object)?;
    if kind.storage == "namespaces" && IMMORTAL_NAMESPACES.contains(&&*object.key.name) {
        let why = "this namespace may not be deleted";
        return Err(Status::forbidden("", "namespaces", &object.key.name, why));
    }
    let stored = ctx.registry.stored(kind.storage).copied().unwrap_or(*kind);
    let mut value = object.value();
    let was_deleting = object.meta.is_deleting();
    let grace = grace_seconds(&stored, &value, options);
    set_finalizers(&stored, &mut value, options, was_deleting);
    let waits_for_finalizers = !is_empty(&value["metadata"]["finalizers"])
        || (stored.storage == "namespaces" && !is_empty(&value["spec"]["finalizers"]));
    let pending = object.meta.deletion_grace_period_seconds;
    let effective = if was_deleting { pending.unwrap_or(0).min(grace.unwrap_or(i64::MAX)) } else { grace.unwrap_or(0) };
    let is_gone = effective == 0 && !waits_for_finalizers;
    if !was_deleting || pending != Some(effective) {
        mark(ctx, &stored, &mut value, &object, effective);
    }
    if stored.storage == "namespaces" {
        value["status"]["phase"] = json!("Terminating");
    }
    if !is_gone && value == object.value() {
        return Ok(Deleted::Waiting(object));
    }
    if !options.dry_run {
        value["metadata"]["resourceVersion"] = json!(ctx.store.next_revision().to_string());
    }
    let last = Object::of_value(object.key.clone(), &value, &stored.stored_fields())
        .map_err(|error| Status::internal(error.to_string()))?;
    let last = match (options.dry_run, is_gone) {
        (true, _) => Arc::new(last),
        (false, true) => ctx.store.remove(last),
        (false, false) => ctx.store.put(last),
    };
    if !options.dry_run {
        custom::after_write(ctx, &last);
    }
    Ok(if is_gone { Deleted::Gone(last) } else { Deleted::Waiting(last) })
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

/// How long the object may take to stop: pods alone take time, and only where they may run (F-10).
fn grace_seconds(kind: &Kind, value: &Value, options: &DeleteOptions) -> Option<i64> {
    if kind.storage != "pods" {
        return None;
    }
    let phase = value["status"]["phase"].as_str().unwrap_or_default();
    let is_placed = value["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    if !is_placed || matches!(phase, "Succeeded" | "Failed") {
        return Some(0);
    }
    let is_deleting = !value["metadata"]["deletionTimestamp"].is_null();
    let own = value["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(0);
    // A second request without a wish leaves the running period alone.
    let seconds = if is_deleting { options.grace_seconds? } else { options.grace_seconds.unwrap_or(own) };
    Some(if seconds < 0 { 1 } else { seconds })
}

/// Sets when the object goes. The first time counts as a change of what is wanted.
fn mark(ctx: &Context, kind: &Kind, value: &mut Value, object: &Object, seconds: i64) {
    let started = match (object.meta.deletion_timestamp, object.meta.deletion_grace_period_seconds) {
        (Some(end), Some(pending)) => end - jiff::SignedDuration::from_secs(pending),
        _ => ctx.now,
    };
    let end = started.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(ctx.now);
    value["metadata"]["deletionTimestamp"] = json!(time_text(end));
    value["metadata"]["deletionGracePeriodSeconds"] = json!(seconds);
    if kind.has_generation && !object.meta.is_deleting() {
        value["metadata"]["generation"] = json!(object.meta.generation + 1);
    }
}

/// Jobs and ReplicationControllers are older than the garbage collector: their pods stay unless the client says otherwise.
fn default_propagation(kind: &Kind) -> Option<Propagation> {
    KEEPS_PODS.contains(&kind.storage).then_some(Propagation::Orphan)
}

/// Finalizers by which the garbage collector learns what to do with dependents, and those that the server adds itself.
fn set_finalizers(kind: &Kind, value: &mut Value, options: &DeleteOptions, was_deleting: bool) {
    let mut names: Vec<String> = value["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect();
    let before = names.clone();
    if let Some(policy) = options.propagation.or(default_propagation(kind)) {
        names.retain(|name| name != ORPHAN && name != FOREGROUND);
        match policy {
            Propagation::Orphan => names.push(ORPHAN.into()),
            Propagation::Foreground => names.push(FOREGROUND.into()),
            Propagation::Background => {}
        }
    }
    let is_definition = kind.storage == "customresourcedefinitions.apiextensions.k8s.io";
    if is_definition && !was_deleting && !names.iter().any(|name| name == CRD_CLEANUP) {
        names.push(CRD_CLEANUP.into());
    }
    if names == before {
        return;
    }
    let Some(meta) = value["metadata"].as_object_mut() else { return };
    match names.is_empty() {
        true => {
            meta.shift_remove("finalizers");
        }
        false => {
            meta.insert("finalizers".into(), json!(names));
        }
    }
}
