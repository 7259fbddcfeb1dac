//! ResourceQuota status: what a namespace uses.
//!
//! Admission adds what new objects use; this counts anew when something goes, ends or shrinks, or when the quota itself changes.
//! Upstream: pkg/controller/resourcequota.

use stead_api::Key;
use stead_apiserver::admission::quota;
use stead_store::Event;

use crate::names::{CLAIM, POD, QUOTA, SERVICE};
use crate::plan::{ANY, Controller, Plan, Settles, View, Watch};

pub const CONTROLLER: Controller = Controller {
    name: "resourcequota-controller",
    settles: Settles::Always,
    watches: &[Watch { kind: ANY, keys: woken }],
    reconcile,
};

fn woken(view: &View, event: &Event) -> Vec<Key> {
    let key = event.key();
    if key.namespace.is_empty() {
        return Vec::new();
    }
    if key.kind == QUOTA && !event.deleted {
        return vec![key.clone()];
    }
    // Updates of other kinds do not change what they use.
    let may_free = event.deleted || (event.old.is_some() && matches!(key.kind, POD | SERVICE | CLAIM));
    if !may_free {
        return Vec::new();
    }
    view.snapshot.list(QUOTA, &key.namespace).map(|quota| quota.key.clone()).collect()
}

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key) else { return plan };
    let mut value = object.value();
    let used = quota::count(view.snapshot, view.registry, &value["spec"], &key.namespace, view.now);
    let status = quota::status(&value["spec"], &used);
    if value["status"] != status {
        value["status"] = status;
        plan.update_status(QUOTA, value);
    }
    plan
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::fixture::{World, show};

    #[test]
    fn what_ended_uses_nothing_more() {
        let world = World::of(
            r#"quota q {"spec":{"hard":{"pods":"3","requests.cpu":"2","count/pods":"9"}}}
               pod a-0 running {"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"500m"}}}]}}
               pod a-1 phase=Succeeded {"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"500m"}}}]}}"#,
        );
        expect![[r#"
            status ResourceQuota q {"hard":{"pods":"3","requests.cpu":"2","count/pods":"9"},"used":{"pods":"1","requests.cpu":"500m","count/pods":"2"}}
        "#]]
        .assert_eq(&show(&world, &reconcile(&world.view(), &Key::new(QUOTA, "default", "q"))));
    }
}
