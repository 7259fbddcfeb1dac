//! Pulls an image from an OCI registry: HTTPS or HTTP (image_trust.rs), anonymous, basic or token.
//!
//! Guarantees: every byte is checked against its digest before it is used; a credential is sent to the registry and to the token
//! server that it names, never along a redirect; layers that are here are not fetched again.
//! Upstream: the OCI distribution specification; Docker's token authentication.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use serde::Deserialize;
use stead_node::action::{Credentials, Image};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::image::{self, ConfigFile, ImageError, ImageStore, Stored};
use crate::image_load::{Descriptor, Manifest};
use crate::image_name::{ImageName, is_digest};
use crate::image_trust::{self, Transport};
use crate::image_unpack::{self, Hashing};

const CONNECT_WAIT: Duration = Duration::from_secs(30);
/// Between two reads of a body that makes no progress.
const READ_WAIT: Duration = Duration::from_secs(60);
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
const LAYERS_AT_ONCE: usize = 3;

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// Told the bytes done and in all, from several threads.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

pub fn pull(
    store: &ImageStore,
    text: &str,
    credentials: Option<&Credentials>,
    insecure: &[String],
    progress: Progress,
) -> Result<Image, ImageError> {
    let name = image::parse(text)?;
    if name.to_string() == image::BUILT_IN {
        return store.find(text)?.ok_or_else(|| ImageError::Refused(format!("{text}: not found")));
    }
    let _loading = store.loading()?;
    let registry = Registry::new(&name, credentials, &store.certs_dir(), insecure)?;
    pull_from(store, &name, &registry, progress).map_err(|e| match e {
        ImageError::Refused(why) => ImageError::Refused(format!("failed to pull and unpack image \"{name}\": {why}")),
        ImageError::Unreachable(why) => {
            ImageError::Unreachable(format!("failed to pull and unpack image \"{name}\": {why}"))
        }
        other => other,
    })
}

fn pull_from(
    store: &ImageStore,
    name: &ImageName,
    registry: &Registry,
    progress: Progress,
) -> Result<Image, ImageError> {
    let resolve = |why: String| format!("failed to resolve reference \"{name}\": {why}");
    let reference = name.digest.as_deref().or(name.tag.as_deref()).unwrap_or("latest");
    let (top_digest, mut manifest) = registry.manifest(reference).map_err(|e| match e {
        ImageError::Refused(why) => ImageError::Refused(resolve(why)),
        ImageError::Unreachable(why) => ImageError::Unreachable(resolve(why)),
        other => other,
    })?;
    if !manifest.manifests.is_empty() {
        let none = || ImageError::Refused(format!("no match for platform in manifest: {top_digest}: not found"));
        let ours = manifest.for_this_machine().ok_or_else(none)?.digest.clone();
        manifest = registry.manifest(&ours)?.1;
    }
    let config = manifest.config.as_ref().ok_or_else(|| ImageError::Refused("the manifest has no config".into()))?;
    let config_bytes = registry.document(config)?;
    let file = ConfigFile::parse(&config_bytes)?;
    if file.diff_ids().len() != manifest.layers.len() {
        return Err(ImageError::Damaged("the manifest and its configuration disagree on the layers".into()));
    }
    fetch_layers(store, registry, file.diff_ids(), &manifest.layers, progress)?;
    let stored = Stored {
        id: image_unpack::sha256(&config_bytes),
        digests: vec![format!("{}@{top_digest}", name.without_version())],
        layers: file.diff_ids().to_vec(),
        size_bytes: manifest.layers.iter().map(|l| l.size).sum(),
        config: file.stored(),
    };
    let names: Vec<String> = match (&name.tag, &name.digest) {
        (Some(tag), None) => vec![format!("{}:{tag}", name.without_version())],
        _ => vec![],
    };
    store.add(stored, &names)
}

