//! What a link to a Modbus endpoint is registered with.
//!
//! Address: `tcp://host:502`, or `host` alone; `rtu+tcp://host:port` for a serial bus behind a
//! device server that passes the bytes of the bus on as they are. Settings: `timeout_ms` for one
//! question (1,000 unless said) and `gap_ms`, a pause between questions that some devices need.

use std::time::Duration;

use crate::device::connector::{LinkSetup, Refusal};

use super::super::settings::{Fields, shown};

const PORT: u16 = 502;
const TIMEOUT_MS: i64 = 1_000;

/// An endpoint, and how it is spoken with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Name or address.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
    /// The bytes are those of a serial bus, with their checksum.
    pub(crate) serial_frames: bool,
    /// How long one question may take.
    pub(crate) timeout: Duration,
    /// Pause between questions.
    pub(crate) gap: Duration,
}

impl Endpoint {
    /// Reads a link's address and settings.
    ///
    /// # Errors
    /// What is wrong, in which field.
    pub(crate) fn parse(link: &LinkSetup) -> Result<Self, Refusal> {
        let (host, port, serial_frames) = address(&link.address)?;
        let fields = Fields::new("settings", &link.settings);
        let millis = |field, range, default| {
            let number: i64 = fields.whole(field, range)?.unwrap_or(default);
            Ok(Duration::from_millis(u64::try_from(number).unwrap_or(0)))
        };
        let endpoint = Self {
            host,
            port,
            serial_frames,
            timeout: millis("timeout_ms", 20..=30_000, TIMEOUT_MS)?,
            gap: millis("gap_ms", 0..=1_000, 0)?,
        };
        fields.finish()?;
        Ok(endpoint)
    }
}

fn address(text: &str) -> Result<(String, u16, bool), Refusal> {
    let refuse = |problem: &str| {
        Refusal::new("address", format!("{} {problem}", shown(text)))
            .with_hint("tcp://host:502, or rtu+tcp://host:port for a serial bus behind a server")
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
    Ok((host.to_owned(), port, serial_frames))
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
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port), "{address}");
            assert_eq!(endpoint.serial_frames, serial);
        }
        for bad in ["", "udp://plc", "tcp://", "plc:0", "plc:x", "[::1", "[::1]x", "[plc]", "a b"] {
            assert_eq!(parse(bad, Object::new()).unwrap_err().field, "address", "{bad:?}");
        }
        let mut settings = Object::new();
        settings.insert("timeout_ms", Value::from(1_i64));
        assert_eq!(parse("plc", settings).unwrap_err().field, "settings.timeout_ms");
    }
}
