//! The list of controllers: one line for each.

use crate::plan::Controller;
use crate::{
    apiservice, bootstrap_signer, certificates, clusterrole, cronjob, daemonset, definition, deployment, disruption,
    endpoints, endpointslice, flowcontrol, garbage, hpa, job, namespace, node, policy_types, quota, replicaset,
    scheduler, service_address, statefulset, token_cleaner, token_secret, volume,
};

/// Every controller. Their order is the order within a round.
pub const ALL: &[Controller] = &[
    // Pods need their namespace's account, so this one comes first.
    namespace::CONTROLLER,
    statefulset::CONTROLLER,
    deployment::CONTROLLER,
    replicaset::CONTROLLER,
    replicaset::OF_CONTROLLERS,
    daemonset::CONTROLLER,
    cronjob::CONTROLLER,
    job::CONTROLLER,
    job::ttl::CONTROLLER,
    // The scheduler promises a node to claims before they are looked at.
    scheduler::CONTROLLER,
    volume::ephemeral::CONTROLLER,
    volume::CONTROLLER,
    service_address::CONTROLLER,
    endpointslice::CONTROLLER,
    endpoints::CONTROLLER,
    endpointslice::mirror::CONTROLLER,
    node::CONTROLLER,
    node::eviction::CONTROLLER,
    disruption::CONTROLLER,
    quota::CONTROLLER,
    hpa::CONTROLLER,
    clusterrole::CONTROLLER,
    definition::CONTROLLER,
    token_secret::CONTROLLER,
    token_cleaner::CONTROLLER,
    bootstrap_signer::CLEANER,
    bootstrap_signer::SIGNER,
    certificates::approver::CONTROLLER,
    certificates::signer::CONTROLLER,
    certificates::cleaner::CONTROLLER,
    apiservice::CONTROLLER,
    policy_types::CONTROLLER,
    flowcontrol::CONTROLLER,
    garbage::CONTROLLER,
    garbage::pods::CONTROLLER,
    garbage::expiry::CONTROLLER,
];