fn fetch_layers(
    store: &ImageStore,
    registry: &Registry,
    diff_ids: &[String],
    layers: &[Descriptor],
    progress: Progress,
) -> Result<(), ImageError> {
    let total: u64 = layers.iter().map(|l| l.size).sum();
    let done = AtomicU64::new(0);
    let next = AtomicUsize::new(0);
    let first_error = Mutex::new(None);
    progress(0, total);
    let work = || {
        while let Some((diff_id, layer)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            diff_ids.get(at).zip(layers.get(at))
        } {
            let result = match store.has_layer(diff_id) {
                true => {
                    progress(done.fetch_add(layer.size, Ordering::Relaxed) + layer.size, total);
                    Ok(())
                }
                false => fetch_layer(store, registry, diff_id, layer, &|bytes| {
                    progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
                }),
            };
            if let Err(e) = result {
                next.store(usize::MAX / 2, Ordering::Relaxed);
                first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..layers.len().min(LAYERS_AT_ONCE) {
            scope.spawn(work);
        }
        work();
    });
    match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

fn fetch_layer(
    store: &ImageStore,
    registry: &Registry,
    diff_id: &str,
    layer: &Descriptor,
    progress: &dyn Fn(u64),
) -> Result<(), ImageError> {
    let body = registry.blob(&layer.digest)?;
    let mut hashing = Hashing::new(Counted { inner: body.into_with_config().limit(u64::MAX).reader(), progress });
    store.add_layer(diff_id, &mut hashing)?;
    io::copy(&mut hashing, &mut io::sink()).map_err(ImageError::disk(format!("read layer {}", layer.digest)))?;
    let digest = hashing.digest();
    match digest == layer.digest {
        true => Ok(()),
        false => Err(ImageError::Damaged(format!("layer {} has digest {digest}", layer.digest))),
    }
}

struct Counted<'a, R> {
    inner: R,
    progress: &'a dyn Fn(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        (self.progress)(n as u64);
        Ok(n)
    }
}

struct Registry {
    agent: Agent,
    /// `https://registry-1.docker.io/v2/library/nginx`
    base: String,
    repository: String,
    basic: Option<String>,
    /// What the last challenge led to.
    authorization: Mutex<Option<String>>,
}

