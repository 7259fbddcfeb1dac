//! Which flow a request is of: the cluster's FlowSchemas, made ready to be asked once per change of them.
//!
//! The schema with the least matchingPrecedence that matches has it, of equals the one first by name; one whose level is not there
//! matches nothing. The mandatory ones are taken to be there always, so that every request has its place. Asking takes no lock
//! and allocates nothing.

use k8s_openapi::api::flowcontrol::v1::{
    FlowSchemaSpec, NonResourcePolicyRule, PolicyRulesWithSubjects, PriorityLevelConfigurationSpec, ResourcePolicyRule,
    Subject as WrittenSubject,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stead_api::{Request, Resource, Target, User, Verb};
use stead_kinds::flowcontrol::defaults::{self, CATCH_ALL, EXEMPT};
use stead_store::Snapshot;

use super::limits::{Limits, Share, divide};
use super::queues::Shape;

/// The kinds by which requests are told apart.
pub const FLOW_SCHEMAS: &str = "flowschemas.flowcontrol.apiserver.k8s.io";
pub const PRIORITY_LEVELS: &str = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io";

/// A level as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    pub name: String,
    pub uid: String,
    pub limits: Limits,
    /// None: what is too much is refused at once.
    pub queuing: Option<Shape>,
}

/// What a schema says about the requests that it matches.
#[derive(Debug)]
pub struct FlowSchema {
    pub name: String,
    pub uid: String,
    /// Its level's place among the levels.
    pub level: usize,
    by: By,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug)]
enum By {
    Nothing,
    User,
    Namespace,
}

#[derive(Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug)]
enum Subject {
    User(String),
    Group(String),
    /// `system:serviceaccount:NAMESPACE:`
    AccountsOf(String),
    Anybody,
}

/// A list of names, or `*`.
#[derive(Debug)]
enum Names {
    All,
    These(Vec<String>),
}

#[derive(Debug)]
struct ResourceRule {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    of_cluster: bool,
}

#[derive(Debug)]
struct PathRule {
    verbs: Names,
    paths: Names,
}

/// All schemas and levels of the cluster.
#[derive(Debug)]
pub struct Classifier {
    pub schemas: Vec<FlowSchema>,
    pub levels: Vec<Level>,
    /// The seats that levels lend.
    pub pool: u32,
    catch_all: usize,
}

impl Classifier {
    /// Of the cluster's objects.
    pub fn of(snapshot: &Snapshot) -> Classifier {
        let (levels, pool) = levels(snapshot);
        let mut written: Vec<(i32, FlowSchema)> = objects::<FlowSchemaSpec>(snapshot, FLOW_SCHEMAS, defaults::schema)
            .into_iter()
            .filter_map(|one| {
                let said = &one.spec.priority_level_configuration.name;
                // Whatever an older server let be written there: the mandatory ones lead to the levels of their names.
                let of = if defaults::is_mandatory(&one.name) { &one.name } else { said };
                let level = levels.iter().position(|level| level.name == *of)?;
                Some((one.spec.matching_precedence.unwrap_or(1000), schema(one, level)))
            })
            .collect();
        written.sort_by(|(a, of_a), (b, of_b)| (a, &of_a.name).cmp(&(b, &of_b.name)));
        let schemas: Vec<FlowSchema> = written.into_iter().map(|(_, schema)| schema).collect();
        let catch_all = schemas.iter().position(|schema| schema.name == CATCH_ALL).unwrap_or_default();
        Classifier { schemas, levels, pool, catch_all }
    }

    /// The place of the schema that has this request.
    pub fn classify(&self, request: &Request) -> usize {
        let found = self.schemas.iter().position(|schema| schema.rules.iter().any(|rule| rule.matches(request)));
        found.unwrap_or(self.catch_all)
    }
}

impl FlowSchema {
    /// A number for the request's flow, the same for all of that flow.
    pub fn flow(&self, request: &Request) -> u64 {
        let distinguisher = match self.by {
            By::Nothing => "",
            By::User => &request.user.name,
            By::Namespace => request.resource().map_or("", |resource| resource.namespace.as_str()),
        };
        mixed(&[self.name.as_bytes(), distinguisher.as_bytes()])
    }
}

