//! What the plane hands over because it takes calls or time: webhooks are asked, pods measured, extension API servers swept; what comes
//! of it goes back to the plane.
//!
//! Guarantees: nothing of this happens on the plane's thread, and the server does not live on for it.

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use crate::plane::Waiting;
use crate::{Server, extensions, usage, webhooks};

/// Has the plane's errands done from now on.
pub fn start(server: &Arc<Server>, runtime: &Handle) {
    let (server, runtime) = (Arc::downgrade(server), runtime.clone());
    let plane = server.upgrade().map(|server| server.plane.clone());
    let doer = move |waiting| {
        runtime.spawn(go_on(Weak::clone(&server), waiting));
    };
    if let Some(plane) = plane {
        plane.ask_through(Box::new(doer));
    }
}

async fn go_on(server: Weak<Server>, waiting: Waiting) {
    let Some(server) = server.upgrade() else { return };
    match waiting {
        Waiting::Request(plan, answer) => {
            let request = webhooks::answered(&server, *plan).await;
            server.plane.ask(request, answer);
        }
        Waiting::Usage => {
            let measured = usage::measured(&server).await;
            let plane = server.plane.clone();
            let _ = tokio::task::spawn_blocking(move || plane.measured(measured)).await;
        }
        Waiting::Sweep(effect) => extensions::sweep(&server, *effect).await,
        Waiting::Own(id, question) => {
            let said = webhooks::ask(&server, &question).await;
            let plane = server.plane.clone();
            // Waits for a place among the plane's requests.
            let _ = tokio::task::spawn_blocking(move || plane.answer(id, said)).await;
        }
    }
}
