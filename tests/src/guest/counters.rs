//! Writers for any store, a power cut of all its guests, and a judge of what it kept.
//!
//! Every writer counts one key upwards and goes on only when a number was acknowledged. After
//! the cut the key must hold the last acknowledged number, or the one after it, whose
//! acknowledgement was on its way; and after every later cut what it held then. So the same fire
//! burns us and others, and the judge is known to find what is known to be wrong with some of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::guest::controls::Controls;
use crate::guest::dice::Dice;
use crate::guest::row::Row;
use crate::wait;

const WRITERS: usize = 8;
/// Until so many writes are acknowledged, also on a busy machine.
const PROGRESS_LIMIT: Duration = Duration::from_secs(90);
/// Until a store answers again after a cut.
const BACK_LIMIT: Duration = Duration::from_secs(120);

/// A store of numbers under keys.
pub trait Store: Clone + Send + Sync + 'static {
    /// Writes a number; whether it was acknowledged. Ends within a few seconds.
    fn put(&self, key: &str, number: u64) -> impl Future<Output = bool> + Send;

    /// The number under a key, 0 if there is none; `None` if the store did not answer.
    fn get(&self, key: &str) -> impl Future<Output = Option<u64>> + Send;

    /// Waits until an answer to [`Store::get`] is final after a cut: nothing that is still being
    /// recovered is taken for lost. False if all of it is gone, and nothing can be written.
    fn await_recovered(&self) -> impl Future<Output = bool> + Send {
        async { true }
    }
}

/// A number that was acknowledged and is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Where it was.
    pub key: String,
    /// The last one that was acknowledged, or found after an earlier cut.
    pub acknowledged: u64,
    /// What was there after the cut.
    pub found: u64,
}

/// What a store kept.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How many writes were acknowledged.
    pub acknowledged: u64,
    /// The keys that went back.
    pub lost: Vec<Lost>,
    /// How often the guests lost power together.
    pub cuts: usize,
    /// Whether the store is gone with everything in it; there were no more cuts then.
    pub gone: bool,
    /// What the cuts cost the control programs.
    pub controls: Controls,
}

impl Verdict {
    /// How many acknowledged writes are gone.
    pub fn writes_lost(&self) -> u64 {
        self.lost.iter().map(|lost| lost.acknowledged - lost.found).sum()
    }

    fn judge(&mut self, kept: &mut Kept, found: u64) {
        let (key, promised) = (&kept.key, kept.promised);
        assert!(found <= kept.sent, "{key} holds {found}, which was never written");
        if found < promised {
            self.lost.push(Lost { key: key.clone(), acknowledged: promised, found });
        }
        // What was read once may not go away again, and what is lost is lost once.
        kept.promised = found;
    }
}

/// What a key has to hold from now on.
#[derive(Debug)]
struct Kept {
    key: String,
    /// This number or a later one: it was acknowledged, or found after a cut.
    promised: u64,
    /// The last one that was sent.
    sent: u64,
}

impl Kept {
    fn acknowledged(key: String, number: u64) -> Self {
        Self { key, promised: number, sent: number + 1 }
    }
}

struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<(String, u64)>>,
}

impl Writers {
    fn start<S: Store>(store: &S, name: &str) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let tasks = (0..WRITERS)
            .map(|writer| {
                let key = format!("{name}.w{writer}");
                let (store, stop) = (store.clone(), Arc::clone(&stop));
                let acknowledged = Arc::clone(&acknowledged);
                tokio::spawn(async move {
                    let mut last = 0;
                    while !stop.load(Ordering::Relaxed) {
                        if store.put(&key, last + 1).await {
                            last += 1;
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    (key, last)
                })
            })
            .collect();
        Self { stop, acknowledged, tasks }
    }

    async fn await_acknowledged(&self, count: usize) {
        let what = format!("{count} writes are acknowledged");
        wait::until_true(&what, PROGRESS_LIMIT, || async {
            self.acknowledged.load(Ordering::Relaxed) >= count
        })
        .await;
    }

    /// The last number of each key that was acknowledged.
    async fn stop(self) -> Vec<(String, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut last = Vec::new();
        for task in self.tasks {
            last.push(task.await.expect("a writer ends without a panic"));
        }
        last
    }
}

/// Cuts the power of all guests so many times while they are written to, and judges after each cut
/// what is there of everything that was ever acknowledged.
///
/// # Panics
/// If the store doesn't come back, if it holds what was never written, or if the power was
/// never cut.
pub async fn burn<S: Store>(row: &mut Row, store: &S, dice: &mut Dice, cuts: usize) -> Verdict {
    let mut verdict = Verdict::default();
    let mut all_kept: Vec<Kept> = Vec::new();
    for cut in 1..=cuts {
        let writers = Writers::start(store, &format!("cut{cut}"));
        writers.await_acknowledged(dice.between(50, 300)).await;
        let all = row.all();
        row.cut(&all).await;
        for (key, acknowledged) in writers.stop().await {
            verdict.acknowledged += acknowledged;
            all_kept.push(Kept::acknowledged(key, acknowledged));
        }
        row.boot(&all, &mut verdict.controls).await;
        verdict.cuts = cut;
        verdict.gone = !store.await_recovered().await;
        for kept in &mut all_kept {
            let found = if verdict.gone { 0 } else { await_number(store, &kept.key).await };
            verdict.judge(kept, found);
        }
        if verdict.gone {
            break;
        }
    }
    verdict.controls.assert_power_was_cut();
    verdict
}

async fn await_number<S: Store>(store: &S, key: &str) -> u64 {
    wait::until(&format!("{key} can be read"), BACK_LIMIT, || store.get(key)).await
}

#[cfg(test)]
mod tests {
    use super::{Kept, Lost, Verdict};

    fn kept(key: &str) -> Kept {
        Kept::acknowledged(key.to_owned(), 7)
    }

    #[test]
    fn a_number_that_went_back_is_found_and_one_on_its_way_is_not_held_against_anybody() {
        let mut verdict = Verdict::default();
        verdict.judge(&mut kept("a"), 7);
        verdict.judge(&mut kept("b"), 8);
        assert!(verdict.lost.is_empty());
        verdict.judge(&mut kept("c"), 4);
        assert_eq!(verdict.writes_lost(), 3);
    }

    #[test]
    fn what_an_earlier_cut_has_left_a_later_one_may_not_take() {
        let mut verdict = Verdict::default();
        let mut kept = kept("a");
        verdict.judge(&mut kept, 8);
        // It was on its way at the first cut, but everybody could read it after that.
        verdict.judge(&mut kept, 7);
        let lost = Lost { key: "a".to_owned(), acknowledged: 8, found: 7 };
        assert_eq!(verdict.lost, [lost]);
        // It is not lost twice.
        verdict.judge(&mut kept, 7);
        assert_eq!(verdict.writes_lost(), 1);
        verdict.judge(&mut kept, 0);
        assert_eq!(verdict.writes_lost(), 8);
    }

    #[test]
    #[should_panic(expected = "never written")]
    fn a_number_out_of_nowhere_is_found() {
        Verdict::default().judge(&mut kept("a"), 9);
    }
}
