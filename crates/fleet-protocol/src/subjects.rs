//! The NATS subjects of a site: the only place where they are spelled.
//!
//! Everything lies under `flotilla.<site>.`. What a message is about always comes last, as one to
//! four tokens (eight for parameter keys), so that a server's permissions can cut by area:
//! `flotilla.home.control.commands.device.*.hall2.>`.
//!
//! Two directions, and they mirror each other:
//! - *builders* take validated ids and cannot make a subject with a wildcard or a space in it;
//! - [`Subjects::parse`] takes whatever came from the wire and gives a closed enum, or an error that
//!   says which part was wrong. Nothing else in the project looks into a subject.
//!
//! What an agent subscribes to is here too (`*_all`), so a subject without a subscriber, or a
//! subscription without a builder, shows up side by side.

use fleet_state::{DeviceId, Entity, IdError, LinkId, NodeId, NodeName, Revision, SiteName};
use thiserror::Error;

pub use devices::{DeviceWord, device_headers};

use crate::{
    AdminOp, Area, AreaError, ChangesTarget, CommandOp, CommandTarget, EventKind, NodeVerb, Noun,
    QueryTarget, QueryVerb, limits::SUBJECT_BYTES_MAX, look::LookVerb, suggest, target,
};

/// First token of every subject of ours.
pub const SUBJECT_ROOT: &str = "flotilla";
/// Agents take commands, queries and administration in this queue group: at most one takes each.
pub const QUEUE_GROUP: &str = "agents";
/// Asked by clients to find which sites answer on a server (NATS Services protocol).
pub const SERVICE_PING: &str = "$SRV.PING";
/// What requests of a site lie below.
const CONTROL: &str = "control.";
/// Service names are this and the site's name.
const SERVICE_NAME_PREFIX: &str = "flotilla-";

/// A subject an agent subscribes to, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// `control.commands.…`, or the same below `control.leader.`
    Command(CommandTarget),
    /// `control.query.…`
    Query(QueryTarget),
    /// `control.query.link.…`, which the owner of the link answers
    Look(LinkId, LookVerb),
    /// `control.changes.since.…`
    Changes(ChangesTarget),
    /// `control.admin.…`
    Admin(AdminOp),
    /// `control.node.<node>.…`
    Node(NodeName, NodeVerb),
    /// `control.all.…`
    All(NodeVerb),
    /// `raft.<node>`: sealed frames between agents.
    Raft(NodeId),
}

/// Why a subject was not understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubjectError {
    /// Longer than any subject of ours.
    #[error("the subject is longer than {SUBJECT_BYTES_MAX} bytes")]
    TooLong,
    /// Not below this site's prefix.
    #[error("the subject is not one of this site's")]
    Foreign,
    /// Nothing of ours is called that.
    #[error("the subject asks for \"{}\", which does not exist{suggestion}", .part.escape_debug())]
    Unknown {
        /// The part that was not understood.
        part: String,
        /// "; did you mean …?" or nothing.
        suggestion: String,
    },
    /// The id at the end of the subject is missing or not an id.
    #[error("the id at the end of the subject is not valid: {0}")]
    Id(String),
}

/// Builds and reads the subjects of one site.
#[derive(Debug, Clone)]
pub struct Subjects {
    site: SiteName,
    /// `flotilla.<site>.`
    prefix: String,
}

impl Subjects {
    /// The subjects of a site.
    #[must_use]
    pub fn new(site: &SiteName) -> Self {
        Self { site: site.clone(), prefix: format!("{SUBJECT_ROOT}.{site}.") }
    }

    /// The site.
    #[must_use]
    pub fn site(&self) -> &SiteName {
        &self.site
    }

    /// Where a command goes.
    #[must_use]
    pub fn command(&self, target: &CommandTarget) -> String {
        format!("{}control.commands.{target}", self.prefix)
    }

    /// Where a command goes that only the leader shall take, without a hop over another agent.
    #[must_use]
    pub fn leader_command(&self, target: &CommandTarget) -> String {
        format!("{}control.leader.commands.{target}", self.prefix)
    }

