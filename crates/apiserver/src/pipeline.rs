//! The life of every write, a user's or a controller's (One path): namespace → server's fields → defaults → preparation → admission →
//! mutating policies and webhooks → validation → a look at the valid object, by policies too → generation → managed fields →
//! validating webhooks → quota → store.
//!
//! A dry run does all but the last. A change that changes nothing stores nothing. Rows S-15, S-17, S-18, ST-12.

use std::any::Any;
use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::{Cause, Errors, Object, Remarks, Request, Status};
use stead_kinds::{Kind, Plain, Registry, meta};

use crate::attempt::Attempt;
use crate::draft::{Draft, Part, restore, time_text};
use crate::halt::Halt;
use crate::{Context, admission, conversion, custom, managed, owners, policy, webhook};

/// Kinds whose decoded form the control plane never reads: keeping it would hold their content in memory twice.
const UNREAD: &[&str] = &["configmaps", "secrets", "events"];

/// Lists and maps of metadata that are left out when nothing is in them.
const MAY_BE_EMPTIED: &[&str] = &["ownerReferences", "finalizers", "labels", "annotations"];

/// A value in the version that is stored, and what comes back of it in the version that was sent.
struct Converted {
    kind: Kind,
    value: Value,
    shown: Value,
}

/// What a write did.
pub(crate) struct Written {
    pub object: Arc<Object>,
    pub created: bool,
}

impl Draft {
    /// Takes the change through all phases.
    pub(crate) fn finish(
        mut self,
        ctx: &mut Context,
        request: &Request,
        remarks: &mut Remarks,
    ) -> Result<Written, Halt> {
        self.check_namespace(ctx)?;
        self.keep_server_fields(ctx);
        owners::keep_one_of_each(&mut self.new, "", remarks);
        self.admit(ctx, request)?;
        self.mutate(ctx, request, remarks)?;
        owners::keep_one_of_each(&mut self.new, " after mutating admission happens", remarks);
        let typed = self.validate(ctx, remarks)?;
        admission::check(ctx, request, &mut self, remarks)?;
        policy::validate(ctx, request, &self, remarks)?;
        self.count_generation();
        if !self.is_applied {
            managed::track(ctx, request, &mut self);
        }
        if webhook::is_concerned(ctx.store.snapshot(), request)
            && let Some(attempt) = Attempt::of(request, &self)
        {
            webhook::validate(ctx.place(), &attempt, remarks)?;
        }
        if self.is_unchanged(ctx.registry) {
            let object = self.old.ok_or_else(|| Status::internal("an unchanged object has a stored version"))?;
            let object = match conversion::concerns(ctx.registry, &self.kind, &object) {
                true => Arc::new(conversion::rebuilt(&self.kind, &object, &self.new)?),
                false => object,
            };
            return Ok(Written { object, created: false });
        }
        let converted = self.convert(ctx, request)?;
        Ok(self.store(ctx, request.options.dry_run, typed, converted)?)
    }

    /// What is stored and what is shown of it, where that takes a webhook.
    fn convert(&self, ctx: &Context, request: &Request) -> Result<Option<Converted>, Halt> {
        let Some(stored) = ctx.registry.stored(self.kind.storage).filter(|stored| stored.is_versioned) else {
            return Ok(None);
        };
        if stored.version == self.kind.version {
            return Ok(None);
        }
        let value = conversion::of_value(ctx.place(), request, stored, self.new.clone())?;
        let shown = conversion::of_value(ctx.place(), request, &self.kind, value.clone())?;
        Ok(Some(Converted { kind: *stored, value, shown }))
    }

    /// What the cluster itself adds, and forbids.
    fn admit(&mut self, ctx: &mut Context, request: &Request) -> Result<(), Status> {
        if self.part.has_defaults() {
            self.fill_in(ctx.registry);
        }
        if self.part != Part::Whole {
            return admission::admit_part(ctx, request, self);
        }
        admission::admit(ctx, request, self)
    }

    /// What policies and webhooks make of it; what they made is looked at again by those before them.
    fn mutate(&mut self, ctx: &mut Context, request: &Request, remarks: &mut Remarks) -> Result<(), Halt> {
        let mut course = webhook::Course::default();
        let mut is_changed = policy::mutate(ctx, request, self)?;
        self.fill_in_again(ctx.registry, is_changed);
        if !webhook::mutate(ctx, request, self, &mut course, remarks)? {
            return Ok(());
        }
        self.admit(ctx, request)?;
        is_changed = policy::mutate_again(ctx, request, self)?;
        self.fill_in_again(ctx.registry, is_changed);
        if course.goes_on(&self.new) {
            webhook::mutate(ctx, request, self, &mut course, remarks)?;
        }
        Ok(())
    }

