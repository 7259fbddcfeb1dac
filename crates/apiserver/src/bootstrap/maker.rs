//! Making one object by the writes that everybody makes, as far as it is not there or not right.

use std::sync::Arc;

use serde_json::Value;
use stead_api::call::Replay;
use stead_api::{Request, Resource, Status, User, Verb};

use crate::serve::serve_write;
use crate::{Context, Reply};

pub(super) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
pub(super) const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) struct Maker<'a, 'b> {
    pub user: Arc<User>,
    pub ctx: &'a mut Context<'b>,
}

impl Maker<'_, '_> {
    pub(super) fn ask(
        &mut self,
        verb: Verb,
        group: &str,
        plural: &str,
        namespace: &str,
        body: Value,
    ) -> Result<(), Status> {
        self.ask_part(verb, group, plural, namespace, "", body)
    }

    fn ask_part(
        &mut self,
        verb: Verb,
        group: &str,
        plural: &str,
        namespace: &str,
        subresource: &str,
        body: Value,
    ) -> Result<(), Status> {
        let name = body["metadata"]["name"].as_str().unwrap_or_default();
        let resource = Resource {
            group: group.into(),
            version: "v1".into(),
            plural: plural.into(),
            namespace: namespace.into(),
            name: if verb == Verb::Create { String::new() } else { name.into() },
            subresource: subresource.into(),
            ..Resource::default()
        };
        let mut request = Request::of(Arc::clone(&self.user), verb, resource, body);
        request.options.field_manager = "stead-bootstrap".into();
        request.replay = Some(Box::new(Replay::unasked()));
        match serve_write(self.ctx, &request) {
            Reply::Failure { status, .. } => Err(*status),
            _ => Ok(()),
        }
    }

    pub(super) fn stored(&self, group: &str, plural: &str, namespace: &str, body: &Value) -> Option<Value> {
        let kind = self.ctx.registry.find(group, "v1", plural)?;
        let name = body["metadata"]["name"].as_str().unwrap_or_default();
        self.ctx.store.snapshot().find(kind.storage, namespace, name).map(|object| object.value())
    }

    /// Makes an object unless it is there.
    pub(super) fn missing(&mut self, group: &str, plural: &str, namespace: &str, body: Value) {
        if self.stored(group, plural, namespace, &body).is_some() {
            return;
        }
        let name = body["metadata"]["name"].clone();
        self.ask(Verb::Create, group, plural, namespace, body)
            .unwrap_or_else(|status| panic!("the initial {plural} {name} was refused: {status}"));
    }

    /// Makes an object with its status unless it is there.
    pub(super) fn with_status(&mut self, group: &str, plural: &str, body: Value) {
        if self.stored(group, plural, "", &body).is_some() {
            return;
        }
        self.missing(group, plural, "", body.clone());
        if let Some(mut stored) = self.stored(group, plural, "", &body) {
            stored["status"] = body["status"].clone();
            let told = self.ask_part(Verb::Update, group, plural, "", "status", stored);
            told.unwrap_or_else(|status| panic!("an initial status was refused: {status}"));
        }
    }

    /// Makes an object, and puts a field right unless the cluster's users said to leave it.
    pub(super) fn kept(&mut self, group: &str, plural: &str, namespace: &str, field: &str, body: Value) {
        match self.stored(group, plural, namespace, &body) {
            Some(stored) if stored["metadata"]["annotations"][AUTOUPDATE] != "true" => {}
            _ => self.current(group, plural, namespace, &[field], body),
        }
    }

    /// Makes an object, and puts fields right.
    pub(super) fn current(&mut self, group: &str, plural: &str, namespace: &str, fields: &[&str], body: Value) {
        let Some(mut stored) = self.stored(group, plural, namespace, &body) else {
            return self.missing(group, plural, namespace, body);
        };
        let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        let is_same = |a: &Value, b: &Value| a == b || (is_empty(a) && is_empty(b));
        if fields.iter().all(|field| is_same(&stored[*field], &body[*field])) {
            return;
        }
        for field in fields {
            stored[*field] = body[*field].clone();
        }
        // A refusal leaves what was there, which served until now.
        let _ = self.ask(Verb::Update, group, plural, namespace, stored);
    }
}