impl Registry {
    fn new(
        name: &ImageName,
        credentials: Option<&Credentials>,
        certs: &Path,
        insecure: &[String],
    ) -> Result<Registry, ImageError> {
        let host = if name.registry == "docker.io" { "registry-1.docker.io" } else { &name.registry };
        let Transport { scheme, tls } = image_trust::transport(host, certs, insecure)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_WAIT))
            .timeout_recv_response(Some(READ_WAIT))
            .user_agent(concat!("stead/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls);
        let basic = credentials.map(|c| {
            let pair = format!("{}:{}", c.username, c.password);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        });
        Ok(Registry {
            agent: Agent::new_with_config(config.build()),
            base: format!("{scheme}://{host}/v2/{}", name.repository),
            repository: name.repository.clone(),
            basic,
            authorization: Mutex::new(None),
        })
    }

    /// The digest of what came, and the manifest or index.
    fn manifest(&self, reference: &str) -> Result<(String, Manifest), ImageError> {
        let mut response = self.get(&format!("manifests/{reference}"), ACCEPT)?;
        let bytes = read_document(&mut response)?;
        let digest = image_unpack::sha256(&bytes);
        if is_digest(reference) && digest != reference {
            return Err(ImageError::Damaged(format!("manifest {reference} has digest {digest}")));
        }
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|e| ImageError::Damaged(format!("manifest {reference} cannot be read: {e}")))?;
        let listed = manifest.layers.iter().chain(&manifest.config).chain(&manifest.manifests);
        if let Some(bad) = listed.map(|d| &d.digest).find(|d| !is_digest(d)) {
            return Err(ImageError::Damaged(format!("manifest {reference} has a bad digest {bad:?}")));
        }
        Ok((digest, manifest))
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let mut response = self.get(&format!("blobs/{}", descriptor.digest), "*/*")?;
        let bytes = read_document(&mut response)?;
        let digest = image_unpack::sha256(&bytes);
        match digest == descriptor.digest {
            true => Ok(bytes),
            false => Err(ImageError::Damaged(format!("blob {} has digest {digest}", descriptor.digest))),
        }
    }

    fn blob(&self, digest: &str) -> Result<Body, ImageError> {
        self.get(&format!("blobs/{digest}"), "*/*").map(Response::into_body)
    }

    /// Asks; answers one challenge; then the answer must be good.
    fn get(&self, path: &str, accept: &str) -> Result<Response<Body>, ImageError> {
        let url = format!("{}/{path}", self.base);
        let mut response = self.send(&url, accept)?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenges = response.headers().get_all("www-authenticate").iter();
            let challenges: Vec<String> = challenges.filter_map(|v| v.to_str().ok().map(str::to_string)).collect();
            self.authorize(&challenges)?;
            response = self.send(&url, accept)?;
        }
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::NOT_FOUND => Err(ImageError::Refused(format!("{}: not found", self.shown(path)))),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ImageError::Refused(
                "pull access denied, repository does not exist or may require authorization: authorization failed"
                    .into(),
            )),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(ImageError::Refused(format!("unexpected status from GET request to {url}: 429 Too Many Requests")))
            }
            status => Err(ImageError::Unreachable(format!("unexpected status from GET request to {url}: {status}"))),
        }
    }

    fn shown(&self, path: &str) -> String {
        let host = self.base.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let host = if host == "registry-1.docker.io" { "docker.io" } else { host };
        match path.strip_prefix("manifests/") {
            Some(reference) if is_digest(reference) => format!("{host}/{}@{reference}", self.repository),
            Some(reference) => format!("{host}/{}:{reference}", self.repository),
            None => format!("{host}/{} {path}", self.repository),
        }
    }

    fn send(&self, url: &str, accept: &str) -> Result<Response<Body>, ImageError> {
        let mut request = self.agent.get(url).header("accept", accept);
        let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        request.call().map_err(|e| {
            ImageError::Unreachable(format!("failed to do request: Get \"{url}\": {}", image_trust::why(&e)))
        })
    }

    fn authorize(&self, challenges: &[String]) -> Result<(), ImageError> {
        let denied = |why: String| ImageError::Refused(format!("failed to authorize: {why}"));
        let bearer = challenges.iter().find_map(|c| strip_scheme(c, "bearer"));
        let value = if let Some(parameters) = bearer {
            self.token(&parse_parameters(parameters))?
        } else if challenges.iter().any(|c| strip_scheme(c, "basic").is_some()) {
            self.basic.clone().ok_or_else(|| denied("no basic auth credentials".into()))?
        } else {
            return Err(denied("the registry asks for an authentication that is not known here".into()));
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    fn token(&self, parameters: &[(String, String)]) -> Result<String, ImageError> {
        let get = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let realm = get("realm").ok_or_else(|| ImageError::Refused("the registry names no token server".into()))?;
        let scope = format!("repository:{}:pull", self.repository);
        let mut request = self.agent.get(realm).query("scope", get("scope").unwrap_or(&scope));
        if let Some(service) = get("service") {
            request = request.query("service", service);
        }
        if let Some(basic) = &self.basic {
            request = request.header("authorization", basic);
        }
        let unreachable = |e: ureq::Error| {
            let why = image_trust::why(&e);
            ImageError::Unreachable(format!("failed to fetch anonymous token: Get \"{realm}\": {why}"))
        };
        let mut response = request.call().map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            return Err(ImageError::Refused(format!(
                "failed to authorize: failed to fetch oauth token: unexpected status from GET request to {realm}: {status}"
            )));
        }
        let bytes = read_document(&mut response)?;
        let answer: Token = serde_json::from_slice(&bytes)
            .map_err(|e| ImageError::Refused(format!("the token server's answer cannot be read: {e}")))?;
        let token = answer.token.or(answer.access_token);
        token.map(|t| format!("Bearer {t}")).ok_or_else(|| ImageError::Refused("the token server gave no token".into()))
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

fn read_document(response: &mut Response<Body>) -> Result<Vec<u8>, ImageError> {
    let body = response.body_mut().with_config().limit(DOCUMENT_BYTES_MAX);
    body.read_to_vec().map_err(|e| ImageError::Unreachable(format!("failed to read the registry's answer: {e}")))
}

/// `Bearer realm="…"`: what follows the scheme, which is written in any case.
fn strip_scheme<'a>(challenge: &'a str, scheme: &str) -> Option<&'a str> {
    let (first, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
    first.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// `realm="https://a/b?c",service="x"` with commas inside the quotes.
fn parse_parameters(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        all.push((name, value.to_string()));
        rest = after.trim_start_matches([',', ' ']);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let parameters = strip_scheme(
            "bearer realm=\"https://auth/token?a=b,c\",service=registry,scope=\"r:x:pull,push\"",
            "Bearer",
        );
        let shown: Vec<String> =
            parse_parameters(parameters.unwrap()).iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(shown, ["realm=https://auth/token?a=b,c", "service=registry", "scope=r:x:pull,push"]);
        assert_eq!(strip_scheme("Basic realm=\"x\"", "bearer"), None);
    }
}
