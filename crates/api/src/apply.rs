//! Server-side apply and the tracking of who owns which field (`metadata.managedFields`).
//!
//! [`apply`] merges a configuration into the live object: it refuses to change what another manager owns unless forced,
//! takes over what it applies, and removes what this manager applied before and nobody else owns. [`track_update`]
//! records the owner of every field that an ordinary write changed. Both are functions of values: the caller decodes,
//! defaults and validates the result as it would a PUT. Row K-02; source: server-side apply's documentation.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::schema::KindSchema;
use crate::status::{Cause, Status};

mod fields;
mod managers;
mod typed;

pub use fields::FieldSet;
pub use managers::{Entry, Operation};

/// Owns what was there before anybody applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
const KUBECTL: &str = "kubectl";
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Members of `metadata` that the system sets: nobody owns them.
const UNOWNED_METADATA: &[&str] = &[
    "f:name",
    "f:namespace",
    "f:creationTimestamp",
    "f:selfLink",
    "f:uid",
    "f:generation",
    "f:managedFields",
    "f:resourceVersion",
];

/// Structs that Go types hold by value: they are there from the start, so making an object does not own them.
const ALWAYS_THERE: &[&str] =
    &["f:metadata", "f:spec", "f:status", "f:template", "f:strategy", "f:updateStrategy", "f:containers"];

/// One write, as ownership sees it.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// [`crate::Request::manager`].
    pub manager: &'a str,
    /// Of the request, not of the storage: `apps/v1`.
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub now: Timestamp,
    /// Dotted paths that this endpoint does not write: `status` on the object, `spec` on its status.
    pub ignored: &'a [&'a str],
}

impl Write<'_> {
    fn entry(&self, operation: Operation, fields: FieldSet) -> Entry {
        Entry {
            manager: self.manager.to_owned(),
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
            time: managers::time_text(self.now),
            fields,
        }
    }

    /// Takes out what nobody owns and what this endpoint does not write.
    fn strip(&self, set: &mut FieldSet) {
        set.0.shift_remove("f:apiVersion");
        set.0.shift_remove("f:kind");
        if let Some(Value::Object(metadata)) = set.0.get_mut("f:metadata") {
            metadata.shift_remove(fields::SELF);
            for element in UNOWNED_METADATA {
                metadata.shift_remove(*element);
            }
            if metadata.is_empty() {
                set.0.shift_remove("f:metadata");
            }
        }
        for path in self.ignored {
            let path: Vec<&str> = path.split('.').collect();
            set.remove_tree(&path);
        }
    }

    fn difference(&self, schema: &KindSchema, old: &Map<String, Value>, new: &Map<String, Value>) -> typed::Difference {
        let mut difference = typed::compare(schema, old, new);
        self.strip(&mut difference.changed);
        self.strip(&mut difference.removed);
        difference
    }
}

fn managed_fields(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields").filter(|list| !list.is_null())
}

fn take_managed_fields(object: &mut Value) -> Option<Value> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    metadata.shift_remove("managedFields").filter(|list| !list.is_null())
}

fn put_managed_fields(object: &mut Value, list: Option<Value>) {
    let (Some(list), Value::Object(object)) = (list, object) else {
        return;
    };
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(metadata) = metadata {
        metadata.insert("managedFields".to_owned(), list);
    }
}

/// Records in `new.metadata.managedFields` what a create, update or other patch changed. `old` is `None` for a create.
///
/// An empty list and `[{}]`, sent as managedFields, forget every owner; none and a malformed list leave the live owners in place, and
/// so does whatever a subresource is sent.
pub fn track_update(schema: &KindSchema, old: Option<&Value>, new: &mut Value, write: &Write) {
    let mut sent = take_managed_fields(new).filter(|_| write.subresource.is_empty());
    if sent.as_ref().is_some_and(managers::is_reset) {
        if old.is_some() {
            return;
        }
        sent = None;
    }
    let live = old.and_then(managed_fields);
    let nothing = Map::new();
    let before = old.and_then(Value::as_object).unwrap_or(&nothing);
    let Value::Object(after) = &*new else {
        return;
    };
    let mut difference = write.difference(schema, before, after);
    if difference.is_empty() && sent.as_ref().is_none_or(|sent| live == Some(sent)) {
        put_managed_fields(new, sent.or_else(|| live.cloned()));
        return;
    }
    if old.is_none() {
        disown_structs(&mut difference.changed.0);
    }
    let sent = sent.and_then(managers::decode).filter(|entries| !entries.is_empty());
    let mut entries = sent.or_else(|| live.cloned().and_then(managers::decode)).unwrap_or_default();
    if old.is_some() && entries.is_empty() {
        // Nobody applied to this object and its owners were forgotten: they stay so.
        return;
    }
    for entry in &mut entries {
        entry.fields.subtract(&difference.changed);
        entry.fields.subtract(&difference.removed);
    }
    if !difference.changed.is_empty() {
        let ours = write.entry(Operation::Update, difference.changed);
        match entries.iter_mut().find(|entry| entry.is_same_manager(&ours)) {
            Some(entry) => {
                entry.fields.union(&ours.fields);
                entry.time = ours.time;
            }
            None => entries.push(ours),
        }
    }
    put_managed_fields(new, managers::encode(entries));
}

