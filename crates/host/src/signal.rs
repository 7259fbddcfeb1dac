//! Signals by name: `stopSignal` of images and actions, in the spellings that people use.

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`
pub(crate) fn parse_signal(name: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let upper = name.to_uppercase();
    let short = upper.trim_start_matches("SIG");
    if let Ok(number) = short.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    if let Some(offset) = short.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    if let Some(offset) = short.strip_prefix("RTMAX") {
        let offset: i32 = if offset.is_empty() { 0 } else { offset.strip_prefix('-')?.parse().ok()? };
        return (0..=30).contains(&offset).then_some(64 - offset);
    }
    NAMES.iter().position(|n| *n == short).map(|at| at as i32 + 1)
}

/// Whether a process, by its `/proc/<pid>/status`, catches, blocks (to take it otherwise) or has chosen to ignore a signal.
pub fn is_expected(status: &str, signal: i32) -> bool {
    let has = |field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        (1..=64).contains(&signal) && mask >> (signal - 1) & 1 == 1
    };
    ["SigCgt:", "SigBlk:", "SigIgn:"].into_iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_spellings() {
        let all = ["SIGTERM", "term", "15", "SIGRTMIN+3", "RTMAX-1", "SIGQUIT", "SIGFOO", "0", "65", "SIGRTMIN+40"];
        let numbers: Vec<Option<i32>> = all.iter().map(|name| parse_signal(name)).collect();
        let expected = [Some(15), Some(15), Some(15), Some(37), Some(63), Some(3), None, None, None, None];
        assert_eq!(numbers, expected);
    }

    #[test]
    fn a_process_says_which_signals_it_expects() {
        let status = "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000004002\n";
        let expected: Vec<i32> = (0..70).filter(|signal| is_expected(status, *signal)).collect();
        assert_eq!(expected, [1, 2, 13, 15]);
        assert!(!is_expected("", 15));
    }
}
