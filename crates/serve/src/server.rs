//! The server: what every connection shares.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use stead_api::User;
use stead_host::Host;

use crate::admin::Admin;
use crate::audit::Audit;
use crate::extensions::Extensions;
use crate::fairness::Fairness;
use crate::front_proxy::FrontProxy;
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::plane::PlaneHandle;
use crate::streams::Ends;
use crate::token::Signer;
use crate::usage::Meter;

/// The version whose API is served.
pub const KUBERNETES_VERSION: &str = "v1.36";

/// What every connection shares.
pub struct Server {
    pub plane: PlaneHandle,
    pub signer: Signer,
    pub anonymous: Arc<User>,
    /// Who comes over the data directory's socket.
    pub administrator: Arc<User>,
    pub admin: Admin,
    /// The machines of this process's nodes, by node name.
    pub hosts: OnceLock<BTreeMap<String, Arc<Host>>>,
    pub ends: Ends,
    /// None: nobody asked for an audit log.
    pub audit: Option<Arc<Audit>>,
    /// The connections that the server itself makes.
    pub outbound: Outbound,
    pub front_proxy: FrontProxy,
    pub metrics: Metrics,
    pub fairness: Arc<Fairness>,
    /// What pods and nodes were found to use.
    pub meter: Meter,
    pub extensions: Extensions,
}
