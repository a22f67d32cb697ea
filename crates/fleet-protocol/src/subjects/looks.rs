//! Where one looks along a link: a query with a verb of its own.

use fleet_state::{IdError, LinkId};

use super::{Inbound, SubjectError, Subjects};
use crate::{Noun, look::LookVerb};

impl Subjects {
    /// Where the owner of a link is asked to look along it.
    #[must_use]
    pub fn look(&self, link: &LinkId, verb: LookVerb) -> String {
        format!("{}control.query.{}.{verb}.{link}", self.prefix, Noun::Link)
    }
}

/// Reads what follows `query.`, if it is a look.
pub(super) fn parse(rest: &str) -> Option<Result<Inbound, SubjectError>> {
    let rest = rest.strip_prefix(Noun::Link.as_str())?.strip_prefix('.')?;
    let (verb, id) = rest.split_once('.').unwrap_or((rest, ""));
    let verb = LookVerb::from_name(verb)?;
    let id = id.parse().map_err(|error: IdError| SubjectError::Id(error.to_string()));
    Some(id.map(|link| Inbound::Look(link, verb)))
}
