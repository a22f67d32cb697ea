//! Queries, changes, events and replies, made from a real state and read back as a client does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use fleet_protocol::{
    AdminOp, ChangesPage, ChangesRequest, ChangesTarget, CommandTarget, Consistency, ErrorCode,
    Failure, Noun, Query, QueryTarget, Subjects,
    changes::{self, ChangeBody, Cursor, PageKind},
    event::{self, ChangeEvent, OutcomeEvent},
    query::{self, Item, Page, PageRequest, ReadContext, ReadMark},
    record::{CommandBody, DeviceBody, LinkBody, MemberBody, ParamBody, SiteBody},
    reply::{self, Beside, Committed, Failed},
    request,
};
use fleet_state::{
    AgentCommand, Answer, Body, Change, Command, Entry, FleetState, FoundingMember, FoundingParams,
    NodeId, NodeKeys, Proposal, RequestId, Revision, SiteUid, Stage,
};

fn id(text: &str) -> RequestId {
    text.parse().expect("a request id")
}

struct Site {
    state: FleetState,
    revision: u64,
    observer: Option<Eyes>,
}

/// Sees one lamp that is not as it should be, over a link and in an epoch, and when it last saw any.
#[derive(Debug)]
struct Eyes {
    link: &'static str,
    epoch: u64,
    silent_ms: u64,
}

impl query::ObservedDevices for Eyes {
    fn observed(&self, device: &fleet_state::DeviceId) -> Option<query::Told> {
        let on = r#"{"availability":"online","reported":{"on":{"quality":"good","value":false}}}"#;
        let json = fleet_protocol::Json::parse(on.as_bytes()).unwrap();
        let mut body = json.0.as_map().unwrap().clone();
        if device.as_str() == "hall2.a" {
            body.insert("drift", "on");
        }
        Some(query::Told { body, link: Some(self.link.parse().unwrap()), epoch: self.epoch })
    }

    fn observed_link(&self, link: &fleet_state::LinkId) -> Option<query::Told> {
        let mut body = fleet_state::Object::new();
        body.insert("state", "connected");
        Some(query::Told { body, link: Some(link.clone()), epoch: self.epoch })
    }

    fn silent_ms(&self, _node: NodeId) -> u64 {
        self.silent_ms
    }
}

impl Site {
    fn new() -> Self {
        let member = FoundingMember {
            name: "gw-1".parse().unwrap(),
            keys: NodeKeys { sign: [1; 32], exchange: [2; 32] },
            credential: [3; 64],
        };
        let state = FleetState::found(FoundingParams {
            site: "home".parse().unwrap(),
            uid: SiteUid::from_bytes([4; 16]),
            site_public_key: [5; 32],
            member,
            voters: 5,
            feature_level: fleet_state::limits::FEATURE_LEVEL,
            token: None,
            wall_time_ms: 1_000,
        });
        Self { state, revision: 1, observer: None }
    }

    /// Sends a command the way a client does and applies it.
    fn send(&mut self, what: &str, payload: &str) -> (Answer, Vec<Change>) {
        let subjects = Subjects::new(&"home".parse().unwrap());
        let subject = format!("flotilla.home.control.{what}");
        let incoming = request::Incoming { subject: &subject, payload: payload.as_bytes() };
        self.revision += 1;
        let fallback = id(&format!("r-{}", self.revision));
        let request = request::parse(&subjects, &"gw-1".parse().unwrap(), incoming, [], fallback);
        let request::Action::Command(command) = request.expect(payload).action else {
            panic!("{what} is not a command")
        };
        self.apply(command.proposal)
    }

    fn apply(&mut self, proposal: Proposal) -> (Answer, Vec<Change>) {
        let entry = Entry {
            log_time_ms: self.revision,
            wall_time_ms: 5_000,
            body: Body::Proposal(proposal),
        };
        let applied = self.state.apply(Revision::new(self.revision), &entry);
        (applied.answer.expect("every proposal is answered"), applied.changes)
    }

