//! Links, modes, holds, invocations and time limits, from the command line through the log and back.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use flotilla_tests::site::Site;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_devices_ends_truly() {
    let site = Site::start(1).await;
    let cli = &site.cli;
    let run = |arguments: &[&str], code| cli.run(arguments).expect_code(code);
    // A link that no node may serve, so that nothing here depends on who owns it.
    let link = ["link", "register", "hall.bus", "--connector", "simulated"];
    let elsewhere = run(&[&link[..], &["--address", "/etc/nowhere"]].concat(), 2);
    assert!(elsewhere.stderr.contains("no file in the folder"), "{}", elsewhere.stderr);
    run(&[&link[..], &["--any", "floor=9"]].concat(), 0);
    run(&["device", "register", "hall.door", "--link", "hall.bus"], 0);

    // A new device is only observed.
    assert_eq!(cli.json(&["device", "get", "hall.door"])["mode"], "observe");
    let refused = run(&["device", "invoke", "hall.door", "open"], 8);
    assert!(refused.stderr.contains("is in mode observe"), "{}", refused.stderr);
    // Nobody hands it anything, so nobody is kept waiting for that.
    let wish = ["device", "set", "hall.door", "open=false", "--wait", "sent"];
    let kept = run(&[&wish[..], &["--timeout", "1m"]].concat(), 10);
    assert!(kept.stderr.contains("is in mode observe"), "{}", kept.stderr);
    run(&["device", "mode", "auto", "hall.door"], 0);

    // A wish with a time limit, taken back, and one that nobody hands over.
    run(&["device", "set", "hall.door", "open=false"], 0);
    run(&["device", "set", "hall.door", "open=true", "--ttl", "1m", "--request-id", "w1"], 0);
    assert_eq!(cli.json(&["device", "get", "hall.door"])["desired"], json!({"open": true}));
    run(&["command", "cancel", "w1"], 0);
    assert_eq!(cli.json(&["device", "get", "hall.door"])["desired"], json!({"open": false}));
    assert_eq!(cli.json(&["command", "get", "w1"])["stage"], "cancelled");
    run(&["command", "cancel", "w1"], 8);
    run(&["device", "set", "hall.door", "open=true", "--ttl", "200ms", "--request-id", "w2"], 0);
    let watched = run(&["command", "watch", "w2"], 10);
    assert!(watched.stdout.contains("expired"), "{}", watched.stdout);
    assert_eq!(cli.json(&["device", "get", "hall.door"])["desired"], json!({"open": false}));

    // A wait that runs out says what is the matter with its link.
    let wait = |value: &str| {
        let wish = ["device", "set", "hall.door", value, "--wait", "sent", "--timeout", "1s"];
        run(&wish, 10).stderr
    };
    let unowned = wait("lit=true");
    assert!(unowned.contains("no node owns its link: no member fits its placement"), "{unowned}");
    run(&["link", "pause", "hall.bus"], 0);
    let paused = wait("lit=false");
    assert!(paused.contains("its link is paused"), "{paused}");
    run(&["link", "resume", "hall.bus"], 0);

    // One-shots wait for their owner, and a hold takes them back.
    run(&["device", "invoke", "hall.door", "open", "speed=2", "--request-id", "i1"], 0);
    let waiting = cli.json(&["command", "get", "i1"]);
    assert_eq!((&waiting["stage"], &waiting["args"]), (&json!("committed"), &json!({"speed": 2})));
    run(&["device", "hold", "hall.door", "--reason", "cleaning"], 0);
    let cancelled = cli.json(&["command", "get", "i1"]);
    assert_eq!(cancelled["stage"], "cancelled");
    assert!(cancelled["detail"].as_str().unwrap().contains("hold"), "{cancelled}");
    assert_eq!(cli.json(&["device", "get", "hall.door"])["hold"]["reason"], "cleaning");
    run(&["device", "release", "hall.door"], 0);

    run(&["link", "pause", "hall.bus"], 0);
    assert_eq!(cli.json(&["link", "get", "hall.bus"])["paused"], true);
    run(&["device", "invoke", "hall.door", "open"], 8);
    run(&["link", "resume", "hall.bus"], 0);
    run(&["link", "move", "hall.bus", "--to", "nobody"], 3);
    let toggled = run(&["device", "set", "hall.door", "open=TOGGLE"], 2);
    assert!(toggled.stderr.contains("toggle"), "{}", toggled.stderr);

    let listed = cli.json(&["command", "ls", "hall.door", "--limit", "3"]);
    let ops: Vec<&str> =
        listed.as_array().unwrap().iter().filter_map(|it| it["op"].as_str()).collect();
    assert_eq!(ops, ["device.invoke", "device.release", "device.hold"]);
    run(&["command", "get", "never-heard-of"], 3);
    // Whatever becomes of a stop, its device is on hold afterwards: refused, or not handed over.
    let policy = r#"{"stop_action":"halt"}"#;
    let register = ["device", "register", "hall.gate", "--link", "hall.bus", "--policy", policy];
    run(&register, 0);
    for mode in ["observe", "auto"] {
        run(&["device", "mode", mode, "hall.gate"], 0);
        let stopped = cli.run(&["device", "stop", "hall.gate", "--timeout", "2s"]);
        assert!(stopped.code.is_some_and(|code| code != 0), "{mode}: {}", stopped.stdout);
        assert_eq!(cli.json(&["device", "get", "hall.gate"])["hold"]["reason"], "stopped");
        run(&["device", "release", "hall.gate"], 0);
    }
}
