//! What many seeds come to.

use std::collections::BTreeMap;

use fleet_sim::Report;

#[derive(Default)]
pub(crate) struct Total {
    runs: u64,
    steps: u64,
    simulated_ms: u64,
    decided: u64,
    read: u64,
    calm_ticks_max: u64,
    snapshots: (u64, u64),
    disk_faults: u64,
    field: [u64; 4],
    /// What the network did with frames.
    traffic: BTreeMap<&'static str, u64>,
    judged: (u64, u64),
    fired: BTreeMap<&'static str, u64>,
    pub(crate) failed: Vec<u64>,
}

impl Total {
    pub(crate) fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.steps += report.steps;
        self.simulated_ms += report.simulated_ms;
        self.decided += report.clients.decided;
        self.read += report.clients.read;
        self.calm_ticks_max = self.calm_ticks_max.max(report.calm_ticks);
        self.disk_faults += report.counts.0;
        for (sum, count) in self.field.iter_mut().zip(report.field) {
            *sum += count;
        }
        self.snapshots.0 += report.counts.1;
        self.snapshots.1 += report.counts.2;
        for (what, count) in report.traffic.by_name() {
            *self.traffic.entry(what).or_default() += count;
        }
        self.judged.0 += report.judged.0;
        self.judged.1 += report.judged.1;
        for (fault, count) in &report.fired {
            *self.fired.entry(fault.as_str()).or_default() += count;
        }
    }

    pub(crate) fn print(&self, seconds: f64, jobs: usize) {
        let runs = self.runs + self.failed.len() as u64;
        println!("{runs} seeds in {seconds:.1} s, {} failed {:?}", self.failed.len(), self.failed);
        println!(
            "{:.1} seeds/s, {:.0} steps/s, {jobs} at a time",
            runs as f64 / seconds,
            self.steps as f64 / seconds
        );
        println!("simulated over real time: {:.0}", self.simulated_ms as f64 / 1e3 / seconds);
        println!("writes decided {}, reads {}", self.decided, self.read);
        println!("snapshots taken {}, installed {}", self.snapshots.0, self.snapshots.1);
        println!("longest way from calm to convergence: {} ticks", self.calm_ticks_max);
        let [left, writes, one_shots, takeovers] = self.field;
        println!(
            "handed over {left}; {writes} writes and {one_shots} one-shots arrived; links taken {takeovers}"
        );
        let (judged, heard) = self.judged;
        println!("explained by the general judge: {judged} of {heard} ends of operations");
        println!("frames: {:?}", self.traffic);
        println!("faults: {:?}, at the disk {}", self.fired, self.disk_faults);
    }
}
