//! APIService: who serves a group and version.

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde_json::Value;
use stead_api::names::{dns1035_label, dns1123_subdomain};
use stead_api::{Errors, Object};

use crate::check::text;
use crate::columns::{self, AGE_COLUMN, NAME_COLUMN};
use crate::fill::{object, object_or_new, set};
use crate::names::{self, names};
use crate::path::Path;
use crate::webhook::validate_service;
use crate::{Behavior, Hooks, Kind, METADATA, Subresource};

pub const APISERVICE: Kind = Kind {
    namespaced: false,
    categories: &["api-extensions"],
    name_rule: names::path_segment,
    subresources: &[Subresource::Status],
    unconditional_update: false,
    status_keeps: METADATA,
    columns: &[
        NAME_COLUMN,
        columns::text("Service", service, "Who serves it."),
        columns::text("Available", available, "Whether it answers."),
        AGE_COLUMN,
    ],
    hooks: Hooks::of::<APIService>(),
    ..Kind::plain(
        "apiservices.apiregistration.k8s.io",
        "apiregistration.k8s.io",
        "v1",
        names!("APIService", "apiservice", "apiservices"),
        "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
    )
};

fn service(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let of = &value["spec"]["service"];
    match of.is_null() {
        true => "Local".into(),
        false => format!("{}/{}", of["namespace"].as_str().unwrap_or(""), of["name"].as_str().unwrap_or("")).into(),
    }
}

/// `True`, or `False (MissingEndpoints)`.
fn available(object: &Object, _now: jiff::Timestamp) -> Value {
    let value = object.value();
    let mut conditions = value["status"]["conditions"].as_array().into_iter().flatten();
    let Some(found) = conditions.find(|one| one["type"] == "Available") else { return "Unknown".into() };
    let status = found["status"].as_str().unwrap_or("Unknown");
    match found["reason"].as_str().filter(|reason| !reason.is_empty() && status != "True") {
        Some(reason) => format!("{status} ({reason})").into(),
        None => status.into(),
    }
}

impl Behavior for APIService {
    fn default(new: &mut Value) {
        if let Some(spec) = object_or_new(new, "spec")
            && let Some(service) = object(spec, "service")
        {
            set(service, "port", 443);
        }
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let Some(spec) = &self.spec else { return at.required(errors, "") };
        let (group, version) = (text(&spec.group), text(&spec.version));
        let name = self.metadata.name.as_deref().unwrap_or("");
        let required = format!("{version}.{group}");
        let at_name = Path::root("metadata");
        if name != required && !(group.is_empty() && name == format!("{version}.")) {
            let detail = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
            at_name.child("name").invalid(errors, name, detail);
        }
        let messages = if group.is_empty() { Vec::new() } else { dns1123_subdomain(group) };
        for message in messages {
            at.child("group").invalid(errors, group, message);
        }
        if version.is_empty() {
            at.child("version").required(errors, "");
        }
        for message in dns1035_label(version).into_iter().filter(|_| !version.is_empty()) {
            at.child("version").invalid(errors, version, message);
        }
        if !(1..=20_000).contains(&spec.group_priority_minimum) {
            at.child("groupPriorityMinimum").invalid(
                errors,
                spec.group_priority_minimum,
                "must be positive and less than 20000",
            );
        }
        if !(1..=1000).contains(&spec.version_priority) {
            at.child("versionPriority").invalid(errors, spec.version_priority, "must be positive and less than 1000");
        }
        let skips = spec.insecure_skip_tls_verify == Some(true);
        let has_bundle = spec.ca_bundle.as_ref().is_some_and(|bundle| !bundle.0.is_empty());
        match &spec.service {
            None => {
                if has_bundle {
                    at.child("caBundle").invalid(errors, "<ca bundle>", "local APIServices may not have a caBundle");
                }
                if skips {
                    let detail = "local APIServices may not have insecureSkipTLSVerify";
                    at.child("insecureSkipTLSVerify").invalid(errors, true, detail);
                }
            }
            Some(service) => {
                let (namespace, name) = (text(&service.namespace), text(&service.name));
                validate_service(at.child("service"), namespace, name, None, service.port, errors);
                if skips && has_bundle {
                    at.child("insecureSkipTLSVerify").invalid(errors, true, "may not be true if caBundle is present");
                }
            }
        }
    }
}
