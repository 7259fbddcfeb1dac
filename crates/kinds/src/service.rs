//! Service.

use stead_api::object::Fields;

use crate::names::{self, names};
use crate::{Kind, Subresource};

pub const SERVICE: Kind = Kind {
    short: &["svc"],
    categories: &["all"],
    name_rule: names::dns1123_label,
    create_on_update: true,
    subresources: &[Subresource::Status, Subresource::Named("proxy")],
    fields: Fields {
        selectable: &["spec.clusterIP", "spec.type"],
        indexed: &["spec.clusterIP"],
        labels_indexed: false,
    },
    ..Kind::plain("services", "", "v1", names!("Service", "service", "services"), "io.k8s.api.core.v1.Service")
};
