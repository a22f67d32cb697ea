//! `deploy/nats/`: each user can do its part and no more.
//!
//! The server runs with the shipped files, without their TLS section. A responder with
//! the agents' credentials answers everything, so that what is tested is the server's
//! permissions alone, subject by subject.
#![allow(clippy::panic, clippy::unwrap_used, reason = "this whole file is a test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use flotilla_tests::cli::Cli;
use flotilla_tests::nats_server::NatsServer;
use flotilla_tests::site::{Logins, Plan, Site};
use flotilla_tests::workplace::Workplace;
use flotilla_tests::{cli, programs, wait};
use futures_util::StreamExt as _;

const LIMIT: Duration = Duration::from_secs(10);
const USERS: [&str; 4] = ["agent", "operator", "reader", "hall2"];

/// Operator, reader, hall2: who may.
type May = [bool; 3];
const ALL: May = [true, true, true];
const SEEN: May = [true, true, false];
const AREA: May = [true, false, true];
const OPERATOR: May = [true, false, false];
const NOBODY: May = [false, false, false];

/// Who may publish to what below `flotilla.home.`: for each row of the contract's table of subjects
/// at least one, and where an area counts, inside and outside of it.
const REQUESTS: &[(&str, May)] = &[
    ("control.commands.link.register.hall2.plc", OPERATOR),
    ("control.commands.link.delete.hall2.plc", OPERATOR),
    ("control.commands.link.move.hall2.plc", OPERATOR),
    ("control.commands.link.pause.hall2.plc", OPERATOR),
    ("control.commands.link.resume.hall2.plc", OPERATOR),
    ("control.commands.device.register.hall2.lamp-1", AREA),
    ("control.commands.device.register.hall1.lamp-1", OPERATOR),
    ("control.commands.device.update.hall2.lamp-1", AREA),
    ("control.commands.device.update.hall2.line-1.lamp-1", AREA),
    ("control.commands.device.update.hall1.lamp-1", OPERATOR),
    ("control.commands.device.update.hall20.lamp-1", OPERATOR),
    ("control.commands.device.update.hall2", OPERATOR),
    ("control.commands.device.replace.hall2.lamp-1", AREA),
    ("control.commands.device.replace.hall1.lamp-1", OPERATOR),
    ("control.commands.device.delete.hall2.lamp-1", AREA),
    ("control.commands.device.delete.hall1.lamp-1", OPERATOR),
    ("control.commands.device.mode.hall2.lamp-1", AREA),
    ("control.commands.device.mode.hall1.lamp-1", OPERATOR),
    ("control.commands.device.hold.hall2.lamp-1", AREA),
    ("control.commands.device.hold.hall1.lamp-1", OPERATOR),
    ("control.commands.device.release.hall2.lamp-1", AREA),
    ("control.commands.device.release.hall1.lamp-1", OPERATOR),
    ("control.commands.device.invoke.hall2.lamp-1", AREA),
    ("control.commands.device.invoke.hall1.lamp-1", OPERATOR),
    ("control.commands.command.cancel.request-1", OPERATOR),
    ("control.commands.param.set.hall2.limit", AREA),
    ("control.commands.param.set.limit", OPERATOR),
    ("control.commands.param.delete.hall2.limit", AREA),
    ("control.commands.param.delete.hall1.limit", OPERATOR),
    ("control.commands.batch", OPERATOR),
    ("control.leader.commands.device.update.hall2.lamp-1", AREA),
    ("control.leader.commands.device.update.hall1.lamp-1", OPERATOR),
    ("control.leader.commands.param.set.hall2.limit", AREA),
    ("control.leader.commands.param.set.hall1.limit", OPERATOR),
    ("control.leader.commands.link.pause.hall2.plc", OPERATOR),
    ("control.leader.commands.batch", OPERATOR),
    ("control.query.link.get.hall2.plc", SEEN),
    ("control.query.link.list", SEEN),
    ("control.query.link.list.hall2", SEEN),
    ("control.query.link.discover.hall2.broker", SEEN),
    ("control.query.link.scan.hall2.plc", OPERATOR),
    ("control.query.device.get.hall2.lamp-1", ALL),
    ("control.query.device.get.hall1.lamp-1", SEEN),
    ("control.query.device.list", SEEN),
    ("control.query.device.list.hall2", ALL),
    ("control.query.device.list.hall2.line-1", ALL),
    ("control.query.device.list.hall1", SEEN),
    ("control.query.param.get.hall2.limit", ALL),
    ("control.query.param.get.limit", SEEN),
    ("control.query.param.list", SEEN),
    ("control.query.param.list.hall2", ALL),
    ("control.query.param.list.hall1", SEEN),
    ("control.query.member.get.1", SEEN),
    ("control.query.member.list", SEEN),
    ("control.query.token.get.0011223344556677", OPERATOR),
    ("control.query.token.list", OPERATOR),
    ("control.query.command.get.request-1", SEEN),
    ("control.query.command.list", SEEN),
    ("control.query.command.list.hall2", ALL),
    ("control.query.command.list.hall2.line-1", ALL),
    ("control.query.command.list.hall1", SEEN),
    ("control.query.site.get", SEEN),
    ("control.changes.since.0", SEEN),
    ("control.changes.since.0.device", SEEN),
    ("control.changes.since.0.token", OPERATOR),
    ("control.changes.since.0.token.a", OPERATOR),
    ("control.changes.since.0.member", SEEN),
    ("control.changes.since.0.link.hall2", SEEN),
    ("control.changes.since.0.device.hall2", ALL),
    ("control.changes.since.0.device.hall2.line-1", ALL),
    ("control.changes.since.0.device.hall1", SEEN),
    ("control.changes.since.0.param.hall2", ALL),
    ("control.changes.since.0.param.hall1", SEEN),
    ("control.changes.since.0.watermarks.hall2", ALL),
    ("control.changes.since.0.watermarks.hall2.line-1", ALL),
    ("control.changes.since.0.watermarks.hall1", SEEN),
    ("control.changes.since.0.invocation.hall2", ALL),
    ("control.changes.since.0.invocation.hall2.line-1", ALL),
    ("control.changes.since.0.invocation.hall1", SEEN),
    ("control.admin.member.join", OPERATOR),
    ("control.admin.member.remove", OPERATOR),
    ("control.admin.member.promote", OPERATOR),
    ("control.admin.member.drain", OPERATOR),
    ("control.admin.member.resume", OPERATOR),
    ("control.admin.member.label", OPERATOR),
    ("control.admin.voters.set", OPERATOR),
    ("control.admin.token.create", OPERATOR),
    ("control.admin.token.revoke", OPERATOR),
    ("control.admin.leader.transfer", OPERATOR),
    ("control.admin.snapshot.take", OPERATOR),
    ("control.admin.snapshot.info", OPERATOR),
    ("control.node.n1.status", SEEN),
    ("control.node.n1.snapshot", OPERATOR),
    ("control.node.n1.mesh", SEEN),
    ("control.node.n1.ping", OPERATOR),
    ("control.node.n1.look", OPERATOR),
    ("control.node.n1.partition", SEEN),
    ("control.all.status", SEEN),
    ("control.all.snapshot", OPERATOR),
    ("control.all.mesh", SEEN),
    ("control.all.ping", OPERATOR),
    ("control.all.look", OPERATOR),
    ("control.all.partition", SEEN),
    ("control.events.device.hall2.lamp-1", NOBODY),
    ("control.events.outcome.device.update.hall2.lamp-1", NOBODY),
    ("control.events.tick", NOBODY),
    ("control.events.way.1", NOBODY),
    ("control.events.local.hall2.lamp-1", NOBODY),
    ("control.events.foreign_write.hall2.lamp-1", NOBODY),
    ("raft.1", NOBODY),
    ("mesh", NOBODY),
    ("device.hall2.lamp-1.set", NOBODY),
];

