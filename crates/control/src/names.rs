//! The storage names of the kinds that controllers know, and the labels and annotations that Kubernetes fixes.

use stead_api::KindName;

pub const POD: KindName = "pods";
pub const NODE: KindName = "nodes";
pub const NAMESPACE: KindName = "namespaces";
pub const SERVICE: KindName = "services";
pub const IP_ADDRESS: KindName = "ipaddresses.networking.k8s.io";
pub const ENDPOINTS: KindName = "endpoints";
pub const CONFIG_MAP: KindName = "configmaps";
pub const SERVICE_ACCOUNT: KindName = "serviceaccounts";
pub const EVENT: KindName = "events";
pub const CLAIM: KindName = "persistentvolumeclaims";
pub const VOLUME: KindName = "persistentvolumes";
pub const ENDPOINT_SLICE: KindName = "endpointslices.discovery.k8s.io";
pub const STATEFUL_SET: KindName = "statefulsets.apps";
pub const CONTROLLER_REVISION: KindName = "controllerrevisions.apps";
pub const DEPLOYMENT: KindName = "deployments.apps";
pub const REPLICA_SET: KindName = "replicasets.apps";
pub const STORAGE_CLASS: KindName = "storageclasses.storage.k8s.io";
pub const QUOTA: KindName = "resourcequotas";
pub const REPLICATION_CONTROLLER: KindName = "replicationcontrollers";
pub const DAEMON_SET: KindName = "daemonsets.apps";
pub const JOB: KindName = "jobs.batch";
pub const CRON_JOB: KindName = "cronjobs.batch";
pub const AUTOSCALER: KindName = "horizontalpodautoscalers.autoscaling";
pub const LEASE: KindName = "leases.coordination.k8s.io";
pub const DISRUPTION_BUDGET: KindName = "poddisruptionbudgets.policy";
pub const CUSTOM_RESOURCE: KindName = "customresourcedefinitions.apiextensions.k8s.io";
pub const CLUSTER_ROLE: KindName = "clusterroles.rbac.authorization.k8s.io";
pub const CERTIFICATE_REQUEST: KindName = "certificatesigningrequests.certificates.k8s.io";
pub const VALIDATING_POLICY: KindName = "validatingadmissionpolicies.admissionregistration.k8s.io";
pub const SECRET: KindName = "secrets";
pub const FLOW_SCHEMA: KindName = "flowschemas.flowcontrol.apiserver.k8s.io";
pub const PRIORITY_LEVEL: KindName = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io";

/// The namespace of node leases.
pub const NODE_LEASES: &str = "kube-node-lease";

/// Written by a node about itself: the directory under which it makes and deletes provisioned volumes.
pub const VOLUMES_DIRECTORY: &str = "stead.local/volumes-directory";
/// The provisioner of directories, and the finalizer of their volumes that the node clears once the directory is gone.
pub const DIRECTORY_PROVISIONER: &str = "stead.local/directory";
