//! Commands reach simulated devices, and their own journal says what really came.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::time::{Duration, Instant};

use flotilla_tests::cut::Wire;
use flotilla_tests::field::{Broker, FieldDevice};
use flotilla_tests::plant::{DEVICE_LIMIT, Plant, set, set_verified};
use flotilla_tests::site::{Plan, Site};
use flotilla_tests::wait;
use serde_json::{Value, json};

/// From the death of an owner to the next owner's record, on a machine that holds nothing up.
const TAKE_OVER_MAX: Duration = Duration::from_secs(4);

async fn item(site: &Site, id: &str) -> Value {
    let reply = site.client.request(&format!("control.query.device.get.{id}"), "").await.accepted();
    reply.at("/item").clone()
}

async fn invoke(site: &Site, id: &str, request: &str) {
    let body = json!({"action": "blink", "args": {}}).to_string();
    let headers = [("Flotilla-Request-Id", request), ("Flotilla-Ttl", "60s")];
    let subject = format!("control.commands.device.invoke.{id}");
    site.client.request_with(&subject, &headers, body).await.accepted();
}

fn update(id: &str) -> String {
    format!("control.commands.device.update.{id}")
}

fn blink(id: &str) -> String {
    format!("control.commands.device.invoke.{id}")
}

/// Asks again, in the same words, until an agent has taken it.
async fn ask_until_taken(site: &Site, subject: &str, headers: &[(&str, &str)], body: &Value) {
    let client = site.client.hasty();
    wait::until_true("an agent takes the command", DEVICE_LIMIT, || async {
        client.request_with(subject, headers, body.to_string()).await.is_ok()
    })
    .await;
}

