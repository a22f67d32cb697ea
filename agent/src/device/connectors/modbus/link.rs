//! What a link to a Modbus endpoint is registered with.
//!
//! Address: `tcp://host:502`, or `host` alone; `rtu+tcp://host:port` for a serial bus behind a
//! device server that passes the bytes of the bus on as they are; `rtu:///dev/ttyUSB0` for a
//! serial port of the gateway itself. Settings: `timeout_ms` for one question (1,000 unless said)
//! and `gap_ms`, a pause between questions that some devices need; of a serial port `baud`,
//! `parity` and `stop_bits`, which are 19,200, even and 1 unless said, as the standard has it.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::device::connector::{ANSWER_MS_MAX, LinkSetup, Refusal};

use super::super::settings::{Fields, shown};
use super::serial::{Line, Parity};

const PORT: u16 = 502;
const TIMEOUT_MS: i64 = 1_000;
/// Nobody waits longer for an answer.
const TIMEOUT_MS_MAX: i64 = ANSWER_MS_MAX.cast_signed();
/// A late answer is not waited for longer.
const LISTEN_MAX: Duration = Duration::from_millis(500);
const BAUD: i64 = 19_200;
const BAUDS: std::ops::RangeInclusive<i64> = 1_200..=1_000_000;
/// Bits of one character on the line, with its parity or second stop bit.
const CHARACTER_BITS: u64 = 11;
/// The pause between frames is three characters and a half, but no shorter than this.
const SILENCE_US_MIN: u64 = 1_750;

/// An endpoint, and how it is spoken with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Where it is.
    pub(crate) at: At,
    /// How long one question may take.
    pub(crate) timeout: Duration,
    /// Pause between questions.
    pub(crate) gap: Duration,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// On the network.
    Network {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// The bytes are those of a serial bus, with their checksum.
        serial_frames: bool,
    },
    /// At a serial port of this node.
    Serial {
        /// The port.
        path: PathBuf,
        /// How bits go over it.
        line: Line,
    },
}

impl Endpoint {
    /// Reads a link's address and settings.
    ///
    /// # Errors
    /// What is wrong, in which field.
    pub(crate) fn parse(link: &LinkSetup) -> Result<Self, Refusal> {
        let fields = Fields::new("settings", &link.settings);
        let millis = |field, range, default| {
            let number: i64 = fields.whole(field, range)?.unwrap_or(default);
            Ok(Duration::from_millis(u64::try_from(number).unwrap_or(0)))
        };
        let mut gap = millis("gap_ms", 0..=1_000, 0)?;
        let at = match port(&link.address)? {
            Some(path) => {
                let line = line(&fields)?;
                gap = gap.max(silence(line.baud));
                At::Serial { path, line }
            }
            None => network(&link.address)?,
        };
        let endpoint =
            Self { at, timeout: millis("timeout_ms", 20..=TIMEOUT_MS_MAX, TIMEOUT_MS)?, gap };
        fields.finish()?;
        Ok(endpoint)
    }

    /// Whether it is a port of one node.
    pub(crate) fn is_wired(&self) -> bool {
        matches!(self.at, At::Serial { .. })
    }

    /// How long a line is listened to after a question without an answer, so that a late one is
    /// nobody's: as long again as was waited for it, within bounds. On the network, where answers
    /// bear numbers, not at all.
    pub(crate) fn listen(&self) -> Duration {
        match self.at {
            At::Network { serial_frames: false, .. } => Duration::ZERO,
            At::Network { .. } | At::Serial { .. } => self.timeout.min(LISTEN_MAX),
        }
    }
}

/// How a serial line is to be set.
fn line(fields: &Fields<'_>) -> Result<Line, Refusal> {
    let baud = fields.whole("baud", BAUDS)?.unwrap_or(BAUD);
    let parity = match fields.word("parity", &["even", "odd", "none"])? {
        Some(1) => Parity::Odd,
        Some(2) => Parity::None,
        _ => Parity::Even,
    };
    let two_stop_bits = fields.whole("stop_bits", 1..=2)? == Some(2);
    Ok(Line { baud: u32::try_from(baud).unwrap_or(u32::MAX), parity, two_stop_bits })
}

/// How long a bus is silent between two frames.
fn silence(baud: u32) -> Duration {
    let characters_us = CHARACTER_BITS * 3_500_000 / u64::from(baud.max(1));
    Duration::from_micros(characters_us.max(SILENCE_US_MIN))
}

