//! `deploy/`: the unit, the container and the pods start the programs as they are today.
//!
//! Nothing is built into an image here. What the files tell a machine to run is run: their
//! command lines, their configuration, their variables, and the script of the pods.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use flotilla_tests::agent::Agent;
use flotilla_tests::cli::{Finished, run};
use flotilla_tests::nats_server::NatsServer;
use flotilla_tests::not_run;
use flotilla_tests::process::Process;
use flotilla_tests::programs;
use flotilla_tests::wait;
use flotilla_tests::workplace::Workplace;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
/// Where the files say that the programs, the data and the configuration are.
const PROGRAM: &str = "/usr/local/bin/flotilla-agent";
const DATA: &str = "/var/lib/flotilla";
const CONFIG: &str = "/etc/flotilla";

fn deploy(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a YAML file.
fn yaml(file: &str) -> Vec<Value> {
    let text = deploy(file);
    text.split("\n---\n").map(|one| serde_saphyr::from_str(one).unwrap()).collect()
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

/// The agent without any variable of this test's own environment.
fn agent_command(arguments: &[String]) -> Command {
    let mut command = Command::new(programs::agent());
    command.env_clear().args(arguments);
    command
}

/// Runs a command line of the agent on a folder that holds no node. It must understand it: 2
/// would say that it doesn't, and 1 with this reason that all of it was read.
fn understood(workplace: &Workplace, arguments: &[String]) -> Finished {
    let data = workplace.join("no-node").display().to_string();
    let arguments: Vec<String> = arguments.iter().map(|it| it.replace(DATA, &data)).collect();
    let done = run(agent_command(&arguments), "").expect_code(1);
    assert!(done.stderr.contains("give the data directory of a node"), "{}", done.stderr);
    done
}

/// What the largest site takes, in times of what a snapshot writes of it (docs/performance.md).
const MEMORY_TIMES: u64 = 7;

#[test]
fn the_limits_of_memory_leave_room_for_every_site_that_the_agent_accepts() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/fleet-state/src/limits.rs");
    let source = std::fs::read_to_string(source).unwrap();
    let accepted =
        source.lines().find_map(|line| line.strip_prefix("pub const SITE_BYTES_MAX: u64 = "));
    let factors = accepted.unwrap().trim_end_matches(';').split(" * ");
    let accepted: u64 = factors.map(|factor| factor.parse::<u64>().unwrap()).product();
    let gib = |text: &str| text.parse::<u64>().unwrap() << 30;
    let unit = deploy("systemd/flotilla-agent.service");
    let unit = unit.lines().find_map(|line| line.strip_prefix("MemoryMax=")).unwrap();
    let pods = Pods::new();
    let pods = pods.container["resources"]["limits"]["memory"].as_str().unwrap();
    for limit in [gib(unit.strip_suffix('G').unwrap()), gib(pods.strip_suffix("Gi").unwrap())] {
        assert!(limit >= MEMORY_TIMES * accepted, "{limit} bytes for a site of {accepted}");
    }
}

#[test]
fn the_unit_starts_the_agent_and_systemd_understands_it() {
    let workplace = Workplace::new();
    let unit = deploy("systemd/flotilla-agent.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let mut line = start.split(' ').map(str::to_owned);
    assert_eq!(line.next().as_deref(), Some(PROGRAM));
    // The configuration that the examples give it names files that this machine lacks.
    let config = Agent::prepare(workplace.path(), "agent", "");
    let arguments: Vec<String> =
        line.map(|it| it.replace("/etc/flotilla/agent.toml", &config_of(&config))).collect();
    understood(&workplace, &arguments);

    if programs::on_path("systemd-analyze").is_none() {
        not_run::say("systemd-analyze, which would read the unit, is not installed");
        return;
    }
    let path = workplace.join("flotilla-agent.service");
    std::fs::write(&path, unit.replace(PROGRAM, &programs::agent().display().to_string())).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--recursive-errors=no"]).arg(&path);
    let done = run(command, "").expect_code(0);
    assert_eq!(done.stderr, "", "systemd has something to say about the unit");
}

/// Where the configuration of an agent is.
fn config_of(agent: &Agent) -> String {
    let command = agent.command(&[]);
    command.get_args().last().unwrap().to_string_lossy().into_owned()
}

#[test]
fn the_image_starts_the_agent_and_its_compiler_is_new_enough() {
    let workplace = Workplace::new();
    let file = deploy("container/Containerfile");
    let list = |name: &str| -> Vec<String> {
        let line = file.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        words(&serde_json::from_str(line).unwrap())
    };
    assert_eq!(list("ENTRYPOINT "), ["flotilla-agent"]);
    understood(&workplace, &list("CMD "));
    let of = |text: &str, from: &str, to: char| -> Vec<u32> {
        let rest = text.split(from).nth(1).unwrap();
        let version = rest.split(to).next().unwrap();
        version.split('.').map(|part| part.parse().unwrap()).collect()
    };
    let image = of(&file, "library/rust:", '-');
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    assert!(image >= of(&manifest, "rust-version = \"", '"'), "rust {image:?} is too old");
}

#[test]
fn the_agent_takes_every_variable_that_compose_gives_it() {
    let compose = &yaml("container/compose.yaml")[0]["services"]["agent"];
    let variables = compose["environment"].as_object().unwrap();
    let mut command = agent_command(&["config".to_owned(), "show".to_owned()]);
    for (name, value) in variables {
        command.env(name, value.as_str().unwrap());
    }
    let shown = run(command, "").expect_code(0).stdout;
    for name in variables.keys() {
        assert!(shown.contains(name.as_str()), "{name} has no effect:\n{shown}");
    }
    assert!(shown.contains("urls = [\"nats://nats:4222\"]"), "{shown}");
}

/// What `deploy/kubernetes` holds, with places of this machine in place of those of a pod.
struct Pods {
    workplace: Workplace,
    container: Value,
    nats: NatsServer,
    running: Vec<Process>,
}

impl Pods {
    fn new() -> Self {
        let documents = yaml("kubernetes/flotilla.yaml");
        let set = documents.iter().find(|it| it["kind"] == "StatefulSet").unwrap();
        let container = set["spec"]["template"]["spec"]["containers"][0].clone();
        let workplace = Workplace::new();
        let nats = NatsServer::start(workplace.path());
        Self { workplace, container, nats, running: Vec::new() }
    }

    fn data(&self, pod: usize) -> PathBuf {
        self.workplace.join(&format!("pod-{pod}"))
    }

    fn here(&self, pod: usize, text: &str) -> String {
        let config = self.workplace.join("etc").display().to_string();
        text.replace(DATA, &self.data(pod).display().to_string()).replace(CONFIG, &config)
    }

    /// The variables of the container that stand in the file, and those that a pod is given.
    fn environment(&self, pod: usize, token: &str, command: &mut Command) {
        let bin = programs::agent().parent().unwrap().display().to_string();
        command.env_clear().env("PATH", format!("{bin}:/usr/bin:/bin"));
        for variable in self.container["env"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            let value = match (name, variable["value"].as_str()) {
                ("POD_NAME", None) => format!("flotilla-{pod}"),
                ("JOIN_TOKEN", None) => token.to_owned(),
                (_, Some(value)) => self.here(pod, value),
                _ => panic!("this test gives a pod no {name}"),
            };
            command.env(name, value);
        }
    }

    fn start(&mut self, pod: usize, token: &str) {
        std::fs::create_dir_all(self.data(pod)).unwrap();
        let line = words(&self.container["command"]);
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]);
        command.args(words(&self.container["args"]).iter().map(|it| self.here(pod, it)));
        self.environment(pod, token, &mut command);
        let log = self.workplace.join(&format!("pod-{pod}.log"));
        self.running.push(Process::start(&format!("pod {pod}"), &mut command, &log));
    }

    /// `kubectl exec flotilla-<pod> -- flotilla …`
    fn exec(&self, pod: usize, arguments: &[&str]) -> Finished {
        let mut command = Command::new(programs::cli());
        self.environment(pod, "", &mut command);
        command.args(arguments);
        run(command, "")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_found_a_site_join_it_and_come_back() {
    let mut pods = Pods::new();
    let etc = pods.workplace.join("etc");
    std::fs::create_dir(&etc).unwrap();
    let config = format!(
        "[site]\nname = \"home\"\n[nats]\nurls = [\"{}\"]\n\
         [mesh]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\n",
        pods.nats.url()
    );
    std::fs::write(etc.join("agent.toml"), config).unwrap();
    pods.start(0, "");
    let token = wait::until("the first pod gives a token at its door", LIMIT, || async {
        let done = pods.exec(0, &["token", "create", "--uses", "2", "-o", "json"]);
        let made = (done.code == Some(0)).then(|| done.json())?;
        Some(made["token"].as_str()?.to_owned())
    })
    .await;
    let comment = deploy("kubernetes/flotilla.yaml");
    let form = token.split('_').next().unwrap();
    assert!(comment.contains(&format!("token={form}_")), "tokens begin with {form}_ today");
    pods.start(1, &token);
    pods.start(2, &token);
    all_vote(&pods, 1).await;
    // A pod that was killed runs on what it has.
    pods.running[2].kill();
    pods.start(2, "");
    all_vote(&pods, 2).await;
    // The first pod, too, is a new node when it loses its volume, and never founds a second site,
    // least of all while it can't ask whether there is one.
    pods.running[0].kill();
    pods.nats.kill();
    std::fs::remove_dir_all(pods.data(0)).unwrap();
    pods.start(0, &token);
    let again = pods.running.last_mut().unwrap();
    wait::until_true("it asks to join", LIMIT, || async {
        again.output().contains("not joined yet")
    })
    .await;
    pods.nats.restart();
    let status = again.wait(LIMIT).await;
    assert_eq!(status.code(), Some(1), "its token was used up");
    assert!(!pods.data(0).join("node/node.json").exists());
}

async fn all_vote(pods: &Pods, at: usize) {
    wait::until_true("three pods vote", LIMIT, || async {
        let done = pods.exec(at, &["status", "-o", "json", "--timeout", "2s"]);
        done.code == Some(0) && {
            let status = done.json();
            let nodes = status["nodes"].as_array().unwrap();
            status["site"]["voters"] == 3
                && nodes.len() == 3
                && nodes.iter().all(|node| node["leader"] == nodes[0]["leader"])
        }
    })
    .await;
}

#[test]
fn the_pods_configuration_is_one_and_their_ports_and_probes_are_those_of_the_agent() {
    let workplace = Workplace::new();
    let documents = yaml("kubernetes/flotilla.yaml");
    let config = documents[0]["data"]["agent.toml"].as_str().unwrap();
    let secret = workplace.join("secret");
    std::fs::create_dir(&secret).unwrap();
    let config = config.replace("/etc/flotilla/secret", &secret.display().to_string());
    let agent = Agent::prepare(workplace.path(), "n1", &config);
    for (name, text) in [("password", "x"), ("ca.pem", "")] {
        std::fs::write(secret.join(name), text).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        // As `defaultMode` of the secret says.
        let mode = std::fs::Permissions::from_mode(0o440);
        std::fs::set_permissions(secret.join(name), mode).unwrap();
    }
    let shown = agent.run_once(&["config", "show"]).expect_code(0).stdout;
    let pods = Pods::new();
    for port in pods.container["ports"].as_array().unwrap() {
        let number = port["containerPort"].as_u64().unwrap();
        let wanted = match port["name"].as_str().unwrap() {
            "mesh" => format!("/ip4/0.0.0.0/tcp/{number}"),
            "http" => format!("listen = \"0.0.0.0:{number}\""),
            other => panic!("a port {other} that the agent knows nothing of"),
        };
        assert!(shown.contains(&wanted), "{wanted} is not in:\n{shown}");
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = pods.container[probe]["httpGet"]["path"].as_str().unwrap();
        assert!(["/livez", "/readyz"].contains(&path), "{probe} asks for {path}");
    }
}
