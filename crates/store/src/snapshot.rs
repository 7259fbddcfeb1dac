//! `Snapshot`: all objects at one revision, immutable for its holders, cloned in constant time.
//!
//! Indexes: by owner uid and by term (`spec.nodeName=n1`, `label:app=web`), for the kinds that declare them.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use stead_api::{Key, KindName, Object, Revision};

type TermKey = (KindName, Arc<str>);

#[derive(Clone, Default)]
pub struct Snapshot {
    revision: Revision,
    objects: OrdMap<Key, Arc<Object>>,
    owned: OrdMap<Arc<str>, OrdSet<Key>>,
    terms: OrdMap<TermKey, OrdSet<Key>>,
    counts: OrdMap<KindName, usize>,
}

impl Snapshot {
    /// Folds restored objects into the state at `revision`.
    pub fn restored(revision: Revision, objects: impl Iterator<Item = Object>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for object in objects {
            snapshot.insert(Arc::new(object));
        }
        snapshot.revision = snapshot.revision.max(revision);
        snapshot
    }

    /// The revision of the last write. Zero before the first.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    pub fn find(&self, kind: KindName, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&Key::new(kind, namespace, name))
    }

    /// The objects of a kind in key order; an empty namespace means all of them.
    pub fn list<'a>(&'a self, kind: KindName, namespace: &str) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.list_after(kind, namespace, None)
    }

    /// The same, beginning after a key: how a page goes on.
    pub fn list_after<'a>(
        &'a self,
        kind: KindName,
        namespace: &str,
        after: Option<&Key>,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        // The least text after a namespace, and one that is after all of them: the end is found once, not asked of each object.
        let past = if namespace.is_empty() { "\u{10ffff}".to_owned() } else { format!("{namespace}\0") };
        let (first, end) = (Key::new(kind, namespace, ""), Key::new(kind, &past, ""));
        let start = match after {
            Some(key) if *key >= first => Bound::Excluded(key.clone()),
            _ => Bound::Included(first),
        };
        // A key from outside may lie anywhere.
        let is_over = after.is_some_and(|key| *key >= end);
        let range = (!is_over).then(|| self.objects.range((start, Bound::Excluded(end))));
        range.into_iter().flatten().map(|(_, object)| object)
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: KindName) -> usize {
        self.counts.get(kind).copied().unwrap_or(0)
    }

    /// All objects, in key order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// The kinds that have objects.
    pub fn kinds(&self) -> impl Iterator<Item = KindName> + '_ {
        self.counts.keys().copied()
    }

    /// The objects whose ownerReferences name this uid.
    pub fn owned<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let keys = self.owned.get(uid);
        keys.into_iter().flatten().filter_map(|key| self.objects.get(key))
    }

    /// The objects of a kind with an index term: `indexed("pods", "spec.nodeName=n1")`, `indexed("pods", "label:app=web")`.
    pub fn indexed<'a>(&'a self, kind: KindName, term: &str) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let keys = self.terms.get(&(kind, Arc::from(term)));
        keys.into_iter().flatten().filter_map(|key| self.objects.get(key))
    }

    pub(crate) fn insert(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        self.revision = self.revision.max(object.revision());
        let old = self.objects.insert(object.key.clone(), Arc::clone(&object));
        self.reindex(old.as_deref(), Some(&object));
        old
    }

    pub(crate) fn remove(&mut self, key: &Key, revision: Revision) -> Option<Arc<Object>> {
        let old = self.objects.remove(key)?;
        self.revision = revision;
        self.reindex(Some(&old), None);
        Some(old)
    }

    fn reindex(&mut self, old: Option<&Object>, new: Option<&Object>) {
        let owners = |o: &Object| -> Vec<Arc<str>> {
            o.meta.owner_references.iter().map(|owner| Arc::from(owner.uid.as_str())).collect()
        };
        let (old_owners, new_owners) = (old.map(owners).unwrap_or_default(), new.map(owners).unwrap_or_default());
        if let Some(old) = old {
            for owner in old_owners.iter().filter(|o| !new_owners.contains(o)) {
                leave(&mut self.owned, owner, &old.key);
            }
            for term in old.terms.iter().filter(|t| !new.is_some_and(|n| n.terms.contains(t))) {
                leave(&mut self.terms, &(old.key.kind, Arc::clone(term)), &old.key);
            }
        }
        if let Some(new) = new {
            for owner in new_owners.into_iter().filter(|o| !old_owners.contains(o)) {
                self.owned.entry(owner).or_default().insert(new.key.clone());
            }
            for term in new.terms.iter().filter(|t| !old.is_some_and(|o| o.terms.contains(t))) {
                self.terms.entry((new.key.kind, Arc::clone(term))).or_default().insert(new.key.clone());
            }
        }
        self.recount(old, new);
    }

    fn recount(&mut self, old: Option<&Object>, new: Option<&Object>) {
        match (old, new) {
            (None, Some(new)) => *self.counts.entry(new.key.kind).or_insert(0) += 1,
            (Some(old), None) => match self.counts.get(old.key.kind).copied() {
                Some(1) | None => {
                    self.counts.remove(old.key.kind);
                }
                Some(n) => {
                    self.counts.insert(old.key.kind, n - 1);
                }
            },
            _ => {}
        }
    }
}

fn leave<K: Ord + Clone>(index: &mut OrdMap<K, OrdSet<Key>>, term: &K, key: &Key) {
    let Some(keys) = index.get_mut(term) else { return };
    keys.remove(key);
    if keys.is_empty() {
        index.remove(term);
    }
}

impl PartialEq for Snapshot {
    /// Equal content: the same objects, byte for byte, at the same revision.
    fn eq(&self, other: &Snapshot) -> bool {
        self.revision == other.revision
            && self.objects.len() == other.objects.len()
            && self.all().zip(other.all()).all(|(a, b)| a.key == b.key && a.json == b.json)
            && self.owned == other.owned
            && self.terms == other.terms
            && self.counts == other.counts
    }
}