/// Who may listen to what.
const SUBSCRIPTIONS: &[(&str, May)] = &[
    ("flotilla.home.control.events.>", OPERATOR),
    ("flotilla.home.control.events.link.>", SEEN),
    ("flotilla.home.control.events.device.>", SEEN),
    ("flotilla.home.control.events.device.hall2.>", ALL),
    ("flotilla.home.control.events.device.hall2.lamp-1", ALL),
    ("flotilla.home.control.events.device.hall1.>", SEEN),
    ("flotilla.home.control.events.device.hall20.>", SEEN),
    ("flotilla.home.control.events.param.hall2.>", ALL),
    ("flotilla.home.control.events.param.hall1.>", SEEN),
    ("flotilla.home.control.events.watermarks.hall2.>", ALL),
    ("flotilla.home.control.events.watermarks.hall1.>", SEEN),
    ("flotilla.home.control.events.invocation.hall2.>", ALL),
    ("flotilla.home.control.events.invocation.hall1.>", SEEN),
    ("flotilla.home.control.events.local.hall2.>", ALL),
    ("flotilla.home.control.events.local.hall1.>", SEEN),
    ("flotilla.home.control.events.foreign_write.hall2.>", ALL),
    ("flotilla.home.control.events.foreign_write.hall1.>", SEEN),
    ("flotilla.home.control.events.outcome.device.*.hall2.>", ALL),
    ("flotilla.home.control.events.outcome.device.*.hall1.>", SEEN),
    ("flotilla.home.control.events.outcome.param.*.hall2.>", ALL),
    ("flotilla.home.control.events.outcome.param.*.hall1.>", SEEN),
    ("flotilla.home.control.events.outcome.link.*.hall2.>", SEEN),
    ("flotilla.home.control.events.outcome.batch", SEEN),
    ("flotilla.home.control.events.member.>", SEEN),
    ("flotilla.home.control.events.way.>", SEEN),
    ("flotilla.home.control.events.token.>", OPERATOR),
    ("flotilla.home.control.events.tick", ALL),
    ("flotilla.home.control.commands.>", NOBODY),
    ("flotilla.home.control.commands.device.*.hall2.>", NOBODY),
    ("flotilla.home.control.query.>", NOBODY),
    ("flotilla.home.control.node.n1.>", NOBODY),
    ("flotilla.home.raft.>", NOBODY),
    ("flotilla.home.mesh", NOBODY),
    ("flotilla.home.device.>", NOBODY),
    ("flotilla.home.>", NOBODY),
    ("flotilla.other.>", NOBODY),
    ("_INBOX.>", NOBODY),
    ("_INBOX.agent.>", NOBODY),
    ("$SRV.>", NOBODY),
    (">", NOBODY),
];

