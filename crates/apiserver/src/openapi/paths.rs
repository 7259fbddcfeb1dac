//! The paths of a document: one object a URL, one operation a method, derived from the kinds.

use serde_json::{Map, Value, json};
use stead_kinds::{Kind, Subresource, Verbs};

use super::dialect::Dialect;
use super::schemas::{Components, META, group_version_kind};

const PATCH_TYPES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const LIST_TYPES: &[&str] = &["application/json", "application/json;stream=watch"];

/// (name, type) of the query parameters of each sort of request.
const LIST: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: &[(&str, &str)] = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const FORCE: &[(&str, &str)] = &[("force", "boolean")];
const DELETE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// One request that may be made of a path.
struct Operation<'a> {
    action: &'a str,
    id: String,
    tag: String,
    parameters: Vec<Value>,
    /// The body's media types and schema.
    body: Option<(&'a [&'a str], Value)>,
    /// The answer's media types and schema.
    answer: (&'a [&'a str], Value),
    codes: &'a [&'a str],
    kind: Value,
}

/// `api/v1` or `apis/apps/v1`.
pub(super) fn base_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

pub(super) fn of_kinds(kinds: &[&Kind], components: &mut Components) -> Value {
    let mut paths = Map::new();
    for kind in kinds {
        add_kind(kind, components, &mut paths);
    }
    paths.sort_keys();
    Value::Object(paths)
}

fn add_kind(kind: &Kind, components: &mut Components, paths: &mut Map<String, Value>) {
    let base = format!("/{}", base_path(kind.group, kind.version));
    let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{base}{scope}/{}", kind.plural);
    let item = format!("{collection}/{{name}}");
    let own = Endpoint { kind, subresource: "", gvk: group_version_kind(kind, kind.kind) };
    let object = components.object(kind);
    if kind.verbs == Verbs::CreateOnly {
        let create = own.create(&object, components.dialect);
        paths.insert(collection, path_item(kind.namespaced, false, components.dialect, vec![("post", create)]));
        return;
    }
    let list = components.list(kind);
    let status = components.reference(&format!("{META}.Status"));
    let mut on_collection = vec![("get", own.list(&list, kind.namespaced, components.dialect))];
    let mut on_item = vec![("get", own.read(&object, components.dialect))];
    if kind.verbs == Verbs::All {
        let options = components.reference(&format!("{META}.DeleteOptions"));
        on_collection.push(("post", own.create(&object, components.dialect)));
        on_collection.push(("delete", own.delete("deletecollection", &options, &status, components.dialect)));
        on_item.push(("put", own.replace(&object, components.dialect)));
        on_item.push(("patch", own.patch(&object, components)));
        on_item.push(("delete", own.delete("delete", &options, &status, components.dialect)));
    }
    if kind.namespaced {
        let everywhere = vec![("get", own.list(&list, false, components.dialect))];
        paths.insert(format!("{base}/{}", kind.plural), path_item(false, false, components.dialect, everywhere));
    }
    paths.insert(collection, path_item(kind.namespaced, false, components.dialect, on_collection));
    paths.insert(item.clone(), path_item(kind.namespaced, true, components.dialect, on_item));
    for subresource in kind.subresources {
        let operations = subresource_operations(kind, subresource, components);
        let url = format!("{item}/{}", subresource.name());
        paths.insert(url, path_item(kind.namespaced, true, components.dialect, operations));
    }
}

