//! Pods: service account and its token, priority, tolerations, what their runtime needs.

use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::{Value, json};
use stead_api::{Quantity, Request, Status};

use crate::Context;
use crate::draft::Draft;

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const CLASSES: &str = "priorityclasses.scheduling.k8s.io";

/// Names the service account and mounts its token (ID-01, ID-04).
pub(super) fn service_account(ctx: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    if !draft.is_creation() {
        return Ok(());
    }
    let spec = &mut draft.new["spec"];
    let old_name = spec["serviceAccount"].as_str().unwrap_or_default().to_owned();
    let name = spec["serviceAccountName"].as_str().filter(|name| !name.is_empty()).unwrap_or(&old_name).to_owned();
    let name = if name.is_empty() { "default".to_owned() } else { name };
    spec["serviceAccountName"] = json!(name);
    spec["serviceAccount"] = json!(name);
    let namespace = draft.key.namespace.to_string();
    let Some(account) = ctx.store.snapshot().find("serviceaccounts", &namespace, &name).cloned() else {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
        return Err(draft.forbidden(&why));
    };
    let account = account.view::<ServiceAccount>();
    let spec = &mut draft.new["spec"];
    let has_pull_secrets = spec["imagePullSecrets"].as_array().is_some_and(|list| !list.is_empty());
    if let Some(secrets) = account.image_pull_secrets.as_ref().filter(|list| !has_pull_secrets && !list.is_empty()) {
        spec["imagePullSecrets"] = json!(secrets);
    }
    let mounts = spec["automountServiceAccountToken"].as_bool().or(account.automount_service_account_token);
    if mounts.unwrap_or(true) {
        mount_token(spec, || ctx.ids.suffix());
    }
    Ok(())
}

/// Mounts a projected token into every container that has nothing at its place.
fn mount_token(spec: &mut Value, suffix: impl FnOnce() -> String) {
    let is_token = |volume: &&Value| {
        volume["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access-"))
            && !volume["projected"].is_null()
    };
    let present = spec["volumes"].as_array().into_iter().flatten().find(is_token).map(|volume| volume["name"].clone());
    let is_new = present.is_none();
    let name = present.unwrap_or_else(|| json!(format!("kube-api-access-{}", suffix())));
    let mut is_used = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let mounts = &mut container["volumeMounts"];
            if !mounts.is_array() {
                *mounts = json!([]);
            }
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts.iter().all(|mount| mount["mountPath"] != TOKEN_PATH) {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH}));
                is_used = true;
            }
        }
    }
    if !is_new || !is_used {
        return;
    }
    let volume = json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    match spec["volumes"].as_array_mut() {
        Some(volumes) => volumes.push(volume),
        None => spec["volumes"] = json!([volume]),
    }
}

/// Turns the priority class into a number.
pub(super) fn priority(ctx: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    use k8s_openapi::api::scheduling::v1::PriorityClass;
    if !draft.is_creation() {
        keep_priority(draft);
        return Ok(());
    }
    let snapshot = ctx.store.snapshot();
    let asked = draft.new["spec"]["priorityClassName"].as_str().unwrap_or_default();
    let class = match asked {
        "" => snapshot
            .list(CLASSES, "")
            .map(|object| object.view::<PriorityClass>())
            .filter(|class| class.global_default == Some(true))
            .min_by_key(|class| class.value),
        name => match snapshot.find(CLASSES, "", name) {
            Some(object) => Some(object.view::<PriorityClass>()),
            None => return Err(draft.forbidden(&format!("no PriorityClass with name {name} was found"))),
        },
    };
    let (value, policy, name) = match &class {
        Some(class) => (class.value.unwrap_or(0), class.preemption_policy.clone(), class.metadata.name.clone()),
        None => (0, None, None),
    };
    let given = draft.new["spec"]["priority"].as_i64();
    if given.is_some_and(|given| given != i64::from(value)) {
        let why = format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name",
            given.unwrap_or_default()
        );
        return Err(draft.forbidden(&why));
    }
    let policy = policy.unwrap_or_else(|| "PreemptLowerPriority".to_owned());
    if let Some(given) = draft.new["spec"]["preemptionPolicy"].as_str().filter(|given| *given != policy) {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(draft.forbidden(&why));
    }
    let spec = &mut draft.new["spec"];
    if let Some(name) = name.filter(|_| spec["priorityClassName"].is_null()) {
        spec["priorityClassName"] = json!(name);
    }
    spec["priority"] = json!(value);
    if spec["preemptionPolicy"].is_null() {
        spec["preemptionPolicy"] = json!(policy);
    }
    Ok(())
}

