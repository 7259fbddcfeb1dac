//! The whole system: the real binary, driven by the real kubectl, running real containers. Needs root.
//!
//! Each module is a story on a cluster of its own, so that stories can run side by side; [`cluster::Cluster`] takes everything
//! away at the end, also after a failure. Waiting is always for something, with a deadline; nothing sleeps and hopes.

mod adversity;
mod aggregation;
mod audit;
mod certificates;
mod cluster;
mod conversion;
mod counter;
mod crashes;
mod daemons;
mod encryption;
mod examples;
mod extension;
mod fairness;
mod forms;
mod garbage;
mod health;
mod hook;
mod hostport;
mod images;
mod jobs;
mod kubectl;
mod lifecycle;
mod manifests;
mod noderights;
mod nodes;
mod pods;
mod proxies;
mod reboot;
mod registry;
mod statefulset;
mod stopping;
mod text;
mod tokens;
mod webhooks;
