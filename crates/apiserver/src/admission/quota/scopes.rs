//! Which objects a quota is about.

use serde_json::Value;
use stead_kinds::Kind;
use stead_kinds::pod::qos;

/// Whether a quota's spec covers an object: all of its scopes must; quotas with scopes cover pods and claims alone.
pub fn matches(spec: &Value, kind: &Kind, value: &Value) -> bool {
    let scopes = spec["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let terms = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    let plain = scopes.map(|scope| (scope, "Exists", &Value::Null));
    let chosen = terms.map(|term| {
        let text = |field: &str| term[field].as_str().unwrap_or_default();
        (text("scopeName"), text("operator"), &term["values"])
    });
    plain.chain(chosen).all(|(scope, operator, values)| covers(scope, operator, values, kind, value))
}

fn covers(scope: &str, operator: &str, values: &Value, kind: &Kind, value: &Value) -> bool {
    let spec = &value["spec"];
    match (kind.storage, scope) {
        ("pods", "Terminating") => spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0),
        ("pods", "NotTerminating") => spec["activeDeadlineSeconds"].is_null(),
        ("pods", "BestEffort") => qos::class(spec) == "BestEffort",
        ("pods", "NotBestEffort") => qos::class(spec) != "BestEffort",
        ("pods", "PriorityClass") => selects(operator, values, spec["priorityClassName"].as_str()),
        ("pods", "CrossNamespacePodAffinity") => crosses_namespaces(&spec["affinity"]),
        ("persistentvolumeclaims", "VolumeAttributesClass") => {
            let names = [
                &spec["volumeAttributesClassName"],
                &value["status"]["currentVolumeAttributesClassName"],
                &value["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
            ];
            let mut set = names.into_iter().filter_map(Value::as_str).filter(|name| !name.is_empty()).peekable();
            match set.peek() {
                None => selects(operator, values, None),
                Some(_) => set.any(|name| selects(operator, values, Some(name))),
            }
        }
        _ => false,
    }
}

fn selects(operator: &str, values: &Value, name: Option<&str>) -> bool {
    let name = name.filter(|name| !name.is_empty());
    let listed = name.is_some_and(|name| values.as_array().into_iter().flatten().any(|value| value == name));
    match operator {
        "In" => listed,
        "NotIn" => !listed,
        "DoesNotExist" => name.is_none(),
        _ => name.is_some(),
    }
}

/// Whether a pod's affinity looks at pods of other namespaces.
fn crosses_namespaces(affinity: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|field| {
        let of = &affinity[*field];
        let list = |name: &str| of[name].as_array().map_or(&[][..], Vec::as_slice);
        let required = list("requiredDuringSchedulingIgnoredDuringExecution").iter();
        let preferred =
            list("preferredDuringSchedulingIgnoredDuringExecution").iter().map(|one| &one["podAffinityTerm"]);
        required.chain(preferred).any(|term| {
            term["namespaces"].as_array().is_some_and(|names| !names.is_empty()) || !term["namespaceSelector"].is_null()
        })
    })
}
