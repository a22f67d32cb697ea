//! A link with an owner and a lamp on it, to try on what owners and users do to each other.

use fleet_state::{
    AgentCommand, Applied, ClaimItem, Claimed, Command, Device, DeviceSpec, Invocation, Link, Mode,
    NodeId, Outcome, Policy, RequestId, Revision, Stage, StageItem, Watermarks,
};

use crate::site::{Site, create_token, device_on, join, object, register_link};

pub(crate) const LINK: &str = "hall.bus";
pub(crate) const LAMP: &str = "hall.lamp";

pub(crate) fn node(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

/// A site of two members, in which node 1 owns the link and the lamp may be written to.
pub(crate) fn hall() -> Site {
    let mut site = Site::default();
    site.accept(create_token(1, 600_000, 2));
    site.accept(join(1, "gw-2", 2));
    site.accept(register_link(LINK));
    let policy = Policy { idempotent_actions: ["beep".into()].into(), ..Policy::default() };
    let spec = DeviceSpec { policy: policy.into(), ..device_on(LINK) };
    site.accept(Command::DeviceRegister { id: LAMP.parse().unwrap(), spec });
    site.accept(Command::DeviceMode { id: LAMP.parse().unwrap(), mode: Mode::Auto });
    let epoch = link(&site).epoch;
    site.accept(assign(epoch, Some(1)));
    site
}

pub(crate) fn link(site: &Site) -> Link {
    site.state.link(&LINK.parse().unwrap()).unwrap().as_ref().clone()
}

pub(crate) fn lamp(site: &Site) -> Device {
    site.state.device(&LAMP.parse().unwrap()).unwrap().as_ref().clone()
}

pub(crate) fn marks(site: &Site) -> Watermarks {
    site.state.watermarks(&LAMP.parse().unwrap()).unwrap().as_ref().clone()
}

pub(crate) fn stage(site: &Site, revision: u64) -> Option<Stage> {
    site.state.wish_stage(&LAMP.parse().unwrap(), Revision::new(revision))
}

pub(crate) fn errand(site: &Site, id: &str) -> Invocation {
    site.state.invocation(&id.parse().unwrap()).unwrap().as_ref().clone()
}

pub(crate) fn assign(expect_epoch: u64, owner: Option<u64>) -> Command {
    let owner = owner.map(node);
    Command::Agents(AgentCommand::LinkAssign { link: LINK.parse().unwrap(), expect_epoch, owner })
}

pub(crate) fn release(epoch: u64) -> Command {
    Command::Agents(AgentCommand::LinkRelease { link: LINK.parse().unwrap(), epoch })
}

pub(crate) fn set_for(patch: &str, ttl_ms: u64) -> Command {
    let (id, patch) = (LAMP.parse().unwrap(), object(patch));
    Command::DeviceUpdate { id, patch, ttl_ms: Some(ttl_ms) }
}

pub(crate) fn invoke(action: &str, ttl_ms: Option<u64>) -> Command {
    let id = LAMP.parse().unwrap();
    Command::DeviceInvoke { id, action: action.into(), args: object(r#"{"n":1}"#), ttl_ms }
}

pub(crate) fn told(epoch: u64, item: StageItem) -> Command {
    let link = LINK.parse().unwrap();
    Command::Agents(AgentCommand::Stages { link, epoch, items: vec![item] })
}

pub(crate) fn marked(sent: u64, acknowledged: u64, verified: u64) -> StageItem {
    StageItem {
        device: LAMP.parse().unwrap(),
        sent: Revision::new(sent),
        acknowledged: Revision::new(acknowledged),
        verified: Revision::new(verified),
        failures: Vec::new(),
        overcome: Vec::new(),
    }
}

pub(crate) fn end(epoch: u64, id: &str, stage: Stage) -> Command {
    Command::Agents(AgentCommand::InvocationEnd {
        link: LINK.parse().unwrap(),
        epoch,
        id: id.parse().unwrap(),
        stage,
        detail: "as told".into(),
    })
}

pub(crate) fn wish(revision: u64) -> ClaimItem {
    ClaimItem::Wish { device: LAMP.parse().unwrap(), revision: Revision::new(revision) }
}

pub(crate) fn shot(id: &str) -> ClaimItem {
    ClaimItem::Invocation(id.parse().unwrap())
}

pub(crate) fn claim(epoch: u64, items: Vec<ClaimItem>) -> Command {
    Command::Agents(AgentCommand::Claim { link: LINK.parse().unwrap(), epoch, items })
}

impl Site {
    pub(crate) fn propose_as(&mut self, id: &str, command: Command) -> Applied {
        let id: RequestId = id.parse().unwrap();
        self.propose(id, None, command)
    }

    /// What a claim that its link's owner makes is told.
    pub(crate) fn claimed(&mut self, items: Vec<ClaimItem>) -> Vec<Claimed> {
        let epoch = link(self).epoch;
        let answer = self.run(claim(epoch, items)).answer.unwrap();
        let Outcome::Accepted(accepted) = answer.outcome else { panic!("{answer:?}") };
        accepted.claims
    }
}
