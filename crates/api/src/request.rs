//! `Request`: what a client asks, decoded from method, path, query and body, and free of HTTP.
//!
//! Path grammar as upstream's request info: `/api/v1/…` and `/apis/{group}/{version}/…`, optionally `namespaces/{ns}`, the plural,
//! name, subresource and the rest. Everything else is a non-resource path.

use std::sync::Arc;

use serde_json::Value;

use crate::call::Replay;
use crate::form::Form;
use crate::status::Status;
use crate::token::Credential;
use crate::user::User;

/// How a PATCH body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// What is asked, in RBAC's verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch(PatchType),
    Delete,
    DeleteCollection,
    /// GET or POST on a streaming subresource (exec, attach, portforward).
    Connect,
}

impl Verb {
    /// The verb as RBAC rules name it.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create | Verb::Connect => "create",
            Verb::Update => "update",
            Verb::Patch(_) => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }

    pub fn is_read(self) -> bool {
        matches!(self, Verb::Get | Verb::List | Verb::Watch)
    }
}

/// What it is asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Resource(Resource),
    /// `/healthz`, `/apis`, `/openapi/v3/…`.
    Path(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// Empty for core.
    pub group: String,
    pub version: String,
    pub plural: String,
    /// Empty: cluster scope, or all namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// Empty when the object itself is meant.
    pub subresource: String,
    /// What follows a subresource, for proxies.
    pub subpath: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// The query parameters of ListOptions, GetOptions, CreateOptions, PatchOptions, DeleteOptions in one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    pub label_selector: String,
    pub field_selector: String,
    pub resource_version: String,
    pub resource_version_match: String,
    pub limit: Option<u64>,
    pub continue_token: String,
    pub timeout_seconds: Option<u64>,
    pub allow_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub dry_run: bool,
    pub field_manager: String,
    pub force: bool,
    pub field_validation: FieldValidation,
    /// What the Accept header asks for, `pretty` included.
    pub form: Form,
    /// `includeObject` of a Table: None, Metadata (default) or Object.
    pub include_object: String,
    /// Whether the query asks for JSON in lines; None: it does not say.
    pub pretty: Option<bool>,
    /// Every parameter as sent, for subresources that have their own (log, exec, …).
    pub all: Vec<(String, String)>,
}

