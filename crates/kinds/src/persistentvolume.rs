//! PersistentVolume.

use stead_api::object::Fields;

use crate::names::names;
use crate::{Kind, Subresource};

pub const PERSISTENTVOLUME: Kind = Kind {
    short: &["pv"],
    namespaced: false,
    subresources: &[Subresource::Status],
    fields: Fields { selectable: &[], indexed: &[], labels_indexed: false },
    ..Kind::plain(
        "persistentvolumes",
        "",
        "v1",
        names!("PersistentVolume", "persistentvolume", "persistentvolumes"),
        "io.k8s.api.core.v1.PersistentVolume",
    )
};
