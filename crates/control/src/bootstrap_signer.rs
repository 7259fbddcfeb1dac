//! Bootstrap tokens end when they say so, and sign the ConfigMap `cluster-info` by which a machine that joins trusts the cluster.
//!
//! Upstream: pkg/controller/bootstrap (token cleaner, signer).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use serde_json::json;
use stead_api::Key;
use stead_apiserver::bootstrap_token::{NAMESPACE, PREFIX, Token};
use stead_store::Event;

use crate::facts;
use crate::names::{CONFIG_MAP, SECRET};
use crate::plan::{Controller, Plan, Settles, View, Watch};

const INFO: (&str, &str) = ("kube-public", "cluster-info");
/// What of the ConfigMap is signed, and where the signature of a token is.
const SIGNED: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

pub const CLEANER: Controller = Controller {
    name: "token-cleaner",
    settles: Settles::Always,
    watches: &[Watch {
        kind: SECRET,
        keys: |_, event| if is_token(event) { vec![event.key().clone()] } else { Vec::new() },
    }],
    reconcile: clean,
};

pub const SIGNER: Controller = Controller {
    name: "bootstrap-signer",
    settles: Settles::Always,
    watches: &[
        Watch { kind: SECRET, keys: |_, event| if is_token(event) { vec![info()] } else { Vec::new() } },
        Watch { kind: CONFIG_MAP, keys: |_, event| if *event.key() == info() { vec![info()] } else { Vec::new() } },
    ],
    reconcile: sign,
};

fn is_token(event: &Event) -> bool {
    &*event.key().namespace == NAMESPACE && event.key().name.starts_with(PREFIX)
}

fn info() -> Key {
    Key::new(CONFIG_MAP, INFO.0, INFO.1)
}

fn clean(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key).filter(|object| !object.meta.is_deleting()) else { return plan };
    let Some(end) = Token::of(object).and_then(|token| token.expiration()) else { return plan };
    match end < view.now {
        true => plan.delete(object),
        false => plan.wake(facts::after(end, 1)),
    }
    plan
}

fn sign(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key) else { return plan };
    let mut value = object.value();
    let Some(content) = value["data"][SIGNED].as_str().map(str::to_owned) else { return plan };
    let Some(data) = value["data"].as_object_mut() else { return plan };
    let before = data.clone();
    data.retain(|name, _| !name.starts_with(SIGNATURE));
    let secrets = view.snapshot.list(SECRET, NAMESPACE).filter(|secret| secret.key.name.starts_with(PREFIX));
    for token in secrets.filter_map(|secret| Token::of(secret)) {
        if token.is_for("signing") && !token.is_expired(view.now) && !token.secret().is_empty() {
            data.insert(format!("{SIGNATURE}{}", token.id()), json!(signature(&content, &token.id(), &token.secret())));
        }
    }
    if *data != before {
        plan.update(CONFIG_MAP, value);
    }
    plan
}

/// A JSON Web Signature (HS256) without the content, which stands beside it.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let head = BASE64.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let text = format!("{head}.{}", BASE64.encode(content));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), text.as_bytes());
    format!("{head}..{}", BASE64.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, show};

    fn token(id: &str, expiration: &str) -> String {
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let data = json!({"token-id": base64(id), "token-secret": base64("0123456789abcdef"),
            "usage-bootstrap-signing": base64("true"), "expiration": base64(expiration)});
        let extra = json!({"type": "bootstrap.kubernetes.io/token", "data": data});
        format!("secret kube-system/bootstrap-token-{id} {extra}\n")
    }

    #[test]
    fn every_living_token_signs_and_no_other() {
        let map = r#"cm kube-public/cluster-info {"data":{"kubeconfig":"x","jws-kubeconfig-gone00":"old"}}"#;
        let world = World::of(&format!("{}{}{map}", token("abcdef", ""), token("dead00", "1970-01-01T00:00:00Z")));
        let plan = sign(&world.view(), &info());
        // As Python's hmac makes it.
        let expected = "update ConfigMap cluster-info {\"data\":{\"jws-kubeconfig-abcdef\":\"eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..0TaMGHmkUmrmJzX2IZH40z8KPjHdxhjPikTkoySmxlA\",\"jws-kubeconfig-gone00\":null}}\n";
        assert_eq!(show(&world, &plan), expected);
    }

    #[test]
    fn a_token_goes_when_it_ends() {
        let plan = |end: &str| {
            let world = World::of(&token("abcdef", end));
            show(&world, &clean(&world.view(), &Key::new(SECRET, NAMESPACE, "bootstrap-token-abcdef")))
        };
        assert_eq!(plan(""), "");
        assert_eq!(plan("1970-01-12T13:46:50Z"), "wake in 11 s\n");
        assert_eq!(plan("1970-01-12T13:46:30Z"), "delete secrets/kube-system/bootstrap-token-abcdef\n");
        assert_eq!(plan("rubbish"), "delete secrets/kube-system/bootstrap-token-abcdef\n");
    }
}
