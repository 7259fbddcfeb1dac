//! The values of a custom resource against its schema: every mistake at once, in Kubernetes' words.

use serde_json::Value;

use super::formats::has_format;
use super::{Fields, List, Rest, Rules, Schema, Shape, type_of};
use crate::status::{Errors, FieldErrorKind, FieldPath};

/// What every whole object has.
const OBJECT_FIELDS: &[&str] = &["apiVersion", "kind", "metadata"];

impl Schema {
    /// Checks types, rules and list keys below `at` (empty for a whole object).
    pub fn validate(&self, value: &Value, at: &FieldPath, errors: &mut Errors) {
        self.validate_change(value, None, at, errors);
    }

    /// The same for a change: what is as it was is not checked again (ratcheting).
    pub fn validate_change(&self, value: &Value, old: Option<&Value>, at: &FieldPath, errors: &mut Errors) {
        if value.is_null() && self.nullable || old == Some(value) {
            return;
        }
        if !has_right_type(&self.shape, value) {
            let wanted = self.rules.as_ref().map_or("", |rules| rules.type_name.as_str());
            let wanted = if wanted.is_empty() { shape_name(&self.shape) } else { wanted };
            let found = type_of(value);
            let detail = format!("{} must be of type {wanted}: \"{found}\"", in_body(at));
            errors.push(FieldErrorKind::TypeInvalid, at, found, detail);
            return;
        }
        if let Some(rules) = &self.rules {
            rules.check(value, at, errors);
        }
        match (&self.shape, value) {
            (Shape::Object(fields), Value::Object(_)) => self.check_members(fields, value, old, at, errors),
            (Shape::Array(items), Value::Array(list)) => {
                for (index, item) in list.iter().enumerate() {
                    let old = old.and_then(|old| self.same_element(item, old));
                    items.validate_change(item, old, &at.index(index), errors);
                }
            }
            _ if self.rules.is_some() => self.check_required(value, at, errors),
            _ => {}
        }
    }

    /// Checks that elements of sets, and keys of lists of maps, do not repeat.
    pub fn validate_lists(&self, value: &Value, at: &FieldPath, errors: &mut Errors) {
        match (&self.shape, value) {
            (Shape::Array(items), Value::Array(list)) => {
                check_list_keys(&self.list, items, list, at, errors);
                for (index, item) in list.iter().enumerate() {
                    items.validate_lists(item, &at.index(index), errors);
                }
            }
            (Shape::Object(fields), Value::Object(map)) => {
                for (name, member) in map {
                    let known = fields.named.binary_search_by(|(field, _)| field.as_str().cmp(name));
                    match (known, &fields.rest) {
                        (Ok(index), _) => fields.named[index].1.validate_lists(member, &at.child(name), errors),
                        (Err(_), Rest::Map(values)) => values.validate_lists(member, &at.key(name), errors),
                        (Err(_), Rest::Closed | Rest::Keep) => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// The element of an older list that has the same keys: only lists of maps by key tell elements apart.
    pub fn same_element<'v>(&self, element: &Value, old: &'v Value) -> Option<&'v Value> {
        let List::Map(keys) = &self.list else { return None };
        let items = self.items()?;
        let key_of = |element: &Value, key: &String| {
            let default = || items.field(key).and_then(|field| field.default.clone());
            element.get(key).cloned().or_else(default)
        };
        let is_same = |other: &&Value| keys.iter().all(|key| key_of(element, key) == key_of(other, key));
        old.as_array()?.iter().find(is_same)
    }

    fn check_members(&self, fields: &Fields, value: &Value, old: Option<&Value>, at: &FieldPath, errors: &mut Errors) {
        self.check_required(value, at, errors);
        for (name, member) in value.as_object().into_iter().flatten() {
            let known = fields.named.binary_search_by(|(field, _)| field.as_str().cmp(name));
            let old = old.and_then(|old| old.get(name));
            match (known, &fields.rest) {
                // Decoding has checked their types.
                (Ok(index), _) if self.embedded && OBJECT_FIELDS.contains(&name.as_str()) => {
                    if let Some(declared) = &fields.named[index].1.declared {
                        declared.validate_change(member, old, &at.child(name), errors);
                    }
                }
                (Ok(index), _) => fields.named[index].1.validate_change(member, old, &at.child(name), errors),
                (Err(_), Rest::Map(values)) => values.validate_change(member, old, &at.child(name), errors),
                (Err(_), Rest::Closed | Rest::Keep) => {}
            }
        }
    }

    fn check_required(&self, value: &Value, at: &FieldPath, errors: &mut Errors) {
        let Some(map) = value.as_object() else {
            return;
        };
        for name in self.required.iter().filter(|name| !map.contains_key(*name)) {
            errors.required(&at.child(name), "");
        }
    }

    fn holds(&self, value: &Value) -> bool {
        let mut errors = Errors::default();
        self.validate(value, &FieldPath::default(), &mut errors);
        errors.is_empty()
    }
}

/// `spec.replicas in body`, as the messages start.
fn in_body(at: &FieldPath) -> String {
    let path = at.to_string();
    if path.is_empty() { "in body".into() } else { format!("{path} in body") }
}

fn has_right_type(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Any | Shape::Ref(_) => true,
        Shape::String | Shape::Bytes | Shape::Time | Shape::MicroTime => value.is_string(),
        Shape::Quantity => value.is_string() || value.is_number(),
        Shape::IntOrString => value.is_string() || is_whole(value),
        Shape::Int32 | Shape::Int64 => is_whole(value),
        Shape::Number => value.is_number(),
        Shape::Boolean => value.is_boolean(),
        Shape::Object(_) => value.is_object(),
        Shape::Array(_) => value.is_array(),
    }
}

/// JSON has one kind of number: 1.0 is an integer too.
fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn shape_name(shape: &Shape) -> &'static str {
    match shape {
        Shape::IntOrString => "integer,string",
        Shape::Int32 | Shape::Int64 => "integer",
        Shape::Number => "number",
        Shape::Boolean => "boolean",
        Shape::Object(_) => "object",
        Shape::Array(_) => "array",
        _ => "string",
    }
}

/// Elements of a set, and the keys of a map's elements, may not repeat.
fn check_list_keys(kind: &List, items: &Schema, list: &[Value], at: &FieldPath, errors: &mut Errors) {
    let identity = |item: &Value| -> Value {
        match kind {
            List::Map(keys) => {
                let default = |key: &String| items.field(key).and_then(|field| field.default.clone());
                let pairs = keys.iter().filter_map(|key| {
                    item.get(key).cloned().or_else(|| default(key)).map(|value| (key.clone(), value))
                });
                Value::Object(pairs.collect())
            }
            List::Atomic | List::Set => item.clone(),
        }
    };
    if *kind == List::Atomic {
        return;
    }
    let mut seen: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let identity = identity(item);
        if !seen.insert(identity.to_string()) {
            errors.duplicate(&at.index(index), identity);
        }
    }
}

