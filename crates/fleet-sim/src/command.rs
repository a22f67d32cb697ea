//! What the program can be asked for.

mod history;
mod judge;
mod many;
mod seeds;
mod total;

pub(crate) use history::history;
pub(crate) use judge::judge;
pub(crate) use seeds::seeds;

pub(crate) const USAGE: &str = "usage:
  fleet-sim [--seed N] [--seeds COUNT] [--jobs COUNT] [--with NAME=VALUE]... [--shrink] [--twice] [-v]
    --seed N       the first seed (default 0)
    --seeds COUNT  how many, from there on (default 1)
    --jobs COUNT   how many at a time (default: as there are processors)
    --with NAME=VALUE
                   choose otherwise than the seed, such as --with faults=kill,split
    --shrink       look for a smaller run that fails like a failing seed
    --twice        run each seed twice and compare what happened
    -v             print every event but frames

  fleet-sim judge [--bug NAME] [--seeds COUNT] [--rounds COUNT] [--seed N]
    Makes mistakes on purpose, one at a time, and tells which invariant finds each of them after
    how many seeds. Needs a build with --features seeded-bugs.
    --bug NAME      only those whose names begin like this
    --seeds COUNT   seeds until a hunt is given up (default 2000)
    --rounds COUNT  hunts for each, of which the median is told (default 1)
    --seed N        the first seed of the first round (default 1000000)
    --jobs COUNT    hunts at a time (default: as there are processors)
    --with NAME=VALUE
                    choose otherwise than the seed and the catalogue of mistakes

  fleet-sim history [--operations COUNT]
    Tells how long both judges take for a made-up history of so many operations.";

/// The value of an option.
pub(crate) fn value(args: &mut impl Iterator<Item = String>, of: &str) -> Result<String, String> {
    args.next().ok_or(format!("{of} needs a value"))
}

/// The number that is the value of an option.
pub(crate) fn number(args: &mut impl Iterator<Item = String>, of: &str) -> Result<u64, String> {
    let value = value(args, of)?;
    value.parse().map_err(|_| format!("{of} needs a number, not {value:?}"))
}

/// How many of something, which is the value of an option.
pub(crate) fn count(args: &mut impl Iterator<Item = String>, of: &str) -> Result<usize, String> {
    usize::try_from(number(args, of)?).map_err(|_| format!("{of} can't be so many"))
}