impl Options {
    pub fn param(&self, name: &str) -> Option<&str> {
        self.all.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn params<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.all.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the audit log wants to know of how a request was decided; each level with those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noted {
    #[default]
    Nothing,
    Decisions,
    /// What webhooks changed, too.
    Patches,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub user: Arc<User>,
    pub verb: Verb,
    pub target: Target,
    pub options: Options,
    /// The decoded body; Null when there was none. For JSON patches an array.
    pub body: Value,
    /// Problems found while decoding the body (unknown or duplicate fields), to be treated as `options.field_validation` says.
    pub strict_problems: Vec<String>,
    /// The Accept header, for documents that come in several versions (discovery, OpenAPI).
    pub accept: String,
    /// Client's name for managedFields when `fieldManager` is absent: the User-Agent up to the first slash.
    pub user_agent: String,
    /// For a TokenReview: the token under review, or why it is not one of ours. The shell checks the signature.
    pub reviewed: Option<Result<Arc<Credential>, String>>,
    /// Set when the request comes again after webhooks were asked about it.
    pub replay: Option<Box<Replay>>,
    /// What the audit log wants to know of its decision.
    pub noted: Noted,
}

impl Request {
    /// A request as our own parts make them.
    pub fn of(user: Arc<User>, verb: Verb, resource: Resource, body: Value) -> Request {
        Request {
            user,
            verb,
            target: Target::Resource(resource),
            options: Options::default(),
            body,
            strict_problems: Vec::new(),
            accept: String::new(),
            user_agent: String::new(),
            reviewed: None,
            replay: None,
            noted: Noted::Nothing,
        }
    }

    /// The resource asked for.
    pub fn resource(&self) -> Option<&Resource> {
        match &self.target {
            Target::Resource(resource) => Some(resource),
            Target::Path(_) => None,
        }
    }

    /// The name recorded in managedFields, at most 128 bytes.
    pub fn manager(&self) -> String {
        let name = match self.options.field_manager.as_str() {
            "" => self.user_agent.split('/').next().unwrap_or_default(),
            given => given,
        };
        let name = if name.is_empty() { "unknown" } else { name };
        name.chars().take(128).collect()
    }
}

/// Subresources that are long-lived connections.
const CONNECT: &[&str] = &["exec", "attach", "portforward"];

/// Splits a path into its target. `path` is percent-encoded as received.
pub fn target(path: &str) -> Target {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Target::Path(path.to_owned()),
    };
    // The old prefix form of watches: /api/v1/watch/pods.
    let rest = if rest.len() > 1 && rest[0] == "watch" { &rest[1..] } else { rest };
    let mut resource = Resource { group: group.into(), version: version.into(), ..Resource::default() };
    let in_namespace = rest.len() > 2 && rest[0] == "namespaces" && !matches!(rest[2], "status" | "finalize");
    let rest = if in_namespace {
        resource.namespace = decode(rest[1]);
        &rest[2..]
    } else {
        rest
    };
    resource.plural = decode(rest[0]);
    resource.name = rest.get(1).map(|part| decode(part)).unwrap_or_default();
    resource.subresource = rest.get(2).map(|part| decode(part)).unwrap_or_default();
    if rest.len() > 3 {
        resource.subpath = rest[3..].join("/");
        if path.ends_with('/') {
            resource.subpath.push('/');
        }
    }
    if resource.group.is_empty() && resource.plural == "namespaces" && !resource.name.is_empty() {
        resource.namespace = resource.name.clone();
    }
    Target::Resource(resource)
}

/// The verb of a method on a target.
///
/// # Errors
/// 405 for methods the API does not have; 415 for a PATCH without a known patch content type.
pub fn verb(method: &str, content_type: &str, target: &Target, options: &Options) -> Result<Verb, Status> {
    let Target::Resource(resource) = target else {
        return match method {
            "GET" | "HEAD" => Ok(Verb::Get),
            "POST" => Ok(Verb::Create),
            _ => Err(Status::method_not_allowed()),
        };
    };
    if CONNECT.contains(&resource.subresource.as_str()) {
        return match method {
            "GET" | "POST" => Ok(Verb::Connect),
            _ => Err(Status::method_not_allowed()),
        };
    }
    let watches = options.param("watch").is_some_and(|v| !matches!(v, "false" | "0"));
    match method {
        "GET" | "HEAD" if watches && resource.subresource.is_empty() => Ok(Verb::Watch),
        "GET" | "HEAD" if resource.name.is_empty() => Ok(Verb::List),
        "GET" | "HEAD" => Ok(Verb::Get),
        "POST" => Ok(Verb::Create),
        "PUT" => Ok(Verb::Update),
        "DELETE" if resource.name.is_empty() => Ok(Verb::DeleteCollection),
        "DELETE" => Ok(Verb::Delete),
        "PATCH" => patch_type(content_type).map(Verb::Patch),
        _ => Err(Status::method_not_allowed()),
    }
}

/// The verb of a request that another server answers: it reads the body, whatever that is.
pub fn verb_of_others(method: &str, target: &Target, options: &Options) -> Verb {
    let has_name = matches!(target, Target::Resource(resource) if !resource.name.is_empty());
    let watches = options.param("watch").is_some_and(|v| !matches!(v, "false" | "0"));
    match (method, target) {
        ("GET" | "HEAD", Target::Path(_)) => Verb::Get,
        ("GET" | "HEAD", _) if has_name => Verb::Get,
        ("GET" | "HEAD", _) if watches => Verb::Watch,
        ("GET" | "HEAD", _) => Verb::List,
        ("PUT", _) => Verb::Update,
        ("PATCH", _) => Verb::Patch(PatchType::Merge),
        ("DELETE", Target::Resource(_)) if !has_name => Verb::DeleteCollection,
        ("DELETE", _) => Verb::Delete,
        _ => Verb::Create,
    }
}

fn patch_type(content_type: &str) -> Result<PatchType, Status> {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchType::Strategic),
        "application/apply-patch+yaml" | "application/apply-patch+json" => Ok(PatchType::Apply),
        _ => Err(Status::unknown_format(&[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ])),
    }
}

/// Parses a query string.
///
/// # Errors
/// 400 for values of the wrong type.
pub fn options(query: &str) -> Result<Options, Status> {
    let mut options = Options::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        options.all.push((decode_plus(key), decode_plus(value)));
    }
    let all = std::mem::take(&mut options.all);
    for (key, value) in &all {
        set(&mut options, key, value)?;
    }
    options.all = all;
    Ok(options)
}

