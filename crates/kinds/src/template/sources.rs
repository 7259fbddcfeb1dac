//! Checks of sources of storage that somebody else attaches: disks, shares and drivers, in pods and in persistent volumes.
//!
//! They are looked at as JSON: the two forms of a source differ in little, and no node of ours uses most of them.

use serde_json::{Value, json};
use stead_api::Errors;
use stead_api::names::{dns1123_label, dns1123_subdomain};

use crate::check::{local_path, name, required_name};
use crate::fill::{object, set, set_text};
use crate::path::Path;

/// Fills in what such sources leave out.
pub fn default(holder: &mut Value) {
    let defaults: [(&str, &[(&str, Value)]); 4] = [
        ("iscsi", &[("iscsiInterface", json!("default"))]),
        ("rbd", &[("pool", json!("rbd")), ("user", json!("admin")), ("keyring", json!("/etc/ceph/keyring"))]),
        ("scaleIO", &[("storageMode", json!("ThinProvisioned")), ("fsType", json!("xfs"))]),
        (
            "azureDisk",
            &[
                ("cachingMode", json!("ReadWrite")),
                ("kind", json!("Shared")),
                ("fsType", json!("ext4")),
                ("readOnly", json!(false)),
            ],
        ),
    ];
    for (kind, fields) in defaults {
        let Some(source) = object(holder, kind) else { continue };
        for (field, value) in fields {
            match value.as_str() {
                // A pointer may hold an empty text.
                Some(text) if kind != "azureDisk" => set_text(source, field, text),
                _ => set(source, field, value.clone()),
            }
        }
    }
}

/// Whose source it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// A volume of a pod.
    Pod,
    /// The PersistentVolume of this name.
    Persistent(&'a str),
}

/// The order in which the sources of a pod's volume are looked at: of several the first is taken, the others are too many.
const POD_ORDER: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

const PERSISTENT_ORDER: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// Checks that there is exactly one source, and what it says. Gives its field.
pub fn validate<'a>(at: Path, holder: &'a Value, owner: Owner, errors: &mut Errors) -> Option<&'a str> {
    let order = if owner == Owner::Pod { POD_ORDER } else { PERSISTENT_ORDER };
    let fields = holder.as_object().into_iter().flatten().filter(|(_, source)| !source.is_null());
    let place = |field: &str| order.iter().position(|one| *one == field);
    let mut found: Vec<(usize, &str)> =
        fields.filter_map(|(field, _)| place(field).map(|place| (place, field.as_str()))).collect();
    found.sort_unstable();
    let Some((_, first)) = found.first().copied() else {
        at.required(errors, "must specify a volume type");
        return None;
    };
    for (_, extra) in found.iter().skip(1) {
        at.child(extra).forbidden(errors, "may not specify more than 1 volume type");
    }
    let source = Source { at: at.child(first), value: &holder[first], owner };
    source.validate(first, errors);
    if first == "iscsi" && owner == Owner::Pod && source.is_named_too_long(source.text_of(&holder["name"])) {
        at.child("name").invalid(errors, holder["name"].as_str().unwrap_or_default(), ISCSI_TOO_LONG);
    }
    Some(first)
}

const ISCSI_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
const HOST_PORTS: &str = "must be a host:port pair or multiple pairs separated by commas";

struct Source<'a> {
    at: Path<'a>,
    value: &'a Value,
    owner: Owner<'a>,
}

impl<'a> Source<'a> {
    fn text_of(&self, value: &'a Value) -> &'a str {
        value.as_str().unwrap_or_default()
    }

    fn text(&self, field: &str) -> &'a str {
        self.text_of(&self.value[field])
    }

