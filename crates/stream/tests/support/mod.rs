//! What the tests with real kubectl share: a plain-HTTP API server of one pod, whose exec runs a local process.

pub mod kubectl;
pub mod process;
pub mod server;
