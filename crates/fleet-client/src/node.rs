//! Asking nodes about themselves, and running the site.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet_protocol::{
    AdminOp, ErrorCode, Failure, NodeRequest, NodeStatus, NodeVerb,
    admin::{LeaderTransferred, Snapshots},
    local::NodePartition,
    mesh::{NodeMesh, Pinged},
    reply::{self, Failed},
};
use fleet_state::{NodeId, NodeName};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::{
    Client, ClientError,
    exchange::Ended,
    transport::{Next, Sent},
};

/// How long nodes may take to say how they are, after the first of them did.
const STRAGGLERS_WAIT: Duration = Duration::from_millis(400);
/// How long others may take once all members did.
const STRANGERS_WAIT: Duration = Duration::from_millis(100);
/// Most answers that are looked at.
const ANSWERS_MAX: usize = 1_024;

/// The end of a handover of which nobody can say whether it came about.
fn perhaps_handed_over(why: String) -> Failed {
    let failure = Failure::new(ErrorCode::Unknown, why)
        .with_hint("See who leads now: flotilla leader show. Asking again does no harm.");
    Failed { request_id: None, revision: None, error: (&failure).into() }
}

impl Client {
    /// How one node is.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn node_status(&self, node: &NodeName) -> Result<NodeStatus, ClientError> {
        self.read_item(&self.subjects.node(node, NodeVerb::Status), Vec::new()).await
    }

    /// How all nodes are that answer, by node id, also such as are no members any more. The answers
    /// of the `expected` nodes are waited for, no longer than stragglers are given.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn all_status(
        &self,
        expected: &BTreeSet<u64>,
    ) -> Result<Vec<NodeStatus>, ClientError> {
        self.ask_all(NodeRequest::Status, expected, |status: &NodeStatus| status.node).await
    }

    /// What all nodes see of the others that answer, by node id. It waits as [`Client::all_status`].
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn all_mesh(&self, expected: &BTreeSet<u64>) -> Result<Vec<NodeMesh>, ClientError> {
        self.ask_all(NodeRequest::Mesh, expected, |seen: &NodeMesh| seen.node).await
    }

    /// What all nodes that answer did while no majority could be reached, by node id.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn all_partition(
        &self,
        expected: &BTreeSet<u64>,
    ) -> Result<Vec<NodePartition>, ClientError> {
        self.ask_all(NodeRequest::Partition, expected, |told: &NodePartition| told.node).await
    }

    /// What one node did while no majority could be reached.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn node_partition(&self, node: &NodeName) -> Result<NodePartition, ClientError> {
        self.read_item(&self.subjects.node(node, NodeVerb::Partition), Vec::new()).await
    }

    /// What one node sees of the others.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn node_mesh(&self, node: &NodeName) -> Result<NodeMesh, ClientError> {
        self.read_item(&self.subjects.node(node, NodeVerb::Mesh), Vec::new()).await
    }

    /// One round trip over the mesh between two nodes.
    ///
    /// # Errors
    /// When there is no answer, or it is a failure.
    pub async fn ping(&self, from: &NodeName, to: NodeId) -> Result<Pinged, ClientError> {
        let payload = NodeRequest::Ping { to }.to_payload();
        self.read_item(&self.subjects.node(from, NodeVerb::Ping), payload).await
    }

    async fn ask_all<T: DeserializeOwned>(
        &self,
        request: NodeRequest,
        expected: &BTreeSet<u64>,
        node_of: impl Fn(&T) -> u64,
    ) -> Result<Vec<T>, ClientError> {
        let subject = self.subjects.all(request.verb());
        let sent = Sent { headers: Vec::new(), payload: request.to_payload().into() };
        let mut answers = self.connection.ask_for_many(&subject, sent).await?;
        let mut until = Instant::now() + self.timeout.min(Duration::from_secs(2));
        let mut found: BTreeMap<u64, T> = BTreeMap::new();
        for _ in 0..ANSWERS_MAX {
            let Ok(Next::Heard(payload)) = timeout_at(until, answers.next()).await else { break };
            if let Ok(Ok(said)) = reply::read_item::<T>(&payload) {
                found.insert(node_of(&said), said);
                let complete =
                    !expected.is_empty() && expected.iter().all(|node| found.contains_key(node));
                let wait = if complete { STRANGERS_WAIT } else { STRAGGLERS_WAIT };
                until = until.min(Instant::now() + wait);
            }
        }
        match self.connection.denied(&subject) {
            Some(subject) if found.is_empty() => Err(ClientError::Denied { subject }),
            _ => Ok(found.into_values().collect()),
        }
    }

    /// Hands the leadership over.
    ///
    /// # Errors
    /// When it did not come about.
    pub async fn transfer_leader(
        &self,
        to: Option<NodeId>,
    ) -> Result<LeaderTransferred, ClientError> {
        let payload =
            to.map(|node| format!("{{\"node\":{node}}}").into_bytes()).unwrap_or_default();
        let subject = self.subjects.admin(AdminOp::LeaderTransfer);
        match self.exchange(&subject, payload, None).await? {
            Ended::Answered(payload, _) => reply::read_item(&payload)?.map_err(ClientError::Failed),
            // Unlike a read it may have come about.
            Ended::Unknown(why) => Err(ClientError::Failed(perhaps_handed_over(why))),
            Ended::NotTaken(why) => Err(ClientError::Unavailable(why)),
            Ended::NobodyThere => Err(self.nobody_there().await),
        }
    }

    /// Has a snapshot taken of everything that is committed now.
    ///
    /// # Errors
    /// When it was not taken.
    pub async fn take_snapshot(&self) -> Result<Snapshots, ClientError> {
        self.read_item(&self.subjects.admin(AdminOp::SnapshotTake), Vec::new()).await
    }
}
