//! Content negotiation: what an Accept header asks for, among what can be made.
//!
//! Contract: alternatives are tried from the highest `q` down, the more specific before the wildcards, else as written; the first
//! that can be made wins. Custom resources have no protobuf form but their metadata, old versions neither; Tables are JSON or YAML; YAML is no
//! stream. An error is told in the form asked for where that is possible, else in JSON.
//! Rule's source: `apiserver/pkg/endpoints/handlers/negotiation` and `RequestScope.AllowsMediaTypeTransform`.

use stead_api::form::{Form, Format, Shape};
use stead_api::request::Options;
use stead_api::{Errors, FieldPath, Request, Resource, Status, Target, Verb};
use stead_kinds::{Kind, Registry, SchemaRef, Verbs};

use crate::encode::protobuf::message_of;

const JSON_OR_PROTOBUF_STREAMS: &[&str] =
    &["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
/// Clients before which a person sits.
const PEOPLE: &[&str] = &["curl", "Wget", "Mozilla/5.0"];
/// Subresources whose answers are objects of the kind itself.
const OF_THE_KIND: &[&str] = &["", "status", "approval", "ephemeralcontainers", "finalize", "resize"];
/// Subresources that answer with something else than objects.
const NOT_OBJECTS: &[&str] = &["log", "proxy"];

/// One alternative of an Accept header.
struct Clause<'a> {
    main: &'a str,
    sub: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

/// The type to turn the answer into: `as=Table;g=meta.k8s.io;v=v1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Convert<'a> {
    pub kind: &'a str,
    pub group: &'a str,
    pub version: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    pub format: Format,
    pub convert: Option<Convert<'a>>,
    pub pretty: bool,
}

impl<'a> Clause<'a> {
    fn read(text: &'a str) -> Option<Clause<'a>> {
        let mut parts = text.split(';').map(str::trim);
        let (main, sub) = match parts.next()? {
            "*" => ("*", "*"),
            media => media.split_once('/')?,
        };
        let mut clause = Clause { main, sub, quality: 1.0, parameters: Vec::new() };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim_matches('"');
            match key {
                "q" => clause.quality = value.parse().unwrap_or(1.0),
                key => clause.parameters.push((key, value)),
            }
        }
        Some(clause)
    }

    /// Sorts before what is wanted less: by quality, then the wildcards last.
    fn rank(&self) -> (i32, bool, bool) {
        (-(self.quality * 1000.0) as i32, self.main == "*", self.sub == "*")
    }

    fn is_met_by(&self, media_type: &str) -> bool {
        let Some((main, sub)) = media_type.split_once('/') else { return false };
        (self.main == main && (self.sub == sub || self.sub == "*")) || (self.main == "*" && self.sub == "*")
    }

    /// What its parameters ask for; None for a stream that there is not.
    fn choice(&self, format: Format) -> Option<Choice<'a>> {
        let mut choice = Choice { format, convert: None, pretty: false };
        for (key, value) in &self.parameters {
            match *key {
                "as" => choice.convert.get_or_insert_default().kind = value,
                "g" => choice.convert.get_or_insert_default().group = value,
                "v" => choice.convert.get_or_insert_default().version = value,
                "stream" if !value.is_empty() && (format == Format::Yaml || *value != "watch") => return None,
                "sv" if !value.is_empty() && *value != "v1" => return None,
                "pretty" => choice.pretty = *value == "1",
                _ => {}
            }
        }
        Some(choice)
    }
}

/// The alternatives, the first being wanted most.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause> = accept.split(',').filter_map(|one| Clause::read(one.trim())).collect();
    clauses.sort_by_key(Clause::rank);
    clauses
}

/// The media type that is wanted most; where nothing is said, the first.
pub(crate) fn best(accept: &str, offered: &[&'static str]) -> Option<&'static str> {
    let accept = if accept.is_empty() { "*/*" } else { accept };
    clauses(accept).iter().find_map(|clause| offered.iter().find(|one| clause.is_met_by(one)).copied())
}

/// The first alternative that can be made.
pub(crate) fn choose<'a>(accept: &'a str, allows: impl Fn(Format, Option<Convert>) -> bool) -> Option<Choice<'a>> {
    if accept.is_empty() {
        return Some(Choice { format: Format::Json, convert: None, pretty: false });
    }
    let clauses = clauses(accept);
    let met = |clause: &Clause<'a>| {
        let formats = Format::ALL.into_iter().filter(|format| clause.is_met_by(format.media_type()));
        let mut choices = formats.filter_map(|format| clause.choice(format));
        choices.find(|choice| allows(choice.format, choice.convert))
    };
    clauses.iter().find_map(met)
}

