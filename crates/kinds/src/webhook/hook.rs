//! `Hook`: a webhook as admission asks it, its rules as policies have them and its conditions compiled.

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, NamedRuleWithOperations, RuleWithOperations, WebhookClientConfig,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use stead_api::call::Endpoint;
use stead_api::{Errors, FieldPath};
use stead_cel::{Program, Wanted};

use super::view::{Webhook, Webhooks};
use crate::Behavior;
use crate::expressions::{self, Scope};

/// A configuration of either kind and its webhooks.
#[derive(Debug)]
pub struct Configured<T> {
    pub configuration: T,
    /// In the order in which they are written.
    pub hooks: Vec<Hook>,
    /// Expressions that cannot work: field, expression, why.
    faults: Vec<(FieldPath, String, String)>,
}

#[derive(Debug)]
pub struct Hook {
    pub name: String,
    pub endpoint: Endpoint,
    pub ca_bundle: Vec<u8>,
    /// Which requests it is asked about.
    pub constraints: MatchResources,
    /// Name and program.
    pub conditions: Vec<(String, Program)>,
    /// Whether its failures are passed over.
    pub is_ignored: bool,
    pub has_side_effects: bool,
    pub seconds: u32,
    /// Whether it is asked in `v1`; else in `v1beta1`.
    pub speaks_v1: bool,
    /// Whether it wants to look again when others made changes.
    pub is_reinvoked: bool,
}

impl<'de, T: DeserializeOwned + Webhooks> Deserialize<'de> for Configured<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Configured<T>, D::Error> {
        let configuration = T::deserialize(deserializer)?;
        let (mut hooks, mut faults) = (Vec::new(), Vec::new());
        for (index, webhook) in configuration.webhooks().iter().enumerate() {
            let at = FieldPath::new("webhooks").index(index);
            hooks.push(hook(&at, webhook, &mut faults));
        }
        Ok(Configured { configuration, hooks, faults })
    }
}

impl<T: Behavior + Webhooks> Behavior for Configured<T> {
    fn default(new: &mut Value) {
        T::default(new);
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        self.configuration.validate(old.map(|old| &old.configuration), errors);
        for (at, expression, why) in &self.faults {
            errors.invalid(at, expression.as_str(), why.as_str());
        }
    }
}

fn hook(at: &FieldPath, webhook: &Webhook, faults: &mut Vec<(FieldPath, String, String)>) -> Hook {
    let [(_, namespace_selector), (_, object_selector)] = webhook.selectors;
    let scope = Scope { has_namespace: false, has_params: false, variables: None };
    let mut conditions = Vec::new();
    for (index, condition) in webhook.conditions.iter().enumerate() {
        if condition.expression.trim().is_empty() {
            continue;
        }
        match expressions::compile(&condition.expression, &scope, Wanted::Bool) {
            Ok(program) => conditions.push((condition.name.clone(), program)),
            Err(why) => {
                let at = at.child("matchConditions").index(index).child("expression");
                faults.push((at, condition.expression.clone(), why));
            }
        }
    }
    let known_version = webhook.versions.iter().find(|one| matches!(one.as_str(), "v1" | "v1beta1"));
    Hook {
        name: webhook.name.to_owned(),
        endpoint: endpoint(webhook.config),
        ca_bundle: webhook.config.ca_bundle.as_ref().map(|bundle| bundle.0.clone()).unwrap_or_default(),
        constraints: MatchResources {
            exclude_resource_rules: None,
            match_policy: Some(webhook.match_policy.to_owned()),
            namespace_selector: namespace_selector.clone(),
            object_selector: object_selector.clone(),
            resource_rules: Some(webhook.rules.iter().map(named).collect()),
        },
        conditions,
        is_ignored: webhook.failure_policy == "Ignore",
        has_side_effects: !matches!(webhook.side_effects, "None" | "NoneOnDryRun"),
        seconds: webhook.seconds.and_then(|seconds| seconds.try_into().ok()).unwrap_or(10),
        speaks_v1: known_version.is_none_or(|version| version == "v1"),
        is_reinvoked: webhook.reinvocation == "IfNeeded",
    }
}

fn endpoint(config: &WebhookClientConfig) -> Endpoint {
    match (&config.service, &config.url) {
        (Some(service), _) => Endpoint::Service {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            port: service.port.and_then(|port| port.try_into().ok()).unwrap_or(443),
            path: service.path.clone().unwrap_or_default(),
        },
        (None, url) => Endpoint::Url(url.clone().unwrap_or_default()),
    }
}

/// A webhook's rule as policies have it.
fn named(rule: &RuleWithOperations) -> NamedRuleWithOperations {
    NamedRuleWithOperations {
        api_groups: rule.api_groups.clone(),
        api_versions: rule.api_versions.clone(),
        operations: rule.operations.clone(),
        resource_names: None,
        resources: rule.resources.clone(),
        scope: rule.scope.clone(),
    }
}
