//! PersistentVolumeClaim.

use crate::names::names;
use crate::{Kind, Subresource};

pub const PERSISTENTVOLUMECLAIM: Kind = Kind {
    short: &["pvc"],
    subresources: &[Subresource::Status],
    ..Kind::plain(
        "persistentvolumeclaims",
        "",
        "v1",
        names!("PersistentVolumeClaim", "persistentvolumeclaim", "persistentvolumeclaims"),
        "io.k8s.api.core.v1.PersistentVolumeClaim",
    )
};
