//! Every way to show a NATS server who one is, for the agent and for the command line, against a
//! real server that asks for it: user and password, token, NKey, credentials file, client
//! certificate; and a list of servers of which one is down.
//!
//! Each way is also tried with nothing and with something wrong: who isn't let in is told so, with
//! the exit code for it.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this whole file is a test"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use flotilla_tests::agent::Agent;
use flotilla_tests::cli::Cli;
use flotilla_tests::nats_server::NatsServer;
use flotilla_tests::pki::{Pki, private};
use flotilla_tests::wait;
use flotilla_tests::workplace::Workplace;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);
const SITE: &str = "home";

/// One way to log in, on both sides.
struct Way {
    /// What the server is configured with.
    server: String,
    /// The agent's section `[nats]`, without the addresses, and what follows it.
    agent: String,
    /// Options of the command line.
    cli: Vec<String>,
    /// The same with a wrong secret.
    wrong: Vec<String>,
    /// Scheme of the address.
    scheme: &'static str,
}

fn options(words: &[(&str, &Path)]) -> Vec<String> {
    words.iter().flat_map(|(name, path)| [(*name).to_owned(), path.display().to_string()]).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Runs an agent and the command line that way, and then the command line in ways that are refused.
async fn check(workplace: &Workplace, way: Way) {
    let nats = NatsServer::start_with(workplace.path(), &way.server);
    let url = format!("{}://127.0.0.1:{}", way.scheme, nats.port());
    let config = format!("[nats]\nurls = [\"{url}\"]\n{}", way.agent);
    let mut agent = start(workplace, &config);
    let cli = Cli::new(&url, SITE);
    set_until_done(&cli, &way.cli).await;

    let nothing = cli.run(&["param", "get", "auth.works", "--timeout", "2s"]);
    assert!(matches!(nothing.code, Some(5 | 6)), "{}: {}", way.server, nothing.stderr);
    assert!(nothing.stdout.is_empty(), "{}", nothing.stdout);
    let wrong = with(&cli, &["param", "get", "auth.works", "--timeout", "2s"], &way.wrong);
    assert!(matches!(wrong.code, Some(5 | 6)), "{}: {}", way.server, wrong.stderr);
    agent.stop().await;
}

fn start(workplace: &Workplace, config: &str) -> Agent {
    let mesh = "[mesh]\nenabled = false\n";
    let mut agent = Agent::prepare(workplace.path(), "n1", &format!("{config}\n{mesh}"));
    agent.init(SITE, 1);
    agent.start();
    agent
}

fn with(cli: &Cli, command: &[&str], options: &[String]) -> flotilla_tests::cli::Finished {
    let all: Vec<&str> =
        command.iter().copied().chain(options.iter().map(String::as_str)).collect();
    cli.run(&all)
}

/// Waits until a parameter can be set and read back.
async fn set_until_done(cli: &Cli, options: &[String]) {
    let set = ["param", "set", "auth.works", "1", "--timeout", "2s"];
    let mut last = String::new();
    let begun = std::time::Instant::now();
    wait::until_true("a command is carried out", LIMIT, || {
        let done = with(cli, &set, options);
        last.clone_from(&done.stderr);
        assert!(
            begun.elapsed() < LIMIT.mul_f32(0.9) || done.code == Some(0),
            "the command line with {options:?}: {last}"
        );
        async move { done.code == Some(0) }
    })
    .await;
    let read = with(cli, &["param", "get", "auth.works", "-o", "json"], options).expect_code(0);
    assert_eq!(read.json()["value"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password() {
    let workplace = Workplace::new();
    let file = private(&workplace, "password", "s3cret\n");
    let way = Way {
        server: "authorization { user: me, password: s3cret }".to_owned(),
        agent: format!("user = \"me\"\npassword_file = \"{}\"\n", file.display()),
        cli: words(&["--user", "me", "--password", "s3cret"]),
        wrong: words(&["--user", "me", "--password", "other"]),
        scheme: "nats",
    };
    check(&workplace, way).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token() {
    let workplace = Workplace::new();
    let file = private(&workplace, "token", "t0ken-of-the-site\n");
    let way = Way {
        server: "authorization { token: t0ken-of-the-site }".to_owned(),
        agent: format!("token_file = \"{}\"\n", file.display()),
        cli: words(&["--nats-token", "t0ken-of-the-site"]),
        wrong: words(&["--nats-token", "other"]),
        scheme: "nats",
    };
    check(&workplace, way).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nkey() {
    let workplace = Workplace::new();
    let (user, stranger) = (KeyPair::new_user(), KeyPair::new_user());
    let seed = |key: &KeyPair| format!("# the seed of a user\n{}\n", key.seed().unwrap());
    let file = private(&workplace, "user.nk", &seed(&user));
    let other = private(&workplace, "other.nk", &seed(&stranger));
    let way = Way {
        server: format!("authorization {{ users: [ {{ nkey: {} }} ] }}", user.public_key()),
        agent: format!("nkey_file = \"{}\"\n", file.display()),
        cli: options(&[("--nkey", &file)]),
        wrong: options(&[("--nkey", &other)]),
        scheme: "nats",
    };
    check(&workplace, way).await;
}

/// A JSON web token of NATS: claims signed by a key.
fn jwt(issuer: &KeyPair, subject: &str, kind: &str, mut nats: Value) -> String {
    nats["type"] = json!(kind);
    nats["version"] = json!(2);
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let claims = json!({
        "jti": subject, "iat": 1, "iss": issuer.public_key(), "name": kind, "sub": subject,
        "nats": nats,
    });
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// A credentials file as `nsc` writes it.
fn credentials(account: &KeyPair, user: &KeyPair) -> String {
    let claims = json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
    format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        jwt(account, &user.public_key(), "user", claims),
        user.seed().unwrap()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_file() {
    let workplace = Workplace::new();
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let unlimited = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    let accounts = jwt(&operator, &account.public_key(), "account", json!({"limits": unlimited}));
    let operators = jwt(&operator, &operator.public_key(), "operator", json!({}));
    let file = private(&workplace, "me.creds", &credentials(&account, &KeyPair::new_user()));
    // Signed by somebody whom the operator doesn't know.
    let stranger = KeyPair::new(KeyPairType::Account);
    let other = private(&workplace, "other.creds", &credentials(&stranger, &KeyPair::new_user()));
    let way = Way {
        server: format!(
            "operator: {operators}\nresolver: MEMORY\nresolver_preload: {{ {}: {accounts} }}",
            account.public_key()
        ),
        agent: format!("creds_file = \"{}\"\n", file.display()),
        cli: options(&[("--creds", &file)]),
        wrong: options(&[("--creds", &other)]),
        scheme: "nats",
    };
    check(&workplace, way).await;
}

fn certificates(authority: &Path, client: &(PathBuf, PathBuf)) -> Vec<String> {
    options(&[("--tls-ca", authority), ("--tls-cert", &client.0), ("--tls-key", &client.1)])
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificate() {
    let workplace = Workplace::new();
    let (ours, theirs) = (Pki::new(&workplace, "ours"), Pki::new(&workplace, "theirs"));
    let show = |path: &Path| path.display().to_string();
    let way = Way {
        server: format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
            show(&ours.server.0),
            show(&ours.server.1),
            show(&ours.authority)
        ),
        agent: ours.agent_section(),
        cli: certificates(&ours.authority, &ours.client),
        wrong: certificates(&ours.authority, &theirs.client),
        scheme: "tls",
    };
    check(&workplace, way).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_of_which_one_is_down() {
    let workplace = Workplace::new();
    let nats = NatsServer::start(workplace.path());
    // A port that is taken and where nobody speaks NATS would be slow; this one refuses at once.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("nats://127.0.0.1:{}", closed.local_addr().unwrap().port());
    drop(closed);
    let urls = format!("urls = [\"{dead}\", \"{}\"]", nats.url());
    let mut agent = start(&workplace, &format!("[nats]\n{urls}\n"));
    let both = Cli::new(&format!("{dead},{}", nats.url()), SITE);
    set_until_done(&both, &[]).await;
    agent.stop().await;

    let none = Cli::new(&dead, SITE).run(&["status", "--timeout", "2s"]).expect_code(5);
    assert!(none.stderr.contains("refused") && none.stderr.contains(&dead), "{}", none.stderr);
}
