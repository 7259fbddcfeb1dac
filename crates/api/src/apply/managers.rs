//! `metadata.managedFields`: who owns which fields.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::fields::FieldSet;

/// Update managers beyond this many are merged, oldest first, into one per version.
const UPDATE_MANAGERS_MAX: usize = 10;
const ANCIENT_MANAGER: &str = "ancient-changes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

/// One entry: a manager, what it did and the fields it owns by that.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    /// RFC 3339, whole seconds, UTC: orders as text. Empty when unknown.
    pub time: String,
    pub fields: FieldSet,
}

impl Entry {
    /// Whether two entries are one manager's. An applier is known by its name, whatever version it speaks.
    pub fn is_same_manager(&self, other: &Entry) -> bool {
        self.operation == other.operation
            && self.manager == other.manager
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    fn from_value(value: &mut Value) -> Option<Entry> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if text("fieldsType") != "FieldsV1" {
            return None;
        }
        let (manager, api_version) = (text("manager"), text("apiVersion"));
        let (subresource, time) = (text("subresource"), text("time"));
        let fields = value.get_mut("fieldsV1").map(Value::take).filter(Value::is_object)?;
        Some(Entry { manager, operation, api_version, subresource, time, fields: FieldSet::from_value(fields) })
    }

    fn into_value(self) -> Value {
        let mut entry = Map::new();
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        entry.insert("manager".into(), self.manager.into());
        entry.insert("operation".into(), operation.into());
        entry.insert("apiVersion".into(), self.api_version.into());
        if !self.time.is_empty() {
            entry.insert("time".into(), self.time.into());
        }
        entry.insert("fieldsType".into(), "FieldsV1".into());
        entry.insert("fieldsV1".into(), self.fields.into_value());
        if !self.subresource.is_empty() {
            entry.insert("subresource".into(), self.subresource.into());
        }
        Value::Object(entry)
    }

    /// The manager as conflict messages name it.
    pub fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// What to write for `now`.
pub fn time_text(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Decodes a list of entries; `None` when one of them is malformed.
pub fn decode(list: Value) -> Option<Vec<Entry>> {
    match list {
        Value::Array(mut list) => list.iter_mut().map(Entry::from_value).collect(),
        _ => None,
    }
}

/// True for `[]` and `[{}]`, by which a client asks to forget all owners.
pub fn is_reset(list: &Value) -> bool {
    match list.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(only)]) => only.is_empty(),
        _ => false,
    }
}

/// The list to store: without empty entries, capped and in Kubernetes' order. `None` when nobody owns anything.
pub fn encode(mut entries: Vec<Entry>) -> Option<Value> {
    entries.retain(|entry| !entry.fields.is_empty());
    cap(&mut entries);
    let order = |entry: &Entry| {
        let Entry { operation, time, manager, api_version, subresource, .. } = entry.clone_names();
        (operation, time, manager, api_version, subresource)
    };
    if entries.len() > 1 {
        entries.sort_by_cached_key(order);
    }
    if entries.is_empty() { None } else { Some(entries.into_iter().map(Entry::into_value).collect()) }
}

impl Entry {
    fn clone_names(&self) -> Entry {
        Entry {
            manager: self.manager.clone(),
            api_version: self.api_version.clone(),
            subresource: self.subresource.clone(),
            time: self.time.clone(),
            operation: self.operation,
            fields: FieldSet::default(),
        }
    }
}

/// Merges the oldest updaters of a version until no more than the limit are left.
fn cap(entries: &mut Vec<Entry>) {
    let updaters = |entries: &[Entry]| entries.iter().filter(|one| one.operation == Operation::Update).count();
    while updaters(entries) > UPDATE_MANAGERS_MAX {
        let mut oldest: Vec<usize> =
            (0..entries.len()).filter(|at| entries[*at].operation == Operation::Update).collect();
        oldest.sort_by_key(|at| (&entries[*at].time, &entries[*at].manager));
        let same_version = |a: usize, b: usize| entries[a].api_version == entries[b].api_version;
        let pair = oldest.iter().enumerate().find_map(|(later, at)| {
            let earlier = oldest[..later].iter().find(|before| same_version(**before, *at))?;
            Some((*earlier, *at))
        });
        // Each of more than ten versions with one updater: nothing to merge.
        let Some((bucket, merged)) = pair else { return };
        let newer = entries[merged].clone();
        let into = &mut entries[bucket];
        into.manager = ANCIENT_MANAGER.into();
        into.subresource = String::new();
        into.time = newer.time;
        into.fields.union(&newer.fields);
        entries.remove(merged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(manager: &str, time: &str, field: &str) -> Value {
        let mut fields = Map::new();
        fields.insert(format!("f:{field}"), json!({}));
        json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    #[test]
    fn the_oldest_updaters_become_ancient() {
        let list: Vec<Value> = (0..12)
            .map(|n| entry(&format!("m{n:02}"), &format!("2024-01-01T00:00:{n:02}Z"), &format!("x{n}")))
            .collect();
        let stored = encode(decode(Value::Array(list)).expect("entries")).expect("owners");
        let names: Vec<&str> =
            stored.as_array().expect("a list").iter().filter_map(|one| one["manager"].as_str()).collect();
        assert_eq!(names[0], "ancient-changes");
        assert_eq!(names.len(), 10);
        assert_eq!(stored[0]["fieldsV1"], json!({"f:x0": {}, "f:x1": {}, "f:x2": {}}));
        assert_eq!(stored[0]["time"], "2024-01-01T00:00:02Z");
    }

    #[test]
    fn malformed_entries_are_refused() {
        assert!(
            decode(json!([{"manager": "x", "operation": "Jump", "fieldsType": "FieldsV1", "fieldsV1": {}}])).is_none()
        );
        assert!(decode(json!([{}])).is_none());
    }
}
