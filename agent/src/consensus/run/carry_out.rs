//! Carries out what the replica wants: answers, news, snapshots to be written, counts.

use std::sync::Arc;

use fleet_consensus::replica::AppliedEntry;
use fleet_consensus::{Fault, Outputs, Wire};
use fleet_log::Disk;

use super::Loop;
use crate::consensus::handle::{AppliedBatch, AppliedItem};
use crate::consensus::notices::log_notice;
use crate::consensus::reply::ReplyTo;

impl<D, W> Loop<D, W>
where
    D: Disk + Send,
    D::File: Send,
    W: Wire,
{
    pub(super) fn carry_out(
        &mut self,
        outputs: Outputs<D, ReplyTo>,
        ticked: bool,
    ) -> Result<(), Fault> {
        let applied = self.replica.applied().get();
        let changed = applied != self.seen_applied || !outputs.notices.is_empty();
        self.seen_applied = applied;
        let leads = self.replica.is_leader();
        if *self.leads.borrow() != leads {
            self.leads.send_replace(leads);
        }
        if changed || ticked {
            self.publish(changed);
        }
        for (reply, end) in outputs.commands {
            reply.command_ended(end);
        }
        for (reply, end) in outputs.reads {
            reply.read_ended(end);
        }
        if !outputs.applied.is_empty() {
            self.tell_applied(outputs.applied);
        }
        for observed in outputs.observed {
            // An error says that nobody listens.
            let _nobody = self.observed.send(observed);
        }
        if let Some(build) = outputs.build {
            let out = self.built_out.clone();
            tokio::task::spawn_blocking(move || {
                // The loop takes one result before it asks for the next snapshot.
                let _ended = out.blocking_send(build.run());
            });
        }
        if let Some(key) = outputs.site_key {
            (self.parts.store_site_key)(&self.parts.data_dir, &key).map_err(Fault::SiteKey)?;
        }
        for notice in outputs.notices {
            log_notice(&notice);
        }
        if ticked {
            self.count();
        }
        Ok(())
    }

    /// Who waits for a view is woken by news only, and not at every tick.
    fn publish(&self, changed: bool) {
        let mut view = Arc::new(self.replica.view());
        self.view.send_if_modified(|held| {
            std::mem::swap(held, &mut view);
            changed || !view.standing.agrees_with(&held.standing)
        });
    }

    fn tell_applied(&self, entries: Vec<AppliedEntry>) {
        let size = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.parts.metrics.apply_batch.observe(f64::from(size));
        if self.applied.receiver_count() == 0 {
            return;
        }
        let items = entries
            .into_iter()
            .map(|entry| AppliedItem {
                revision: entry.revision,
                request_id: entry.request_id,
                answer: entry.answer,
                changes: entry.changes,
                wall_time_ms: entry.wall_time_ms,
            })
            .collect();
        let batch = AppliedBatch { items, is_leader: self.replica.is_leader() };
        // An error says that nobody listens any more.
        let _nobody = self.applied.send(Arc::new(batch));
    }

    /// Carries the replica's counts over into the metrics.
    fn count(&mut self) {
        self.tally.carry_over(self.replica.counters(), &self.parts.metrics);
    }
}
