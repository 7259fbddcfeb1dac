//! Indices of lists that count from the end, beyond the RFC: `-1` is the last element, and for `add` the place after it.
//!
//! Rule's source: `evanphx/json-patch`, `SupportNegativeIndices`.

use json_patch::jsonptr::{Pointer, PointerBuf, Token};
use json_patch::{PatchOperation, RemoveOperation};
use serde_json::Value;

/// The operation with indices that count from the front; None when it has no others.
pub(super) fn from_the_front(operation: &PatchOperation, document: &Value) -> Option<PatchOperation> {
    let mut counted = operation.clone();
    let (from, path, adds) = match &mut counted {
        PatchOperation::Add(one) => (None, &mut one.path, true),
        PatchOperation::Remove(one) => (None, &mut one.path, false),
        PatchOperation::Replace(one) => (None, &mut one.path, false),
        PatchOperation::Test(one) => (None, &mut one.path, false),
        PatchOperation::Copy(one) => (Some(&mut one.from), &mut one.path, true),
        PatchOperation::Move(one) => (Some(&mut one.from), &mut one.path, true),
    };
    let new_from = from.as_deref().and_then(|from| counted_path(from, document, false));
    let place = new_from
        .as_deref()
        .or(from.as_deref().map(|from| &**from))
        .filter(|_| matches!(operation, PatchOperation::Move(_)));
    let new_path = match place.filter(|_| has_negative(path)) {
        // What is moved is taken out before it is put where it goes.
        Some(place) => {
            let mut without = document.clone();
            let removal = PatchOperation::Remove(RemoveOperation { path: place.to_buf() });
            json_patch::patch(&mut without, &[removal]).ok()?;
            counted_path(path, &without, adds)
        }
        None => counted_path(path, document, adds),
    };
    if new_from.is_none() && new_path.is_none() {
        return None;
    }
    if let (Some(from), Some(new)) = (from, new_from) {
        *from = new;
    }
    if let Some(new) = new_path {
        *path = new;
    }
    Some(counted)
}

fn has_negative(path: &Pointer) -> bool {
    path.as_str().contains("/-")
}

fn counted_path(path: &Pointer, document: &Value, adds: bool) -> Option<PointerBuf> {
    if !has_negative(path) {
        return None;
    }
    let last = path.count().checked_sub(1)?;
    let mut counted = PointerBuf::new();
    let mut at = Some(document);
    for (place, token) in path.tokens().enumerate() {
        let name = token.decoded();
        let list = at.and_then(Value::as_array);
        let index = list.and_then(|list| from_end(&name, list.len() + usize::from(adds && place == last)));
        let name = index.map_or_else(|| name.into_owned(), |index| index.to_string());
        at = match at {
            Some(Value::Array(list)) => name.parse::<usize>().ok().and_then(|index| list.get(index)),
            Some(Value::Object(map)) => map.get(&name),
            _ => None,
        };
        counted.push_back(Token::new(name));
    }
    Some(counted)
}

/// The index that a negative one means among so many places.
fn from_end(text: &str, places: usize) -> Option<usize> {
    let back = text.strip_prefix('-')?.parse::<usize>().ok()?;
    if back == 0 { Some(0) } else { places.checked_sub(back) }
}
