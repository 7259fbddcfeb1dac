//! Checks of a pod's volumes: each has exactly one source, and the source makes sense.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use stead_api::Errors;
use stead_api::names::dns1123_label;

use super::sources::Owner;
use super::{env, sources};
use crate::check::{config_key, label_map, list, local_path, no_backsteps, one_of, quantity, required_name, text};
use crate::path::Path;
use crate::persistentvolumeclaim;

/// Volumes by name.
pub type Volumes<'a> = BTreeMap<&'a str, &'a Volume>;

const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Whether a volume is a claim, which alone may be a raw block device.
pub fn is_claim(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
}

pub fn validate<'a>(at: Path, volumes: &'a [Volume], errors: &mut Errors) -> Volumes<'a> {
    let mut found = Volumes::new();
    for (index, volume) in volumes.iter().enumerate() {
        let at = at.index(index);
        required_name(at.child("name"), &volume.name, dns1123_label, errors);
        if found.contains_key(volume.name.as_str()) {
            at.child("name").duplicate(errors, volume.name.as_str());
        }
        let value = json!(volume);
        if let Some(source) = sources::validate(at, &value, Owner::Pod, errors) {
            validate_source(at, volume, source, errors);
        }
        found.insert(&volume.name, volume);
    }
    found
}

/// What a node of ours mounts itself.
fn validate_source(at: Path, volume: &Volume, source: &str, errors: &mut Errors) {
    if let Some(path) = volume.host_path.as_ref().filter(|_| source == "hostPath") {
        validate_host_path(at.child("hostPath"), &path.path, text(&path.type_), errors);
    }
    if let Some(limit) = volume.empty_dir.as_ref().and_then(|empty| empty.size_limit.as_ref()) {
        let at = at.child("emptyDir");
        if quantity(at.child("sizeLimit"), limit, errors).is_some_and(|limit| limit.sign() < 0) {
            at.child("sizeLimit").forbidden(errors, "SizeLimit field must be a valid resource quantity");
        }
    }
    if let Some(secret) = volume.secret.as_ref().filter(|_| source == "secret") {
        let at = at.child("secret");
        if text(&secret.secret_name).is_empty() {
            at.child("secretName").required(errors, "");
        }
        mode(at.child("defaultMode"), secret.default_mode, errors);
        validate_items(at.child("items"), list(&secret.items), errors);
    }
    if let Some(map) = volume.config_map.as_ref().filter(|_| source == "configMap") {
        let at = at.child("configMap");
        if map.name.is_empty() {
            at.child("name").required(errors, "");
        }
        mode(at.child("defaultMode"), map.default_mode, errors);
        validate_items(at.child("items"), list(&map.items), errors);
    }
    if let Some(claim) = &volume.persistent_volume_claim
        && source == "persistentVolumeClaim"
        && claim.claim_name.is_empty()
    {
        at.child("persistentVolumeClaim").child("claimName").required(errors, "");
    }
    if let Some(downward) = volume.downward_api.as_ref().filter(|_| source == "downwardAPI") {
        let at = at.child("downwardAPI");
        mode(at.child("defaultMode"), downward.default_mode, errors);
        validate_files(at, list(&downward.items), errors);
    }
    if let Some(projected) = volume.projected.as_ref().filter(|_| source == "projected") {
        validate_projected(at.child("projected"), projected, errors);
    }
    if let Some(nfs) = volume.nfs.as_ref().filter(|_| source == "nfs") {
        validate_nfs(at.child("nfs"), &nfs.server, &nfs.path, errors);
    }
    if let Some(ephemeral) = volume.ephemeral.as_ref().filter(|_| source == "ephemeral") {
        let at = at.child("ephemeral");
        let at = at.child("volumeClaimTemplate");
        match &ephemeral.volume_claim_template {
            Some(template) => {
                validate_claim_meta(at.child("metadata"), template.metadata.as_ref(), errors);
                persistentvolumeclaim::validate_spec(at.child("spec"), &template.spec, errors);
            }
            None => at.required(errors, ""),
        }
    }
}

/// The claim is named after the pod and the volume; only labels and annotations are the template's to say.
fn validate_claim_meta(at: Path, meta: Option<&ObjectMeta>, errors: &mut Errors) {
    let Some(meta) = meta else { return };
    if let Some(annotations) = &meta.annotations {
        let pairs = annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        crate::meta::validate_annotations(pairs, &at.child("annotations"), errors);
    }
    label_map(at.child("labels"), meta.labels.as_ref(), errors);
    let value = json!(meta);
    for field in [
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ] {
        let given = &value[field];
        if !given.is_null() && *given != "" && given.as_array().is_none_or(|all| !all.is_empty()) {
            // Upstream makes the name of its own, `UID`.
            let name = if field == "uid" { "uID" } else { field };
            at.child(name).forbidden(errors, "cannot be set for an ephemeral volume");
        }
    }
}

