//! Who asks: the outcome of authentication, as RBAC and audit see it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// An authenticated client. Field meanings as in `authentication.k8s.io/v1` `UserInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The control plane itself: its own controllers write under this name and are not asked for permission.
    pub fn controller(name: &str) -> User {
        User {
            name: format!("system:serviceaccount:kube-system:{name}"),
            groups: vec!["system:masters".into(), "system:serviceaccounts".into(), "system:authenticated".into()],
            ..User::default()
        }
    }

    /// A client without credentials.
    pub fn anonymous() -> User {
        User { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()], ..User::default() }
    }

    /// As a `UserInfo` in JSON.
    pub fn info(&self) -> Value {
        let mut info = json!({});
        if !self.name.is_empty() {
            info["username"] = json!(self.name);
        }
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !self.groups.is_empty() {
            info["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}
