//! Writes: which change a request means, and the objects it is made of.
//!
//! Every change to an object goes through `draft.rs`: create, update, patch and apply differ in how the new value comes about
//! (this file), not in what happens to it. Deletion is `delete.rs`.

use std::sync::Arc;

use serde_json::{Value, json};
use stead_api::call::Question;
use stead_api::request::{FieldValidation, PatchType};
use stead_api::schema::decode::DecodeError;
use stead_api::{Errors, FieldPath, Key, Object, Remarks, Request, Resource, Status, Verb, document, patch};
use stead_kinds::{Kind, SchemaRef, Verbs};

use crate::draft::{Draft, Part, Stored};
use crate::halt::Halt;
use crate::pipeline::Written;
use crate::{
    Context, Head, Reply, access, conversion, delete, encode, eviction, managed, read, scale, subresource, target,
    write_options,
};

/// How often a generated name is tried again when it is taken.
const GENERATED_NAME_TRIES_MAX: usize = 8;

/// # Errors
/// The questions that are open; then nothing was stored.
pub(crate) fn serve(ctx: &mut Context, request: &Request) -> Result<Reply, Vec<Question>> {
    let mut remarks = Remarks::about(request);
    match change(ctx, request, &mut remarks) {
        Ok(reply) => Ok(reply.with_remarks(remarks)),
        Err(Halt::Refused(status)) => Ok(Reply::failure(status).with_remarks(remarks)),
        Err(Halt::Asks(questions)) => Err(questions),
    }
}

fn change(ctx: &mut Context, request: &Request, remarks: &mut Remarks) -> Result<Reply, Halt> {
    let resource = request.resource().ok_or_else(Status::method_not_allowed)?;
    let kind = target::resolve(ctx.registry, resource)?;
    access::authorize_request(ctx.store.snapshot(), request)?;
    write_options::check(request)?;
    match kind.verbs {
        Verbs::All => {}
        Verbs::CreateOnly if kind.storage == "bindings" => return subresource::bind_by_body(ctx, request, remarks),
        Verbs::CreateOnly => return read_again(ctx, request, remarks),
        Verbs::ReadOnly => return Err(Status::method_not_allowed().into()),
    }
    let is_one = matches!(request.verb, Verb::Update | Verb::Patch(_) | Verb::Delete);
    if is_one && resource.name.is_empty() {
        return Err(Status::method_not_allowed().into());
    }
    let written = match (request.verb, resource.subresource.as_str()) {
        (Verb::Create, "") if resource.name.is_empty() => create(ctx, request, &kind, remarks)?,
        (Verb::Create, "token") => return read_again(ctx, request, remarks),
        (Verb::Create, "binding") => return subresource::bind(ctx, request, (&kind, &kind), &resource.name, remarks),
        (Verb::Create, "eviction") => return eviction::evict(ctx, request, &kind, remarks),
        (Verb::Update, name) => update(ctx, request, &kind, Part::of(name)?, remarks)?,
        (Verb::Patch(how), name) => patch(ctx, request, &kind, Part::of(name)?, how, remarks)?,
        (Verb::Delete, "") => return delete::one(ctx, request, &kind, remarks),
        (Verb::DeleteCollection, "") => return delete::collection(ctx, request, &kind, remarks),
        _ => return Err(Status::method_not_allowed().into()),
    };
    let code = if written.created { 201 } else { 200 };
    Ok(match Part::of(&resource.subresource)? {
        Part::Scale => Reply::json(code, scale::of_value(&kind, &written.object.value()).to_string()),
        _ => Reply::object(code, &kind, written.object),
    })
}

/// What changes nothing, and came here to wait for webhooks.
fn read_again(ctx: &Context, request: &Request, remarks: &mut Remarks) -> Result<Reply, Halt> {
    let head = Head { store: ctx.store.head().clone(), registry: Arc::clone(ctx.registry) };
    read::serve(&head, ctx.now, request, remarks)
}