/// Other sites' subjects and the server's own, which none of the three may use.
const FOREIGN: &[&str] = &[
    "flotilla.other.control.query.site.get",
    "flotilla.home2.control.commands.param.set.hall2.limit",
    "_INBOX.agent.x",
    "$JS.API.INFO",
    "$SYS.REQ.SERVER.PING",
];

/// The shipped files in the workplace, with an empty TLS section.
fn shipped(workplace: &Workplace) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nats");
    let to = workplace.join("conf");
    for folder in ["", "three"] {
        std::fs::create_dir_all(to.join(folder)).unwrap();
        for entry in std::fs::read_dir(from.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "conf") {
                std::fs::copy(&path, to.join(folder).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    std::fs::write(to.join("tls.conf"), "").unwrap();
    to
}

fn password(user: &str) -> String {
    format!("secret-of-{user}")
}

fn environment() -> Vec<(String, String)> {
    let name = |user: &str| format!("NATS_{}_PASSWORD", user.to_uppercase());
    USERS.iter().map(|user| (name(user), password(user))).collect()
}

struct User {
    client: Client,
    errors: Arc<Mutex<Vec<String>>>,
}

impl User {
    async fn connect(url: &str, user: &str) -> Self {
        let errors: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&errors);
        let client = ConnectOptions::with_user_and_password(user.to_owned(), password(user))
            .custom_inbox_prefix(format!("_INBOX.{user}"))
            .request_timeout(Some(LIMIT))
            .event_callback(move |event| {
                let seen = Arc::clone(&seen);
                async move {
                    if let Event::ServerError(error) = event {
                        seen.lock().unwrap().push(error.to_string().to_lowercase());
                    }
                }
            })
            .connect(url)
            .await
            .unwrap();
        Self { client, errors }
    }

    /// Waits for the server's word that this user may not use `subject` for `deed`.
    async fn await_refusal(&self, deed: &str, subject: &str) {
        let wanted = format!("permissions violation for {deed} to \"{subject}\"").to_lowercase();
        wait::until_true(&format!("the server refuses {deed} to {subject}"), LIMIT, || async {
            self.errors.lock().unwrap().iter().any(|error| error.contains(&wanted))
        })
        .await;
    }

    /// Waits until the server has judged everything sent so far: it answers one thing after the
    /// other, and to publish here nobody may. Flushing only hands it to the network.
    async fn settle(&self) {
        const FORBIDDEN: &str = "nobody.may.publish.here";
        self.client.publish(FORBIDDEN, "".into()).await.unwrap();
        self.await_refusal("publish", FORBIDDEN).await;
        self.errors.lock().unwrap().retain(|error| !error.contains(FORBIDDEN));
    }

    fn was_refused(&self, subject: &str) -> bool {
        let quoted = format!("\"{}\"", subject.to_lowercase());
        self.errors.lock().unwrap().iter().any(|error| error.contains(&quoted))
    }
}

/// Answers everything that reaches an agent.
async fn respond_as_agent(url: &str) -> User {
    let agent = User::connect(url, "agent").await;
    let mut requests = agent.client.subscribe("flotilla.home.>").await.unwrap();
    agent.settle().await;
    let client = agent.client.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply {
                client.publish(reply, "{}".into()).await.unwrap();
            }
        }
    });
    agent
}

