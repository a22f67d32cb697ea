//! What clients asked and heard of parameters, told to the judge of histories.

use std::hash::{Hash, Hasher};

use fleet_state::{Answer, Command, NodeId, Outcome, ParamKey, Proposal, RejectCode, Value};

use super::World;
use super::clients::Wish;
use crate::invariants::{Heard, Wanted};
use crate::trace::Fnv;

impl World {
    pub(super) fn history_begins(&mut self, operation: u64, wish: &Wish) {
        let histories = &mut self.invariants.histories;
        match wish {
            Wish::Read(key) => histories.begin(key, operation, Wanted::Read),
            Wish::Write(proposal) => {
                for (key, wanted) in wanted_of(proposal) {
                    histories.begin(&key, operation, wanted);
                }
            }
        }
    }

    /// The log has decided.
    pub(super) fn history_decides(&mut self, operation: u64, wish: &Wish, answer: &Answer) {
        let Wish::Write(proposal) = wish else {
            return;
        };
        let in_batch = matches!(proposal.command, Command::Batch(_));
        let heard = match &answer.outcome {
            Outcome::Accepted(_) => Some(Heard::Done(answer.revision.get())),
            Outcome::Unchanged => Some(Heard::Unchanged),
            // Nobody knows what became of it.
            Outcome::Rejected(why) if why.code == RejectCode::RequestExpired => return,
            // Of a batch nobody knows which key it was about.
            Outcome::Rejected(_) if in_batch => None,
            Outcome::Rejected(why) if why.code == RejectCode::RevisionMismatch => {
                Some(Heard::Mismatch)
            }
            Outcome::Rejected(why) if why.code == RejectCode::NotFound => Some(Heard::NotFound),
            Outcome::Rejected(_) => None,
        };
        for (key, _) in wanted_of(proposal) {
            self.invariants.histories.end(&key, operation, heard);
        }
    }

    /// Every attempt was refused.
    pub(super) fn history_refuses(&mut self, operation: u64, proposal: &Proposal) {
        for (key, _) in wanted_of(proposal) {
            self.invariants.histories.end(&key, operation, None);
        }
    }

    /// A read was answered on a node.
    pub(super) fn history_reads(&mut self, operation: u64, key: &ParamKey, node: NodeId) {
        let replica = self.nodes.get(&node).and_then(|n| n.replica.as_ref());
        let param = replica.and_then(|replica| replica.state().param(key));
        let saw = param.map(|param| (mark_of(&param.value), param.revision.get()));
        self.invariants.histories.end(key, operation, Some(Heard::Saw(saw)));
    }
}

/// What a command wants of each parameter that it names.
fn wanted_of(proposal: &Proposal) -> Vec<(ParamKey, Wanted)> {
    let set = |key: &ParamKey, value: &Value, expected: Option<fleet_state::Revision>| {
        let expected = expected.map(fleet_state::Revision::get);
        (key.clone(), Wanted::Set { value: mark_of(value), expected })
    };
    let mut wanted: Vec<(ParamKey, Wanted)> = Vec::new();
    if let Command::ParamSet { key, value } = &proposal.command {
        wanted.push(set(key, value, proposal.if_revision));
    } else if let Command::ParamDelete { key } = &proposal.command {
        wanted.push((key.clone(), Wanted::Delete));
    } else if let Command::Batch(items) = &proposal.command {
        for item in items {
            // A second item finds its value there already.
            if let Command::ParamSet { key, value } = &item.command
                && !wanted.iter().any(|(known, _)| known == key)
            {
                wanted.push(set(key, value, item.if_revision));
            }
        }
    }
    wanted
}

/// A number that tells values apart.
fn mark_of(value: &Value) -> u64 {
    let mut hash = Fnv::default();
    format!("{value:?}").hash(&mut hash);
    hash.finish()
}