fn set(options: &mut Options, key: &str, value: &str) -> Result<(), Status> {
    let number = || {
        let wrong = |_| Status::bad_request(format!("invalid value \"{value}\" for query parameter \"{key}\""));
        if value.is_empty() { Ok(None) } else { value.parse().map(Some).map_err(wrong) }
    };
    let truth = || !matches!(value, "false" | "0");
    match key {
        "labelSelector" => options.label_selector = value.into(),
        "fieldSelector" => options.field_selector = value.into(),
        "resourceVersion" => options.resource_version = value.into(),
        "resourceVersionMatch" => options.resource_version_match = value.into(),
        "limit" => options.limit = number()?.filter(|n| *n > 0),
        "continue" => options.continue_token = value.into(),
        "timeoutSeconds" => options.timeout_seconds = number()?,
        "allowWatchBookmarks" => options.allow_bookmarks = truth(),
        "sendInitialEvents" => options.send_initial_events = Some(truth()),
        "fieldManager" => options.field_manager = value.into(),
        "force" => options.force = truth(),
        "includeObject" => options.include_object = value.into(),
        "pretty" if value.is_empty() => {}
        "pretty" => options.pretty = Some(matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")),
        "dryRun" => options.dry_run |= value == "All",
        // What else may be said of these is told when it is known which verb's options they are.
        "fieldValidation" => {
            options.field_validation = match value {
                "Ignore" => FieldValidation::Ignore,
                "Strict" => FieldValidation::Strict,
                _ => FieldValidation::Warn,
            }
        }
        _ => {}
    }
    Ok(())
}

/// Percent-decodes a part of a query, in which a plus is a space.
pub fn decode_plus(text: &str) -> String {
    if text.contains('+') { decode(&text.replace('+', " ")) } else { decode(text) }
}

/// Percent-decodes; malformed escapes stay as they are.
pub fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], escape.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(path: &str) -> String {
        match target(path) {
            Target::Path(path) => format!("path {path}"),
            Target::Resource(r) => [&r.group, &r.version, &r.namespace, &r.plural, &r.name, &r.subresource, &r.subpath]
                .map(|s| s.as_str())
                .join("|"),
        }
    }

    #[test]
    fn paths_become_targets() {
        assert_eq!(show("/api/v1/pods"), "|v1||pods|||");
        assert_eq!(
            show("/apis/apps/v1/namespaces/default/statefulsets/web/scale"),
            "apps|v1|default|statefulsets|web|scale|"
        );
        assert_eq!(show("/api/v1/namespaces/a"), "|v1|a|namespaces|a||");
        assert_eq!(show("/api/v1/namespaces/a/finalize"), "|v1|a|namespaces|a|finalize|");
        assert_eq!(show("/api/v1/namespaces/a/pods/p/proxy/x/y/"), "|v1|a|pods|p|proxy|x/y/");
        assert_eq!(show("/apis/apps/v1"), "path /apis/apps/v1");
        assert_eq!(show("/api"), "path /api");
    }

    #[test]
    fn a_stream_is_got_or_posted() {
        let of = |method| verb(method, "", &target("/api/v1/namespaces/a/pods/p/exec"), &Options::default());
        assert_eq!((of("GET"), of("POST")), (Ok(Verb::Connect), Ok(Verb::Connect)));
        for method in ["PUT", "DELETE", "PATCH"] {
            assert_eq!(of(method), Err(Status::method_not_allowed()));
        }
    }

    #[test]
    fn what_others_answer_has_the_verb_of_its_method() {
        let verb =
            |method, path: &str, query: &str| verb_of_others(method, &target(path), &options(query).unwrap()).name();
        assert_eq!(verb("GET", "/apis/a.b/v1/things", "watch=true"), "watch");
        assert_eq!(verb("GET", "/apis/a.b/v1/things", ""), "list");
        assert_eq!(verb("GET", "/apis/a.b/v1/things/x/proxy", ""), "get");
        assert_eq!(verb("PATCH", "/apis/a.b/v1/things/x", ""), "patch");
        assert_eq!(verb("DELETE", "/apis/a.b/v1/things", ""), "deletecollection");
        assert_eq!(verb("GET", "/apis/a.b/v1", ""), "get");
    }

    #[test]
    fn queries_become_options() {
        let o = options("labelSelector=app%3Dweb%2Cx+in+(a)&limit=5&watch=1&dryRun=All&pretty").unwrap();
        assert_eq!((o.label_selector.as_str(), o.limit, o.dry_run), ("app=web,x in (a)", Some(5), true));
        assert_eq!(verb("GET", "", &target("/api/v1/pods"), &o), Ok(Verb::Watch));
        assert_eq!(options("limit=x").unwrap_err().code, 400);
    }

    #[test]
    fn broken_escapes_stay() {
        assert_eq!(decode("a%2"), "a%2");
        assert_eq!(decode("%zz%41"), "%zzA");
    }
}
