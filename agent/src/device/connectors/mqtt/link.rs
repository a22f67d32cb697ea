//! What a link to a broker is registered with.
//!
//! Address: `mqtt://host:1883`, `mqtts://host:8883`, or `host` alone, which is `mqtt`. Settings:
//! `version` (`"5"` unless said, or `"3.1.1"`), `keep_alive_s`, and the names of files in the
//! node's folder for secrets: `credentials` (TOML with `username` and `password`), `ca` (PEM; the
//! system's authorities unless said), `client_certificate` and `client_key` (PEM); and `will`, a
//! `topic` and a `payload`: what the broker publishes when nobody controls the link any more. A secret itself
//! has no place in a link: it would stand in the log of every node.

use crate::device::connector::{LinkSetup, Refusal};

use super::super::settings::{Fields, shown};

/// Seconds between signs of life, unless said.
const KEEP_ALIVE_S: i64 = 10;
/// Characters of the name of a file with a secret.
const FILE_NAME_CHARS_MAX: usize = 64;
/// Bytes of a last will's payload.
const WILL_BYTES_MAX: usize = 4_096;
const PORT: u16 = 1883;
const PORT_TLS: u16 = 8883;

/// A broker, and how it is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    /// Name or address.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
    /// The version of the protocol.
    pub(crate) version: Version,
    /// Seconds between signs of life.
    pub(crate) keep_alive_s: u16,
    /// The file with user and password.
    pub(crate) credentials: Option<String>,
    /// TLS, where it is spoken.
    pub(crate) tls: Option<Tls>,
    /// What it publishes when the connection ends without a goodbye.
    pub(crate) will: Option<Will>,
}

/// What a broker publishes when nobody controls the link any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Will {
    /// On which topic.
    pub(crate) topic: String,
    /// What it says.
    pub(crate) payload: String,
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// 3.1.1.
    V4,
    /// 5.
    V5,
}

/// The files of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The authorities that the broker's certificate may come from.
    pub(crate) ca: Option<String>,
    /// A certificate of ours and its key.
    pub(crate) client: Option<(String, String)>,
}

impl Broker {
    /// Reads a link's address and settings.
    ///
    /// # Errors
    /// What is wrong, in which field.
    pub(crate) fn parse(link: &LinkSetup) -> Result<Self, Refusal> {
        let (host, port, tls) = address(&link.address)?;
        let fields = Fields::new("settings", &link.settings);
        let version = match fields.word("version", &["5", "3.1.1"])? {
            Some(1) => Version::V4,
            _ => Version::V5,
        };
        let keep_alive = fields.whole("keep_alive_s", 5..=600)?.unwrap_or(KEEP_ALIVE_S);
        for secret in ["username", "password", "token"] {
            if link.settings.get(secret).is_some() {
                return Err(fields
                    .refuse(secret, "a secret has no place in the site's state")
                    .with_hint("put it into a file on each node and name that in credentials"));
            }
        }
        let ca = file(&fields, "ca")?;
        let certificate = file(&fields, "client_certificate")?;
        let key = file(&fields, "client_key")?;
        let client = match (certificate, key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, Some(_)) => return Err(fields.missing("client_certificate")),
            (Some(_), None) => return Err(fields.missing("client_key")),
        };
        if !tls && (ca.is_some() || client.is_some()) {
            return Err(Refusal::new("address", "without TLS it has no use for certificates")
                .with_hint("say mqtts://"));
        }
        let will = match fields.object("will")? {
            Some(will) => Some(will_of(will)?),
            None => None,
        };
        let broker = Self {
            host,
            port,
            version,
            keep_alive_s: u16::try_from(keep_alive).unwrap_or(u16::MAX),
            credentials: file(&fields, "credentials")?,
            tls: tls.then_some(Tls { ca, client }),
            will,
        };
        fields.finish()?;
        Ok(broker)
    }
}

fn will_of(fields: Fields<'_>) -> Result<Will, Refusal> {
    let topic = fields.required_text("topic")?;
    super::topic::check("settings.will.topic", topic)?;
    let payload = fields.required_text("payload")?;
    if payload.len() > WILL_BYTES_MAX {
        let problem = format!("{} bytes, the limit is {WILL_BYTES_MAX}", payload.len());
        return Err(fields.refuse("payload", problem));
    }
    fields.finish()?;
    Ok(Will { topic: topic.to_owned(), payload: payload.to_owned() })
}

