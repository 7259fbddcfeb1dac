//! The levels, and the checks of baseline and restricted, each a function from a pod to what it breaks, in upstream's words and order.
//!
//! Upstream: the Pod Security Standards, as `k8s.io/pod-security-admission/policy` checks them.

use serde_json::Value;
use stead_kinds::pod::placement::SAFE_SYSCTLS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// What a check found: the rule, and the parts of the pod that break it.
type Found = Option<(&'static str, String)>;

/// A pod, looked at container by container.
struct Pod<'a> {
    spec: &'a Value,
    containers: Vec<(&'a str, &'a Value)>,
}

impl<'a> Pod<'a> {
    fn of(spec: &'a Value) -> Pod<'a> {
        let all = ["initContainers", "containers", "ephemeralContainers"].into_iter();
        let all = all.flat_map(|field| spec[field].as_array().into_iter().flatten());
        Pod { spec, containers: all.map(|one| (one["name"].as_str().unwrap_or(""), one)).collect() }
    }

    /// The names of the containers for which something holds.
    fn which(&self, holds: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers.iter().filter(|(_, container)| holds(container)).map(|(name, _)| *name).collect()
    }
}

/// `"a", "b"`.
fn quoted<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|name| format!("{:?}", name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
fn counted<S: AsRef<str>>(what: &str, names: &[S]) -> String {
    let ending = if names.len() == 1 { "" } else { "s" };
    format!("{what}{ending} {}", quoted(names))
}

/// `pod and container "a"`, as far as either is to blame.
fn pod_and(pod: bool, containers: &[&str]) -> String {
    match (pod, containers.is_empty()) {
        (true, true) => "pod".to_owned(),
        (true, false) => format!("pod and {}", counted("container", containers)),
        (false, _) => counted("container", containers),
    }
}

/// Distinct values in order.
fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = values.collect();
    found.sort();
    found.dedup();
    found
}

/// What a pod breaks of a level as of a minor version, each as `rule (details)`.
pub(super) fn violations(level: Level, minor: u32, spec: &Value) -> Vec<String> {
    let pod = Pod::of(spec);
    let mut found: Vec<Found> = Vec::new();
    if level >= Level::Baseline {
        found.push(apparmor(&pod));
        if level == Level::Baseline || minor < RESTRICTED_CAPABILITIES_SINCE {
            found.push(default_capabilities(&pod));
        }
        found.extend([host_namespaces(&pod), host_paths(&pod), host_ports(&pod)]);
        if minor >= PROBE_HOSTS_SINCE {
            found.push(probe_hosts(&pod));
        }
        found.extend([privileged(&pod), proc_mount(&pod), selinux(&pod)]);
        if level == Level::Baseline {
            found.push(seccomp(&pod));
        }
        found.extend([sysctls(&pod), host_process(&pod)]);
    }
    if level == Level::Restricted {
        found.push(escalation(&pod));
        if minor >= RESTRICTED_CAPABILITIES_SINCE {
            found.push(dropped_capabilities(&pod));
        }
        found.extend([volume_types(&pod), non_root(&pod), root_user(&pod), seccomp_set(&pod)]);
    }
    found.into_iter().flatten().map(|(rule, details)| format!("{rule} ({details})")).collect()
}

const RESTRICTED_CAPABILITIES_SINCE: u32 = 22;
const PROBE_HOSTS_SINCE: u32 = 34;

fn context(container: &Value) -> &Value {
    &container["securityContext"]
}

fn apparmor(pod: &Pod) -> Found {
    let unconfined = |owner: &Value| owner["securityContext"]["appArmorProfile"]["type"] == "Unconfined";
    let (of_pod, of_containers) = (unconfined(pod.spec), pod.which(unconfined));
    (of_pod || !of_containers.is_empty()).then(|| {
        let who = pod_and(of_pod, &of_containers);
        ("forbidden AppArmor profile", format!("{who} must not set AppArmor profile type to \"Unconfined\""))
    })
}

const DEFAULT_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn added<'a>(container: &'a Value, allowed: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    let all = context(container)["capabilities"]["add"].as_array().into_iter().flatten().filter_map(Value::as_str);
    all.filter(move |name| !allowed.contains(name)).map(str::to_owned)
}

