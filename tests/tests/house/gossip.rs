//! Gossip is advisory: the mesh has nothing in its hands with which it could change what is
//! replicated, and what it tells of other nodes goes to people.

use super::{assert_none, has_word, sources};

const MESH: &str = "agent/src/mesh/";

/// What of the agent the mesh may name. Of the consensus loop that is its clock.
const NAMED_BY_THE_MESH: &[&str] =
    &["config::", "consensus::MonotonicClock", "mesh", "metrics::", "storage::", "transport::"];

/// What submits to the log, steps a replica, or is decided there.
const DECIDING: &[&str] =
    &["Handle", "Replica", "Proposal", "AgentCommand", "submit", "submit_own", "propose", "step"];

/// The only file of the mesh that hands frames to the replica.
const FRAMES_IN: &str = "agent/src/mesh/frames/accept.rs";

/// What presence is made of, and the only file outside that may name it: it shows it.
const PRESENCE: &[&str] = &["Beat", "Life", "NodePresence"];
const SHOWN_BY: &str = "agent/src/control/mesh.rs";

#[test]
fn the_mesh_submits_nothing() {
    let mut broken = Vec::new();
    let mut looked_at = 0;
    for source in sources().iter().filter(|source| source.path.starts_with(MESH)) {
        for (number, line) in source.product_lines() {
            looked_at += 1;
            let foreign = line.match_indices("crate::").any(|(at, found)| {
                let named = &line[at + found.len()..];
                !NAMED_BY_THE_MESH.iter().any(|allowed| named.starts_with(allowed))
            });
            let decides = DECIDING.iter().any(|word| has_word(line, word));
            let hands_in = line.contains("inbox.put(") && source.path != FRAMES_IN;
            if foreign || decides || hands_in {
                broken.push(format!("{}:{number} {}", source.path, line.trim()));
            }
        }
    }
    assert!(looked_at > 1_000, "only {looked_at} lines of the mesh were looked at");
    assert_none(&broken, "what comes by gossip must not reach what decides:");
}

#[test]
fn presence_is_for_people() {
    let mut broken = Vec::new();
    let mut shown = false;
    for source in sources() {
        if !source.path.starts_with("agent/src/") || source.path.starts_with(MESH) {
            continue;
        }
        for (number, line) in source.product_lines() {
            let names = line.contains("mesh") && PRESENCE.iter().any(|word| has_word(line, word));
            shown |= names && source.path == SHOWN_BY;
            if names && source.path != SHOWN_BY {
                broken.push(format!("{}:{number} {}", source.path, line.trim()));
            }
        }
    }
    assert!(
        shown,
        "{SHOWN_BY} names nothing of presence: is this test looking for the right words?"
    );
    assert_none(&broken, "what nodes say of themselves by gossip decides nothing:");
}
