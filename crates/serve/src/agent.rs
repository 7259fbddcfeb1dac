//! The node agents: one thread for each node of this process, between the plane and the machine.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Weak};

use anyhow::Result;
use stead_net::Cidr;
use tokio::runtime::Handle;

use crate::Server;
use crate::config::Config;

pub struct Registry {}

impl Registry {
    pub fn new(_server: Weak<Server>) -> Registry {
        Registry {}
    }
}

pub struct Agents {}

impl Agents {
    pub fn start(_server: &Arc<Server>, _config: &Config, _dir: &Path, _runtime: &Handle) -> Result<Agents> {
        Ok(Agents {})
    }

    pub fn stop(&mut self, _keep_containers: bool) {}
}

/// Ranges in use on this machine.
pub fn ranges_in_use() -> Vec<Cidr> {
    stead_host::network::ranges_in_use().unwrap_or_default()
}

/// The machine's own addresses, to be named by the serving certificate.
pub fn host_addresses() -> Vec<IpAddr> {
    Vec::new()
}

/// Ends what a server that is gone left on the machine.
pub fn sweep(_dir: &Path) -> Result<()> {
    Ok(())
}
