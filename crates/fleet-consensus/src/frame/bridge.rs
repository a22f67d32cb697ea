//! Between [`RaftMessage`] and the library's own message.

use bytes::Bytes;
use fleet_state::{
    NodeId,
    codec::{DecodeError, Reader, Writer},
};
use raft::eraftpb::{ConfState, Message, MessageType, Snapshot};

use super::{
    entry::LogEntry,
    limits::READ_CONTEXT_BYTES_MAX,
    message::{
        Append, AppendResponse, Ballot, BallotAnswer, Beat, MessageError, MessageKind, RaftMessage,
        Reject, SnapshotOffer, SnapshotRef,
    },
};

impl RaftMessage {
    /// Takes a message that `raft` wants sent.
    ///
    /// # Errors
    /// The message is of a type that never leaves a node, or holds what we never make. The caller drops and counts it.
    pub fn from_raft(mut message: Message) -> Result<Self, MessageError> {
        let to = NodeId::new(message.to).ok_or(MessageError::NoNode)?;
        let from = NodeId::new(message.from).ok_or(MessageError::NoNode)?;
        let term = message.term;
        let kind = match message.get_msg_type() {
            MessageType::MsgAppend => MessageKind::Append(append_from(&mut message)?),
            MessageType::MsgAppendResponse => {
                MessageKind::AppendResponse(append_response_from(&message))
            }
            MessageType::MsgRequestVote => MessageKind::Vote(ballot_from(&message)),
            MessageType::MsgRequestVoteResponse => {
                MessageKind::VoteResponse(ballot_answer_from(&message))
            }
            MessageType::MsgRequestPreVote => MessageKind::PreVote(ballot_from(&message)),
            MessageType::MsgRequestPreVoteResponse => {
                MessageKind::PreVoteResponse(ballot_answer_from(&message))
            }
            MessageType::MsgHeartbeat => MessageKind::Heartbeat(beat_from(&mut message)?),
            MessageType::MsgHeartbeatResponse => {
                MessageKind::HeartbeatResponse(beat_from(&mut message)?)
            }
            MessageType::MsgSnapshot => {
                MessageKind::Snapshot(SnapshotOffer::from_raft(message.get_snapshot())?)
            }
            MessageType::MsgTimeoutNow => MessageKind::TimeoutNow,
            other @ (MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgPropose
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
            | MessageType::MsgTransferLeader
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp) => return Err(MessageError::LocalType(other as i32)),
        };
        Ok(Self { to, from, term, kind })
    }

    /// What `raft` steps.
    #[must_use]
    pub fn into_raft(self) -> Message {
        let mut message = Message {
            to: self.to.get(),
            from: self.from.get(),
            term: self.term,
            ..Default::default()
        };
        message.set_msg_type(message_type(&self.kind));
        match self.kind {
            MessageKind::Append(append) => {
                message.index = append.index;
                message.log_term = append.log_term;
                message.commit = append.commit;
                message.set_entries(
                    append.entries.into_iter().map(LogEntry::into_raft).collect::<Vec<_>>().into(),
                );
            }
            MessageKind::AppendResponse(response) => append_response_into(response, &mut message),
            MessageKind::Vote(ballot) | MessageKind::PreVote(ballot) => {
                ballot_into(ballot, &mut message)
            }
            MessageKind::VoteResponse(answer) | MessageKind::PreVoteResponse(answer) => {
                message.reject = answer.reject;
                message.commit = answer.commit;
                message.commit_term = answer.commit_term;
            }
            MessageKind::Heartbeat(beat) | MessageKind::HeartbeatResponse(beat) => {
                message.commit = beat.commit;
                message.context = beat.context;
            }
            MessageKind::Snapshot(offer) => message.set_snapshot(offer.to_raft()),
            MessageKind::TimeoutNow => {}
        }
        message
    }
}

const fn message_type(kind: &MessageKind) -> MessageType {
    match kind {
        MessageKind::Append(_) => MessageType::MsgAppend,
        MessageKind::AppendResponse(_) => MessageType::MsgAppendResponse,
        MessageKind::Vote(_) => MessageType::MsgRequestVote,
        MessageKind::VoteResponse(_) => MessageType::MsgRequestVoteResponse,
        MessageKind::PreVote(_) => MessageType::MsgRequestPreVote,
        MessageKind::PreVoteResponse(_) => MessageType::MsgRequestPreVoteResponse,
        MessageKind::Heartbeat(_) => MessageType::MsgHeartbeat,
        MessageKind::HeartbeatResponse(_) => MessageType::MsgHeartbeatResponse,
        MessageKind::Snapshot(_) => MessageType::MsgSnapshot,
        MessageKind::TimeoutNow => MessageType::MsgTimeoutNow,
    }
}