pub fn validate_nfs(at: Path, server: &str, path: &str, errors: &mut Errors) {
    if server.is_empty() {
        at.child("server").required(errors, "");
    }
    if path.is_empty() {
        at.child("path").required(errors, "");
    } else if !path.starts_with('/') {
        at.child("path").invalid(errors, path, "must be an absolute path");
    }
}

pub fn validate_host_path(at: Path, path: &str, r#type: &str, errors: &mut Errors) {
    if path.is_empty() {
        at.child("path").required(errors, "");
    } else {
        no_backsteps(at.child("path"), path, errors);
    }
    one_of(at.child("type"), r#type, HOST_PATH_TYPES, true, errors);
}

fn mode(at: Path, mode: Option<i32>, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        at.invalid(errors, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn validate_items(at: Path, items: &[KeyToPath], errors: &mut Errors) {
    for (index, item) in items.iter().enumerate() {
        let at = at.index(index);
        required_name(at.child("key"), &item.key, config_key, errors);
        file_path(at.child("path"), &item.path, errors);
        mode(at.child("mode"), item.mode, errors);
    }
}

/// A path of a file in a volume that the agent writes; names that start with `..` are its own.
fn file_path(at: Path, path: &str, errors: &mut Errors) {
    if path.is_empty() {
        at.required(errors, "");
    }
    local_path(at, path, errors);
    if path.starts_with("..") && !path.starts_with("../") && path != ".." {
        at.invalid(errors, path, "must not start with '..'");
    }
}

fn validate_files(at: Path, files: &[DownwardAPIVolumeFile], errors: &mut Errors) {
    for file in files {
        file_path(at.child("path"), &file.path, errors);
        match (&file.field_ref, &file.resource_field_ref) {
            (None, None) => at.required(errors, "one of fieldRef and resourceFieldRef is required"),
            (Some(_), Some(_)) => {
                at.invalid(errors, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
            (Some(field), None) => env::validate_file_field(at.child("fieldRef"), field, errors),
            (None, Some(resource)) => env::validate_resource(at.child("resourceFieldRef"), resource, true, errors),
        }
        mode(at.child("mode"), file.mode, errors);
    }
}

fn validate_projected(at: Path, projected: &ProjectedVolumeSource, errors: &mut Errors) {
    mode(at.child("defaultMode"), projected.default_mode, errors);
    let mut paths = BTreeSet::new();
    for (index, source) in list(&projected.sources).iter().enumerate() {
        let all = at.child("sources");
        let at = all.index(index);
        let given = json!(source);
        let mut fields = given.as_object().into_iter().flatten().map(|(field, _)| field.as_str());
        if fields.next().is_none() {
            at.required(errors, "must specify one of: secret, configMap, downwardAPI, serviceAccountToken");
        }
        for extra in fields {
            at.child(extra).forbidden(errors, "may not specify more than 1 volume type");
        }
        validate_projection(at, source, &mut paths, errors);
    }
}

fn validate_projection(at: Path, source: &VolumeProjection, paths: &mut BTreeSet<String>, errors: &mut Errors) {
    let mut unique = |path: &str, value: &str, errors: &mut Errors| {
        if !path.is_empty() && !paths.insert(path.to_owned()) {
            at.invalid(errors, value, "conflicting duplicate paths");
        }
    };
    if let Some(secret) = &source.secret {
        let at = at.child("secret");
        if secret.name.is_empty() {
            at.child("name").required(errors, "");
        }
        validate_items(at.child("items"), list(&secret.items), errors);
        list(&secret.items).iter().for_each(|item| unique(&item.path, &secret.name, errors));
    }
    if let Some(map) = &source.config_map {
        let at = at.child("configMap");
        if map.name.is_empty() {
            at.child("name").required(errors, "");
        }
        validate_items(at.child("items"), list(&map.items), errors);
        list(&map.items).iter().for_each(|item| unique(&item.path, &map.name, errors));
    }
    if let Some(downward) = &source.downward_api {
        validate_files(at.child("downwardAPI"), list(&downward.items), errors);
        list(&downward.items).iter().for_each(|item| unique(&item.path, &item.path, errors));
    }
    if let Some(token) = &source.service_account_token {
        validate_token(at.child("serviceAccountToken"), token, errors);
        unique(&token.path, &token.path, errors);
    }
}

fn validate_token(at: Path, token: &ServiceAccountTokenProjection, errors: &mut Errors) {
    let seconds = token.expiration_seconds.unwrap_or(3600);
    if seconds < 600 {
        at.child("expirationSeconds").invalid(errors, seconds, "may not specify a duration less than 10 minutes");
    } else if seconds > 1 << 32 {
        at.child("expirationSeconds").invalid(errors, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    file_path(at.child("path"), &token.path, errors);
}
