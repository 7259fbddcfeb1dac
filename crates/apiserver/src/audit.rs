//! What of a request is written into the audit log: a Policy of audit.k8s.io/v1, as a function.
//!
//! Contract: the first rule that matches decides; what no rule matches is not written. Upstream: k8s.io/apiserver/pkg/audit/policy.

use serde::Deserialize;
use serde_json::Value;
use stead_api::User;

use crate::attributes::Attributes;

/// How much is written. In this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// When it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: Value,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What a policy says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    /// # Errors
    /// What is wrong with it.
    pub fn of(value: &Value) -> Result<Policy, String> {
        let policy = Policy::deserialize(value).map_err(|error| error.to_string())?;
        if policy.kind != "Policy" || policy.api_version != "audit.k8s.io/v1" {
            return Err("this is no Policy of audit.k8s.io/v1".into());
        }
        if policy.rules.is_empty() {
            return Err("rules: Required value: a policy without rules writes nothing".into());
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            let on_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            if on_resources && !rule.urls.is_empty() {
                return Err(format!(
                    "rules[{index}].nonResourceURLs: Invalid value: rules cannot apply to both regular resources and non-resource URLs"
                ));
            }
            let is_path = |url: &&String| *url == "*" || url.starts_with('/');
            if let Some(url) = rule.urls.iter().find(|url| !is_path(url)) {
                return Err(format!("rules[{index}].nonResourceURLs: Invalid value: {url:?}: must begin with \"/\""));
            }
        }
        Ok(policy)
    }

    /// What is written of a request.
    pub fn judge(&self, user: &User, asked: &Attributes) -> Verdict {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(user, asked)) else {
            return Verdict { level: Level::None, omit_stages: Vec::new(), omit_managed_fields: false };
        };
        Verdict {
            level: rule.level,
            omit_stages: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn matches(&self, user: &User, asked: &Attributes) -> bool {
        let is_among = |list: &[String], one: &str| list.is_empty() || list.iter().any(|word| word == one);
        let has_group = self.user_groups.is_empty() || self.user_groups.iter().any(|group| user.is_in(group));
        if !is_among(&self.users, &user.name) || !has_group || !is_among(&self.verbs, asked.verb) {
            return false;
        }
        if !self.resources.is_empty() || !self.namespaces.is_empty() {
            let is_there = asked.path.is_empty() && is_among(&self.namespaces, asked.namespace);
            return is_there && (self.resources.is_empty() || self.resources.iter().any(|one| one.covers(asked)));
        }
        self.urls.is_empty() || (!asked.path.is_empty() && self.urls.iter().any(|url| covers_url(url, asked.path)))
    }
}

fn covers_url(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

impl Resources {
    fn covers(&self, asked: &Attributes) -> bool {
        if self.group != asked.group {
            return false;
        }
        let is_named = self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == asked.name);
        self.resources.is_empty() || (is_named && self.resources.iter().any(|pattern| covers_resource(pattern, asked)))
    }
}

/// `pods`, `pods/log`, `*`, `*/status`, `pods/*`: a resource alone does not mean its subresources.
fn covers_resource(pattern: &str, asked: &Attributes) -> bool {
    let (resource, subresource) = pattern.split_once('/').unwrap_or((pattern, ""));
    match (resource, subresource) {
        _ if pattern == "*" => true,
        (resource, "*") => resource == asked.resource,
        ("*", subresource) => !asked.subresource.is_empty() && subresource == asked.subresource,
        (resource, subresource) => resource == asked.resource && subresource == asked.subresource,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(rules: Value) -> Result<Policy, String> {
        Policy::of(&json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "omitManagedFields": true, "rules": rules}))
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = policy(json!([
            {"level": "None", "users": ["system:kube-proxy"], "verbs": ["watch"], "resources": [{"group": "", "resources": ["endpoints"]}]},
            {"level": "None", "userGroups": ["system:authenticated"], "nonResourceURLs": ["/api*", "/version"]},
            {"level": "Request", "resources": [{"group": "", "resources": ["configmaps"]}], "namespaces": ["kube-system"], "omitStages": ["ResponseStarted"], "omitManagedFields": false},
            {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "pods/log", "*/status", "services/*"]}]},
            {"level": "RequestResponse", "resources": [{"group": "apps"}]},
        ]))
        .expect("a policy");
        let user = User { name: "joe".into(), groups: vec!["system:authenticated".into()], ..User::default() };
        let level = |verb: &str, group: &str, resource: &str, namespace: &str| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            policy
                .judge(&user, &Attributes { verb, group, resource, subresource, namespace, ..Attributes::default() })
                .level
        };
        assert_eq!(level("get", "", "secrets", "default"), Level::Metadata);
        assert_eq!(level("get", "", "secrets/x", "default"), Level::None);
        assert_eq!(level("get", "", "pods", "default"), Level::None);
        assert_eq!(level("get", "", "pods/log", "default"), Level::Metadata);
        assert_eq!(level("update", "", "pods/status", "default"), Level::Metadata);
        assert_eq!(level("update", "", "services/proxy", "default"), Level::Metadata);
        assert_eq!(level("get", "", "configmaps", "default"), Level::None);
        assert_eq!(level("get", "", "configmaps", "kube-system"), Level::Request);
        assert_eq!(level("get", "apps", "deployments", "default"), Level::RequestResponse);
        let path = |path: &str| policy.judge(&user, &Attributes { verb: "get", path, ..Attributes::default() }).level;
        assert_eq!((path("/version"), path("/metrics")), (Level::None, Level::None));
        let map = Attributes { verb: "get", resource: "configmaps", namespace: "kube-system", ..Attributes::default() };
        let verdict = policy.judge(&user, &map);
        assert_eq!(verdict.omit_stages, [Stage::RequestReceived, Stage::ResponseStarted]);
        assert!(!verdict.omit_managed_fields);
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert!(policy(json!([])).expect_err("empty").contains("Required value"));
        assert!(policy(json!([{"level": "Loud"}])).expect_err("level").contains("unknown variant `Loud`"));
        assert!(policy(json!([{"level": "None", "user": ["x"]}])).expect_err("field").contains("unknown field `user`"));
        let both = json!([{"level": "None", "namespaces": ["a"], "nonResourceURLs": ["/a"]}]);
        assert!(policy(both).expect_err("both").contains("cannot apply to both"));
        assert!(Policy::of(&json!({"apiVersion": "v1", "kind": "Policy"})).expect_err("version").contains("no Policy"));
    }
}