/// The serial port of an address, if it names one.
fn port(text: &str) -> Result<Option<PathBuf>, Refusal> {
    let Some(rest) = text.strip_prefix("rtu://") else { return Ok(None) };
    let path = Path::new(rest);
    let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    let named = !rest.contains(|c: char| c.is_control());
    if path.starts_with("/dev") && path.components().count() > 2 && plain && named {
        return Ok(Some(path.to_owned()));
    }
    let problem = format!("{} names no serial port", shown(text));
    Err(Refusal::new("address", problem)
        .with_hint("rtu:///dev/ttyUSB0, or better rtu:///dev/serial/by-id/…, which stays the same"))
}

fn network(text: &str) -> Result<At, Refusal> {
    let refuse = |problem: &str| {
        Refusal::new("address", format!("{} {problem}", shown(text)))
            .with_hint("tcp://host:502, rtu+tcp://host:port for a serial bus behind a server, or rtu:///dev/ttyUSB0")
    };
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    let serial_frames = match scheme {
        "tcp" | "modbus" => false,
        "rtu+tcp" => true,
        _ => return Err(refuse("speaks another protocol")),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or_else(|| refuse("lacks a bracket"))?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| refuse("is no address"))?;
            (host, after.strip_prefix(':').or_else(|| (!after.is_empty()).then_some(after)))
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(named) {
        return Err(refuse("has no usable host"));
    }
    let port = match port {
        None => PORT,
        Some(port) => {
            let port = port.parse().ok().filter(|port| *port != 0);
            port.ok_or_else(|| refuse("has no usable port"))?
        }
    };
    Ok(At::Network { host: host.to_owned(), port, serial_frames })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleet_state::{Object, Value};

    use super::*;

    fn parse(address: &str, settings: Object) -> Result<Endpoint, Refusal> {
        let (id, address) = ("plc".parse().unwrap(), Arc::from(address));
        Endpoint::parse(&LinkSetup { id, address, settings })
    }

    #[test]
    fn addresses() {
        for (address, host, port, serial) in [
            ("plc", "plc", 502, false),
            ("10.0.0.7:1502", "10.0.0.7", 1502, false),
            ("tcp://plc.hall", "plc.hall", 502, false),
            ("rtu+tcp://server:4001", "server", 4001, true),
            ("[::1]:1502", "::1", 1502, false),
        ] {
            let endpoint = parse(address, Object::new()).unwrap();
            let at = At::Network { host: host.to_owned(), port, serial_frames: serial };
            assert_eq!(endpoint.at, at, "{address}");
            assert!(!endpoint.is_wired());
        }
        for bad in ["", "udp://plc", "tcp://", "plc:0", "plc:x", "[::1", "[::1]x", "[plc]", "a b"] {
            assert_eq!(parse(bad, Object::new()).unwrap_err().field, "address", "{bad:?}");
        }
        let mut settings = Object::new();
        settings.insert("timeout_ms", Value::from(1_i64));
        assert_eq!(parse("plc", settings).unwrap_err().field, "settings.timeout_ms");
    }

    #[test]
    fn serial_ports() {
        let endpoint = parse("rtu:///dev/ttyUSB0", Object::new()).unwrap();
        let line = Line { baud: 19_200, parity: Parity::Even, two_stop_bits: false };
        assert_eq!(endpoint.at, At::Serial { path: "/dev/ttyUSB0".into(), line });
        assert!(endpoint.is_wired());
        // Three characters and a half at 19,200 baud.
        assert_eq!(endpoint.gap, Duration::from_micros(2_005));
        let mut settings = Object::new();
        settings.insert("baud", 9_600_i64);
        settings.insert("parity", "none");
        settings.insert("stop_bits", 2_i64);
        settings.insert("gap_ms", 20_i64);
        let endpoint = parse("rtu:///dev/serial/by-id/usb-x", settings).unwrap();
        let At::Serial { line, .. } = endpoint.at else { panic!("no serial port") };
        assert_eq!(line, Line { baud: 9_600, parity: Parity::None, two_stop_bits: true });
        assert_eq!(endpoint.gap, Duration::from_millis(20));
        for bad in
            ["rtu://", "rtu:///dev", "rtu:///etc/passwd", "rtu:///dev/../etc/x", "rtu://dev/x"]
        {
            assert_eq!(parse(bad, Object::new()).unwrap_err().field, "address", "{bad}");
        }
        for (address, field, value) in [
            ("rtu:///dev/ttyS0", "baud", 300_i64),
            ("rtu:///dev/ttyS0", "stop_bits", 3),
            ("rtu:///dev/ttyS0", "parity", 1),
            ("tcp://plc", "baud", 9_600),
        ] {
            let mut settings = Object::new();
            settings.insert(field, value);
            let refused = parse(address, settings).unwrap_err();
            assert_eq!(refused.field, format!("settings.{field}"), "{address}");
        }
    }
}
