pub const POD_COLLECTOR: &str = "pod-garbage-collector";