/// The body as an object that names itself as the path does.
fn named_body(request: &Request, kind: &Kind, resource: &Resource) -> Result<Value, Status> {
    let mut body = request.body.clone();
    let Some(map) = body.as_object_mut() else {
        return Err(Status::bad_request("the body of the request must be an object"));
    };
    if !map.get("metadata").is_some_and(Value::is_object) {
        map.insert("metadata".into(), json!({}));
    }
    let namespace = target::namespace_of(kind, resource);
    let given = body["metadata"]["namespace"].as_str().unwrap_or_default();
    if !given.is_empty() && given != namespace && kind.namespaced {
        let why = match request.verb {
            Verb::Create => {
                "the namespace of the provided object does not match the namespace sent on the request".to_owned()
            }
            _ => format!(
                "the namespace of the object ({given}) does not match the namespace on the request ({namespace})"
            ),
        };
        return Err(Status::bad_request(why));
    }
    match body["metadata"].as_object_mut() {
        Some(meta) if namespace.is_empty() => drop(meta.shift_remove("namespace")),
        Some(meta) => drop(meta.insert("namespace".into(), json!(namespace))),
        None => {}
    }
    Ok(body)
}

/// Refuses or warns of what decoding found, as `fieldValidation` says.
fn judge(request: &Request, kind: &Kind, remarks: &mut Remarks) -> Result<(), Status> {
    let problems = &request.strict_problems;
    match request.options.field_validation {
        _ if problems.is_empty() => Ok(()),
        FieldValidation::Ignore => Ok(()),
        FieldValidation::Warn => {
            remarks.warnings.extend(problems.iter().flat_map(|problem| document::warnings(problem)));
            Ok(())
        }
        FieldValidation::Strict => Err(Status::bad_request(format!(
            "{0} in version \"{1}\" cannot be handled as a {0}: strict decoding error: {2}",
            kind.kind,
            kind.version,
            problems.join(", ")
        ))),
    }
}

fn create(ctx: &mut Context, request: &Request, kind: &Kind, remarks: &mut Remarks) -> Result<Written, Halt> {
    let resource = request.resource().ok_or_else(Status::method_not_allowed)?;
    if kind.namespaced && resource.namespace.is_empty() {
        return Err(Status::bad_request("an empty namespace may not be set during creation").into());
    }
    let body = named_body(request, kind, resource)?;
    if body["metadata"]["resourceVersion"].as_str().is_some_and(|text| !text.is_empty() && text != "0") {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created").into());
    }
    judge(request, kind, remarks)?;
    create_named(ctx, request, kind, body, remarks)
}

/// Creates an object under its name, or under a generated one.
fn create_named(
    ctx: &mut Context,
    request: &Request,
    kind: &Kind,
    mut body: Value,
    remarks: &mut Remarks,
) -> Result<Written, Halt> {
    let stem = body["metadata"]["generateName"].as_str().unwrap_or_default().to_owned();
    let is_generated = body["metadata"]["name"].as_str().unwrap_or_default().is_empty() && !stem.is_empty();
    let namespace = body["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    if is_generated {
        let key = |name: &str| Key::new(kind.storage, &namespace, name);
        let mut tries = (0..GENERATED_NAME_TRIES_MAX).map(|_| format!("{}{}", cut(&stem), ctx.ids.suffix()));
        let free = tries.find(|name| ctx.store.snapshot().get(&key(name)).is_none());
        let Some(name) = free else {
            return Err(Status::already_exists(kind.group, kind.plural, &stem).into());
        };
        body["metadata"]["name"] = json!(name);
    }
    let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let draft = Draft { is_name_generated: is_generated, ..Draft::creation(ctx, kind, &namespace, &name, body)? };
    draft.finish(ctx, request, remarks)
}

/// A stem leaves room for the suffix in 63 characters.
fn cut(stem: &str) -> &str {
    const STEM_MAX: usize = 58;
    let mut end = stem.len().min(STEM_MAX);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    &stem[..end]
}

fn stored(ctx: &Context, kind: &Kind, resource: &Resource) -> Option<Arc<Object>> {
    ctx.store.snapshot().find(kind.storage, target::namespace_of(kind, resource), &resource.name).cloned()
}

