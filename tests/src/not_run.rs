//! Tests that this machine can't run, said so loudly.
//!
//! A test runner shows nothing of a test that passes, so a line on standard error is not enough:
//! it also goes into the file that `FLOTILLA_NOT_RUN` names, which `make test` and `make
//! test-all` print at their end. With `FLOTILLA_MUST_RUN` in the environment such a test fails.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Says that a test is not run, and why.
///
/// # Panics
/// If `FLOTILLA_MUST_RUN` is set.
pub fn say(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("FLOTILLA_MUST_RUN").is_none(), "{test} can't run: {why}");
    eprintln!("NOT RUN: {test}: {why}");
    let Some(path) = std::env::var_os("FLOTILLA_NOT_RUN") else { return };
    let line = format!("NOT RUN: {test}: {}\n", why.replace('\n', " "));
    let file = OpenOptions::new().create(true).append(true).open(&path);
    // One write, so that lines of tests that run at once stay whole.
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| panic!("{} can't be written: {error}", path.display()));
}
