//! `deploy/nats/three/`: the shipped configuration of three servers, run as it is shipped but for
//! addresses and the places of files: certificates for clients and between servers, passwords, and
//! routes. Each server dies once, and the site goes on by the other two.
#![allow(clippy::panic, clippy::unwrap_used, reason = "this whole file is a test")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_tests::agent::Agent;
use flotilla_tests::cli::Cli;
use flotilla_tests::nats_server::NatsServer;
use flotilla_tests::pki::Pki;
use flotilla_tests::wait;
use flotilla_tests::workplace::Workplace;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);
const SITE: &str = "home";
const SERVERS: [&str; 3] = ["a", "b", "c"];
const AGENTS: usize = 3;

fn environment() -> Vec<(String, String)> {
    ["AGENT", "OPERATOR", "READER", "HALL2"]
        .map(|user| (format!("NATS_{user}_PASSWORD"), format!("secret-of-{}", user.to_lowercase())))
        .to_vec()
}

/// Ports that nobody has just now.
fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// The shipped files, with the addresses and the places of files of this test in them.
fn shipped(workplace: &Workplace, pki: &Pki, routes: [u16; 3]) -> Vec<PathBuf> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nats");
    let read = |name: &str| std::fs::read_to_string(from.join(name)).unwrap();
    let replaced = |text: &str, old: &str, new: &str| {
        assert!(text.contains(old), "{old} stands in the shipped file no more");
        text.replace(old, new)
    };
    let show = |path: &Path| path.display().to_string();
    let folder = workplace.join("conf");
    std::fs::create_dir_all(folder.join("three")).unwrap();
    let mut tls = read("tls.conf");
    for (old, new) in [
        ("/etc/nats/tls/server.pem", &pki.server.0),
        ("/etc/nats/tls/server.key", &pki.server.1),
        ("/etc/nats/tls/ca.pem", &pki.authority),
    ] {
        tls = replaced(&tls, old, &show(new));
    }
    std::fs::write(folder.join("tls.conf"), tls).unwrap();
    for name in ["limits.conf", "users.conf"] {
        std::fs::write(folder.join(name), read(name)).unwrap();
    }
    let all = SERVERS.iter().zip(routes).map(|(name, port)| {
        let mut cluster = read("three/cluster.conf");
        cluster = replaced(&cluster, "0.0.0.0:6222", &format!("127.0.0.1:{port}"));
        for (other, port) in SERVERS.iter().zip(routes) {
            cluster =
                replaced(&cluster, &format!("nats-{other}:6222"), &format!("127.0.0.1:{port}"));
        }
        let own = format!("cluster-{name}.conf");
        std::fs::write(folder.join("three").join(&own), cluster).unwrap();
        let mut server = read(&format!("three/{name}.conf"));
        server = replaced(&server, "cluster.conf", &own);
        server = replaced(&server, "http = \"127.0.0.1:8222\"", "");
        let path = folder.join("three").join(format!("{name}.conf"));
        std::fs::write(&path, server).unwrap();
        path
    });
    all.collect()
}

fn serve(workplace: &Workplace, pki: &Pki) -> Vec<NatsServer> {
    let configs = shipped(workplace, pki, free_ports());
    let started = SERVERS.iter().zip(configs).map(|(name, config)| {
        let folder = workplace.join(&format!("server-{name}"));
        NatsServer::start_with_environment(&folder, &config, &environment())
    });
    started.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_three_servers_dies_and_the_site_goes_on_by_the_others() {
    let workplace = Workplace::new();
    let pki = Pki::new(&workplace, "site");
    let mut servers = serve(&workplace, &pki);
    let urls: Vec<String> =
        servers.iter().map(|server| format!("tls://127.0.0.1:{}", server.port())).collect();
    let (ca, (cert, key)) = (&pki.authority, &pki.client);
    let cli = Cli::new(&urls.join(","), SITE)
        .with_login("operator", "secret-of-operator", "_INBOX.operator")
        .with_setting("FLOTILLA_TLS_CA", ca.display().to_string())
        .with_setting("FLOTILLA_TLS_CERT", cert.display().to_string())
        .with_setting("FLOTILLA_TLS_KEY", key.display().to_string());

    // No mesh, so that nothing but the three servers carries anything between the agents.
    let listed = urls.iter().map(|url| format!("\"{url}\"")).collect::<Vec<_>>().join(", ");
    let config = format!(
        "[nats]\nurls = [{listed}]\nuser = \"agent\"\npassword = \"secret-of-agent\"\n{}[mesh]\nenabled = false\n",
        pki.agent_section()
    );
    let mut agents = Vec::new();
    for number in 1..=AGENTS {
        let mut agent = Agent::prepare(workplace.path(), &format!("n{number}"), &config);
        if agents.is_empty() {
            agent.init(SITE, 3);
            agent.start();
        } else {
            agent.join(&cli.token(1));
        }
        agents.push(agent);
        wait::until_true("the new agent is a member", LIMIT, || async {
            let members = cli.run(&["member", "ls", "-o", "json"]);
            members.code == Some(0)
                && members.json().as_array().is_some_and(|all| all.len() == number)
        })
        .await;
    }
    wait::until_true("all vote", LIMIT, || async {
        let members = cli.run(&["member", "ls", "-o", "json"]);
        members.code == Some(0)
            && members.json().as_array().is_some_and(|all| {
                all.iter().filter(|one| one["role"] == json!("voter")).count() == 3
            })
    })
    .await;

    for (at, name) in SERVERS.iter().enumerate() {
        let server = servers.get_mut(at).unwrap();
        server.kill();
        for round in 0..3 {
            let key = format!("without.{name}.r{round}");
            let set = ["param", "set", &key, "1", "--timeout", "20s"];
            cli.run(&set).expect_code(0);
        }
        server.restart();
    }
    let kept = cli.json(&["param", "ls", "without"]);
    assert_eq!(kept.as_array().map(Vec::len), Some(9), "{kept}");
}
