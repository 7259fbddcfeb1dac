//! Which volumes a pod has and what is in them, as far as the snapshot tells.
//!
//! Guarantees: a function of the snapshot, so a changed ConfigMap, Secret or label reaches the files of a running pod with the
//! step that sees it; a pod whose claim is not bound or whose ConfigMap is missing says so and waits. Tokens are asked for
//! again when a fifth of their life is left, and after a day (ID-02). Directory volumes of the provisioner
//! [`DIRECTORY_PROVISIONER`] are made where they are missing (V-24, V-25, V-27).
//! Upstream: pkg/volume/{configmap,secret,projected,downwardapi,emptydir,hostpath,local}.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    self as core, ConfigMap, KeyToPath, PersistentVolume, PersistentVolumeClaim, Pod, Secret, VolumeProjection,
};
use stead_store::Snapshot;

use crate::action::{FileContent, FsGroup, HostPathKind, Volume, VolumeSource};
use crate::env;
use crate::facts::quantity;
use crate::plan::Around;
use crate::token::{TokenKey, tokens_of};

/// The provisioner whose volumes are directories of the node.
pub const DIRECTORY_PROVISIONER: &str = "stead.local/directory";
/// The finalizer that keeps such a volume's object until its directory is deleted.
pub const DIRECTORY_FINALIZER: &str = "stead.local/directory";
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

const MODE_DEFAULT: i32 = 0o644;
const TOKEN_SECONDS_DEFAULT: i64 = 3600;
/// Why the volumes cannot be written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unready {
    /// A token is on its way.
    Token,
    /// The text of the FailedMount event.
    Problem(String),
}

/// All volumes of a pod with their contents; tokens that are missing or stale are added to `wanted`.
///
/// # Errors
/// What has to come first.
pub fn resolve(
    typed: &Pod,
    around: &Around,
    now: Timestamp,
    wanted: &mut Vec<TokenKey>,
) -> Result<Vec<Volume>, Unready> {
    let spec = typed.spec.as_ref();
    let fs_group = spec.and_then(|s| s.security_context.as_ref()).and_then(|security| {
        let gid = u32::try_from(security.fs_group?).ok()?;
        Some(FsGroup {
            gid,
            only_on_root_mismatch: security.fs_group_change_policy.as_deref() == Some("OnRootMismatch"),
        })
    });
    let mut volumes = Vec::new();
    let mut is_token_missing = false;
    for volume in spec.into_iter().flat_map(|s| s.volumes.iter().flatten()) {
        let resolving = Resolving { typed, around, now };
        match resolving.source(volume, wanted) {
            Ok(source) => volumes.push(Volume { name: volume.name.clone(), source, fs_group }),
            Err(Unready::Token) => is_token_missing = true,
            Err(Unready::Problem(why)) => {
                let text = format!("MountVolume.SetUp failed for volume \"{}\" : {why}", volume.name);
                return Err(Unready::Problem(text));
            }
        }
    }
    if is_token_missing { Err(Unready::Token) } else { Ok(volumes) }
}

/// When the next token of the pod has to be asked for again; those that are due have been, or are waited for.
pub fn refresh_at(typed: &Pod, around: &Around, now: Timestamp) -> Option<Timestamp> {
    let uid = typed.metadata.uid.as_deref().unwrap_or_default();
    tokens_of(around.tokens, uid).map(|(_, token)| token.refresh_at()).filter(|at| now < *at).min()
}

/// Whether mounts of this volume are read-only whatever the container says.
pub fn is_read_only(typed: &Pod, name: &str, _snapshot: &Snapshot) -> bool {
    let mut all = typed.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let Some(volume) = all.find(|v| v.name == name) else { return false };
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
        || volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.read_only == Some(true))
}

struct Resolving<'a> {
    typed: &'a Pod,
    around: &'a Around<'a>,
    now: Timestamp,
}

fn problem<T>(text: impl Into<String>) -> Result<T, Unready> {
    Err(Unready::Problem(text.into()))
}

type Files = BTreeMap<String, FileContent>;

