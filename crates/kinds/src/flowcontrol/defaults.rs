//! The FlowSchemas and PriorityLevelConfigurations that every cluster has, as Kubernetes suggests them.
//!
//! Specs are written as they are stored, with all defaults filled in, so that they can be compared with what is there. Two of each
//! are mandatory: `exempt` and `catch-all`, without which a request could belong nowhere.

use serde_json::{Value, json};

/// `true`: the server keeps the spec as it is here. `false`: the spec is its users'.
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// The level and schema of those who never wait, and of those whom nothing else names.
pub const EXEMPT: &str = "exempt";
pub const CATCH_ALL: &str = "catch-all";

/// Whether objects of this name must be there, and as they are here.
pub fn is_mandatory(name: &str) -> bool {
    matches!(name, EXEMPT | CATCH_ALL)
}

/// Queues, hand size and the longest queue.
type Queuing = (u16, u8, u16);

/// Name, shares, the percentage that others may have, and queues; without queues what is too much is refused.
const LEVELS: &[(&str, u16, u8, Option<Queuing>)] = &[
    (CATCH_ALL, 5, 0, None),
    ("global-default", 20, 50, Some((128, 6, 50))),
    ("leader-election", 10, 0, Some((16, 4, 50))),
    ("node-high", 40, 25, Some((64, 6, 50))),
    ("system", 30, 33, Some((64, 6, 50))),
    ("workload-high", 40, 50, Some((128, 6, 50))),
    ("workload-low", 100, 90, Some((128, 6, 50))),
];

/// The spec of a default level.
pub fn level(name: &str) -> Option<Value> {
    if name == EXEMPT {
        return Some(json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}));
    }
    let (_, shares, lendable, queuing) = LEVELS.iter().find(|level| level.0 == name)?;
    let response = match queuing {
        None => json!({"type": "Reject"}),
        Some((queues, hand, length)) => {
            json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}})
        }
    };
    Some(json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "lendablePercent": lendable,
        "limitResponse": response}}))
}

/// The names of the default levels.
pub fn levels() -> impl Iterator<Item = &'static str> {
    [EXEMPT].into_iter().chain(LEVELS.iter().map(|level| level.0))
}

enum Who {
    User(&'static str),
    Group(&'static str),
    /// Of kube-system.
    Account(&'static str),
}

enum What {
    Everything,
    /// Gets of these paths.
    Paths(&'static [&'static str]),
    /// Verbs, group, resources, and whether those of the cluster are meant, too; in every namespace.
    Resources(&'static [(&'static [&'static str], &'static str, &'static [&'static str], bool)]),
}

struct Schema {
    name: &'static str,
    level: &'static str,
    precedence: u16,
    /// What tells flows apart; nothing when it is empty.
    by: &'static str,
    who: &'static [Who],
    what: What,
}

const ANYBODY: &[Who] = &[Who::Group("system:unauthenticated"), Who::Group("system:authenticated")];
const MANAGER: Who = Who::User("system:kube-controller-manager");
const ELECTION: &[&str] = &["get", "create", "update"];
const LEASES: &str = "coordination.k8s.io";

const fn all(
    name: &'static str,
    level: &'static str,
    precedence: u16,
    by: &'static str,
    who: &'static [Who],
) -> Schema {
    Schema { name, level, precedence, by, who, what: What::Everything }
}

