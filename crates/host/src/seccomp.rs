//! The seccomp profile of `RuntimeDefault`.
//!
//! Guarantees: calls that reach outside the container are refused with EPERM unless the container has the capability that
//! makes them its business. What it does not name is allowed, so a new kernel's calls pass until they are listed here.
//! Upstream: the calls that Docker's documentation lists as blocked by its default profile.

use serde_json::{Value, json};

/// Refused whatever the capabilities.
const ALWAYS: &[&str] = &[
    "add_key",
    "create_module",
    "get_kernel_syms",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "keyctl",
    "kexec_file_load",
    "kexec_load",
    "move_pages",
    "nfsservctl",
    "query_module",
    "request_key",
    "sysfs",
    "_sysctl",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
];

/// Refused without the capability.
const GUARDED: &[(&str, &[&str])] = &[
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "pivot_root",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "swapon",
            "swapoff",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev"]),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    ("CAP_SYS_TIME", &["clock_adjtime", "clock_settime", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
];

/// CLONE_NEW*: namespaces of one's own.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;

pub fn default_profile(capabilities: &[String]) -> Value {
    let has = |name: &str| capabilities.iter().any(|c| c == name);
    let mut refused: Vec<&str> = ALWAYS.to_vec();
    for (capability, calls) in GUARDED.iter().filter(|(capability, _)| !has(capability)) {
        // What another capability allows too.
        let calls = calls
            .iter()
            .filter(|call| !(**call == "bpf" && has("CAP_BPF") || **call == "perf_event_open" && has("CAP_PERFMON")));
        debug_assert!(capability.starts_with("CAP_"));
        refused.extend(calls);
    }
    let mut rules = vec![json!({"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM})];
    if !has("CAP_SYS_ADMIN") {
        // clone3 hides its flags behind a pointer: ENOSYS makes libc fall back to clone, whose flags can be seen.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}));
        for bit in (0..32).map(|n| 1u64 << n).filter(|bit| CLONE_NAMESPACES & bit != 0) {
            let flag = json!({"index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ"});
            rules
                .push(json!({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM, "args": [flag]}));
        }
    }
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_opens_what_it_guards() {
        let refused = |caps: &[&str]| {
            let caps: Vec<String> = caps.iter().map(|c| c.to_string()).collect();
            default_profile(&caps)["syscalls"][0]["names"].to_string()
        };
        assert!(refused(&[]).contains("\"mount\""));
        assert!(!refused(&["CAP_SYS_ADMIN"]).contains("\"mount\""));
        assert!(refused(&["CAP_SYS_ADMIN"]).contains("\"reboot\""));
    }
}
