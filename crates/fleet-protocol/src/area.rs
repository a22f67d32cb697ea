//! An area: the leading tokens that many ids share, as in `hall2` or `hall2.line-3`.
//!
//! Areas cut ids at their dots, exactly as NATS permissions do (`hall2.>`), so that what a user may
//! list is what a user may name: `hall2` holds `hall2` and `hall2.lamp-1`, never `hall20`.

use std::{str::FromStr, sync::Arc};

use fleet_state::ParamKey;
use thiserror::Error;

/// Why a text is not an area.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "an area is one to eight tokens of a-z, 0-9, _ and - joined by dots, as in hall2 or hall2.line-3"
)]
pub struct AreaError;

/// One to eight dot-joined tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Area(Arc<str>);

impl Area {
    /// Whether an id lies in this area.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        id.strip_prefix(&*self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// Whether an id comes after everything in this area, in the order of ids.
    ///
    /// Lists stop here instead of walking on. `-` sorts before `.`, so ids such as `hall2-b` may lie
    /// between `hall2` and `hall2.a`; only what no longer begins with the text is surely past it.
    #[must_use]
    pub fn is_before(&self, id: &str) -> bool {
        id > &*self.0 && !id.starts_with(&*self.0)
    }
}

impl AsRef<str> for Area {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Area {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Area {
    type Err = AreaError;

    fn from_str(text: &str) -> Result<Self, AreaError> {
        // The longest kind of id has the same tokens, so its parser is the area's parser.
        text.parse::<ParamKey>().map(|key| Self(Arc::from(key.as_ref()))).map_err(|_| AreaError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_is_cut_at_dots() {
        let area: Area = "hall2".parse().unwrap();
        for inside in ["hall2", "hall2.lamp-1", "hall2.line-3.motor"] {
            assert!(area.contains(inside), "{inside}");
        }
        for outside in ["hall20", "hall20.lamp", "hall2-b", "hall", "hall1.lamp", ""] {
            assert!(!area.contains(outside), "{outside}");
        }
        assert!(area.is_before("hall3"));
        assert!(!area.is_before("hall2-b"));
        assert!(!area.is_before("hall2.zzz"));
        assert!(!area.is_before("hall1"));
    }

    #[test]
    fn areas_have_the_tokens_of_ids() {
        for bad in ["", ".", "a..b", "A", "a.*", "a.>", "a b", "a.b.c.d.e.f.g.h.i"] {
            assert!(bad.parse::<Area>().is_err(), "{bad}");
        }
    }
}
