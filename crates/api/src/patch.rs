//! The three patches of a PATCH request: JSON patch (RFC 6902), merge patch (RFC 7396), strategic merge patch.
//!
//! Each takes the live object and the patch and returns the patched object, undecoded: the caller decodes, defaults and
//! validates it as it would a PUT. Server-side apply is `apply.rs`. Errors carry Kubernetes' codes and texts.

use std::borrow::Cow;

use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Map, Value};

use crate::status::Status;

mod index;
mod strategic;

pub use strategic::strategic_merge;

/// A JSON patch may hold this many operations, as in Kubernetes.
const OPERATIONS_MAX: usize = 10_000;
/// The `copy` operations of one patch may add this much, as in Kubernetes' JSONPatchMaxCopyBytes.
const COPY_BYTES_MAX: usize = 3 << 20;

/// A patch as Go prints a map: `map[metadata:map[labels:map[a:1]]]`.
pub fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            let members = members.into_iter().map(|(key, value)| format!("{key}:{}", go_text(value)));
            format!("map[{}]", members.collect::<Vec<_>>().join(" "))
        }
    }
}

/// 422 for a patch that is well-formed but does not fit the object.
fn rejected() -> Status {
    Status::new(422, "Invalid", "the server rejected our request due to an error in our request")
}

/// What a JSON or merge patch made, as Kubernetes quotes it: fields in the order of their names in each object that the patch went
/// into, and as they were in the others.
pub fn made_text(made: &Value, patch: &Value) -> String {
    let touched = match patch {
        Value::Array(operations) => {
            let mut paths = Value::Object(Map::new());
            for operation in operations {
                let mut at = &mut paths;
                for part in operation["path"].as_str().unwrap_or_default().split('/').skip(1) {
                    at = &mut at[part.replace("~1", "/").replace("~0", "~")];
                }
            }
            Cow::Owned(paths)
        }
        patch => Cow::Borrowed(patch),
    };
    sorted(made, &touched).to_string()
}

fn sorted(made: &Value, touched: &Value) -> Value {
    let (Value::Object(fields), Value::Object(parts)) = (made, touched) else { return made.clone() };
    let mut names: Vec<&String> = fields.keys().collect();
    names.sort();
    let one = |name: &String| sorted(&fields[name], parts.get(name).unwrap_or(&Value::Null));
    Value::Object(names.into_iter().map(|name| (name.clone(), one(name))).collect())
}

/// 415 for a strategic merge patch on a custom resource.
pub fn unsupported_for_custom_resources() -> Status {
    Status::unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
    )
}

/// Applies a JSON patch. A failed `test` and a path that is not there are 422.
pub fn json_patch(live: &Value, patch: &Value) -> Result<Value, Status> {
    let Patch(operations) =
        serde::Deserialize::deserialize(patch).map_err(|error| Status::bad_request(error.to_string()))?;
    if operations.len() > OPERATIONS_MAX {
        let found = operations.len();
        return Err(Status::too_large(format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {found}"
        )));
    }
    let mut patched = live.clone();
    let mut copied = 0;
    for operation in &operations {
        let counted = index::from_the_front(operation, &patched);
        let operation = counted.as_ref().unwrap_or(operation);
        if let PatchOperation::Copy(copy) = operation {
            copied += copy.from.resolve(&patched).map_or(0, size);
            if copied > COPY_BYTES_MAX {
                return Err(rejected());
            }
        }
        let added = as_addition(operation, &patched);
        let operation = added.as_ref().unwrap_or(operation);
        if !finds_nothing(operation, &patched) {
            json_patch::patch(&mut patched, std::slice::from_ref(operation)).map_err(|_| rejected())?;
        }
    }
    Ok(patched)
}

/// Whether an operation tests that a field is null, and it is not there: to Kubernetes that is the same, beyond the RFC, and clients
/// that add a first finalizer rely on it.
fn finds_nothing(operation: &PatchOperation, document: &Value) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let is_field = |parent: &json_patch::jsonptr::Pointer| parent.resolve(document).is_ok_and(Value::is_object);
    test.value.is_null() && test.path.resolve(document).is_err() && test.path.parent().is_some_and(is_field)
}

/// The addition that the replacement of a field is which is not there: Kubernetes takes it, beyond the RFC.
fn as_addition(operation: &PatchOperation, document: &Value) -> Option<PatchOperation> {
    let PatchOperation::Replace(replacement) = operation else { return None };
    let is_field = |parent: &json_patch::jsonptr::Pointer| parent.resolve(document).is_ok_and(Value::is_object);
    let is_new = replacement.path.resolve(document).is_err() && replacement.path.parent().is_some_and(is_field);
    let (path, value) = (replacement.path.clone(), replacement.value.clone());
    is_new.then_some(PatchOperation::Add(AddOperation { path, value }))
}

/// Roughly the bytes of a value as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
        Value::String(text) => text.len() + 2,
        Value::Array(list) => 2 + list.iter().map(|one| size(one) + 1).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(key, one)| key.len() + 4 + size(one)).sum::<usize>(),
    }
}

/// Applies a JSON merge patch; it must be an object.
pub fn merge_patch(live: &Value, patch: &Value) -> Result<Value, Status> {
    let Value::Object(patch) = patch else {
        return Err(Status::bad_request("error decoding patch: the merge patch is not a JSON object"));
    };
    let mut patched = live.clone();
    merge_object(&mut patched, patch);
    Ok(patched)
}