fn address(text: &str) -> Result<(String, u16, bool), Refusal> {
    let refuse = |problem: &str| {
        Refusal::new("address", format!("{} {problem}", shown(text)))
            .with_hint("mqtt://host:1883 or mqtts://host:8883")
    };
    let (scheme, rest) = text.split_once("://").unwrap_or(("mqtt", text));
    let tls = match scheme {
        "mqtt" | "tcp" => false,
        "mqtts" | "ssl" | "tls" => true,
        _ => return Err(refuse("speaks another protocol")),
    };
    if rest.contains('@') {
        return Err(Refusal::new("address", "a user or a secret has no place in an address")
            .with_hint("put them into a file on each node and name that in settings.credentials"));
    }
    let default = if tls { PORT_TLS } else { PORT };
    let (host, port) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or_else(|| refuse("lacks a bracket"))?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| refuse("is no address"))?;
            let port = after.strip_prefix(':');
            if port.is_none() && !after.is_empty() {
                return Err(refuse("has something after the bracket"));
            }
            (host, port)
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
    if tls && host.contains(':') {
        return Err(refuse("has no name that a certificate could be for"));
    }
    let port = match port {
        None => default,
        Some(port) => {
            let port = port.parse().ok().filter(|port| *port != 0);
            port.ok_or_else(|| refuse("has no usable port"))?
        }
    };
    Ok((host.to_owned(), port, tls))
}

/// The name of a file in the folder for secrets: a name and no path.
fn file(fields: &Fields<'_>, field: &'static str) -> Result<Option<String>, Refusal> {
    let Some(name) = fields.text(field)? else {
        return Ok(None);
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let right = !name.is_empty()
        && name.len() <= FILE_NAME_CHARS_MAX
        && !name.starts_with('.')
        && name.chars().all(plain);
    if right {
        return Ok(Some(name.to_owned()));
    }
    Err(fields
        .refuse(field, format!("{} is no plain file name", shown(name)))
        .with_hint("it names a file in the folder for secrets of each node, without a path"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::model::tests::object;
    use super::*;

    fn parse(address: &str, settings: &str) -> Result<Broker, Refusal> {
        Broker::parse(&LinkSetup {
            id: "home".parse().unwrap(),
            address: Arc::from(address),
            settings: object(settings),
        })
    }

    #[test]
    fn addresses() {
        let cases = [
            ("broker", "broker", 1883, false),
            ("broker:1884", "broker", 1884, false),
            ("mqtt://10.0.0.7", "10.0.0.7", 1883, false),
            ("tcp://broker.example", "broker.example", 1883, false),
            ("mqtts://broker", "broker", 8883, true),
            ("[fe80::1]", "fe80::1", 1883, false),
        ];
        for (address, host, port, tls) in cases {
            let broker = parse(address, "{}").unwrap();
            assert_eq!((broker.host.as_str(), broker.port), (host, port), "{address}");
            assert_eq!(broker.tls.is_some(), tls, "{address}");
        }
        for bad in [
            "",
            "http://broker",
            "mqtt://",
            "broker:0",
            "broker:99999",
            "broker:x",
            "[::1",
            "[::1]x",
            "[broker]",
            "a b",
            "mqtt://u:p@broker",
            "broker/path",
            "broker\n",
            "mqtts://[::1]:9883",
        ] {
            assert_eq!(parse(bad, "{}").unwrap_err().field, "address", "{bad:?}");
        }
    }

    #[test]
    fn settings() {
        let broker = parse(
            "mqtts://broker",
            r#"{"version": "3.1.1", "keep_alive_s": 30, "credentials": "home.toml", "ca": "ca.pem",
                "client_certificate": "c.pem", "client_key": "k.pem"}"#,
        )
        .unwrap();
        assert_eq!(broker.version, Version::V4);
        assert_eq!(broker.keep_alive_s, 30);
        assert_eq!(broker.tls.unwrap().client, Some(("c.pem".to_owned(), "k.pem".to_owned())));
        let will = parse("broker", r#"{"will": {"topic": "a", "payload": "b"}}"#).unwrap().will;
        assert_eq!(will, Some(Will { topic: "a".to_owned(), payload: "b".to_owned() }));
        let cases = [
            (r#"{"version": "4"}"#, "settings.version"),
            (r#"{"version": 5}"#, "settings.version"),
            (r#"{"keep_alive_s": 1}"#, "settings.keep_alive_s"),
            (r#"{"password": "x"}"#, "settings.password"),
            (r#"{"credentials": "../x"}"#, "settings.credentials"),
            (r#"{"credentials": ".hidden"}"#, "settings.credentials"),
            (r#"{"ca": "ca.pem"}"#, "address"),
            (r#"{"client_key": "k.pem"}"#, "settings.client_certificate"),
            (r#"{"credentails": "a"}"#, "settings.credentails"),
            (r#"{"will": {"payload": "OFF"}}"#, "settings.will.topic"),
            (r#"{"will": {"topic": "a/#", "payload": "OFF"}}"#, "settings.will.topic"),
            (r#"{"will": {"topic": "a", "payload": 0}}"#, "settings.will.payload"),
            (r#"{"will": {"topic": "a", "payload": "b", "retain": true}}"#, "settings.will.retain"),
        ];
        for (settings, field) in cases {
            assert_eq!(parse("broker", settings).unwrap_err().field, field, "{settings}");
        }
    }
}
