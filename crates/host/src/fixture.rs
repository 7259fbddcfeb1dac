//! Small complete values for the tests of this crate.

use stead_node::action::{ContainerRef, ContainerSpec, Resources, Security, TerminationMessage};

use crate::record::SandboxRecord;

pub fn container(pod: &str, name: &str, attempt: u32) -> ContainerSpec {
    ContainerSpec {
        container: ContainerRef { pod: pod.into(), name: name.into(), attempt },
        image_id: String::new(),
        command: vec![],
        args: vec![],
        env: vec![],
        working_dir: None,
        mounts: vec![],
        devices: vec![],
        etc_hosts: None,
        security: Security::default(),
        resources: Resources::default(),
        oom_score_adj: 0,
        process_namespace_of: None,
        tty: false,
        stdin: false,
        stdin_once: false,
        termination_message: TerminationMessage {
            path: "/dev/termination-log".into(),
            fallback_to_logs_on_error: false,
        },
    }
}

pub fn sandbox_record(uid: &str) -> SandboxRecord {
    SandboxRecord {
        uid: uid.into(),
        namespace: "default".into(),
        name: "web-0".into(),
        attempt: 0,
        ip: None,
        netns: None,
        hostname: "web-0".into(),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_pid: false,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        boot_id: String::new(),
        ready: true,
    }
}
