//! Secrets of type kubernetes.io/service-account-token: filled with a token, deleted with their account.
//!
//! Upstream: pkg/controller/serviceaccount/tokens_controller.go.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use stead_api::Key;
use stead_api::object::Object;
use stead_api::token::LegacyClaims;
use stead_store::Event;

use crate::effect::Work;
use crate::names::{SECRET, SERVICE_ACCOUNT};
use crate::plan::{Action, Controller, Plan, Settles, View, Watch};

pub(crate) const TYPE: &str = "kubernetes.io/service-account-token";
pub(crate) const ACCOUNT: &str = "kubernetes.io/service-account.name";
pub(crate) const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

pub const CONTROLLER: Controller = Controller {
    name: "tokens-controller",
    settles: Settles::Always,
    watches: &[
        Watch {
            kind: SECRET,
            keys: |_, event| match event.deleted || event.object.meta.annotation(ACCOUNT).is_none() {
                true => Vec::new(),
                false => vec![event.key().clone()],
            },
        },
        Watch { kind: SERVICE_ACCOUNT, keys: of_account },
    ],
    reconcile,
};

/// The Secrets of an account that has come or gone; what else changes in it does not matter to them.
fn of_account(view: &View, event: &Event) -> Vec<Key> {
    if event.old.is_some() && !event.deleted {
        return Vec::new();
    }
    let key = event.key();
    let is_its = |secret: &&std::sync::Arc<Object>| secret.meta.annotation(ACCOUNT) == Some(&key.name);
    view.snapshot.list(SECRET, &key.namespace).filter(is_its).map(|secret| secret.key.clone()).collect()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(secret) = view.snapshot.get(key).filter(|secret| !secret.meta.is_deleting()) else { return plan };
    let old = secret.value();
    if old["type"] != TYPE {
        return plan;
    }
    let name = secret.meta.annotation(ACCOUNT).unwrap_or_default();
    let named_uid = secret.meta.annotation(ACCOUNT_UID).unwrap_or_default();
    let account = view.get(SERVICE_ACCOUNT, &key.namespace, name);
    let account = account.filter(|account| named_uid.is_empty() || named_uid == account.meta.uid);
    let Some(account) = account else {
        plan.delete(secret);
        return plan;
    };
    let mut new = old.clone();
    if !new["data"].is_object() {
        new["data"] = json!({});
    }
    new["metadata"]["annotations"][ACCOUNT_UID] = json!(account.meta.uid);
    new["data"]["ca.crt"] = json!(BASE64.encode(&view.cluster.ca_pem));
    if is_empty(&new["data"]["namespace"]) {
        new["data"]["namespace"] = json!(BASE64.encode(&*key.namespace));
    }
    if is_empty(&new["data"]["token"]) {
        let claims = LegacyClaims::new(&key.namespace, &key.name, name, &account.meta.uid);
        plan.actions.push(Action::Make { kind: SECRET, subresource: "", value: new, work: Work::Token(claims) });
    } else if new != old {
        plan.update(SECRET, new);
    }
    plan
}

fn is_empty(value: &Value) -> bool {
    value.as_str().is_none_or(str::is_empty)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fixture::{World, show};

    fn check(text: &str, expected: Expect) {
        let world = World::of(text);
        expected.assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(SECRET, "default", "t"))));
    }

    #[test]
    fn a_token_secret_is_filled_and_goes_with_its_account() {
        let secret = r#"secret t annotation=kubernetes.io/service-account.name:bot {"type":"kubernetes.io/service-account-token"}"#;
        check(
            &format!("sa bot\n{secret}"),
            expect![[r#"
            make a token of system:serviceaccount:default:bot for object of Secret t {"metadata":{"annotations":{"kubernetes.io/service-account.uid":"sa-bot"}},"data":{"ca.crt":"Q0E=","namespace":"ZGVmYXVsdA=="}}
        "#]],
        );
        check(
            secret,
            expect![[r#"
            delete secrets/default/t
        "#]],
        );
        let filled = r#"secret t annotation=kubernetes.io/service-account.name:bot annotation=kubernetes.io/service-account.uid:sa-bot {"type":"kubernetes.io/service-account-token","data":{"token":"eA==","namespace":"ZGVmYXVsdA==","ca.crt":"Q0E="}}"#;
        check(&format!("sa bot\n{filled}"), expect![[""]]);
        check(
            &format!("sa bot uid=another\n{filled}"),
            expect![[r#"
            delete secrets/default/t
        "#]],
        );
        let old_root = filled.replace("Q0E=", "b2xk");
        check(
            &format!("sa bot\n{old_root}"),
            expect![[r#"
            update Secret t {"data":{"ca.crt":"Q0E="}}
        "#]],
        );
        check("sa bot\nsecret t annotation=kubernetes.io/service-account.name:bot", expect![[""]]);
    }
}
