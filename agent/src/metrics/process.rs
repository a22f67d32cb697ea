//! What the operating system says of this process, read from `/proc` at the time of a scrape.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Memory, processor time and open files; all zero where there is no `/proc`.
#[derive(Clone, Default)]
pub(super) struct ProcessGauges {
    resident: Gauge,
    cpu: Gauge<f64, AtomicU64>,
    files: Gauge,
}

impl ProcessGauges {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("process_resident", "Resident memory in bytes", self.resident.clone());
        r.register("process_cpu", "Processor time used, in seconds", self.cpu.clone());
        r.register("process_files", "Open file descriptors", self.files.clone());
    }

    pub(super) fn update(&self) {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
        if let Some(seconds) = cpu_seconds() {
            self.cpu.set(seconds);
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.files.set(i64::try_from(entries.count()).unwrap_or(i64::MAX));
        }
    }
}

fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// User and system time of all threads.
fn cpu_seconds() -> Option<f64> {
    let clock = rustix::param::clock_ticks_per_second();
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in brackets and may hold spaces: count from behind it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    // Fields 14 and 15 of proc(5); the first one here is field 3.
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    #[allow(clippy::cast_precision_loss, reason = "ticks of a process stay far below 2^52")]
    let seconds = (user + system) as f64 / clock as f64;
    Some(seconds)
}
