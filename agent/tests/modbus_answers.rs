//! The connector `modbus` against an endpoint whose answers come late, garbled or not at all.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

mod counterparts;

use std::future::pending;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use counterparts::owner::{Owner, device};
use counterparts::{LIMIT, values};
use fleet_state::Value;
use flotilla_agent::device::connector::{Handed, ReadErrorKind, WriteErrorKind};
use flotilla_agent::device::connectors::modbus::ModbusConnector;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the connector waits for an answer here.
const TIMEOUT_MS: u64 = 150;
/// Longer than that.
const LATE: Duration = Duration::from_millis(2 * TIMEOUT_MS);
const NEVER: &str = "86400000";

/// What an endpoint does to an answer. With nothing left of it, it closes the connection instead.
type Garble = fn(&mut Vec<u8>, u64);

/// What an endpoint is, and what it has done.
#[derive(Clone)]
struct Known {
    garble: Option<Garble>,
    late: Duration,
    words: [u16; 8],
    coil: bool,
    connections: u64,
    answers: u64,
}

#[derive(Clone)]
struct Endpoint {
    known: Arc<watch::Sender<Known>>,
    port: u16,
}

impl Endpoint {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (garble, late) = (None, Duration::ZERO);
        let known = Known { garble, late, words: [0; 8], coil: false, connections: 0, answers: 0 };
        let endpoint = Self { known: Arc::new(watch::channel(known).0), port };
        let serving = endpoint.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.known.send_modify(|known| known.connections += 1);
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        endpoint
    }

    fn set(&self, change: impl FnOnce(&mut Known)) {
        self.known.send_modify(change);
    }

    fn garble(&self, garble: Option<Garble>) {
        self.set(|known| known.garble = garble);
    }

    fn connections(&self) -> u64 {
        self.known.borrow().connections
    }

    async fn until_answered(&self, answers: u64) {
        let mut seen = self.known.subscribe();
        let wait = seen.wait_for(|known| known.answers >= answers);
        timeout(LIMIT, wait).await.expect("it is asked").unwrap();
    }

    async fn serve(self, mut stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        loop {
            let mut header = [0; 7];
            stream.read_exact(&mut header).await.ok()?;
            let mut request = vec![0; usize::from(header[5]) - 1];
            stream.read_exact(&mut request).await.ok()?;
            let mut answer = header.to_vec();
            let mut now = self.known.borrow().clone();
            now.answer(&request, &mut answer);
            let seed = now.answers;
            self.set(|known| {
                (known.words, known.coil, known.answers) = (now.words, now.coil, seed + 1);
            });
            end_of_frame(&mut answer);
            if let Some(garble) = now.garble {
                garble(&mut answer, seed);
            }
            if answer.is_empty() {
                return None;
            }
            let _late = timeout(now.late, pending::<()>()).await;
            stream.write_all(&answer).await.ok()?;
        }
    }
}

impl Known {
    /// Does what a request says, and answers it.
    fn answer(&mut self, request: &[u8], answer: &mut Vec<u8>) {
        let word = |place: usize| u16::from_be_bytes([request[place], request[place + 1]]);
        let (function, address) = (request[0], usize::from(word(1)));
        answer.push(function);
        match function {
            1 => answer.extend([1, u8::from(self.coil)]),
            3 => {
                let words = &self.words[address..address + usize::from(word(3))];
                answer.push(2 * words.len() as u8);
                answer.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            }
            5 => self.coil = word(3) != 0,
            6 => self.words[address] = word(3),
            16 => {
                for place in 0..usize::from(word(3)) {
                    self.words[address + place] = word(6 + 2 * place);
                }
            }
            22 => self.words[address] = (self.words[address] & word(3)) | (word(5) & !word(3)),
            other => panic!("function {other} is asked for"),
        }
        if function >= 5 {
            answer.extend(&request[1..if function == 22 { 7 } else { 5 }]);
        }
    }
}

/// Says in the header how long a frame is.
fn end_of_frame(frame: &mut [u8]) {
    let length = (frame.len() as u16 - 6).to_be_bytes();
    frame[4..6].copy_from_slice(&length);
}

/// The `n`th of a row of bytes that look random and are always the same.
fn random(seed: u64, n: usize) -> u8 {
    let mixed = (seed * 1_000 + n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8
}

/// Answers that are none, with the name of each.
const GARBLED: [(&str, Garble); 13] = [
    ("another question's number", |answer, _| answer[1] ^= 1),
    ("another protocol", |answer, _| answer[3] = 1),
    ("another unit", |answer, _| answer[6] = 9),
    ("another function", |answer, _| answer[7] = if answer[7] == 3 { 4 } else { 15 }),
    ("an exception of another function", |answer, _| {
        answer.truncate(7);
        answer.extend([0x80 | 23, 2]);
        end_of_frame(answer);
    }),
    ("too short", |answer, _| {
        answer.pop();
        end_of_frame(answer);
    }),
    ("too long", |answer, _| {
        answer.push(7);
        end_of_frame(answer);
    }),
    ("nothing but its function", |answer, _| {
        answer.truncate(8);
        end_of_frame(answer);
    }),
    ("more of it than was asked for", |answer, _| {
        if answer[7] > 3 {
            // The place that was written, or how many words.
            let last = if answer[7] == 16 { 11 } else { 9 };
            answer[last] += 1;
            return;
        }
        answer[8] += 2;
        answer.splice(9..9, [0, 7]);
        end_of_frame(answer);
    }),
    ("a length of nothing", |answer, _| answer[4..6].fill(0)),
    ("a length that never comes", |answer, _| answer[4..6].fill(0xff)),
    ("random bytes", |answer, seed| {
        let garbage = |n| random(seed, n);
        *answer = (0..40).map(garbage).collect();
    }),
    ("nothing, and the connection closed", |answer, _| answer.clear()),
];

fn map(interval_ms: &str) -> String {
    format!(
        r#"{{"groups": {{"default": {{"interval_ms": {interval_ms}}}}}, "registers": {{
        "level": {{"table": "holding", "address": 0, "type": "u16", "access": "read_write"}},
        "pair": {{"table": "holding", "address": 2, "type": "u32", "access": "read_write"}},
        "light": {{"table": "coil", "address": 0, "access": "read_write"}},
        "enable": {{"table": "holding", "address": 5, "bit": 3, "access": "read_write",
                   "bit_write": "mask"}}}}}}"#
    )
}

