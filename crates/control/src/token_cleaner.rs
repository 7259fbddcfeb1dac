//! Tokens in Secrets that nobody has used for a year are marked invalid, and after another year taken away.
//!
//! Only those that the server made for an account, which names them, and that no pod mounts. What was used before uses were noted
//! is not known, so nothing is touched until they have been noted for a year.
//!
//! Upstream: pkg/controller/serviceaccount/legacy_serviceaccount_token_cleaner.go.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use stead_api::Key;
use stead_api::object::Object;
use stead_apiserver::legacy_use::{INVALID_SINCE, LAST_USED, TRACKING};
use stead_kinds::pod::references;

use crate::facts;
use crate::names::{CONFIG_MAP, POD, SECRET, SERVICE_ACCOUNT};
use crate::plan::{Controller, Plan, Settles, View, Watch};
use crate::token_secret::{ACCOUNT, ACCOUNT_UID, TYPE};

pub const CONTROLLER: Controller = Controller {
    name: "legacy-service-account-token-cleaner",
    settles: Settles::Always,
    watches: &[Watch {
        kind: SECRET,
        keys: |_, event| match event.deleted || event.object.meta.annotation(ACCOUNT).is_none() {
            true => Vec::new(),
            false => vec![event.key().clone()],
        },
    }],
    reconcile,
};

const DAYS_MAX: i64 = 365;
const DAY_SECONDS: i64 = 24 * 3600;

fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

fn start_of(date: Date) -> Option<Timestamp> {
    date.to_zoned(TimeZone::UTC).ok().map(|start| start.timestamp())
}

/// The moment at which a day lies more than a year back.
fn a_year_after(date: Date) -> Option<Timestamp> {
    start_of(date.checked_add((DAYS_MAX + 1).days()).ok()?)
}

/// Since when uses have been noted for a year.
fn trusted_from(view: &View) -> Option<Timestamp> {
    let map = view.get(CONFIG_MAP, TRACKING.0, TRACKING.1)?.value();
    let since: Date = map["data"]["since"].as_str()?.parse().ok()?;
    // The day itself was not noted as a whole.
    a_year_after(since)
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(secret) = view.snapshot.get(key).filter(|secret| !secret.meta.is_deleting()) else { return plan };
    if secret.value()["type"] != TYPE {
        return plan;
    }
    let again = facts::after(view.now, DAY_SECONDS);
    let created = secret.meta.creation_timestamp.unwrap_or(view.now);
    let Some(trusted_from) = trusted_from(view) else {
        plan.wake(again);
        return plan;
    };
    let last_used = match secret.meta.label(LAST_USED).map(str::parse::<Date>) {
        // What nobody can read as a day is left alone.
        Some(Err(_)) => return plan,
        Some(Ok(date)) => a_year_after(date),
        None => None,
    };
    let unused_from = [Some(trusted_from), Some(facts::after(created, DAYS_MAX * DAY_SECONDS)), last_used];
    let unused_from = unused_from.into_iter().flatten().max().unwrap_or(again);
    if unused_from > view.now {
        plan.wake(unused_from);
        return plan;
    }
    if !is_of_its_account(view, secret) || is_mounted(view, key) {
        plan.wake(again);
        return plan;
    }
    match secret.meta.label(INVALID_SINCE).and_then(|text| text.parse::<Date>().ok()).and_then(a_year_after) {
        None => {
            let mut new = secret.value().clone();
            new["metadata"]["labels"][INVALID_SINCE] = json!(day(view.now).to_string());
            plan.update(SECRET, new);
        }
        Some(end) if end > view.now => plan.wake(end),
        Some(_) => plan.delete(secret),
    }
    plan
}

/// Whether its account names it, as it names those that the server made.
fn is_of_its_account(view: &View, secret: &Object) -> bool {
    let account = secret.meta.annotation(ACCOUNT).unwrap_or_default();
    let Some(account) = view.get(SERVICE_ACCOUNT, &secret.key.namespace, account) else { return false };
    let uid = secret.meta.annotation(ACCOUNT_UID).unwrap_or(&account.meta.uid);
    let value = account.value();
    let mut named = value["secrets"].as_array().into_iter().flatten();
    uid == account.meta.uid && named.any(|one| one["name"] == *secret.key.name)
}

fn is_mounted(view: &View, key: &Key) -> bool {
    let names =
        |pod: &Object| references(&pod.view::<Pod>()).iter().any(|(kind, name)| *kind == SECRET && **name == *key.name);
    view.snapshot.list(POD, &key.namespace).any(|pod| names(pod))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, show};

    const SECRET_LINE: &str = "secret t annotation=kubernetes.io/service-account.name:bot";

    fn told(more: &str, labels: &str, now: &str) -> String {
        let text = format!(
            "cm kube-system/kube-apiserver-legacy-service-account-token-tracking {{\"data\":{{\"since\":\"2025-01-01\"}}}}\n\
             {SECRET_LINE} {labels} {{\"type\":\"{TYPE}\"}}\n{more}"
        );
        let mut world = World::of(&text);
        world.now = now.parse().expect("a time");
        show(&world, &reconcile(&world.view(), &Key::new(SECRET, "default", "t"))).trim_end().to_owned()
    }

    #[test]
    fn an_unused_token_is_marked_and_a_year_later_taken_away() {
        let account = r#"sa bot {"secrets":[{"name":"t"}]}"#;
        let (late, invalid) = ("2026-03-01T00:00:00Z", "label=kubernetes.io/legacy-token-invalid-since:");
        let used = "label=kubernetes.io/legacy-token-last-used:";
        // Uses have not been noted for a year yet.
        assert_eq!(told(account, "", "2026-01-01T00:00:00Z"), "wake in 86400 s");
        let marked =
            r#"update Secret t {"metadata":{"labels":{"kubernetes.io/legacy-token-invalid-since":"2026-03-01"}}}"#;
        assert_eq!(told(account, "", late), marked);
        assert_eq!(told(account, &format!("{used}2025-02-28"), late), marked);
        assert_eq!(told(account, &format!("{used}2025-03-01"), late), "wake in 86400 s");
        assert_eq!(told(account, &format!("{used}soon"), late), "");
        assert_eq!(told(account, &format!("{invalid}2025-03-01"), late), "wake in 86400 s");
        assert_eq!(told(account, &format!("{invalid}2025-02-28"), late), "delete secrets/default/t");
    }

    #[test]
    fn what_its_account_does_not_name_and_what_a_pod_mounts_stays() {
        let late = "2026-03-01T00:00:00Z";
        assert_eq!(told("sa bot", "", late), "wake in 86400 s");
        assert_eq!(told("", "", late), "wake in 86400 s");
        let account = r#"sa bot {"secrets":[{"name":"t"}]}"#;
        let pod = r#"pod p {"spec":{"volumes":[{"name":"v","secret":{"secretName":"t"}}]}}"#;
        assert_eq!(told(&format!("{account}\n{pod}"), "", late), "wake in 86400 s");
        assert_eq!(told(account, "created=-2000000000", "1996-03-01T00:00:00Z").split(' ').next(), Some("wake"));
    }
}