    /// Where a query goes.
    #[must_use]
    pub fn query(&self, target: &QueryTarget) -> String {
        let prefix = &self.prefix;
        match target {
            QueryTarget::Site => format!("{prefix}control.query.site.get"),
            QueryTarget::Get(entity) => {
                format!("{prefix}control.query.{}.get.{}", Noun::from(entity), entity.id_text())
            }
            QueryTarget::Command(id) => {
                format!("{prefix}control.query.{}.get.{id}", Noun::Command)
            }
            QueryTarget::List { noun, area: None } => format!("{prefix}control.query.{noun}.list"),
            QueryTarget::List { noun, area: Some(area) } => {
                format!("{prefix}control.query.{noun}.list.{area}")
            }
        }
    }

    /// Where changes are asked for.
    #[must_use]
    pub fn changes(&self, target: &ChangesTarget) -> String {
        let since = target.since.get();
        let mut subject = format!("{}control.changes.since.{since}", self.prefix);
        if let Some(noun) = target.noun {
            subject.push_str(&format!(".{noun}"));
            if let Some(area) = &target.area {
                subject.push_str(&format!(".{area}"));
            }
        }
        subject
    }

    /// Where administration goes.
    #[must_use]
    pub fn admin(&self, op: AdminOp) -> String {
        format!("{}control.admin.{op}", self.prefix)
    }

    /// Where one node is asked.
    #[must_use]
    pub fn node(&self, node: &NodeName, verb: NodeVerb) -> String {
        format!("{}control.node.{node}.{verb}", self.prefix)
    }

    /// Where every node is asked; each of them answers.
    #[must_use]
    pub fn all(&self, verb: NodeVerb) -> String {
        format!("{}control.all.{verb}", self.prefix)
    }

    /// Where the event of a change goes.
    #[must_use]
    pub fn event(&self, entity: &Entity) -> String {
        let id = match entity {
            // A request id need not be a subject; who wants to hear of a device's invocations names the device.
            Entity::Invocation { device, .. } => device.to_string(),
            Entity::Link(_)
            | Entity::Device(_)
            | Entity::Param(_)
            | Entity::Member(_)
            | Entity::Token(_)
            | Entity::Watermarks(_) => entity.id_text(),
        };
        format!("{}control.events.{}.{id}", self.prefix, Noun::from(entity))
    }

    /// Where the outcome of a command without a reply subject goes.
    #[must_use]
    pub fn outcome_event(&self, target: &CommandTarget) -> String {
        format!("{}control.events.{}.{target}", self.prefix, EventKind::Outcome)
    }

    /// Where the current revision goes every second.
    #[must_use]
    pub fn tick(&self) -> String {
        format!("{}control.events.{}", self.prefix, EventKind::Tick)
    }

    /// Where a node tells that its frames to another one take another way.
    #[must_use]
    pub fn way_event(&self, node: NodeId) -> String {
        format!("{}control.events.{}.{node}", self.prefix, EventKind::Way)
    }

    /// Where a gateway tells what it does locally, and what becomes of that.
    #[must_use]
    pub fn local_event(&self, device: &DeviceId) -> String {
        format!("{}control.events.{}.{device}", self.prefix, EventKind::Local)
    }

    /// Where the owner of a device's link tells that somebody else writes to it.
    #[must_use]
    pub fn foreign_write_event(&self, device: &DeviceId) -> String {
        format!("{}control.events.{}.{device}", self.prefix, EventKind::ForeignWrite)
    }

    /// Where frames to a node go.
    #[must_use]
    pub fn raft(&self, node: NodeId) -> String {
        format!("{}raft.{node}", self.prefix)
    }

    /// Where agents tell each other, signed, at which addresses of the mesh they are.
    #[must_use]
    pub fn mesh(&self) -> String {
        format!("{}mesh", self.prefix)
    }

    /// All commands; subscribed to in the queue group.
    #[must_use]
    pub fn commands_all(&self) -> String {
        format!("{}control.commands.>", self.prefix)
    }

    /// All commands that only the leader shall take; it subscribes in the queue group.
    #[must_use]
    pub fn leader_commands_all(&self) -> String {
        format!("{}control.leader.commands.>", self.prefix)
    }

