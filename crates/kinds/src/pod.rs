//! Pod.

use stead_api::object::Fields;

use crate::names::names;
use crate::{Kind, Subresource};

pub const POD: Kind = Kind {
    short: &["po"],
    categories: &["all"],
    has_generation: true,
    subresources: &[
        Subresource::Status,
        Subresource::Named("log"),
        Subresource::Named("exec"),
        Subresource::Named("attach"),
        Subresource::Named("portforward"),
        Subresource::Named("proxy"),
        Subresource::Named("binding"),
        Subresource::Named("eviction"),
        Subresource::Named("ephemeralcontainers"),
        Subresource::Named("resize"),
    ],
    fields: Fields {
        selectable: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        indexed: &["spec.nodeName"],
        labels_indexed: true,
    },
    ..Kind::plain("pods", "", "v1", names!("Pod", "pod", "pods"), "io.k8s.api.core.v1.Pod")
};
