//! Subscribing and unsubscribing: when this agent takes requests in, and when it leaves that to
//! others.
//!
//! The shared lanes stand in a queue group: NATS gives each message to one agent of the site.
//! `judge` says where intake stands; here are the lanes that follow it, in three groups: what has to
//! be decided by the site (commands, administration), what is read from this node's view
//! (queries, changes), and commands that are sent to the leader, while this node is that. Leaving is graceful: the server is told first, then what had already
//! arrived is served.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Subscriber;
use fleet_protocol::subjects::QUEUE_GROUP;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::IntakeState;
use super::desk::Desk;
use super::lanes::Lane;
use super::nats_door::NatsDoor;

/// Messages that are still taken when leaving under load; more than can be on their way.
const LAST_MESSAGES: u64 = 256;
/// How long they are waited for; at a lower rate there is next to nothing on its way.
const LAST_WAIT: Duration = Duration::from_millis(250);
/// How long leaving may take; without a server there is nothing more to come.
const LEAVE_WAIT: Duration = Duration::from_secs(1);
/// Pause before subscribing again after a subscription ended by itself.
const SUBSCRIBE_PAUSE: Duration = Duration::from_millis(500);

/// Lanes that are open at the same times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// What goes to the leader.
    Deciding,
    /// What comes to this node because it leads.
    Leading,
    /// What is answered from the view.
    Reading,
}

impl Group {
    /// Whether these lanes are open.
    const fn is_open(self, state: IntakeState, leads: bool) -> bool {
        match state {
            IntakeState::Serving => leads || !matches!(self, Self::Leading),
            IntakeState::Reading => matches!(self, Self::Reading),
            IntakeState::NoLeader
            | IntakeState::ForeignSite
            | IntakeState::Removed
            | IntakeState::Stopped => false,
        }
    }

    fn lanes(self, desk: &Desk) -> Vec<(Arc<Lane>, String)> {
        let (lanes, subjects) = (&desk.lanes, &desk.subjects);
        match self {
            Self::Deciding => vec![
                (Arc::clone(&lanes.commands), subjects.commands_all()),
                (Arc::clone(&lanes.admin), subjects.admin_all()),
            ],
            Self::Leading => vec![(Arc::clone(&lanes.commands), subjects.leader_commands_all())],
            Self::Reading => vec![
                (Arc::clone(&lanes.query), subjects.queries_all()),
                (Arc::clone(&lanes.changes), subjects.changes_all()),
            ],
        }
    }
}

/// What the lanes of a group are open or closed by.
struct Openness {
    group: Group,
    intake: watch::Receiver<IntakeState>,
    leads: watch::Receiver<bool>,
}

impl Openness {
    fn of(desk: &Desk, group: Group) -> Self {
        Self { group, intake: desk.intake.subscribe(), leads: desk.handle.watch_leads() }
    }

    /// Returns once the lanes are to be open, or closed.
    async fn until(&mut self, open: bool) {
        loop {
            let state = *self.intake.borrow_and_update();
            let leads = *self.leads.borrow_and_update();
            if self.group.is_open(state, leads) == open {
                return;
            }
            // The desk holds the one sender. The other ends with the consensus loop, and then the
            // agent does; what stands until then is the last word.
            tokio::select! {
                _ = self.intake.changed() => {}
                Ok(()) = self.leads.changed() => {}
            }
        }
    }
}

/// Runs a group of the lanes that all agents of the site share.
pub(super) async fn shared_lanes(
    desk: Arc<Desk>,
    nats: Arc<NatsDoor>,
    group: Group,
    mut stopped: watch::Receiver<bool>,
) {
    let mut openness = Openness::of(&desk, group);
    while !*stopped.borrow() {
        tokio::select! {
            () = told(&mut stopped) => break,
            () = openness.until(true) => {}
        }
        serve_shared(&desk, &nats, group, stopped.clone()).await;
    }
}

/// Runs the lane of this agent alone.
pub(super) async fn node_lane(
    desk: Arc<Desk>,
    nats: Arc<NatsDoor>,
    stopped: watch::Receiver<bool>,
) {
    let subjects = [desk.subjects.node_all(&desk.facts.name), desk.subjects.all_all()];
    while !*stopped.borrow() {
        let mut lanes = JoinSet::new();
        for subject in &subjects {
            match nats.client.subscribe(subject.clone()).await {
                Ok(subscriber) => {
                    let taking = Taking::new(&desk, &nats, &desk.lanes.node);
                    lanes.spawn(taking.serve(subscriber, stopped.clone()));
                }
                Err(error) => tracing::warn!(subject, %error, "could not subscribe"),
            }
        }
        while lanes.join_next().await.is_some() {}
        pause(stopped.clone()).await;
    }
}