/// Only one class may be the default.
pub(super) fn one_default_priority(ctx: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    if draft.new["globalDefault"] != true {
        return Ok(());
    }
    let mut others = ctx.store.snapshot().list(CLASSES, "").filter(|class| class.key != draft.key);
    match others.find(|class| class.value()["globalDefault"] == true) {
        Some(other) => Err(draft.forbidden(&format!(
            "PriorityClass {} is already marked as default. Only one default can exist",
            other.key.name
        ))),
        None => Ok(()),
    }
}

/// What the runtime of a pod itself uses, and where it is found.
pub(super) fn runtime_class(ctx: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    if !draft.is_creation() {
        return Ok(());
    }
    let name = draft.new["spec"]["runtimeClassName"].as_str().unwrap_or_default().to_owned();
    let given = draft.new["spec"]["overhead"].clone();
    let has_overhead = given.as_object().is_some_and(|map| !map.is_empty());
    if name.is_empty() {
        return match has_overhead {
            true => {
                Err(draft
                    .forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
            }
            false => Ok(()),
        };
    }
    let Some(class) = ctx.store.snapshot().find("runtimeclasses.node.k8s.io", "", &name).map(|class| class.value())
    else {
        return Err(draft.forbidden(&format!("pod rejected: RuntimeClass \"{name}\" not found")));
    };
    let fixed = &class["overhead"]["podFixed"];
    match fixed.as_object().is_some_and(|map| !map.is_empty()) {
        true if has_overhead && !same_amounts(&given, fixed) => {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(draft.forbidden(why));
        }
        true => draft.new["spec"]["overhead"] = fixed.clone(),
        false if has_overhead => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(draft.forbidden(why));
        }
        false => {}
    }
    for (key, value) in class["scheduling"]["nodeSelector"].as_object().into_iter().flatten() {
        let own = &draft.new["spec"]["nodeSelector"][key];
        if !own.is_null() && own != value {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(own)
            );
            return Err(draft.forbidden(&why));
        }
        draft.new["spec"]["nodeSelector"][key] = value.clone();
    }
    for toleration in class["scheduling"]["tolerations"].as_array().into_iter().flatten() {
        let list = &mut draft.new["spec"]["tolerations"];
        match list.as_array_mut() {
            Some(list) if list.contains(toleration) => {}
            Some(list) => list.push(toleration.clone()),
            None => *list = json!([toleration]),
        }
    }
    Ok(())
}

fn same_amounts(left: &Value, right: &Value) -> bool {
    let amounts = |value: &Value| -> Vec<(String, Option<Quantity>)> {
        let mut all: Vec<_> = value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, amount)| (name.clone(), Quantity::from_value(amount).ok()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    amounts(left) == amounts(right)
}

/// An update that does not say what was computed keeps it.
fn keep_priority(draft: &mut Draft) {
    for field in ["priority", "preemptionPolicy"] {
        let kept = &draft.old_value["spec"][field];
        if draft.new["spec"][field].is_null() && !kept.is_null() {
            draft.new["spec"][field] = kept.clone();
        }
    }
}

/// Pods stay 300 seconds on a node that is not ready or not reachable (F-02).
pub(super) fn tolerations(_: &mut Context, _: &Request, draft: &mut Draft) -> Result<(), Status> {
    const SECONDS: i64 = 300;
    let list = &mut draft.new["spec"]["tolerations"];
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return Ok(()) };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = list.iter().any(|one| {
            let text = |field: &str| one[field].as_str().unwrap_or_default();
            matches!(text("key"), "" | "*")
                && text("operator") == "Exists"
                && matches!(text("effect"), "" | "NoExecute")
                || text("key") == key && matches!(text("effect"), "" | "NoExecute")
        });
        if !tolerated {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}));
        }
    }
    Ok(())
}
