//! Downloading a snapshot: taken by one node, read from it piece by piece.

use std::{io::Write, time::Duration};

use fleet_protocol::{
    ErrorCode, NodeRequest,
    limits::SNAPSHOT_CHUNK_BYTES_MAX,
    node::{SNAPSHOT_INDEX_HEADER, SNAPSHOT_OFFSET_HEADER, SNAPSHOT_SIZE_HEADER},
    reply::{self, Committed},
};
use fleet_state::NodeName;
use tokio::time::timeout;

use crate::{
    Client, ClientError, is_code,
    transport::{Heard, Sent, Unheard},
};

/// How often one piece is asked for before the download is given up.
const TRIES_PER_PIECE: u32 = 5;
/// How often a snapshot is taken anew because the one before was gone before its first piece came.
const STARTS_MAX: u32 = 5;
/// Pause before a piece is asked for again.
const PAUSE: Duration = Duration::from_millis(200);
/// Part of the server's `max_payload` that a piece may fill; headers take some.
const PAYLOAD_MARGIN_BYTES: usize = 4 * 1024;

/// A snapshot that was downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// The node it came from.
    pub node: NodeName,
    /// Last entry it contains.
    pub index: u64,
    /// Its size.
    pub size_bytes: u64,
}

/// A piece of a file.
struct Piece {
    bytes: bytes::Bytes,
    size_bytes: u64,
}

impl Client {
    /// Has a snapshot taken and writes it to `out`. Whoever keeps it checks its checksum
    /// (`fleet_state::read_snapshot_meta`) before it counts as saved.
    ///
    /// # Errors
    /// When it was not taken, or not all of it came over.
    pub async fn download_snapshot(&self, out: &mut dyn Write) -> Result<Downloaded, ClientError> {
        let room = self.connection.payload_bytes_max().saturating_sub(PAYLOAD_MARGIN_BYTES);
        let length = u32::try_from(room).unwrap_or(u32::MAX).clamp(1_024, SNAPSHOT_CHUNK_BYTES_MAX);
        let (node, index, mut piece) = self.begin(length).await?;
        let mut offset = 0u64;
        loop {
            out.write_all(&piece.bytes).map_err(|error| {
                ClientError::Local(format!("the snapshot cannot be written: {error}"))
            })?;
            offset = offset.saturating_add(piece.bytes.len() as u64);
            if offset >= piece.size_bytes {
                return Ok(Downloaded { node, index, size_bytes: offset });
            }
            if piece.bytes.is_empty() {
                return Err(broken("ended before the snapshot did"));
            }
            piece = self.piece(&node, NodeRequest::SnapshotChunk { index, offset, length }).await?;
        }
    }

    /// Has a snapshot taken and reads its first piece; from then on the node keeps it for us. On a
    /// busy site it may be gone until then, and another one is as good.
    async fn begin(&self, length: u32) -> Result<(NodeName, u64, Piece), ClientError> {
        let mut starts = 1;
        loop {
            let taken = self.take_snapshot().await?;
            let node: NodeName = taken.node.parse().map_err(|_| broken("names no node"))?;
            let index = taken.snapshots.first().ok_or_else(|| broken("holds no snapshot"))?.index;
            let request = NodeRequest::SnapshotChunk { index, offset: 0, length };
            match self.piece(&node, request).await {
                Ok(piece) => return Ok((node, index, piece)),
                Err(ClientError::Failed(failed))
                    if is_code(&failed, ErrorCode::NotFound) && starts < STARTS_MAX =>
                {
                    starts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn piece(&self, node: &NodeName, request: NodeRequest) -> Result<Piece, ClientError> {
        let subject = self.subjects.node(node, request.verb());
        let mut why = String::new();
        for _ in 0..TRIES_PER_PIECE {
            let sent = Sent { headers: Vec::new(), payload: request.to_payload().into() };
            match timeout(self.timeout, self.connection.ask(&subject, sent)).await {
                Ok(Ok(Ok(heard))) => return read_piece(&heard, &request),
                Ok(Ok(Err(Unheard::NobodyThere))) => {
                    why = format!("node {node} no longer answers");
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Ok(Err(Unheard::PerhapsTaken(broken)))) => why = broken,
                Ok(Err(error)) => return Err(error),
                Err(_) => why = "no answer came in time".to_owned(),
            }
        }
        match self.connection.denied(&subject) {
            Some(subject) => Err(ClientError::Denied { subject }),
            None => Err(ClientError::Unavailable(format!(
                "the snapshot could not be read from node {node}: {why}"
            ))),
        }
    }
}

fn broken(what: &str) -> ClientError {
    ClientError::Local(format!("the agent's answer {what}; try again"))
}

fn read_piece(message: &Heard, request: &NodeRequest) -> Result<Piece, ClientError> {
    let NodeRequest::SnapshotChunk { index, offset, .. } = request else {
        return Err(ClientError::Local("not a request for a piece of a snapshot".to_owned()));
    };
    match (
        message.number(SNAPSHOT_INDEX_HEADER),
        message.number(SNAPSHOT_OFFSET_HEADER),
        message.number(SNAPSHOT_SIZE_HEADER),
    ) {
        (Some(found), Some(at), Some(size_bytes)) if found == *index && at == *offset => {
            Ok(Piece { bytes: message.payload.clone(), size_bytes })
        }
        (Some(_), Some(_), Some(_)) => Err(ClientError::Local(
            "the agent sent another piece than was asked for; try again".to_owned(),
        )),
        // No piece, so it is a failure in the usual form.
        _ => match reply::read::<Committed>(&message.payload)? {
            Ok(_) => Err(ClientError::Local("the agent sent no piece of a snapshot".to_owned())),
            Err(failed) => Err(ClientError::Failed(failed)),
        },
    }
}