fn forbidden_additions(pod: &Pod, allowed: &[&str]) -> Option<String> {
    let who = pod.which(|container| added(container, allowed).next().is_some());
    let names = distinct(pod.containers.iter().flat_map(|(_, container)| added(container, allowed)));
    (!who.is_empty()).then(|| {
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            counted("container", &who),
            quoted(&names)
        )
    })
}

fn default_capabilities(pod: &Pod) -> Found {
    forbidden_additions(pod, DEFAULT_CAPABILITIES).map(|details| ("non-default capabilities", details))
}

fn host_namespaces(pod: &Pod) -> Found {
    let used: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| pod.spec[*field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    (!used.is_empty()).then(|| ("host namespaces", used.join(", ")))
}

fn volumes<'a>(pod: &'a Pod) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let all = pod.spec["volumes"].as_array().into_iter().flatten();
    all.map(|volume| (volume["name"].as_str().unwrap_or(""), volume))
}

fn host_paths(pod: &Pod) -> Found {
    let names: Vec<&str> =
        volumes(pod).filter(|(_, volume)| !volume["hostPath"].is_null()).map(|(name, _)| name).collect();
    (!names.is_empty()).then(|| ("hostPath volumes", counted("volume", &names)))
}

fn ports(container: &Value) -> impl Iterator<Item = i64> + '_ {
    let all = container["ports"].as_array().into_iter().flatten();
    all.filter_map(|port| port["hostPort"].as_i64()).filter(|port| *port != 0)
}

fn host_ports(pod: &Pod) -> Found {
    let who = pod.which(|container| ports(container).next().is_some());
    let mut used: Vec<i64> = pod.containers.iter().flat_map(|(_, container)| ports(container)).collect();
    used.sort_unstable();
    used.dedup();
    let shown = used.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let noun = if used.len() == 1 { "hostPort" } else { "hostPorts" };
    let verb = if who.len() == 1 { "uses" } else { "use" };
    (!who.is_empty()).then(|| ("hostPort", format!("{} {verb} {noun} {shown}", counted("container", &who))))
}

fn handler_hosts(container: &Value) -> Vec<String> {
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"].into_iter().map(|field| &container[field]);
    let hooks = ["postStart", "preStop"].into_iter().map(|field| &container["lifecycle"][field]);
    let hosts = probes.chain(hooks).flat_map(|handler| [&handler["httpGet"]["host"], &handler["tcpSocket"]["host"]]);
    let hosts = hosts.filter_map(Value::as_str).filter(|host| !matches!(*host, "" | "127.0.0.1" | "::1" | "localhost"));
    hosts.map(str::to_owned).collect()
}

fn probe_hosts(pod: &Pod) -> Found {
    let who = pod.which(|container| !handler_hosts(container).is_empty());
    let hosts = distinct(pod.containers.iter().flat_map(|(_, container)| handler_hosts(container)));
    let verb = if who.len() == 1 { "uses" } else { "use" };
    let noun = if hosts.len() == 1 { "host" } else { "hosts" };
    (!who.is_empty()).then(|| {
        (
            "probe or lifecycle host",
            format!("{} {verb} probe or lifecycle {noun} {}", counted("container", &who), quoted(&hosts)),
        )
    })
}

fn privileged(pod: &Pod) -> Found {
    let who = pod.which(|container| context(container)["privileged"] == true);
    (!who.is_empty())
        .then(|| ("privileged", format!("{} must not set securityContext.privileged=true", counted("container", &who))))
}

fn proc_mount(pod: &Pod) -> Found {
    let mount = |container: &Value| {
        context(container)["procMount"].as_str().filter(|mount| *mount != "Default").map(str::to_owned)
    };
    let who = pod.which(|container| mount(container).is_some());
    let used = distinct(pod.containers.iter().filter_map(|(_, container)| mount(container)));
    (!who.is_empty()).then(|| {
        (
            "procMount",
            format!("{} must not set securityContext.procMount to {}", counted("container", &who), quoted(&used)),
        )
    })
}

