//! The names of things, parsed once.
//!
//! An id is 1 to n dot-joined tokens of `[a-z0-9_-]{1,32}`. The alphabet is that narrow because an id becomes the
//! tail of a NATS subject: a dot separates areas that permissions can be given for, and a wildcard, a space or an
//! upper-case look-alike would let one name stand for another. Free text goes into `name` and labels instead.
//!
//! Each id is a type of its own, made only by parsing, so nothing behind the edge checks a string again. All are
//! cheap to clone. The message of an [`IdError`] names the field, the limit and the offending character, escaped:
//! it may be printed on a terminal or into a log as it is.
//!
//! Its tests are in `tests/suite/ids.rs`.

mod numbers;
mod request;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

pub(crate) use numbers::write_hex;
pub use numbers::{NodeId, Revision, SiteUid, TokenId};
pub use request::RequestId;
pub(crate) use request::uuid_v7_unix_ms;

use crate::limits::{ID_TOKENS_MAX, PARAM_TOKENS_MAX, TOKEN_CHARS_MAX};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{field} is empty; give {expected}")]
    Empty {
        /// What was being parsed.
        field: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// Two dots in a row, or a dot at an end.
    #[error("{field} has an empty part: dots separate parts of 1 to {TOKEN_CHARS_MAX} characters")]
    EmptyToken {
        /// What was being parsed.
        field: &'static str,
    },
    /// A character outside the alphabet.
    #[error("{field} contains {found} at position {at}; allowed are {allowed}")]
    Character {
        /// What was being parsed.
        field: &'static str,
        /// The character, quoted and escaped.
        found: String,
        /// Where: 1 is the first character. All before it are of the alphabet, so characters are bytes.
        at: usize,
        /// The alphabet.
        allowed: &'static str,
    },
    /// Longer than allowed.
    #[error("{field} is {found} characters long; the limit is {limit}")]
    TooLong {
        /// What was being parsed.
        field: &'static str,
        /// The length found.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// More dot-joined parts than allowed.
    #[error("{field} has {found} parts; the limit is {limit}")]
    TooManyTokens {
        /// What was being parsed.
        field: &'static str,
        /// The number found.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Not of the form expected.
    #[error("{field} is not valid; give {expected}")]
    Form {
        /// What was being parsed.
        field: &'static str,
        /// What would be right.
        expected: &'static str,
    },
}

const TOKEN_ALPHABET: &str = "a-z, 0-9, _ and -";
const TOKENS_ALPHABET: &str = "a-z, 0-9, _, - and dots between parts";

/// The character `found` with `before` bytes before it.
fn character(field: &'static str, found: char, before: usize, allowed: &'static str) -> IdError {
    let at = before.saturating_add(1);
    IdError::Character { field, found: format!("{:?}", found.to_string()), at, allowed }
}

fn check_token(field: &'static str, token: &str) -> Result<(), IdError> {
    if token.is_empty() {
        return Err(IdError::EmptyToken { field });
    }
    if token.len() > TOKEN_CHARS_MAX {
        return Err(IdError::TooLong { field, found: token.len(), limit: TOKEN_CHARS_MAX });
    }
    Ok(())
}

/// Checks 1 to `tokens_max` dot-joined tokens.
pub(crate) fn check_tokens(
    field: &'static str,
    text: &str,
    tokens_max: usize,
) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { field, expected: "a name of a-z, 0-9, _ and -" });
    }
    let allowed = if tokens_max == 1 { TOKEN_ALPHABET } else { TOKENS_ALPHABET };
    let in_alphabet =
        |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-') || (c == '.' && tokens_max > 1);
    if let Some((at, found)) = text.char_indices().find(|(_, c)| !in_alphabet(*c)) {
        return Err(character(field, found, at, allowed));
    }
    let found = text.split('.').count();
    if found > tokens_max {
        return Err(IdError::TooManyTokens { field, found, limit: tokens_max });
    }
    text.split('.').try_for_each(|token| check_token(field, token))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $tokens_max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check_tokens($field, text, $tokens_max)?;
                Ok(Self(Arc::from(text)))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// The name of a site: one token.
    SiteName, "the site name", 1
}
text_id! {
    /// The name of a node: one token, unique among the members that have not been removed.
    NodeName, "the node name", 1
}
text_id! {
    /// The id of a device: 1 to 4 tokens.
    DeviceId, "the device id", ID_TOKENS_MAX
}
text_id! {
    /// The id of a link: 1 to 4 tokens.
    LinkId, "the link id", ID_TOKENS_MAX
}
text_id! {
    /// The key of a parameter: 1 to 8 tokens.
    ParamKey, "the parameter key", PARAM_TOKENS_MAX
}

impl LinkId {
    /// Comes before every id that can be parsed; used as the start of ranges only.
    pub(crate) fn lowest() -> Self {
        Self(Arc::from(""))
    }
}
