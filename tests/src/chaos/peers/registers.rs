//! What is asked of a store of registers, and what it may answer.

use fleet_judge::Heard;

/// What came of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The store says this. Beside it the place that this has in the order of all writes, or the
    /// last place that was looked at, where the store says so.
    Heard(Heard, Option<u64>),
    /// It never reached a server, and has no effect.
    Refused,
    /// Nobody knows.
    Nothing,
}

/// Registers with versions.
pub trait Registers: Send + Sync + 'static {
    /// Writes a number; `expected` is the version that the register must have, 0 for none. Ends
    /// within a few seconds, as does [`Registers::get`].
    fn set(
        &self,
        key: &str,
        value: u64,
        expected: Option<u64>,
    ) -> impl Future<Output = Answered> + Send;

    /// Reads a register, with its version.
    fn get(&self, key: &str) -> impl Future<Output = Answered> + Send;
}
