//! What can go wrong on purpose.

use crate::random::Random;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $nodes:literal;)*) => {
        /// What can go wrong on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Fault] = &[$(Fault::$name),*];

            /// The word for reports.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }

            /// How many nodes a site needs for it to mean anything.
            #[must_use]
            pub fn nodes_min(self) -> usize {
                match self { $(Fault::$name => $nodes,)* }
            }
        }
    };
}

faults! {
    /// Two groups that hear nothing of each other.
    Split = "split", 2;
    /// One node cut off.
    Isolate = "isolate", 2;
    /// The leader cut off.
    IsolateLeader = "isolate_leader", 2;
    /// Frames pass in one direction only.
    OneWay = "one_way", 2;
    /// Two groups with one node in common.
    Bridge = "bridge", 3;
    /// Every node hears its two neighbours only.
    Ring = "ring", 4;
    /// Ways that open and close all the time.
    Flapping = "flapping", 2;
    /// A node without any connection, which it knows.
    Offline = "offline", 2;
    /// A process ends; its files are as it wrote them.
    Kill = "kill", 1;
    /// The leader's process ends.
    KillLeader = "kill_leader", 1;
    /// A process drains, then ends.
    Stop = "stop", 1;
    /// A node loses power, and part of what was not synced.
    PowerCut = "power_cut", 1;
    /// All nodes lose power at once.
    PowerCutAll = "power_cut_all", 1;
    /// Power is lost at a chosen call to the disk.
    DiskStop = "disk_stop", 1;
    /// A chosen call to the disk fails.
    DiskError = "disk_error", 1;
    /// The disk is full at a chosen call.
    DiskFull = "disk_full", 1;
    /// Power is lost again at a chosen call while a node starts.
    StartStop = "start_stop", 1;
    /// A process stands still.
    Pause = "pause", 1;
    /// The leader stands still.
    PauseLeader = "pause_leader", 1;
    /// A wall clock jumps.
    WallJump = "wall_jump", 1;
    /// All nodes are off for a quarter of an hour or longer.
    LongNight = "long_night", 1;
    /// Power is lost as soon as a snapshot has its name.
    CutAtSnapshot = "cut_at_snapshot", 1;
    /// The next leaders are gone as soon as they are elected.
    ShortReigns = "short_reigns", 2;
    /// The owner of a link is gone as soon as it was granted something, or handed it over.
    KillOwner = "kill_owner", 1;
    /// The owner of a link stands still at such a moment, longer than its lease.
    PauseOwner = "pause_owner", 1;
    /// The owner of a link hears nothing of the other nodes; its devices hear it.
    IsolateOwner = "isolate_owner", 2;
    /// Devices are away, mute or deaf for a while.
    Devices = "devices", 1;
    /// Somebody turns a device by hand.
    Hand = "hand", 1;
    /// Leadership is handed over.
    Transfer = "transfer", 3;
    /// A snapshot is taken now.
    Snapshot = "snapshot", 1;
    /// A node joins.
    Join = "join", 1;
    /// A node is removed.
    Remove = "remove", 4;
    /// The leader is removed.
    RemoveLeader = "remove_leader", 4;
    /// A node loses its disk, is removed, and another one joins.
    Wipe = "wipe", 3;
    /// The site aims for another number of voters.
    Voters = "voters", 3;
    /// Two nodes hear one other only, which all hear.
    TwoLeaves = "two_leaves", 4;
    /// The first of two ways is gone, for all.
    ServerDown = "server_down", 2;
    /// A byte of a node's files changes.
    BitFlip = "bit_flip", 3;
    /// A node's disk is replaced by an old copy.
    RollBack = "roll_back", 3;
    /// Syncs take long.
    SlowDisk = "slow_disk", 1;
    /// A disk is nearly full.
    LowSpace = "low_space", 1;
    /// A member sends what no honest one does.
    Liar = "liar", 3;
    /// The owner of a link stands still while it is given its lease, and is cut off afterwards.
    LateLease = "late_lease", 2;
    /// A node's program is replaced by a newer one. Where it is chosen, the site begins with older programs.
    Upgrade = "upgrade", 2;
}

impl Fault {
    /// Whether a single voter can't have it.
    fn needs_voters(self) -> bool {
        matches!(
            self,
            Self::Transfer
                | Self::RemoveLeader
                | Self::Wipe
                | Self::BitFlip
                | Self::RollBack
                | Self::Liar
        )
    }

    /// Whether members leave the site because of it.
    #[must_use]
    pub fn removes_members(self) -> bool {
        matches!(
            self,
            Self::Remove | Self::RemoveLeader | Self::Wipe | Self::BitFlip | Self::RollBack
        )
    }

    /// Whether it is about links and devices.
    fn is_about_devices(self) -> bool {
        matches!(
            self,
            Self::KillOwner
                | Self::PauseOwner
                | Self::IsolateOwner
                | Self::Devices
                | Self::Hand
                | Self::LateLease
        )
    }

    /// A few for a site that has links. One of a single node has nobody to be isolated from.
    pub fn draw_for_devices(random: &mut Random, nodes: usize) -> Vec<Self> {
        let drawn = |fault: &Self| fault.is_about_devices() && *fault != Self::LateLease;
        let about = Self::ALL.iter().copied().filter(drawn);
        about.filter(|fault| fault.nodes_min() <= nodes && random.per_mille(400)).collect()
    }

    /// A few that a site of so many nodes can have.
    pub fn draw(random: &mut Random, nodes: usize, voters: u8, ways: u8) -> Vec<Self> {
        let rate = random.between(60, 350);
        let mut drawn: Vec<Self> = Self::ALL
            .iter()
            .copied()
            .filter(|fault| !fault.is_about_devices() && *fault != Self::Upgrade)
            .filter(|fault| fault.nodes_min() <= nodes && random.per_mille(rate))
            .filter(|fault| voters > 1 || !fault.needs_voters())
            .filter(|fault| ways > 1 || *fault != Self::ServerDown)
            .collect();
        if drawn.is_empty() {
            drawn.push(Self::PowerCut);
        }
        random.shuffle(&mut drawn);
        drawn
    }
}
