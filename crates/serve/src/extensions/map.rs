//! Which extensions there are, and what each told of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use stead_apiserver::{Extension, Known, Told};

/// What is known of extensions, by the names of their APIServices.
#[derive(Default)]
pub struct Extensions {
    pub(super) routes: ArcSwap<BTreeMap<String, Extension>>,
    pub(super) told: Mutex<BTreeMap<String, Told>>,
    /// Calls so far: they take a Service's endpoints in turn.
    pub(super) turn: AtomicUsize,
    /// The namespaces that extensions are being asked about.
    pub(super) sweeping: Mutex<BTreeSet<String>>,
}

impl Extensions {
    pub fn is_empty(&self) -> bool {
        self.routes.load().is_empty()
    }

    /// The extension that answers for a path.
    pub(super) fn of_path(&self, path: &str) -> Option<Extension> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let name = match (parts.next()?, parts.next()?, parts.next()) {
            ("apis", group, Some(version)) => format!("{version}.{group}"),
            ("api", version, _) => format!("{version}."),
            _ => return None,
        };
        self.routes.load().get(&name).cloned()
    }

    pub(super) fn known(&self) -> Vec<Known> {
        let told = self.told.lock().unwrap_or_else(|e| e.into_inner());
        let routes = self.routes.load();
        routes.values().map(|one| (one.clone(), told.get(&one.name).cloned().unwrap_or_default())).collect()
    }
}
