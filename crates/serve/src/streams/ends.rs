//! The ends of containers, told to those who follow their logs.

use std::collections::BTreeMap;
use std::sync::Mutex;

use stead_node::action::ContainerRef;
use tokio::sync::watch;

/// Tells followers of a log that its container has ended.
#[derive(Default)]
pub struct Ends(Mutex<BTreeMap<ContainerRef, watch::Sender<bool>>>);

impl Ends {
    pub fn follow(&self, container: &ContainerRef) -> watch::Receiver<bool> {
        let mut ends = self.0.lock().unwrap_or_else(|e| e.into_inner());
        ends.retain(|_, sender| sender.receiver_count() > 0);
        ends.entry(container.clone()).or_insert_with(|| watch::channel(false).0).subscribe()
    }

    pub fn ended(&self, container: &ContainerRef) {
        if let Some(sender) = self.0.lock().unwrap_or_else(|e| e.into_inner()).remove(container) {
            sender.send_replace(true);
        }
    }
}
