//! Contexts of the `nats` command: who has one needs to say nothing else.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use flotilla_tests::agent::Agent;
use flotilla_tests::bare::BareClient;
use flotilla_tests::cli::{self, Finished};
use flotilla_tests::nats_server::NatsServer;
use flotilla_tests::pki::Pki;
use flotilla_tests::site::READY_LIMIT;
use flotilla_tests::workplace::Workplace;
use flotilla_tests::{programs, wait};
use serde_json::{Value, json};

const SERVER: &str = r#"
authorization {
  users: [
    { user: agent, password: a-secret }
    { user: me, password: my-secret, permissions: {
        publish: "flotilla.home.control.>", subscribe: "_INBOX.me.>" } }
  ]
}
"#;

/// A machine whose user has told the `nats` command about servers.
struct Machine {
    // Before the workplace, so that the process is gone before its files.
    nats: NatsServer,
    workplace: Workplace,
}

impl Machine {
    fn new() -> Self {
        let workplace = Workplace::new();
        let nats = NatsServer::start_with(workplace.path(), SERVER);
        fs::create_dir_all(workplace.join("xdg/nats/context")).unwrap();
        Self { nats, workplace }
    }

    fn context(&self, name: &str, value: &Value) {
        let path = self.workplace.join("xdg/nats/context").join(format!("{name}.json"));
        fs::write(path, value.to_string()).unwrap();
    }

    fn xdg(&self) -> PathBuf {
        self.workplace.join("xdg")
    }

    /// The command line as on that machine: with the context, and nothing of ours.
    fn flotilla(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(programs::cli());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FLOTILLA_") {
                command.env_remove(name);
            }
        }
        command.env("XDG_CONFIG_HOME", self.xdg()).env("NO_COLOR", "1").args(arguments);
        cli::run(command, "")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_and_the_command_line_find_their_server_and_login_in_contexts() {
    let machine = Machine::new();
    let url = machine.nats.url();
    machine.context("site", &json!({"url": url, "user": "agent", "password": "a-secret"}));
    machine.context(
        "home",
        &json!({
            "description": "my site", "url": url, "user": "me", "password": "my-secret",
            "inbox_prefix": "_INBOX.me", "jetstream_domain": "",
        }),
    );
    let config = "[nats]\ncontext = \"site\"\n[mesh]\nenabled = false\n";
    let mut agent = Agent::prepare(machine.workplace.path(), "n1", config);
    agent.set_environment("XDG_CONFIG_HOME", machine.xdg().to_str().unwrap());
    agent.init("home", 1);
    agent.start();
    let options =
        async_nats::ConnectOptions::with_user_and_password("me".into(), "my-secret".into())
            .custom_inbox_prefix("_INBOX.me");
    let client = BareClient::connect_with(options, &url, "home").await;
    wait::until_true("the agent serves", READY_LIMIT, || async {
        client.hasty().request("control.query.site.get", "").await.is_ok()
    })
    .await;

    machine
        .flotilla(&["--context", "home", "--site", "home", "param", "set", "a", "1"])
        .expect_code(0);
    let get = ["--context", "home", "--site", "home", "param", "get", "a", "-o", "json"];
    assert_eq!(machine.flotilla(&get).expect_code(0).json()["value"], json!(1));
    // What is said on the command line counts more than the context.
    let other = ["--context", "home", "--server", "nats://127.0.0.1:1", "--site", "home", "status"];
    let done = machine.flotilla(&other).expect_code(5);
    assert!(done.stderr.contains("127.0.0.1:1"), "{}", done.stderr);
    agent.stop().await;
}

#[test]
fn a_context_that_can_not_be_used_is_told_by_its_name() {
    let machine = Machine::new();
    machine.context("proxied", &json!({"url": machine.nats.url(), "socks_proxy": "socks5://p"}));
    fs::write(machine.xdg().join("nats/context/broken.json"), "{").unwrap();
    let long = "x".repeat(10_000);
    for (name, word) in [
        ("missing", "missing.json"),
        ("broken", "broken.json"),
        ("proxied", "socks_proxy"),
        ("../home", "name of a context"),
        ("a\u{1b}[2J", "name of a context"),
        (&long, "name of a context"),
    ] {
        let done = machine.flotilla(&["--context", name, "status"]).expect_code(2);
        assert!(done.stderr.contains(word), "{name:?}: {}", done.stderr);
        assert!(!done.stderr.contains('\u{1b}') && done.stderr.len() < 2_000, "{}", done.stderr);
    }
    let config = "[nats]\ncontext = \"missing\"\n";
    let mut agent = Agent::prepare(machine.workplace.path(), "n1", config);
    agent.set_environment("XDG_CONFIG_HOME", machine.xdg().to_str().unwrap());
    let done = agent.run_once(&["init", "--site", "home"]).expect_code(1);
    assert!(done.stderr.contains("missing.json"), "{}", done.stderr);
    assert!(!agent.data_dir().exists(), "nothing is made before the connection is clear");
}

/// A server that speaks plainly, once; gives all that its client has said.
fn plain_server() -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let info = r#"{"server_id":"x","server_name":"x","version":"2.12.12","go":"","host":"127.0.0.1","port":4222,"headers":true,"auth_required":true,"max_payload":1048576,"proto":1}"#;
        stream.write_all(format!("INFO {info}\r\n").as_bytes()).unwrap();
        let mut heard = Vec::new();
        // The client hangs up, or gives up waiting for an answer.
        let _ = stream.read_to_end(&mut heard);
        String::from_utf8_lossy(&heard).into_owned()
    });
    (url, heard)
}

#[test]
fn who_names_whom_to_trust_says_no_password_to_a_server_without_tls() {
    let machine = Machine::new();
    let pki = Pki::new(&machine.workplace, "pki");
    let ca = pki.authority.to_str().unwrap();
    for by_context in [false, true] {
        let (url, heard) = plain_server();
        machine.context(
            "plain",
            &json!({"url": url, "user": "me", "password": "my-secret", "ca": ca}),
        );
        let login = ["--server", &url, "--user", "me", "--password", "my-secret", "--tls-ca", ca];
        let chosen: &[&str] = if by_context { &["--context", "plain"] } else { &login };
        let done =
            machine.flotilla(&[chosen, &["--site", "home", "--timeout", "2s", "status"]].concat());
        let heard = heard.join().unwrap();
        assert!(!heard.contains("my-secret"), "context: {by_context}: {heard}");
        assert_eq!(done.code, Some(5), "{}", done.stderr);
        assert!(done.stderr.to_lowercase().contains("tls"), "{}", done.stderr);
    }
}
