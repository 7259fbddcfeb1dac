//! `Attempt`: a change as admission policies and webhooks look at it.

use serde_json::{Map, Value, json};
use stead_api::{Object, Request, Status, Verb};
use stead_kinds::Kind;

use crate::draft::{Draft, Part};
use crate::scale;

/// What nobody looks at: it would take away the means to undo a policy or a webhook.
const EXEMPT: &[&str] = &[
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    "mutatingadmissionpolicies.admissionregistration.k8s.io",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
];

/// Group, version and kind.
type Gvk = (&'static str, &'static str, &'static str);

const SCALE: Gvk = ("autoscaling", "v1", "Scale");

/// A change that policies and webhooks look at.
pub(crate) struct Attempt<'a> {
    pub request: &'a Request,
    /// The version that `new` and `old` are of.
    pub kind: Kind,
    /// What the objects are instead, where a subresource has a kind of its own.
    pub object_kind: Option<Gvk>,
    /// `CREATE`, `UPDATE`, `DELETE`, `CONNECT`
    pub operation: &'static str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Empty while a name that is generated is not to be seen, and where a whole collection is deleted.
    pub name: &'a str,
    /// Null on deletion.
    pub new: Value,
    /// Null on creation.
    pub old: Value,
    pub is_dry_run: bool,
    /// CreateOptions, UpdateOptions or DeleteOptions; Null on connection.
    pub options: Value,
}

pub(crate) fn is_exempt(kind: &Kind) -> bool {
    EXEMPT.contains(&kind.storage)
}

impl<'a> Attempt<'a> {
    pub(crate) fn of(request: &'a Request, draft: &'a Draft) -> Option<Attempt<'a>> {
        if draft.part == Part::Internal || is_exempt(&draft.kind) {
            return None;
        }
        let is_scale = draft.part == Part::Scale;
        let shown = |value: &Value| match is_scale && !value.is_null() {
            true => scale::of_value(&draft.kind, value),
            false => value.clone(),
        };
        let operation = if draft.is_creation() { "CREATE" } else { "UPDATE" };
        Some(Attempt {
            request,
            kind: draft.kind,
            object_kind: is_scale.then_some(SCALE),
            operation,
            subresource: draft.part.subresource(),
            namespace: &draft.key.namespace,
            name: draft.name(),
            new: shown(&draft.new),
            old: shown(&draft.old_value),
            is_dry_run: request.options.dry_run,
            options: options(request, operation),
        })
    }

    /// The deletion of an object; `old` is of the kind.
    pub(crate) fn deletion(
        request: &'a Request,
        kind: Kind,
        (object, old): (&'a Object, Value),
        is_dry_run: bool,
    ) -> Option<Attempt<'a>> {
        (!is_exempt(&kind)).then(|| Attempt {
            request,
            kind,
            object_kind: None,
            operation: "DELETE",
            subresource: "",
            namespace: &object.key.namespace,
            name: if request.verb == Verb::DeleteCollection { "" } else { &object.key.name },
            new: Value::Null,
            old,
            is_dry_run,
            options: deletion_options(request),
        })
    }

    /// An object of another kind that is sent to a subresource, or the options of a connection to one.
    pub(crate) fn of_subresource(
        request: &'a Request,
        kind: Kind,
        operation: &'static str,
        (object_kind, new): (Gvk, Value),
    ) -> Result<Attempt<'a>, Status> {
        let resource = request.resource().ok_or_else(Status::method_not_allowed)?;
        Ok(Attempt {
            request,
            kind,
            object_kind: Some(object_kind),
            operation,
            subresource: &resource.subresource,
            namespace: if kind.namespaced { &resource.namespace } else { "" },
            name: match resource.name.as_str() {
                "" => request.body["metadata"]["name"].as_str().unwrap_or_default(),
                name => name,
            },
            new,
            old: Value::Null,
            is_dry_run: request.options.dry_run,
            options: if operation == "CONNECT" { Value::Null } else { options(request, operation) },
        })
    }

    /// `request`, as expressions see it and webhooks get it.
    pub(crate) fn admission_request(&self, matched: &Kind) -> Value {
        let served = self.request.resource();
        let version = served.map_or(matched.version, |resource| resource.version.as_str());
        let group = served.map_or(matched.group, |resource| resource.group.as_str());
        let user = &self.request.user;
        let kind = |group: &str, version: &str| match self.object_kind {
            Some((group, version, kind)) => json!({"group": group, "version": version, "kind": kind}),
            None => json!({"group": group, "version": version, "kind": self.kind.kind}),
        };
        let resource =
            |group: &str, version: &str| json!({"group": group, "version": version, "resource": self.kind.plural});
        let namespace = if self.kind.storage == "namespaces" { self.name } else { self.namespace };
        json!({
            "kind": kind(matched.group, matched.version), "resource": resource(matched.group, matched.version),
            "subResource": self.subresource, "requestKind": kind(group, version), "requestResource": resource(group, version),
            "requestSubResource": self.subresource, "name": self.name, "namespace": namespace,
            "operation": self.operation, "dryRun": self.is_dry_run, "options": self.options,
            "userInfo": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra}})
    }
}

fn options(request: &Request, operation: &str) -> Value {
    let kind = if operation == "CREATE" { "CreateOptions" } else { "UpdateOptions" };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if request.options.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    if !request.options.field_manager.is_empty() {
        options["fieldManager"] = json!(request.options.field_manager);
    }
    if let Some(validation) = request.options.param("fieldValidation") {
        options["fieldValidation"] = json!(validation);
    }
    options
}

/// What the body says, then what the query says.
fn deletion_options(request: &Request) -> Value {
    let mut options = Map::new();
    options.insert("kind".into(), json!("DeleteOptions"));
    options.insert("apiVersion".into(), json!("meta.k8s.io/v1"));
    let given = request.body.as_object().into_iter().flatten();
    options.extend(given.filter(|(field, _)| !matches!(field.as_str(), "kind" | "apiVersion")).map(own));
    if let Some(seconds) = request.options.param("gracePeriodSeconds").and_then(|text| text.parse::<i64>().ok()) {
        options.entry("gracePeriodSeconds").or_insert(json!(seconds));
    }
    if let Some(policy) = request.options.param("propagationPolicy") {
        options.entry("propagationPolicy").or_insert(json!(policy));
    }
    if request.options.dry_run {
        options.entry("dryRun").or_insert(json!(["All"]));
    }
    Value::Object(options)
}

fn own((field, value): (&String, &Value)) -> (String, Value) {
    (field.clone(), value.clone())
}
