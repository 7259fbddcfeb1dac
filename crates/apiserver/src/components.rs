//! ComponentStatus: the health of the control plane's parts, for clients that still ask.
//!
//! All parts are one process here, and the store is part of it: if this is answered, they are healthy.

use std::sync::Arc;

use serde_json::json;
use stead_api::object::Fields;
use stead_api::{Key, KindName, Object};
use stead_kinds::Kind;

pub(crate) const STORAGE: KindName = "componentstatuses";

const PARTS: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];

/// The parts, in order of their names.
pub(crate) fn all() -> Vec<Arc<Object>> {
    let part = |name: &&str| {
        let value = json!({"kind": "ComponentStatus", "apiVersion": "v1",
            "metadata": {"name": name, "creationTimestamp": null},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]});
        let fields = Fields { selectable: &[], indexed: &[], labels_indexed: false, ..Fields::NONE };
        Object::of_value(Key::new(STORAGE, "", name), &value, &fields).ok().map(Arc::new)
    };
    PARTS.iter().filter_map(part).collect()
}

/// What a client is told that asks for them.
pub(crate) fn warnings(kind: &Kind) -> Vec<String> {
    match kind.storage == STORAGE {
        true => vec!["v1 ComponentStatus is deprecated in v1.19+".to_owned()],
        false => Vec::new(),
    }
}
