//! Objects of every kind, made by the published schema and not by the table: the two must agree on every field.
//!
//! The only difference that a round trip may make is a zero: what Go leaves out of its JSON when it is zero is lost, and what it
//! always writes comes.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Maker, VALUES_MAX};
use crate::protobuf::{decode, encode_json, message};
use crate::schema::{Definition, Rest, Schema, Shape, definitions};

const DEPTH: usize = 9;

fn is_kind(one: &Definition) -> bool {
    one.text.contains("x-kubernetes-group-version-kind")
}

fn made(schema: &Schema, maker: &mut Maker, depth: usize) -> Value {
    // An object within an object has its type in the envelope of the whole, or nowhere.
    let is_whole = matches!(&schema.shape, Shape::Ref(one) if is_kind(one));
    let chance = maker.next_u32();
    let pick = |all: &[Value]| all[chance as usize % all.len()].clone();
    match &schema.resolved().shape {
        Shape::Any => json!({}),
        Shape::String => pick(&[json!(""), json!("a"), json!("ä€😀")]),
        Shape::Bytes => pick(&[json!("AA=="), json!("aGVsbG8=")]),
        Shape::Time => pick(&[json!("2024-01-02T03:04:05Z"), json!("1969-12-31T23:59:59Z")]),
        Shape::MicroTime => pick(&[json!("2024-01-02T03:04:05.000006Z")]),
        Shape::Quantity => pick(&[json!("0"), json!("500m"), json!("1Gi")]),
        Shape::IntOrString => pick(&[json!(0), json!(80), json!("http"), json!("")]),
        Shape::Int32 => pick(&[json!(0), json!(1), json!(i32::MIN), json!(i32::MAX)]),
        Shape::Int64 => pick(&[json!(0), json!(1), json!(i64::MIN), json!(i64::MAX)]),
        Shape::Number => pick(&[json!(0), json!(0.5), json!(-3)]),
        Shape::Boolean => pick(&[json!(true), json!(false)]),
        Shape::Array(items) => {
            let count = if depth == 0 { 0 } else { chance % 3 };
            (0..count).map(|_| made(items, maker, depth - 1)).collect()
        }
        Shape::Object(fields) => {
            let mut map = Map::new();
            let wanted = |maker: &mut Maker| {
                let wants = depth > 0 && maker.values_left > 0 && maker.next_u32() % 8 >= 3;
                maker.values_left -= usize::from(wants);
                wants
            };
            for (name, one) in &fields.named {
                if !(is_whole && matches!(name.as_str(), "apiVersion" | "kind")) && wanted(maker) {
                    map.insert(name.clone(), made(one, maker, depth - 1));
                }
            }
            if let Rest::Map(values) = &fields.rest {
                for key in ["k", "ä/b"] {
                    if wanted(maker) {
                        map.insert(key.into(), made(values, maker, depth - 1));
                    }
                }
            }
            Value::Object(map)
        }
        Shape::Ref(_) => Value::Null,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(given) => !given,
        Value::Number(given) => given.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(list) => list.is_empty(),
        // A struct of zeros.
        Value::Object(map) => map.values().all(is_zero),
    }
}

/// Where two values differ in more than zeros.
fn difference(path: &str, before: &Value, after: &Value) -> Option<String> {
    let told = || Some(format!("{path}: {before} became {after}"));
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys());
            names.into_iter().find_map(|name| {
                let member = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                difference(&format!("{path}.{name}"), &member(a), &member(b))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            (a.iter().zip(b).enumerate()).find_map(|(index, (a, b))| difference(&format!("{path}[{index}]"), a, b))
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => None,
        (a, b) if a == b || (is_zero(a) && is_zero(b)) => None,
        _ => told(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn every_kind_makes_a_round_trip(seed in any::<[u8; 32]>()) {
        let mut maker = Maker::new(&seed);
        for one in definitions().iter().filter(|one| is_kind(one)) {
            let Some(of) = message(one.name) else { return Err(TestCaseError::fail(one.name)) };
            maker.values_left = VALUES_MAX;
            let mut before = made(one.schema(), &mut maker, DEPTH);
            if let Some(map) = before.as_object_mut() {
                map.shift_remove("apiVersion");
                map.shift_remove("kind");
            }
            let failed = |error: &dyn std::fmt::Display| TestCaseError::fail(format!("{}: {error}: {before}", one.name));
            let bytes = encode_json(of, before.to_string().as_bytes()).map_err(|error| failed(&error))?;
            let after = Value::Object(decode(of, &bytes).map_err(|error| failed(&error))?);
            prop_assert_eq!(difference(one.name, &before, &after), None, "{}", &before);
            // What has been through it once stays as it is.
            let bytes = encode_json(of, after.to_string().as_bytes()).map_err(|error| failed(&error))?;
            let again = decode(of, &bytes).map_err(|error| failed(&error))?;
            prop_assert_eq!(Value::Object(again), after, "{}", one.name);
        }
    }
}
