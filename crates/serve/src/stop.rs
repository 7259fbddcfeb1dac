//! A cluster whose server is gone: stop what it left running, and forget it.
//!
//! Guarantees: containers end as by `down` (hooks, signals, grace, order), for the same agents do it, over the same store; only
//! where that fails (a store that cannot be read, a full disk) are they ended without their pods' say.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::admin::Containers;
use crate::config::Config;
use crate::front_proxy::FrontProxy;
use crate::nodes::{self, Nodes};
use crate::pki::Pki;
use crate::run::{new_runtime, new_server, open_plane, take_lock};
use crate::say::say;

/// Takes everything of the cluster off the machine but its files. False when there was nothing.
pub fn stop(dir: &Path, within: Option<Duration>) -> Result<bool> {
    let _lock = take_lock(dir)?;
    let Some(config) = Config::load(dir)?.filter(nodes::has_remains) else { return Ok(false) };
    if let Err(error) = in_order(dir, &config, Containers::Stop { within }) {
        say(format_args!("{error:#}; what still runs is stopped without its pods' hooks"));
    }
    nodes::sweep(dir)?;
    Ok(true)
}

fn in_order(dir: &Path, config: &Config, containers: Containers) -> Result<()> {
    let pki = Pki::open(&dir.join("pki"))?;
    let front_proxy = FrontProxy::open(&dir.join("pki"))?;
    let (plane, thread) = open_plane(dir, config, &pki, &front_proxy)?;
    let runtime = new_runtime()?;
    let (server, _down) = new_server(&plane, &pki, front_proxy, "", Instant::now(), None);
    crate::errands::start(&server, runtime.handle());
    let stopped = Nodes::start(&server, config, dir, runtime.handle(), Some(containers))
        .and_then(|mut nodes| nodes.stop(containers));
    plane.stop();
    let _ = thread.join();
    stopped
}

/// Removes everything of a cluster that is down: containers, network, files.
pub fn forget(dir: &Path) -> Result<()> {
    let _lock = take_lock(dir)?;
    nodes::sweep(dir)?;
    fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))
}
