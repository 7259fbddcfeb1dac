//! Sets of field paths in their wire form, FieldsV1.
//!
//! A [`FieldSet`] *is* the JSON of `fieldsV1`: a trie whose keys are path elements (`f:name`, `k:{"name":"a"}`,
//! `v:"x"`). A node that is `{}` or holds `.` is a member; one with children alone is only on the way to members. Working
//! on that form saves a decoding and an encoding of every manager's fields at every write.

use serde_json::{Map, Value};

/// Marks a node with children as a member itself.
pub(super) const SELF: &str = ".";

type Node = Map<String, Value>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSet(pub(super) Node);

impl FieldSet {
    /// The set a `fieldsV1` holds; what is not a trie of objects is dropped.
    pub fn from_value(value: Value) -> FieldSet {
        match value {
            Value::Object(mut node) => {
                clean(&mut node);
                FieldSet(node)
            }
            _ => FieldSet::default(),
        }
    }

    /// The wire form, with sorted keys.
    pub fn into_value(mut self) -> Value {
        sort(&mut self.0);
        Value::Object(self.0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn union(&mut self, other: &FieldSet) {
        unite(&mut self.0, &other.0);
    }

    /// Removes the members of `other`; members below them stay.
    pub fn subtract(&mut self, other: &FieldSet) {
        subtract(&mut self.0, &other.0);
    }

    /// Keeps the members that `other` has too.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        FieldSet(intersect(&self.0, &other.0))
    }

    /// Removes a path of field names and all below it.
    pub fn remove_tree(&mut self, path: &[&str]) {
        remove_tree(&mut self.0, path);
    }

    /// Every member, as Kubernetes prints paths: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        print(&self.0, &mut String::new(), &mut found);
        found
    }
}

pub(super) fn is_member(node: &Node) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

fn marker() -> Value {
    Value::Object(Map::new())
}

/// Adds a child that is made of `inner` (its own children, and `.` when it is a member).
pub(super) fn insert(parent: &mut Node, element: String, mut inner: Node) {
    if inner.len() == 1 && inner.contains_key(SELF) {
        inner.clear();
    }
    parent.insert(element, Value::Object(inner));
}

/// Adds a member without children.
pub(super) fn insert_leaf(parent: &mut Node, element: String) {
    parent.insert(element, marker());
}

fn clean(node: &mut Node) {
    node.retain(|_, child| match child {
        Value::Object(child) => {
            clean(child);
            collapse(child);
            true
        }
        _ => false,
    });
}

/// `{".": {}}` is the same member as `{}`.
fn collapse(node: &mut Node) {
    if node.len() == 1 {
        node.shift_remove(SELF);
    }
}

fn sort(node: &mut Node) {
    if !node.keys().is_sorted() {
        node.sort_keys();
    }
    for child in node.values_mut() {
        if let Value::Object(child) = child {
            sort(child);
        }
    }
}

fn unite(into: &mut Node, from: &Node) {
    for (element, theirs) in from {
        let Value::Object(theirs) = theirs else { continue };
        let Some(Value::Object(ours)) = into.get_mut(element) else {
            into.insert(element.clone(), Value::Object(theirs.clone()));
            continue;
        };
        let is_one = element != SELF && (is_member(ours) || is_member(theirs));
        unite(ours, theirs);
        if is_one && !ours.is_empty() {
            ours.insert(SELF.to_owned(), marker());
            collapse(ours);
        }
    }
}

fn subtract(from: &mut Node, gone: &Node) {
    for (element, theirs) in gone {
        let Value::Object(theirs) = theirs else { continue };
        let Some(Value::Object(ours)) = from.get_mut(element) else { continue };
        let stays = is_member(ours) && !is_member(theirs);
        ours.shift_remove(SELF);
        subtract(ours, theirs);
        match (stays, ours.is_empty()) {
            (true, false) => {
                ours.insert(SELF.to_owned(), marker());
            }
            (true, true) | (false, false) => {}
            (false, true) => {
                from.shift_remove(element);
            }
        }
    }
}

fn intersect(a: &Node, b: &Node) -> Node {
    let mut common = Node::new();
    for (element, ours) in a.iter().filter(|(element, _)| *element != SELF) {
        let (Value::Object(ours), Some(Value::Object(theirs))) = (ours, b.get(element)) else { continue };
        let mut inner = intersect(ours, theirs);
        if is_member(ours) && is_member(theirs) {
            inner.insert(SELF.to_owned(), marker());
        }
        if !inner.is_empty() {
            insert(&mut common, element.clone(), inner);
        }
    }
    common
}

