//! Versions that Kubernetes no longer serves, for the manifests of old tutorials: accepted with a warning, stored as current.
//!
//! A body is turned into the current version as it is decoded, with the defaults that its own version had; answers have its own
//! version's shape. Conversions are idempotent, so that what is current already stays as it is.

mod convert;

use crate::{Convert, Kind, Old};

impl Kind {
    /// The warning for requests to an old version.
    pub fn deprecation(&self, current: &Kind) -> Option<String> {
        self.old.map(|old| {
            format!(
                "{} {} is deprecated in v1.{}+, unavailable in v1.{}+; use {} {}",
                self.api_version(),
                self.kind,
                old.deprecated,
                old.removed,
                current.api_version(),
                current.kind
            )
        })
    }
}

const fn old(of: Kind, group: &'static str, version: &'static str, since: (u8, u8), convert: Convert) -> Kind {
    let (deprecated, removed) = since;
    let old = Some(Old { deprecated, removed });
    // Its short names and categories are the current version's alone.
    Kind { group, version, short: &[], categories: &[], old, convert: Some(convert), ..of }
}

/// The same fields under another version.
const SAME: Convert = Convert { from_stored: |_| {}, to_stored: |_| {} };

const EXTENSIONS: &str = "extensions";
const NETWORKING: &str = "networking.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const V1BETA1: &str = "v1beta1";

const fn deployment(group: &'static str, version: &'static str, since: (u8, u8), convert: Convert) -> Kind {
    old(crate::deployment::DEPLOYMENT, group, version, since, convert)
}

const fn ingress(group: &'static str, since: (u8, u8)) -> Kind {
    let convert = Convert { from_stored: convert::ingress_from_stored, to_stored: convert::ingress_to_stored };
    old(crate::ingress::INGRESS, group, V1BETA1, since, convert)
}

const fn to(to_stored: fn(&mut serde_json::Value)) -> Convert {
    Convert { from_stored: |_| {}, to_stored }
}

