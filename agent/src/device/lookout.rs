//! Looking along links that this node owns, for people who want to know what hangs there.
//!
//! One look at a time per link and [`LOOKS_MAX`] in all. A bus has one master, so it is scanned
//! only while its link is paused and the owner's session is closed, and the scan ends at once
//! when the link is resumed. The connector runs in a task of its own, with a deadline: one that
//! hangs or panics is a failed look and nothing more. Nothing here registers or writes.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use fleet_protocol::look::{CandidateBody, Look, LookRequest, Looked, NodeLook, UnitBody};
use fleet_protocol::{ErrorCode, Failure, Json, Noun};
use fleet_state::{Link, LinkId, NodeId, NodeName, SiteName};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::connector::{AskedUnit, Candidate, Connector, Discover, Found, LookError, Place, Scan};
use super::connectors::Connectors;
use super::observed::ObservedTable;
use super::setups::link_setup;
use crate::consensus::Handle;

/// Looks at a time.
const LOOKS_MAX: usize = 4;
/// The longest look: an answer over the mesh is not waited for much longer.
const LOOK_WITHIN: Duration = Duration::from_secs(8);
/// Time that is kept for the answer's way.
const MARGIN: Duration = Duration::from_millis(250);
/// How often is looked whether a link is still paused.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Texts about what could not be read that are told, and their length.
const PROBLEMS_MAX: usize = 64;
const PROBLEM_CHARS_MAX: usize = 256;
/// How a link's task says that its session is closed because the link is paused.
const PAUSED: &str = "paused";

/// What a lookout works with.
pub struct LookoutParts {
    /// The consensus loop.
    pub handle: Handle,
    /// This node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// The site.
    pub site: SiteName,
    /// Where credentials for links are.
    pub secrets_dir: PathBuf,
    /// The connectors of this agent.
    pub connectors: Connectors,
    /// What is known of links.
    pub observed: ObservedTable,
}

/// Looks along links of this node. Cheap to clone.
#[derive(Clone)]
pub struct Lookout(Arc<Inner>);

struct Inner {
    parts: LookoutParts,
    places: Semaphore,
    under_way: DashMap<LinkId, ()>,
}

impl std::fmt::Debug for Lookout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookout")
            .field("under_way", &self.0.under_way.len())
            .finish_non_exhaustive()
    }
}

/// A look under way; another one along the same link has to wait until this is dropped.
struct UnderWay<'a>(&'a DashMap<LinkId, ()>, LinkId);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.remove(&self.1);
    }
}

/// What is told of a link, one page of it.
pub type Page = Looked<Box<RawValue>>;

impl Lookout {
    /// A lookout.
    #[must_use]
    pub fn new(parts: LookoutParts) -> Self {
        let places = Semaphore::new(LOOKS_MAX);
        Self(Arc::new(Inner { parts, places, under_way: DashMap::new() }))
    }

    /// Looks along a link that this node owns.
    ///
    /// # Errors
    /// Why nothing can be told.
    pub async fn look(&self, asked: &NodeLook) -> Result<Page, Failure> {
        let inner = &self.0;
        let until = Instant::now() + Duration::from_millis(asked.within_ms).min(LOOK_WITHIN);
        let until = until.checked_sub(MARGIN).unwrap_or(until);
        let request = &asked.request;
        let link = inner.own_link(&request.link)?;
        let busy = |what: &str| Failure::new(ErrorCode::Busy, what);
        let _place = inner
            .places
            .try_acquire()
            .map_err(|_| busy("this agent looks along as many links as it may"))?;
        let _under_way = inner
            .enter(&request.link)
            .ok_or_else(|| busy("somebody looks along this link already"))?;
        let connector = inner.parts.connectors.get(&link.spec.connector).map(Arc::clone);
        let connector = connector
            .map_err(|refusal| Failure::new(ErrorCode::Unsupported, refusal.to_string()))?;
        let room = asked.size_bytes_max;
        match &request.look {
            Look::Discover { source, base } => {
                let discover = Discover { source: *source, base: base.clone() };
                let place = inner.place(&link, until);
                let call = async move { connector.discover(place, discover).await };
                let found = contained(Box::pin(call), until).await?;
                inner.page_of_candidates(found, request, room)
            }
            Look::Scan { units, per_second } => {
                let after = request.after.as_deref().map(unit_after).transpose()?;
                let scan = Scan::after(units, *per_second, after);
                let asked = inner.scan(&link, connector, scan.clone(), until).await?;
                inner.page_of_units(&asked, &scan, request)
            }
        }
    }
}

impl Inner {
    fn own_link(&self, id: &LinkId) -> Result<Arc<Link>, Failure> {
        let view = self.parts.handle.view();
        let link = view.state.link(id).ok_or_else(|| {
            Failure::new(ErrorCode::NotFound, format!("link {id} does not exist")).about(Noun::Link)
        })?;
        if link.owner != Some(self.parts.node) {
            let what = format!("{} does not own link {id}", self.parts.name);
            return Err(Failure::new(ErrorCode::Unreachable, what).with_hint("Ask again."));
        }
        Ok(Arc::clone(link))
    }