fn update(
    ctx: &mut Context,
    request: &Request,
    kind: &Kind,
    part: Part,
    remarks: &mut Remarks,
) -> Result<Written, Halt> {
    let resource = request.resource().ok_or_else(Status::method_not_allowed)?;
    let mut body = named_body(request, kind, resource)?;
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        let why = format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            resource.name
        );
        return Err(Status::bad_request(why).into());
    }
    if name != resource.name {
        let why = format!("the name of the object ({name}) does not match the name on the URL ({})", resource.name);
        return Err(Status::bad_request(why).into());
    }
    judge(request, kind, remarks)?;
    let Some(old) = stored(ctx, kind, resource) else {
        if !kind.create_on_update || part != Part::Whole {
            return Err(Status::not_found(kind.group, kind.plural, &resource.name).into());
        }
        if let Some(meta) = body["metadata"].as_object_mut() {
            meta.shift_remove("resourceVersion");
            meta.shift_remove("uid");
        }
        return create_named(ctx, request, kind, body, remarks);
    };
    check_preconditions(kind, &old, &body["metadata"], part)?;
    let draft = Draft::change(ctx, request, (kind, part), Stored { object: old, value: None }, body)?;
    draft.finish(ctx, request, remarks)
}

/// The uid and resourceVersion that a body carries must be those of the stored object.
fn check_preconditions(kind: &Kind, old: &Object, meta: &Value, part: Part) -> Result<(), Status> {
    let uid = meta["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && uid != old.meta.uid {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", old.meta.uid);
        return Err(Status::conflict(kind.group, kind.plural, &old.key.name, &why));
    }
    check_revision(kind, old, meta, part)
}

/// What a patch does to the uid is a mistake, not a condition.
fn check_uid(kind: &Kind, old: &Object, meta: &Value) -> Result<(), Status> {
    let uid = meta["uid"].as_str().unwrap_or_default();
    if uid.is_empty() || uid == old.meta.uid {
        return Ok(());
    }
    let mut errors = Errors::default();
    errors.invalid(&FieldPath::new("metadata").child("uid"), uid, "field is immutable");
    Err(Status::invalid(kind.group, kind.kind, &old.key.name, errors))
}

/// The resourceVersion that a body carries must be that of the stored object.
fn check_revision(kind: &Kind, old: &Object, meta: &Value, part: Part) -> Result<(), Status> {
    let name = &*old.key.name;
    match meta["resourceVersion"].as_str().unwrap_or_default() {
        "" | "0" if kind.unconditional_update || !matches!(part, Part::Whole | Part::Status) => Ok(()),
        "" | "0" => {
            let mut errors = Errors::default();
            let at = FieldPath::new("metadata").child("resourceVersion");
            errors.invalid(&at, 0, "must be specified for an update");
            Err(Status::invalid(kind.group, kind.plural, name, errors))
        }
        text => match text.parse::<u64>() {
            Ok(revision) if revision == old.revision() => Ok(()),
            Ok(_) => Err(Status::modified(kind.group, kind.plural, name)),
            Err(_) => Err(Status::bad_request(format!("invalid resourceVersion {text:?}"))),
        },
    }
}

