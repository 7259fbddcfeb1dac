//! What is stored encrypted: the file of `--encryption-provider-config` (apiserver.config.k8s.io/v1), and the bytes it leads to.
//!
//! The store in memory is plain; this stands between it and the disk. A value is written as the first provider of its resource
//! says and read by any of them. It carries its provider and key by name, as upstream's does, so it is known what it needs.

mod cipher;

use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use serde_json::Value;
use stead_api::KindName;

use cipher::Cipher;

/// How every encrypted value begins; JSON begins with a brace.
const MARK: &[u8] = b"k8s:enc:";

/// What is done with the values of which resources.
pub struct Seal {
    rules: Vec<Rule>,
    random: SystemRandom,
}

struct Rule {
    resources: Vec<String>,
    /// The first writes.
    providers: Vec<Provider>,
}

enum Provider {
    Identity,
    /// The first writes.
    Keys(Vec<NamedKey>),
}

struct NamedKey {
    /// `k8s:enc:aesgcm:v1:NAME:`
    prefix: Vec<u8>,
    cipher: Cipher,
}

impl Seal {
    /// Reads the configuration file.
    ///
    /// # Errors
    /// What in it is wrong or not supported.
    pub fn load(path: &Path) -> Result<Seal> {
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let value = crate::files::parse_yaml(&text).with_context(|| format!("{}", path.display()))?;
        Seal::of(&value).with_context(|| format!("{}", path.display()))
    }

    fn of(value: &Value) -> Result<Seal> {
        if value["kind"] != "EncryptionConfiguration" || value["apiVersion"] != "apiserver.config.k8s.io/v1" {
            bail!("this is no EncryptionConfiguration of apiserver.config.k8s.io/v1");
        }
        let rules = value["resources"].as_array().map(|rules| rules.iter().map(Rule::of).collect::<Result<Vec<_>>>());
        let rules = rules.context("resources: Required value")??;
        if rules.is_empty() {
            bail!("resources: Required value: no resources are named");
        }
        Ok(Seal { rules, random: SystemRandom::new() })
    }

    fn rule(&self, kind: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.resources.iter().any(|pattern| covers(pattern, kind)))
    }

    /// The value as it is to be stored; None: as it is.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn seal(&self, kind: KindName, key: &[u8], plain: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(Provider::Keys(keys)) = self.rule(kind).and_then(|rule| rule.providers.first()) else {
            return Ok(None);
        };
        let Some(first) = keys.first() else { return Ok(None) };
        let content = first.cipher.seal(&self.random, key, plain)?;
        Ok(Some([&first.prefix[..], &content].concat()))
    }

    /// Whether a value is stored as it would be now.
    pub fn writes_so(&self, kind: &str, stored: &[u8]) -> bool {
        match self.rule(kind).and_then(|rule| rule.providers.first()) {
            Some(Provider::Keys(keys)) => keys.first().is_none_or(|first| stored.starts_with(&first.prefix)),
            Some(Provider::Identity) | None => !is_sealed(stored),
        }
    }

    fn open(&self, kind: KindName, key: &[u8], stored: &[u8]) -> Result<Vec<u8>> {
        let Some(rule) = self.rule(kind) else {
            return if is_sealed(stored) { Err(unknown(stored)) } else { Ok(stored.to_vec()) };
        };
        for provider in &rule.providers {
            match provider {
                Provider::Identity if !is_sealed(stored) => return Ok(stored.to_vec()),
                Provider::Identity => {}
                Provider::Keys(keys) => {
                    for one in keys {
                        let Some(content) = stored.strip_prefix(&one.prefix[..]) else { continue };
                        return one.cipher.open(key, content);
                    }
                }
            }
        }
        match is_sealed(stored) {
            true => Err(unknown(stored)),
            false => bail!("is not encrypted, and the providers of its resource do not include identity"),
        }
    }
}

/// The value behind what is stored.
///
/// # Errors
/// When the key is missing, or is not the one that wrote it.
pub fn open(seal: Option<&Seal>, kind: KindName, key: &[u8], stored: &[u8]) -> Result<Vec<u8>> {
    match seal {
        Some(seal) => seal.open(kind, key, stored),
        None if is_sealed(stored) => Err(unknown(stored)),
        None => Ok(stored.to_vec()),
    }
}