impl Rules {
    fn check(&self, value: &Value, at: &FieldPath, errors: &mut Errors) {
        match value {
            Value::String(text) => self.check_text(text, at, errors),
            Value::Number(_) => self.check_number(value, at, errors),
            Value::Array(list) => {
                let size = (list.len() as u64, self.min_items, self.max_items);
                check_size(size, "items", value, at, errors);
            }
            Value::Object(map) => {
                let size = (map.len() as u64, self.min_properties, self.max_properties);
                check_size(size, "properties", value, at, errors);
            }
            Value::Null | Value::Bool(_) => {}
        }
        if !self.options.is_empty() && !self.options.contains(value) {
            let options: Vec<String> = self.options.iter().map(plain).collect();
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            errors.not_supported(at, value.clone(), &options);
        }
        self.check_branches(value, at, errors);
    }

    fn check_text(&self, text: &str, at: &FieldPath, errors: &mut Errors) {
        let length = text.chars().count() as u64;
        if let Some(limit) = self.max_length.filter(|limit| length > *limit) {
            errors.too_long(at, limit as usize);
        }
        if let Some(limit) = self.min_length.filter(|limit| length < *limit) {
            errors.invalid(at, text, format!("{} should be at least {limit} chars long", in_body(at)));
        }
        if let Some((source, pattern)) = &self.pattern
            && !pattern.is_match(text)
        {
            errors.invalid(at, text, format!("{} should match '{source}'", in_body(at)));
        }
        if !has_format(&self.format, text) {
            errors.invalid(at, text, format!("{} must be of type {}: {text:?}", in_body(at), self.format));
        }
    }

    fn check_number(&self, value: &Value, at: &FieldPath, errors: &mut Errors) {
        let Some(number) = value.as_f64() else {
            return;
        };
        let mut refuse = |rule: String| errors.invalid(at, value.clone(), format!("{} should be {rule}", in_body(at)));
        if let Some(limit) = self.minimum
            && (number < limit || self.exclusive_minimum && number == limit)
        {
            let or_equal = if self.exclusive_minimum { "" } else { " or equal to" };
            refuse(format!("greater than{or_equal} {limit}"));
        }
        if let Some(limit) = self.maximum
            && (number > limit || self.exclusive_maximum && number == limit)
        {
            let or_equal = if self.exclusive_maximum { "" } else { " or equal to" };
            refuse(format!("less than{or_equal} {limit}"));
        }
        if let Some(step) = self.multiple_of
            && (number / step).fract() != 0.0
        {
            refuse(format!("a multiple of {step}"));
        }
        let range = match self.format.as_str() {
            "int32" => i32::MIN as f64..=i32::MAX as f64,
            "int64" => i64::MIN as f64..=i64::MAX as f64,
            _ => f64::NEG_INFINITY..=f64::INFINITY,
        };
        if !range.contains(&number) {
            errors.invalid(at, value.clone(), format!("{} must be of type {}: {value:?}", in_body(at), self.format));
        }
    }

