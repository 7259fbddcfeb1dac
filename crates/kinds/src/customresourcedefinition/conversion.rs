//! How versions of a custom resource become each other: by nobody, or by a webhook.
//!
//! Fields are named as upstream's internal type names them.

use std::collections::BTreeSet;

use serde_json::Value;
use stead_api::Errors;
use stead_api::names::dns1035_label;

use super::part::{items, text};
use crate::check::one_of;
use crate::fill::{object, set, set_text};
use crate::path::Path;
use crate::webhook::{validate_service, validate_url};

pub(super) fn default(conversion: &mut Value) {
    set_text(conversion, "strategy", "None");
    if let Some(webhook) = object(conversion, "webhook")
        && let Some(client) = object(webhook, "clientConfig")
        && let Some(service) = object(client, "service")
    {
        set(service, "port", 443);
    }
}

pub(super) fn validate(at: Path, conversion: &Value, errors: &mut Errors) {
    let strategy = text(conversion, "strategy");
    one_of(at.child("strategy"), strategy, &["None", "Webhook"], true, errors);
    let webhook = &conversion["webhook"];
    let (client, versions) = (&webhook["clientConfig"], items(webhook, "conversionReviewVersions"));
    if strategy != "Webhook" {
        let detail = "should not be set when strategy is not set to Webhook";
        if client.is_object() {
            at.child("webhookClientConfig").forbidden(errors, detail);
        }
        if !versions.is_empty() {
            at.child("conversionReviewVersions").forbidden(errors, detail);
        }
        return;
    }
    validate_client(at.child("webhookClientConfig"), client, errors);
    validate_reviews(at.child("conversionReviewVersions"), versions, errors);
}

fn validate_client(at: Path, client: &Value, errors: &mut Errors) {
    if !client.is_object() {
        return at.required(errors, "required when strategy is set to Webhook");
    }
    match (client["url"].as_str(), &client["service"]) {
        (Some(url), Value::Null) => validate_url(at.child("url"), url, errors),
        (None, service) if service.is_object() => {
            let port = service["port"].as_i64().and_then(|port| i32::try_from(port).ok());
            let (namespace, name) = (text(service, "namespace"), text(service, "name"));
            validate_service(at.child("service"), namespace, name, service["path"].as_str(), port, errors);
        }
        _ => at.required(errors, "exactly one of url or service is required"),
    }
}

fn validate_reviews(at: Path, versions: &[Value], errors: &mut Errors) {
    if versions.is_empty() {
        return at.required(errors, "");
    }
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().map(|one| one.as_str().unwrap_or_default()).enumerate() {
        if !seen.insert(version) {
            at.index(index).invalid(errors, version, "duplicate version");
            continue;
        }
        for message in dns1035_label(version) {
            at.index(index).invalid(errors, version, message);
        }
    }
    if !seen.contains("v1") && !seen.contains("v1beta1") {
        at.invalid(errors, Value::Array(versions.to_vec()), "must include at least one of v1, v1beta1");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(mut conversion: Value) -> Vec<String> {
        default(&mut conversion);
        let mut errors = Errors::default();
        let at = Path::root("spec");
        validate(at.child("conversion"), &conversion, &mut errors);
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_conversion_webhook_is_filled_in_and_checked() {
        assert_eq!(errors(json!({})), Vec::<String>::new());
        let client = json!({"service": {"namespace": "n", "name": "s"}});
        let good =
            json!({"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}});
        assert_eq!(errors(good.clone()), Vec::<String>::new());
        let mut filled = good;
        default(&mut filled);
        assert_eq!(filled["webhook"]["clientConfig"]["service"]["port"], 443);
        let review = "spec.conversion.conversionReviewVersions";
        for (conversion, expected) in [
            (
                json!({"strategy": "Magic"}),
                vec![
                    "spec.conversion.strategy: Unsupported value: \"Magic\": supported values: \"None\", \"Webhook\""
                        .to_owned(),
                ],
            ),
            (
                json!({"strategy": "Webhook"}),
                vec![
                    "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook"
                        .into(),
                    format!("{review}: Required value"),
                ],
            ),
            (
                json!({"strategy": "Webhook", "webhook": {"clientConfig": {}, "conversionReviewVersions": ["v2", "v2"]}}),
                vec![
                    "spec.conversion.webhookClientConfig: Required value: exactly one of url or service is required"
                        .into(),
                    format!("{review}[1]: Invalid value: \"v2\": duplicate version"),
                    format!("{review}: Invalid value: [\"v2\",\"v2\"]: must include at least one of v1, v1beta1"),
                ],
            ),
            (
                json!({"webhook": {"conversionReviewVersions": ["v1"]}}),
                vec![format!("{review}: Forbidden: should not be set when strategy is not set to Webhook")],
            ),
        ] {
            assert_eq!(errors(conversion), expected);
        }
    }
}
