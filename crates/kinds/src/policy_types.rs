//! What expressions of a validating policy ask for that objects of the kinds it is about do not have: warnings, not errors, for a
//! policy may be about kinds that are not there yet.
//!
//! Upstream: `validating/typechecking.go`: kinds that the rules name, no wildcards, and no more than ten.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{ParamKind, ValidatingAdmissionPolicySpec};
use stead_cel::{Known, Wanted};

use crate::check::{list, text};
use crate::expressions::{self, Scope};
use crate::{Kind, Registry};

const KINDS_MAX: usize = 10;

/// The field of each expression that does not fit, and why.
pub fn misfits(spec: &ValidatingAdmissionPolicySpec, registry: &Registry) -> Vec<(String, String)> {
    let kinds = kinds(spec, registry);
    let mut found = Vec::new();
    for (index, validation) in list(&spec.validations).iter().enumerate() {
        let expressions = [
            ("expression", validation.expression.as_str()),
            ("messageExpression", text(&validation.message_expression)),
        ];
        for (field, source) in expressions.into_iter().filter(|(_, source)| !source.trim().is_empty()) {
            let whys: Vec<String> = kinds.iter().filter_map(|kind| misfit(source, spec, kind, registry)).collect();
            if !whys.is_empty() {
                found.push((format!("spec.validations[{index}].{field}"), whys.join("\n")));
            }
        }
    }
    found
}

fn misfit(source: &str, spec: &ValidatingAdmissionPolicySpec, kind: &Kind, registry: &Registry) -> Option<String> {
    let schema = registry.schema(kind)?;
    let params =
        spec.param_kind.as_ref().and_then(|of| param_kind(of, registry)).and_then(|kind| registry.schema(kind));
    let scope = Scope {
        has_namespace: true,
        has_params: spec.param_kind.is_some(),
        variables: Some(list(&spec.variables).iter().map(|variable| variable.name.clone()).collect()),
    };
    let params = params.as_deref().map_or(Known::Dyn, Known::Whole);
    let why = expressions::compile_about(source, &scope, Wanted::Any, (Known::Whole(&schema), params)).err()?;
    let why = why.strip_prefix("compilation failed: ").unwrap_or(&why);
    Some(format!("{}, Kind={}: {why}\n", kind.api_version(), kind.kind))
}

fn param_kind<'r>(of: &ParamKind, registry: &'r Registry) -> Option<&'r Kind> {
    registry.of_kind(text(&of.api_version), text(&of.kind))
}

/// The kinds that the rules name, in order.
fn kinds<'r>(spec: &ValidatingAdmissionPolicySpec, registry: &'r Registry) -> Vec<&'r Kind> {
    let rules = spec.match_constraints.iter().flat_map(|constraints| list(&constraints.resource_rules));
    let mut named = BTreeSet::new();
    for rule in rules {
        let (groups, versions) = (plain(list(&rule.api_groups)), plain(list(&rule.api_versions)));
        for group in &groups {
            for version in &versions {
                let resources = plain(list(&rule.resources));
                named.extend(resources.into_iter().map(|resource| (*group, *version, resource)));
            }
        }
    }
    let known = named.into_iter().filter_map(|(group, version, resource)| registry.find(group, version, resource));
    known.take(KINDS_MAX).collect()
}

/// Those without wildcards and subresources.
fn plain(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).filter(|name| !name.contains(['*', '/'])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(resource: &str, expression: &str) -> Vec<(String, String)> {
        let rule = json!({"apiGroups": ["apps", ""], "apiVersions": ["v1"], "operations": ["*"], "resources": [resource, "*/scale"]});
        let spec = json!({"matchConstraints": {"resourceRules": [rule]}, "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "variables": [{"name": "v", "expression": "1"}], "validations": [{"expression": expression}]});
        misfits(&serde_json::from_value(spec).expect("a policy"), &Registry::with([]))
    }

    #[test]
    fn what_a_kind_does_not_have_is_told_with_its_place() {
        let told = found("deployments", "object.spec.replicaz > 5 && oldObject.spec.nothing");
        let why = "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replicaz'\n \
                   | object.spec.replicaz > 5 && oldObject.spec.nothing\n | ...........^\n\
                   ERROR: <input>:1:43: undefined field 'nothing'\n \
                   | object.spec.replicaz > 5 && oldObject.spec.nothing\n | ..........................................^\n";
        assert_eq!(told, [("spec.validations[0].expression".to_owned(), why.to_owned())]);
        let told = found("deployments", "object.spec.replicas == 'five' || params.dat.x == '1'");
        assert!(
            told[0].1.contains("found no matching overload for '_==_'") && told[0].1.contains("undefined field 'dat'"),
            "{told:?}"
        );
    }

    #[test]
    fn what_a_kind_has_fits() {
        for expression in [
            "object.spec.replicas > 5 && object.metadata.labels['a'] == 'b' && object.metadata.?annotations.a.orValue('') == ''",
            "object.spec.template.spec.containers.all(c, c.resources.limits.all(k, quantity(c.resources.limits[k]).isLessThan(quantity('1'))))",
            "object.apiVersion == 'apps/v1' && object.kind == 'Deployment' && object.metadata.namespace == request.namespace",
            "object == null || has(object.metadata.creationTimestamp) || oldObject != null",
            "object.spec.template.spec.volumes.exists(v, has(v.configMap) && v.configMap.name == params.data.name) && variables.v == 1",
            "object.spec.strategy.rollingUpdate.maxSurge == 1 || object.spec.strategy.rollingUpdate.maxSurge == '25%'",
        ] {
            assert_eq!(found("deployments", expression), []);
        }
        assert_eq!(found("things", "object.nothing"), []);
    }
}
