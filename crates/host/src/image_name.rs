//! Image names as users write them, normalised as Docker does: `nginx` is `docker.io/library/nginx:latest`.
//!
//! Upstream: the distribution project's reference grammar.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName {
    /// `docker.io`, `localhost:5000`
    pub registry: String,
    /// `library/nginx`
    pub repository: String,
    /// `None` only with a digest.
    pub tag: Option<String>,
    /// `sha256:…`
    pub digest: Option<String>,
}

impl ImageName {
    /// The error is the text behind `couldn't parse image name "…": `.
    pub fn parse(text: &str) -> Result<ImageName, String> {
        let invalid = || "invalid reference format".to_string();
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|d| !is_digest(d)) {
            return Err(invalid());
        }
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(invalid());
        }
        let (registry, path) = match rest.split_once('/') {
            Some((first, path)) if is_registry(first) => (first, path.to_string()),
            _ => ("docker.io", rest.to_string()),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let repository = if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(format!("{}: repository name ({repository}) must be lowercase", invalid()));
        }
        if !repository.split('/').all(is_component) || repository.len() > 255 {
            return Err(invalid());
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_string()),
            (tag, _) => tag.map(str::to_string),
        };
        Ok(ImageName { registry: registry.to_string(), repository, tag, digest: digest.map(str::to_string) })
    }

    /// Without tag and digest.
    pub fn without_version(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn is_registry(first: &str) -> bool {
    let looks_so = first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase());
    let (host, port) = first.split_once(':').unwrap_or((first, "0"));
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    looks_so && host.split('.').all(is_label) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

/// Is it `sha256:` and 64 hexadecimal digits?
pub fn is_digest(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(is_hash)
}

pub fn is_hash(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Lower-case words with single separators `.`, `_`, `__` or any number of `-` between them.
fn is_component(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let separators_fit = part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'));
    is_word(*first) && is_word(*last) && separators_fit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        match ImageName::parse(text) {
            Ok(name) => name.to_string(),
            Err(e) => format!("error: {e}"),
        }
    }

    #[test]
    fn names_are_normalised_as_docker_does() {
        let hash = "a".repeat(64);
        assert_eq!(check("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(check("k8spatterns/random-generator:1.0"), "docker.io/k8spatterns/random-generator:1.0");
        assert_eq!(check("registry.k8s.io/nginx-slim:0.7"), "registry.k8s.io/nginx-slim:0.7");
        assert_eq!(check("localhost:5000/a/b_c"), "localhost:5000/a/b_c:latest");
        assert_eq!(check("localhost/x"), "localhost/x:latest");
        assert_eq!(check("index.docker.io/library/nginx"), "docker.io/library/nginx:latest");
        assert_eq!(check(&format!("a/b@sha256:{hash}")), format!("docker.io/a/b@sha256:{hash}"));
        assert_eq!(check(&format!("b:1@sha256:{hash}")), format!("docker.io/library/b:1@sha256:{hash}"));
        assert_eq!(
            check("Nginx"),
            "error: invalid reference format: repository name (library/Nginx) must be lowercase"
        );
        for bad in ["", "a b", "a//b", "-a", "a:", "a:b:c", "a@sha256:12", "../x", "a/../b", "a___b", "x.y/../../etc"] {
            assert!(check(bad).starts_with("error: invalid reference format"), "{bad}: {}", check(bad));
        }
    }
}