fn patch(
    ctx: &mut Context,
    request: &Request,
    kind: &Kind,
    part: Part,
    how: PatchType,
    remarks: &mut Remarks,
) -> Result<Written, Halt> {
    let resource = request.resource().ok_or_else(Status::method_not_allowed)?;
    let old = stored(ctx, kind, resource);
    if how == PatchType::Apply {
        return apply(ctx, request, kind, part, old, remarks);
    }
    let old = old.ok_or_else(|| Status::not_found(kind.group, kind.plural, &resource.name))?;
    let live = live_value(ctx, request, kind, &old)?;
    let mut patched = match part {
        Part::Scale => merge(ctx, kind, part, how, &scale::of_value(kind, &live), &request.body)?,
        _ => merge(ctx, kind, part, how, &live, &request.body)?,
    };
    let Some(map) = patched.as_object_mut() else {
        return Err(Status::bad_request("the patch does not leave an object").into());
    };
    if !map.get("metadata").is_some_and(Value::is_object) {
        map.insert("metadata".into(), json!({}));
    }
    check_identity(&patched, &old)?;
    check_patched(ctx, request, (kind, part), (how, &live), &mut patched, remarks)?;
    let is_unversioned = patched["metadata"]["resourceVersion"].as_str().is_none_or(str::is_empty);
    if is_unversioned {
        patched["metadata"]["resourceVersion"] = json!(old.revision().to_string());
    }
    check_uid(kind, &old, &patched["metadata"])?;
    check_revision(kind, &old, &patched["metadata"], part)?;
    let old = Stored { value: is_stored_form(ctx, kind, &old).then_some(live), object: old };
    let draft = Draft::change(ctx, request, (kind, part), old, patched)?;
    draft.finish(ctx, request, remarks)
}

/// The stored object in the version that was asked for.
fn live_value(ctx: &Context, request: &Request, kind: &Kind, old: &Object) -> Result<Value, Halt> {
    match conversion::concerns(ctx.registry, kind, old) {
        true => conversion::of_object(ctx.place(), request, kind, old),
        false => Ok(encode::json::value_of(kind, old)),
    }
}

/// Whether an object is served in the form that it is stored in.
fn is_stored_form(ctx: &Context, kind: &Kind, object: &Object) -> bool {
    kind.convert.is_none() && !conversion::concerns(ctx.registry, kind, object)
}

fn merge(ctx: &Context, kind: &Kind, part: Part, how: PatchType, live: &Value, body: &Value) -> Result<Value, Status> {
    match how {
        PatchType::Json => patch::json_patch(live, body),
        PatchType::Merge => patch::merge_patch(live, body),
        PatchType::Strategic => {
            if part == Part::Scale && kind.schema != SchemaRef::Custom {
                return patch::strategic_merge(live, body, &stead_api::schema::ANY);
            }
            match ctx.registry.schema(kind) {
                Some(schema) if schema.is_builtin() => patch::strategic_merge(live, body, &schema),
                _ => Err(patch::unsupported_for_custom_resources()),
            }
        }
        PatchType::Apply => Err(Status::internal("apply is not a merge")),
    }
}

/// A patch may not make another object of it.
fn check_identity(patched: &Value, old: &Object) -> Result<(), Status> {
    let given = |field: &str| patched["metadata"][field].as_str().unwrap_or_default();
    let (name, namespace) = (given("name"), given("namespace"));
    if name != &*old.key.name {
        let why = format!("the name of the object ({name}) does not match the name on the URL ({})", old.key.name);
        return Err(Status::bad_request(why));
    }
    if namespace != &*old.key.namespace {
        let why = format!(
            "the namespace of the object ({namespace}) does not match the namespace on the request ({})",
            old.key.namespace
        );
        return Err(Status::bad_request(why));
    }
    Ok(())
}

/// Checks what a patch made against the schema.
fn check_patched(
    ctx: &Context,
    request: &Request,
    (kind, part): (&Kind, Part),
    (how, live): (PatchType, &Value),
    patched: &mut Value,
    remarks: &mut Remarks,
) -> Result<(), Status> {
    let schema = match part {
        Part::Scale => {
            stead_api::schema::definition("io.k8s.api.autoscaling.v1.Scale").map(stead_api::schema::KindSchema::Builtin)
        }
        _ => ctx.registry.schema(kind),
    };
    let Some(schema) = schema else { return Ok(()) };
    if let Some(convert) = kind.convert.filter(|_| kind.old.is_some() && part != Part::Scale) {
        (convert.to_stored)(patched);
    }
    let mut problems = request.strict_problems.clone();
    // Made again for who is refused, instead of a copy for everybody.
    let shown = || match how {
        PatchType::Strategic => patch::go_text(&request.body),
        _ => merge(ctx, kind, part, how, live, &request.body)
            .map_or_else(|_| String::new(), |made| patch::made_text(&made, &request.body)),
    };
    let mut unknown = schema.decode(patched).map_err(|error| undecodable(how, shown(), error))?;
    unknown.sort();
    problems.extend(unknown);
    match request.options.field_validation {
        _ if problems.is_empty() => Ok(()),
        FieldValidation::Ignore => Ok(()),
        FieldValidation::Warn => {
            remarks.warnings.extend(problems);
            Ok(())
        }
        FieldValidation::Strict => {
            let mut errors = Errors::default();
            let why = format!("strict decoding error: {}", problems.join(", "));
            errors.invalid(&FieldPath::new("patch"), shown(), why);
            Err(Status::invalid("", "", "", errors))
        }
    }
}