    /// Each of these must be there.
    fn required(&self, fields: &[&str], errors: &mut Errors) {
        for field in fields {
            let value = &self.value[*field];
            if value.is_null() || value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty) {
                self.at.child(field).required(errors, "");
            }
        }
    }

    fn number(&self, field: &str, errors: &mut Errors, detail: &str) {
        if let Some(number) = self.value[field].as_i64().filter(|number| !(0..=255).contains(number)) {
            self.at.child(field).invalid(errors, number, detail);
        }
    }

    /// A reference to a Secret has a name and, in a persistent volume, a namespace.
    fn secret(&self, field: &str, errors: &mut Errors) {
        let secret = &self.value[field];
        let fields = if self.owner == Owner::Pod { &["name"][..] } else { &["name", "namespace"] };
        for part in fields.iter().filter(|part| secret.is_object() && self.text_of(&secret[**part]).is_empty()) {
            self.at.child(field).child(part).required(errors, "");
        }
    }

    fn validate(&self, kind: &str, errors: &mut Errors) {
        let partition = "must be between 1 and 255, inclusive";
        match kind {
            "gitRepo" => {
                self.required(&["repository"], errors);
                local_path(self.at.child("directory"), self.text("directory"), errors);
            }
            "gcePersistentDisk" => {
                self.required(&["pdName"], errors);
                self.number("partition", errors, partition);
            }
            "awsElasticBlockStore" => {
                self.required(&["volumeID"], errors);
                self.number("partition", errors, partition);
            }
            "rbd" => self.required(&["monitors", "image"], errors),
            "cephfs" => self.required(&["monitors"], errors),
            "vsphereVolume" => self.required(&["volumePath"], errors),
            "photonPersistentDisk" => self.required(&["pdID"], errors),
            "portworxVolume" => self.required(&["volumeID"], errors),
            "scaleIO" => self.required(&["gateway", "system", "volumeName"], errors),
            "cinder" => {
                self.required(&["volumeID"], errors);
                self.secret("secretRef", errors);
            }
            "azureFile" => {
                self.required(&["secretName", "shareName"], errors);
                if self.owner != Owner::Pod && self.value["secretNamespace"].as_str() == Some("") {
                    self.at.child("secretNamespace").required(errors, "");
                }
            }
            "glusterfs" => self.glusterfs(errors),
            "flocker" => self.flocker(errors),
            "iscsi" => self.iscsi(errors),
            "fc" => self.fibre_channel(errors),
            "quobyte" => self.quobyte(errors),
            "flexVolume" => self.flex(errors),
            "azureDisk" => self.azure_disk(errors),
            "storageos" => self.storage_os(errors),
            "csi" => self.csi(errors),
            _ => {}
        }
    }

    fn glusterfs(&self, errors: &mut Errors) {
        self.required(&["endpoints", "path"], errors);
        if self.owner != Owner::Pod {
            let at = self.at.child("endpointsNamespace");
            match self.value["endpointsNamespace"].as_str() {
                Some("") => {
                    at.invalid(errors, "", "if the endpointnamespace is set, it must be a valid namespace name")
                }
                Some(namespace) => name(at, namespace, dns1123_label, errors),
                None => {}
            }
        }
    }

    fn flocker(&self, errors: &mut Errors) {
        match (self.text("datasetName"), self.text("datasetUUID")) {
            ("", "") => self.at.required(errors, "one of datasetName and datasetUUID is required"),
            ("", _) | (_, "") => {}
            _ => {
                let detail = "datasetName and datasetUUID can not be specified simultaneously";
                self.at.invalid(errors, "resource", detail);
            }
        }
        if self.text("datasetName").contains('/') {
            self.at.child("datasetName").invalid(errors, self.text("datasetName"), "must not contain '/'");
        }
    }

    /// Whether a volume's name and its portal are too long to name an interface of the initiator.
    fn is_named_too_long(&self, volume: &str) -> bool {
        const NAMES_MAX: usize = 64;
        !self.value["initiatorName"].is_null() && volume.len() + 1 + self.text("targetPortal").len() > NAMES_MAX
    }

    fn iscsi(&self, errors: &mut Errors) {
        self.required(&["targetPortal"], errors);
        if let Owner::Persistent(volume) = self.owner
            && self.is_named_too_long(volume)
        {
            self.at.child("targetportal").invalid(errors, self.text("targetPortal"), ISCSI_TOO_LONG);
        }
        self.required(&["iqn"], errors);
        if !self.text("iqn").is_empty() {
            self.iscsi_name("iqn", self.text("iqn"), errors);
        }
        self.number("lun", errors, "must be between 0 and 255, inclusive");
        let needs_secret = ["chapAuthDiscovery", "chapAuthSession"].iter().any(|field| self.value[*field] == true);
        if needs_secret && !self.value["secretRef"].is_object() {
            self.at.child("secretRef").required(errors, "");
        }
        let secret = &self.value["secretRef"];
        if self.owner != Owner::Pod && secret.is_object() && self.text_of(&secret["name"]).is_empty() {
            self.at.child("secretRef").child("name").required(errors, "");
        }
        if let Some(initiator) = self.value["initiatorName"].as_str() {
            self.iscsi_name("initiatorname", initiator, errors);
        }
    }

    fn iscsi_name(&self, field: &str, text: &str, errors: &mut Errors) {
        let is_word =
            |rest: &str, length| rest.len() == length && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let detail = match text.get(..3) {
            Some("iqn") if is_iqn(text) => return,
            Some("eui") if text.get(4..).is_some_and(|rest| is_word(rest, 16)) => return,
            Some("naa") if text.get(4..).is_some_and(|rest| is_word(rest, 32)) => return,
            Some("iqn" | "eui" | "naa") => "must be valid format",
            _ if self.owner == Owner::Pod => "must be valid format starting with iqn, eui, or naa",
            _ => "must be valid format",
        };
        self.at.child(field).invalid(errors, text, detail);
    }

    fn fibre_channel(&self, errors: &mut Errors) {
        let has = |field: &str| self.value[field].as_array().is_some_and(|list| !list.is_empty());
        let at = self.at.child("targetWWNs");
        match (has("targetWWNs"), has("wwids")) {
            (false, false) => at.required(errors, "must specify either targetWWNs or wwids, but not both"),
            (true, true) => {
                let detail = "targetWWNs and wwids can not be specified simultaneously";
                at.invalid(errors, self.value["targetWWNs"].clone(), detail);
            }
            _ => {}
        }
        if has("targetWWNs") && self.value["lun"].is_null() {
            self.at.child("lun").required(errors, "lun is required if targetWWNs is specified");
        } else if has("targetWWNs") {
            self.number("lun", errors, "must be between 0 and 255, inclusive");
        }
    }

    fn quobyte(&self, errors: &mut Errors) {
        const TENANT_MAX: usize = 64;
        let registry = self.text("registry");
        if registry.is_empty() {
            self.at.child("registry").required(errors, HOST_PORTS);
        } else if self.text("tenant").len() > TENANT_MAX {
            let detail = "must be a UUID and may not exceed a length of 64 characters";
            self.at.child("tenant").required(errors, detail);
        } else {
            for _ in registry.split(',').filter(|pair| !is_host_port(pair)) {
                self.at.child("registry").invalid(errors, registry, HOST_PORTS);
            }
        }
        self.required(&["volume"], errors);
    }

    fn flex(&self, errors: &mut Errors) {
        self.required(&["driver"], errors);
        for (option, _) in self.value["options"].as_object().into_iter().flatten() {
            let namespace = option.split_once('/').map_or(option.as_str(), |(namespace, _)| namespace);
            let dotted = format!(".{}", namespace.to_lowercase());
            if dotted.ends_with(".kubernetes.io") || dotted.ends_with(".k8s.io") {
                let detail = "kubernetes.io and k8s.io namespaces are reserved";
                self.at.child("options").key(option).invalid(errors, option.as_str(), detail);
            }
        }
    }

    fn azure_disk(&self, errors: &mut Errors) {
        self.required(&["diskName", "diskURI"], errors);
        for (field, allowed) in
            [("cachingMode", &["None", "ReadOnly", "ReadWrite"]), ("kind", &["Dedicated", "Managed", "Shared"])]
        {
            if let Some(value) = self.value[field].as_str().filter(|value| !allowed.contains(value)) {
                self.at.child(field).not_supported(errors, value, allowed);
            }
        }
        let uri = self.text("diskURI");
        let managed = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
        let blob = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
        match self.value["kind"].as_str() {
            Some("Managed") if !uri.starts_with("/subscriptions/") => {
                self.at.child("diskURI").not_supported(errors, uri, &[managed]);
            }
            Some(kind) if kind != "Managed" && !uri.starts_with("https://") => {
                self.at.child("diskURI").not_supported(errors, uri, &[blob]);
            }
            _ => {}
        }
    }

    fn storage_os(&self, errors: &mut Errors) {
        required_name(self.at.child("volumeName"), self.text("volumeName"), dns1123_label, errors);
        name(self.at.child("volumeNamespace"), self.text("volumeNamespace"), dns1123_label, errors);
        self.secret("secretRef", errors);
    }

    fn csi(&self, errors: &mut Errors) {
        crate::csi::driver_name(self.at.child("driver"), self.text("driver"), errors);
        if self.owner == Owner::Pod {
            let secret = &self.value["nodePublishSecretRef"];
            match secret["name"].as_str().unwrap_or_default() {
                "" if secret.is_object() => {
                    self.at.child("nodePublishSecretRef").child("name").required(errors, "");
                }
                given => name(self.at.child("name"), given, dns1123_subdomain, errors),
            }
            return;
        }
        self.required(&["volumeHandle"], errors);
        let fields =
            ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];
        for field in fields {
            self.secret(field, errors);
            let (at, secret) = (self.at.child(field), &self.value[field]);
            name(at.child("name"), self.text_of(&secret["name"]), dns1123_subdomain, errors);
            name(at.child("namespace"), self.text_of(&secret["namespace"]), dns1123_label, errors);
        }
    }
}

