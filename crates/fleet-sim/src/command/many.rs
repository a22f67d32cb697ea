//! Much of the same kind at once.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Results that nobody has looked at yet.
const ENDED_MAX: usize = 16;

/// As many as there are processors.
pub(crate) fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Does each of `0..count`, `jobs` at a time, and tells what became of it, in the order in which
/// they end. Each is done by one thread from its beginning to its end.
pub(crate) fn each<T: Send>(
    count: usize,
    jobs: usize,
    work: impl Fn(usize) -> T + Sync,
    mut ended: impl FnMut(usize, T),
) {
    let next = AtomicUsize::new(0);
    let (next, work) = (&next, &work);
    let (tell, told) = mpsc::sync_channel(ENDED_MAX);
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, count.max(1)) {
            let tell = tell.clone();
            scope.spawn(move || {
                while let Some(one) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|one| *one < count)
                {
                    // Who is told waits for all of them.
                    let _told = tell.send((one, work(one)));
                }
            });
        }
        drop(tell);
        told.into_iter().for_each(|(one, result)| ended(one, result));
    });
}
