//! The default ClusterRoles and their bindings (ID-06, ID-07).
//!
//! A rule is `groups | resources | verbs`, words separated by spaces; `core` is the core group.

use serde_json::{Value, json};

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";

/// What `view` may read; no secrets, no roles.
const VIEW: &[(&str, &str)] = &[
    (
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods pods/log pods/status \
         replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status bindings events \
         limitranges namespaces namespaces/status resourcequotas resourcequotas/status",
    ),
    ("discovery.k8s.io", "endpointslices"),
    ("events.k8s.io", "events"),
    (
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets \
         replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    ("autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    ("batch", "cronjobs cronjobs/status jobs jobs/status"),
    ("policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    ("networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    ("coordination.k8s.io", "leases"),
    ("resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
];

/// What `edit` may change besides.
const EDIT: &[(&str, &str, &str)] = &[
    ("core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy", READ),
    ("core", "serviceaccounts", "impersonate"),
    ("core", "pods pods/attach pods/exec pods/portforward pods/proxy", WRITE),
    ("core", "pods/eviction", "create"),
    (
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
         serviceaccounts services services/proxy",
        WRITE,
    ),
    ("core", "serviceaccounts/token", "create"),
    (
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets \
         statefulsets/scale",
        WRITE,
    ),
    ("autoscaling", "horizontalpodautoscalers", WRITE),
    ("batch", "cronjobs jobs", WRITE),
    ("policy", "poddisruptionbudgets", WRITE),
    ("networking.k8s.io", "ingresses networkpolicies", WRITE),
    ("coordination.k8s.io", "leases", WRITE),
    ("resource.k8s.io", "resourceclaims resourceclaimtemplates", WRITE),
];

const ADMIN: &[(&str, &str, &str)] = &[
    ("authorization.k8s.io", "localsubjectaccessreviews", "create"),
    ("rbac.authorization.k8s.io", "rolebindings roles", "create delete deletecollection get list patch update watch"),
];

/// What a node may do, where the node authorizer does not say more.
const NODE: &[(&str, &str, &str)] = &[
    ("authentication.k8s.io", "tokenreviews", "create"),
    ("authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews", "create"),
    ("core", "services", READ),
    ("core", "nodes", "create get list watch"),
    ("core", "nodes/status", "patch update"),
    ("core", "nodes", "patch update"),
    ("core", "events", "create patch update"),
    ("events.k8s.io", "events", "create patch update"),
    ("core", "pods", READ),
    ("core", "pods", "create delete"),
    ("core", "pods/status", "patch update"),
    ("core", "pods/eviction", "create"),
    ("core", "configmaps secrets", READ),
    ("core", "persistentvolumeclaims persistentvolumes", "get"),
    ("core", "endpoints", "get"),
    ("certificates.k8s.io", "certificatesigningrequests", "create get list watch"),
    ("coordination.k8s.io", "leases", "create delete get patch update"),
    ("storage.k8s.io", "volumeattachments", "get"),
    ("core", "serviceaccounts/token", "create"),
    ("core", "persistentvolumeclaims/status", "get patch update"),
    ("storage.k8s.io", "csidrivers", READ),
    ("storage.k8s.io", "csinodes", "create delete get patch update"),
    ("node.k8s.io", "runtimeclasses", READ),
    ("resource.k8s.io", "resourceclaims", "get"),
    ("resource.k8s.io", "resourceslices", "create delete deletecollection get list patch update watch"),
    ("core", "serviceaccounts", "get"),
];

/// The rules of a node.
pub(crate) fn node_rules() -> Value {
    rules(NODE.iter().copied())
}

const DISCOVERY: &str = "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/";
const PUBLIC: &str = "/healthz /livez /readyz /version /version/";
const ISSUER: &str =
    "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/";
const MONITORING: &str = "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*";

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().map(|word| if word == "core" { "" } else { word }).collect()
}

pub(crate) fn rule((groups, resources, verbs): (&str, &str, &str)) -> Value {
    json!({"apiGroups": words(groups), "resources": words(resources), "verbs": words(verbs)})
}

fn paths(urls: &str) -> Value {
    json!([{"nonResourceURLs": words(urls), "verbs": ["get"]}])
}

pub(crate) fn rules(list: impl IntoIterator<Item = (&'static str, &'static str, &'static str)>) -> Value {
    list.into_iter().map(rule).collect()
}

/// Name and rules of every default ClusterRole.
pub(crate) fn cluster_roles() -> Vec<(&'static str, Value)> {
    let view = || VIEW.iter().map(|(groups, resources)| (*groups, *resources, READ));
    let edit = || EDIT.iter().copied().chain(view());
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]}]);
    let own_access = "selfsubjectaccessreviews selfsubjectrulesreviews";
    let delegation = [
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("authorization.k8s.io", "subjectaccessreviews", "create"),
    ];
    vec![
        ("cluster-admin", everything),
        // What these gather follows from the labels of others; they begin with what that comes to.
        ("admin", rules(edit().chain(ADMIN.iter().copied()))),
        ("edit", rules(edit())),
        ("view", rules(view())),
        ("system:aggregate-to-admin", rules(ADMIN.iter().copied())),
        ("system:aggregate-to-edit", rules(EDIT.iter().copied())),
        ("system:aggregate-to-view", rules(view())),
        ("system:aggregated-metrics-reader", rules([("metrics.k8s.io", "pods nodes", READ)])),
        ("system:discovery", paths(DISCOVERY)),
        ("system:public-info-viewer", paths(PUBLIC)),
        ("system:service-account-issuer-discovery", paths(ISSUER)),
        ("system:monitoring", paths(MONITORING)),
        (
            "system:basic-user",
            rules([
                ("authorization.k8s.io", own_access, "create"),
                ("authentication.k8s.io", "selfsubjectreviews", "create"),
            ]),
        ),
        ("system:auth-delegator", rules(delegation)),
        ("system:node", node_rules()),
        ("stead:directory-provisioner", rules([("core", "persistentvolumes", "get patch")])),
    ]
}

/// Roles whose rules are those of all roles with their label.
pub(crate) const AGGREGATED: &[&str] = &["admin", "edit", "view"];

/// The label by which a role's rules become another's.
pub(crate) fn aggregation_label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

/// The role that gathers this one's rules.
pub(crate) fn aggregated_into(role: &str) -> Option<&str> {
    match role {
        "edit" => Some("admin"),
        "view" => Some("edit"),
        "system:aggregated-metrics-reader" => Some("view"),
        role => role.strip_prefix("system:aggregate-to-"),
    }
}

/// Role and the groups bound to it; the binding has the role's name.
pub(crate) const BINDINGS: &[(&str, &[&str])] = &[
    ("cluster-admin", &["system:masters"]),
    ("system:discovery", &["system:authenticated"]),
    ("system:basic-user", &["system:authenticated"]),
    ("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
    ("system:service-account-issuer-discovery", &["system:serviceaccounts"]),
    ("system:monitoring", &["system:monitoring"]),
    // To nobody: what a node may do, the node authorizer says.
    ("system:node", &[]),
];
