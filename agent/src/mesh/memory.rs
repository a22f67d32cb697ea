//! Whether this gateway has memory to spare for strangers.
//!
//! Buffers, streams and handshakes are bounded each by its own limit; this is the limit of all
//! together. What members need is needed in any case, so only strangers are turned away by it.

use std::fs;

/// The part of the machine's memory that the process may hold before strangers are turned away.
const PART: u64 = 2;

/// Whether the process holds more than its part of the machine's memory. Where the system does not tell,
/// as away from Linux, it is never so.
pub(super) fn is_short() -> bool {
    let held = fs::read_to_string("/proc/self/status").ok();
    let all = fs::read_to_string("/proc/meminfo").ok();
    match (held.and_then(|text| kib(&text, "VmRSS:")), all.and_then(|text| kib(&text, "MemTotal:")))
    {
        (Some(held), Some(all)) => held > all / PART,
        _ => false,
    }
}

/// The number in the line that begins like this: KiB, as the system writes them.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_tells_is_read() {
        let status = "Name:\tflotilla-agent\nVmHWM:\t   30000 kB\nVmRSS:\t   24576 kB\n";
        assert_eq!(kib(status, "VmRSS:"), Some(24_576));
        for text in ["", "VmRSS:", "VmRSS:\tmany kB", "VmRSS:\t5 MB", "xVmRSS:\t5 kB"] {
            assert_eq!(kib(text, "VmRSS:"), None, "{text:?}");
        }
        let own = fs::read_to_string("/proc/self/status").unwrap();
        assert!(kib(&own, "VmRSS:").is_some_and(|held| held > 1_000));
        assert!(!is_short(), "a test holds little");
    }
}