    /// All queries; subscribed to in the queue group.
    #[must_use]
    pub fn queries_all(&self) -> String {
        format!("{}control.query.>", self.prefix)
    }

    /// All questions for changes; subscribed to in the queue group.
    #[must_use]
    pub fn changes_all(&self) -> String {
        format!("{}control.changes.>", self.prefix)
    }

    /// All administration; subscribed to in the queue group.
    #[must_use]
    pub fn admin_all(&self) -> String {
        format!("{}control.admin.>", self.prefix)
    }

    /// All questions to one node.
    #[must_use]
    pub fn node_all(&self, node: &NodeName) -> String {
        format!("{}control.node.{node}.>", self.prefix)
    }

    /// All questions to every node.
    #[must_use]
    pub fn all_all(&self) -> String {
        format!("{}control.all.>", self.prefix)
    }

    /// All events, or those of one kind.
    #[must_use]
    pub fn events_all(&self, kind: Option<EventKind>) -> String {
        match kind {
            None => format!("{}control.events.>", self.prefix),
            Some(EventKind::Tick) => self.tick(),
            Some(kind) => format!("{}control.events.{kind}.>", self.prefix),
        }
    }

    /// The name under which the site's agents register as a NATS service.
    #[must_use]
    pub fn service_name(&self) -> String {
        format!("{SERVICE_NAME_PREFIX}{}", self.site)
    }

    /// The site of a service name, when it is one of ours.
    #[must_use]
    pub fn site_of_service(name: &str) -> Option<SiteName> {
        name.strip_prefix(SERVICE_NAME_PREFIX)?.parse().ok()
    }

    /// The token that says what kind of request a subject of this site is, if it is one.
    #[must_use]
    pub fn area_of<'a>(&self, subject: &'a str) -> Option<&'a str> {
        self.below_control(subject)?.split('.').next()
    }

    /// What a subject of this site says below `control.`.
    pub(crate) fn below_control<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&self.prefix)?.strip_prefix(CONTROL)
    }

    /// The subject of this site that says `rest` below `control.`.
    pub(crate) fn below_site(&self, rest: &str) -> String {
        format!("{}{CONTROL}{rest}", self.prefix)
    }

    /// Understands a subject that an agent received.
    pub fn parse(&self, subject: &str) -> Result<Inbound, SubjectError> {
        if subject.len() > SUBJECT_BYTES_MAX {
            return Err(SubjectError::TooLong);
        }
        let rest = subject.strip_prefix(&self.prefix).ok_or(SubjectError::Foreign)?;
        if let Some(node) = rest.strip_prefix("raft.") {
            return node
                .parse()
                .map(Inbound::Raft)
                .map_err(|error: IdError| SubjectError::Id(error.to_string()));
        }
        let Some(rest) = rest.strip_prefix(CONTROL) else {
            return Err(unknown(rest, ["control", "raft"]));
        };
        let (area, rest) = rest.split_once('.').unwrap_or((rest, ""));
        match area {
            "commands" => parse_command(rest).map(Inbound::Command),
            "leader" => match rest.strip_prefix("commands.") {
                Some(rest) => parse_command(rest).map(Inbound::Command),
                None => Err(unknown(rest, ["commands"])),
            },
            "query" => looks::parse(rest).unwrap_or_else(|| parse_query(rest).map(Inbound::Query)),
            "changes" => parse_changes(rest).map(Inbound::Changes),
            "admin" => AdminOp::from_name(rest)
                .map(Inbound::Admin)
                .ok_or_else(|| unknown(rest, AdminOp::ALL.iter().map(|op| op.as_str()))),
            "node" => parse_node(rest),
            "all" => node_verb(rest).map(Inbound::All),
            other => Err(unknown(
                other,
                ["commands", "leader", "query", "changes", "admin", "node", "all"],
            )),
        }
    }
}

fn unknown<'a>(part: &str, known: impl IntoIterator<Item = &'a str>) -> SubjectError {
    SubjectError::Unknown { part: part.to_owned(), suggestion: suggest::did_you_mean(part, known) }
}

