//! Finished jobs go when their time to live is over.
//!
//! Upstream: pkg/controller/ttlafterfinished.

use k8s_openapi::api::batch::v1::Job;
use stead_api::Key;
use stead_api::request::Propagation;

use crate::facts;
use crate::names::JOB;
use crate::plan::{Action, Controller, Plan, Settles, View, Watch};

pub const CONTROLLER: Controller = Controller {
    name: "ttl-after-finished-controller",
    settles: Settles::Always,
    watches: &[Watch {
        kind: JOB,
        keys: |_, event| if event.deleted { Vec::new() } else { vec![event.key().clone()] },
    }],
    reconcile,
};

fn reconcile(view: &View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    let Some(object) = view.snapshot.get(key).filter(|object| !object.meta.is_deleting()) else { return plan };
    let job = object.view::<Job>();
    let Some(seconds) = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished) else { return plan };
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ended =
        conditions.filter(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True");
    let Some(at) = ended.find_map(|one| one.last_transition_time.as_ref()) else { return plan };
    match facts::after(at.0, i64::from(seconds)) {
        end if end <= view.now => plan.actions.push(Action::Delete {
            key: key.clone(),
            uid: object.meta.uid.clone(),
            propagation: Propagation::Foreground,
            grace_seconds: None,
            on_success: None,
            on_failure: None,
        }),
        end => plan.wake(end),
    }
    plan
}