impl Resolving<'_> {
    fn namespace(&self) -> &str {
        self.typed.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn source(&self, volume: &core::Volume, wanted: &mut Vec<TokenKey>) -> Result<VolumeSource, Unready> {
        if let Some(empty) = &volume.empty_dir {
            let size = empty.size_limit.as_ref().and_then(quantity).map(|q| q.value().unsigned_abs());
            let is_memory = empty.medium.as_deref() == Some("Memory");
            return Ok(if is_memory {
                VolumeSource::Memory { size_bytes: size.filter(|s| *s > 0) }
            } else {
                VolumeSource::EmptyDir
            });
        }
        if let Some(host) = &volume.host_path {
            return host_path(host);
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            return self.claim(&claim.claim_name);
        }
        if volume.ephemeral.is_some() {
            let pod = self.typed.metadata.name.as_deref().unwrap_or_default();
            return self.claim(&format!("{pod}-{}", volume.name));
        }
        let mut files = Files::new();
        if let Some(map) = &volume.config_map {
            let mode = map.default_mode.unwrap_or(MODE_DEFAULT);
            self.config_map(&map.name, map.items.as_deref(), map.optional == Some(true), mode, &mut files)?;
        } else if let Some(secret) = &volume.secret {
            let mode = secret.default_mode.unwrap_or(MODE_DEFAULT);
            let name = secret.secret_name.as_deref().unwrap_or_default();
            self.secret(name, secret.items.as_deref(), secret.optional == Some(true), mode, &mut files)?;
        } else if let Some(downward) = &volume.downward_api {
            let mode = downward.default_mode.unwrap_or(MODE_DEFAULT);
            self.downward(downward.items.as_deref().unwrap_or_default(), mode, &mut files)?;
        } else if let Some(projected) = &volume.projected {
            let mode = projected.default_mode.unwrap_or(MODE_DEFAULT);
            let mut is_token_missing = false;
            for source in projected.sources.iter().flatten() {
                match self.projection(source, mode, &mut files, wanted) {
                    Err(Unready::Token) => is_token_missing = true,
                    other => other?,
                }
            }
            if is_token_missing {
                return Err(Unready::Token);
            }
        } else {
            return problem("no volume plugin matched");
        }
        Ok(VolumeSource::Files { files })
    }

    fn projection(
        &self,
        source: &VolumeProjection,
        mode: i32,
        files: &mut Files,
        wanted: &mut Vec<TokenKey>,
    ) -> Result<(), Unready> {
        if let Some(map) = &source.config_map {
            self.config_map(&map.name, map.items.as_deref(), map.optional == Some(true), mode, files)?;
        }
        if let Some(secret) = &source.secret {
            self.secret(&secret.name, secret.items.as_deref(), secret.optional == Some(true), mode, files)?;
        }
        if let Some(downward) = &source.downward_api {
            self.downward(downward.items.as_deref().unwrap_or_default(), mode, files)?;
        }
        match &source.service_account_token {
            Some(token) => self.token(token, mode, files, wanted),
            None => Ok(()),
        }
    }

    fn token(
        &self,
        token: &core::ServiceAccountTokenProjection,
        mode: i32,
        files: &mut Files,
        wanted: &mut Vec<TokenKey>,
    ) -> Result<(), Unready> {
        let spec = self.typed.spec.as_ref();
        let account = spec.and_then(|s| s.service_account_name.clone()).filter(|a| !a.is_empty());
        let key = TokenKey {
            pod_uid: self.typed.metadata.uid.clone().unwrap_or_default(),
            pod_name: self.typed.metadata.name.clone().unwrap_or_default(),
            namespace: self.namespace().to_owned(),
            service_account: account.unwrap_or_else(|| "default".into()),
            audience: token.audience.clone().unwrap_or_default(),
            expiration_seconds: token.expiration_seconds.unwrap_or(TOKEN_SECONDS_DEFAULT),
        };
        let known = self.around.tokens.get(&key);
        if known.is_none_or(|t| t.refresh_at() <= self.now) {
            wanted.push(key);
        }
        let Some(known) = known else { return Err(Unready::Token) };
        let (uid, is_private) = self.token_owner();
        let mode = if is_private { 0o600 } else { mode };
        add(files, &token.path, known.text.clone().into_bytes(), mode);
        if let Some(file) = files.get_mut(&token.path) {
            file.uid = uid;
        }
        Ok(())
    }

    /// A token belongs to the user that all containers run as; it is private when there is one, or a group to share it with.
    fn token_owner(&self) -> (Option<u32>, bool) {
        let Some(spec) = &self.typed.spec else { return (None, false) };
        let security = spec.security_context.as_ref();
        let of_pod = security.and_then(|s| s.run_as_user);
        let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let mut users = all.map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(of_pod));
        let first = users.next().flatten();
        let user = first.filter(|user| users.all(|other| other == Some(*user))).and_then(|u| u32::try_from(u).ok());
        (user, user.is_some() || security.is_some_and(|s| s.fs_group.is_some()))
    }

    fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        is_optional: bool,
        mode: i32,
        files: &mut Files,
    ) -> Result<(), Unready> {
        let mut data: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        match self.around.snapshot.find("configmaps", self.namespace(), name) {
            Some(object) => {
                let map = object.view::<ConfigMap>();
                data.extend(map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes())));
                data.extend(map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())));
            }
            None if is_optional => return Ok(()),
            None => return problem(format!("configmap \"{name}\" not found")),
        }
        add_keys(data, items, is_optional, mode, "config", files)
    }

    fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        is_optional: bool,
        mode: i32,
        files: &mut Files,
    ) -> Result<(), Unready> {
        let data: BTreeMap<String, Vec<u8>> = match self.around.snapshot.find("secrets", self.namespace(), name) {
            Some(object) => {
                let secret = object.view::<Secret>();
                secret.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect()
            }
            None if is_optional => return Ok(()),
            None => return problem(format!("secret \"{name}\" not found")),
        };
        add_keys(data, items, is_optional, mode, "secret", files)
    }

    fn downward(&self, items: &[core::DownwardAPIVolumeFile], mode: i32, files: &mut Files) -> Result<(), Unready> {
        for item in items {
            let text = if let Some(field) = &item.field_ref {
                match env::field(self.typed, &field.field_path, self.around.config) {
                    Some(text) => text,
                    None => return problem(format!("unsupported fieldPath: {}", field.field_path)),
                }
            } else if let Some(selector) = &item.resource_field_ref {
                env::resource_field(self.typed, selector, None, self.around.config).map_err(Unready::Problem)?
            } else {
                continue;
            };
            add(files, &item.path, text.into_bytes(), item.mode.unwrap_or(mode));
        }
        Ok(())
    }

    fn claim(&self, name: &str) -> Result<VolumeSource, Unready> {
        let namespace = self.namespace();
        let snapshot = self.around.snapshot;
        let Some(object) = snapshot.find("persistentvolumeclaims", namespace, name) else {
            return problem(format!("persistentvolumeclaim \"{name}\" not found"));
        };
        let claim = object.view::<PersistentVolumeClaim>();
        let volume = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).filter(|v| !v.is_empty());
        let is_bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        let Some(volume) = volume.filter(|_| is_bound) else {
            return problem(format!("error processing PVC {namespace}/{name}: PVC is not bound"));
        };
        let Some(object) = snapshot.find("persistentvolumes", "", volume) else {
            return problem(format!("persistentvolume \"{volume}\" not found"));
        };
        let volume = object.view::<PersistentVolume>();
        let Some(spec) = &volume.spec else { return problem("volume without spec") };
        let holder = spec.claim_ref.as_ref().and_then(|r| r.uid.as_deref());
        if holder.is_some_and(|uid| claim.metadata.uid.as_deref() != Some(uid)) {
            return problem(format!("error processing PVC {namespace}/{name}: PVC is not bound to its volume"));
        }
        let path = directory(&volume);
        let is_block = spec.volume_mode.as_deref() == Some("Block");
        match (path, &spec.host_path) {
            (Some(path), _) if is_block => Ok(VolumeSource::Block { device: path.into() }),
            (Some(path), _) if is_provisioned(&volume) => Ok(VolumeSource::Directory { path: path.into() }),
            (Some(_), Some(host)) => host_path(host),
            (Some(path), None) => Ok(VolumeSource::HostPath { path: path.into(), kind: HostPathKind::Directory }),
            (None, _) => problem("no volume plugin matched"),
        }
    }
}