fn selinux(pod: &Pod) -> Found {
    const TYPES: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let options = |owner: &Value| owner["securityContext"]["seLinuxOptions"].clone();
    let text = |options: &Value, field: &str| options[field].as_str().unwrap_or("").to_owned();
    let is_bad = |owner: &Value| {
        let options = options(owner);
        !TYPES.contains(&text(&options, "type").as_str())
            || !text(&options, "user").is_empty()
            || !text(&options, "role").is_empty()
    };
    let (of_pod, who) = (is_bad(pod.spec), pod.which(is_bad));
    if !of_pod && who.is_empty() {
        return None;
    }
    let all: Vec<Value> = std::iter::once(options(pod.spec))
        .chain(pod.containers.iter().map(|(_, container)| options(container)))
        .collect();
    let types = distinct(all.iter().map(|options| text(options, "type")).filter(|one| !TYPES.contains(&one.as_str())));
    let mut parts = Vec::new();
    if !types.is_empty() {
        parts.push(format!("{} {}", if types.len() == 1 { "type" } else { "types" }, quoted(&types)));
    }
    for field in ["user", "role"] {
        if all.iter().any(|options| !text(options, field).is_empty()) {
            parts.push(format!("{field} may not be set"));
        }
    }
    let who = pod_and(of_pod, &who);
    Some(("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {}", parts.join("; "))))
}

fn seccomp_type(owner: &Value) -> &str {
    owner["securityContext"]["seccompProfile"]["type"].as_str().unwrap_or("")
}

