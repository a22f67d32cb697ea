//! Machines that lose power: guest kernels, each with a disk of its own.
//!
//! A guest is Debian's user-mode-linux, an ordinary process that boots from this machine's own
//! files in some seconds. Its second disk is an ext4 image. What a program in the guest has
//! synced is in the image; what it has only written is in the guest's page cache, and gone
//! when the guest is killed. So SIGKILL to a guest is a power cut, and programs in it can't
//! tell it from a real one. A disk that keeps writes in a cache of its own and loses them is not
//! simulated here: what has reached the image stays there.
//!
//! - [`wire::Wire`]: a network of this test only, between the guests and this test.
//! - [`machine::Guest`]: one guest, its disk and its console.
//! - [`controls::Controls`]: what two simple programs in every guest show: that a cut loses what
//!   was not synced, and nothing else.
//! - [`row::Row`]: guests that lose power together.
//! - [`site::GuestSite`]: agents on guests, one on each.
//! - [`dice::Dice`]: which guests lose power, and when, from one number.
//! - [`counters`]: writers for any store, and a judge of what it kept.
//! - [`peers`]: etcd and JetStream on guests.
//!
//! It takes root, `ip`, `unshare`, `mkfs.ext4` and the guest kernel that
//! `deploy/counterparts/fetch-from-debian.py` fetches. Where one of them is missing,
//! [`wire::Wire::enter`] says so and the test is not run.

pub mod controls;
pub mod counters;
pub mod dice;
pub mod machine;
pub mod peers;
pub mod row;
pub mod site;
pub mod wire;