async fn hall(interval_ms: &str) -> (Endpoint, Owner) {
    let endpoint = Endpoint::start().await;
    let address = format!("tcp://127.0.0.1:{}", endpoint.port);
    let settings = format!(r#"{{"timeout_ms": {TIMEOUT_MS}}}"#);
    let devices = vec![device("drive", "1", &map(interval_ms))];
    let (connector, link) = (ModbusConnector::default(), (address.as_str(), settings.as_str()));
    let mut owner = Owner::connect(&connector, link, devices, Path::new("/nowhere")).await.unwrap();
    owner.until_online("drive").await;
    // All that is read at first has been read.
    assert!(owner.read("drive", LIMIT).await.is_ok());
    (endpoint, owner)
}

#[tokio::test]
async fn a_garbled_answer_to_a_write_leaves_it_in_doubt_and_the_session_goes_on() {
    let (endpoint, mut owner) = hall(NEVER).await;
    let mut number = 1;
    for (name, garble) in GARBLED {
        for wish in ["level", "pair", "light", "enable"] {
            number += 1;
            let is_bit = wish == "light" || wish == "enable";
            let value = if is_bit { (number % 2 == 0).to_string() } else { number.to_string() };
            let before = endpoint.connections();
            endpoint.garble(Some(garble));
            let wish = format!(r#"{{"{wish}": {value}}}"#);
            let error = owner.write("drive", &wish).await.unwrap_err();
            assert!(error.may_have_acted, "{name}, {wish}: {error}");
            let clear = match error.kind {
                WriteErrorKind::Timeout => "in time",
                _ if name.ends_with("closed") => "the endpoint has closed it",
                _ => "makes no sense",
            };
            assert!(error.message.contains(clear), "{name}, {wish}: {error}");
            endpoint.garble(None);
            assert_eq!(owner.write("drive", &wish).await, Ok(Handed::Acknowledged), "{name}");
            assert_eq!(endpoint.connections(), before + 1, "{name}: what was open is not used on");
        }
    }
}

#[tokio::test]
async fn a_garbled_answer_to_a_question_is_an_error_and_the_next_one_counts() {
    let (endpoint, mut owner) = hall(NEVER).await;
    for (number, (name, garble)) in (2..).zip(GARBLED) {
        let wish = format!(r#"{{"level": {number}}}"#);
        assert_eq!(owner.write("drive", &wish).await, Ok(Handed::Acknowledged), "{name}");
        endpoint.garble(Some(garble));
        let error = owner.read("drive", LIMIT).await.unwrap_err();
        let kinds = [ReadErrorKind::LinkLost, ReadErrorKind::Timeout];
        assert!(kinds.contains(&error), "{name}: {error:?}");
        endpoint.garble(None);
        let read = values(&owner.read("drive", LIMIT).await.unwrap());
        assert_eq!(read["level"], number.to_string(), "{name}");
    }
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_the_next_one() {
    let (endpoint, mut owner) = hall(NEVER).await;
    for number in 2..6 {
        endpoint.set(|known| known.late = LATE);
        let wish = format!(r#"{{"level": {number}}}"#);
        let error = owner.write("drive", &wish).await.unwrap_err();
        assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Timeout, true), "{error}");
        let answer = owner.read("drive", LIMIT).await;
        assert_eq!(answer, Err(ReadErrorKind::Timeout));
        // Both answers come while the next questions are asked and answered.
        endpoint.set(|known| (known.late, known.words[0]) = (Duration::ZERO, 100 + number));
        let asking = tokio::time::Instant::now();
        while asking.elapsed() < 2 * LATE {
            let read = values(&owner.read("drive", LIMIT).await.unwrap());
            assert_eq!(read["level"], (100 + number).to_string());
            let wish = format!(r#"{{"level": {}}}"#, 100 + number);
            assert_eq!(owner.write("drive", &wish).await, Ok(Handed::Acknowledged));
        }
    }
}

#[tokio::test]
async fn nothing_of_a_garbled_answer_is_reported() {
    let (endpoint, mut owner) = hall("50").await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    for (number, (name, garble)) in (1..).zip(GARBLED) {
        endpoint.garble(Some(garble));
        let answers = endpoint.known.borrow().answers;
        endpoint.until_answered(answers + 6).await;
        endpoint.set(|known| {
            (known.garble, known.words) = (None, [number, 0, 0, 0, 0, 0, 0, 0]);
        });
        let seen = Arc::clone(&heard);
        owner
            .until(name, |report| {
                seen.lock().unwrap().extend(values(&report.values));
                report.values.get("level") == Some(&Value::from(u64::from(number)))
            })
            .await;
        // What was read before it was garbled may have come late.
        for (property, value) in heard.lock().unwrap().drain(..) {
            let truths = match property.as_str() {
                "level" => [number.to_string(), (number - 1).to_string()],
                "pair" => ["0".to_owned(), "0".to_owned()],
                _ => ["false".to_owned(), "false".to_owned()],
            };
            assert!(truths.contains(&value), "{name}: {property} {value}");
        }
    }
}
