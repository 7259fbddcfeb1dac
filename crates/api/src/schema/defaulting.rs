//! Defaults of custom resources.
//!
//! A missing member with a default gets it; a null that may not be null counts as missing, and goes when there is no
//! default. Built-in kinds have their defaults in code (crate `kinds`), not here.

use serde_json::Value;

use super::{Rest, Schema, Shape};

impl Schema {
    pub fn apply_defaults(&self, value: &mut Value) {
        match (&self.shape, value) {
            (Shape::Object(fields), Value::Object(map)) => {
                for (name, field) in &fields.named {
                    let field = field.declared.as_deref().unwrap_or(field);
                    if map.get(name).is_some_and(Value::is_null) && !may_be_null(field) {
                        map.shift_remove(name);
                    }
                    if let Some(default) = &field.default
                        && !map.contains_key(name)
                    {
                        map.insert(name.clone(), default.clone());
                    }
                    if let Some(member) = map.get_mut(name) {
                        field.apply_defaults(member);
                    }
                }
                if let Rest::Map(values) = &fields.rest {
                    for (_, member) in map.iter_mut().filter(|(name, _)| !is_named(fields, name)) {
                        fill(values, member);
                    }
                }
            }
            (Shape::Array(items), Value::Array(list)) => list.iter_mut().for_each(|item| fill(items, item)),
            _ => {}
        }
    }
}

fn is_named(fields: &super::Fields, name: &str) -> bool {
    fields.named.binary_search_by(|(field, _)| field.as_str().cmp(name)).is_ok()
}

fn may_be_null(schema: &Schema) -> bool {
    schema.nullable || matches!(schema.shape, Shape::Any | Shape::Ref(_))
}

fn fill(schema: &Schema, value: &mut Value) {
    if let Some(default) = &schema.default
        && value.is_null()
        && !may_be_null(schema)
    {
        *value = default.clone();
    }
    schema.apply_defaults(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_inside_are_filled_in_as_declared() {
        let one = json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
            "apiVersion": {"type": "string", "default": "a/v1"}, "kind": {"type": "string", "default": "A"},
            "metadata": {"type": "object", "default": {}, "properties": {"name": {"type": "string", "default": "n"}}}}});
        let schema = Schema::from_crd(&json!({"type": "object", "properties": {"one": one}}), false).expect("a schema");
        let mut value = json!({"one": {}});
        schema.apply_defaults(&mut value);
        assert_eq!(value, json!({"one": {"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "n"}}}));
    }

    #[test]
    fn missing_and_null_members_get_their_default() {
        let open_api = json!({"type": "object", "properties": {"spec": {"type": "object", "default": {}, "properties": {
            "a": {"type": "integer", "default": 1}, "b": {"type": "string"}, "c": {"type": "string", "nullable": true},
            "list": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}}}}}});
        let schema = Schema::from_crd(&open_api, false).expect("a schema");
        let check = |mut value: Value, expected: Value| {
            schema.apply_defaults(&mut value);
            assert_eq!(value, expected);
        };
        check(json!({}), json!({"spec": {"a": 1}}));
        check(json!({"spec": {"a": null, "b": null, "c": null}}), json!({"spec": {"a": 1, "c": null}}));
        check(json!({"spec": {"a": 2, "list": [{}]}}), json!({"spec": {"a": 2, "list": [{"p": "TCP"}]}}));
    }
}
