//! How much a site may hold in all.
//!
//! Counts alone bound a site at many gigabytes, more than a gateway's memory or a snapshot takes. So the bytes of
//! links, devices and parameters are counted as a snapshot writes them, and what would go beyond the limit is refused.
//! Members, tokens, deletions and answers are not counted: their own bounds keep them small.

use super::effects::Effects;
use crate::codec::Writer;
use crate::limits::{RECORD_BYTES_MAX, SITE_BYTES_MAX};
use crate::outcome::{RejectCode, Rejection};
use crate::state::FleetState;
use crate::table::Stored;

impl FleetState {
    /// The bytes of all links, devices and parameters, as a snapshot writes them before it compresses.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.links
            .size_bytes()
            .saturating_add(self.devices.size_bytes())
            .saturating_add(self.params.size_bytes())
    }

    /// Puts a record that carries the revision of the entry, if there is room for it. A refusal changes nothing.
    pub(super) fn try_put<R: Stored>(
        &mut self,
        record: R,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        let total = self.content_bytes();
        // Only a site that is nearly full pays for looking twice.
        if total.saturating_add(RECORD_BYTES_MAX as u64) > SITE_BYTES_MAX {
            let before = R::table_mut(self).get(record.key()).map_or(0, |before| size(&**before));
            check(total, before, size(&record))?;
        }
        self.put(record, effects);
        Ok(())
    }
}

fn size<R: Stored>(record: &R) -> u64 {
    let mut writer = Writer::with_capacity(256);
    record.write(&mut writer);
    writer.len() as u64
}

/// Whether a record of `after` bytes may take the place of one of `before`. What doesn't grow always may.
fn check(total: u64, before: u64, after: u64) -> Result<(), Rejection> {
    let grown = total.saturating_sub(before).saturating_add(after);
    if after <= before || grown <= SITE_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "links, devices and parameters would take {grown} bytes; the limit of the site is {SITE_BYTES_MAX}; \
         delete some or make them smaller"
    );
    Err(Rejection::new(RejectCode::LimitReached, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_exactly_fits_and_what_shrinks_always_does() {
        assert_eq!(check(SITE_BYTES_MAX - 10, 0, 10), Ok(()));
        assert_eq!(check(SITE_BYTES_MAX, 20, 20), Ok(()));
        assert_eq!(check(SITE_BYTES_MAX + 100, 20, 19), Ok(()));
        let refused = check(SITE_BYTES_MAX, 20, 21).unwrap_err();
        assert_eq!(refused.code, RejectCode::LimitReached);
        assert!(refused.message.contains("536870913 bytes"), "{}", refused.message);
    }
}
