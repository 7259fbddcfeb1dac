//! Service account tokens: JSON Web Tokens signed with ES256.
//!
//! Only the signature, the issuer and the times are checked here; whether the account, pod or node still exists is a question to the
//! snapshot (`apiserver::access`).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};

/// The issuer of all tokens.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

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

    /// The claims of a token that we signed and that is valid at `now` (seconds since 1970), or None.
    pub fn verify(&self, token: &str, now: i64) -> Option<Value> {
        let (text, signature) = token.rsplit_once('.')?;
        let (header, claims) = text.split_once('.')?;
        let header: Value = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        let signature = BASE64.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(text.as_bytes(), &signature).ok()?;
        let claims: Value = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
        let in_time = claims["exp"].as_i64()? > now && claims["nbf"].as_i64().unwrap_or(0) <= now;
        (claims["iss"] == ISSUER && in_time).then_some(claims)
    }

    /// The public key as a JSON Web Key Set, for `/openid/v1/jwks`.
    pub fn key_set(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (&point[1..33], &point[33..65]);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key_id,
            "x": BASE64.encode(x), "y": BASE64.encode(y)}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_ours_whole_and_in_time() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_der();
        let signer = Signer::new(&key).unwrap();
        let token = signer.sign(&json!({"iss": ISSUER, "exp": 100, "nbf": 10, "sub": "x"})).unwrap();
        assert_eq!(signer.verify(&token, 50).unwrap()["sub"], "x");
        assert!(signer.verify(&token, 100).is_none());
        assert!(signer.verify(&token, 9).is_none());
        let other = Signer::new(&rcgen::KeyPair::generate().unwrap().serialize_der()).unwrap();
        assert!(other.verify(&token, 50).is_none());
        for rubbish in ["", "a", "a.b", "a.b.c", "..", &token[1..], &token[..token.len() - 2]] {
            assert!(signer.verify(rubbish, 50).is_none(), "{rubbish}");
        }
    }
}
