//! `Remarks`: what is said of a request beside its answer: warnings for the client, notes for the audit log.
//!
//! Guarantee: a note that nobody wants is not made, so that a request which no audit policy names pays nothing for it.

use crate::request::{Noted, Request};

/// Annotations of an audit event.
pub type Notes = Vec<(String, String)>;

#[derive(Clone, Debug, Default)]
pub struct Remarks {
    pub warnings: Vec<String>,
    pub notes: Notes,
    wanted: Noted,
}

impl Remarks {
    pub fn about(request: &Request) -> Remarks {
        Remarks { wanted: request.noted, ..Remarks::default() }
    }

    /// A warning is told once.
    pub fn warn_once(&mut self, more: &[String]) {
        for warning in more {
            if !self.warnings.contains(warning) {
                self.warnings.push(warning.clone());
            }
        }
    }

    /// Whether anybody reads the notes: for what takes work to find out.
    pub fn is_noted(&self) -> bool {
        self.wanted > Noted::Nothing
    }

    /// Notes how something was decided. What was said first stays.
    pub fn note(&mut self, make: impl FnOnce() -> (String, String)) {
        self.note_for(Noted::Decisions, make);
    }

    /// Notes what was changed.
    pub fn note_patch(&mut self, make: impl FnOnce() -> (String, String)) {
        self.note_for(Noted::Patches, make);
    }

    fn note_for(&mut self, level: Noted, make: impl FnOnce() -> (String, String)) {
        if self.wanted < level {
            return;
        }
        let (key, value) = make();
        let is_new = !self.notes.iter().any(|(known, _)| *known == key);
        if is_new && is_key(&key) {
            self.notes.push((key, value));
        }
    }
}

/// A domain and a name, as the audit log takes them.
fn is_key(key: &str) -> bool {
    key.matches('/').count() == 1 && crate::names::qualified_name(key).is_empty()
}
