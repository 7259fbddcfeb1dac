//! Locks by name.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

/// One lock per name, made when first needed and forgotten when nobody holds it.
#[derive(Default)]
pub(crate) struct Locks(Mutex<BTreeSet<String>>, Condvar);

pub(crate) struct Locked<'a> {
    locks: &'a Locks,
    name: String,
}

impl Locks {
    pub fn lock(&self, name: &str) -> Locked<'_> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while held.contains(name) {
            held = self.1.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        held.insert(name.to_string());
        Locked { locks: self, name: name.to_string() }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.locks.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        self.locks.1.notify_all();
    }
}
