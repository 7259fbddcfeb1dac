//! The container's seccomp filter for commands that join it: libcontainer gives it to the first process only.
//!
//! Guarantees: a command never runs without its container's filter, nor with a capability that the container does not have. Unless
//! new privileges are forbidden, loading a filter takes CAP_SYS_ADMIN: it is there until then, and given up before the command begins.

use std::io;
use std::path::Path;

use libcontainer::capabilities::drop_privileges;
use libcontainer::oci_spec::runtime::{LinuxCapabilities, LinuxSeccomp, Spec};
use libcontainer::seccomp::initialize_seccomp;
use libcontainer::syscall::syscall::create_syscall;
use libcontainer::workload::default::get_executor;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

#[derive(Clone)]
pub struct Filtered {
    filter: LinuxSeccomp,
    /// What the container has; None when it is what the command was given already.
    capabilities: Option<LinuxCapabilities>,
}

impl Filtered {
    /// From the configuration of the container.
    pub fn of(config: &Path) -> io::Result<Filtered> {
        let spec = Spec::load(config).map_err(io::Error::other)?;
        let filter = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
        let filter = filter.ok_or_else(|| io::Error::other("the container has no seccomp filter"))?;
        let process = spec.process().as_ref().filter(|process| process.no_new_privileges() != Some(true));
        Ok(Filtered { filter, capabilities: process.and_then(|process| process.capabilities().clone()) })
    }
}

impl Executor for Filtered {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let other = |what: &str, why: &dyn std::error::Error| ExecutorError::Other(format!("{what}: {why}"));
        initialize_seccomp(&self.filter).map_err(|e| other("load the seccomp filter", &e))?;
        if let Some(own) = &self.capabilities {
            let given_up = drop_privileges(own, create_syscall().as_ref());
            given_up.map_err(|e| other("give up capabilities", &e))?;
        }
        get_executor().exec(spec)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        get_executor().validate(spec)
    }
}