fn parse_command(rest: &str) -> Result<CommandTarget, SubjectError> {
    if rest == CommandOp::Batch.as_str() {
        return Ok(CommandTarget::Batch);
    }
    // `<noun>.<verb>.<id>`: the operation is the first two tokens.
    let end = rest.match_indices('.').nth(1).map_or(rest.len(), |(at, _)| at);
    let (name, id) = rest.split_at(end);
    let op = CommandOp::from_name(name)
        .filter(|op| *op != CommandOp::Batch)
        .ok_or_else(|| unknown(name, CommandOp::ALL.iter().map(|op| op.as_str())))?;
    CommandTarget::new(op, id.strip_prefix('.').unwrap_or("")).map_err(SubjectError::Id)
}

fn parse_query(rest: &str) -> Result<QueryTarget, SubjectError> {
    let mut parts = rest.splitn(3, '.');
    let (noun, verb, id) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next());
    let noun = parse_noun(noun)?;
    let verb = QueryVerb::from_name(verb)
        .ok_or_else(|| unknown(verb, QueryVerb::ALL.iter().map(|verb| verb.as_str())))?;
    match (noun, verb, id) {
        (Noun::Site, QueryVerb::Get, None) => Ok(QueryTarget::Site),
        (Noun::Site, ..) => Err(unknown(rest, ["site.get"])),
        (Noun::Watermarks | Noun::Invocation, ..) => {
            Err(unknown(rest, ["device.get", "device.list"]))
        }
        (Noun::Command, QueryVerb::Get, id) => {
            let id = id.unwrap_or("").parse();
            id.map(QueryTarget::Command)
                .map_err(|error: IdError| SubjectError::Id(error.to_string()))
        }
        (noun, QueryVerb::Get, id) => {
            target::entity(noun, id.unwrap_or("")).map(QueryTarget::Get).map_err(SubjectError::Id)
        }
        (Noun::Member | Noun::Token, QueryVerb::List, Some(_)) => {
            Err(SubjectError::Id(format!("{noun}s have no areas; list them all")))
        }
        (noun, QueryVerb::List, area) => {
            Ok(QueryTarget::List { noun, area: area.map(parse_area).transpose()? })
        }
    }
}

fn parse_changes(rest: &str) -> Result<ChangesTarget, SubjectError> {
    let rest = rest.strip_prefix("since.").ok_or_else(|| unknown(rest, ["since"]))?;
    let mut parts = rest.splitn(3, '.');
    let since = parts.next().unwrap_or("");
    let since = parse_revision(since)
        .ok_or_else(|| SubjectError::Id("a revision is a whole number, 0 or more".to_owned()))?;
    let noun = parts.next().map(parse_noun).transpose()?;
    if let Some(noun @ (Noun::Site | Noun::Command)) = noun {
        let told = Noun::ALL.iter().filter(|noun| !matches!(noun, Noun::Site | Noun::Command));
        return Err(unknown(noun.as_str(), told.map(|noun| noun.as_str())));
    }
    let area = parts.next().map(parse_area).transpose()?;
    Ok(ChangesTarget { since, noun, area })
}

/// A revision has one spelling: no sign, no leading zero.
fn parse_revision(text: &str) -> Option<Revision> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then(|| Revision::new(number))
}

fn parse_noun(text: &str) -> Result<Noun, SubjectError> {
    Noun::from_name(text).ok_or_else(|| unknown(text, Noun::ALL.iter().map(|noun| noun.as_str())))
}

fn parse_area(text: &str) -> Result<Area, SubjectError> {
    text.parse().map_err(|error: AreaError| SubjectError::Id(error.to_string()))
}

fn parse_node(rest: &str) -> Result<Inbound, SubjectError> {
    let (node, verb) = rest.split_once('.').unwrap_or((rest, ""));
    let node = node.parse().map_err(|error: IdError| SubjectError::Id(error.to_string()))?;
    Ok(Inbound::Node(node, node_verb(verb)?))
}

fn node_verb(text: &str) -> Result<NodeVerb, SubjectError> {
    NodeVerb::from_name(text)
        .ok_or_else(|| unknown(text, NodeVerb::ALL.iter().map(|verb| verb.as_str())))
}

mod devices;
mod looks;

#[cfg(test)]
mod tests;
