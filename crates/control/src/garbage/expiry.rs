//! Events live for one hour after they were last told.

use k8s_openapi::api::core::v1::Event as Told;
use stead_api::Key;

use crate::facts;
use crate::names::EVENT;
use crate::plan::{Controller, Plan, Settles, View, Watch};

const LIVES_SECONDS: i64 = 3600;

pub const CONTROLLER: Controller = Controller {
    name: "event-expiry-controller",
    settles: Settles::Always,
    watches: &[Watch {
        kind: EVENT,
        keys: |_, event| if event.deleted { Vec::new() } else { vec![event.key().clone()] },
    }],
    reconcile,
};

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key) else { return plan };
    let event = object.view::<Told>();
    let told = event.last_timestamp.as_ref().map(|t| t.0).or(event.event_time.as_ref().map(|t| t.0));
    let last = told.max(object.meta.creation_timestamp).unwrap_or(view.now);
    match facts::after(last, LIVES_SECONDS) {
        ends if ends <= view.now => plan.delete(object),
        ends => plan.wake(ends),
    }
    plan
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::fixture::{World, show};

    #[test]
    fn an_event_goes_after_an_hour() {
        let world =
            World::of("event old created=3600 {\"involvedObject\":{}}\n event new created=600 {\"involvedObject\":{}}");
        let plan = |name| show(&world, &reconcile(&world.view(), &Key::new(EVENT, "default", name)));
        expect![[r#"
            delete events/default/old
        "#]]
        .assert_eq(&plan("old"));
        expect![[r#"
            wake in 3000 s
        "#]]
        .assert_eq(&plan("new"));
    }
}