fn remove_tree(node: &mut Node, path: &[&str]) {
    let [first, rest @ ..] = path else { return };
    let element = format!("f:{first}");
    if rest.is_empty() {
        node.shift_remove(&element);
        return;
    }
    let Some(Value::Object(child)) = node.get_mut(&element) else { return };
    if child.is_empty() {
        return;
    }
    remove_tree(child, rest);
    collapse(child);
    if child.is_empty() && rest.len() == 1 {
        node.shift_remove(&element);
    }
}

fn print(node: &Node, path: &mut String, found: &mut Vec<String>) {
    for (element, child) in node.iter().filter(|(element, _)| *element != SELF) {
        let Value::Object(child) = child else { continue };
        let length = path.len();
        path.push_str(&element_text(element));
        if is_member(child) {
            found.push(path.clone());
        }
        print(child, path, found);
        path.truncate(length);
    }
}

/// One element of a path as Kubernetes prints it.
fn element_text(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("v", value)) => format!("[={value}]"),
        Some(("i", index)) => format!("[{index}]"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let pairs: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", pairs.join(","))
        }
        _ => format!(".{element}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(value: Value) -> FieldSet {
        FieldSet::from_value(value)
    }

    #[test]
    fn members_with_and_without_children() {
        let mut a = set(json!({"f:m": {".": {}, "f:x": {}}, "f:s": {"f:y": {}}}));
        assert_eq!(a.paths(), [".m", ".m.x", ".s.y"]);
        a.subtract(&set(json!({"f:m": {"f:x": {}}})));
        assert_eq!(a.clone().into_value(), json!({"f:m": {}, "f:s": {"f:y": {}}}));
        a.union(&set(json!({"f:m": {"f:z": {}}, "f:s": {}})));
        assert_eq!(a.clone().into_value(), json!({"f:m": {".": {}, "f:z": {}}, "f:s": {".": {}, "f:y": {}}}));
        a.subtract(&set(json!({"f:m": {}, "f:s": {"f:y": {}}})));
        assert_eq!(a.clone().into_value(), json!({"f:m": {"f:z": {}}, "f:s": {}}));
        a.remove_tree(&["m", "z"]);
        assert_eq!(a.into_value(), json!({"f:s": {}}));
    }

    #[test]
    fn paths_are_printed_as_kubernetes_prints_them() {
        let fields = json!({"f:spec": {"f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {"f:name": {}}},
            "f:finalizers": {"v:\"x\"": {}}}});
        let paths = set(fields).paths();
        assert_eq!(paths, [".spec.ports[containerPort=80,protocol=\"TCP\"].name", ".spec.finalizers[=\"x\"]"]);
    }

    fn sets() -> impl Strategy<Value = FieldSet> {
        let leaf = Just(json!({}));
        let tree = leaf.prop_recursive(3, 24, 4, |inner| {
            prop::collection::btree_map(prop_oneof!["f:[ab]", Just("k:{\"n\":1}".to_owned())], inner, 1..4)
                .prop_flat_map(|map| {
                    let with_self = map.clone();
                    prop_oneof![
                        Just(map.into_iter().collect::<Value>()),
                        Just(with_self.into_iter().chain([(".".to_owned(), json!({}))]).collect::<Value>()),
                    ]
                })
        });
        prop::collection::btree_map("f:[abc]", tree, 0..4).prop_map(|map| set(map.into_iter().collect()))
    }

    fn same(a: &FieldSet, b: &FieldSet) -> bool {
        a.clone().into_value() == b.clone().into_value()
    }

    proptest! {
        #[test]
        fn the_laws_of_sets(a in sets(), b in sets(), c in sets()) {
            let or = |x: &FieldSet, y: &FieldSet| { let mut out = x.clone(); out.union(y); out };
            let minus = |x: &FieldSet, y: &FieldSet| { let mut out = x.clone(); out.subtract(y); out };
            prop_assert!(same(&or(&a, &b), &or(&b, &a)));
            prop_assert!(same(&or(&or(&a, &b), &c), &or(&a, &or(&b, &c))));
            prop_assert!(same(&or(&a, &a), &a));
            prop_assert!(minus(&a, &a).is_empty());
            prop_assert!(same(&a.intersection(&b), &b.intersection(&a)));
            prop_assert!(same(&a.intersection(&b), &minus(&a, &minus(&a, &b))));
            prop_assert!(same(&or(&minus(&a, &b), &a.intersection(&b)), &a));
            prop_assert!(same(&minus(&or(&a, &b), &b), &minus(&a, &b)));
            let (mut left, mut right) = (or(&a, &b).paths(), [a.paths(), b.paths()].concat());
            left.sort();
            right.sort();
            right.dedup();
            prop_assert_eq!(left, right);
        }
    }
}
