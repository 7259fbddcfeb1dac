//! Filling in defaults on a JSON value, whatever shape it has: a value of the wrong shape is left for validation to refuse.

use serde_json::{Map, Value};
use stead_api::quantity;

/// The object at a field, if it is one.
pub fn object<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    value.as_object_mut()?.get_mut(field).filter(|found| found.is_object())
}

/// The object at a field, made when the field is absent or null.
pub fn object_or_new<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    set(value, field, Map::new());
    object(value, field)
}

/// The items of the list at a field.
pub fn each<'a>(value: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    value
        .as_object_mut()
        .and_then(|fields| fields.get_mut(field))
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter(|item| item.is_object())
}

/// Sets a field that is absent or null.
pub fn set(value: &mut Value, field: &str, default: impl Into<Value>) {
    if let Some(fields) = value.as_object_mut()
        && fields.get(field).is_none_or(Value::is_null)
    {
        fields.insert(field.to_owned(), default.into());
    }
}

/// Sets a text that is absent, null or empty.
pub fn set_text(value: &mut Value, field: &str, default: &str) {
    if let Some(fields) = value.as_object_mut()
        && fields.get(field).is_none_or(|found| found.is_null() || found == "")
    {
        fields.insert(field.to_owned(), default.into());
    }
}

/// Sets a number that is absent, null or zero.
pub fn set_number(value: &mut Value, field: &str, default: i64) {
    if let Some(fields) = value.as_object_mut()
        && fields.get(field).is_none_or(|found| found.is_null() || *found == 0)
    {
        fields.insert(field.to_owned(), default.into());
    }
}

/// Replaces a field, or takes it away.
pub fn put(value: &mut Value, field: &str, new: Option<Value>) {
    if let Some(fields) = value.as_object_mut() {
        match new {
            Some(new) => {
                fields.insert(field.to_owned(), new);
            }
            None => {
                fields.shift_remove(field);
            }
        }
    }
}

/// Writes the quantity at a field in its canonical form.
pub fn quantity(value: &mut Value, field: &str) {
    if let Some(found) = value.as_object_mut().and_then(|fields| fields.get_mut(field)) {
        canonical(found);
    }
}

/// Writes every quantity of the map at a field in its canonical form.
pub fn quantities(value: &mut Value, field: &str) {
    for (_, found) in object(value, field).and_then(Value::as_object_mut).into_iter().flatten() {
        canonical(found);
    }
}

fn canonical(value: &mut Value) {
    if let Value::String(_) | Value::Number(_) = value
        && let Ok(quantity) = quantity::Quantity::from_value(value)
    {
        let text = quantity.to_string();
        if *value != text {
            *value = text.into();
        }
    }
}