fn is_sealed(stored: &[u8]) -> bool {
    stored.starts_with(MARK)
}

fn unknown(stored: &[u8]) -> anyhow::Error {
    let name = stored.splitn(6, |byte| *byte == b':').nth(4).unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    anyhow::anyhow!("is encrypted with the key {name:?}, which --encryption-provider-config does not give")
}

impl NamedKey {
    fn of(provider: &str, value: &Value) -> Result<NamedKey> {
        let name = value["name"].as_str().filter(|name| !name.is_empty() && !name.contains(':'));
        let name = name.context("keys[].name: Required value, without colons")?;
        let bytes = value["secret"].as_str().and_then(|text| BASE64.decode(text).ok());
        let bytes = bytes.with_context(|| format!("key {name:?}: its secret must be base64"))?;
        let cipher = Cipher::of(provider, &bytes).map_err(|why| anyhow::anyhow!("key {name:?}: {why}"))?;
        Ok(NamedKey { prefix: format!("k8s:enc:{provider}:v1:{name}:").into_bytes(), cipher })
    }
}

impl Rule {
    fn of(value: &Value) -> Result<Rule> {
        let resources: Vec<String> =
            value["resources"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        if resources.is_empty() {
            bail!("resources[].resources: Required value");
        }
        let providers = value["providers"].as_array().into_iter().flatten().map(Provider::of);
        let providers = providers.collect::<Result<Vec<_>>>()?;
        if providers.is_empty() {
            bail!("resources[].providers: Required value");
        }
        Ok(Rule { resources, providers })
    }
}

impl Provider {
    fn of(value: &Value) -> Result<Provider> {
        let fields = value.as_object().filter(|fields| fields.len() == 1);
        let (name, content) =
            fields.and_then(|fields| fields.iter().next()).context("a provider must be exactly one of them")?;
        match name.as_str() {
            "identity" => Ok(Provider::Identity),
            "aesgcm" | "aescbc" | "secretbox" => {
                let keys = content["keys"].as_array().into_iter().flatten().map(|key| NamedKey::of(name, key));
                let keys = keys.collect::<Result<Vec<_>>>()?;
                if keys.is_empty() {
                    bail!("{name}.keys: Required value");
                }
                Ok(Provider::Keys(keys))
            }
            "kms" => bail!("the provider kms is not supported: no plugin is called; use aesgcm, secretbox or aescbc"),
            other => bail!("there is no provider {other:?}: use aesgcm, secretbox, aescbc or identity"),
        }
    }
}

/// Whether `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group) or `*.*` means this kind.
fn covers(pattern: &str, kind: &str) -> bool {
    let (plural, group) = kind.split_once('.').unwrap_or((kind, ""));
    match pattern.split_once('.') {
        None => pattern == plural && group.is_empty(),
        Some(("*", "*")) => true,
        Some(("*", wanted)) => wanted == group,
        Some((one, wanted)) => one == plural && wanted == group,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seal(providers: Value) -> Result<Seal> {
        Seal::of(&json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": providers}]}))
    }

    fn key(name: &str, byte: u8) -> Value {
        json!({"name": name, "secret": BASE64.encode([byte; 32])})
    }

    #[test]
    fn the_first_key_writes_and_all_read() {
        let old = seal(json!([{"aesgcm": {"keys": [key("one", 1)]}}, {"identity": {}}])).unwrap();
        let stored = old.seal("secrets", b"k", b"{plain}").unwrap().unwrap();
        assert!(stored.starts_with(b"k8s:enc:aesgcm:v1:one:"));
        assert!(!stored.windows(5).any(|w| w == b"plain"));
        assert!(old.seal("configmaps", b"k", b"{}").unwrap().is_none());
        let read = |seal: &Seal, stored: &[u8]| {
            (open(Some(seal), "secrets", b"k", stored).unwrap(), seal.writes_so("secrets", stored))
        };
        assert_eq!(read(&old, &stored), (b"{plain}".to_vec(), true));
        assert!(!old.writes_so("configmaps", &stored) && old.writes_so("configmaps", b"{}"));
        let new = seal(json!([{"aesgcm": {"keys": [key("two", 2), key("one", 1)]}}, {"identity": {}}])).unwrap();
        assert_eq!(read(&new, &stored), (b"{plain}".to_vec(), false));
        assert_eq!(read(&new, b"{}"), (b"{}".to_vec(), false));
    }

    #[test]
    fn one_provider_takes_over_from_another() {
        let mut last: Option<(&str, Vec<u8>)> = None;
        for provider in ["aesgcm", "aescbc", "secretbox", "aesgcm"] {
            let of = |provider: &str| json!({provider: {"keys": [key("one", 1)]}});
            let before = last.as_ref().map_or(json!({"identity": {}}), |(before, _)| of(before));
            let seal = seal(json!([of(provider), before])).unwrap();
            if let Some((_, stored)) = &last {
                assert_eq!(open(Some(&seal), "secrets", b"k", stored).unwrap(), b"{plain}", "{provider}");
                assert!(!seal.writes_so("secrets", stored), "{provider}");
            }
            let stored = seal.seal("secrets", b"k", b"{plain}").unwrap().unwrap();
            assert!(stored.starts_with(format!("k8s:enc:{provider}:v1:one:").as_bytes()));
            last = Some((provider, stored));
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let old = seal(json!([{"aesgcm": {"keys": [key("one", 1)]}}])).unwrap();
        let stored = old.seal("secrets", b"k", b"{}").unwrap().unwrap();
        let why = |seal: Option<&Seal>, key: &[u8], stored: &[u8]| {
            open(seal, "secrets", key, stored).map(|_| ()).unwrap_err().to_string()
        };
        let missing = "is encrypted with the key \"one\", which --encryption-provider-config does not give";
        assert_eq!(why(None, b"k", &stored), missing);
        assert_eq!(why(Some(&seal(json!([{"identity": {}}])).unwrap()), b"k", &stored), missing);
        assert!(why(Some(&old), b"another", &stored).contains("cannot be decrypted"));
        let changed = seal(json!([{"aesgcm": {"keys": [key("one", 2)]}}])).unwrap();
        assert!(why(Some(&changed), b"k", &stored).contains("cannot be decrypted"));
        assert!(why(Some(&old), b"k", b"{}").contains("do not include identity"));
        assert!(why(Some(&old), b"k", b"k8s:enc:aesgcm:v1:one:x").contains("is cut off"));
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        let why = |providers: Value| seal(providers).map(|_| ()).unwrap_err().to_string();
        assert_eq!(why(json!([{"aescbc": {"keys": []}}])), "aescbc.keys: Required value");
        let kms = "the provider kms is not supported: no plugin is called; use aesgcm, secretbox or aescbc";
        assert_eq!(why(json!([{"kms": {}}])), kms);
        let other = "there is no provider \"rot13\": use aesgcm, secretbox, aescbc or identity";
        assert_eq!(why(json!([{"rot13": {}}])), other);
        for (provider, lengths) in [("aesgcm", "16 or 32"), ("aescbc", "16, 24 or 32"), ("secretbox", "32")] {
            let short = json!([{provider: {"keys": [{"name": "a", "secret": "eA=="}]}}]);
            let expected = format!("key \"a\": a secret of 1 bytes is not supported by {provider}, only of {lengths}");
            assert_eq!(why(short), expected);
        }
        assert!(Seal::of(&json!({"kind": "x"})).is_err());
    }

    #[test]
    fn a_resource_is_named_as_upstream_names_it() {
        for (pattern, kind, expected) in [
            ("secrets", "secrets", true),
            ("secrets", "secrets.example.com", false),
            ("deployments.apps", "deployments.apps", true),
            ("*.apps", "deployments.apps", true),
            ("*.", "secrets", true),
            ("*.*", "deployments.apps", true),
            ("*.", "deployments.apps", false),
        ] {
            assert_eq!(covers(pattern, kind), expected, "{pattern} {kind}");
        }
    }
}
