//! What tells whether a device is there, and what several of them mean together.

use fleet_state::Value;

use crate::device::connector::{Availability, Refusal};

use super::super::super::settings::Fields;
use super::super::form::scalar;
use super::super::template::{Engine, Template};
use super::SOURCES_MAX;
use super::parts::{Pick, compiled};

/// The words of `availability_mode`, in the order of [`Together`].
const MODES: [&str; 3] = ["all", "any", "latest"];

/// What tells whether a device is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alive {
    /// The topic.
    pub(crate) topic: Template,
    /// Where in the payload.
    pub(crate) pick: Pick,
    /// The word for yes.
    pub(crate) online: Value,
    /// The word for no.
    pub(crate) offline: Value,
    /// Without it the device can't be reached; with it nobody knows, as with a bridge that doesn't
    /// look after its devices.
    pub(crate) offline_only: bool,
}

impl Alive {
    /// Whether both understand a payload in the same way.
    pub(crate) fn reads_like(&self, other: &Self) -> bool {
        (&self.pick, &self.online, &self.offline) == (&other.pick, &other.online, &other.offline)
    }
}

/// What several topics mean together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Together {
    /// All of them must say that it is there.
    #[default]
    All,
    /// One that says so is enough.
    Any,
    /// The one that spoke last is right.
    Latest,
}

/// What the topics of a device said last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    each: Vec<Option<bool>>,
    latest: Option<bool>,
}

impl Said {
    /// One has spoken.
    pub(crate) fn take(&mut self, rules: &[Alive], place: usize, is_there: bool) {
        self.each.resize(rules.len(), None);
        if let (Some(rule), Some(said)) = (rules.get(place), self.each.get_mut(place)) {
            *said = Some(is_there);
            if !rule.offline_only {
                self.latest = Some(is_there);
            }
        }
    }

    /// What one of them said last.
    pub(crate) fn of(&self, place: usize) -> Option<bool> {
        self.each.get(place).copied().flatten()
    }

    /// What it means for the device.
    pub(crate) fn means(&self, rules: &[Alive], together: Together, sleepy: bool) -> Availability {
        let (mut told, mut ways) = (Vec::new(), Vec::new());
        for (place, rule) in rules.iter().enumerate() {
            if rule.offline_only { ways.push(self.of(place)) } else { told.push(self.of(place)) }
        }
        if ways.contains(&Some(false)) {
            return Availability::Offline;
        }
        let every = |said| !told.is_empty() && told.iter().all(|told| *told == Some(said));
        let is_there = match together {
            Together::All if told.contains(&Some(false)) => Some(false),
            Together::Any if told.contains(&Some(true)) => Some(true),
            Together::All => every(true).then_some(true),
            Together::Any => every(false).then_some(false),
            Together::Latest => self.latest,
        };
        // Nobody can tell more of one that sleeps than that what is told it is kept for it.
        let is_kept = told.is_empty() && !ways.is_empty() && ways.iter().all(Option::is_some);
        match is_there {
            Some(false) => Availability::Offline,
            Some(true) if sleepy => Availability::Asleep,
            Some(true) => Availability::Online,
            None if sleepy && is_kept => Availability::Asleep,
            None => Availability::Unknown,
        }
    }
}

/// Reads `availability`.
pub(super) fn alive(engine: &mut Engine, fields: &Fields<'_>) -> Result<Vec<Alive>, Refusal> {
    let mut all = Vec::new();
    for item in fields.objects("availability")? {
        let topic = compiled(engine, &item, "topic", item.required_text("topic")?)?;
        let pick = Pick::parse(engine, &item)?;
        let word = |field, default| {
            item.get(field).map_or_else(
                || Value::from(default),
                |value| value.as_text().map_or_else(|| value.clone(), scalar),
            )
        };
        let (online, offline) = (word("online", "online"), word("offline", "offline"));
        if online == offline {
            return Err(item.refuse("offline", "it is the same word as online"));
        }
        let offline_only = item.flag("offline_only")?.unwrap_or(false);
        item.finish()?;
        all.push(Alive { topic, pick, online, offline, offline_only });
    }
    if all.len() > SOURCES_MAX {
        return Err(fields.refuse("availability", format!("more than {SOURCES_MAX} topics")));
    }
    Ok(all)
}

/// Reads `availability_mode`.
pub(super) fn together(fields: &Fields<'_>) -> Result<Together, Refusal> {
    Ok(match fields.word("availability_mode", &MODES)? {
        Some(1) => Together::Any,
        Some(2) => Together::Latest,
        _ => Together::All,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    /// `+` is there, `-` is not, of the topics a, b and c in this order.
    fn heard(settings: &str, said: &str) -> &'static str {
        let model = parse(settings).unwrap();
        let mut known = Said::default();
        for word in said.split_whitespace() {
            let place = usize::from(word.as_bytes()[1] - b'a');
            known.take(&model.alive, place, word.starts_with('+'));
        }
        known.means(&model.alive, model.together, model.sleepy).as_str()
    }

    #[test]
    fn what_several_topics_mean_together() {
        let cases = [
            ("", [("all", "unknown"), ("any", "unknown"), ("latest", "unknown")]),
            ("+a", [("all", "unknown"), ("any", "online"), ("latest", "online")]),
            ("-a", [("all", "offline"), ("any", "unknown"), ("latest", "offline")]),
            ("+a +b", [("all", "online"), ("any", "online"), ("latest", "online")]),
            ("+a -b", [("all", "offline"), ("any", "online"), ("latest", "offline")]),
            ("-b +a", [("all", "offline"), ("any", "online"), ("latest", "online")]),
            ("-a -b", [("all", "offline"), ("any", "offline"), ("latest", "offline")]),
        ];
        for (said, expected) in cases {
            for (mode, expected) in expected {
                let settings = format!(
                    r#"{{"properties": {{"t": {{"read": {{"topic": "t"}}}}}},
                        "availability": [{{"topic": "a"}}, {{"topic": "b"}}],
                        "availability_mode": "{mode}"}}"#
                );
                assert_eq!(heard(&settings, said), expected, "{mode}: {said}");
            }
        }
    }

    #[test]
    fn a_way_that_is_there_says_nothing_of_the_device() {
        for (sleepy, up) in [("false", "unknown"), ("true", "asleep")] {
            let settings = format!(
                r#"{{"properties": {{"t": {{"read": {{"topic": "t"}}}}}}, "sleepy": {sleepy},
                    "availability": {{"topic": "a", "offline_only": true}}}}"#
            );
            assert_eq!(heard(&settings, ""), "unknown");
            assert_eq!(heard(&settings, "+a"), up);
            assert_eq!(heard(&settings, "+a -a"), "offline");
        }
        let both = r#"{"properties": {"t": {"read": {"topic": "t"}}}, "availability": [
            {"topic": "a", "offline_only": true}, {"topic": "b"}]}"#;
        let cases =
            [("+b", "online"), ("+a +b", "online"), ("-a +b", "offline"), ("+a", "unknown")];
        for (said, expected) in cases {
            assert_eq!(heard(both, said), expected, "{said}");
        }
    }
}