/// A patch whose outcome is no object of its kind.
fn undecodable(how: PatchType, shown: String, error: DecodeError) -> Status {
    let why = match how {
        PatchType::Strategic => error.of_map.unwrap_or(error.text),
        _ => error.text,
    };
    let mut errors = Errors::default();
    errors.invalid(&FieldPath::new("patch"), shown, why);
    Status::invalid("", "", "", errors)
}

/// Refuses or warns of keys that a configuration gives twice; what is unknown in it never gets here.
fn judge_configuration(request: &Request, remarks: &mut Remarks) -> Result<(), Status> {
    match (request.options.field_validation, request.strict_problems.first()) {
        (FieldValidation::Ignore, _) | (_, None) => Ok(()),
        (FieldValidation::Warn, Some(problem)) => {
            remarks.warnings.extend(document::warnings(problem));
            Ok(())
        }
        (FieldValidation::Strict, Some(problem)) => {
            let why = format!("error strict decoding YAML: error converting YAML to JSON: {problem}");
            Err(Status::bad_request(why))
        }
    }
}

/// Server-side apply (K-02).
fn apply(
    ctx: &mut Context,
    request: &Request,
    kind: &Kind,
    part: Part,
    old: Option<Arc<Object>>,
    remarks: &mut Remarks,
) -> Result<Written, Halt> {
    let resource = request.resource().ok_or_else(Status::method_not_allowed)?;
    let mut body = named_body(request, kind, resource)?;
    match body["metadata"]["name"].as_str().unwrap_or_default() {
        "" => body["metadata"]["name"] = json!(resource.name),
        name if name != resource.name => {
            let why = format!("the name of the object ({name}) does not match the name on the URL ({})", resource.name);
            return Err(Status::bad_request(why).into());
        }
        _ => {}
    }
    if old.is_none() && part != Part::Whole {
        return Err(Status::not_found(kind.group, kind.plural, &resource.name).into());
    }
    if old.is_none() && body["metadata"]["uid"].as_str().is_some_and(|uid| !uid.is_empty()) {
        let why = "uid mismatch: the provided object specified uid, and no existing object was found";
        return Err(Status::conflict(kind.group, kind.plural, &resource.name, why).into());
    }
    if let Some(old) = &old {
        let mut meta = body["metadata"].clone();
        if meta["resourceVersion"].is_null() {
            meta["resourceVersion"] = json!(old.revision().to_string());
        }
        check_preconditions(kind, old, &meta, part)?;
    }
    let live = old.as_ref().map(|old| live_value(ctx, request, kind, old)).transpose()?;
    let merged = managed::apply(ctx, request, kind, part, live.as_ref(), &body)?;
    judge_configuration(request, remarks)?;
    // An applied Scale has become a configuration of the object itself.
    let part = if part == Part::Scale { Part::Whole } else { part };
    match old {
        Some(old) => {
            let old = Stored { value: live.filter(|_| is_stored_form(ctx, kind, &old)), object: old };
            Draft::change(ctx, request, (kind, part), old, merged)?.applied().finish(ctx, request, remarks)
        }
        None => {
            let namespace = target::namespace_of(kind, resource).to_owned();
            Draft::creation(ctx, kind, &namespace, &resource.name, merged)?.applied().finish(ctx, request, remarks)
        }
    }
}
