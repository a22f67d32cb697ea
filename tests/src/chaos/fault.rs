//! The list of faults.

/// What of a site a fault takes hold of. Two of one family are never made at once: they would
/// undo each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Cables and what the switch throws away.
    Network,
    /// The agents' processes.
    Process,
    /// The NATS server's process.
    Server,
    /// Disks.
    Disk,
    /// Processor time.
    Processor,
    /// The wall clock.
    Clock,
    /// Who is a member.
    Members,
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL to one agent, whoever it is.
    Kill,
    /// SIGKILL to the leader.
    KillLeader,
    /// SIGKILL to three of five.
    KillMajority,
    /// SIGKILL to all.
    KillAll,
    /// SIGSTOP to one agent.
    Pause,
    /// SIGSTOP to the leader.
    PauseLeader,
    /// Two groups that don't hear each other.
    Split,
    /// The leader hears nobody and nobody hears it.
    IsolateLeader,
    /// One gateway hears nobody, or nobody hears it.
    OneWay,
    /// Two groups, and one gateway that hears both.
    Bridge,
    /// Each hears its two neighbours.
    Ring,
    /// Two that hear each other, each with leaves of its own.
    TwoLeaves,
    /// Some packets are lost, everywhere.
    Loss,
    /// A cable is pulled.
    Unplug,
    /// The NATS server reaches some gateways only.
    ServerForSome,
    /// SIGKILL to the NATS server.
    ServerKill,
    /// SIGSTOP to the NATS server.
    ServerPause,
    /// A disk runs full.
    DiskFull,
    /// The next sync of an agent fails, most often one of its log.
    SyncError,
    /// An agent starts, and cannot sync its identity or a directory.
    SyncErrorAtStart,
    /// All syncs of an agent take long.
    SlowSync,
    /// An agent gets a twentieth of a processor.
    Starve,
    /// The wall clock jumps by a day or by years.
    ClockJump,
    /// A member is removed, its disk wiped, and it joins anew.
    Churn,
    /// The leader is told to give way.
    Transfer,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::Kill,
        Self::KillLeader,
        Self::KillMajority,
        Self::KillAll,
        Self::Pause,
        Self::PauseLeader,
        Self::Split,
        Self::IsolateLeader,
        Self::OneWay,
        Self::Bridge,
        Self::Ring,
        Self::TwoLeaves,
        Self::Loss,
        Self::Unplug,
        Self::ServerForSome,
        Self::ServerKill,
        Self::ServerPause,
        Self::DiskFull,
        Self::SyncError,
        Self::SyncErrorAtStart,
        Self::SlowSync,
        Self::Starve,
        Self::ClockJump,
        Self::Churn,
        Self::Transfer,
    ];

    /// What it takes hold of.
    pub const fn family(self) -> Family {
        match self {
            Self::Kill
            | Self::KillLeader
            | Self::KillMajority
            | Self::KillAll
            | Self::Pause
            | Self::PauseLeader => Family::Process,
            Self::Split
            | Self::IsolateLeader
            | Self::OneWay
            | Self::Bridge
            | Self::Ring
            | Self::TwoLeaves
            | Self::Loss
            | Self::Unplug
            | Self::ServerForSome => Family::Network,
            Self::ServerKill | Self::ServerPause => Family::Server,
            Self::DiskFull | Self::SyncError | Self::SyncErrorAtStart | Self::SlowSync => {
                Family::Disk
            }
            Self::Starve => Family::Processor,
            Self::ClockJump => Family::Clock,
            Self::Churn | Self::Transfer => Family::Members,
        }
    }

    /// Whether it may be made while another is. Those that stop an agent, and need it for their
    /// proof, may not.
    pub const fn is_sociable(self) -> bool {
        !matches!(
            self,
            Self::SyncError
                | Self::SyncErrorAtStart
                | Self::Churn
                | Self::KillAll
                | Self::KillMajority
        )
    }

    /// Whether both may be made at once.
    pub fn goes_with(self, other: Self) -> bool {
        let both = |one: Family, two: Family| {
            let (first, second) = (self.family(), other.family());
            (first == one && second == two) || (first == two && second == one)
        };
        let is_slow = matches!((self, other), (Self::SlowSync, _) | (_, Self::SlowSync));
        // Who is dead or stands still can't say that its disk is full.
        let speechless = both(Family::Process, Family::Disk);
        // One that is started anew syncs at once, and one that can hardly sync is no good leader.
        let undone =
            is_slow && (both(Family::Disk, Family::Clock) || both(Family::Disk, Family::Members));
        let is_one_family = self.family() == other.family();
        self.is_sociable() && other.is_sociable() && !is_one_family && !speechless && !undone
    }

    /// Its name in the report.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.extend(letter.to_lowercase());
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_list_once_and_has_a_name_of_its_own() {
        let mut names: Vec<String> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert!(names.contains(&"server_for_some".to_owned()), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Fault::ALL.len());
        assert_eq!(Fault::ALL.last(), Some(&Fault::Transfer), "the last of them");
    }

    #[test]
    fn two_go_together_that_leave_each_other_alone() {
        assert!(Fault::SlowSync.goes_with(Fault::Split) && Fault::Split.goes_with(Fault::SlowSync));
        assert!(Fault::DiskFull.goes_with(Fault::Transfer));
        for (one, other) in [
            (Fault::SlowSync, Fault::ClockJump),
            (Fault::SlowSync, Fault::Transfer),
            (Fault::DiskFull, Fault::Kill),
            (Fault::Ring, Fault::Loss),
            (Fault::Churn, Fault::ServerKill),
        ] {
            assert!(!one.goes_with(other) && !other.goes_with(one), "{one:?} with {other:?}");
        }
    }
}