/// Sets the form of the answer that a request asks for.
///
/// # Errors
/// 406 when nothing it accepts can be made, 400 for options that a Table does not have.
pub fn negotiate(registry: &Registry, request: &mut Request) -> Result<(), Status> {
    let form = match &request.target {
        Target::Path(path) => of_path(request, path)?,
        Target::Resource(resource) => of_resource(registry, request, resource)?,
    };
    request.options.form = form;
    Ok(())
}

fn is_pretty(options: &Options, user_agent: &str) -> bool {
    options.pretty.unwrap_or_else(|| PEOPLE.iter().any(|one| user_agent.starts_with(one)))
}

fn media_types() -> [&'static str; 3] {
    Format::ALL.map(Format::media_type)
}

/// Discovery is negotiated; the other paths have one form each.
fn of_path(request: &Request, path: &str) -> Result<Form, Status> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let is_root = matches!(parts.as_slice(), ["api" | "apis"]);
    if !matches!(parts.first(), Some(&("api" | "apis"))) {
        return Ok(Form::default());
    }
    let allows =
        |_: Format, convert: Option<Convert>| convert.is_none_or(|one| is_root && aggregated_version(one).is_some());
    let choice = choose(&request.accept, allows).ok_or_else(|| Status::unknown_form(&media_types()))?;
    let pretty = choice.pretty || is_pretty(&request.options, &request.user_agent);
    Ok(Form { format: choice.format, pretty, ..Form::default() })
}

/// The version of aggregated discovery that is asked for, if that is what is asked for.
pub(crate) fn aggregated_version(convert: Convert) -> Option<&'static str> {
    match convert {
        Convert { kind: "APIGroupDiscoveryList", group: "apidiscovery.k8s.io", version: "v2" } => Some("v2"),
        Convert { kind: "APIGroupDiscoveryList", group: "apidiscovery.k8s.io", version: "v2beta1" } => Some("v2beta1"),
        _ => None,
    }
}

fn of_resource(registry: &Registry, request: &Request, resource: &Resource) -> Result<Form, Status> {
    let subresource = resource.subresource.as_str();
    if request.verb == Verb::Connect || NOT_OBJECTS.contains(&subresource) {
        return Ok(Form::default());
    }
    // What is not served is told by whoever resolves the resource.
    let Some(kind) = registry.find(&resource.group, &resource.version, &resource.plural) else {
        return Ok(Form::default());
    };
    let allows = |format: Format, convert: Option<Convert>| match convert {
        None => format != Format::Protobuf || message_of(kind).is_some(),
        Some(convert) => can_convert(kind, subresource, format, convert),
    };
    let choice = choose(&request.accept, allows).ok_or_else(|| Status::unknown_form(&media_types()))?;
    if request.verb == Verb::Watch && choice.format == Format::Yaml {
        return Err(Status::unknown_form(JSON_OR_PROTOBUF_STREAMS));
    }
    let shape = match choice.convert {
        None => Shape::Object,
        Some(Convert { kind: "Table", .. }) => table(&request.options)?,
        Some(convert) => metadata(kind, request.verb, convert)?,
    };
    Ok(Form {
        format: choice.format,
        shape,
        is_beta: choice.convert.is_some_and(|convert| convert.version == "v1beta1"),
        // Frames are lines.
        pretty: request.verb != Verb::Watch && (choice.pretty || is_pretty(&request.options, &request.user_agent)),
    })
}

fn can_convert(kind: &Kind, subresource: &str, format: Format, convert: Convert) -> bool {
    let is_known = convert.group == "meta.k8s.io" && matches!(convert.version, "v1" | "v1beta1");
    let is_object = kind.verbs != Verbs::CreateOnly && OF_THE_KIND.contains(&subresource);
    match convert.kind {
        "Table" => is_known && is_object && format != Format::Protobuf,
        "PartialObjectMetadata" | "PartialObjectMetadataList" => is_known && is_object,
        _ => false,
    }
}

