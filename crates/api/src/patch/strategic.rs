//! Strategic merge patch: a merge patch that knows list keys.
//!
//! Maps merge key by key and null deletes; a list with strategy `merge` merges by its merge key (or as a set of
//! primitives), others are replaced. Directives: `$patch: replace|delete` in a map or a list, `$retainKeys`,
//! `$setElementOrder/LIST`, `$deleteFromPrimitiveList/LIST`. Order: the patch's elements keep the patch's order, those
//! only the server has keep theirs, and the two are interleaved by the live order. Row CR-07 depends on it.

use serde_json::{Map, Value};

use crate::schema::{ANY, Schema};
use crate::status::Status;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

/// Applies a strategic merge patch to an object of this schema.
pub fn strategic_merge(live: &Value, patch: &Value, schema: &Schema) -> Result<Value, Status> {
    let (Value::Object(live), Value::Object(patch)) = (live, patch) else {
        return Err(Status::bad_request("invalid JSON document"));
    };
    merge_maps(live.clone(), patch.clone(), schema).map(Value::Object)
}

fn bad_format(of: &str) -> Status {
    Status::bad_request(format!("invalid patch format of {of}"))
}

fn merge_maps(mut live: Object, mut patch: Object, schema: &Schema) -> Result<Object, Status> {
    match patch.shift_remove(PATCH) {
        None => {}
        Some(directive) if directive == "replace" => return Ok(patch),
        Some(directive) if directive == "delete" => return Ok(Map::new()),
        Some(directive) => return Err(unknown_directive(&directive, &patch)),
    }
    retain_keys(&mut live, &mut patch)?;
    merge_ordered_lists(&mut live, &mut patch, schema)?;
    for (key, value) in patch {
        let (name, is_deletion) = match key.strip_prefix(DELETE_FROM_PRIMITIVES) {
            Some(name) => (name, true),
            None => (key.as_str(), false),
        };
        if value.is_null() {
            live.shift_remove(name);
            continue;
        }
        let field = schema.field(name).unwrap_or(&ANY);
        let merged = match (live.get_mut(name).map(Value::take), value) {
            (Some(Value::Array(old)), Value::Array(gone)) if is_deletion => {
                Value::Array(old.into_iter().filter(|one| !gone.contains(one)).collect())
            }
            (Some(_), _) if is_deletion => return Err(bad_format("primitive list")),
            (None, _) if is_deletion => continue,
            (Some(Value::Object(old)), Value::Object(new)) => Value::Object(merge_maps(old, new, field)?),
            (Some(Value::Array(old)), Value::Array(new)) if field.patch.merge => {
                Value::Array(merge_lists(old, new, field)?)
            }
            (_, new) => without_directives(new)?,
        };
        live.insert(name.to_owned(), merged);
    }
    Ok(live)
}

fn unknown_directive(directive: &Value, map: &Object) -> Status {
    let shown = directive.as_str().map_or_else(|| directive.to_string(), str::to_owned);
    let keys: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Status::internal(format!("Unknown patch type: {shown} in map: map[{}]", keys.join(" ")))
}

/// `$retainKeys` names every key that may stay; the patch itself may set no other.
fn retain_keys(live: &mut Object, patch: &mut Object) -> Result<(), Status> {
    let Some(kept) = patch.shift_remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(kept) = kept else {
        return Err(bad_format("retainKeys"));
    };
    let is_kept = |key: &str| kept.iter().any(|one| one == key);
    let is_directive = |key: &str| key.starts_with(DELETE_FROM_PRIMITIVES) || key.starts_with(SET_ELEMENT_ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !is_directive(key) && !is_kept(key)) {
        return Err(bad_format("retainKeys"));
    }
    live.retain(|key, _| is_kept(key));
    Ok(())
}