/// The path of a volume on the node.
pub fn directory(volume: &PersistentVolume) -> Option<&str> {
    let spec = volume.spec.as_ref()?;
    let local = spec.local.as_ref().map(|l| l.path.as_str());
    local.or_else(|| spec.host_path.as_ref().map(|h| h.path.as_str()))
}

/// Whether the node makes and deletes the volume's directory.
pub fn is_provisioned(volume: &PersistentVolume) -> bool {
    let by = volume.metadata.annotations.as_ref().and_then(|a| a.get(PROVISIONED_BY));
    by.map(String::as_str) == Some(DIRECTORY_PROVISIONER)
}

fn host_path(host: &core::HostPathVolumeSource) -> Result<VolumeSource, Unready> {
    let kind = match host.type_.as_deref().unwrap_or_default() {
        "" => HostPathKind::Any,
        "DirectoryOrCreate" => HostPathKind::DirectoryOrCreate,
        "Directory" => HostPathKind::Directory,
        "FileOrCreate" => HostPathKind::FileOrCreate,
        "File" => HostPathKind::File,
        "Socket" => HostPathKind::Socket,
        "CharDevice" => HostPathKind::CharDevice,
        "BlockDevice" => HostPathKind::BlockDevice,
        other => return problem(format!("unknown hostPath type \"{other}\"")),
    };
    Ok(VolumeSource::HostPath { path: host.path.clone().into(), kind })
}

fn add(files: &mut Files, path: &str, data: Vec<u8>, mode: i32) {
    let mode = u32::try_from(mode).unwrap_or(0o644) & 0o7777;
    files.insert(path.to_owned(), FileContent { data, mode, uid: None });
}

fn add_keys(
    data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    is_optional: bool,
    mode: i32,
    what: &str,
    files: &mut Files,
) -> Result<(), Unready> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (key, bytes) in data {
            add(files, &key, bytes, mode);
        }
        return Ok(());
    };
    for item in items {
        match data.get(&item.key).cloned() {
            Some(bytes) => add(files, &item.path, bytes, item.mode.unwrap_or(mode)),
            None if is_optional => {}
            None => return problem(format!("references non-existent {what} key: {}", item.key)),
        }
    }
    Ok(())
}