fn subresource_operations(
    kind: &Kind,
    subresource: &Subresource,
    components: &mut Components,
) -> Vec<(&'static str, Value)> {
    let dialect = components.dialect;
    let name = subresource.name();
    let (definition, gvk) = match name {
        "scale" => {
            ("io.k8s.api.autoscaling.v1.Scale", json!({"group": "autoscaling", "kind": "Scale", "version": "v1"}))
        }
        "eviction" => {
            ("io.k8s.api.policy.v1.Eviction", json!({"group": "policy", "kind": "Eviction", "version": "v1"}))
        }
        "binding" => ("io.k8s.api.core.v1.Binding", json!({"group": "", "kind": "Binding", "version": "v1"})),
        "token" => (
            "io.k8s.api.authentication.v1.TokenRequest",
            json!({"group": "authentication.k8s.io", "kind": "TokenRequest", "version": "v1"}),
        ),
        _ => ("", group_version_kind(kind, kind.kind)),
    };
    let schema = if definition.is_empty() { components.object(kind) } else { components.reference(definition) };
    let endpoint = Endpoint { kind, subresource: name, gvk };
    match name {
        "eviction" | "binding" | "token" => vec![("post", endpoint.create(&schema, dialect))],
        "finalize" => vec![("put", endpoint.replace(&schema, dialect))],
        "log" => vec![("get", endpoint.connect("get", "read", dialect))],
        "exec" | "attach" | "portforward" | "proxy" => vec![
            ("get", endpoint.connect("connect", "connectGet", dialect)),
            ("post", endpoint.connect("connect", "connectPost", dialect)),
        ],
        _ => vec![
            ("get", endpoint.read(&schema, dialect)),
            ("put", endpoint.replace(&schema, dialect)),
            ("patch", endpoint.patch(&schema, components)),
        ],
    }
}

/// A kind or one of its subresources, as a maker of operations.
struct Endpoint<'a> {
    kind: &'a Kind,
    subresource: &'a str,
    gvk: Value,
}

impl Endpoint<'_> {
    fn operation<'o>(&self, action: &'o str, verb: &str, namespaced: bool, answer: Value) -> Operation<'o> {
        let scope = if namespaced { "Namespaced" } else { "" };
        let everywhere = if verb == "list" && self.kind.namespaced && !namespaced { "ForAllNamespaces" } else { "" };
        let group = group_words(self.kind.group);
        let id = format!(
            "{verb}{}{}{scope}{}{}{everywhere}",
            capitalised(&group),
            capitalised(self.kind.version),
            self.kind.kind,
            capitalised(self.subresource),
        );
        Operation {
            action,
            id,
            tag: format!("{group}_{}", self.kind.version),
            parameters: Vec::new(),
            body: None,
            answer: (&["application/json"], answer),
            codes: &["200"],
            kind: self.gvk.clone(),
        }
    }

    fn list(&self, list: &Value, namespaced: bool, dialect: Dialect) -> Value {
        let mut operation = self.operation("list", "list", namespaced, list.clone());
        operation.answer.0 = LIST_TYPES;
        operation.parameters = query(LIST, dialect);
        operation.print(dialect)
    }

    fn read(&self, object: &Value, dialect: Dialect) -> Value {
        self.operation("get", "read", self.kind.namespaced, object.clone()).print(dialect)
    }

    fn create(&self, object: &Value, dialect: Dialect) -> Value {
        let mut operation = self.operation("post", "create", self.kind.namespaced, object.clone());
        operation.body = Some((&["application/json", "application/yaml"], object.clone()));
        operation.codes = &["200", "201", "202"];
        operation.parameters = query(WRITE, dialect);
        operation.print(dialect)
    }

    fn replace(&self, object: &Value, dialect: Dialect) -> Value {
        let mut operation = self.operation("put", "replace", self.kind.namespaced, object.clone());
        operation.body = Some((&["application/json", "application/yaml"], object.clone()));
        operation.codes = &["200", "201"];
        operation.parameters = query(WRITE, dialect);
        operation.print(dialect)
    }

    fn patch(&self, object: &Value, components: &mut Components) -> Value {
        let patch = components.reference(&format!("{META}.Patch"));
        let mut operation = self.operation("patch", "patch", self.kind.namespaced, object.clone());
        let is_custom = self.kind.schema == stead_kinds::SchemaRef::Custom;
        let types = if is_custom { &PATCH_TYPES[..3] } else { PATCH_TYPES };
        operation.body = Some((types, patch));
        operation.codes = &["200", "201"];
        operation.parameters = [query(WRITE, components.dialect), query(FORCE, components.dialect)].concat();
        operation.print(components.dialect)
    }

    fn delete(&self, action: &str, options: &Value, status: &Value, dialect: Dialect) -> Value {
        let is_collection = action == "deletecollection";
        let verb = if is_collection { "deleteCollection" } else { "delete" };
        let mut operation = self.operation(action, verb, self.kind.namespaced, status.clone());
        operation.body = Some((&["application/json"], options.clone()));
        operation.codes = if is_collection { &["200"] } else { &["200", "202"] };
        let selection = if is_collection { query(&LIST[1..7], dialect) } else { Vec::new() };
        operation.parameters = [query(DELETE, dialect), selection].concat();
        operation.print(dialect)
    }

    fn connect(&self, action: &str, verb: &str, dialect: Dialect) -> Value {
        let mut operation = self.operation(action, verb, self.kind.namespaced, json!({"type": "string"}));
        operation.answer.0 = &["text/plain"];
        operation.print(dialect)
    }
}