const SCHEMAS: &[Schema] = &[
    all(EXEMPT, EXEMPT, 1, "", &[Who::Group("system:masters")]),
    Schema {
        name: "probes",
        level: EXEMPT,
        precedence: 2,
        by: "",
        who: ANYBODY,
        what: What::Paths(&["/healthz", "/readyz", "/livez"]),
    },
    Schema {
        name: "system-leader-election",
        level: "leader-election",
        precedence: 100,
        by: "ByUser",
        who: &[MANAGER, Who::User("system:kube-scheduler"), Who::Account("*")],
        what: What::Resources(&[(ELECTION, LEASES, &["leases"], false)]),
    },
    Schema {
        name: "endpoint-controller",
        level: "workload-high",
        precedence: 150,
        by: "ByUser",
        who: &[MANAGER, Who::Account("endpoint-controller"), Who::Account("endpointslicemirroring-controller")],
        what: What::Resources(&[(ELECTION, "", &["endpoints"], false)]),
    },
    Schema {
        name: "workload-leader-election",
        level: "leader-election",
        precedence: 200,
        by: "ByUser",
        who: &[Who::Account("*")],
        what: What::Resources(&[
            (ELECTION, "", &["endpoints", "configmaps"], false),
            (ELECTION, LEASES, &["leases"], false),
        ]),
    },
    Schema {
        name: "system-node-high",
        level: "node-high",
        precedence: 400,
        by: "ByUser",
        who: &[Who::Group("system:nodes")],
        what: What::Resources(&[(&["*"], "", &["nodes", "nodes/status"], true), (&["*"], LEASES, &["leases"], false)]),
    },
    all("system-nodes", "system", 500, "ByUser", &[Who::Group("system:nodes")]),
    all("kube-controller-manager", "workload-high", 800, "ByNamespace", &[MANAGER]),
    all("kube-scheduler", "workload-high", 800, "ByNamespace", &[Who::User("system:kube-scheduler")]),
    all("kube-system-service-accounts", "workload-high", 900, "ByNamespace", &[Who::Account("*")]),
    all("service-accounts", "workload-low", 9000, "ByUser", &[Who::Group("system:serviceaccounts")]),
    all("global-default", "global-default", 9900, "ByUser", ANYBODY),
    all(CATCH_ALL, CATCH_ALL, 10_000, "ByUser", ANYBODY),
];

/// The names of the default schemas.
pub fn schemas() -> impl Iterator<Item = &'static str> {
    SCHEMAS.iter().map(|schema| schema.name)
}

/// The spec of a default schema.
pub fn schema(name: &str) -> Option<Value> {
    let schema = SCHEMAS.iter().find(|schema| schema.name == name)?;
    let subjects: Vec<Value> = schema.who.iter().map(subject).collect();
    let mut rule = json!({"subjects": subjects});
    let path_rule = |verbs: &[&str], paths: &[&str]| json!([{"verbs": verbs, "nonResourceURLs": paths}]);
    match schema.what {
        What::Everything => {
            rule["resourceRules"] = json!([resource_rule(&["*"], "*", &["*"], true)]);
            rule["nonResourceRules"] = path_rule(&["*"], &["*"]);
        }
        What::Paths(paths) => rule["nonResourceRules"] = path_rule(&["get"], paths),
        What::Resources(rules) => {
            let rules = rules
                .iter()
                .map(|(verbs, group, resources, is_of_cluster)| resource_rule(verbs, group, resources, *is_of_cluster));
            rule["resourceRules"] = rules.collect();
        }
    }
    let mut spec = json!({"priorityLevelConfiguration": {"name": schema.level},
        "matchingPrecedence": schema.precedence});
    if !schema.by.is_empty() {
        spec["distinguisherMethod"] = json!({"type": schema.by});
    }
    spec["rules"] = json!([rule]);
    Some(spec)
}

fn subject(who: &Who) -> Value {
    match who {
        Who::User(name) => json!({"kind": "User", "user": {"name": name}}),
        Who::Group(name) => json!({"kind": "Group", "group": {"name": name}}),
        Who::Account(name) => {
            json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}})
        }
    }
}

fn resource_rule(verbs: &[&str], group: &str, resources: &[&str], is_of_cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources});
    if is_of_cluster {
        rule["clusterScope"] = json!(true);
    }
    rule["namespaces"] = json!(["*"]);
    rule
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
    use stead_api::Errors;

    use super::*;
    use crate::Behavior;

    /// Whether defaulting changes nothing and validation finds nothing.
    fn is_as_stored<T: Behavior>(name: &str, spec: &Value) {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        let mut defaulted = object.clone();
        T::default(&mut defaulted);
        assert_eq!(defaulted, object);
        let mut errors = Errors::default();
        T::deserialize(&object).expect("of its type").validate(None, &mut errors);
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }

    #[test]
    fn specs_are_written_as_they_are_stored() {
        levels().for_each(|name| is_as_stored::<PriorityLevelConfiguration>(name, &level(name).expect("a default")));
        schemas().for_each(|name| is_as_stored::<FlowSchema>(name, &schema(name).expect("a default")));
        assert_eq!((levels().count(), schemas().count()), (8, 13));
    }

    #[test]
    fn every_schema_names_a_level_of_ours() {
        for name in schemas() {
            let spec = schema(name).expect("a default");
            let of = spec["priorityLevelConfiguration"]["name"].as_str().expect("a name");
            assert!(level(of).is_some(), "{name}: {of}");
        }
    }
}
