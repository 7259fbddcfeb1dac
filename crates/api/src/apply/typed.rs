//! Walks of a value along its schema: which fields it has, how two values differ, merging, removing.
//!
//! How a node is owned follows from its schema: scalars and atomic lists and maps as one, granular maps key by key,
//! sets value by value, keyed lists element by element (a missing key takes its default, as a port's protocol does).
//! Source: the rules of server-side apply (structured merge and diff).

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::fields::{self, FieldSet, SELF};
use crate::schema::{ANY, Fields, List, Rest, Schema, Shape};

type Object = Map<String, Value>;
type Node = Map<String, Value>;

/// How a node is owned.
pub(super) enum Form<'s> {
    Leaf,
    /// The named fields, when the schema declares any.
    Map(Option<&'s Fields>),
    Set,
    Keyed(&'s [String], &'s Schema),
}

/// The form of a node of this schema that holds this value.
pub(super) fn form<'s>(schema: &'s Schema, value: &Value) -> Form<'s> {
    match (&schema.resolved().shape, value) {
        (Shape::Object(_) | Shape::Any, _) if schema.is_atomic_map() => Form::Leaf,
        (Shape::Object(fields), Value::Object(_)) => Form::Map(Some(fields)),
        // Of unknown shape: maps are owned key by key, all else as one.
        (Shape::Any, Value::Object(_)) => Form::Map(None),
        (Shape::Array(items), Value::Array(_)) => match &schema.list {
            List::Atomic => Form::Leaf,
            List::Set => Form::Set,
            List::Map(keys) => Form::Keyed(keys, items),
        },
        _ => Form::Leaf,
    }
}

/// The schema of a map's member, and whether it is declared as a field (and not just a key).
pub(super) fn member<'s>(fields: Option<&'s Fields>, name: &str) -> (&'s Schema, bool) {
    let Some(fields) = fields else {
        return (&ANY, false);
    };
    match fields.named.binary_search_by(|(field, _)| field.as_str().cmp(name)) {
        Ok(index) => (&fields.named[index].1, true),
        Err(_) => match &fields.rest {
            Rest::Map(values) => (values, false),
            Rest::Closed | Rest::Keep => (&ANY, false),
        },
    }
}

/// `k:{"containerPort":80,"protocol":"TCP"}`; `None` when a key is missing and has no default.
pub(super) fn keyed_element(item: &Value, keys: &[String], items: &Schema) -> Option<String> {
    let item = item.as_object()?;
    let mut pairs: Vec<(&str, Cow<Value>)> = Vec::with_capacity(keys.len());
    for key in keys {
        let value = match item.get(key).filter(|value| !value.is_null()) {
            Some(value) => Cow::Borrowed(value),
            None => Cow::Owned(items.field(key)?.default.clone()?),
        };
        pairs.push((key, value));
    }
    pairs.sort_by_key(|(key, _)| *key);
    let mut text = String::from("k:{");
    for (index, (key, value)) in pairs.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        text.push_str(comma);
        text.push('"');
        text.push_str(key);
        text.push_str("\":");
        text.push_str(&value.to_string());
    }
    text.push('}');
    Some(text)
}

/// The path elements of a list's items; an item without its keys is named by its place.
pub(super) fn elements(form: &Form, list: &[Value]) -> Vec<String> {
    let name = |(index, item): (usize, &Value)| match form {
        Form::Keyed(keys, items) => keyed_element(item, keys, items).unwrap_or_else(|| format!("i:{index}")),
        _ => format!("v:{item}"),
    };
    list.iter().enumerate().map(name).collect()
}

fn items_of<'s>(form: &Form<'s>) -> &'s Schema {
    match form {
        Form::Keyed(_, items) => items,
        _ => &ANY,
    }
}

/// The fields that a configuration sets, as an applier owns them.
pub(super) fn fields_of(schema: &Schema, value: &Value) -> FieldSet {
    let mut node = Node::new();
    if !matches!(form(schema, value), Form::Leaf) {
        add_fields(schema, value, &mut node);
    }
    FieldSet(node)
}

