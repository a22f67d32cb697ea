//! Keeping web pages away from the TCP port.
//!
//! A page from anywhere can have the browser on this machine send requests to the loopback. It
//! can't read the answers, but a command needs no reading. Two things give it away, and neither can
//! be forged by a page: every such request carries an `Origin`, and a name that was made to resolve
//! to the loopback stands in `Host`. The Unix socket can't be reached by a page.

use axum::http::{HeaderMap, header};
use fleet_protocol::{ErrorCode, Failure};

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Through the Unix socket, whose permissions say who may.
    Socket,
    /// Through the port, from any program of this machine.
    Loopback,
}

/// Refuses what a web page had a browser send.
pub(super) fn check(caller: Caller, headers: &HeaderMap) -> Result<(), Failure> {
    if caller == Caller::Socket {
        return Ok(());
    }
    let denied = |what: &str| Err(Failure::new(ErrorCode::Denied, what.to_owned()));
    if headers.contains_key(header::ORIGIN) {
        return denied("requests of web pages are not taken here");
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next().map(|host| host.to_str()), hosts.next()) {
        (Some(Ok(host)), None) if is_loopback(host) => Ok(()),
        _ => denied("the Host of a request must be a loopback address or localhost"),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_programs_of_this_machine_pass() {
        for host in ["127.0.0.1:8223", "127.0.0.1", "localhost:1", "LocalHost", "[::1]:8223"] {
            let sent = headers(&[(header::HOST, host)]);
            assert!(check(Caller::Loopback, &sent).is_ok(), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "192.168.1.4:80", "", "::1x"] {
            let sent = headers(&[(header::HOST, host)]);
            assert!(check(Caller::Loopback, &sent).is_err(), "{host}");
            assert!(check(Caller::Socket, &sent).is_ok());
        }
        assert!(check(Caller::Loopback, &headers(&[])).is_err());
        let page = headers(&[(header::HOST, "localhost"), (header::ORIGIN, "http://localhost")]);
        assert!(check(Caller::Loopback, &page).is_err());
    }
}