/// Takes the marks off structs that a new object has anyway.
fn disown_structs(node: &mut Map<String, Value>) {
    for element in ALWAYS_THERE {
        let Some(Value::Object(child)) = node.get_mut(*element) else { continue };
        child.shift_remove(fields::SELF);
        disown_structs(child);
        if child.is_empty() {
            node.shift_remove(*element);
        }
    }
}

/// Applies a configuration to the live object, or makes the object when there is none.
///
/// # Errors
/// 409 with one cause per field when the change is another manager's and `force` is not set; 400 for a configuration
/// with managedFields; 500 (as upstream) for one that does not fit the schema.
pub fn apply(
    schema: &KindSchema,
    live: Option<&Value>,
    config: &Value,
    write: &Write,
    force: bool,
) -> Result<Value, Status> {
    if managed_fields(config).and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let sent = config;
    let config = canonical(schema, sent)?;
    let mut live = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let live_managers = take_managed_fields(&mut live);
    let mut entries = live_managers.clone().and_then(managers::decode).unwrap_or_default();
    let live_fields = live.as_object().cloned().unwrap_or_default();
    if entries.is_empty() && !live_fields.is_empty() {
        entries.push(before_first_apply(schema, &live_fields, write));
    }

    let applied = typed::fields_of(schema, &config);
    let mut set = applied.clone();
    write.strip(&mut set);
    let mut ours = write.entry(Operation::Apply, set);
    let last = entries.iter().position(|entry| entry.is_same_manager(&ours)).map(|at| entries.remove(at));
    let merged = typed::merge(schema, live.clone(), &config);
    let pruned = match &last {
        Some(last) if !last.fields.is_empty() => {
            let pruned = prune(schema, merged, &entries, &applied, &last.fields);
            // Pruning takes away what it empties; what is applied empty comes back.
            typed::merge(schema, pruned, &config)
        }
        _ => merged,
    };

    // A custom resource may hold nulls; of the others decoding would drop them.
    let is_builtin = matches!(schema, KindSchema::Builtin(_));
    let mut pruned = pruned;
    if is_builtin {
        typed::drop_idle_nulls(schema, Some(&live), &mut pruned);
    }
    let Value::Object(new_fields) = &pruned else {
        return Err(Status::bad_request("the applied configuration is not an object"));
    };
    let difference = write.difference(schema, &live_fields, new_fields);
    if !force {
        check_conflicts(schema, &entries, &difference.changed, &live, write)?;
    }
    let is_same_set = last.as_ref().is_some_and(|last| {
        last.api_version == ours.api_version && last.fields.clone().into_value() == ours.fields.clone().into_value()
    });
    if is_same_set && difference.is_empty() {
        put_managed_fields(&mut live, live_managers);
        return Ok(live);
    }
    for entry in &mut entries {
        entry.fields.subtract(&difference.changed);
        entry.fields.subtract(&difference.removed);
    }
    if let Some(last) = last.filter(|_| is_same_set && difference.changed.is_empty()) {
        ours.time = last.time;
    }
    entries.push(ours);
    let mut result = pruned;
    if is_builtin {
        typed::drop_idle_nulls(schema, None, &mut result);
    }
    if write.manager == KUBECTL {
        sync_last_applied(&mut result, sent);
    }
    put_managed_fields(&mut result, managers::encode(entries));
    Ok(result)
}

/// The live object with what a configuration says; nobody's ownership is looked at.
///
/// # Errors
/// 500 for a configuration that does not fit the schema.
pub fn merge(schema: &KindSchema, live: &Value, config: &Value) -> Result<Value, Status> {
    let mut merged = typed::merge(schema, live.clone(), &canonical(schema, config)?);
    if matches!(schema, KindSchema::Builtin(_)) {
        typed::drop_idle_nulls(schema, None, &mut merged);
    }
    Ok(merged)
}

/// Checks the configuration against the schema and brings its values to their canonical form.
fn canonical(schema: &KindSchema, config: &Value) -> Result<Value, Status> {
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let refused = |why: String| {
        let name = match text("/metadata/namespace") {
            "" => text("/metadata/name").to_owned(),
            namespace => format!("{namespace}/{}", text("/metadata/name")),
        };
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        Status::new(500, "", format!("failed to create typed patch object ({name}; {version}, Kind={kind}): {why}"))
    };
    match typed::mistakes(schema, config).as_slice() {
        [] => {}
        [one] => return Err(refused(one.clone())),
        many => return Err(refused(format!("errors:\n  {}", many.join("\n  ")))),
    }
    let mut decoded = config.clone();
    take_managed_fields(&mut decoded);
    schema.decode(&mut decoded).map_err(|error| refused(error.text))?;
    if matches!(schema, KindSchema::Builtin(_)) {
        typed::restore_nulls(config, &mut decoded);
        if let Some(Value::Object(metadata)) = decoded.get_mut("metadata") {
            metadata.shift_remove("managedFields");
        }
    }
    Ok(decoded)
}

