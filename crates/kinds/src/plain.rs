//! Kinds with no behaviour or a few lines of it, one constant each.

use stead_api::object::Fields;

use crate::names::{self, names};
use crate::{Kind, Subresource};

pub const NAMESPACE: Kind = Kind {
    short: &["ns"],
    namespaced: false,
    name_rule: names::dns1123_label,
    subresources: &[Subresource::Status, Subresource::Named("finalize")],
    fields: Fields { selectable: &["status.phase"], indexed: &[], labels_indexed: true },
    ..Kind::plain(
        "namespaces",
        "",
        "v1",
        names!("Namespace", "namespace", "namespaces"),
        "io.k8s.api.core.v1.Namespace",
    )
};

pub const ENDPOINTS: Kind = Kind {
    short: &["ep"],
    create_on_update: true,
    ..Kind::plain("endpoints", "", "v1", names!("Endpoints", "endpoints", "endpoints"), "io.k8s.api.core.v1.Endpoints")
};

pub const CONFIGMAP: Kind = Kind {
    short: &["cm"],
    ..Kind::plain(
        "configmaps",
        "",
        "v1",
        names!("ConfigMap", "configmap", "configmaps"),
        "io.k8s.api.core.v1.ConfigMap",
    )
};

pub const SECRET: Kind = Kind {
    immutable: &["type"],
    fields: Fields { selectable: &["type"], indexed: &[], labels_indexed: false },
    ..Kind::plain("secrets", "", "v1", names!("Secret", "secret", "secrets"), "io.k8s.api.core.v1.Secret")
};

pub const SERVICEACCOUNT: Kind = Kind {
    short: &["sa"],
    subresources: &[Subresource::Named("token")],
    ..Kind::plain(
        "serviceaccounts",
        "",
        "v1",
        names!("ServiceAccount", "serviceaccount", "serviceaccounts"),
        "io.k8s.api.core.v1.ServiceAccount",
    )
};

pub const ENDPOINTSLICE: Kind = Kind {
    has_generation: true,
    immutable: &["addressType"],
    fields: Fields { selectable: &[], indexed: &[], labels_indexed: true },
    ..Kind::plain(
        "endpointslices.discovery.k8s.io",
        "discovery.k8s.io",
        "v1",
        names!("EndpointSlice", "endpointslice", "endpointslices"),
        "io.k8s.api.discovery.v1.EndpointSlice",
    )
};

pub const STORAGECLASS: Kind = Kind {
    short: &["sc"],
    namespaced: false,
    ..Kind::plain(
        "storageclasses.storage.k8s.io",
        "storage.k8s.io",
        "v1",
        names!("StorageClass", "storageclass", "storageclasses"),
        "io.k8s.api.storage.v1.StorageClass",
    )
};

pub const CONTROLLERREVISION: Kind = Kind {
    fields: Fields { selectable: &[], indexed: &[], labels_indexed: true },
    ..Kind::plain(
        "controllerrevisions.apps",
        "apps",
        "v1",
        names!("ControllerRevision", "controllerrevision", "controllerrevisions"),
        "io.k8s.api.apps.v1.ControllerRevision",
    )
};

pub const LEASE: Kind = Kind {
    create_on_update: true,
    unconditional_update: false,
    ..Kind::plain(
        "leases.coordination.k8s.io",
        "coordination.k8s.io",
        "v1",
        names!("Lease", "lease", "leases"),
        "io.k8s.api.coordination.v1.Lease",
    )
};

pub const PODDISRUPTIONBUDGET: Kind = Kind {
    short: &["pdb"],
    has_generation: true,
    unconditional_update: false,
    subresources: &[Subresource::Status],
    ..Kind::plain(
        "poddisruptionbudgets.policy",
        "policy",
        "v1",
        names!("PodDisruptionBudget", "poddisruptionbudget", "poddisruptionbudgets"),
        "io.k8s.api.policy.v1.PodDisruptionBudget",
    )
};

pub const PRIORITYCLASS: Kind = Kind {
    short: &["pc"],
    namespaced: false,
    has_generation: true,
    ..Kind::plain(
        "priorityclasses.scheduling.k8s.io",
        "scheduling.k8s.io",
        "v1",
        names!("PriorityClass", "priorityclass", "priorityclasses"),
        "io.k8s.api.scheduling.v1.PriorityClass",
    )
};

pub const CUSTOMRESOURCEDEFINITION: Kind = Kind {
    short: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    has_generation: true,
    unconditional_update: false,
    subresources: &[Subresource::Status],
    ..Kind::plain(
        "customresourcedefinitions.apiextensions.k8s.io",
        "apiextensions.k8s.io",
        "v1",
        names!("CustomResourceDefinition", "customresourcedefinition", "customresourcedefinitions"),
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    )
};
