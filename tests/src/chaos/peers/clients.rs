//! Clients of a store of registers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fleet_judge::{Heard, Wanted};
use tokio::task::JoinHandle;

use crate::chaos::peers::registers::{Answered, Registers};
use crate::chaos::random::Random;
use crate::chaos::recorder::{Begun, Recorder};
use crate::chaos::terminal::Terminal;
use crate::wait;

/// Keys that are used at a time, and operations after which others are: as for our own clients,
/// but sooner, because whatever is not answered stays unknown.
const KEYS: usize = 6;
const OPERATIONS_PER_KEY: u64 = 30;
/// After an operation without an answer.
const PAUSE: Duration = Duration::from_millis(60);
/// A store that is left in peace answers within this.
const LAST_LIMIT: Duration = Duration::from_secs(60);

/// Running clients.
#[derive(Debug)]
pub struct Clients {
    stop: Arc<AtomicBool>,
    used: Arc<AtomicU64>,
    running: Vec<JoinHandle<()>>,
}

struct Client<S> {
    name: String,
    store: S,
    random: Random,
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    used: Arc<AtomicU64>,
    /// The key that it saw last, and its version.
    seen: Option<(String, u64)>,
}

impl Clients {
    /// Starts one client of each of these, all of them at a terminal.
    pub fn start<S: Registers>(
        terminal: &Terminal,
        stores: Vec<S>,
        recorder: &Arc<Recorder>,
        random: &mut Random,
    ) -> Self {
        let (stop, used) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let running = stores.into_iter().enumerate().map(|(number, store)| {
            let client = Client {
                name: number.to_string(),
                store,
                random: random.branch(),
                recorder: Arc::clone(recorder),
                stop: Arc::clone(&stop),
                used: Arc::clone(&used),
                seen: None,
            };
            terminal.spawn(client.run())
        });
        let running = running.collect();
        Self { stop, used, running }
    }

    /// Lets each end what it is at.
    ///
    /// # Panics
    /// If one has panicked.
    pub async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.running.drain(..) {
            client.await.expect("a client ends without a panic");
        }
    }

    /// Reads what is there now of every key that was used.
    ///
    /// # Panics
    /// If one is not answered.
    pub async fn read_all<S: Registers>(
        &self,
        terminal: &Terminal,
        store: S,
        recorder: Arc<Recorder>,
    ) {
        let used = self.used.load(Ordering::Relaxed);
        let read = async move {
            for generation in 0..=used / generation_operations() {
                for number in 0..KEYS {
                    let key = key(generation, number);
                    let begun = recorder.begin("last", &key, |_| Wanted::Read);
                    let answer = wait::until("a last read is answered", LAST_LIMIT, || async {
                        match store.get(&key).await {
                            Answered::Heard(heard, place) => Some((heard, place)),
                            Answered::Refused | Answered::Nothing => None,
                        }
                    });
                    let (heard, place) = answer.await;
                    note(&recorder, begun, heard, place);
                }
            }
        };
        terminal.run(read).await;
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

fn generation_operations() -> u64 {
    OPERATIONS_PER_KEY * KEYS as u64
}

fn key(generation: u64, number: usize) -> String {
    format!("g{generation}.k{number}")
}

impl<S: Registers> Client<S> {
    async fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let used = self.used.fetch_add(1, Ordering::Relaxed);
            let key = key(used / generation_operations(), self.random.below(KEYS));
            match self.random.below(100) {
                0..50 => self.read(&key).await,
                50..80 => self.set(&key, None).await,
                _ => {
                    let held = self.seen.as_ref().filter(|(seen, _)| *seen == key);
                    let expected = held.map_or(0, |(_, version)| *version);
                    self.set(&key, Some(expected)).await;
                }
            }
        }
    }

    async fn read(&mut self, key: &str) {
        let begun = self.recorder.begin(&self.name, key, |_| Wanted::Read);
        let answer = self.store.get(key).await;
        if let Answered::Heard(Heard::Saw(Some((_, version))), _) = answer {
            self.seen = Some((key.to_owned(), version));
        }
        self.end(begun, answer).await;
    }

    async fn set(&mut self, key: &str, expected: Option<u64>) {
        let wanted = |value| Wanted::Set { value, expected };
        let begun = self.recorder.begin(&self.name, key, wanted);
        let answer = self.store.set(key, begun.id, expected).await;
        self.end(begun, answer).await;
    }

    async fn end(&self, begun: Begun, answer: Answered) {
        match answer {
            Answered::Heard(heard, place) => return note(&self.recorder, begun, heard, place),
            Answered::Refused => self.recorder.refused(begun),
            Answered::Nothing => self.recorder.given_up(begun),
        }
        wait::stays_true("it is not over yet", PAUSE, || async { true }).await;
    }
}

fn note(recorder: &Recorder, begun: Begun, heard: Heard, place: Option<u64>) {
    match (heard, place) {
        (Heard::Saw(saw), looked) => recorder.saw(begun, saw, looked),
        (heard, Some(revision)) => recorder.decided(begun, heard, revision),
        (heard, None) => recorder.declined(begun, heard),
    }
}
