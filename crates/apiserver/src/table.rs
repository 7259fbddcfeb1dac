//! Tables: what `kubectl get` prints, from a kind's columns (K-04, ST-13, V-28, N-21).

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use stead_api::{Form, Object, Options};
use stead_kinds::{Cell, Column, Kind, human};

use crate::encode::json::{metadata_bytes, object_bytes};
use crate::encode::pieces::Pieces;
use crate::jsonpath;
use crate::listed::ListMeta;

fn column_definition(column: &Column) -> Value {
    json!({"name": column.name, "type": column.r#type, "format": column.format, "description": column.description,
        "priority": column.priority})
}

fn head(kind: &Kind, metadata: Value, form: Form, with_columns: bool) -> String {
    let columns: Value = match with_columns {
        true => kind.columns.iter().map(column_definition).collect(),
        // A null list: clients keep the columns of the first event.
        false => Value::Null,
    };
    let version = form.meta_version();
    format!(
        "{{\"kind\":\"Table\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"columnDefinitions\":{columns},\"rows\":["
    )
}

/// A table of many objects.
pub(crate) fn of_list<'a>(
    kind: &Kind,
    objects: impl Iterator<Item = &'a Arc<Object>>,
    meta: &ListMeta,
    options: &Options,
    now: Timestamp,
) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    pieces.copy(head(kind, meta.to_json(), options.form, true).as_bytes());
    for (index, object) in objects.enumerate() {
        if index > 0 {
            pieces.copy(b",");
        }
        push_row(&mut pieces, kind, object, options, now);
    }
    pieces.copy(b"]}");
    pieces.finish()
}

/// A table of one object.
pub(crate) fn of_one(kind: &Kind, object: &Object, options: &Options, now: Timestamp, with_columns: bool) -> Bytes {
    let mut pieces = Pieces::default();
    let metadata = json!({"resourceVersion": object.revision().to_string()});
    pieces.copy(head(kind, metadata, options.form, with_columns).as_bytes());
    push_row(&mut pieces, kind, object, options, now);
    pieces.copy(b"]}");
    pieces.finish().concat().into()
}

/// The object of a bookmark event in a watch of tables.
pub(crate) fn bookmark(form: Form, metadata: Value) -> Value {
    json!({"kind": "Table", "apiVersion": form.meta_version(), "metadata": metadata, "columnDefinitions": null, "rows": []})
}

fn push_row(pieces: &mut Pieces, kind: &Kind, object: &Object, options: &Options, now: Timestamp) {
    let cells = cells(kind, object, now);
    pieces.copy(b"{\"cells\":");
    pieces.copy(cells.to_string().as_bytes());
    match options.include_object.as_str() {
        "None" => {}
        "Object" => {
            pieces.copy(b",\"object\":");
            pieces.push(object_bytes(kind, object));
        }
        _ => {
            pieces.copy(b",\"object\":");
            pieces.push(metadata_bytes(object, options.form));
        }
    }
    pieces.copy(b"}");
}

fn cells(kind: &Kind, object: &Object, now: Timestamp) -> Value {
    // Parsed for the first column that reads the whole object, and once.
    let mut parsed: Option<Value> = None;
    let mut cells = Vec::with_capacity(kind.columns.len());
    for column in kind.columns {
        cells.push(match column.cell {
            Cell::Name => json!(object.meta.name),
            Cell::Age => json!(age(object.meta.creation_timestamp, now)),
            Cell::Of(cell) => cell(object, now),
            Cell::Path(path) => {
                let value = parsed.get_or_insert_with(|| object.value());
                at_path(value, path)
            }
            Cell::JsonPath(path) => {
                let value = parsed.get_or_insert_with(|| object.value());
                custom_cell(column, jsonpath::first(value, path), now)
            }
        });
    }
    Value::Array(cells)
}

fn age(created: Option<Timestamp>, now: Timestamp) -> String {
    created.map_or_else(|| "<unknown>".to_owned(), |created| human::since(created, now))
}

fn at_path(value: &Value, path: &str) -> Value {
    let found = path.split('.').filter(|part| !part.is_empty()).fold(value, |at, part| &at[part]);
    match found {
        Value::Null => json!("<none>"),
        found => found.clone(),
    }
}

/// A custom resource's cell, in the type its column declares; null prints as nothing.
fn custom_cell(column: &Column, found: Option<&Value>, now: Timestamp) -> Value {
    let Some(found) = found else { return Value::Null };
    match (column.r#type, found) {
        ("date", Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(moment) => json!(human::since(moment, now)),
            Err(_) => json!("<invalid>"),
        },
        ("integer", Value::Number(_)) | ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => found.clone(),
        ("string", Value::String(_)) => found.clone(),
        ("string", other) => json!(other.to_string()),
        _ => Value::Null,
    }
}