/// FNV-1a, and a last mixing so that every bit counts.
fn mixed(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// What is read of an object: the rest of it, which is more, need not be kept decoded for this.
#[derive(Deserialize)]
struct OnlySpec<S> {
    spec: S,
}

/// An object of either kind, as it is stored.
struct Written<S> {
    name: String,
    uid: String,
    spec: S,
}

/// The objects of a kind, the mandatory ones as they ought to be where they are not.
fn objects<S: DeserializeOwned>(
    snapshot: &Snapshot,
    kind: &'static str,
    default: fn(&str) -> Option<serde_json::Value>,
) -> Vec<Written<S>> {
    let stored = snapshot.list(kind, "").filter_map(|object| {
        let OnlySpec { spec } = serde_json::from_slice(&object.json).ok()?;
        Some(Written { name: object.meta.name.clone(), uid: object.meta.uid.clone(), spec })
    });
    let mut all: Vec<Written<S>> = stored.collect();
    for name in [EXEMPT, CATCH_ALL] {
        if !all.iter().any(|one| one.name == name)
            && let Some(spec) = default(name).and_then(|value| serde_json::from_value(value).ok())
        {
            all.push(Written { name: name.to_owned(), uid: String::new(), spec });
        }
    }
    all
}

fn levels(snapshot: &Snapshot) -> (Vec<Level>, u32) {
    let written = objects::<PriorityLevelConfigurationSpec>(snapshot, PRIORITY_LEVELS, defaults::level);
    let shares: Vec<Share> = written.iter().map(|one| share(&one.spec)).collect();
    let (limits, pool) = divide(&shares);
    let levels = written.into_iter().zip(limits).map(|(one, limits)| {
        let response = one.spec.limited.and_then(|limited| limited.limit_response);
        let queuing = response.and_then(|response| response.queuing).map(|queuing| {
            let size = |number: Option<i32>, default| number.and_then(|n| usize::try_from(n).ok()).unwrap_or(default);
            Shape {
                queues: size(queuing.queues, 64),
                hand: size(queuing.hand_size, 8),
                length: size(queuing.queue_length_limit, 50),
            }
        });
        Level { name: one.name, uid: one.uid, limits, queuing }
    });
    (levels.collect(), pool)
}

fn share(spec: &PriorityLevelConfigurationSpec) -> Share {
    let number = |found: Option<i32>, default: u32| found.map_or(default, |n| u32::try_from(n).unwrap_or(0));
    match (&spec.limited, &spec.exempt) {
        (Some(limited), _) => Share {
            is_exempt: false,
            shares: number(limited.nominal_concurrency_shares, 30),
            lendable_percent: number(limited.lendable_percent, 0),
            borrowing_percent: limited.borrowing_limit_percent.map(|percent| number(Some(percent), 0)),
        },
        (None, exempt) => Share {
            is_exempt: true,
            shares: number(exempt.as_ref().and_then(|one| one.nominal_concurrency_shares), 0),
            lendable_percent: number(exempt.as_ref().and_then(|one| one.lendable_percent), 0),
            borrowing_percent: None,
        },
    }
}

fn schema(written: Written<FlowSchemaSpec>, level: usize) -> FlowSchema {
    let by = match written.spec.distinguisher_method.as_ref().map(|method| method.type_.as_str()) {
        Some("ByUser") => By::User,
        Some("ByNamespace") => By::Namespace,
        _ => By::Nothing,
    };
    let rules = written.spec.rules.iter().flatten().map(rule).collect();
    FlowSchema { name: written.name, uid: written.uid, level, by, rules }
}

fn rule(written: &PolicyRulesWithSubjects) -> Rule {
    Rule {
        subjects: written.subjects.iter().filter_map(subject).collect(),
        resources: written.resource_rules.iter().flatten().map(resource_rule).collect(),
        paths: written.non_resource_rules.iter().flatten().map(path_rule).collect(),
    }
}

fn subject(written: &WrittenSubject) -> Option<Subject> {
    if let Some(account) = &written.service_account {
        let of_namespace = format!("system:serviceaccount:{}:", account.namespace);
        return Some(match account.name.as_str() {
            "*" => Subject::AccountsOf(of_namespace),
            name => Subject::User(of_namespace + name),
        });
    }
    let user = written.user.as_ref().map(|user| (user.name.as_str(), Subject::User as fn(String) -> Subject));
    let group = written.group.as_ref().map(|group| (group.name.as_str(), Subject::Group as fn(String) -> Subject));
    match user.or(group)? {
        ("*", _) => Some(Subject::Anybody),
        (name, subject) => Some(subject(name.to_owned())),
    }
}

fn resource_rule(written: &ResourcePolicyRule) -> ResourceRule {
    ResourceRule {
        verbs: Names::of(&written.verbs),
        groups: Names::of(&written.api_groups),
        resources: Names::of(&written.resources),
        namespaces: Names::of(written.namespaces.as_deref().unwrap_or_default()),
        of_cluster: written.cluster_scope == Some(true),
    }
}

fn path_rule(written: &NonResourcePolicyRule) -> PathRule {
    PathRule { verbs: Names::of(&written.verbs), paths: Names::of(&written.non_resource_urls) }
}

impl Names {
    fn of(written: &[String]) -> Names {
        if written.iter().any(|name| name == "*") { Names::All } else { Names::These(written.to_vec()) }
    }

    fn any(&self, is_it: impl Fn(&str) -> bool) -> bool {
        match self {
            Names::All => true,
            Names::These(names) => names.iter().any(|name| is_it(name)),
        }
    }
}

impl Rule {
    fn matches(&self, request: &Request) -> bool {
        if !self.subjects.iter().any(|subject| subject.is(&request.user)) {
            return false;
        }
        match &request.target {
            Target::Resource(resource) => self.resources.iter().any(|rule| rule.matches(request.verb, resource)),
            Target::Path(path) => self.paths.iter().any(|rule| rule.matches(request.verb, path)),
        }
    }
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self {
            Subject::User(name) => user.name == *name,
            Subject::Group(group) => user.is_in(group),
            Subject::AccountsOf(namespace) => user.name.starts_with(namespace.as_str()),
            Subject::Anybody => true,
        }
    }
}

