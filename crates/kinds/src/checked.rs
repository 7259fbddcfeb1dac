//! Everything that is checked of an object before it is stored.

use std::any::Any;
use std::sync::Arc;

use serde_json::Value;
use stead_api::{Errors, FieldPath, Object};

use crate::kind::Kind;
use crate::{check, meta};

/// What `Kind::check` found.
pub struct Checked {
    /// The decoded object, for `Object::with_view`.
    pub typed: Arc<dyn Any + Send + Sync>,
    /// Empty when the object may be stored.
    pub errors: Errors,
    pub warnings: Vec<String>,
}

impl Kind {
    /// Decodes a defaulted and prepared object into its kind's type and checks all of it, metadata included; nothing is
    /// stopped at the first mistake.
    ///
    /// # Errors
    /// When the value does not have the shape of its type: a message for a 400.
    pub fn check(&self, new: &Value, old: Option<&Object>) -> Result<Checked, String> {
        let typed = (self.hooks.decode)(new)?;
        let mut errors = Errors::default();
        meta::validate(self, new, old, &mut errors);
        if let Some(old) = old.filter(|_| !self.immutable.is_empty()) {
            self.check_immutable(new, &old.value(), &mut errors);
        }
        (self.hooks.validate)(&*typed, old, &mut errors);
        let warnings = if errors.is_empty() { (self.hooks.warn)(&*typed, old) } else { Vec::new() };
        Ok(Checked { typed, errors, warnings })
    }

    /// Refuses changes of what may not change after creation.
    pub fn check_immutable(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for path in self.immutable {
            let at =
                |value| path.split('.').try_fold(value, |at: &Value, part| at.get(part)).cloned().unwrap_or_default();
            let (new, old) = (at(new), at(old));
            if !check::semantically_equal(&new, &old) {
                errors.invalid(&FieldPath::new(path), new, check::FIELD_IS_IMMUTABLE);
            }
        }
    }
}