async fn invocation_stage(site: &Site, request: &str) -> Option<String> {
    let subject = format!("control.query.command.get.{request}");
    let answer = site.client.hasty().request(&subject, "").await;
    answer.is_ok().then(|| answer.reply().at("/item/stage").as_str().map(ToOwned::to_owned))?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_says_how_far_it_got() {
    let site = Site::start(1).await;
    let plant = Plant::register(&site, "plant", &json!({})).await;
    let policy = json!({"on_return": "discard", "on_drift": "report", "settle": "100ms"});
    plant.device(&site, "lamp", "auto", &policy).await;

    let reply = set(&site, "lamp", &json!({"on": true}), &[("Flotilla-Wait", "verified")]).await;
    assert_eq!(reply.at("/stage"), "verified", "{}", reply.0);
    let lamp = item(&site, "lamp").await;
    assert_eq!(lamp["observed"]["reported"]["on"]["value"], json!(true), "{lamp}");

    // Away: the wait runs out, and the answer says committed and why.
    plant.happens(&json!({"device": "lamp", "did": "availability", "availability": "offline"}));
    wait::until_true("the lamp is seen to be away", DEVICE_LIMIT, || async {
        item(&site, "lamp").await["observed"]["availability"] == json!("offline")
    })
    .await;
    let headers =
        [("Flotilla-Wait", "sent"), ("Flotilla-Timeout", "500ms"), ("Flotilla-Ttl", "1s")];
    let reply = set(&site, "lamp", &json!({"on": false}), &headers).await;
    assert_eq!(reply.at("/stage"), "committed", "{}", reply.0);
    // Its time passes, it never happened, and it does not happen when the lamp comes back.
    wait::until_true("it has expired", DEVICE_LIMIT, || async {
        item(&site, "lamp").await["desired"]["on"] == json!(true)
    })
    .await;
    plant.happens(&json!({"device": "lamp", "did": "availability", "availability": "online"}));
    wait::until_true("the lamp is seen to be back", DEVICE_LIMIT, || async {
        item(&site, "lamp").await["observed"]["availability"] == json!("online")
    })
    .await;
    set_verified(&site, "lamp", &json!({"dim": 3})).await;
    let told = plant.done("lamp", "write");
    assert!(told.iter().all(|line| line["values"]["on"] != json!(false)), "{told:?}");

    // The wall switch is shown, not fought. That of the fan is used after it, and is.
    plant.device(&site, "fan", "auto", &json!({"on_drift": "enforce", "settle": "100ms"})).await;
    set_verified(&site, "fan", &json!({"on": true})).await;
    let before = plant.done("lamp", "write").len();
    plant.happens(&json!({"device": "lamp", "did": "hand", "values": {"on": false}}));
    wait::until_true("the drift is shown", DEVICE_LIMIT, || async {
        item(&site, "lamp").await["observed"]["drift"]["on"]["reported"] == json!(false)
    })
    .await;
    let enforced = plant.done("fan", "write").len();
    plant.happens(&json!({"device": "fan", "did": "hand", "values": {"on": false}}));
    wait::until_true("the fan is enforced", DEVICE_LIMIT, || async {
        plant.done("fan", "write").len() > enforced
    })
    .await;
    set_verified(&site, "lamp", &json!({"dim": 4})).await;
    let told = plant.done("lamp", "write");
    assert_eq!(told.len(), before + 1, "{told:?}");
    assert_eq!(told[before]["values"], json!({"dim": 4}), "{told:?}");
    let listed = site.cli.json(&["device", "get", "lamp"]);
    assert_eq!(listed["observed"]["drift"]["on"]["desired"], json!(true), "{listed}");
    plant.check();

    // Of what nobody hears, a wait and a watch end with what can be known, and say so.
    let mute = Plant::register(&site, "mute", &json!({"readable": false, "reports": false})).await;
    mute.device(&site, "siren", "manual", &json!({})).await;
    let (begun, id) = (Instant::now(), "sound-the-siren");
    let headers =
        [("Flotilla-Wait", "verified"), ("Flotilla-Timeout", "60s"), ("Flotilla-Request-Id", id)];
    let reply = set(&site, "siren", &json!({"on": true}), &headers).await;
    assert!(begun.elapsed() < DEVICE_LIMIT, "it has waited for what nobody can know");
    assert_eq!(reply.at("/stage"), "acknowledged", "{}", reply.0);
    assert!(reply.0.to_string().contains("nobody hears what becomes of it"), "{}", reply.0);
    let watched = site.cli.run(&["command", "watch", id]).expect_code(0);
    assert!(watched.stdout.contains("nobody hears"), "{}", watched.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_device_is_protected_against_a_second_writer_is_printed() {
    let site = Site::start(1).await;
    let broker = Broker::start(site.workplace().path());
    let (_drive, drive) = FieldDevice::drive(site.workplace().path(), "drive");
    let link = |id: &'static str, connector: &'static str, address: String| {
        let body = json!({"connector": connector, "address": address, "placement": "any"});
        let (client, subject) = (&site.client, format!("control.commands.link.register.{id}"));
        async move { client.request(&subject, body.to_string()).await.accepted() }
    };
    let mqtt = json!({"properties": {"on": {"read": {"topic": "on"}}}});
    let speed = json!({"table": "holding", "address": 100, "type": "u16"});
    let modbus = json!({"registers": {"speed": speed}});
    let cases = [
        ("mqtt", broker.address(), "", mqtt, "broker"),
        ("modbus", drive, "1", modbus, "lease"),
        ("nats", String::new(), "", json!({}), "lease"),
        ("nats", String::new(), "", json!({"fences": true}), "device"),
        ("simulated", String::new(), "", json!({}), "lease"),
        // Its link became another one, on which it is nothing.
        ("simulated", String::new(), "", json!({}), "none"),
    ];
    let links = ["mqtt", "modbus", "nats", "nats", "simulated", "other"];
    for (number, (link_id, case)) in links.into_iter().zip(&cases).enumerate() {
        let (connector, address, unit, settings, _) = case;
        link(link_id, connector, address.clone()).await;
        let body = json!({"link": link_id, "address": unit, "settings": settings});
        let subject = format!("control.commands.device.register.d{number}");
        site.client.request(&subject, body.to_string()).await.accepted();
    }
    link("other", "mqtt", broker.address()).await;
    for (number, (connector, _, _, settings, fence)) in cases.iter().enumerate() {
        let id = format!("d{number}");
        wait::until_true("its fence is known", DEVICE_LIMIT, || async {
            item(&site, &id).await["observed"]["fence"] == *fence
        })
        .await;
        let shown = site.cli.run(&["device", "get", &id]).expect_code(0).stdout;
        let mut facts = shown.lines().filter_map(|line| line.split_once(char::is_whitespace));
        let printed = facts.find_map(|(name, text)| (name == "fence:").then_some(text.trim()));
        assert_eq!(printed, Some(*fence), "{connector} {settings}: {shown}");
    }
    let refused = item(&site, "d5").await["observed"].clone();
    assert_eq!(refused["why"], "refused", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_device_is_as_its_new_link_says_and_in_doubt_while_that_is_paused() {
    let site = Site::start(1).await;
    // The epochs of a link begin with its registration: those of the second one are higher.
    let old = Plant::register(&site, "old", &json!({})).await;
    let new = Plant::register(&site, "new", &json!({})).await;
    let hand = |level: u64| json!({"device": "lamp", "did": "hand", "values": {"level": level}});
    let until_shown = |what: &'static str, level: u64, availability: &'static str| {
        let site = &site;
        wait::until(what, DEVICE_LIMIT, move || async move {
            let observed = item(site, "lamp").await["observed"].clone();
            let known = &observed["reported"]["level"];
            let is_so = known["value"] == json!(level) && observed["availability"] == availability;
            is_so.then(|| (known["quality"].clone(), observed["note"].clone()))
        })
    };
    new.happens(&hand(1));
    new.device(&site, "lamp", "observe", &json!({})).await;
    until_shown("the lamp is heard over its first link", 1, "online").await;

    old.happens(&hand(2));
    old.device(&site, "lamp", "observe", &json!({})).await;
    let (quality, _) = until_shown("it is heard over the other", 2, "online").await;
    assert_eq!(quality, "good");

    site.cli.run(&["link", "pause", "old"]);
    let (quality, note) = until_shown("it is in doubt", 2, "unknown").await;
    assert_eq!((quality, note), (json!("uncertain"), json!("its link is paused")));
    let shown = site.cli.run(&["device", "get", "lamp"]);
    assert!(shown.stdout.contains("level=2 (uncertain, heard "), "{}", shown.stdout);
    site.cli.run(&["link", "resume", "old"]);
    until_shown("it is heard again", 2, "online").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_killed_with_one_shots_in_its_hands_and_nothing_comes_twice() {
    let mut site = Site::start(3).await;
    let plant = Plant::register(&site, "plant", &json!({"latency_ms": 200})).await;
    let lamps: Vec<String> = (0..6).map(|number| format!("lamp-{number}")).collect();
    for lamp in &lamps {
        plant.device(&site, lamp, "auto", &json!({"on_drift": "enforce"})).await;
        set_verified(&site, lamp, &json!({"on": true})).await;
    }
    let owner = plant.owner_but(&site, &[]).await;
    for (number, lamp) in lamps.iter().enumerate() {
        invoke(&site, lamp, &format!("shot-{number}")).await;
        set(&site, lamp, &json!({"on": false}), &[]).await;
    }
    // Some have been handed over by now, some are on their way, some wait.
    wait::until_true("a one-shot has come", DEVICE_LIMIT, || async {
        lamps.iter().any(|lamp| !plant.done(lamp, "invoke").is_empty())
    })
    .await;
    let (died, held_up) = (Instant::now(), wait::HeldUp::watch());
    site.agents[owner].kill();
    let next = plant.owner_but(&site, &[owner]).await;
    let (took, late) = (died.elapsed(), held_up.so_far());
    println!("take-over of a killed owner's link: {} ms", took.as_millis());
    assert!(took < TAKE_OVER_MAX + late, "{took:?}, of which the machine took {late:?}");
    assert!(took > Duration::from_secs(2), "before the lease was over: {took:?}");
    assert_ne!(next, owner);
    for lamp in &lamps {
        set_verified(&site, lamp, &json!({"dim": 1})).await;
    }
    for number in 0..lamps.len() {
        wait::until_true("every one-shot has an end", DEVICE_LIMIT, || async {
            let stage = invocation_stage(&site, &format!("shot-{number}")).await;
            stage.is_some_and(|stage| stage != "committed" && stage != "dispatching")
        })
        .await;
    }
    // The dead one comes back, and writes nothing of what it had in its hands.
    site.start_all();
    site.await_equal_digests().await;
    set_verified(&site, "lamp-0", &json!({"dim": 2})).await;
    plant.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stood_still_past_its_lease_writes_nothing_when_it_wakes() {
    let mut site = Site::start(3).await;
    let plant = Plant::register(&site, "plant", &json!({"latency_ms": 50})).await;
    plant.device(&site, "lamp", "auto", &json!({"on_drift": "enforce"})).await;
    set_verified(&site, "lamp", &json!({"dim": 0})).await;
    let owner = plant.owner_but(&site, &[]).await;
    site.agents[owner].pause();
    let next = plant.owner_but(&site, &[owner]).await;
    for dim in 1..5 {
        set_verified(&site, "lamp", &json!({"dim": dim})).await;
    }
    site.agents[owner].resume();
    set_verified(&site, "lamp", &json!({"dim": 5})).await;
    site.await_equal_digests().await;
    set_verified(&site, "lamp", &json!({"dim": 6})).await;
    assert_eq!(plant.owner_but(&site, &[]).await, next, "who comes back gets nothing back");
    plant.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_in_order_gives_its_links_back_at_once() {
    let mut site = Site::start(3).await;
    let plant = Plant::register(&site, "plant", &json!({})).await;
    plant.device(&site, "lamp", "auto", &json!({})).await;
    set_verified(&site, "lamp", &json!({"dim": 0})).await;
    let owner = plant.owner_but(&site, &[]).await;
    site.agents[owner].stop().await;
    plant.owner_but(&site, &[owner]).await;
    set_verified(&site, "lamp", &json!({"dim": 1})).await;
    plant.check();
}

/// Frames and commands of the third agent go over a wire that can be cut; the mesh carries none.
async fn site_with_wire() -> (Site, Wire) {
    let config = "[raft]\ntransport = \"nats\"\n".to_owned();
    let mut site = Site::start_as(Plan { config, ..Plan::of(3) }).await;
    let wire = Wire::to(site.nats.port()).await;
    let config = site.config().replace(&site.nats.url(), &wire.url());
    site.agents[2].stop().await;
    site.agents[2].set_config(&config);
    site.agents[2].start();
    site.await_status(2).await;
    site.await_leader().await;
    (site, wire)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_cut_off_stops_before_another_begins_with_both_alive() {
    let (site, wire) = site_with_wire().await;
    let plant = Plant::register(&site, "plant", &json!({"latency_ms": 20})).await;
    let lamps: Vec<String> = (0..4).map(|number| format!("lamp-{number}")).collect();
    for lamp in &lamps {
        plant.device(&site, lamp, "auto", &json!({"on_drift": "enforce", "settle": "100ms"})).await;
    }
    site.client.request("control.commands.link.move.plant", r#"{"to":"n3"}"#).await.accepted();
    plant.owner_but(&site, &[0, 1]).await;
    for lamp in &lamps {
        set_verified(&site, lamp, &json!({"dim": 1})).await;
    }
    // The owner is kept busy: a hand turns the lamps, and it enforces, until it may not any more.
    for (number, lamp) in lamps.iter().enumerate() {
        invoke(&site, lamp, &format!("cut-{number}")).await;
        plant.happens(&json!({"device": lamp, "did": "hand", "values": {"dim": 0}}));
    }
    wire.cut();
    for (number, lamp) in lamps.iter().enumerate() {
        // The server may still give requests to the agent that is cut off.
        ask_until_taken(&site, &update(lamp), &[], &json!({"dim": 2})).await;
        let request = format!("after-{number}");
        let headers = [("Flotilla-Request-Id", request.as_str()), ("Flotilla-Ttl", "60s")];
        ask_until_taken(&site, &blink(lamp), &headers, &json!({"action": "blink", "args": {}}))
            .await;
    }
    plant.owner_but(&site, &[2]).await;
    assert!(wire.broken() > 0, "nothing was cut");
    for lamp in &lamps {
        set_verified(&site, lamp, &json!({"dim": 3})).await;
        plant.happens(&json!({"device": lamp, "did": "hand", "values": {"dim": 0}}));
    }
    wire.mend();
    site.await_equal_digests().await;
    for (number, lamp) in lamps.iter().enumerate() {
        for request in [format!("cut-{number}"), format!("after-{number}")] {
            wait::until_true("every one-shot has an end", DEVICE_LIMIT, || async {
                let stage = invocation_stage(&site, &request).await;
                stage.is_some_and(|stage| stage != "committed" && stage != "dispatching")
            })
            .await;
        }
        set_verified(&site, lamp, &json!({"dim": 4})).await;
    }
    assert_eq!(plant.owner_but(&site, &[2]).await, plant.owner_but(&site, &[]).await);
    assert!(plant.is_in_order(), "a former owner wrote after the next one: {:?}", plant.lines());
    plant.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_comes_after_a_command_does_not_say_that_it_was_kept() {
    let site = Site::start(1).await;
    let plant = Plant::register(&site, "plant", &json!({"latency_ms": 1_000})).await;
    plant.device(&site, "lamp", "auto", &json!({"on_drift": "report", "settle": "100ms"})).await;
    let headers = [("Flotilla-Wait", "verified"), ("Flotilla-Timeout", "4s")];
    let wish = json!({"on": true});
    let hold = async {
        wait::until_true("it is wished", DEVICE_LIMIT, || async {
            item(&site, "lamp").await["desired"]["on"] == json!(true)
        })
        .await;
        site.cli.run(&["device", "hold", "lamp"]).expect_code(0);
    };
    let (reply, ()) = tokio::join!(set(&site, "lamp", &wish, &headers), hold);
    let told = reply.0.to_string();
    assert!(!told.contains("nothing is handed"), "it is in the lamp's hands: {told}");
}