fn seccomp(pod: &Pod) -> Found {
    let is_bad = |owner: &Value| !matches!(seccomp_type(owner), "" | "RuntimeDefault" | "Localhost");
    let (of_pod, who) = (is_bad(pod.spec), pod.which(is_bad));
    let owners = std::iter::once(pod.spec).chain(pod.containers.iter().map(|(_, container)| *container));
    let used = distinct(owners.filter(|owner| is_bad(owner)).map(|owner| seccomp_type(owner).to_owned()));
    (of_pod || !who.is_empty()).then(|| {
        let who = pod_and(of_pod, &who);
        ("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&used)))
    })
}

fn sysctls(pod: &Pod) -> Found {
    let all = pod.spec["securityContext"]["sysctls"].as_array().into_iter().flatten();
    let used: Vec<&str> =
        all.filter_map(|one| one["name"].as_str()).filter(|name| !SAFE_SYSCTLS.contains(name)).collect();
    (!used.is_empty()).then(|| ("forbidden sysctls", used.join(", ")))
}

fn host_process(pod: &Pod) -> Found {
    let is_bad = |owner: &Value| owner["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let (of_pod, who) = (is_bad(pod.spec), pod.which(is_bad));
    (of_pod || !who.is_empty()).then(|| {
        let who = pod_and(of_pod, &who);
        ("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
    })
}

fn escalation(pod: &Pod) -> Found {
    let who = pod.which(|container| context(container)["allowPrivilegeEscalation"] != false);
    (!who.is_empty()).then(|| {
        let details = format!("{} must set securityContext.allowPrivilegeEscalation=false", counted("container", &who));
        ("allowPrivilegeEscalation != false", details)
    })
}

fn dropped_capabilities(pod: &Pod) -> Found {
    let drops_all = |container: &Value| {
        let list = context(container)["capabilities"]["drop"].as_array();
        list.into_iter().flatten().any(|name| name == "ALL")
    };
    let who = pod.which(|container| !drops_all(container));
    let mut parts = Vec::new();
    if !who.is_empty() {
        parts.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", counted("container", &who)));
    }
    parts.extend(forbidden_additions(pod, &["NET_BIND_SERVICE"]));
    (!parts.is_empty()).then(|| ("unrestricted capabilities", parts.join("; ")))
}

const PLAIN_VOLUMES: &[&str] = &[
    "name",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn volume_types(pod: &Pod) -> Found {
    let source = |volume: &Value| {
        let fields = volume.as_object().into_iter().flatten();
        fields.map(|(field, _)| field.clone()).find(|field| !PLAIN_VOLUMES.contains(&field.as_str()))
    };
    let bad: Vec<(&str, String)> = volumes(pod).filter_map(|(name, volume)| Some((name, source(volume)?))).collect();
    let names: Vec<&str> = bad.iter().map(|(name, _)| *name).collect();
    let types = distinct(bad.iter().map(|(_, of)| of.clone()));
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let noun = if types.len() == 1 { "type" } else { "types" };
    (!bad.is_empty()).then(|| {
        (
            "restricted volume types",
            format!("{} {verb} restricted volume {noun} {}", counted("volume", &names), quoted(&types)),
        )
    })
}

fn non_root(pod: &Pod) -> Found {
    let of_pod = &pod.spec["securityContext"]["runAsNonRoot"];
    let refusing = pod.which(|container| context(container)["runAsNonRoot"] == false);
    let silent = pod.which(|container| context(container)["runAsNonRoot"].is_null());
    let mut parts = Vec::new();
    if *of_pod == false && !(silent.is_empty() && refusing.is_empty()) || !refusing.is_empty() {
        let who = pod_and(*of_pod == false, &refusing);
        parts.push(format!("{who} must not set securityContext.runAsNonRoot=false"));
    } else if of_pod != &Value::Bool(true) && !silent.is_empty() {
        parts.push(format!("pod or {} must set securityContext.runAsNonRoot=true", counted("container", &silent)));
    }
    (!parts.is_empty()).then(|| ("runAsNonRoot != true", parts.join("; ")))
}

fn root_user(pod: &Pod) -> Found {
    let is_root = |owner: &Value| owner["securityContext"]["runAsUser"] == 0;
    let (of_pod, who) = (is_root(pod.spec), pod.which(is_root));
    (of_pod || !who.is_empty()).then(|| ("runAsUser=0", format!("{} must not set runAsUser=0", pod_and(of_pod, &who))))
}

fn seccomp_set(pod: &Pod) -> Found {
    let is_good = |owner: &Value| matches!(seccomp_type(owner), "RuntimeDefault" | "Localhost");
    let of_pod = seccomp_type(pod.spec);
    let refusing = pod.which(|container| !is_good(container) && !seccomp_type(container).is_empty());
    let silent = pod.which(|container| seccomp_type(container).is_empty());
    if !refusing.is_empty() || (!of_pod.is_empty() && !is_good(pod.spec)) {
        let owners = std::iter::once(pod.spec).chain(pod.containers.iter().map(|(_, container)| *container));
        let bad = owners.filter(|owner| !is_good(owner) && !seccomp_type(owner).is_empty());
        let used = distinct(bad.map(|owner| seccomp_type(owner).to_owned()));
        let who = pod_and(!of_pod.is_empty() && !is_good(pod.spec), &refusing);
        let details = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&used));
        return Some(("seccompProfile", details));
    }
    (of_pod.is_empty() && !silent.is_empty()).then(|| {
        let who = counted("container", &silent);
        let details =
            format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"");
        ("seccompProfile", details)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plain_pod_breaks_the_restricted_level_in_four_ways() {
        let spec = json!({"containers": [{"name": "c"}]});
        assert_eq!(violations(Level::Baseline, u32::MAX, &spec), Vec::<String>::new());
        assert_eq!(
            violations(Level::Restricted, u32::MAX, &spec),
            [
                "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
                "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"])",
                "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)",
                "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            ]
        );
    }

    #[test]
    fn a_careful_pod_breaks_nothing() {
        let spec = json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}], "volumes": [{"name": "v", "emptyDir": {}}]});
        assert_eq!(violations(Level::Restricted, u32::MAX, &spec), Vec::<String>::new());
    }

    #[test]
    fn the_baseline_refuses_the_host() {
        let spec = json!({"hostNetwork": true, "hostPID": true, "volumes": [{"name": "v", "hostPath": {}}],
            "containers": [
                {"name": "a", "securityContext": {"privileged": true, "capabilities": {"add": ["NET_ADMIN"]}},
                 "ports": [{"hostPort": 80}]},
                {"name": "b", "securityContext": {"privileged": true}, "ports": [{"hostPort": 81}],
                 "livenessProbe": {"httpGet": {"host": "example.com"}}}]});
        assert_eq!(
            violations(Level::Baseline, u32::MAX, &spec),
            [
                "non-default capabilities (container \"a\" must not include \"NET_ADMIN\" in securityContext.capabilities.add)",
                "host namespaces (hostNetwork=true, hostPID=true)",
                "hostPath volumes (volume \"v\")",
                "hostPort (containers \"a\", \"b\" use hostPorts 80, 81)",
                "probe or lifecycle host (container \"b\" uses probe or lifecycle host \"example.com\")",
                "privileged (containers \"a\", \"b\" must not set securityContext.privileged=true)",
            ]
        );
    }
}