/// Adds what is below a value; returns true when the value is a leaf.
fn add_fields(schema: &Schema, value: &Value, node: &mut Node) -> bool {
    let form = form(schema, value);
    match (&form, value) {
        (Form::Map(declared), Value::Object(map)) => {
            for (name, child) in map {
                let (child_schema, is_field) = member(*declared, name);
                let mut inner = Node::new();
                let is_leaf = add_fields(child_schema, child, &mut inner);
                let is_empty_map = child.as_object().is_some_and(Map::is_empty);
                if is_leaf || is_empty_map || !is_field {
                    inner.insert(SELF.to_owned(), Value::Object(Map::new()));
                }
                if !inner.is_empty() {
                    fields::insert(node, format!("f:{name}"), inner);
                }
            }
            false
        }
        (Form::Set | Form::Keyed(..), Value::Array(list)) => {
            for (element, item) in elements(&form, list).into_iter().zip(list) {
                let mut inner = Node::new();
                add_fields(items_of(&form), item, &mut inner);
                inner.insert(SELF.to_owned(), Value::Object(Map::new()));
                fields::insert(node, element, inner);
            }
            false
        }
        _ => true,
    }
}

/// What changed between two values.
#[derive(Default)]
pub(super) struct Difference {
    /// Added or modified.
    pub changed: FieldSet,
    pub removed: FieldSet,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// The fields of `new` that differ from `old`, and those of `old` that are gone.
pub(super) fn compare(schema: &Schema, old: &Object, new: &Object) -> Difference {
    let fields = match &schema.resolved().shape {
        Shape::Object(fields) => Some(fields),
        _ => None,
    };
    let mut difference = Difference::default();
    let (changed, removed) = (&mut difference.changed.0, &mut difference.removed.0);
    compare_maps(fields, Some(old), Some(new), changed, removed);
    difference
}

fn compare_maps(
    declared: Option<&Fields>,
    old: Option<&Object>,
    new: Option<&Object>,
    changed: &mut Node,
    removed: &mut Node,
) {
    for (name, after) in new.into_iter().flatten() {
        let before = old.and_then(|old| old.get(name));
        let (schema, _) = member(declared, name);
        compare_values(schema, before, Some(after), || format!("f:{name}"), changed, removed);
    }
    for (name, before) in old.into_iter().flatten() {
        if new.is_none_or(|new| !new.contains_key(name)) {
            let (schema, _) = member(declared, name);
            compare_values(schema, Some(before), None, || format!("f:{name}"), changed, removed);
        }
    }
}

fn compare_values(
    schema: &Schema,
    old: Option<&Value>,
    new: Option<&Value>,
    element: impl Fn() -> String,
    changed: &mut Node,
    removed: &mut Node,
) {
    let Some(shown) = new.or(old) else { return };
    let form = form(schema, shown);
    let is_same_form = match (&form, old, new) {
        (Form::Leaf, _, _) => false,
        (_, Some(old), Some(new)) => old.is_object() == new.is_object() && old.is_array() == new.is_array(),
        _ => true,
    };
    let are_empty = is_empty(old) && is_empty(new);
    if !is_same_form || are_empty {
        match (old, new) {
            (Some(_), None) => fields::insert_leaf(removed, element()),
            (old, Some(new)) if old != Some(new) => fields::insert_leaf(changed, element()),
            _ => {}
        }
        return;
    }
    let (mut inner_changed, mut inner_removed) = (Node::new(), Node::new());
    match &form {
        Form::Map(declared) => {
            let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            compare_maps(*declared, old, new, &mut inner_changed, &mut inner_removed);
        }
        _ => {
            let (old, new) = (old.and_then(Value::as_array), new.and_then(Value::as_array));
            compare_lists(&form, list(old), list(new), &mut inner_changed, &mut inner_removed);
        }
    }
    if old.is_none() {
        inner_changed.insert(SELF.to_owned(), Value::Object(Map::new()));
    }
    if new.is_none() {
        inner_removed.insert(SELF.to_owned(), Value::Object(Map::new()));
    }
    if !inner_changed.is_empty() {
        fields::insert(changed, element(), inner_changed);
    }
    if !inner_removed.is_empty() {
        fields::insert(removed, element(), inner_removed);
    }
}

fn list(list: Option<&Vec<Value>>) -> &[Value] {
    list.map_or(&[], Vec::as_slice)
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

fn compare_lists(form: &Form, old: &[Value], new: &[Value], changed: &mut Node, removed: &mut Node) {
    if old == new {
        return;
    }
    let (old_names, new_names) = (elements(form, old), elements(form, new));
    let find = |names: &[String], list: &'_ [Value], name: &str| -> Option<usize> {
        names.iter().position(|one| one == name).filter(|at| *at < list.len())
    };
    for (name, item) in new_names.iter().zip(new) {
        let before = find(&old_names, old, name).map(|at| &old[at]);
        compare_values(items_of(form), before, Some(item), || name.clone(), changed, removed);
    }
    for (name, item) in old_names.iter().zip(old) {
        if find(&new_names, new, name).is_none() {
            compare_values(items_of(form), Some(item), None, || name.clone(), changed, removed);
        }
    }
}

/// The live value with the configuration laid over it. A null clears what is owned as one; of what is owned in parts it says nothing.
pub(super) fn merge(schema: &Schema, live: Value, config: &Value) -> Value {
    if config.is_null() && !matches!(form(schema, &live), Form::Leaf) {
        return live;
    }
    let form = form(schema, config);
    match (&form, live, config) {
        (Form::Map(declared), Value::Object(mut live), Value::Object(config)) => {
            for (name, value) in config {
                let merged = match live.get_mut(name).map(Value::take) {
                    Some(old) => merge(member(*declared, name).0, old, value),
                    None => value.clone(),
                };
                live.insert(name.clone(), merged);
            }
            Value::Object(live)
        }
        (Form::Set | Form::Keyed(..), Value::Array(live), Value::Array(config)) => {
            Value::Array(merge_lists(&form, live, config))
        }
        _ => config.clone(),
    }
}

/// The configuration's elements in its order; elements of the live list alone stay before the element they stood
/// before.
fn merge_lists(form: &Form, live: Vec<Value>, config: &[Value]) -> Vec<Value> {
    let names = elements(form, config);
    let mut live: Vec<(String, Option<Value>)> =
        elements(form, &live).into_iter().zip(live.into_iter().map(Some)).collect();
    let mut merged = Vec::with_capacity(names.len() + live.len());
    let mut next_live = 0;
    for (name, item) in names.iter().zip(config) {
        while let Some((live_name, value)) = live.get_mut(next_live) {
            if names.contains(live_name) {
                break;
            }
            merged.extend(value.take());
            next_live += 1;
        }
        let matching = live.iter_mut().position(|(live_name, value)| live_name == name && value.is_some());
        match matching.and_then(|at| live[at].1.take()) {
            Some(old) => merged.push(merge(items_of(form), old, item)),
            None => merged.push(item.clone()),
        }
        while live.get(next_live).is_some_and(|(_, value)| value.is_none()) {
            next_live += 1;
        }
    }
    merged.extend(live.into_iter().filter(|(name, _)| !names.contains(name)).filter_map(|(_, value)| value));
    merged
}

/// Brings back the nulls of what was sent, which decoding has dropped: who applies one owns the field.
pub(super) fn restore_nulls(sent: &Value, decoded: &mut Value) {
    match (sent, decoded) {
        (Value::Object(sent), Value::Object(decoded)) => {
            for (name, value) in sent {
                match decoded.get_mut(name) {
                    Some(inner) => restore_nulls(value, inner),
                    None if has_nulls(value) => {
                        let mut inner = if value.is_null() { Value::Null } else { Value::Object(Map::new()) };
                        restore_nulls(value, &mut inner);
                        decoded.insert(name.clone(), inner);
                    }
                    None => {}
                }
            }
        }
        (Value::Array(sent), Value::Array(decoded)) if sent.len() == decoded.len() => {
            sent.iter().zip(decoded).for_each(|(sent, decoded)| restore_nulls(sent, decoded));
        }
        _ => {}
    }
}

/// Whether an object has nulls in it or in objects below.
fn has_nulls(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(|map| map.values().any(has_nulls))
}

/// Takes out nulls where there was nothing before: they change nothing.
pub(super) fn drop_idle_nulls(schema: &Schema, live: Option<&Value>, merged: &mut Value) {
    let form = form(schema, merged);
    match (&form, merged) {
        (Form::Map(declared), Value::Object(map)) => map.retain(|name, child| {
            let before = live.and_then(|live| live.get(name)).filter(|before| !before.is_null());
            if child.is_null() && before.is_none() {
                return false;
            }
            let was_empty = is_empty(Some(child));
            drop_idle_nulls(member(*declared, name).0, before, child);
            was_empty || before.is_some() || !is_empty(Some(child))
        }),
        (Form::Keyed(..), Value::Array(items)) => {
            let live = live.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let (names, before) = (elements(&form, items), elements(&form, live));
            for (name, item) in names.iter().zip(items) {
                let before = before.iter().position(|one| one == name).map(|at| &live[at]);
                drop_idle_nulls(items_of(&form), before, item);
            }
        }
        _ => {}
    }
}

/// Takes the members of `gone` out of a value, each with all below it.
pub(super) fn remove(schema: &Schema, value: &mut Value, gone: &FieldSet) {
    remove_members(schema, value, &gone.0);
}

fn remove_members(schema: &Schema, value: &mut Value, gone: &Node) {
    let form = form(schema, value);
    match (&form, value) {
        (Form::Map(declared), Value::Object(map)) => {
            map.retain(|name, child| {
                let Some(Value::Object(inner)) = gone.get(&format!("f:{name}")) else { return true };
                !fields::is_member(inner) && keeps(member(*declared, name).0, child, inner)
            });
        }
        (Form::Set | Form::Keyed(..), Value::Array(list)) => {
            let mut names = elements(&form, list).into_iter();
            list.retain_mut(|item| {
                let name = names.next().unwrap_or_default();
                let Some(Value::Object(inner)) = gone.get(&name) else { return true };
                !fields::is_member(inner) && keeps(items_of(&form), item, inner)
            });
        }
        _ => {}
    }
}

/// Removes below a child; a container that this empties goes too.
fn keeps(schema: &Schema, child: &mut Value, gone: &Node) -> bool {
    let was_empty = is_empty(Some(child));
    remove_members(schema, child, gone);
    was_empty || !is_empty(Some(child))
}

/// The set with every declared field on the way to a member made a member too.
pub(super) fn with_named_fields(schema: &Schema, set: &FieldSet) -> FieldSet {
    let mut named = set.clone();
    name_fields(schema, &mut named.0);
    named
}

fn name_fields(schema: &Schema, node: &mut Node) {
    let resolved = schema.resolved();
    for (element, child) in node.iter_mut().filter(|(element, _)| *element != SELF) {
        let Value::Object(child) = child else { continue };
        let (inner, is_field) = match (element.strip_prefix("f:"), &resolved.shape) {
            (Some(name), Shape::Object(fields)) => member(Some(fields), name),
            (None, Shape::Array(items)) => (items.as_ref(), false),
            _ => (&ANY, false),
        };
        name_fields(inner, child);
        if is_field && !child.is_empty() {
            child.insert(SELF.to_owned(), Value::Object(Map::new()));
        }
    }
}

/// Why a configuration does not fit the schema: one text a mistake, `.spec.foo: field not declared in schema`.
pub(super) fn mistakes(schema: &Schema, config: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, config, &mut String::new(), &mut found);
    found
}