impl ResourceRule {
    fn matches(&self, verb: Verb, asked: &Resource) -> bool {
        let is_of_namespace = match asked.namespace.as_str() {
            "" => self.of_cluster,
            namespace => self.namespaces.any(|name| name == namespace),
        };
        is_of_namespace
            && self.verbs.any(|name| name == verb.name())
            && self.groups.any(|name| name == asked.group)
            && self.resources.any(|name| is_named(name, asked))
    }
}

/// `pods`, `pods/status`.
fn is_named(name: &str, asked: &Resource) -> bool {
    match name.strip_prefix(asked.plural.as_str()) {
        Some("") => asked.subresource.is_empty(),
        Some(rest) => !asked.subresource.is_empty() && rest.strip_prefix('/') == Some(&asked.subresource),
        None => false,
    }
}

impl PathRule {
    fn matches(&self, verb: Verb, asked: &str) -> bool {
        let method = method(verb);
        self.verbs.any(|name| name == method)
            && self.paths.any(|path| match path.strip_suffix('*') {
                Some(start) => asked.starts_with(start),
                None => path == asked,
            })
    }
}

/// What is asked of a path is named by its method.
fn method(verb: Verb) -> &'static str {
    match verb {
        Verb::Create | Verb::Connect => "post",
        Verb::Update => "put",
        other => other.name(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::fixture::Server;

    const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
    const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";

    fn server() -> Server {
        let mut server = Server::empty();
        for name in defaults::levels() {
            server.make(LEVELS, json!({"metadata": {"name": name}, "spec": defaults::level(name)}));
        }
        for name in defaults::schemas() {
            server.make(SCHEMAS, json!({"metadata": {"name": name}, "spec": defaults::schema(name)}));
        }
        server
    }

    /// The schema and the level of a request of somebody with these groups.
    fn found(server: &Server, user: &str, groups: &[&str], line: &str) -> String {
        let classifier = Classifier::of(server.store.snapshot());
        let mut request = server.request(line, "").expect("a request");
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        request.user = Arc::new(User { name: user.into(), groups, ..User::default() });
        let schema = &classifier.schemas[classifier.classify(&request)];
        format!("{} {}", schema.name, classifier.levels[schema.level].name)
    }

    #[test]
    fn requests_find_kubernetes_schemas() {
        let server = server();
        let anybody = ["system:authenticated"];
        let account = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];
        let nodes = ["system:nodes", "system:authenticated"];
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x";
        let of_system = "system:serviceaccount:kube-system:endpoint-controller";
        for (user, groups, line, expected) in [
            ("admin", &["system:masters", "system:authenticated"][..], "GET /api/v1/pods", "exempt exempt"),
            ("ann", &anybody, "GET /healthz", "probes exempt"),
            ("ann", &anybody, "GET /healthz/ping", "global-default global-default"),
            ("ann", &anybody, "GET /api/v1/namespaces/a/pods/b", "global-default global-default"),
            ("ann", &[], "GET /api/v1/pods", "catch-all catch-all"),
            ("system:node:n", &nodes, "GET /api/v1/nodes/n/status", "system-node-high node-high"),
            ("system:node:n", &nodes, "GET /api/v1/pods", "system-nodes system"),
            ("system:kube-scheduler", &anybody, &format!("GET {lease}"), "system-leader-election leader-election"),
            ("system:kube-scheduler", &anybody, "GET /api/v1/pods", "kube-scheduler workload-high"),
            (of_system, &account, "GET /api/v1/namespaces/a/endpoints/b", "endpoint-controller workload-high"),
            (of_system, &account, "GET /api/v1/namespaces/a/configmaps/b", "workload-leader-election leader-election"),
            (of_system, &account, "GET /api/v1/pods", "kube-system-service-accounts workload-high"),
            ("system:serviceaccount:a:b", &account, "GET /api/v1/pods", "service-accounts workload-low"),
        ] {
            assert_eq!(found(&server, user, groups, line), expected, "{user}: {line}");
        }
    }

    fn schema(name: &str, level: &str, precedence: u32, rule: Value) -> Value {
        json!({"metadata": {"name": name}, "spec": {"priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": precedence, "rules": [rule]}})
    }

    #[test]
    fn precedence_then_name_and_only_with_a_level() {
        let mut server = server();
        let pods = json!({"subjects": [{"kind": "User", "user": {"name": "ann"}}], "resourceRules": [{"verbs": ["get"],
            "apiGroups": [""], "resources": ["pods", "pods/status"], "namespaces": ["a"]}]});
        let any = json!({"subjects": [{"kind": "Group", "group": {"name": "*"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/apis/*"]}]});
        server.make(SCHEMAS, schema("c", "system", 600, any));
        server.make(SCHEMAS, schema("b", "system", 600, pods.clone()));
        server.make(SCHEMAS, schema("a", "node-high", 600, pods.clone()));
        server.make(SCHEMAS, schema("z", "nowhere", 10, pods));
        let of = |line: &str| found(&server, "ann", &["system:authenticated"], line);
        assert_eq!(of("GET /api/v1/namespaces/a/pods/x"), "a node-high");
        assert_eq!(of("GET /api/v1/namespaces/a/pods/x/status"), "a node-high");
        for other in ["pods/x/eviction", "podtemplates/x", "configmaps/x", "pods"] {
            assert_eq!(of(&format!("GET /api/v1/namespaces/a/{other}")), "global-default global-default", "{other}");
        }
        assert_eq!(of("GET /api/v1/namespaces/b/pods/x"), "global-default global-default");
        assert_eq!(of("GET /apis/apps"), "c system");
        assert_eq!(of("GET /api"), "global-default global-default");
    }

    #[test]
    fn flows_are_told_apart_as_the_schema_says() {
        let server = server();
        let classifier = Classifier::of(server.store.snapshot());
        let flow = |name: &str, user: &str, namespace: &str| {
            let schema = classifier.schemas.iter().find(|schema| schema.name == name).expect("a default");
            let mut request = server.request(&format!("GET /api/v1/namespaces/{namespace}/pods"), "").expect("one");
            request.user = Arc::new(User { name: user.into(), ..User::default() });
            schema.flow(&request)
        };
        assert_eq!(flow("global-default", "ann", "a"), flow("global-default", "ann", "b"));
        assert_ne!(flow("global-default", "ann", "a"), flow("global-default", "bob", "a"));
        assert_eq!(flow("kube-scheduler", "ann", "a"), flow("kube-scheduler", "bob", "a"));
        assert_ne!(flow("kube-scheduler", "ann", "a"), flow("kube-scheduler", "ann", "b"));
        assert_eq!(flow("exempt", "ann", "a"), flow("exempt", "bob", "b"));
        assert_ne!(flow("service-accounts", "ann", "a"), flow("global-default", "ann", "a"));
    }

    #[test]
    fn mandatory_schemas_have_their_levels_whatever_is_stored() {
        let mut store = stead_store::Store::default();
        for name in ["exempt", "catch-all"] {
            let spec = json!({"priorityLevelConfiguration": {"name": "nowhere"}, "matchingPrecedence": 5});
            let value = json!({"metadata": {"name": name, "resourceVersion": store.next_revision().to_string()},
                "spec": spec});
            let key = stead_api::Key::new(FLOW_SCHEMAS, "", name);
            store.put(stead_api::Object::of_value(key, &value, &Default::default()).expect("an object"));
        }
        let classifier = Classifier::of(store.snapshot());
        let levels: Vec<&str> =
            classifier.schemas.iter().map(|schema| classifier.levels[schema.level].name.as_str()).collect();
        assert_eq!(levels, ["catch-all", "exempt"]);
    }

    #[test]
    fn without_any_object_everybody_has_a_place() {
        let classifier = Classifier::of(&Snapshot::default());
        let names: Vec<&str> = classifier.schemas.iter().map(|schema| schema.name.as_str()).collect();
        assert_eq!(names, ["exempt", "catch-all"]);
        assert_eq!(classifier.levels.len(), 2);
        assert_eq!(classifier.levels[0].limits, Limits::EXEMPT);
    }
}
