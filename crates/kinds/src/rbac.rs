//! Role, ClusterRole, RoleBinding, ClusterRoleBinding (ID-06).

use crate::names::{self, names};
use crate::{Kind, Names};

const GROUP: &str = "rbac.authorization.k8s.io";

const fn rbac(storage: &'static str, namespaced: bool, names: Names, definition: &'static str) -> Kind {
    Kind {
        namespaced,
        name_rule: names::path_segment,
        create_on_update: true,
        ..Kind::plain(storage, GROUP, "v1", names, definition)
    }
}

pub const ROLE: Kind =
    rbac("roles.rbac.authorization.k8s.io", true, names!("Role", "role", "roles"), "io.k8s.api.rbac.v1.Role");

pub const CLUSTERROLE: Kind = rbac(
    "clusterroles.rbac.authorization.k8s.io",
    false,
    names!("ClusterRole", "clusterrole", "clusterroles"),
    "io.k8s.api.rbac.v1.ClusterRole",
);

pub const ROLEBINDING: Kind = rbac(
    "rolebindings.rbac.authorization.k8s.io",
    true,
    names!("RoleBinding", "rolebinding", "rolebindings"),
    "io.k8s.api.rbac.v1.RoleBinding",
);

pub const CLUSTERROLEBINDING: Kind = rbac(
    "clusterrolebindings.rbac.authorization.k8s.io",
    false,
    names!("ClusterRoleBinding", "clusterrolebinding", "clusterrolebindings"),
    "io.k8s.api.rbac.v1.ClusterRoleBinding",
);