fn merge_object(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.shift_remove(key);
            }
            Value::Object(inner) => merge_object(target.entry(key.as_str()).or_insert(Value::Null), inner),
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn json_patches() {
        let live = json!({"a": {"b": [1, 2]}, "c": "x"});
        let patch = json!([{"op": "test", "path": "/c", "value": "x"}, {"op": "add", "path": "/a/b/-", "value": 3},
            {"op": "remove", "path": "/a/b/0"}, {"op": "replace", "path": "/c", "value": {"d": null}},
            {"op": "copy", "from": "/a", "path": "/e~1f"}, {"op": "move", "from": "/c", "path": "/g"}]);
        let expected = json!({"a": {"b": [2, 3]}, "e/f": {"b": [2, 3]}, "g": {"d": null}});
        assert_eq!(json_patch(&live, &patch), Ok(expected));
        let first =
            json!([{"op": "test", "path": "/a/f", "value": null}, {"op": "add", "path": "/a/f", "value": ["x"]}]);
        assert_eq!(json_patch(&live, &first), Ok(json!({"a": {"b": [1, 2], "f": ["x"]}, "c": "x"})));
        let new = json!([{"op": "replace", "path": "/a/g", "value": 1}]);
        assert_eq!(json_patch(&live, &new), Ok(json!({"a": {"b": [1, 2], "g": 1}, "c": "x"})));
        for bad in [
            json!([{"op": "replace", "path": "/no/g", "value": 1}]),
            json!([{"op": "replace", "path": "/a/b/2", "value": 1}]),
            json!([{"op": "remove", "path": "/a/b/-3"}]),
            json!([{"op": "add", "path": "/a/b/-4", "value": 1}]),
            json!([{"op": "replace", "path": "/a/b/-3", "value": 1}]),
            json!([{"op": "remove", "path": "/a/-1"}]),
            json!([{"op": "test", "path": "/a/b", "value": null}]),
            json!([{"op": "test", "path": "/a/b/7", "value": null}]),
            json!([{"op": "test", "path": "/x/y", "value": null}]),
            json!([{"op": "test", "path": "/c", "value": "y"}]),
            json!([{"op": "remove", "path": "/x"}]),
            json!([{"op": "add", "path": "/x/y", "value": 1}]),
        ] {
            let error = json_patch(&live, &bad).expect_err("does not fit");
            assert_eq!((error.code, &*error.reason), (422, "Invalid"));
            assert_eq!(error.message, "the server rejected our request due to an error in our request");
        }
        assert_eq!(json_patch(&live, &json!({"a": 1})).map_err(|error| error.code), Err(400));
        assert_eq!(json_patch(&live, &json!([{"op": "jump", "path": ""}])).map_err(|error| error.code), Err(400));
        let many = Value::Array(vec![json!({"op": "test", "path": "/c", "value": "x"}); OPERATIONS_MAX + 1]);
        assert_eq!(json_patch(&live, &many).map_err(|error| error.code), Err(413));
        let bomb = Value::Array((0..60).map(|n| json!({"op": "copy", "from": "", "path": format!("/k{n}")})).collect());
        assert_eq!(json_patch(&live, &bomb).map_err(|error| error.code), Err(422));
    }

    #[test]
    fn negative_indices_count_from_the_end() {
        let live = json!({"a": [{"n": 1}, {"n": 2}], "-1": "a field"});
        let patch = json!([{"op": "test", "path": "/a/-1/n", "value": 2}, {"op": "replace", "path": "/a/-2/n", "value": 5},
            {"op": "add", "path": "/a/-1", "value": {"n": 3}}, {"op": "add", "path": "/a/-4", "value": {"n": 0}},
            {"op": "remove", "path": "/a/-2"}, {"op": "copy", "from": "/a/-1", "path": "/b"}, {"op": "remove", "path": "/-1"}]);
        let expected = json!({"a": [{"n": 0}, {"n": 5}, {"n": 3}], "b": {"n": 3}});
        assert_eq!(json_patch(&live, &patch), Ok(expected));
        let turn = json!([{"op": "move", "from": "/-3", "path": "/-1"}]);
        assert_eq!(json_patch(&json!([1, 2, 3]), &turn), Ok(json!([2, 3, 1])));
    }

    #[test]
    fn merge_patches_follow_the_examples_of_the_rfc() {
        for (live, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merge_patch(&live, &patch), Ok(expected));
        }
        assert_eq!(merge_patch(&json!({}), &json!([])).map_err(|error| error.code), Err(400));
    }

    /// The merge patch that makes `new` of `old`.
    fn difference(old: &Value, new: &Value) -> Value {
        let (Value::Object(old), Value::Object(new)) = (old, new) else {
            return new.clone();
        };
        let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
        let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
        let changed =
            changed.map(|(key, value)| (key.clone(), difference(old.get(key).unwrap_or(&Value::Null), value)));
        Value::Object(gone.chain(changed).collect())
    }

    fn objects() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0i64..3).prop_map(Value::from)];
        let tree = leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        });
        prop::collection::btree_map("[a-c]", tree, 0..3).prop_map(|map| map.into_iter().collect::<Value>())
    }

    proptest! {
        #[test]
        fn merging_the_difference_makes_the_new_object(old in objects(), new in objects()) {
            prop_assert_eq!(merge_patch(&old, &difference(&old, &new)), Ok(new.clone()));
            // Without list keys, strategic merge replaces lists: it does the same.
            prop_assert_eq!(strategic_merge(&old, &difference(&old, &new), &crate::schema::ANY), Ok(new));
        }
    }
}