    /// Gives the link to the founder, or takes it from everybody; gives back its epoch then.
    fn assigns(&mut self, owner: Option<NodeId>) -> u64 {
        let link = "plc".parse().unwrap();
        let expect_epoch = self.state.link(&link).unwrap().epoch;
        let command = AgentCommand::LinkAssign { link, expect_epoch, owner };
        self.revision += 1;
        let request_id = id(&format!("r-{}", self.revision));
        let command = Command::Agents(command);
        self.apply(Proposal { request_id, if_revision: None, actor: None, command });
        self.state.link(&"plc".parse().unwrap()).unwrap().epoch
    }

    fn with_devices() -> Self {
        let mut site = Self::new();
        site.send(
            "commands.link.register.plc",
            r#"{"connector":"sim","address":"x","placement":{"on":"gw-1"}}"#,
        );
        for device in ["hall2", "hall2-b", "hall2.a", "hall2.b", "hall2.b.c", "hall3.a"] {
            let body = format!(r#"{{"link":"plc","labels":{{"name":"{device}"}}}}"#);
            site.send(&format!("commands.device.register.{device}"), &body);
        }
        site.send("commands.device.update.hall2.a", r#"{"on":true,"speed":18446744073709551615}"#);
        site
    }

    fn answer(&self, query: &Query, page_bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let request_id = id("q-1");
        let context = ReadContext {
            request_id: &request_id,
            mark: ReadMark {
                consistency: query.consistency,
                revision: self.state.last_applied(),
                age_ms: None,
            },
            leader: Some(NodeId::FOUNDER),
            term: 3,
            page_bytes_max,
            observed: self.observer.as_ref().map(|eyes| eyes as &dyn query::ObservedDevices),
        };
        query::answer(query, &self.state, &context).map(|message| message.payload)
    }

    fn get<T: for<'de> serde::Deserialize<'de>>(&self, target: QueryTarget) -> Item<T> {
        let query =
            Query { target, consistency: Consistency::Linearizable, page: PageRequest::default() };
        reply::read::<Item<T>>(&self.answer(&query, 10_000).unwrap()).unwrap().unwrap()
    }

    fn list_devices(
        &self,
        area: Option<&str>,
        page: PageRequest,
        bytes: usize,
    ) -> Page<DeviceBody> {
        let target =
            QueryTarget::List { noun: Noun::Device, area: area.map(|area| area.parse().unwrap()) };
        let query = Query { target, consistency: Consistency::Stale, page };
        reply::read(&self.answer(&query, bytes).unwrap()).unwrap().unwrap()
    }
}

fn ids(devices: &[DeviceBody]) -> Vec<&str> {
    devices.iter().map(|device| device.id.as_str()).collect()
}

#[test]
fn single_things_are_read_back() {
    let site = Site::with_devices();
    let device: Item<DeviceBody> =
        site.get(QueryTarget::Get(changes::parse_after("device.hall2.a").unwrap()));
    assert_eq!(device.item.desired.0.to_json(), r#"{"on":true,"speed":18446744073709551615}"#);
    assert_eq!(device.item.link.as_deref(), Some("plc"));
    assert_eq!(device.revision, site.revision);
    assert_eq!(device.consistency, "linearizable");
    let link: Item<LinkBody> =
        site.get(QueryTarget::Get(changes::parse_after("link.plc").unwrap()));
    assert_eq!(serde_json::to_string(&link.item.placement).unwrap(), r#"{"on":"gw-1"}"#);
    let member: Item<MemberBody> =
        site.get(QueryTarget::Get(changes::parse_after("member.1").unwrap()));
    assert_eq!((member.item.name.as_str(), member.item.role.as_str()), ("gw-1", "voter"));
    assert_eq!(member.item.credential, Some("03".repeat(64)));
    let body: Item<SiteBody> = site.get(QueryTarget::Site);
    assert_eq!(
        (body.item.devices, body.item.links, body.item.voters, body.item.leader),
        (6, 1, 1, Some(1))
    );
    assert_eq!(body.item.digests["combined"], site.state.digests().combined().to_string());
}

#[test]
fn what_is_not_there_is_said() {
    let site = Site::new();
    let target = QueryTarget::Get(changes::parse_after("param.a.b").unwrap());
    let query = Query { target, consistency: Consistency::Stale, page: PageRequest::default() };
    let failure = site.answer(&query, 100).unwrap_err();
    assert_eq!(
        (failure.code, failure.message.as_str()),
        (ErrorCode::NotFound, "parameter a.b does not exist")
    );
}

#[test]
fn lists_keep_to_their_area() {
    let site = Site::with_devices();
    let all = |area| site.list_devices(area, PageRequest::default(), 1 << 20);
    assert_eq!(
        ids(&all(None).items),
        ["hall2", "hall2-b", "hall2.a", "hall2.b", "hall2.b.c", "hall3.a"]
    );
    assert_eq!(ids(&all(Some("hall2")).items), ["hall2", "hall2.a", "hall2.b", "hall2.b.c"]);
    assert_eq!(ids(&all(Some("hall2.b")).items), ["hall2.b", "hall2.b.c"]);
    assert!(all(Some("hall")).items.is_empty());
    assert!(all(Some("a.b.c.d.e.f")).items.is_empty());
}

#[test]
fn pages_join_to_the_whole_list() {
    let site = Site::with_devices();
    let whole = site.list_devices(Some("hall2"), PageRequest::default(), 1 << 20);
    for (limit, bytes) in [(1, 1 << 20), (2, 1 << 20), (1_000, 1), (1_000, 400)] {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = site.list_devices(
                Some("hall2"),
                PageRequest { limit, after, ..PageRequest::default() },
                bytes,
            );
            assert!(!page.items.is_empty() && page.items.len() <= limit as usize);
            found.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, whole.items, "limit {limit}, {bytes} bytes");
    }
    // A page may begin before its area.
    let page = PageRequest { after: Some("a".to_owned()), ..PageRequest::default() };
    assert_eq!(site.list_devices(Some("hall2"), page, 1 << 20).items, whole.items);
}

#[test]
fn labels_filter() {
    let site = Site::with_devices();
    let labels = [("name".into(), "hall2.b".into())].into();
    let page = site.list_devices(None, PageRequest { labels, ..PageRequest::default() }, 1 << 20);
    assert_eq!(ids(&page.items), ["hall2.b"]);
}

fn follow(site: &Site, target: ChangesTarget, limit: u32, bytes: usize) -> Vec<ChangeBody> {
    let request = ChangesRequest { target, after: None, limit, stream: false };
    let mut cursor: Cursor = request.cursor();
    let mut found = Vec::new();
    loop {
        let built = changes::page(&request, &cursor, &site.state, bytes).unwrap();
        let message = changes::page_message(&id("c"), PageKind::Page, 1, &built);
        let page: ChangesPage = reply::read(&message.payload).unwrap().unwrap();
        found.extend(page.changes);
        // The cursor as a client would send it.
        let after = page.after.as_deref().map(|after| changes::parse_after(after).unwrap());
        cursor = Cursor { revision: Revision::new(page.revision), after };
        assert_eq!(cursor, built.next);
        if !page.more {
            assert_eq!(page.revision, site.revision);
            return found;
        }
    }
}

#[test]
fn changes_join_to_the_whole_however_the_pages_are_cut() {
    let mut site = Site::with_devices();
    let batch: Vec<String> =
        (0..20).map(|n| format!(r#"{{"op":"param.set","id":"p.{n}","body":{n}}}"#)).collect();
    site.send("commands.batch", &format!("[{}]", batch.join(",")));
    site.send("commands.param.delete.p.3", "");
    let target = |since, noun, area: Option<&str>| ChangesTarget {
        since: Revision::new(since),
        noun,
        area: area.map(|area| area.parse().unwrap()),
    };
    let whole = follow(&site, target(0, None, None), 1_000, 1 << 20);
    assert_eq!(whole.len(), 1 + 1 + 6 + 20);
    assert!(whole.windows(2).all(|pair| pair[0].revision <= pair[1].revision));
    let gone = whole.last().unwrap();
    assert_eq!((gone.id.as_str(), gone.deleted, &gone.record), ("p.3", true, &None));
    for (limit, bytes) in [(1, 1 << 20), (3, 1 << 20), (1_000, 1)] {
        assert_eq!(
            follow(&site, target(0, None, None), limit, bytes),
            whole,
            "limit {limit}, {bytes} bytes"
        );
    }
    let params = follow(&site, target(0, Some(Noun::Param), None), 7, 1 << 20);
    assert_eq!(params.len(), 20);
    let param: ParamBody =
        serde_json::from_str(&params[0].record.as_ref().unwrap().0.to_json()).unwrap();
    assert_eq!(param.key, params[0].id);
    let hall = follow(&site, target(2, Some(Noun::Device), Some("hall2")), 7, 1 << 20);
    assert_eq!(hall.len(), 4);
    assert!(follow(&site, target(site.revision, None, None), 1, 1).is_empty());
}

#[test]
fn events_carry_their_place() {
    let mut site = Site::with_devices();
    let batch = r#"[{"op":"param.set","id":"a","body":1},{"op":"device.delete","id":"hall2.b"}]"#;
    let (answer, changes) = site.send("commands.batch", batch);
    let events = event::change_events(answer.revision, 77, &changes).unwrap();
    let events: Vec<ChangeEvent> =
        events.iter().map(|payload| serde_json::from_slice(payload).unwrap()).collect();
    assert_eq!(events.len(), 2);
    for (at, event) in events.iter().enumerate() {
        assert_eq!((event.part, event.parts, event.wall_time_ms), (at + 1, 2, 77));
        assert_eq!(event.change.revision, answer.revision.get());
    }
    let deleted = events.iter().find(|event| event.change.deleted).unwrap();
    assert_eq!(deleted.change.id, "hall2.b");
    assert!(deleted.change.previous.is_some());
}

#[test]
fn replies_are_read_back() {
    let mut site = Site::new();
    let (answer, _) = site.send("commands.param.set.a", "1");
    let message = reply::answered(&id("x"), &answer, Beside::stage(Stage::Committed));
    assert!(message.headers.is_empty());
    let committed: Committed = reply::read(&message.payload).unwrap().unwrap();
    assert_eq!(
        (committed.request_id.as_str(), committed.revision, committed.changed),
        ("x", 2, true)
    );

    let (answer, _) = site.send("commands.param.set.a", "1");
    let message = reply::answered(&id("x"), &answer, Beside::stage(Stage::Committed));
    let unchanged: Committed = reply::read(&message.payload).unwrap().unwrap();
    assert!(!unchanged.changed);
    assert_eq!(unchanged.thing_revision, None);
    let beside =
        Beside { thing_revision: Some(Revision::new(2)), ..Beside::stage(Stage::Committed) };
    let message = reply::answered(&id("x"), &answer, beside);
    let unchanged: Committed = reply::read(&message.payload).unwrap().unwrap();
    assert_eq!(unchanged.thing_revision, Some(2));

    let (answer, _) = site.send("commands.device.update.nobody", "{}");
    let message = reply::answered(&id("y"), &answer, Beside::stage(Stage::Committed));
    let failed: Failed = reply::read::<Committed>(&message.payload).unwrap().unwrap_err();
    assert_eq!(failed.error.code(), Some(ErrorCode::NotFound));
    assert_eq!(failed.revision, Some(answer.revision.get()), "what the log decided is final");
    let beside = Beside { noun: Some(Noun::Param), ..Beside::stage(Stage::Committed) };
    let hinted = reply::answered(&id("y"), &answer, beside);
    let hinted: Failed = reply::read::<Committed>(&hinted.payload).unwrap().unwrap_err();
    assert!(hinted.error.hint.contains("flotilla param ls"), "{}", hinted.error.hint);
    assert_eq!(message.headers[1], (reply::SERVICE_ERROR_CODE_HEADER, "404".to_owned()));

    let message = reply::failed(None, &Failure::new(ErrorCode::Busy, "too much\r\nto do: ä"));
    let failed: Failed = reply::read::<Committed>(&message.payload).unwrap().unwrap_err();
    assert_eq!((failed.revision, failed.error.retryable), (None, true));
    assert_eq!(message.headers[0].1, "too much??to do: ?", "a header is one line of ASCII");

    let target = CommandTarget::ParamSet("a".parse().unwrap());
    let outcome: OutcomeEvent = serde_json::from_slice(&event::outcome(&target, &message)).unwrap();
    assert_eq!((outcome.op.as_str(), outcome.id.as_deref()), ("param.set", Some("a")));
}

#[test]
fn a_reply_that_is_not_ours_is_an_error_and_not_an_answer() {
    for payload in ["", "{", "[]", "{\"ok\":1}", "{\"ok\":true}", "{\"ok\":false}"] {
        assert!(reply::read::<Committed>(payload.as_bytes()).is_err(), "{payload}");
    }
}

/// Every rejection that the log can give has a code of the same name in the contract.
#[test]
fn rejections_keep_their_names() {
    for code in fleet_state::RejectCode::ALL {
        assert_eq!(ErrorCode::from(*code).as_str(), code.as_str());
    }
    assert_eq!(AdminOp::ALL.len(), 12);
}

#[test]
fn changes_are_told_from_a_revision_that_the_site_came_to() {
    let at = |revision| Cursor { revision: Revision::new(revision), after: None };
    for known in [0, 4, 5] {
        assert_eq!(changes::check_since(&at(known), Revision::new(5)), Ok(()));
    }
    let failure = changes::check_since(&at(6), Revision::new(5)).unwrap_err();
    assert_eq!(failure.code, ErrorCode::RevisionAhead);
    assert!(failure.message.contains("at revision 5") && failure.message.contains("since 6"));
}

#[test]
fn a_device_is_shown_with_what_is_known_beside_it() {
    let mut site = Site::with_devices();
    let get = |site: &Site, id: &str| {
        let target = QueryTarget::Get(fleet_state::Entity::Device(id.parse().unwrap()));
        site.get::<DeviceBody>(target).item
    };
    let lamp = get(&site, "hall2.a");
    assert_eq!((lamp.mode.as_str(), lamp.stage.as_deref()), ("observe", Some("committed")));
    assert_eq!(lamp.wishes["on"].stage.as_deref(), Some("committed"));
    assert_eq!((lamp.owner, lamp.epoch.is_some()), (None, true));
    assert!(lamp.observed.is_none() && get(&site, "hall3.a").stage.is_none());
    let epoch = site.assigns(Some(NodeId::FOUNDER));
    site.observer = Some(Eyes { link: "plc", epoch, silent_ms: 0 });
    let seen = get(&site, "hall2.a").observed.unwrap();
    let good = r#"{"availability":"online","drift":"on","reported":{"on":{"quality":"good","value":false}}}"#;
    assert_eq!(seen.0.to_json(), good);
    let page = PageRequest { drift: true, ..PageRequest::default() };
    let query = Query {
        target: QueryTarget::List { noun: Noun::Device, area: None },
        consistency: Consistency::Linearizable,
        page,
    };
    let reply = site.answer(&query, 10_000).unwrap();
    let found = reply::read::<Page<DeviceBody>>(&reply).unwrap().unwrap();
    assert_eq!(found.items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["hall2.a"]);
}

#[test]
fn what_nobody_could_tell_otherwise_any_more_is_in_doubt() {
    type Change = fn(&mut Site);
    let cases: [(&str, Change, Option<&str>, Option<&str>); 7] = [
        ("as told", |_| (), Some(""), Some("connected")),
        (
            "its gateway is silent",
            |site| site.observer.as_mut().unwrap().silent_ms = query::SILENT_MS_MAX + 1,
            Some("its gateway, node 1, has told nothing for 75 s"),
            Some("unknown"),
        ),
        (
            "paused",
            |site| drop(site.send("commands.link.pause.plc", "")),
            Some("its link is paused"),
            Some("connected"),
        ),
        (
            "another epoch",
            |site| site.observer.as_mut().unwrap().epoch -= 1,
            Some("its link has another owner now, which has told nothing of it yet"),
            None,
        ),
        (
            "unowned",
            |site| {
                site.assigns(None);
            },
            Some("no node owns its link: one that fits its placement will take it"),
            Some("unowned"),
        ),
        (
            "over another link",
            |site| site.observer.as_mut().unwrap().link = "other",
            None,
            Some("connected"),
        ),
        ("nothing is known", |site| site.observer = None, None, None),
    ];
    for (what, change, note, link_state) in cases {
        let mut site = Site::with_devices();
        let epoch = site.assigns(Some(NodeId::FOUNDER));
        site.observer = Some(Eyes { link: "plc", epoch, silent_ms: 0 });
        change(&mut site);
        let target = QueryTarget::Get(fleet_state::Entity::Device("hall2.b".parse().unwrap()));
        let seen = site.get::<DeviceBody>(target).item.observed.map(|seen| seen.0.to_json());
        let expected = note.map(|note| match note {
            "" => r#"{"availability":"online","reported":{"on":{"quality":"good","value":false}}}"#
                .to_owned(),
            note => format!(
                r#"{{"availability":"unknown","note":"{note}","reported":{{"on":{{"quality":"uncertain","value":false}}}}}}"#
            ),
        });
        assert_eq!(seen, expected, "{what}");
        let target = QueryTarget::Get(fleet_state::Entity::Link("plc".parse().unwrap()));
        let link = site.get::<LinkBody>(target).item.observed;
        let state =
            link.and_then(|link| Some(link.0.as_map()?.get("state")?.as_text()?.to_owned()));
        assert_eq!(state.as_deref(), link_state, "{what}");
    }
}

#[test]
fn commands_are_listed_newest_first() {
    let mut site = Site::with_devices();
    site.send("commands.device.mode.hall2.a", "\"auto\"");
    site.send("commands.device.invoke.hall2.a", r#"{"action":"blink","args":{"n":3}}"#);
    site.send("commands.device.invoke.hall2", r#"{"action":"blink"}"#);
    let list = |area: Option<&str>, after: Option<String>, limit: u32| {
        let area = area.map(|area| area.parse().unwrap());
        let query = Query {
            target: QueryTarget::List { noun: Noun::Command, area },
            consistency: Consistency::Linearizable,
            page: PageRequest { limit, after, ..PageRequest::default() },
        };
        reply::read::<Page<CommandBody>>(&site.answer(&query, 100_000).unwrap()).unwrap().unwrap()
    };
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = list(None, after, 2);
        seen.extend(page.items.iter().map(|item| item.revision));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let all: Vec<u64> = (2..=site.revision).rev().collect();
    assert_eq!(seen, all);
    let ops: Vec<_> =
        list(Some("hall2.a"), None, 3).items.into_iter().map(|item| item.op).collect();
    assert_eq!(ops, ["device.invoke", "device.mode", "device.update"]);
    let newest = &list(None, None, 2).items;
    assert_eq!(
        (newest[0].outcome.as_str(), newest[0].code.as_deref()),
        ("rejected", Some("blocked"))
    );
    let invoked = &newest[1];
    assert_eq!(invoked.action.as_deref(), Some("blink"));
    assert_eq!(
        (invoked.stage.as_deref(), invoked.id.as_deref()),
        (Some("committed"), Some("hall2.a"))
    );
    let one = site.get::<CommandBody>(QueryTarget::Command(id(&invoked.request_id))).item;
    assert_eq!(one, *invoked);
    let query = Query {
        target: QueryTarget::Command(id("never")),
        consistency: Consistency::Linearizable,
        page: PageRequest::default(),
    };
    assert_eq!(site.answer(&query, 10_000).unwrap_err().code, ErrorCode::NotFound);
}
