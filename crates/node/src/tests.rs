//! The agent against a machine of memory and a small API server: text in, text out.

mod admission;
mod crashes;
mod duty;
mod ephemeral;
mod eviction;
mod golden;
mod lifecycle;
mod reboot;
mod resize;
mod shutdown;
mod world;