    fn fill_in_again(&mut self, registry: &Registry, is_changed: bool) {
        if is_changed && self.part.has_defaults() {
            self.fill_in(registry);
        }
    }

    /// Nothing is made in a namespace that does not exist or is going away.
    fn check_namespace(&self, ctx: &Context) -> Result<(), Status> {
        let namespace = &*self.key.namespace;
        if self.is_creation() && custom::is_ending(ctx.store.snapshot(), &self.kind) {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Status::new(405, "MethodNotAllowed", why));
        }
        if !self.is_creation() || namespace.is_empty() {
            return Ok(());
        }
        let Some(found) = ctx.store.snapshot().find("namespaces", "", namespace) else {
            return Err(Status::not_found("", "namespaces", namespace));
        };
        if !found.meta.is_deleting() {
            return Ok(());
        }
        let cause = Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        };
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        Err(self.forbidden(&why).with_causes(vec![cause]))
    }

    /// What only the server says about an object.
    fn keep_server_fields(&mut self, ctx: &mut Context) {
        let has_status = self.kind.subresource("status").is_some();
        let Some(meta) = self.new["metadata"].as_object_mut() else { return };
        meta.shift_remove("selfLink");
        // As Kubernetes' types print them; bodies come without, changes by controllers may not.
        meta.retain(|field, value| !(MAY_BE_EMPTIED.contains(&field.as_str()) && is_empty(value)));
        let Some(old) = &self.old else {
            for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
                meta.shift_remove(field);
            }
            meta.insert("name".into(), json!(&*self.key.name));
            match &*self.key.namespace {
                // A namespace on an object that has none is ignored, as Kubernetes does.
                "" => meta.shift_remove("namespace"),
                namespace => meta.insert("namespace".into(), json!(namespace)),
            };
            meta.insert("uid".into(), json!(ctx.ids.uid()));
            meta.insert("creationTimestamp".into(), json!(time_text(ctx.now)));
            if self.kind.has_generation {
                meta.insert("generation".into(), json!(1));
            }
            // A node tells its status when it registers itself.
            let keeps_status = !has_status || self.key.kind == "nodes";
            if !keeps_status && let Some(new) = self.new.as_object_mut() {
                new.shift_remove("status");
            }
            return;
        };
        let old_meta = &self.old_value["metadata"];
        for field in ["uid", "creationTimestamp", "generation"] {
            restore(meta, field, &old_meta[field]);
        }
        if self.part != Part::Internal || old.meta.is_deleting() {
            for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
                restore(meta, field, &old_meta[field]);
            }
        }
        if self.part == Part::Whole
            && has_status
            && let Some(new) = self.new.as_object_mut()
        {
            restore(new, "status", &self.old_value["status"]);
        }
    }

    pub(crate) fn fill_in(&mut self, registry: &Registry) {
        let old = (!self.old_value.is_null()).then_some(&self.old_value);
        if self.kind.schema == stead_kinds::SchemaRef::Custom
            && let Some(schema) = registry.schema(&self.kind)
        {
            schema.apply_defaults(&mut self.new);
        }
        (self.kind.hooks.default)(&mut self.new);
        (self.kind.hooks.prepare)(&mut self.new, old);
    }

    /// Every field error at once; the typed form is kept for readers.
    fn validate(&self, ctx: &Context, remarks: &mut Remarks) -> Result<Arc<dyn Any + Send + Sync>, Status> {
        let mut errors = Errors::default();
        let old = self.old.as_deref();
        meta::validate(&self.kind, &self.new, old, &mut errors);
        let typed = (self.kind.hooks.decode)(&self.new).map_err(|why| {
            let (kind, version) = (self.kind.kind, self.kind.version);
            Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
        })?;
        if self.kind.schema == stead_kinds::SchemaRef::Custom
            && let Some(schema) = ctx.registry.schema(&self.kind)
        {
            custom::validate(
                ctx.registry,
                &self.kind,
                &schema,
                (&self.new, &self.old_value),
                &mut errors,
                &mut remarks.warnings,
            );
        }
        if matches!(self.part, Part::Whole | Part::Status | Part::Scale | Part::Approval) {
            (self.kind.hooks.validate)(&*typed, old, &mut errors);
        }
        if matches!(self.part, Part::EphemeralContainers | Part::Resize) {
            (self.kind.hooks.validate_part)(self.part.subresource(), &*typed, old, &mut errors);
        }
        if self.part == Part::Whole {
            if !self.is_creation() {
                self.kind.check_immutable(&self.new, &self.old_value, &mut errors);
            }
            remarks.warnings.extend((self.kind.hooks.warn)(&*typed, old));
        }
        if errors.is_empty() { Ok(typed) } else { Err(self.invalid(errors)) }
    }

    /// The generation counts changes of everything but metadata and status (S-17).
    fn count_generation(&mut self) {
        if !self.kind.has_generation || self.is_creation() {
            return;
        }
        let status_counts = self.kind.subresource("status").is_none();
        let is_counted =
            |field: &str| !matches!(field, "metadata" | "apiVersion" | "kind") && (field != "status" || status_counts);
        let changed = |a: &Value, b: &Value| {
            a.as_object().into_iter().flatten().any(|(field, value)| is_counted(field) && b.get(field) != Some(value))
        };
        if changed(&self.new, &self.old_value) || changed(&self.old_value, &self.new) {
            let generation = self.old_value["metadata"]["generation"].as_i64().unwrap_or(0);
            self.new["metadata"]["generation"] = json!(generation + 1);
        }
    }

    fn is_unchanged(&mut self, registry: &Registry) -> bool {
        let Some(old) = &self.old else { return false };
        if self.kind.is_versioned {
            // What is stored in another version is stored anew.
            let stored = registry.stored(self.kind.storage).unwrap_or(&self.kind);
            if old.value()["apiVersion"] != stored.api_version().as_str() {
                return false;
            }
        }
        self.new["metadata"]["resourceVersion"] = json!(old.revision().to_string());
        self.new == self.old_value
    }

    /// Whether this change takes the last thing that kept a deleted object.
    fn completes_deletion(&self) -> bool {
        let Some(old) = &self.old else { return false };
        old.meta.is_deleting()
            && old.meta.deletion_grace_period_seconds.unwrap_or(0) == 0
            && is_empty(&self.new["metadata"]["finalizers"])
            && (self.kind.storage != "namespaces" || is_empty(&self.new["spec"]["finalizers"]))
    }

    fn store(
        mut self,
        ctx: &mut Context,
        dry_run: bool,
        typed: Arc<dyn Any + Send + Sync>,
        converted: Option<Converted>,
    ) -> Result<Written, Status> {
        let created = self.is_creation();
        if let Some(there) = ctx.store.snapshot().get(&self.key).filter(|_| created) {
            let mut refusal = Status::already_exists(self.kind.group, self.kind.plural, self.name());
            if there.meta.is_deleting() {
                refusal.message.insert_str(0, "object is being deleted: ");
            }
            return Err(refusal);
        }
        if matches!(self.part, Part::Whole | Part::Scale | Part::Resize) {
            admission::quota::charge(ctx, &self, dry_run)?;
        }
        if !dry_run {
            self.new["metadata"]["resourceVersion"] = json!(ctx.store.next_revision().to_string());
        }
        let completes_deletion = self.completes_deletion();
        let mut shown = None;
        if let Some(mut converted) = converted {
            for value in [&mut converted.value, &mut converted.shown] {
                value["metadata"]["resourceVersion"] = self.new["metadata"]["resourceVersion"].clone();
            }
            let made = Object::of_value(self.key.clone(), &converted.shown, &self.kind.stored_fields());
            shown = Some(Arc::new(made.map_err(|error| Status::internal(error.to_string()))?));
            (self.new, self.kind) = (converted.value, converted.kind);
        }
        let mut object = Object::of_value(self.key, &self.new, &self.kind.stored_fields())
            .map_err(|error| Status::internal(error.to_string()))?;
        if !typed.is::<Plain>() && !UNREAD.contains(&self.kind.storage) {
            object = object.with_view(typed);
        }
        if dry_run {
            return Ok(Written { object: shown.unwrap_or_else(|| Arc::new(object)), created });
        }
        let object = if completes_deletion { ctx.store.remove(object) } else { ctx.store.put(object) };
        custom::after_write(ctx, &object);
        Ok(Written { object: shown.unwrap_or(object), created })
    }
}

/// Null counts as empty, too.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