impl Operation<'_> {
    fn print(self, dialect: Dialect) -> Value {
        let mut out = Map::new();
        out.insert("tags".into(), json!([self.tag]));
        out.insert("operationId".into(), json!(self.id));
        let content = |(types, schema): &(&[&str], Value)| -> Map<String, Value> {
            types.iter().map(|one| ((*one).to_owned(), json!({"schema": schema}))).collect()
        };
        let mut parameters = self.parameters;
        match (&self.body, dialect) {
            (None, _) => {}
            (Some(body), Dialect::V3) => {
                out.insert("requestBody".into(), json!({"content": content(body)}));
            }
            (Some((types, schema)), Dialect::V2) => {
                out.insert("consumes".into(), json!(types));
                parameters.push(json!({"in": "body", "name": "body", "schema": schema}));
            }
        }
        if dialect == Dialect::V2 {
            out.insert("produces".into(), json!(self.answer.0));
        }
        if !parameters.is_empty() {
            out.insert("parameters".into(), Value::Array(parameters));
        }
        let answer = match dialect {
            Dialect::V3 => json!({"description": "OK", "content": content(&self.answer)}),
            Dialect::V2 => json!({"description": "OK", "schema": self.answer.1}),
        };
        let mut responses: Map<String, Value> =
            self.codes.iter().map(|code| ((*code).to_owned(), answer.clone())).collect();
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        out.insert("responses".into(), Value::Object(responses));
        out.insert("x-kubernetes-action".into(), json!(self.action));
        out.insert("x-kubernetes-group-version-kind".into(), self.kind);
        Value::Object(out)
    }
}

fn path_item(namespaced: bool, named: bool, dialect: Dialect, operations: Vec<(&str, Value)>) -> Value {
    let mut parameters = Vec::new();
    for (name, wanted) in [("name", named), ("namespace", namespaced)] {
        if wanted {
            parameters.push(parameter(name, "path", "string", dialect));
        }
    }
    parameters.push(parameter("pretty", "query", "string", dialect));
    let mut item: Map<String, Value> =
        operations.into_iter().map(|(method, operation)| (method.to_owned(), operation)).collect();
    item.insert("parameters".into(), Value::Array(parameters));
    Value::Object(item)
}

fn query(names: &[(&str, &str)], dialect: Dialect) -> Vec<Value> {
    names.iter().map(|(name, of)| parameter(name, "query", of, dialect)).collect()
}

fn parameter(name: &str, place: &str, of: &str, dialect: Dialect) -> Value {
    let mut one = json!({"name": name, "in": place});
    if place == "path" {
        one["required"] = json!(true);
    }
    match dialect {
        Dialect::V3 => one["schema"] = json!({"type": of, "uniqueItems": true}),
        Dialect::V2 => {
            one["type"] = json!(of);
            one["uniqueItems"] = json!(true);
        }
    }
    one
}

/// `core`, `apps`, `rbacAuthorization`.
fn group_words(group: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let mut words = group.split('.');
    let first = words.next().filter(|word| !word.is_empty()).unwrap_or("core");
    words.fold(first.to_owned(), |name, word| name + &capitalised(word))
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