fn table(options: &Options) -> Result<Shape, Status> {
    let given = options.include_object.as_str();
    if matches!(given, "" | "None" | "Metadata" | "Object") {
        return Ok(Shape::Table);
    }
    let mut errors = Errors::default();
    errors.invalid(&FieldPath::new("includeObject"), given, "must be 'Metadata', 'Object', 'None', or empty");
    let why = errors.0.first().map(ToString::to_string).unwrap_or_default();
    Err(Status::bad_request(format!("Unable to convert to Table as requested: {why}")))
}

/// One object has metadata, a list has a list of them.
fn metadata(kind: &Kind, verb: Verb, convert: Convert) -> Result<Shape, Status> {
    let is_list = matches!(verb, Verb::List | Verb::DeleteCollection);
    let asks_list = convert.kind == "PartialObjectMetadataList";
    if is_list == asks_list {
        return Ok(Shape::Metadata);
    }
    let name = if is_list { kind.list_kind } else { kind.kind };
    let go_type = match kind.schema {
        SchemaRef::Custom if is_list => "unstructured.UnstructuredList".to_owned(),
        SchemaRef::Custom => "unstructured.Unstructured".to_owned(),
        SchemaRef::Definition(_) if kind.group.is_empty() => format!("core.{name}"),
        SchemaRef::Definition(_) => format!("{}.{name}", kind.group.split('.').next().unwrap_or_default()),
    };
    let is = if is_list { "is a list" } else { "is not a list" };
    let wanted = convert.kind;
    let why = format!("you requested {wanted}, but the requested object {is} (*{go_type})");
    Err(Status::not_acceptable(why))
}

/// The form in which an error is told: what is asked for, if that is an encoding and no more, else JSON.
pub fn error_form(accept: &str, user_agent: &str, options: Option<&Options>) -> Form {
    let choice = choose(accept, |_, convert| convert.is_none());
    let asked = options.map_or_else(|| is_pretty(&Options::default(), user_agent), |one| is_pretty(one, user_agent));
    let pretty = choice.is_some_and(|choice| choice.pretty) || asked;
    Form { format: choice.map(|choice| choice.format).unwrap_or_default(), pretty, ..Form::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything can be made but Tables in protobuf.
    fn chosen(accept: &str) -> String {
        let choice = choose(accept, |format, convert| {
            convert.is_none_or(|one| one.kind != "Table" || format != Format::Protobuf)
        });
        let Some(choice) = choice else { return "nothing".into() };
        format!("{:?} {}", choice.format, choice.convert.unwrap_or_default().kind)
    }

    #[test]
    fn the_first_alternative_that_can_be_made_wins() {
        for (accept, expected) in [
            ("", "Json "),
            ("*/*", "Json "),
            ("*", "Json "),
            ("application/*", "Json "),
            ("text/html,application/xhtml+xml,*/*;q=0.8", "Json "),
            ("text/html", "nothing"),
            ("application/cbor", "nothing"),
            ("application/vnd.kubernetes.protobuf,application/json", "Protobuf "),
            ("application/cbor, application/yaml", "Yaml "),
            ("application/json;q=0.1,application/vnd.kubernetes.protobuf;q=0.9", "Protobuf "),
            ("*/*,application/vnd.kubernetes.protobuf", "Protobuf "),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "Json Table"),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json", "Json "),
            ("application/vnd.kubernetes.protobuf;stream=watch", "Protobuf "),
            ("application/yaml;stream=watch,application/json;q=0.5", "Json "),
            ("application/json;stream=other", "nothing"),
            ("application/json;sv=v2,application/yaml", "Yaml "),
            (";;,/,=,application/json;q=x", "Json "),
        ] {
            assert_eq!(chosen(accept), expected, "{accept}");
        }
    }

    #[test]
    fn an_error_is_told_in_json_where_the_form_is_none_of_an_error() {
        let of = |accept: &str| error_form(accept, "kubectl/v1.32", None).format;
        assert_eq!(of("application/vnd.kubernetes.protobuf"), Format::Protobuf);
        assert_eq!(of("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"), Format::Json);
        assert_eq!(of("text/plain"), Format::Json);
        assert!(error_form("", "curl/8", None).pretty && !error_form("", "kubectl", None).pretty);
    }
}