fn start(workplace: &Workplace) -> NatsServer {
    let config = shipped(workplace).join("single.conf");
    NatsServer::start_with_environment(workplace.path(), &config, &environment())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_may_ask_for_its_part_and_no_more() {
    let workplace = Workplace::new();
    let server = start(&workplace);
    let agent = respond_as_agent(&server.url()).await;
    for (column, name) in ["operator", "reader", "hall2"].iter().enumerate() {
        let user = User::connect(&server.url(), name).await;
        for (rest, may) in REQUESTS {
            let subject = format!("flotilla.home.{rest}");
            if may.get(column) == Some(&true) {
                let reply = user.client.request(subject.clone(), "".into()).await;
                assert!(reply.is_ok(), "{name} may ask {subject}: {reply:?} {:?}", user.errors);
            } else {
                user.client.publish(subject.clone(), "".into()).await.unwrap();
                user.await_refusal("publish", &subject).await;
            }
        }
        for subject in FOREIGN {
            user.client.publish(*subject, "".into()).await.unwrap();
            user.await_refusal("publish", subject).await;
        }
    }
    assert!(agent.errors.lock().unwrap().is_empty(), "{:?}", agent.errors);
}

/// Whether a subject is one of those that a row of the contract's table stands for.
fn is_of_row(row: &str, subject: &str) -> bool {
    // An id has dots, a name has none; a row's id comes last.
    let parts: Vec<&str> = row.split('.').collect();
    let tokens: Vec<&str> = subject.split('.').collect();
    let Some(last) = parts.last() else { return false };
    let is_id = ["<id>", "<key>", "<area>", "<device>", "<command>"].contains(last);
    let fits = if is_id { tokens.len() >= parts.len() } else { tokens.len() == parts.len() };
    fits && parts.iter().zip(&tokens).all(|(part, token)| part.starts_with('<') || part == token)
}

#[test]
fn the_tables_above_have_every_row_of_the_contract() {
    let contract = include_str!("../../docs/protocol.md");
    let section = contract.split_once("\n## Subjects\n").unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let rows: Vec<&str> = rows.collect();
    assert!(rows.len() > 60, "{} rows", rows.len());
    for row in rows {
        let asked = REQUESTS.iter().any(|(subject, _)| is_of_row(row, subject));
        assert!(asked, "nobody is tested to ask {row}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_may_listen_to_its_part_and_no_more() {
    let workplace = Workplace::new();
    let server = start(&workplace);
    for (column, name) in ["operator", "reader", "hall2"].iter().enumerate() {
        let user = User::connect(&server.url(), name).await;
        for (subject, may) in SUBSCRIPTIONS {
            let _held = user.client.subscribe(*subject).await.unwrap();
            user.settle().await;
            if may.get(column) == Some(&true) {
                assert!(!user.was_refused(subject), "{name} may listen to {subject}");
            } else if !is_narrowed(name, subject) {
                user.await_refusal("subscription", subject).await;
            }
        }
    }
}

/// The server lets a reader listen to all events and leaves the denied ones out.
fn is_narrowed(user: &str, subject: &str) -> bool {
    user == "reader" && subject == "flotilla.home.control.events.>"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_all_events_is_not_told_of_tokens() {
    let workplace = Workplace::new();
    let server = start(&workplace);
    let agent = User::connect(&server.url(), "agent").await;
    let reader = User::connect(&server.url(), "reader").await;
    let events = reader.client.subscribe("flotilla.home.control.events.>").await.unwrap();
    let events = tokio::sync::Mutex::new(events);
    // Again and again, because the server may hear of the subscription after the first ones.
    let first = wait::until("the reader is told of the device", LIMIT, || async {
        for subject in ["token.0011223344556677", "device.hall2.lamp-1"] {
            let subject = format!("flotilla.home.control.events.{subject}");
            agent.client.publish(subject, "".into()).await.ok()?;
        }
        let told = async { events.lock().await.next().await };
        tokio::time::timeout(Duration::from_millis(100), told).await.ok().flatten()
    })
    .await;
    assert_eq!(first.subject.as_str(), "flotilla.home.control.events.device.hall2.lamp-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_password() {
    let workplace = Workplace::new();
    let server = start(&workplace);
    assert!(async_nats::connect(server.url()).await.is_err());
    let wrong = ConnectOptions::with_user_and_password("agent".to_owned(), "guess".to_owned());
    assert!(wrong.connect(server.url()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_site_runs_with_these_users_and_each_does_its_part() {
    let shipped_to = Workplace::new();
    let login = |user: &str| (user.to_owned(), password(user));
    let operator = login("operator");
    let logins = Logins {
        config: shipped(&shipped_to).join("single.conf"),
        environment: environment(),
        agent: login("agent"),
        operator: (operator.0, operator.1, "_INBOX.operator".to_owned()),
    };
    let site = Site::start_as(Plan { logins: Some(logins), ..Plan::of(3) }).await;
    site.cli.run(&["device", "register", "hall2.lamp-1"]).expect_code(0);
    site.cli.run(&["device", "register", "hall1.lamp-1"]).expect_code(0);
    site.cli.run(&["status"]).expect_code(0);

    let url = site.nats.url();
    let as_user = |user: &str| {
        Cli::new(&url, "home").with_login(user, &password(user), &format!("_INBOX.{user}"))
    };
    let reader = as_user("reader");
    reader.run(&["device", "ls"]).expect_code(0);
    reader.run(&["status"]).expect_code(0);
    reader.run(&["partition", "report"]).expect_code(0);
    reader.run(&["device", "set", "hall2.lamp-1", "on=true"]).expect_code(6);
    reader.run(&["token", "create"]).expect_code(6);
    let hall2 = as_user("hall2");
    hall2.run(&["device", "set", "hall2.lamp-1", "on=true"]).expect_code(0);
    hall2.run(&["device", "get", "hall2.lamp-1"]).expect_code(0);
    hall2.run(&["device", "set", "hall1.lamp-1", "on=true"]).expect_code(6);
    hall2.run(&["device", "ls"]).expect_code(6);
    let stranger = Cli::new(&url, "home").with_login("agent", "guess", "_INBOX");
    stranger.run(&["status"]).expect_code(6);
}

#[test]
fn every_shipped_configuration_is_valid() {
    let workplace = Workplace::new();
    let folder = shipped(&workplace);
    for file in ["single.conf", "three/a.conf", "three/b.conf", "three/c.conf"] {
        let mut command = Command::new(programs::nats_server());
        command.arg("-t").arg("-c").arg(folder.join(file)).envs(environment());
        cli::run(command, "").expect_code(0);
    }
}

#[test]
fn a_server_without_a_password_set_does_not_start() {
    let workplace = Workplace::new();
    let mut command = Command::new(programs::nats_server());
    command.arg("-t").arg("-c").arg(shipped(&workplace).join("single.conf"));
    command.envs(environment().into_iter().skip(1));
    let done = cli::run(command, "").expect_code(1);
    assert!(done.stderr.contains("NATS_AGENT_PASSWORD"), "{}", done.stderr);
}
