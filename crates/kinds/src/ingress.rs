//! Ingress and IngressClass.

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressClass, IngressSpec};
use serde_json::{Value, json};
use stead_api::names::{dns1035_label, dns1123_subdomain, regex_message};
use stead_api::{Errors, Object};

use crate::check::{FIELD_IS_IMMUTABLE, list, name, one_of, port_name, port_number, required_name, text};
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{object, object_or_new, set_text};
use crate::names::{self, names};
use crate::path::Path;
use crate::workload::view;
use crate::{Behavior, Hooks, Kind, Subresource};

const GROUP: &str = "networking.k8s.io";
/// How an Ingress named its class before the field was there.
pub const OLD_CLASS: &str = "kubernetes.io/ingress.class";
/// Marks the class of Ingresses that name none.
pub const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

pub const INGRESS: Kind = Kind {
    short: &["ing"],
    has_generation: true,
    subresources: &[Subresource::Status],
    columns: &[
        NAME_COLUMN,
        columns::text("Class", class, "The name of the IngressClass resource that should be used."),
        columns::text("Hosts", hosts, "Hosts that incoming requests are matched against."),
        columns::text("Address", address, "Where it is reached."),
        columns::text("Ports", ports, "Ports of TLS configurations that open."),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<Ingress>(),
    ..Kind::plain(
        "ingresses.networking.k8s.io",
        GROUP,
        "v1",
        names!("Ingress", "ingress", "ingresses"),
        "io.k8s.api.networking.v1.Ingress",
    )
};

pub const INGRESSCLASS: Kind = Kind {
    namespaced: false,
    has_generation: true,
    columns: &[
        NAME_COLUMN,
        columns::path("Controller", "spec.controller", "Who serves its Ingresses."),
        columns::text("Parameters", parameters, "Where its configuration is."),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<IngressClass>(),
    ..Kind::plain(
        "ingressclasses.networking.k8s.io",
        GROUP,
        "v1",
        names!("IngressClass", "ingressclass", "ingressclasses"),
        "io.k8s.api.networking.v1.IngressClass",
    )
};

fn class(object: &Object, _now: jiff::Timestamp) -> Value {
    let ingress = view::<Ingress>(object);
    let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.clone());
    named.or(object.meta.annotation(OLD_CLASS).map(str::to_owned)).unwrap_or("<none>".to_owned()).into()
}

fn hosts(object: &Object, _now: jiff::Timestamp) -> Value {
    const SHOWN: usize = 3;
    let ingress = view::<Ingress>(object);
    let rules = ingress.spec.iter().flat_map(|spec| list(&spec.rules));
    let mut hosts: Vec<&str> = rules.map(|rule| text(&rule.host)).filter(|host| !host.is_empty()).collect();
    match hosts.len() {
        0 => "*".into(),
        count if count > SHOWN => {
            hosts.truncate(SHOWN);
            format!("{} + {} more...", hosts.join(","), count - SHOWN).into()
        }
        _ => hosts.join(",").into(),
    }
}

fn address(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let points = value["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    let shown = points.filter_map(|point| point["ip"].as_str().or(point["hostname"].as_str()).map(str::to_owned));
    shown.collect::<Vec<_>>().join(",").into()
}

fn ports(object: &Object, _now: jiff::Timestamp) -> Value {
    let ingress = view::<Ingress>(object);
    let has_tls = ingress.spec.as_ref().is_some_and(|spec| !list(&spec.tls).is_empty());
    if has_tls { "80, 443" } else { "80" }.into()
}

fn parameters(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let found = &value["spec"]["parameters"];
    let part = |field: &str| found[field].as_str().unwrap_or("").to_owned();
    match (found.is_null(), part("apiGroup").as_str()) {
        (true, _) => "<none>".into(),
        (false, "") => format!("{}/{}", part("kind"), part("name")).into(),
        (false, group) => format!("{}.{group}/{}", part("kind"), part("name")).into(),
    }
}

impl Behavior for Ingress {
    fn default(new: &mut Value) {
        object_or_new(new, "spec");
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let empty = IngressSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let annotation = self.metadata.annotations.as_ref().and_then(|all| all.get(OLD_CLASS));
        if let (Some(annotation), Some(_), None) = (annotation, &spec.ingress_class_name, old) {
            // Upstream's path, without the metadata.
            let at = Path::root("annotations");
            let detail = "can not be set when the class field is also set";
            at.child(OLD_CLASS).invalid(errors, annotation.as_str(), detail);
        }
        if old.and_then(|old| old.spec.as_ref()) != Some(spec) {
            validate_spec(Path::root("spec"), spec, errors);
        }
    }

    fn warn(&self, old: Option<&Self>) -> Vec<String> {
        let annotated = self.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(OLD_CLASS));
        if annotated && old.is_none() {
            return vec![format!(
                "annotation \"{OLD_CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"
            )];
        }
        Vec::new()
    }
}

fn validate_spec(at: Path, spec: &IngressSpec, errors: &mut Errors) {
    let rules = list(&spec.rules);
    if rules.is_empty() && spec.default_backend.is_none() {
        at.invalid(errors, json!(rules), "either `defaultBackend` or `rules` must be specified");
    }
    if let Some(backend) = &spec.default_backend {
        validate_backend(at.child("defaultBackend"), backend, errors);
    }
    for (index, rule) in rules.iter().enumerate() {
        let all = at.child("rules");
        let at = all.index(index);
        validate_host(at.child("host"), text(&rule.host), errors);
        let Some(http) = &rule.http else { continue };
        let at = at.child("http");
        let at = at.child("paths");
        if http.paths.is_empty() {
            at.required(errors, "");
        }
        for (index, path) in http.paths.iter().enumerate() {
            validate_path(at.index(index), path, errors);
        }
    }
    for (index, tls) in list(&spec.tls).iter().enumerate() {
        let all = at.child("tls");
        let at = all.index(index);
        for (place, host) in list(&tls.hosts).iter().enumerate() {
            let hosts = at.child("hosts");
            name(hosts.index(place), host, host_rule, errors);
        }
        name(at.child("secretName"), text(&tls.secret_name), dns1123_subdomain, errors);
    }
    if let Some(class) = &spec.ingress_class_name {
        required_name(at.child("ingressClassName"), class, dns1123_subdomain, errors);
    }
}

fn host_rule(host: &str) -> Vec<String> {
    match host.contains('*') {
        true => wildcard_subdomain(host),
        false => dns1123_subdomain(host),
    }
}

/// `*.example.com`.
fn wildcard_subdomain(text: &str) -> Vec<String> {
    let is_good = text.strip_prefix("*.").is_some_and(|rest| dns1123_subdomain(rest).is_empty());
    if is_good {
        return Vec::new();
    }
    let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    let regex = "\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
    vec![regex_message(message, regex, &["*.example.com"])]
}

fn validate_host(at: Path, host: &str, errors: &mut Errors) {
    if host.parse::<std::net::IpAddr>().is_ok() {
        at.invalid(errors, host, "must be a DNS name, not an IP address");
    }
    name(at, host, host_rule, errors);
}

fn validate_path(at: Path, path: &HTTPIngressPath, errors: &mut Errors) {
    let given = text(&path.path);
    let at_path = at.child("path");
    match path.path_type.as_str() {
        "" => at.child("pathType").required(errors, "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !given.starts_with('/') {
                at_path.invalid(errors, given, "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if given.contains(sequence) {
                    at_path.invalid(errors, given, format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if given.ends_with(suffix) {
                    at_path.invalid(errors, given, format!("cannot end with '{suffix}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !given.is_empty() && !given.starts_with('/') {
                at_path.invalid(errors, given, "must be an absolute path");
            }
        }
        other => {
            let known = ["Exact", "ImplementationSpecific", "Prefix"];
            at.child("pathType").not_supported(errors, other, &known);
        }
    }
    validate_backend(at.child("backend"), &path.backend, errors);
}

fn validate_backend(at: Path, backend: &IngressBackend, errors: &mut Errors) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => at.invalid(errors, "", "cannot set both resource and service backends"),
        (Some(resource), None) => {
            let at = at.child("resource");
            required_name(at.child("kind"), &resource.kind, names::path_segment, errors);
            required_name(at.child("name"), &resource.name, names::path_segment, errors);
        }
        (None, Some(service)) => {
            let at = at.child("service");
            required_name(at.child("name"), &service.name, dns1035_label, errors);
            let port = service.port.as_ref();
            let (word, number) = (port.map_or("", |port| text(&port.name)), port.and_then(|port| port.number));
            let at_port = at.child("port");
            match (word, number.unwrap_or(0)) {
                ("", 0) => at.required(errors, "port name or number is required"),
                ("", number) => port_number(at_port.child("number"), number.into(), errors),
                (word, 0) => name(at_port.child("name"), word, port_name, errors),
                _ => at.invalid(errors, "", "cannot set both port name & port number"),
            }
        }
        (None, None) => at.invalid(errors, "", "resource or service backend is required"),
    }
}

impl Behavior for IngressClass {
    fn default(new: &mut Value) {
        if let Some(spec) = object_or_new(new, "spec")
            && let Some(parameters) = object(spec, "parameters")
        {
            set_text(parameters, "scope", "Cluster");
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let Some(spec) = &self.spec else { return };
        let controller = text(&spec.controller);
        let before = old.and_then(|old| old.spec.as_ref());
        if before.is_some_and(|before| before.controller != spec.controller) {
            at.child("controller").invalid(errors, controller, FIELD_IS_IMMUTABLE);
        }
        const CONTROLLER_MAX: usize = 250;
        if controller.len() > CONTROLLER_MAX {
            at.child("controller").too_long(errors, CONTROLLER_MAX);
        }
        match controller.split_once('/') {
            _ if controller.is_empty() && old.is_some() => {}
            _ if controller.is_empty() => at.child("controller").required(errors, ""),
            None => at.child("controller").invalid(
                errors,
                controller,
                "must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            Some((host, _)) => name(at.child("controller"), host, dns1123_subdomain, errors),
        }
        let Some(parameters) = &spec.parameters else { return };
        let at = at.child("parameters");
        required_name(at.child("kind"), &parameters.kind, names::path_segment, errors);
        required_name(at.child("name"), &parameters.name, names::path_segment, errors);
        name(at.child("apiGroup"), text(&parameters.api_group), dns1123_subdomain, errors);
        let scope = text(&parameters.scope);
        one_of(at.child("scope"), scope, &["Cluster", "Namespace"], false, errors);
        match (scope, text(&parameters.namespace)) {
            ("Namespace", "") => {
                at.child("namespace").required(errors, "`parameters.scope` is set to 'Namespace'");
            }
            ("Cluster", namespace) if !namespace.is_empty() => {
                at.child("namespace").forbidden(errors, "`parameters.scope` is set to 'Cluster'");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(kind: &Kind, spec: Value) -> Vec<String> {
        let mut value = json!({"metadata": {"name": "a"}, "spec": spec});
        if kind.namespaced {
            value["metadata"]["namespace"] = "b".into();
        }
        (kind.hooks.default)(&mut value);
        kind.check(&value, None).expect("decodes").errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_paths_and_backends_are_checked_together() {
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        let good = json!({"rules": [{"host": "*.example.com", "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": backend}]}}], "tls": [{"hosts": ["a.example.com"]}]});
        assert_eq!(errors(&INGRESS, good), Vec::<String>::new());
        assert_eq!(
            errors(&INGRESS, json!({})),
            ["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"]
        );
        let bad = json!({"rules": [{"host": "10.0.0.1", "http": {"paths": [
            {"path": "a//b", "pathType": "Prefix", "backend": {}},
            {"backend": {"service": {"name": "web", "port": {"number": 1, "name": "x"}}}}]}}]});
        assert_eq!(
            errors(&INGRESS, bad),
            [
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
                "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must be an absolute path",
                "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must not contain '//'",
                "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required",
                "spec.rules[0].http.paths[1].pathType: Required value: pathType must be specified",
                "spec.rules[0].http.paths[1].backend.service: Invalid value: \"\": cannot set both port name & port number",
            ]
        );
    }

    #[test]
    fn a_class_says_who_serves_it() {
        assert_eq!(errors(&INGRESSCLASS, json!({"controller": "example.com/ingress"})), Vec::<String>::new());
        assert_eq!(
            errors(
                &INGRESSCLASS,
                json!({"controller": "x", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}})
            ),
            [
                "spec.controller: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ]
        );
    }
}
