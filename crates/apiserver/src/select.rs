//! `Selection`: which objects of a kind a list, watch or deletecollection means.
//!
//! Contract: field selectors name only selectable fields of the kind (else 400 with Kubernetes' text); an index is used where
//! one applies and the rest is filtered.

use std::sync::Arc;

use stead_api::selector::Operator;
use stead_api::{FieldSelector, LabelSelector, Object, Request, Status};
use stead_kinds::Kind;
use stead_store::Snapshot;

#[derive(Clone, Debug)]
pub struct Selection {
    /// Empty: all namespaces, or cluster scope.
    pub namespace: String,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Selection {
    /// # Errors
    /// 400 for selectors that do not parse or name a field that is not selectable.
    pub fn of(kind: &Kind, request: &Request) -> Result<Selection, Status> {
        let wrong = |e: stead_api::selector::SelectorError| Status::bad_request(e.to_string());
        let options = &request.options;
        let labels = LabelSelector::parse(&options.label_selector).map_err(wrong)?;
        let mut fields = FieldSelector::parse(&options.field_selector).map_err(wrong)?;
        for term in &mut fields.terms {
            if let Some((_, stored)) = kind.selectable_as.iter().find(|(name, _)| *name == term.field) {
                term.field = (*stored).into();
            }
        }
        let known = |field: &str| {
            field == "metadata.name"
                || (field == "metadata.namespace" && kind.namespaced)
                || kind.fields.selectable.contains(&field)
        };
        if let Some(term) = fields.terms.iter().find(|term| !known(&term.field)) {
            return Err(Status::bad_request(format!("field label not supported: {}", term.field)));
        }
        let resource = request.resource().cloned().unwrap_or_default();
        // A watch or list of one name is a selection too.
        if !resource.name.is_empty() {
            let value = resource.name.clone();
            fields.terms.push(stead_api::selector::FieldTerm { field: "metadata.name".into(), equal: true, value });
        }
        let namespace = if kind.namespaced { resource.namespace } else { String::new() };
        Ok(Selection { namespace, labels, fields })
    }

    /// Whether every object of the namespace is meant.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    pub fn matches(&self, object: &Object) -> bool {
        (self.namespace.is_empty() || *self.namespace == *object.key.namespace)
            && self.labels.matches(&object.meta.labels)
            && self.fields.matches_by(|field| object.field(field))
    }

    /// The objects meant, in key order.
    pub fn list<'a>(&'a self, kind: &Kind, snapshot: &'a Snapshot) -> Box<dyn Iterator<Item = &'a Arc<Object>> + 'a> {
        let storage = kind.storage;
        if let (Some(name), true) =
            (self.fields.required_value("metadata.name"), !self.namespace.is_empty() || !kind.namespaced)
        {
            let found = snapshot.find(storage, &self.namespace, name);
            return Box::new(found.into_iter().filter(|object| self.matches(object)));
        }
        match self.index_term(kind) {
            Some(term) => {
                let keys: Vec<&Arc<Object>> = snapshot.indexed(storage, &term).collect();
                Box::new(keys.into_iter().filter(|object| self.matches(object)))
            }
            None if self.is_everything() => Box::new(snapshot.list(storage, &self.namespace)),
            None => Box::new(snapshot.list(storage, &self.namespace).filter(|object| self.matches(object))),
        }
    }

    /// The index term that narrows the selection, if the kind has one.
    fn index_term(&self, kind: &Kind) -> Option<String> {
        let field =
            self.fields.terms.iter().find(|term| {
                term.equal && !term.value.is_empty() && kind.fields.indexed.contains(&term.field.as_str())
            });
        if let Some(term) = field {
            return Some(format!("{}={}", term.field, term.value));
        }
        if !kind.fields.labels_indexed {
            return None;
        }
        let label = self.labels.requirements().iter().find(|one| {
            matches!(one.operator(), Operator::Equals | Operator::DoubleEquals | Operator::In)
                && one.values().len() == 1
        })?;
        Some(format!("label:{}={}", label.key(), label.values()[0]))
    }
}