/// `iqn.2015-02.example.com:disk`: the year and month in which the name's owner had it, the name, and something of its own.
fn is_iqn(text: &str) -> bool {
    let Some((date, rest)) = text.strip_prefix("iqn.").and_then(|rest| rest.split_once('.')) else { return false };
    let is_digits = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_date = date.split_once('-').is_some_and(|(year, month)| is_digits(year, 4) && is_digits(month, 2));
    let is_authority =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let is_own = |part: &str| !part.is_empty() && !part.contains(|c: char| ",;*&$|".contains(c) || c.is_whitespace());
    is_date && rest.split_once(':').is_some_and(|(authority, own)| is_authority(authority) && is_own(own))
}

fn is_host_port(pair: &str) -> bool {
    let Some((host, port)) = pair.rsplit_once(':') else { return false };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    (is_bracketed || !host.contains([':', '[', ']'])) && !port.contains(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(owner: Owner, source: Value) -> Vec<String> {
        let mut errors = Errors::default();
        validate(Path::root("v"), &source, owner, &mut errors);
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_source_needs_is_named() {
        for (source, expected) in [
            (json!({"rbd": {"monitors": []}}), &["v.rbd.monitors: Required value", "v.rbd.image: Required value"][..]),
            (json!({"fc": {"wwids": ["a"]}}), &[]),
            (
                json!({"fc": {"targetWWNs": ["a"], "lun": 256}}),
                &["v.fc.lun: Invalid value: 256: must be between 0 and 255, inclusive"],
            ),
            (
                json!({"fc": {"targetWWNs": ["a"]}}),
                &["v.fc.lun: Required value: lun is required if targetWWNs is specified"],
            ),
            (json!({"iscsi": {"targetPortal": "p", "iqn": "iqn.2015-02.example.com:test", "lun": 1}}), &[]),
            (
                json!({"iscsi": {"targetPortal": "p", "iqn": "iqn.2015-02.example.com:test;ls;", "lun": 1}}),
                &["v.iscsi.iqn: Invalid value: \"iqn.2015-02.example.com:test;ls;\": must be valid format"],
            ),
            (
                json!({"quobyte": {"registry": "registry:7861,reg2", "volume": "v"}}),
                &[
                    "v.quobyte.registry: Invalid value: \"registry:7861,reg2\": must be a host:port pair or multiple pairs separated by commas",
                ],
            ),
            (
                json!({"flexVolume": {"driver": "d", "options": {"x.KUBERNETES.io/a": "b"}}}),
                &[
                    "v.flexVolume.options[x.KUBERNETES.io/a]: Invalid value: \"x.KUBERNETES.io/a\": kubernetes.io and k8s.io namespaces are reserved",
                ],
            ),
            (
                json!({"azureDisk": {"diskName": "d", "diskURI": "blob/vhd", "kind": "Managed"}}),
                &[
                    "v.azureDisk.diskURI: Unsupported value: \"blob/vhd\": supported values: \"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}\"",
                ],
            ),
            (json!({"flocker": {}}), &["v.flocker: Required value: one of datasetName and datasetUUID is required"]),
            (
                json!({"gitRepo": {"repository": "r", "directory": "/a"}}),
                &["v.gitRepo.directory: Invalid value: \"/a\": must be a relative path"],
            ),
            (
                json!({"configMap": {}, "secret": {}, "name": "a"}),
                &["v.configMap: Forbidden: may not specify more than 1 volume type"],
            ),
            (json!({"name": "a"}), &["v: Required value: must specify a volume type"]),
        ] {
            assert_eq!(check(Owner::Pod, source.clone()), expected, "{source}");
        }
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let mut volume =
            json!({"iscsi": {"iqn": "x"}, "rbd": {"pool": "p"}, "scaleIO": {}, "azureDisk": {"kind": "Managed"}});
        default(&mut volume);
        assert_eq!(
            volume,
            json!({"iscsi": {"iqn": "x", "iscsiInterface": "default"},
                "rbd": {"pool": "p", "user": "admin", "keyring": "/etc/ceph/keyring"},
                "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
                "azureDisk": {"kind": "Managed", "cachingMode": "ReadWrite", "fsType": "ext4", "readOnly": false}})
        );
    }

    #[test]
    fn a_persistent_volume_says_more_of_a_driver() {
        assert_eq!(
            check(Owner::Persistent("pv"), json!({"csi": {"driver": "d", "controllerExpandSecretRef": {"name": "s"}}})),
            ["v.csi.volumeHandle: Required value", "v.csi.controllerExpandSecretRef.namespace: Required value"]
        );
        assert_eq!(check(Owner::Pod, json!({"csi": {"driver": "d"}})), [] as [&str; 0]);
        let portal = "p".repeat(62);
        let iscsi = json!({"iscsi": {"targetPortal": portal, "iqn": "eui.0123456789ABCDEF", "initiatorName": "naa.1"}});
        let found = check(Owner::Persistent("pv"), iscsi);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].ends_with("initiatorname: Invalid value: \"naa.1\": must be valid format"), "{found:?}");
    }
}
