//! Checks of environment variables and of the fields and resources they may refer to (ID-09).

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector};
use stead_api::Errors;
use stead_api::names::{dns1123_subdomain, qualified_name};

use crate::check::{config_key, env_name, name, quantity, required_name, text};
use crate::path::Path;

/// Pod fields an environment variable may show.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Pod fields a file may show.
const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// Resources of a container that a variable or file may show.
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub fn validate(at: Path, variables: &[EnvVar], errors: &mut Errors) {
    for (index, variable) in variables.iter().enumerate() {
        let at = at.index(index);
        required_name(at.child("name"), &variable.name, env_name, errors);
        if let Some(source) = &variable.value_from {
            validate_source(at.child("valueFrom"), source, !text(&variable.value).is_empty(), errors);
        }
    }
}

fn validate_source(at: Path, source: &EnvVarSource, has_value: bool, errors: &mut Errors) {
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        validate_field(at.child("fieldRef"), field, ENV_FIELDS, errors);
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        validate_resource(at.child("resourceFieldRef"), resource, false, errors);
    }
    if let Some(key) = &source.config_map_key_ref {
        sources += 1;
        validate_key(at.child("configMapKeyRef"), &key.name, &key.key, errors);
    }
    if let Some(key) = &source.secret_key_ref {
        sources += 1;
        validate_key(at.child("secretKeyRef"), &key.name, &key.key, errors);
    }
    if source.file_key_ref.is_some() {
        sources += 1;
    }
    match (sources, has_value) {
        (0, _) => {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            at.invalid(errors, "", detail);
        }
        (_, true) => at.invalid(errors, "", "may not be specified when `value` is not empty"),
        (1, _) => {}
        _ => at.invalid(errors, "", "may not have more than one field specified at a time"),
    }
}

fn validate_key(at: Path, object: &str, key: &str, errors: &mut Errors) {
    required_name(at.child("name"), object, dns1123_subdomain, errors);
    required_name(at.child("key"), key, config_key, errors);
}

/// A field reference in a file of a downward API volume.
pub fn validate_file_field(at: Path, field: &ObjectFieldSelector, errors: &mut Errors) {
    validate_field(at, field, FILE_FIELDS, errors);
}

fn validate_field(at: Path, field: &ObjectFieldSelector, allowed: &[&str], errors: &mut Errors) {
    let path = field.field_path.as_str();
    if text(&field.api_version).is_empty() {
        at.child("apiVersion").required(errors, "");
        return;
    }
    if path.is_empty() {
        at.child("fieldPath").required(errors, "");
        return;
    }
    let at = at.child("fieldPath");
    if let Some((map, rest)) = path.split_once("['") {
        let Some(key) = rest.strip_suffix("']") else {
            at.invalid(errors, path, format!("error converting fieldPath: field label not supported: {path}"));
            return;
        };
        match map {
            "metadata.annotations" => name(at, &key.to_lowercase(), qualified_name, errors),
            "metadata.labels" => name(at, key, qualified_name, errors),
            _ => at.invalid(errors, map, "does not support subscript"),
        }
        return;
    }
    if !allowed.contains(&path) {
        if [ENV_FIELDS, FILE_FIELDS].concat().contains(&path) {
            at.not_supported(errors, path, allowed);
        } else {
            at.invalid(errors, path, format!("error converting fieldPath: field label not supported: {path}"));
        }
    }
}

/// A reference to a container's request or limit; files must name the container.
pub fn validate_resource(at: Path, resource: &ResourceFieldSelector, in_volume: bool, errors: &mut Errors) {
    if in_volume && text(&resource.container_name).is_empty() {
        at.child("containerName").required(errors, "");
    }
    let known = RESOURCES.contains(&resource.resource.as_str())
        || ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| resource.resource.starts_with(prefix));
    match resource.resource.as_str() {
        "" => at.child("resource").required(errors, ""),
        other if !known => at.child("resource").not_supported(errors, other, RESOURCES),
        _ => {}
    }
    if let Some(divisor) = &resource.divisor {
        quantity(at.child("divisor"), divisor, errors);
    }
}

pub fn validate_from(at: Path, sources: &[EnvFromSource], errors: &mut Errors) {
    for (index, source) in sources.iter().enumerate() {
        let at = at.index(index);
        name(at.child("prefix"), text(&source.prefix), env_name, errors);
        let config = source.config_map_ref.as_ref().map(|reference| ("configMapRef", reference.name.as_str()));
        let secret = source.secret_ref.as_ref().map(|reference| ("secretRef", reference.name.as_str()));
        for (field, object) in config.into_iter().chain(secret) {
            let at = at.child(field);
            required_name(at.child("name"), object, dns1123_subdomain, errors);
        }
        match (config, secret) {
            (None, None) => at.invalid(errors, "", "must specify one of: `configMapRef` or `secretRef`"),
            (Some(_), Some(_)) => at.invalid(errors, "", "may not have more than one field specified at a time"),
            _ => {}
        }
    }
}