    fn check_branches(&self, value: &Value, at: &FieldPath, errors: &mut Errors) {
        let mut refuse = |rule: &str| errors.invalid(at, "", format!("\"{at}\" must {rule}"));
        if !self.all_of.iter().all(|branch| branch.holds(value)) {
            refuse("validate all the schemas (allOf)");
        }
        if !self.any_of.is_empty() && !self.any_of.iter().any(|branch| branch.holds(value)) {
            refuse("validate at least one schema (anyOf)");
        }
        if !self.one_of.is_empty() {
            match self.one_of.iter().filter(|branch| branch.holds(value)).count() {
                1 => {}
                0 => refuse("validate one and only one schema (oneOf). Found none valid"),
                found => refuse(&format!("validate one and only one schema (oneOf). Found {found} valid alternatives")),
            }
        }
        if self.not.as_ref().is_some_and(|branch| branch.holds(value)) {
            refuse("not validate the schema (not)");
        }
    }
}

fn check_size(
    (count, min, max): (u64, Option<u64>, Option<u64>),
    what: &str,
    value: &Value,
    at: &FieldPath,
    errors: &mut Errors,
) {
    if let Some(limit) = min.filter(|limit| count < *limit) {
        errors.invalid(at, value.clone(), format!("{} should have at least {limit} {what}", in_body(at)));
    }
    if let Some(limit) = max.filter(|limit| count > *limit) {
        errors.too_many(at, count as usize, limit as usize);
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Validates `spec` of a custom resource and prints the errors, one a line.
    fn check(spec_schema: Value, spec: Value, expected: &[&str]) {
        let open_api = json!({"type": "object", "properties": {"spec": spec_schema}});
        let schema = Schema::from_crd(&open_api, false).expect("a schema");
        let mut errors = Errors::default();
        let value = json!({"metadata": {}, "spec": spec});
        schema.validate(&value, &FieldPath::default(), &mut errors);
        schema.validate_lists(&value, &FieldPath::default(), &mut errors);
        let found: Vec<String> = errors.0.iter().map(|error| error.to_string()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn rules_are_told_in_kubernetes_words() {
        let schema = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "pattern": "^x+$", "maxLength": 3}, "b": {"type": "integer", "minimum": 1, "maximum": 10},
            "c": {"type": "string", "enum": ["p", "q"]}, "d": {"type": "string", "format": "date-time"},
            "e": {"x-kubernetes-int-or-string": true}, "n": {"type": "string", "nullable": true},
            "l": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}, "x-kubernetes-list-type": "set"}}});
        check(
            schema.clone(),
            json!({"a": "xx", "b": 2, "c": "p", "d": "2024-01-01T00:00:00Z", "e": "5%", "n": null, "l": ["a"]}),
            &[],
        );
        check(
            schema.clone(),
            json!({"b": 15, "c": "z", "d": "x", "e": true, "l": []}),
            &[
                "spec.a: Required value",
                "spec.b: Invalid value: 15: spec.b in body should be less than or equal to 10",
                "spec.c: Unsupported value: \"z\": supported values: \"p\", \"q\"",
                "spec.d: Invalid value: \"x\": spec.d in body must be of type date-time: \"x\"",
                "spec.e: Invalid value: \"boolean\": spec.e in body must be of type integer,string: \"boolean\"",
                "spec.l: Invalid value: []: spec.l in body should have at least 1 items",
            ],
        );
        check(
            schema,
            json!({"a": "yyyy", "b": "1", "l": ["a", "b", "a"]}),
            &[
                "spec.a: Too long: may not be more than 3 bytes",
                "spec.a: Invalid value: \"yyyy\": spec.a in body should match '^x+$'",
                "spec.b: Invalid value: \"string\": spec.b in body must be of type integer: \"string\"",
                "spec.l: Too many: 3: must have at most 2 items",
                "spec.l[2]: Duplicate value: \"a\"",
            ],
        );
    }

    #[test]
    fn branches_and_map_keys() {
        let one_of = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
        check(one_of.clone(), json!({"a": "1"}), &[]);
        check(
            one_of,
            json!({}),
            &["spec: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found none valid"],
        );
        let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n", "p"],
            "items": {"type": "object", "properties": {"n": {"type": "integer"}, "p": {"type": "string", "default": "T"}}}});
        check(map, json!([{"n": 1}, {"n": 1, "p": "T"}]), &["spec[1]: Duplicate value: {\"n\":1,\"p\":\"T\"}"]);
    }
}
