//! How steps ended. Each end is applied to what the step was about, and to nothing else: whoever
//! wished anew meanwhile has another wish, of which nothing has left yet.

use fleet_state::{Object, RejectCode, Rejection};

use super::TroubleCode;
use super::course::{ASK_MS_FIRST, Course, FirstRead, READ_MS_MAX};
use super::track::{HandOver, RETRY_MS_FIRST, pause_ms};
use crate::seeded;
use crate::{Availability, Handed, WriteError, WriteErrorKind};

impl Course {
    /// A hand-over of these values has ended.
    pub fn write_ended(
        &mut self,
        values: &Object,
        ended: Result<Handed, &WriteError>,
        now_ms: u64,
    ) {
        let began_ms = self.busy_since_ms.take().unwrap_or(now_ms);
        self.asked = 0;
        self.acted_ms = Some(now_ms);
        self.ask_next_ms = now_ms.saturating_add(ASK_MS_FIRST);
        let away = matches!(
            ended,
            Err(WriteError { kind: WriteErrorKind::Offline, may_have_acted: false, .. })
        );
        // One that can't be asked would never be found again; it is tried now and then.
        if away && self.first_read != FirstRead::Impossible {
            self.set_availability(Availability::Offline, now_ms);
        }
        if let Err(WriteError { kind: WriteErrorKind::Offline | WriteErrorKind::Timeout, .. }) =
            ended
        {
            self.kept_silent(now_ms);
        }
        let several = values.iter().nth(1).is_some();
        // One of them may be what the device doesn't take now, and would keep the others from it.
        let apart = several
            && matches!(ended, Err(WriteError { kind, .. })
                if !matches!(kind, WriteErrorKind::Offline | WriteErrorKind::LinkLost));
        let handing = std::mem::take(&mut self.handing);
        for (property, _) in values.iter() {
            let Some(track) = self.tracks.get_mut(property) else { continue };
            let is_its_end = handing.get(property) == Some(&track.wish());
            if !is_its_end && !seeded::on("end-of-another-wish-counts") {
                // Somebody wished anew while it was under way: this is not the end of that.
                track.overtaken(now_ms);
                continue;
            }
            track.came_back_to();
            match ended {
                Ok(how) => track.handed_over(HandOver { how, began_ms, ended_ms: now_ms }),
                // Nothing has left, and each goes by itself at once.
                Err(error) if apart && error.is_final() => track.alone = true,
                Err(error) => {
                    track.alone |= apart;
                    track.failed(error.may_have_acted, now_ms);
                    track.waited |= away && !track.is_verified();
                    if !apart && !error.kind.is_retryable() {
                        track.give_up(TroubleCode::Refused, error.message.clone());
                    }
                }
            }
        }
    }

    /// A one-shot has ended, or is not waited for any more: it may have changed anything.
    pub fn invoke_ended(&mut self, now_ms: u64) {
        self.acted_ms = Some(now_ms);
    }

    /// A claim or an adoption has ended; what became of it stands in the next orders.
    pub fn log_ended(&mut self, now_ms: u64) {
        self.busy_since_ms = None;
        for track in self.tracks.values_mut().filter(|track| !track.is_verified()) {
            // The log may be slower than the answer; without a pause one claim would chase another.
            track.next_ms = track.next_ms.max(now_ms);
        }
    }

    /// The log has rejected an adoption: for good while the wish and the value are these, or for
    /// something that may be otherwise by now.
    pub fn adoption_rejected(&mut self, rejection: &Rejection, now_ms: u64) {
        self.log_ended(now_ms);
        let Some((property, value, seen)) = self.adopting.take() else { return };
        let track = self.tracks.get_mut(&property).filter(|track| track.wish() == (seen, None));
        let Some(track) = track else { return };
        if matches!(
            rejection.code,
            RejectCode::RevisionMismatch
                | RejectCode::StaleEpoch
                | RejectCode::Blocked
                | RejectCode::NotFound
        ) {
            track.failed(false, now_ms);
        } else {
            let message = format!("what it shows can't be adopted: {}", rejection.message);
            track.give_up(TroubleCode::NotAdopted, message);
            track.not_adopted = Some(value);
        }
    }

    /// A claim or an adoption could not be committed; it is tried again later.
    pub fn log_failed(&mut self, now_ms: u64) {
        self.busy_since_ms = None;
        for track in self.tracks.values_mut() {
            track.next_ms = track.next_ms.max(now_ms.saturating_add(RETRY_MS_FIRST));
        }
    }

    /// A question has given way to something that can't wait; it is asked again.
    pub fn read_gave_way(&mut self, now_ms: u64) {
        self.busy_since_ms = None;
        self.ask_next_ms = now_ms.saturating_add(ASK_MS_FIRST);
    }

    /// A call has not ended and is not waited for any more; it may have acted.
    pub fn given_up(&mut self, now_ms: u64) {
        self.busy_since_ms = None;
        self.acted_ms = Some(now_ms);
        if let FirstRead::Due { tries, .. } = self.first_read {
            let tries = tries.saturating_add(1);
            let at_ms = now_ms.saturating_add(pause_ms(tries).min(READ_MS_MAX));
            self.first_read = FirstRead::Due { at_ms, tries };
        }
        let handing = std::mem::take(&mut self.handing);
        for (property, track) in &mut self.tracks {
            match handing.get(property) {
                Some(wish) if *wish != track.wish() => track.overtaken(now_ms),
                Some(_) => {
                    track.came_back_to();
                    track.failed(true, now_ms);
                }
                // Another call, which may have changed anything.
                None if handing.is_empty() && !track.is_verified() => track.failed(true, now_ms),
                None => {}
            }
        }
    }
}
