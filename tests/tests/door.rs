//! The local door: the contract over HTTP, with NATS and without.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use flotilla_tests::bare::Answer;
use flotilla_tests::door::BareDoor;
use flotilla_tests::load::Load;
use flotilla_tests::site::{ELECTION_LIMIT, Plan, READY_LIMIT, Site};
use flotilla_tests::wait;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LIMIT: Duration = Duration::from_secs(30);

fn door(site: &Site, index: usize) -> BareDoor {
    BareDoor::of(site.agents[index].data_dir())
}

fn doors(site: &Site) -> Vec<BareDoor> {
    (0..site.agents.len()).map(|index| door(site, index)).collect()
}

/// What is the same whichever agent answered which request.
fn bare(mut reply: Value) -> Value {
    let members = reply.as_object_mut().unwrap();
    members.remove("request_id");
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn both_doors_answer_alike() {
    let site = Site::start(3).await;
    let (nats, door) = (&site.client, &door(&site, 1));
    let register = "control.commands.device.register.hall2.lamp-1";
    door.request(register, r#"{"name":"Lamp"}"#).await.accepted();
    let update = "control.commands.device.update.hall2.lamp-1";
    let made = door.request(update, r#"{"on":true}"#).await.accepted();
    assert_eq!(made.at("/stage"), &json!("committed"));
    let batch = json!([{"op": "param.set", "id": "a", "body": 1}, {"op": "param.set", "id": "b", "body": 2}]);
    door.request("control.commands.batch", batch.to_string()).await.accepted();

    for (subject, payload) in [
        ("control.query.device.get.hall2.lamp-1", ""),
        ("control.query.device.list.hall2", r#"{"limit":5}"#),
        ("control.query.param.list", ""),
        ("control.query.member.list", ""),
        ("control.query.device.get.hall2.lamp-2", ""),
        ("control.commands.device.update.hall2.lamp-2", "{}"),
        ("control.commands.device.update.hall2.lamp-1", "7"),
        ("control.changes.since.0", r#"{"limit":2}"#),
        ("control.changes.since.999999", ""),
        ("control.admin.snapshot.take", "{"),
        ("control.query.lamp.list", ""),
    ] {
        let mut over_nats = bare(nats.request(subject, payload).await.reply().0);
        let mut at_door = bare(door.request(subject, payload).await.reply().0);
        // A rejected command is an entry of its own.
        for reply in [&mut over_nats, &mut at_door] {
            if reply["ok"] == json!(false) {
                reply.as_object_mut().unwrap().remove("revision");
            }
        }
        assert_eq!(over_nats, at_door, "{subject}");
    }
    // A retry finds the first outcome whichever door it comes through.
    let first = door.set_param("twice", &json!(1), "same").await.accepted();
    let again = nats.set_param("twice", &json!(1), "same").await.accepted();
    assert_eq!(first.revision(), again.revision());
    door.set_param("twice", &json!(2), "same").await.refused("request_id_reused");
    let only_new = [("Flotilla-If-Revision", "0")];
    let subject = "control.commands.param.set.twice";
    door.request_with(subject, &only_new, "5").await.refused("revision_mismatch");
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_a_code_is_the_status_and_methods_are_kept() {
    let site = Site::start(1).await;
    let door = door(&site, 0);
    for (method, path, body, status) in [
        ("GET", "/v1", "", 200),
        ("POST", "/v1", "", 405),
        ("POST", "/v1/commands/param/set/a", "1", 200),
        ("GET", "/v1/commands/param/set/a", "", 405),
        ("PUT", "/v1/commands/param/set/a", "1", 405),
        ("DELETE", "/v1/query/param/get/a", "", 405),
        ("GET", "/v1/query/param/get/a", "", 200),
        ("POST", "/v1/query/param/list", r#"{"limit":1}"#, 200),
        ("GET", "/v1/query/param/get/b", "", 404),
        ("GET", "/v1/query/param/get/a?x=1", "", 400),
        ("GET", "/v1/query/param/get/A%20", "", 400),
        ("GET", "/v1/query.param.get.a", "", 400),
        ("GET", "/", "", 400),
        ("GET", "/v2/query/site/get", "", 400),
        ("GET", "/v1/changes/since/99999", "", 416),
        ("GET", "/v1/node/n1/status", "", 200),
    ] {
        let answer = door.send(method, path, &[], body.as_bytes()).await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let json: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(json["ok"] == json!(true), status == 200, "{method} {path}");
    }
    let facts = door.send("GET", "/v1", &[], b"").await.unwrap();
    let facts: Value = serde_json::from_slice(&facts.body).unwrap();
    assert_eq!((&facts["item"]["site"], &facts["item"]["name"]), (&json!("home"), &json!("n1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_and_harms_nobody() {
    let mut site = Site::start(1).await;
    let door = door(&site, 0);
    let set = "/v1/commands/param/set/bad";
    for (headers, body, code) in [
        (&[("Flotilla-If-Revison", "1")][..], &b"1"[..], "malformed"),
        (&[("Flotilla-If-Revision", "1"), ("Flotilla-If-Revision", "1")], b"1", "malformed"),
        (&[("Flotilla-Timeout", "4")], b"1", "malformed"),
        (&[("Flotilla-Consistency", "stale")], b"1", "malformed"),
        (&[("Flotilla-Wait", "soon")], b"1", "malformed"),
        (&[], b"", "malformed"),
        (&[], b"{\"a\":1,\"a\":2}", "malformed"),
        (&[], &[0xff; 64], "malformed"),
        (&[], &[b'1'; 300_000], "too_large"),
    ] {
        let answer = door.send("POST", set, headers, body).await.unwrap();
        let json: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(json["error"]["code"], json!(code), "{headers:?}: {json}");
    }
    // What is no HTTP at all, or never ends, is cut off or left waiting; others are served.
    let many = "x: y\r\n".repeat(10_000);
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/commands/param/set/bad HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        format!("GET /v1 HTTP/1.1\r\n{many}\r\n").as_bytes(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "v".repeat(100_000)).as_bytes(),
    ] {
        let answer = door.raw(bytes).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    let socket = site.agents[0].data_dir().join("door.sock");
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        stream.write_all(b"POST /v1/commands/param/set/slow HTTP/1.1\r\nHost:").await.unwrap();
        held.push(stream);
    }
    door.set_param("good", &json!(1), "good").await.accepted();
    door.param("bad").await.refused("not_found");
    drop(held);
    assert!(site.agents[0].process().ended().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_stream_as_events_and_go_on_where_they_were_left() {
    let site = Site::start(3).await;
    let (door, client) = (door(&site, 2), &site.client);
    let start = client.set_param("seen", &json!(0), "s0").await.accepted().revision().unwrap();
    let listening = {
        let door = door.clone();
        tokio::spawn(async move {
            let headers = [("Accept", "text/event-stream"), ("Flotilla-Timeout", "3s")];
            let path = format!("/v1/changes/since/{start}/param");
            door.send("GET", &path, &headers, b"").await.unwrap()
        })
    };
    for number in 1..=20 {
        client.set_param("seen", &json!(number), &format!("s{number}")).await.accepted();
    }
    let heard = listening.await.unwrap();
    assert_eq!(heard.header("content-type"), Some("text/event-stream"));
    let pages = heard.events();
    let numbers: Vec<u64> = pages.iter().map(|page| page["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=pages.len() as u64).collect::<Vec<_>>());
    assert_eq!(pages.last().unwrap()["kind"], json!("end"));
    let values: Vec<&Value> = pages
        .iter()
        .flat_map(|page| page["changes"].as_array().unwrap())
        .map(|change| &change["record"]["value"])
        .collect();
    assert_eq!(values.last(), Some(&&json!(20)), "{values:?}");

    // As a browser would come back, with the id of the last event that it took.
    let text = heard.text();
    let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    let last = *ids.last().unwrap();
    client.set_param("later", &json!(1), "later").await.accepted();
    let headers =
        [("Accept", "text/event-stream"), ("Flotilla-Timeout", "500ms"), ("Last-Event-ID", last)];
    let path = format!("/v1/changes/since/{start}/param");
    let more = door.send("GET", &path, &headers, b"").await.unwrap().events();
    let changes: Vec<&Value> =
        more.iter().flat_map(|page| page["changes"].as_array().unwrap()).collect();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0]["id"], json!("later"));
    let broken = [("Accept", "text/event-stream"), ("Last-Event-ID", "x")];
    assert_eq!(door.send("GET", &path, &broken, b"").await.unwrap().status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_at_every_door_in_the_same_order() {
    let site = Site::start(3).await;
    let request = "GET /v1/events/param/hall2 HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut listeners = Vec::new();
    for agent in &site.agents {
        let socket = agent.data_dir().join("door.sock");
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        // The first tick says that it listens.
        let mut heard = Vec::new();
        until(&mut stream, &mut heard, "event: tick").await;
        listeners.push((stream, heard));
    }
    for number in 0..10 {
        let batch = json!([
            {"op": "param.set", "id": "hall2.a", "body": number},
            {"op": "param.set", "id": "hall3.a", "body": number},
            {"op": "param.set", "id": "hall2.b", "body": number},
        ]);
        site.client.request("control.commands.batch", batch.to_string()).await.accepted();
    }
    site.client.set_param("hall2.end", &json!("end"), "end").await.accepted();
    let mut told = Vec::new();
    for (stream, heard) in &mut listeners {
        until(stream, heard, "hall2.end").await;
        until(stream, heard, "event: tick").await;
        let text = String::from_utf8_lossy(heard).into_owned();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<Value> = data.filter_map(|data| serde_json::from_str(data).ok()).collect();
        let changes: Vec<Value> =
            events.into_iter().filter(|event| event.get("change").is_some()).collect();
        assert_eq!(changes.len(), 21, "{changes:?}");
        told.push(changes);
    }
    assert!(told.iter().all(|changes| *changes == told[0]));
    assert_eq!(door(&site, 0).send("GET", "/v1/events/lamp", &[], b"").await.unwrap().status, 400);
    assert_eq!(door(&site, 0).send("POST", "/v1/events", &[], b"").await.unwrap().status, 405);
}

/// Reads until `word` has come behind what was read before.
async fn until(stream: &mut tokio::net::UnixStream, heard: &mut Vec<u8>, word: &str) {
    let from = heard.len();
    let reading = async {
        while !String::from_utf8_lossy(&heard[from..]).contains(word) {
            assert_ne!(stream.read_buf(heard).await.unwrap(), 0, "the stream has ended");
        }
    };
    tokio::time::timeout(LIMIT, reading).await.unwrap_or_else(|_| panic!("no {word}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_door_shows_all_nodes_without_a_nats_server() {
    let mut site = Site::start(3).await;
    site.nats.kill();
    let door = door(&site, 0);
    wait::until_true("every node answers through one door", LIMIT, || async {
        let answer = door.send("GET", "/v1/all/status", &[], b"").await.unwrap();
        let mut names: Vec<String> = answer
            .events()
            .iter()
            .filter_map(|reply| reply["item"]["name"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        names == ["n1", "n2", "n3"]
    })
    .await;
    let there = door.request("control.node.n3.status", "").await.accepted();
    assert_eq!(there.at("/item/name"), &json!("n3"));
    door.request("control.node.n9.status", "").await.refused("not_found");
    door.request("control.node.n3.status", r#"{"x":1}"#).await.refused("malformed");
    // A piece of a snapshot of another node comes over, too.
    let index = there.at("/item/snapshot_index").as_u64().unwrap();
    let wanted = format!(r#"{{"index":{index},"offset":0}}"#);
    let piece = door.send("POST", "/v1/node/n3/snapshot", &[], wanted.as_bytes()).await.unwrap();
    assert_eq!(piece.status, 200, "{}", piece.text());
    let size = piece.header("flotilla-snapshot-size").unwrap();
    assert_eq!(size.parse(), Ok(piece.body.len()), "a small snapshot is one piece");
    site.agents[2].kill();
    wait::until_true("a node that is gone is said to be", LIMIT, || async {
        let answer = door.request("control.node.n3.status", "").await;
        matches!(answer, Answer::Reply(reply) if reply.code() == Some("unreachable"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_that_go_away_or_do_not_read_free_their_places() {
    let site = Site::start(1).await;
    let socket = site.agents[0].data_dir().join("door.sock");
    let request = b"GET /v1/changes/since/0 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nFlotilla-Timeout: 1m\r\n\r\n";
    let watchers = || site.agents[0].counter("flotilla_watchers");
    for _ in 0..3 {
        let mut streams = Vec::new();
        for _ in 0..100 {
            let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
            stream.write_all(request).await.unwrap();
            stream.read_u8().await.unwrap();
            streams.push(stream);
        }
        assert!(watchers() >= 100.0);
        drop(streams);
        wait::until_true("nobody watches any more", LIMIT, || async { watchers() == 0.0 }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_its_owners_and_a_stale_one_is_replaced() {
    let mut site = Site::start(1).await;
    let socket = site.agents[0].data_dir().join("door.sock");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&socket) & 0o777, 0o600);
    site.agents[0].kill();
    assert!(socket.exists(), "what a killed agent leaves");
    assert!(matches!(door(&site, 0).param("x").await, Answer::NoResponders));
    site.agents[0].start();
    let door = door(&site, 0);
    wait::until_true("the door is open again", READY_LIMIT, || async {
        matches!(door.param("x").await, Answer::Reply(reply) if reply.code() == Some("not_found"))
    })
    .await;
    site.agents[0].stop().await;
    assert!(!socket.exists(), "an agent that stops takes it away");
    // Something else in its place is not touched, and the agent says so.
    std::fs::write(&socket, "mine").unwrap();
    let refused = site.agents[0].run_once(&["run"]).expect_code(1);
    assert!(refused.stderr.contains("no socket"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_takes_programs_of_this_machine_and_no_web_pages() {
    let config = "[http]\ndoor = \"127.0.0.1:0\"\n".to_owned();
    let site = Site::start_as(Plan { config, ..Plan::of(1) }).await;
    let log = site.agents[0].log();
    let said = log.split("open to every user of this machine address=").nth(1);
    let address = said.unwrap().split_whitespace().next().unwrap().to_owned();
    let port = BareDoor::on(&address);
    port.set_param("a", &json!(1), "one").await.accepted();
    for headers in [
        &[("Origin", "http://evil.example")][..],
        &[("Origin", "null")],
        &[("Host", "evil.example")],
        &[("Host", "localhost"), ("Host", "evil.example")],
    ] {
        let answer = port.send("POST", "/v1/commands/param/set/a", headers, b"2").await.unwrap();
        assert!([400, 403].contains(&answer.status), "{headers:?}: {}", answer.text());
    }
    assert_eq!(port.read_param("a").await.at("/item/value"), &json!(1));
    let remote = "[http]\ndoor = \"0.0.0.0:0\"\nallow_remote = true\n";
    site.agents[0].set_config(&format!("{}{remote}", site.config().replace(&site_http(), "")));
    let refused = site.agents[0].run_once(&["run"]).expect_code(1);
    assert!(refused.stderr.contains("http.door"), "{}", refused.stderr);
}

/// The section that the plan above put into the configuration.
fn site_http() -> String {
    "[http]\ndoor = \"127.0.0.1:0\"\n".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ways.rs has the same over a network"]
async fn writers_at_the_doors_do_not_notice_that_the_nats_server_is_killed() {
    let mut site = Site::start(3).await;
    let doors = doors(&site);
    let load = Load::start_through(&doors, "doors", 24);
    load.await_more(300).await;
    for _ in 0..2 {
        site.nats.kill();
        load.await_more(600).await;
        // A read at each door sees what was acknowledged at another.
        for (number, door) in doors.iter().enumerate() {
            let id = format!("seen-{number}-{}", load.acknowledged());
            let next = &doors[(number + 1) % doors.len()];
            wait::until_true("a write at one door", LIMIT, || async {
                let answer = door.set_param("seen", &json!(id), &id).await;
                matches!(answer, Answer::Reply(reply) if reply.is_ok())
            })
            .await;
            assert_eq!(next.read_param("seen").await.at("/item/value"), &json!(id));
        }
        site.nats.restart();
        load.await_more(300).await;
    }
    let history = load.finish().await;
    assert!(history.longest_gap() < Duration::from_secs(20), "{:?}", history.longest_gap());
    history.check(&doors[1]).await;
    site.await_leader().await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_costs_writers_at_other_doors_nothing_that_was_acknowledged() {
    let mut site = Site::start(3).await;
    site.nats.kill();
    let leader = wait::until("a door tells who leads", ELECTION_LIMIT, || async {
        let status = door(&site, 0).request("control.node.n1.status", "").await;
        match status {
            Answer::Reply(reply) => reply.at("/item/leader").as_u64(),
            Answer::NoResponders | Answer::TimedOut | Answer::Failed(_) => None,
        }
    })
    .await;
    let leader = usize::try_from(leader).unwrap() - 1;
    let others: Vec<BareDoor> =
        (0..3).filter(|index| *index != leader).map(|index| door(&site, index)).collect();
    let load = Load::start_through(&others, "failover", 12);
    load.await_more(200).await;
    site.agents[leader].kill();
    load.await_more(300).await;
    let history = load.finish().await;
    history.check(&others[0]).await;
    site.agents[leader].start();
    site.nats.restart();
    site.await_leader().await;
    site.await_equal_digests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_a_command_is_refused_and_a_stale_read_is_answered() {
    let mut site = Site::start(3).await;
    let door = door(&site, 0);
    door.set_param("kept", &json!(1), "kept").await.accepted();
    site.agents[1].kill();
    site.agents[2].kill();
    wait::until_true("a command is refused at once", ELECTION_LIMIT, || async {
        let answer = door.set_param("lost", &json!(1), "lost").await;
        matches!(answer, Answer::Reply(reply) if reply.code() == Some("no_leader"))
    })
    .await;
    let stale = [("Flotilla-Consistency", "stale")];
    let read = door.request_with("control.query.param.get.kept", &stale, "").await.accepted();
    assert_eq!(read.at("/item/value"), &json!(1));
    door.param("kept").await.refused("no_leader");
    site.start_all();
    wait::until_true("the same command is taken", LIMIT, || async {
        let answer = door.set_param("lost", &json!(1), "lost").await;
        matches!(answer, Answer::Reply(reply) if reply.is_ok())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stops_answers_what_it_took() {
    let mut site = Site::start(3).await;
    let doors = doors(&site);
    let load = Load::start_through(&doors, "stop", 24);
    load.await_more(200).await;
    site.agents[1].stop().await;
    site.agents[1].start();
    load.await_more(200).await;
    let history = load.finish().await;
    history.check(&doors[0]).await;
    let answers = join_all((0..8).map(|n| {
        let door = doors[n % 3].clone();
        async move { door.read_param(&format!("load.stop.w{n}")).await }
    }));
    assert_eq!(answers.await.len(), 8);
}
