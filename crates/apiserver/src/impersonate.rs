//! Acting as somebody else: `kubectl --as`, the `Impersonate-*` headers.
//!
//! Who asks must be allowed to `impersonate` the user (or service account), each group, the uid and each extra value; what is
//! then asked is judged by the rights of the other alone.

use std::collections::BTreeMap;

use stead_api::{Status, User};
use stead_store::Snapshot;

use crate::access::authorize;
use crate::attributes::Attributes;

/// Whom the headers name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impersonation {
    pub user: String,
    pub groups: Vec<String>,
    pub uid: String,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    pub fn is_asked_for(&self) -> bool {
        *self != Impersonation::default()
    }
}

/// The user that `asker` may act as.
///
/// # Errors
/// 403 when it may not, 500 (as upstream) for headers that name no user.
pub fn impersonate(snapshot: &Snapshot, asker: &User, wanted: &Impersonation) -> Result<User, Status> {
    if wanted.user.is_empty() {
        return Err(Status::internal("groups, uid or extra cannot be impersonated without a user"));
    }
    let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let attributes =
            Attributes { verb: "impersonate", group, resource, subresource, namespace, name, ..Attributes::default() };
        authorize(snapshot, asker, &attributes)
    };
    let account = wanted.user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, name)) => may("", "serviceaccounts", "", namespace, name)?,
        None => may("", "users", "", "", &wanted.user)?,
    }
    for group in &wanted.groups {
        may("", "groups", "", "", group)?;
    }
    if !wanted.uid.is_empty() {
        may("authentication.k8s.io", "uids", "", "", &wanted.uid)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            may("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    let mut groups = wanted.groups.clone();
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    }
    let implied = match wanted.user.as_str() {
        "system:anonymous" => "system:unauthenticated",
        _ => "system:authenticated",
    };
    if !groups.iter().any(|group| group == implied || group == "system:unauthenticated") {
        groups.push(implied.into());
    }
    Ok(User { name: wanted.user.clone(), uid: wanted.uid.clone(), groups, extra: wanted.extra.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin() -> User {
        User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() }
    }

    #[test]
    fn the_groups_of_the_other_are_its_own() {
        let store = stead_store::Store::default();
        let become_one = |user: &str, groups: &[&str]| {
            let groups = groups.iter().map(|one| (*one).to_owned()).collect();
            let wanted = Impersonation { user: user.into(), groups, ..Impersonation::default() };
            impersonate(store.snapshot(), &admin(), &wanted)
                .map(|user| user.groups.join(" "))
                .map_err(|error| error.code)
        };
        assert_eq!(become_one("joe", &[]).as_deref(), Ok("system:authenticated"));
        assert_eq!(become_one("joe", &["dev"]).as_deref(), Ok("dev system:authenticated"));
        let groups = "system:serviceaccounts system:serviceaccounts:default system:authenticated";
        assert_eq!(become_one("system:serviceaccount:default:me", &[]).as_deref(), Ok(groups));
        assert_eq!(become_one("system:anonymous", &[]).as_deref(), Ok("system:unauthenticated"));
        assert_eq!(become_one("", &["dev"]), Err(500));
    }

    #[test]
    fn without_the_right_nobody_is_impersonated() {
        let store = stead_store::Store::default();
        let asker = User { name: "eve".into(), ..User::default() };
        let wanted = Impersonation { user: "joe".into(), ..Impersonation::default() };
        let error = impersonate(store.snapshot(), &asker, &wanted).expect_err("forbidden");
        let text = "users \"joe\" is forbidden: User \"eve\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope";
        assert_eq!((error.code, error.message.as_str()), (403, text));
    }
    #[test]
    fn each_part_of_the_other_needs_its_own_right() {
        let mut server = crate::fixture::Server::new();
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let group = "rbac.authorization.k8s.io";
        let rules = serde_json::json!([
            {"apiGroups": [""], "resources": ["users"], "resourceNames": ["joe"], "verbs": ["impersonate"]},
            {"apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"], "verbs": ["impersonate"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "resourceNames": ["view"], "verbs": ["impersonate"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["uids"], "resourceNames": ["1"], "verbs": ["impersonate"]}]);
        server.make(&format!("{rbac}/clusterroles"), serde_json::json!({"metadata": {"name": "acts"}, "rules": rules}));
        let binding = serde_json::json!({"metadata": {"name": "acts"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "acts"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "eve"}]});
        server.make(&format!("{rbac}/clusterrolebindings"), binding);
        let eve = User { name: "eve".into(), ..User::default() };
        let act = |change: &dyn Fn(&mut Impersonation)| {
            let mut wanted = Impersonation { user: "joe".into(), ..Impersonation::default() };
            change(&mut wanted);
            impersonate(server.store.snapshot(), &eve, &wanted).map_err(|error| error.message)
        };
        let all = act(&|wanted| {
            wanted.groups.push("dev".into());
            wanted.uid = "1".into();
            wanted.extra.insert("scopes".into(), vec!["view".into()]);
        });
        let user = all.expect("all of it is allowed");
        assert_eq!((user.uid.as_str(), user.extra["scopes"][0].as_str()), ("1", "view"));
        let refused = |change: &dyn Fn(&mut Impersonation)| act(change).expect_err("not allowed");
        let cannot = "User \"eve\" cannot impersonate resource";
        let place = "in API group \"authentication.k8s.io\" at the cluster scope";
        assert_eq!(
            refused(&|wanted| wanted.groups.push("system:masters".into())),
            format!(
                "groups \"system:masters\" is forbidden: {cannot} \"groups\" in API group \"\" at the cluster scope"
            )
        );
        assert_eq!(
            refused(&|wanted| wanted.uid = "2".into()),
            format!("uids.authentication.k8s.io \"2\" is forbidden: {cannot} \"uids\" {place}")
        );
        assert_eq!(
            refused(&|wanted| drop(wanted.extra.insert("scopes".into(), vec!["edit".into()]))),
            format!("userextras.authentication.k8s.io \"edit\" is forbidden: {cannot} \"userextras/scopes\" {place}")
        );
        assert_eq!(
            refused(&|wanted| wanted.user = "system:serviceaccount:default:bot".into()),
            format!(
                "serviceaccounts \"bot\" is forbidden: {cannot} \"serviceaccounts\" in API group \"\" in the namespace \"default\""
            )
        );
    }
}