/// Every old version.
pub const ALL: &[Kind] = &[
    deployment(EXTENSIONS, V1BETA1, (8, 16), to(convert::extensions_deployment)),
    old(crate::replicaset::REPLICASET, EXTENSIONS, V1BETA1, (8, 16), to(convert::selector)),
    old(crate::daemonset::DAEMONSET, EXTENSIONS, V1BETA1, (8, 16), to(convert::extensions_daemonset)),
    old(crate::networkpolicy::NETWORKPOLICY, EXTENSIONS, V1BETA1, (9, 16), SAME),
    ingress(EXTENSIONS, (14, 22)),
    deployment("apps", V1BETA1, (8, 16), to(convert::first_deployment)),
    old(crate::statefulset::STATEFULSET, "apps", V1BETA1, (8, 16), to(convert::first_statefulset)),
    old(crate::plain::CONTROLLERREVISION, "apps", V1BETA1, (8, 16), SAME),
    deployment("apps", "v1beta2", (9, 16), SAME),
    old(crate::statefulset::STATEFULSET, "apps", "v1beta2", (9, 16), SAME),
    old(crate::replicaset::REPLICASET, "apps", "v1beta2", (9, 16), SAME),
    old(crate::daemonset::DAEMONSET, "apps", "v1beta2", (9, 16), SAME),
    old(crate::plain::CONTROLLERREVISION, "apps", "v1beta2", (9, 16), SAME),
    old(crate::poddisruptionbudget::PODDISRUPTIONBUDGET, "policy", V1BETA1, (21, 25), SAME),
    ingress(NETWORKING, (19, 22)),
    old(crate::ingress::INGRESSCLASS, NETWORKING, V1BETA1, (19, 22), SAME),
    old(crate::cronjob::CRONJOB, "batch", V1BETA1, (21, 25), SAME),
    old(crate::rbac::ROLE, RBAC, V1BETA1, (17, 22), SAME),
    old(crate::rbac::CLUSTERROLE, RBAC, V1BETA1, (17, 22), SAME),
    old(crate::rbac::ROLEBINDING, RBAC, V1BETA1, (17, 22), SAME),
    old(crate::rbac::CLUSTERROLEBINDING, RBAC, V1BETA1, (17, 22), SAME),
    old(crate::storageclass::STORAGECLASS, STORAGE, V1BETA1, (19, 22), SAME),
    old(crate::csi::VOLUMEATTACHMENT, STORAGE, V1BETA1, (19, 22), SAME),
    old(crate::csi::CSIDRIVER, STORAGE, V1BETA1, (19, 22), SAME),
    old(crate::csi::CSINODE, STORAGE, V1BETA1, (17, 22), SAME),
    old(crate::csi::CSISTORAGECAPACITY, STORAGE, V1BETA1, (24, 27), SAME),
    old(crate::plain::PRIORITYCLASS, "scheduling.k8s.io", V1BETA1, (14, 22), SAME),
    old(
        crate::horizontalpodautoscaler::HORIZONTALPODAUTOSCALER,
        "autoscaling",
        "v2beta1",
        (22, 25),
        Convert { from_stored: convert::autoscaler_from_stored, to_stored: convert::autoscaler_to_stored },
    ),
    old(crate::horizontalpodautoscaler::HORIZONTALPODAUTOSCALER, "autoscaling", "v2beta2", (23, 26), SAME),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(group: &str, version: &str, kind: &str) -> &'static Kind {
        let all = ALL.iter();
        all.clone().find(|one| (one.group, one.version, one.kind) == (group, version, kind)).expect("an old kind")
    }

    #[test]
    fn the_warning_names_the_current_version() {
        let set = find("apps", "v1beta1", "StatefulSet");
        assert_eq!(
            set.deprecation(&crate::statefulset::STATEFULSET).as_deref(),
            Some("apps/v1beta1 StatefulSet is deprecated in v1.8+, unavailable in v1.16+; use apps/v1 StatefulSet")
        );
    }

    #[test]
    fn every_conversion_leaves_the_current_version_alone() {
        for kind in ALL {
            let convert = kind.convert.expect("an old kind is converted");
            let mut stored = json!({"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
                "updateStrategy": {"type": "RollingUpdate"}, "revisionHistoryLimit": 3, "progressDeadlineSeconds": 9,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "defaultBackend": {"service": {"name": "s", "port": {"number": 80}}},
                "rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": "s", "port": {"name": "http"}}}}]}}],
                "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
            let before = stored.clone();
            (convert.to_stored)(&mut stored);
            assert_eq!(stored, before, "{} {}", kind.api_version(), kind.kind);
            (convert.from_stored)(&mut stored);
            (convert.to_stored)(&mut stored);
            assert_eq!(stored, before, "{} {} there and back", kind.api_version(), kind.kind);
        }
    }

    #[test]
    fn an_old_ingress_and_an_old_autoscaler_are_understood() {
        let convert = find("extensions", "v1beta1", "Ingress").convert.expect("converted");
        let mut value = json!({"spec": {"backend": {"serviceName": "s", "servicePort": "http"},
            "rules": [{"http": {"paths": [{"path": "/a", "backend": {"serviceName": "t", "servicePort": 80}}]}}]}});
        (convert.to_stored)(&mut value);
        assert_eq!(
            value["spec"],
            json!({"rules": [{"http": {"paths": [{"path": "/a", "backend": {"service": {"name": "t", "port": {"number": 80}}},
                "pathType": "ImplementationSpecific"}]}}], "defaultBackend": {"service": {"name": "s", "port": {"name": "http"}}}})
        );
        let convert = find("autoscaling", "v2beta1", "HorizontalPodAutoscaler").convert.expect("converted");
        let mut value = json!({"spec": {"metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 50}},
            {"type": "Pods", "pods": {"metricName": "q", "targetAverageValue": "10"}},
            {"type": "Object", "object": {"target": {"kind": "Service", "name": "s"}, "metricName": "r", "targetValue": "5"}}]}});
        (convert.to_stored)(&mut value);
        assert_eq!(
            value["spec"]["metrics"],
            json!([
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "r"},
                    "target": {"type": "Value", "value": "5"}}}])
        );
    }
}
