//! Where validation stands in an object, without allocating until there is something to report.

use serde_json::Value;
use stead_api::status::FieldErrorKind;
use stead_api::{Errors, FieldPath};

/// A place in an object: a chain of steps on the stack.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub const fn root(name: &'a str) -> Path<'a> {
        Path { parent: None, step: Step::Name(name) }
    }

    pub const fn child(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Name(name) }
    }

    pub const fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    pub const fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    pub fn field(&self) -> FieldPath {
        match (self.parent, self.step) {
            (None, Step::Name(name)) => FieldPath::new(name),
            (None, Step::Index(index)) => FieldPath::default().index(index),
            (None, Step::Key(key)) => FieldPath::default().key(key),
            (Some(parent), Step::Name(name)) => parent.field().child(name),
            (Some(parent), Step::Index(index)) => parent.field().index(index),
            (Some(parent), Step::Key(key)) => parent.field().key(key),
        }
    }

    pub fn required(&self, errors: &mut Errors, detail: impl Into<String>) {
        errors.required(&self.field(), detail);
    }

    pub fn invalid(&self, errors: &mut Errors, value: impl Into<Value>, detail: impl Into<String>) {
        errors.invalid(&self.field(), value, detail);
    }

    pub fn forbidden(&self, errors: &mut Errors, detail: impl Into<String>) {
        errors.forbidden(&self.field(), detail);
    }

    pub fn duplicate(&self, errors: &mut Errors, value: impl Into<Value>) {
        errors.duplicate(&self.field(), value);
    }

    pub fn not_found(&self, errors: &mut Errors, value: impl Into<Value>) {
        errors.not_found(&self.field(), value);
    }

    pub fn not_supported(&self, errors: &mut Errors, value: impl Into<Value>, allowed: &[&str]) {
        errors.not_supported(&self.field(), value, allowed);
    }

    pub fn too_long(&self, errors: &mut Errors, limit: usize) {
        errors.too_long(&self.field(), limit);
    }

    pub fn push(&self, errors: &mut Errors, kind: FieldErrorKind, value: impl Into<Value>, detail: impl Into<String>) {
        errors.push(kind, &self.field(), value, detail);
    }
}
