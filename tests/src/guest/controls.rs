//! Proof that a power cut was one.
//!
//! Two programs in every guest count upwards, each number a line at the end of a file. The
//! careless one only writes; the careful one syncs, and says each number on the console when it
//! has. After a cut the careful one's file must hold every number that was said, or the guest's
//! disk lies and nothing that was found on it means anything. And over some cuts the careless
//! one must have lost numbers, or the power was never cut.

use crate::guest::machine::Guest;

/// What cuts have cost the two programs, over all guests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Controls {
    /// Numbers that were written, not synced, and gone after a cut.
    pub careless_lost: u64,
    /// Cuts after which numbers were gone.
    pub cuts_with_loss: u64,
    /// Numbers that were synced and looked for after a cut.
    pub careful_checked: u64,
}

impl Controls {
    /// Compares what a guest said before its last cut with what it found after it. It must have
    /// mounted its disk again.
    ///
    /// # Panics
    /// If a synced number is gone.
    pub fn look(&mut self, guest: &Guest) {
        let before = guest.console_of(guest.boots() - 1);
        let after = guest.console();
        let wrote = last(&before, "control careful wrote ").unwrap_or(0);
        let found = last(&after, "control careful found ");
        let found = found.unwrap_or_else(|| panic!("{} has not found its disk", guest.name));
        assert!(found >= wrote, "{}: {wrote} were synced, {found} found", guest.name);
        self.careful_checked += wrote;
        let wrote = last(&before, "control careless wrote ").unwrap_or(0);
        let found = last(&after, "control careless found ").unwrap_or(0);
        if found < wrote {
            self.careless_lost += wrote - found;
            self.cuts_with_loss += 1;
        }
    }

    /// Checks that cuts lost something, and that there was something to keep.
    ///
    /// # Panics
    /// If not.
    pub fn assert_power_was_cut(&self) {
        assert!(self.careless_lost > 0, "no cut has lost anything: {self:?}");
        assert!(self.careful_checked > 0, "nothing was synced before a cut: {self:?}");
    }
}

/// The number after the last of these words that stands in a whole line.
fn last(console: &str, words: &str) -> Option<u64> {
    let whole = console.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().filter_map(|line| line.trim().strip_prefix(words));
    lines.filter_map(|number| number.trim().parse().ok()).next_back()
}

#[cfg(test)]
mod tests {
    use super::last;

    #[test]
    fn only_whole_lines_count() {
        let console =
            "control careful wrote 7\r\nother\ncontrol careful wrote 8\ncontrol careful wrote 9";
        assert_eq!(last(console, "control careful wrote "), Some(8));
        assert_eq!(last("", "control careful wrote "), None);
    }
}
