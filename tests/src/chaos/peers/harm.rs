//! What breaks three servers, and the proof that it did.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::chaos::peers::trio::{SERVERS, Trio};
use crate::chaos::random::Random;
use crate::chaos::recorder::Recorder;
use crate::lan::cuts::Cut;
use crate::wait;

/// How long a fault is left as it is, in milliseconds.
const HOLD_MS: (usize, usize) = (500, 4_000);
/// Until each cut has thrown something away.
const CUT_LIMIT: Duration = Duration::from_secs(60);
/// Until writes are done again when a fault is over.
const PROGRESS_LIMIT: Duration = Duration::from_secs(90);
/// So many of them.
const PROGRESS_WRITES: u64 = 20;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// SIGKILL to one server.
    Kill,
    /// SIGKILL to all.
    KillAll,
    /// SIGSTOP to one.
    Pause,
    /// One and two that don't hear each other.
    Split,
    /// One hears nobody, or nobody hears it.
    OneWay,
}

impl Harm {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Kill, Self::KillAll, Self::Pause, Self::Split, Self::OneWay];
}

/// Makes faults, each once in a round, for as long as `span` and one round at least. Clients are
/// in nobody's way: they reach every server all the time. Gives what was done, in its order.
///
/// # Panics
/// If a fault can't be shown to have fired, a server ends by itself, or writes are not done again.
pub async fn break_for(
    span: Duration,
    trio: &mut Trio,
    recorder: &Recorder,
    random: &mut Random,
) -> Vec<String> {
    let (begun, mut done) = (Instant::now(), Vec::new());
    await_progress(recorder).await;
    while begun.elapsed() < span {
        let mut round = Harm::ALL;
        random.shuffle(&mut round);
        for harm in round {
            let proof = strike(harm, trio, random).await;
            eprintln!("{:>7.1} s {harm:?}: {proof}", begun.elapsed().as_secs_f64());
            recorder.tell(json!({ "fault": format!("{harm:?}"), "proof": proof }));
            done.push(format!("{harm:?}: {proof}"));
            await_progress(recorder).await;
        }
    }
    done
}

async fn await_progress(recorder: &Recorder) {
    let wanted = recorder.counts().done + PROGRESS_WRITES;
    wait::until_true("writes are done again", PROGRESS_LIMIT, || async {
        recorder.counts().done >= wanted
    })
    .await;
}

/// Makes one fault, leaves it for a while, and mends it. Gives the proof that it has fired.
async fn strike(harm: Harm, trio: &mut Trio, random: &mut Random) -> String {
    let one = random.below(SERVERS);
    let (low, high) = HOLD_MS;
    let hold = Duration::from_millis(random.between(low, high) as u64);
    let mut names = trio.names();
    let name = names.remove(one);
    match harm {
        Harm::Kill => {
            trio.kill(one);
            pass(hold).await;
            trio.start(one);
            format!("{name} killed")
        }
        Harm::KillAll => {
            (0..SERVERS).for_each(|index| trio.kill(index));
            pass(hold).await;
            (0..SERVERS).for_each(|index| trio.start(index));
            "all killed".to_owned()
        }
        Harm::Pause => {
            trio.pause(one);
            pass(hold).await;
            trio.resume(one);
            format!("{name} stood still")
        }
        Harm::Split => cut(trio, &Cut::between(&[name], &names), hold).await,
        Harm::OneWay if random.percent(50) => {
            cut(trio, &[Cut::one_way(&[name], &names)], hold).await
        }
        Harm::OneWay => cut(trio, &[Cut::one_way(&names, &[name])], hold).await,
    }
}

async fn cut(trio: &Trio, cuts: &[Cut], hold: Duration) -> String {
    trio.lan.cut(cuts);
    pass(hold).await;
    let all = "every cut has thrown something away";
    wait::until_true(all, CUT_LIMIT, || async { trio.lan.fired().is_all() }).await;
    format!("{} packets thrown away", trio.lan.heal().total())
}

async fn pass(hold: Duration) {
    wait::stays_true("time passes", hold, || async { true }).await;
}