/// Merges each list that has a `$setElementOrder` and puts it in that order; takes both out of the patch.
fn merge_ordered_lists(live: &mut Object, patch: &mut Object, schema: &Schema) -> Result<(), Status> {
    let ordered: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ELEMENT_ORDER)).cloned().collect();
    for key in ordered {
        let name = &key[SET_ELEMENT_ORDER.len()..];
        let Some(Value::Array(order)) = patch.shift_remove(&key) else {
            return Err(bad_format("setElementOrder list"));
        };
        let field = schema.field(name).unwrap_or(&ANY);
        let merge_key = field.patch.merge_key.as_deref();
        if !matches!(patch.get(name), None | Some(Value::Array(_))) {
            // A null or a value of another type: the ordinary path deletes or replaces the list.
            continue;
        }
        let changes = match patch.shift_remove(name) {
            Some(Value::Array(changes)) => Some(changes),
            _ => None,
        };
        if let Some(changes) = &changes {
            check_order(changes, &order, merge_key)?;
        }
        let old = match live.get_mut(name).map(Value::take) {
            Some(Value::Array(old)) => Some(old),
            Some(_) => return Err(bad_format("setElementOrder list")),
            None => None,
        };
        let server_order = old.clone().unwrap_or_default();
        let merged = match (old, changes) {
            (Some(old), Some(changes)) if field.patch.merge => merge_lists(old, changes, field)?,
            (Some(old), None) => old,
            (_, Some(changes)) => as_list(without_directives(Value::Array(changes))?),
            (None, None) => continue,
        };
        live.insert(name.to_owned(), Value::Array(in_order(merged, &order, &server_order, merge_key)));
    }
    Ok(())
}

fn as_list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

