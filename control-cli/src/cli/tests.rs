use super::*;
use crate::usage;

fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
    usage::parse(std::iter::once("flotilla").chain(words.iter().copied()).map(Into::into))
}

#[test]
fn the_definition_is_sound() {
    usage::command().debug_assert();
}

#[test]
fn what_can_be_typed() {
    let good: &[&[&str]] = &[
        &["status"],
        &["status", "-o", "json", "--server", "nats://a", "--server", "nats://b", "--site", "home"],
        &["-o", "yaml", "--timeout", "500ms", "--stale", "device", "ls"],
        &["device", "register", "hall2.lamp-1"],
        &[
            "device",
            "register",
            "hall2.lamp-1",
            "--link",
            "plc",
            "--label",
            "a=b",
            "--label",
            "c=d",
            "--model",
            "{}",
        ],
        &["device", "register", "-f", "-"],
        &["device", "ls", "hall2", "--label", "a=b"],
        &["device", "get", "hall2.lamp-1"],
        &[
            "device",
            "set",
            "hall2.lamp-1",
            "on=true",
            "mode=auto",
            "--if-revision",
            "0",
            "--request-id",
            "r-1",
        ],
        &["device", "set", "hall2.lamp-1", "{\"on\":true}", "--wait", "verified"],
        &["device", "set", "-f", "list.yaml"],
        &["device", "replace", "hall2.lamp-1", "on=true"],
        &["device", "rm", "a", "b"],
        &["param", "ls"],
        &["param", "get", "a.b.c.d.e.f.g.h"],
        &["param", "set", "a", "-5"],
        &["param", "set", "a", "-"],
        &["param", "rm", "a"],
        &[
            "link",
            "register",
            "plc",
            "--connector",
            "mqtt",
            "--address",
            "mqtt://x",
            "--on",
            "gw-1",
        ],
        &["link", "register", "plc", "--connector", "mqtt", "--any", "zone=b"],
        &["link", "ls"],
        &["link", "rm", "plc"],
        &["link", "register", "plc", "--connector", "modbus", "--settings", "{}"],
        &["link", "move", "plc", "--to", "gw-2"],
        &["link", "pause", "plc", "bus"],
        &["link", "resume", "plc"],
        &["device", "register", "a", "--settings", "@map.toml", "--policy", "{}"],
        &["device", "mode", "auto", "a", "b"],
        &["device", "hold", "a", "--reason", "cleaning"],
        &["device", "release", "a"],
        &["device", "invoke", "a", "open", "to=3", "--ttl", "5s", "--wait", "acknowledged"],
        &["device", "set", "a", "on=true", "--ttl", "500ms", "--wait", "verified"],
        &["device", "ls", "hall2", "--drift"],
        &["command", "ls", "hall2", "--limit", "10"],
        &["command", "get", "a-1"],
        &["command", "cancel", "a-1", "--request-id", "b-1"],
        &["command", "watch", "a-1"],
        &["member", "drain", "gw-2"],
        &["member", "label", "gw-2", "hall=2", "old-"],
        &["member", "resume", "gw-2"],
        &["member", "ls"],
        &["member", "get", "gw-2"],
        &["member", "promote", "gw-2"],
        &["member", "remove", "3"],
        &["member", "voters", "5"],
        &["token", "create"],
        &[
            "token",
            "create",
            "--uses",
            "3",
            "--ttl",
            "7d",
            "--note",
            "hall 2",
            "--nats",
            "nats://a,nats://b",
        ],
        &["token", "ls"],
        &["token", "revoke", "0102030405060708"],
        &["leader", "show"],
        &["leader", "transfer"],
        &["leader", "transfer", "gw-2"],
        &["snapshot", "save", "x.snapshot", "--force"],
        &["snapshot", "inspect", "x.snapshot"],
        &["watch"],
        &["watch", "device", "hall2", "--since", "0"],
        &["bench", "--clients", "64", "--seconds", "1", "--size", "128", "--keys", "10"],
        &["batch", "apply", "-f", "-"],
        &["dev", "--agents", "3", "--data", "x", "--detach"],
        &["dev", "stop", "--data", "x"],
        &["status", "--user", "me", "--password", "x"],
        &[
            "status",
            "--creds",
            "x.creds",
            "--tls-ca",
            "ca.pem",
            "--tls-cert",
            "c.pem",
            "--tls-key",
            "k.pem",
        ],
    ];
    for words in good {
        parse(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }
}

#[test]
fn what_cannot_be_typed_ends_with_usage() {
    let long = "a".repeat(10_000);
    let bad: &[&[&str]] = &[
        &["nothing"],
        &["device", "sett", "a"],
        &["device", "mode", "automatic", "a"],
        &["device", "set", "a", "on=true", "--ttl", "5"],
        &["device", "set", "a", "on=true", "--ttl", "30d"],
        &["device", "set", "a", "on=true", "--wait", "dispatching"],
        &["device", "invoke", "a"],
        &["param", "set", "a", "1", "--ttl", "5s"],
        &["command", "ls", "--limit", "0"],
        &["command", "get", ""],
        &["device", "get", "Hall.Lamp"],
        &["device", "get", "a.b.c.d.e"],
        &["device", "get", "a b"],
        &["device", "get", "a*"],
        &["device", "get", ">"],
        &["device", "get", ""],
        &["device", "get", "😀"],
        &["device", "get", "a\u{202e}"],
        &["device", "get", "a\n"],
        &["device", "get", "\u{1b}[31mred"],
        &["\u{1b}[31mred"],
        &["status", "--\u{1b}[31m"],
        &["status", &long],
        &[&long],
        &["device", "get", &long],
        &["device", "get"],
        &["device", "register"],
        &["device", "register", "a", "-f", "x"],
        &["device", "set", "a", "on=true", "-f", "x"],
        &["device", "set", "a", "on=true", "--if-revision", "-1"],
        &["device", "set", "a", "on=true", "--if-revision", "x"],
        &["device", "set", "a", "on=true", "--request-id", "a b"],
        &["device", "set", "a", "on=true", "--wait", "done"],
        &["device", "rm"],
        &["param", "get", "a.b.c.d.e.f.g.h.i"],
        &["param", "set", "a"],
        &["link", "register", "plc"],
        &["link", "register", "plc", "--connector", "x", "--on", "gw", "--any", "a=b"],
        &["token", "create", "--uses", "0"],
        &["token", "create", "--ttl", "0s"],
        &["token", "create", "--ttl", "31d"],
        &["token", "create", "--ttl", "5"],
        &["token", "revoke", "xyz"],
        &["watch", "site"],
        &["watch", "devise"],
        &["watch", "--since", "-1"],
        &["bench", "--clients", "0"],
        &["bench", "--seconds", "0"],
        &["bench", "--size", "40000"],
        &["batch", "apply"],
        &["status", "--timeout", "0ms"],
        &["status", "--timeout", "61s"],
        &["status", "--timeout", "4"],
        &["status", "--timeout", "-4s"],
        &["status", "--site", "A"],
        &["status", "--site", "a.b"],
        &["status", "-o", "xml"],
    ];
    for words in bad {
        let error = parse(words).err().unwrap_or_else(|| panic!("{words:?} was taken"));
        assert_eq!(error.exit_code(), 2, "{words:?}");
        let said = error.to_string();
        assert!(!said.contains(['\u{202e}', '\u{1b}']), "{said}");
        assert!(said.len() < 1_000, "{} bytes for {words:?}", said.len());
    }
}

#[test]
fn ways_to_log_in_exclude_each_other() {
    let config = |words: &[&str]| {
        let cli = parse(words).unwrap();
        cli.globals.connection.config(cli.globals.timeout)
    };
    assert!(config(&["status"]).is_ok());
    assert!(config(&["status", "--user", "me"]).is_ok());
    for bad in [
        &["status", "--user", "me", "--nats-token", "t"][..],
        &["status", "--password", "x"],
        &["status", "--nkey", "a", "--creds", "b"],
    ] {
        assert_eq!(config(bad).unwrap_err().exit, Exit::Usage, "{bad:?}");
    }
}

#[test]
fn a_negative_time_is_told_as_a_time() {
    let error = parse(&["status", "--timeout", "-1s"]).err().unwrap().to_string();
    assert!(error.contains("is not a length of time"), "{error}");
}

#[test]
fn usage_is_that_of_the_command_and_help_shows_what_is_used() {
    let error = parse(&["-o", "json", "device", "get"]).err().unwrap().to_string();
    assert!(error.contains("Usage: flotilla device get [OPTIONS] <ID>"), "{error}");
    let help = |words: &[&str]| parse(words).err().unwrap().to_string();
    assert!(!help(&["dev", "--help"]).contains("--creds"));
    let set = help(&["param", "set", "--help"]);
    for heading in ["Connection options:", "Request options:", "Output:"] {
        assert!(set.contains(heading), "{set}");
    }
}

#[test]
fn shells_complete_what_can_be_typed() {
    for shell in ["bash", "zsh", "fish"] {
        parse(&["completion", shell]).unwrap();
    }
    let mut script = Vec::new();
    clap_complete::generate(
        clap_complete::Shell::Bash,
        &mut usage::command(),
        "flotilla",
        &mut script,
    );
    let script = String::from_utf8(script).unwrap();
    for word in ["invoke", "transfer", "--if-revision", "--server"] {
        assert!(script.contains(word), "{word}");
    }
}

/// Every option of a command and of those below it that a variable can set.
fn with_variables(command: &clap::Command) -> Vec<clap::Arg> {
    let own = command.get_arguments().filter(|arg| arg.get_env().is_some()).cloned();
    own.chain(command.get_subcommands().flat_map(with_variables)).collect()
}

#[test]
fn switches_are_set_by_variables_as_people_write_them() {
    let all = with_variables(&usage::command());
    let switches: Vec<&clap::Arg> =
        all.iter().filter(|arg| matches!(arg.get_action(), clap::ArgAction::SetTrue)).collect();
    let mut names: Vec<&str> = switches.iter().filter_map(|arg| arg.get_env()?.to_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["FLOTILLA_STALE", "FLOTILLA_TLS_FIRST"]);
    let words = [("1", true), ("true", true), ("yes", true), ("on", true), ("0", false)];
    let words =
        words.into_iter().chain([("false", false), ("no", false), ("off", false), ("", false)]);
    for (word, wanted) in words {
        for switch in &switches {
            // Read as the variable would be, without the environment of this process.
            let id = switch.get_id().as_str();
            let arg = (*switch)
                .clone()
                .env(None)
                .global(false)
                .long("switch")
                .action(clap::ArgAction::Set);
            let command = clap::Command::new("flotilla").arg(arg.num_args(1));
            let read = command.try_get_matches_from(["flotilla", &format!("--switch={word}")]);
            let read = read.unwrap_or_else(|error| panic!("{id}={word}: {error}"));
            assert_eq!(read.get_one::<bool>(id), Some(&wanted), "{id}={word}");
        }
    }
}