    fn enter(&self, id: &LinkId) -> Option<UnderWay<'_>> {
        let before = self.under_way.insert(id.clone(), ());
        before.is_none().then(|| UnderWay(&self.under_way, id.clone()))
    }

    fn place(&self, link: &Link, until: Instant) -> Place {
        let LookoutParts { site, secrets_dir, .. } = &self.parts;
        let (site, secrets_dir) = (site.clone(), secrets_dir.clone());
        Place { link: link_setup(&link.id, &link.spec), site, secrets_dir, until }
    }

    /// Scans while the link is paused, and no longer.
    async fn scan(
        &self,
        link: &Link,
        connector: Arc<dyn Connector>,
        scan: Scan,
        until: Instant,
    ) -> Result<Vec<AskedUnit>, Failure> {
        self.may_scan(&link.id)?;
        let place = self.place(link, until);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // 1. The owner's session must be closed: a bus has one master.
        while !self.session_is_closed(link) {
            if Instant::now() >= until {
                let what = format!("the owner's session on {} has not ended yet", link.id);
                return Err(Failure::new(ErrorCode::Busy, what));
            }
            looks.tick().await;
            self.may_scan(&link.id)?;
        }
        // 2. Whoever resumes the link meanwhile has the bus at once.
        let call: BoxFuture<'static, _> =
            Box::pin(async move { connector.scan(place, scan).await });
        let mut scanning = std::pin::pin!(contained(call, until + MARGIN));
        loop {
            tokio::select! {
                asked = &mut scanning => return asked,
                _ = looks.tick() => self.may_scan(&link.id)?,
            }
        }
    }

    fn may_scan(&self, id: &LinkId) -> Result<(), Failure> {
        if self.own_link(id)?.paused {
            return Ok(());
        }
        let what = format!("link {id} is in use by its owner, {}", self.parts.name);
        let hint = format!("Pause it first: flotilla link pause {id}. Resume it afterwards.");
        Err(Failure::new(ErrorCode::InUse, what).with_hint(hint))
    }

    fn session_is_closed(&self, link: &Link) -> bool {
        self.parts.observed.link(&link.id).is_some_and(|known| {
            let state = known.body.get("state").and_then(fleet_state::Value::as_text);
            known.epoch == link.epoch && state == Some(PAUSED)
        })
    }

    fn page_of_candidates(
        &self,
        found: Found,
        request: &LookRequest,
        room: usize,
    ) -> Result<Page, Failure> {
        let Found { mut candidates, problems } = found;
        candidates.sort_by(|one, other| one.address.cmp(&other.address));
        let mut page = self.empty_page();
        if request.after.is_none() {
            let cut = |text: String| text.chars().take(PROBLEM_CHARS_MAX).collect();
            page.problems = problems.into_iter().take(PROBLEMS_MAX).map(cut).collect();
        }
        let mut left = room.saturating_sub(page.problems.iter().map(String::len).sum());
        let mut last = String::new();
        let after = |candidate: &Candidate| {
            request.after.as_ref().is_none_or(|after| candidate.address > *after)
        };
        for candidate in candidates.into_iter().filter(after) {
            let address = candidate.address.clone();
            let item = raw(&body_of(candidate))?;
            let size = item.get().len().saturating_add(1);
            let full = size > left || page.items.len() >= limit_of(request);
            // At least one, however large: a page that can't move would be asked for for ever.
            if full && !page.items.is_empty() {
                page.next = Some(last);
                break;
            }
            left = left.saturating_sub(size);
            page.items.push(item);
            last = address;
        }
        Ok(page)
    }

    fn page_of_units(
        &self,
        asked: &[AskedUnit],
        scan: &Scan,
        request: &LookRequest,
    ) -> Result<Page, Failure> {
        let mut page = self.empty_page();
        let told = asked.get(..limit_of(request)).unwrap_or(asked);
        for unit in told {
            page.items.push(raw(&unit_body(unit))?);
        }
        let last = told.last().map(|unit| unit.unit);
        if let Some(last) = last.filter(|last| scan.units.last() != Some(last)) {
            page.next = Some(last.to_string());
        }
        Ok(page)
    }

    fn empty_page(&self) -> Page {
        let node = self.parts.name.to_string();
        Looked { node, items: Vec::new(), problems: Vec::new(), next: None }
    }
}

/// Runs a connector's look in a task of its own.
async fn contained<T: Send + 'static>(
    call: BoxFuture<'static, Result<T, LookError>>,
    until: Instant,
) -> Result<T, Failure> {
    let unreachable = |what: &str| Failure::new(ErrorCode::Unreachable, what);
    let task = tokio::spawn(AssertUnwindSafe(call).catch_unwind());
    let _ends_with_us = AbortOnDrop(task.abort_handle());
    match timeout_at(until, task).await {
        Ok(Ok(Ok(found))) => found.map_err(failure_of),
        Ok(Ok(Err(_)) | Err(_)) => {
            Err(Failure::new(ErrorCode::Internal, "the connector panicked while looking"))
        }
        Err(_) => Err(unreachable("what is at the other end of the link gave no answer in time")),
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn failure_of(error: LookError) -> Failure {
    let code = match error {
        LookError::Unsupported(..) => ErrorCode::Unsupported,
        LookError::Wrong(_) => ErrorCode::Malformed,
        LookError::Unreachable(_) => ErrorCode::Unreachable,
    };
    Failure::new(code, error.to_string())
}

fn limit_of(request: &LookRequest) -> usize {
    usize::try_from(request.limit).unwrap_or(usize::MAX)
}

fn unit_after(after: &str) -> Result<u8, Failure> {
    after.parse().map_err(|_| Failure::malformed("\"after\" must be a unit, as a page gave it"))
}

fn body_of(candidate: Candidate) -> CandidateBody {
    let Candidate { address, name, model, settings, warnings } = candidate;
    CandidateBody { address, name, model, settings: Json::from(settings), warnings }
}

fn unit_body(asked: &AskedUnit) -> UnitBody {
    let AskedUnit { unit, answers, identity, detail } = asked.clone();
    let [vendor, product, version] = identity;
    UnitBody { unit, answers, vendor, product, version, detail }
}

fn raw<T: Serialize>(body: &T) -> Result<Box<RawValue>, Failure> {
    to_raw_value(body).map_err(|error| {
        Failure::new(ErrorCode::Internal, format!("what was found could not be written: {error}"))
    })
}
