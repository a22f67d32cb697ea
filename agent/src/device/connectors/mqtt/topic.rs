//! MQTT topics: what may be published to and subscribed to, per the rules of the protocol and a
//! bound of ours.

use crate::device::connector::Refusal;

use super::super::settings::shown;

/// Bytes of a topic. MQTT allows 65,535; nothing that is named by people comes near this.
pub(crate) const TOPIC_BYTES_MAX: usize = 512;

/// Checks a topic to publish to or to subscribe to exactly: no wildcards.
///
/// # Errors
/// What is wrong with it, as a problem of `field`.
pub(crate) fn check(field: &str, topic: &str) -> Result<(), Refusal> {
    problem_of(topic).map_or(Ok(()), |problem| {
        Err(Refusal::new(field, format!("{} is no topic: {problem}", shown(topic))))
    })
}

fn problem_of(topic: &str) -> Option<String> {
    if topic.is_empty() {
        return Some("it is empty".to_owned());
    }
    if topic.len() > TOPIC_BYTES_MAX {
        return Some(format!("it has {} bytes, the limit is {TOPIC_BYTES_MAX}", topic.len()));
    }
    if topic.starts_with('$') {
        return Some("topics that start with $ are the broker's own".to_owned());
    }
    let bad = topic.chars().find(|c| matches!(c, '+' | '#') || c.is_control());
    bad.map(|c| format!("{c:?} may not stand in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics() {
        for good in ["a", "a/b", "/a", "a//b", "zigbee2mqtt/Lampe links oben", "ü/ß"] {
            assert!(check("t", good).is_ok(), "{good}");
        }
        let long = "a".repeat(TOPIC_BYTES_MAX + 1);
        for bad in ["", "a/+/b", "#", "a/#", "a\0b", "a\nb", "$SYS/x", long.as_str()] {
            assert!(check("t", bad).is_err(), "{bad:?}");
        }
    }
}