fn check(schema: &Schema, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    let wanted = match (&schema.resolved().shape, value) {
        (_, Value::Null) | (Shape::Any, _) => return,
        (Shape::Object(fields), Value::Object(map)) => {
            for (name, child) in map {
                path.push('.');
                path.push_str(name);
                match (fields.get(name), &fields.rest) {
                    (Some(inner), _) => check(inner, child, path, found),
                    (None, Rest::Keep) => {}
                    (None, _) => found.push(format!("{path}: field not declared in schema")),
                }
                path.truncate(length);
            }
            return;
        }
        (Shape::Array(items), Value::Array(list)) => {
            check_elements(schema, items, list, path, found);
            for (index, item) in list.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                check(items, item, path, found);
                path.truncate(length);
            }
            return;
        }
        (Shape::Object(_), _) => "map",
        (Shape::Array(_), _) => "list",
        (Shape::Int32 | Shape::Int64 | Shape::Number, Value::Number(_)) => return,
        (Shape::Int32 | Shape::Int64 | Shape::Number, _) => "numeric (int or float)",
        (Shape::Boolean, Value::Bool(_)) => return,
        (Shape::Boolean, _) => "boolean",
        (Shape::Quantity | Shape::IntOrString, Value::String(_) | Value::Number(_)) => return,
        (_, Value::String(_)) => return,
        _ => "string",
    };
    found.push(format!("{path}: expected {wanted}, got {value}"));
}

fn check_elements(schema: &Schema, items: &Schema, list: &[Value], path: &str, found: &mut Vec<String>) {
    let mut seen: Vec<String> = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        let element = match &schema.list {
            List::Atomic => return,
            List::Set => Some(format!("v:{item}")),
            List::Map(keys) => {
                let element = keyed_element(item, keys, items);
                if element.is_none() {
                    let has_no_default = |key: &&String| items.field(key).is_none_or(|field| field.default.is_none());
                    let missing = keys.iter().filter(has_no_default).find(|key| item.get(key.as_str()).is_none());
                    let missing = missing.map_or("", String::as_str);
                    found.push(format!(
                        "{path}: element {index}: associative list with keys has an element that omits key field \
                         {missing:?} (and doesn't have default value)"
                    ));
                }
                element
            }
        };
        let Some(element) = element else { continue };
        if seen.contains(&element) {
            let mut one = FieldSet::default();
            fields::insert_leaf(&mut one.0, element);
            found.push(format!("{path}: duplicate entries for key {}", one.paths().concat()));
            continue;
        }
        seen.push(element);
    }
}
