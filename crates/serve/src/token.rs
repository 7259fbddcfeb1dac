//! Service account tokens: JSON Web Tokens signed with ES256.
//!
//! Only the signature and the issuer are checked here; whether the account, pod or node still exists is a question to the
//! snapshot (`apiserver::authenticate`).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};
use stead_api::token::{Credential, LegacyClaims};
use stead_apiserver::bootstrap_token;

/// The issuer of all tokens.
pub const ISSUER: &str = stead_apiserver::DEFAULT_AUDIENCE;

pub struct Signer {
    key: EcdsaKeyPair,
    random: SystemRandom,
    key_id: String,
}

impl Signer {
    /// # Errors
    /// When the bytes are not a P-256 key in PKCS#8.
    pub fn new(pkcs8: &[u8]) -> anyhow::Result<Signer> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|e| anyhow::anyhow!("service account key: {e}"))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        Ok(Signer { key_id: BASE64.encode(digest), key, random })
    }

    /// Signs a set of claims.
    pub fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let text = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self.key.sign(&self.random, text.as_bytes()).map_err(|_| anyhow::anyhow!("sign a token"))?;
        Ok(format!("{text}.{}", BASE64.encode(signature)))
    }

    /// The claims of a token that we signed, or None. Times and what it is bound to are for `apiserver::authenticate`.
    pub fn verify(&self, token: &str) -> Option<Value> {
        let (text, signature) = token.rsplit_once('.')?;
        let (header, claims) = text.split_once('.')?;
        let header: Value = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        let signature = BASE64.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(text.as_bytes(), &signature).ok()?;
        serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()
    }

    /// What a bearer token is, if it is one of ours.
    pub fn credential(&self, token: &str) -> Option<Credential> {
        if let Some((id, secret)) = bootstrap_token::parse(token) {
            return Some(Credential::Bootstrap { id: id.to_owned(), secret: secret.to_owned() });
        }
        let claims = self.verify(token)?;
        match claims["iss"].as_str()? {
            ISSUER => serde_json::from_value(claims).ok().map(Credential::Bound),
            LegacyClaims::ISSUER => {
                let claims = serde_json::from_value(claims).ok()?;
                Some(Credential::Legacy { claims, token: token.to_owned() })
            }
            _ => None,
        }
    }

    /// An identifier that no other token has.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn fresh_id(&self) -> anyhow::Result<String> {
        fresh_id(&self.random)
    }

    /// The public key as a JSON Web Key Set, for `/openid/v1/jwks`.
    pub fn key_set(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (&point[1..33], &point[33..65]);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key_id,
            "x": BASE64.encode(x), "y": BASE64.encode(y)}]})
    }
}

/// A random UUID.
///
/// # Errors
/// When the system gives no random numbers.
pub fn fresh_id(random: &SystemRandom) -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_ours_and_whole() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_der();
        let signer = Signer::new(&key).unwrap();
        let token = signer.sign(&json!({"iss": ISSUER, "exp": 100, "nbf": 10, "sub": "x"})).unwrap();
        assert_eq!(signer.verify(&token).unwrap()["sub"], "x");
        assert!(matches!(signer.credential(&token), Some(Credential::Bound(claims)) if claims.exp == 100));
        let others = signer.sign(&json!({"iss": "https://elsewhere"})).unwrap();
        assert_eq!(signer.credential(&others), None);
        let legacy = LegacyClaims::new("n", "s", "a", "u");
        let of_secret = signer.sign(&serde_json::to_value(&legacy).unwrap()).unwrap();
        assert_eq!(
            signer.credential(&of_secret),
            Some(Credential::Legacy { claims: legacy, token: of_secret.clone() })
        );
        let other = Signer::new(&rcgen::KeyPair::generate().unwrap().serialize_der()).unwrap();
        assert!(other.verify(&token).is_none());
        for rubbish in ["", "a", "a.b", "a.b.c", "..", &token[1..], &token[..token.len() - 2]] {
            assert!(signer.verify(rubbish).is_none(), "{rubbish}");
        }
    }
}