fn append_from(message: &mut Message) -> Result<Append, MessageError> {
    let index = message.index;
    let taken = message.take_entries().into_vec();
    let mut entries = Vec::with_capacity(taken.len());
    for (expected, entry) in (index.saturating_add(1)..).zip(taken) {
        if entry.index != expected {
            return Err(MessageError::NotContiguous(index));
        }
        entries.push(LogEntry::from_raft(entry)?);
    }
    Ok(Append { index, log_term: message.log_term, commit: message.commit, entries })
}

fn append_response_from(message: &Message) -> AppendResponse {
    let reject = message.reject.then_some(Reject {
        hint: message.reject_hint,
        log_term: message.log_term,
        request_snapshot: message.request_snapshot,
    });
    AppendResponse { index: message.index, commit: message.commit, reject }
}

fn append_response_into(response: AppendResponse, message: &mut Message) {
    message.index = response.index;
    message.commit = response.commit;
    if let Some(reject) = response.reject {
        message.reject = true;
        message.reject_hint = reject.hint;
        message.log_term = reject.log_term;
        message.request_snapshot = reject.request_snapshot;
    }
}

fn ballot_from(message: &Message) -> Ballot {
    Ballot {
        index: message.index,
        log_term: message.log_term,
        commit: message.commit,
        commit_term: message.commit_term,
        priority: message.priority,
        transfer: message.context == raft::CAMPAIGN_TRANSFER,
    }
}

fn ballot_into(ballot: Ballot, message: &mut Message) {
    message.index = ballot.index;
    message.log_term = ballot.log_term;
    message.commit = ballot.commit;
    message.commit_term = ballot.commit_term;
    message.priority = ballot.priority;
    // The library sets both fields; the older one can't hold a negative priority.
    message.deprecated_priority = u64::try_from(ballot.priority).unwrap_or(0);
    if ballot.transfer {
        message.context = Bytes::from_static(raft::CAMPAIGN_TRANSFER);
    }
}

fn ballot_answer_from(message: &Message) -> BallotAnswer {
    BallotAnswer {
        reject: message.reject,
        commit: message.commit,
        commit_term: message.commit_term,
    }
}

fn beat_from(message: &mut Message) -> Result<Beat, MessageError> {
    if message.context.len() > READ_CONTEXT_BYTES_MAX {
        return Err(MessageError::Context(message.context.len()));
    }
    Ok(Beat { commit: message.commit, context: message.take_context() })
}

impl SnapshotOffer {
    /// Takes a snapshot whose data is a [`SnapshotRef`].
    ///
    /// # Errors
    /// A joint configuration, node 0, or other data.
    pub fn from_raft(snapshot: &Snapshot) -> Result<Self, MessageError> {
        let metadata = snapshot.get_metadata();
        let conf = metadata.get_conf_state();
        let index = metadata.index;
        if !conf.voters_outgoing.is_empty() || !conf.learners_next.is_empty() || conf.auto_leave {
            return Err(MessageError::ConfState(index));
        }
        Ok(Self {
            index,
            term: metadata.term,
            voters: nodes(&conf.voters, index)?,
            learners: nodes(&conf.learners, index)?,
            file: SnapshotRef::decode(&snapshot.data)
                .map_err(|_| MessageError::SnapshotRef(index))?,
        })
    }

    /// What `raft` restores its configuration and position from.
    #[must_use]
    pub fn to_raft(&self) -> Snapshot {
        let conf = ConfState {
            voters: self.voters.iter().map(|node| node.get()).collect(),
            learners: self.learners.iter().map(|node| node.get()).collect(),
            ..Default::default()
        };
        let mut snapshot = Snapshot { data: self.file.encode().into(), ..Default::default() };
        let metadata = snapshot.mut_metadata();
        metadata.index = self.index;
        metadata.term = self.term;
        metadata.set_conf_state(conf);
        snapshot
    }
}

fn nodes(ids: &[u64], index: u64) -> Result<Vec<NodeId>, MessageError> {
    ids.iter().map(|id| NodeId::new(*id).ok_or(MessageError::ConfState(index))).collect()
}

impl SnapshotRef {
    /// The bytes that `raft` carries as the snapshot's data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(42);
        self.write(&mut writer);
        writer.into_vec()
    }

    /// Reads what [`SnapshotRef::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are not exactly one reference.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let file = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(file)
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.u64(self.size_bytes);
        writer.fixed(&self.checksum);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { size_bytes: reader.u64()?, checksum: reader.fixed()? })
    }
}