/// Subscribes, serves until there is a reason to leave, and leaves.
async fn serve_shared(
    desk: &Arc<Desk>,
    nats: &Arc<NatsDoor>,
    group: Group,
    mut stopped: watch::Receiver<bool>,
) {
    let (leave, leaving) = watch::channel(false);
    let mut lanes = JoinSet::new();
    for (lane, subject) in group.lanes(desk) {
        match nats.client.queue_subscribe(subject.clone(), QUEUE_GROUP.to_owned()).await {
            Ok(subscriber) => {
                let taking = Taking::new(desk, nats, &lane);
                lanes.spawn(taking.serve(subscriber, leaving.clone()));
            }
            Err(error) => {
                tracing::warn!(subject, %error, "could not subscribe; trying again");
                leave.send_replace(true);
            }
        }
    }
    if group == Group::Deciding {
        desk.takes_commands.store(true, Ordering::Relaxed);
    }
    let mut openness = Openness::of(desk, group);
    let ended = tokio::select! {
        () = told(&mut stopped) => false,
        () = openness.until(false) => false,
        // A lane ends by itself only when its subscription did.
        _ = lanes.join_next() => true,
    };
    if group == Group::Deciding {
        desk.takes_commands.store(false, Ordering::Relaxed);
    }
    leave.send_replace(true);
    while lanes.join_next().await.is_some() {}
    if ended {
        pause(stopped).await;
    }
}

/// What the messages of one subscription are taken in with.
struct Taking {
    desk: Arc<Desk>,
    nats: Arc<NatsDoor>,
    lane: Arc<Lane>,
}

impl Taking {
    fn new(desk: &Arc<Desk>, nats: &Arc<NatsDoor>, lane: &Arc<Lane>) -> Self {
        Self { desk: Arc::clone(desk), nats: Arc::clone(nats), lane: Arc::clone(lane) }
    }

    /// Takes the messages of one subscription in, until told to leave or the subscription ends.
    async fn serve(self, mut messages: Subscriber, mut leave: watch::Receiver<bool>) {
        let connects = self.connects();
        let mut taken: u64 = 0;
        loop {
            tokio::select! {
                biased;
                message = messages.next() => match message {
                    Some(message) => {
                        taken = taken.saturating_add(1);
                        self.nats.receive(&self.desk, &self.lane, message).await;
                    }
                    None => return,
                },
                () = told(&mut leave) => break,
            }
        }
        // 1. Under load: the server stops after a given number of messages, and not one is lost.
        //    It counts anew after a reconnect, the client doesn't, so then this way is closed.
        if self.connects() == connects {
            let last = taken.saturating_add(LAST_MESSAGES);
            if messages.unsubscribe_after(last).await.is_ok()
                && self.serve_rest(&mut messages, LAST_WAIT).await
            {
                return;
            }
        }
        // 2. Nearly idle: plainly. The client forgets the subscription a moment before the server
        //    does, so a message on its way just then finds nobody; its sender sends it again.
        if messages.drain().await.is_ok() {
            self.serve_rest(&mut messages, LEAVE_WAIT).await;
        }
    }

    /// Takes in what still comes; true when the subscription ended within `wait`.
    async fn serve_rest(&self, messages: &mut Subscriber, wait: Duration) -> bool {
        let rest = async {
            while let Some(message) = messages.next().await {
                self.nats.receive(&self.desk, &self.lane, message).await;
            }
        };
        tokio::time::timeout(wait, rest).await.is_ok()
    }

    /// How often the client has connected.
    fn connects(&self) -> u64 {
        self.nats.client.statistics().connects.load(Ordering::Relaxed)
    }
}

async fn pause(mut stopped: watch::Receiver<bool>) {
    // Either end is fine: time to try again, or the agent stops.
    let _ = tokio::time::timeout(SUBSCRIBE_PAUSE, told(&mut stopped)).await;
}

/// Returns once the flag is up; also when nobody can raise it any more.
async fn told(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|up| *up).await;
}