/// An owner for everything that is in an object whose owners are not known.
fn before_first_apply(schema: &KindSchema, live: &Map<String, Value>, write: &Write) -> Entry {
    let everything = Write { ignored: &[], ..*write };
    let mut owned = everything.difference(schema, &Map::new(), live).changed;
    disown_structs(&mut owned.0);
    let api_version = live.get("apiVersion").and_then(Value::as_str).unwrap_or(write.api_version);
    let writer = Write { manager: BEFORE_FIRST_APPLY, api_version, subresource: "", ..*write };
    writer.entry(Operation::Update, owned)
}

/// Removes what this manager applied before, does not apply now, and nobody else owns. `ours` is all that is applied now, also
/// what nobody owns: it keeps `metadata` in place when the last label goes.
fn prune(schema: &KindSchema, merged: Value, others: &[Entry], ours: &FieldSet, last: &FieldSet) -> Value {
    let named = |set: &FieldSet| typed::with_named_fields(schema, set);
    let mut owned = ours.clone();
    for entry in others {
        owned.union(&entry.fields);
    }
    let all = named(&typed::fields_of(schema, &merged));
    let last = named(last);
    // Without anything of the last configuration …
    let mut bare = merged.clone();
    typed::remove(schema, &mut bare, &last);
    // … but with all that has an owner …
    let mut unowned = all.clone();
    unowned.subtract(&named(&typed::fields_of(schema, &bare)));
    unowned.subtract(&named(&owned));
    let mut kept = merged.clone();
    typed::remove(schema, &mut kept, &unowned);
    // … and with what hung below removed items yet never was this manager's.
    let mut gone = all;
    gone.subtract(&named(&typed::fields_of(schema, &kept)));
    let gone = gone.intersection(&last);
    let mut pruned = merged;
    typed::remove(schema, &mut pruned, &gone);
    pruned
}

fn check_conflicts(
    schema: &KindSchema,
    others: &[Entry],
    changed: &FieldSet,
    live: &Value,
    write: &Write,
) -> Result<(), Status> {
    let mut allowed = FieldSet::default();
    if write.manager == KUBECTL {
        allowed = unchanged_since_client_side_apply(schema, live, write).unwrap_or_default();
    }
    let mut conflicts: Vec<(String, String)> = Vec::new();
    for entry in others {
        let mut taken = entry.fields.intersection(changed);
        taken.subtract(&allowed);
        let manager = entry.describe();
        conflicts.extend(taken.paths().into_iter().map(|path| (manager.clone(), path)));
    }
    conflicts.sort();
    if conflicts.is_empty() { Ok(()) } else { Err(conflict_status(&conflicts)) }
}

/// What kubectl set by client-side apply and nobody changed since: server-side apply by kubectl may take it over.
fn unchanged_since_client_side_apply(schema: &KindSchema, live: &Value, write: &Write) -> Option<FieldSet> {
    let annotation = live.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()?;
    let applied: Value = serde_json::from_str(annotation).ok()?;
    if applied.get("apiVersion")?.as_str()? != write.api_version {
        return None;
    }
    let mut fields = typed::fields_of(schema, &applied);
    let difference = typed::compare(schema, applied.as_object()?, live.as_object()?);
    fields.subtract(&difference.changed);
    fields.subtract(&difference.removed);
    Some(fields)
}

/// `Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas`
fn conflict_status(conflicts: &[(String, String)]) -> Status {
    let message = match conflicts {
        [(manager, path)] => format!("Apply failed with 1 conflict: conflict with {manager}: {path}"),
        many => {
            let mut text = format!("Apply failed with {} conflicts: ", many.len());
            let mut last_manager = "";
            for (manager, path) in many {
                if manager != last_manager {
                    let line_break = if last_manager.is_empty() { "" } else { "\n" };
                    text.push_str(&format!("{line_break}conflicts with {manager}:"));
                    last_manager = manager;
                }
                text.push_str(&format!("\n- {path}"));
            }
            text
        }
    };
    let cause = |(manager, path): &(String, String)| Cause {
        reason: "FieldManagerConflict".into(),
        message: format!("conflict with {manager}"),
        field: path.clone(),
    };
    Status::new(409, "Conflict", message).with_causes(conflicts.iter().map(cause).collect())
}

/// Keeps the annotation of client-side apply up to date, so that a user may go back to it.
fn sync_last_applied(object: &mut Value, config: &Value) {
    let Some(annotation) = object.pointer_mut("/metadata/annotations").and_then(|all| all.get_mut(LAST_APPLIED)) else {
        return;
    };
    let mut config = Cow::Borrowed(config);
    if config.pointer("/metadata/annotations").is_some_and(|all| all.get(LAST_APPLIED).is_some())
        && let Some(Value::Object(all)) = config.to_mut().pointer_mut("/metadata/annotations")
    {
        all.shift_remove(LAST_APPLIED);
    }
    *annotation = Value::String(format!("{config}\n"));
}

#[cfg(test)]
mod tests;