/// The elements of a patch must stand in the order that the patch itself demands.
fn check_order(changes: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), Status> {
    let mut rest = order.iter();
    for change in changes.iter().filter(|one| one.get(PATCH).is_none()) {
        if !rest.any(|one| is_same(one, change, merge_key)) {
            let (changes, order) = (Value::from(changes.to_vec()), Value::from(order.to_vec()));
            return Err(Status::bad_request(format!(
                "The order in patch list:\n{changes}\n doesn't match $setElementOrder list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

/// Whether two elements are one: equal primitives, or maps with the same merge key value.
fn is_same(a: &Value, b: &Value, merge_key: Option<&str>) -> bool {
    match (merge_key, a, b) {
        (Some(key), Value::Object(a), Value::Object(b)) => a.contains_key(key) && a.get(key) == b.get(key),
        _ => a == b,
    }
}

fn merge_lists(mut live: Vec<Value>, patch: Vec<Value>, field: &Schema) -> Result<Vec<Value>, Status> {
    if live.iter().chain(&patch).any(Value::is_array) {
        return Err(Status::new(422, "Invalid", "lists of lists are not supported"));
    }
    let merge_key = field.patch.merge_key.as_deref();
    let of_maps = live.iter().chain(&patch).next().is_some_and(Value::is_object);
    if live.iter().chain(&patch).any(|one| one.is_object() != of_maps) {
        return Err(Status::bad_request("invalid JSON document"));
    }
    let server_order = live.clone();
    let patch = match (of_maps, merge_key) {
        (false, _) => {
            for one in &patch {
                if !live.contains(one) {
                    live.push(one.clone());
                }
            }
            patch
        }
        (true, None) => return Err(Status::internal("cannot merge lists without merge key")),
        (true, Some(key)) => merge_elements(&mut live, patch, key, field)?,
    };
    Ok(in_order(live, &patch, &server_order, merge_key))
}

/// Merges maps by their key into `live`; returns the patch's elements without directives, for the order.
fn merge_elements(live: &mut Vec<Value>, patch: Vec<Value>, key: &str, field: &Schema) -> Result<Vec<Value>, Status> {
    let key_of = |map: &Object| match map.get(key) {
        Some(value) => Ok(value.clone()),
        None => {
            let shown = Value::Object(map.clone());
            Err(Status::internal(format!("map: {shown} does not contain declared merge key: {key}")))
        }
    };
    let mut changes = Vec::new();
    let mut is_replaced = false;
    for change in patch {
        let Value::Object(change) = change else {
            return Err(Status::bad_request("invalid JSON document"));
        };
        match change.get(PATCH) {
            None => changes.push(change),
            Some(directive) if directive == "delete" => {
                let gone = key_of(&change)?;
                live.retain(|one| one.get(key) != Some(&gone));
            }
            Some(directive) if directive == "replace" => is_replaced = true,
            Some(directive) if directive == "merge" => {
                return Err(Status::internal("merging lists cannot yet be specified in the patch"));
            }
            Some(directive) => return Err(unknown_directive(directive, &change)),
        }
    }
    if is_replaced {
        *live = changes.iter().cloned().map(Value::Object).collect();
        return Ok(live.clone());
    }
    let items = field.items().unwrap_or(&ANY);
    for change in &changes {
        let identity = key_of(change)?;
        match live.iter_mut().find(|one| one.get(key) == Some(&identity)) {
            Some(Value::Object(old)) => *old = merge_maps(std::mem::take(old), change.clone(), items)?,
            _ => live.push(without_directives(Value::Object(change.clone()))?),
        }
    }
    Ok(changes.into_iter().map(Value::Object).collect())
}

/// Elements named in `order` in that order, the others in the server's, interleaved by the server's order.
fn in_order(merged: Vec<Value>, order: &[Value], server: &[Value], merge_key: Option<&str>) -> Vec<Value> {
    let position = |list: &[Value], one: &Value| list.iter().position(|other| is_same(other, one, merge_key));
    let (mut wanted, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|one| position(order, one).is_some());
    wanted.sort_by_key(|one| position(order, one));
    others.sort_by_key(|one| position(server, one).unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(wanted.len() + others.len());
    let mut others = others.into_iter().peekable();
    for one in wanted {
        while let Some(other) = others.peek() {
            match (position(server, other), position(server, &one)) {
                (Some(before), Some(after)) if before < after => result.extend(others.next()),
                _ => break,
            }
        }
        result.push(one);
    }
    result.extend(others);
    result
}

/// A value that is taken whole: nulls in maps delete nothing and directives have nothing to act on.
fn without_directives(value: Value) -> Result<Value, Status> {
    match value {
        Value::Object(mut map) => {
            match map.shift_remove(PATCH) {
                None => {}
                Some(directive) if directive == "replace" => {}
                Some(directive) if directive == "delete" => return Ok(Value::Object(Map::new())),
                Some(directive) => return Err(unknown_directive(&directive, &map)),
            }
            let mut plain = Map::new();
            for (key, value) in map {
                if !value.is_null() && !key.starts_with('$') {
                    plain.insert(key, without_directives(value)?);
                }
            }
            Ok(Value::Object(plain))
        }
        Value::Array(list) => {
            let acts = |one: &Value| one.get(PATCH).is_some();
            list.into_iter().filter(|one| !acts(one)).map(without_directives).collect()
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(kind: &str, live: Value, patch: Value) -> Result<Value, (u16, String)> {
        let schema = crate::schema::builtin(kind).expect(kind);
        strategic_merge(&live, &patch, schema).map_err(|error| (error.code, error.message))
    }

    fn check_pod_spec(live: Value, patch: Value, expected: Value) {
        assert_eq!(patched("io.k8s.api.core.v1.PodSpec", live, patch), Ok(expected));
    }

    #[test]
    fn lists_merge_by_their_keys_in_the_patch_order() {
        check_pod_spec(
            json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}),
            json!({"containers": [{"name": "c"}, {"name": "a", "image": null, "env": [{"name": "Y", "value": "2"}]}]}),
            json!({"containers": [{"name": "c"}, {"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]}, {"name": "b"}]}),
        );
        check_pod_spec(
            json!({"tolerations": [{"key": "a"}], "nodeSelector": {"x": "1", "y": "2"}}),
            json!({"tolerations": [{"key": "b"}], "nodeSelector": {"x": null, "z": "3"}}),
            json!({"tolerations": [{"key": "b"}], "nodeSelector": {"y": "2", "z": "3"}}),
        );
    }

    #[test]
    fn directives() {
        let two = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b"}]});
        check_pod_spec(
            two.clone(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b"}]}),
        );
        check_pod_spec(
            two.clone(),
            json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}),
            json!({"containers": [{"name": "z"}]}),
        );
        check_pod_spec(
            json!({"securityContext": {"runAsUser": 1}, "hostname": "h"}),
            json!({"securityContext": {"$patch": "replace", "fsGroup": 2}}),
            json!({"securityContext": {"fsGroup": 2}, "hostname": "h"}),
        );
        check_pod_spec(
            json!({"securityContext": {"runAsUser": 1}}),
            json!({"securityContext": {"$patch": "delete"}}),
            json!({"securityContext": {}}),
        );
        let unknown =
            patched("io.k8s.api.core.v1.PodSpec", two.clone(), json!({"$patch": "jump"})).expect_err("unknown");
        assert!(unknown.1.contains("Unknown patch type: jump in map"), "{unknown:?}");
        let keyless =
            patched("io.k8s.api.core.v1.PodSpec", two, json!({"containers": [{"image": "x"}]})).expect_err("no key");
        assert!(keyless.1.contains("map: {\"image\":\"x\"} does not contain declared merge key: name"), "{keyless:?}");
    }

    #[test]
    fn element_order_is_set() {
        check_pod_spec(
            json!({"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b", "image": "2"}]}),
            json!({"containers": [{"name": "server"}, {"name": "b", "image": "2"}, {"name": "a"}]}),
        );
        check_pod_spec(
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            json!({"containers": [{"name": "b"}, {"name": "a"}]}),
        );
        let wrong = json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]});
        assert_eq!(patched("io.k8s.api.core.v1.PodSpec", json!({}), wrong).map_err(|error| error.0), Err(400));
    }

    #[test]
    fn primitive_lists_merge_as_sets() {
        let kind = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
        let live = json!({"finalizers": ["a", "b"]});
        assert_eq!(
            patched(kind, live.clone(), json!({"finalizers": ["c", "a"]})),
            Ok(json!({"finalizers": ["c", "a", "b"]}))
        );
        let patch = json!({"$deleteFromPrimitiveList/finalizers": ["a"]});
        assert_eq!(patched(kind, live.clone(), patch), Ok(json!({"finalizers": ["b"]})));
        let both = json!({"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]});
        assert_eq!(patched(kind, live, both), Ok(json!({"finalizers": ["c", "b"]})));
    }

    #[test]
    fn retain_keys_clears_the_rest() {
        let kind = "io.k8s.api.apps.v1.DeploymentSpec";
        let live = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}});
        let patch = json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}});
        assert_eq!(patched(kind, live.clone(), patch), Ok(json!({"strategy": {"type": "Recreate"}})));
        let bad = json!({"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}});
        assert_eq!(patched(kind, live, bad), Err((400, "invalid patch format of retainKeys".into())));
    }

    #[test]
    fn a_controller_revision_restores_the_template() {
        let live = json!({"spec": {"replicas": 3, "template": {"metadata": {"labels": {"a": "1", "b": "2"}}}}});
        let revision = json!({"spec": {"template": {"$patch": "replace", "metadata": {"labels": {"a": "0"}}}}});
        let expected = json!({"spec": {"replicas": 3, "template": {"metadata": {"labels": {"a": "0"}}}}});
        assert_eq!(patched("io.k8s.api.apps.v1.StatefulSet", live, revision), Ok(expected));
    }

    #[test]
    fn new_parts_carry_no_directives() {
        check_pod_spec(
            json!({}),
            json!({"containers": [{"name": "a", "image": null, "$setElementOrder/env": [{"name": "X"}], "env": [{"name": "X"}]},
                {"name": "b", "$patch": "delete"}], "securityContext": {"$retainKeys": ["x"], "runAsUser": 1}}),
            json!({"containers": [{"name": "a", "env": [{"name": "X"}]}], "securityContext": {"runAsUser": 1}}),
        );
    }
}
