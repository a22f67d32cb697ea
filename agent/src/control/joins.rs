//! Those who join over the mesh: what they ask goes to the same desk as all else.
//!
//! The mesh has decided who may ask what. Here a question becomes the request that it stands for,
//! with the subject it would have had over NATS, and the reply goes back as it is.

use fleet_protocol::{AdminOp, HeaderName, QueryTarget, Subjects};
use fleet_state::Entity;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::mesh::{JoinAsk, JoinAsked};

use super::answers::Said;
use super::local::{LocalDoor, LocalRequest, Replies};

/// A request as it would have come over NATS.
struct Stated {
    subject: String,
    request_id: Option<String>,
    payload: Vec<u8>,
}

/// Answers questions until the mesh has ended.
pub async fn answer_joins(mut asks: mpsc::Receiver<JoinAsk>, door: LocalDoor) {
    // As many as the mesh lets through at a time; it bounds them.
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            ask = asks.recv() => match ask {
                Some(ask) => drop(under_way.spawn(serve(door.clone(), ask))),
                None => return,
            },
            Some(_) = under_way.join_next() => {}
        }
    }
}

async fn serve(door: LocalDoor, ask: JoinAsk) {
    let stated = state(&door, ask.asked);
    let header = stated.request_id.as_deref().map(|id| (HeaderName::RequestId.as_str(), id));
    let request = LocalRequest {
        subject: &stated.subject,
        headers: header.as_slice(),
        payload: &stated.payload,
    };
    let mut replies = door.ask(request).await;
    let message = match replies.next().await {
        Some(Said::Last(message) | Said::Page(message)) => message,
        None => Replies::none(),
    };
    // The asker may have gone.
    let _unheard = ask.answer.send(message.payload);
}

fn state(door: &LocalDoor, asked: JoinAsked) -> Stated {
    let subjects = Subjects::new(&door.node().site);
    match asked {
        JoinAsked::Join { request_id, body } => Stated {
            subject: subjects.admin(AdminOp::MemberJoin),
            request_id: Some(request_id),
            payload: body,
        },
        JoinAsked::Record(node) => Stated {
            subject: subjects.query(&QueryTarget::Get(Entity::Member(node))),
            request_id: None,
            payload: Vec::new(),
        },
    }
}
