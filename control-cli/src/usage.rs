//! Reading the command line, and telling what is wrong with it.
//!
//! The library repeats what was typed as it is. Here it is shortened and escaped first, so that
//! neither ten kilobytes nor the control codes of a terminal come back. And the usage that it shows
//! names every option that a variable of the environment has set, as if it were required; here it is
//! the usage of the command itself.

use std::ffi::OsString;

use clap::{
    CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue},
};

use crate::{cli::Cli, value};

/// Options that all commands share and that mean something to `dev` too.
const DEV_GLOBALS: [&str; 1] = ["site"];

/// The command line's definition.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command();
    // `dev` starts its own server and site; the options are taken there, and not shown.
    let unused: Vec<clap::Arg> = command
        .get_arguments()
        .filter(|arg| arg.is_global_set() && !DEV_GLOBALS.contains(&arg.get_id().as_str()))
        .map(|arg| arg.clone().hide(true))
        .collect();
    command.mut_subcommand("dev", |dev| dev.args(unused))
}

/// Reads words, of which the first is the program's name.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut command = command();
    let matches = command
        .try_get_matches_from_mut(words.iter().cloned())
        .map_err(|error| tamed(error, &mut command, &words))?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

fn tamed(mut error: clap::Error, command: &mut clap::Command, words: &[OsString]) -> clap::Error {
    let texts: Vec<(ContextKind, ContextValue)> =
        error.context().filter_map(|(kind, value)| Some((kind, tamed_value(value)?))).collect();
    for (kind, value) in texts {
        error.insert(kind, value);
    }
    if error.get(ContextKind::Usage).is_some() {
        let usage = innermost(command, words).render_usage();
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
    }
    error
}

/// A text of the user's, as it may be shown; `None` for what the library itself wrote.
fn tamed_value(value: &ContextValue) -> Option<ContextValue> {
    match value {
        ContextValue::String(text) => Some(ContextValue::String(value::shown(text))),
        ContextValue::Strings(texts) => {
            Some(ContextValue::Strings(texts.iter().map(|text| value::shown(text)).collect()))
        }
        ContextValue::None
        | ContextValue::Bool(_)
        | ContextValue::Number(_)
        | ContextValue::StyledStr(_)
        | ContextValue::StyledStrs(_)
        | _ => None,
    }
}

/// The command that was typed, as far as it was.
fn innermost(command: &mut clap::Command, words: &[OsString]) -> clap::Command {
    command.build();
    let words = words.iter().skip(1).filter_map(|word| word.to_str());
    words.fold(command.clone(), |found, word| found.find_subcommand(word).cloned().unwrap_or(found))
}
