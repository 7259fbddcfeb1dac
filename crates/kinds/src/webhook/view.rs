//! Webhooks of either kind, seen the same way.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhook,
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::check::{list, text};

/// A configuration of either kind.
pub trait Webhooks {
    fn webhooks(&self) -> Vec<Webhook<'_>>;
}

impl Webhooks for MutatingWebhookConfiguration {
    fn webhooks(&self) -> Vec<Webhook<'_>> {
        list(&self.webhooks).iter().map(Webhook::from).collect()
    }
}

impl Webhooks for ValidatingWebhookConfiguration {
    fn webhooks(&self) -> Vec<Webhook<'_>> {
        list(&self.webhooks).iter().map(Webhook::from).collect()
    }
}

/// What both kinds of webhook have.
pub struct Webhook<'a> {
    pub name: &'a str,
    pub config: &'a WebhookClientConfig,
    pub rules: &'a [RuleWithOperations],
    pub failure_policy: &'a str,
    pub match_policy: &'a str,
    pub selectors: [(&'static str, &'a Option<LabelSelector>); 2],
    pub side_effects: &'a str,
    pub seconds: Option<i32>,
    pub versions: &'a [String],
    pub conditions: &'a [MatchCondition],
    /// Empty for validating webhooks.
    pub reinvocation: &'a str,
}

impl<'a> From<&'a MutatingWebhook> for Webhook<'a> {
    fn from(one: &'a MutatingWebhook) -> Self {
        Webhook {
            name: &one.name,
            config: &one.client_config,
            rules: list(&one.rules),
            failure_policy: text(&one.failure_policy),
            match_policy: text(&one.match_policy),
            selectors: [("namespaceSelector", &one.namespace_selector), ("objectSelector", &one.object_selector)],
            side_effects: &one.side_effects,
            seconds: one.timeout_seconds,
            versions: &one.admission_review_versions,
            conditions: list(&one.match_conditions),
            reinvocation: text(&one.reinvocation_policy),
        }
    }
}

impl<'a> From<&'a ValidatingWebhook> for Webhook<'a> {
    fn from(one: &'a ValidatingWebhook) -> Self {
        Webhook {
            name: &one.name,
            config: &one.client_config,
            rules: list(&one.rules),
            failure_policy: text(&one.failure_policy),
            match_policy: text(&one.match_policy),
            selectors: [("namespaceSelector", &one.namespace_selector), ("objectSelector", &one.object_selector)],
            side_effects: &one.side_effects,
            seconds: one.timeout_seconds,
            versions: &one.admission_review_versions,
            conditions: list(&one.match_conditions),
            reinvocation: "",
        }
    }
}
