//! The name of a gateway when nobody gave it one.

use fleet_state::NodeName;

/// The machine's name with everything that a node name can't hold replaced by `-`; `gateway`
/// when nothing is left of it.
#[must_use]
pub fn default_node_name() -> NodeName {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy().into_owned();
    from_host(&host).unwrap_or_else(fallback)
}

fn fallback() -> NodeName {
    "gateway".parse().expect("it is a token")
}

fn from_host(host: &str) -> Option<NodeName> {
    let first = host.split('.').next()?;
    let name: String = first
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .take(32)
        .collect();
    name.trim_matches('-').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_become_node_names() {
        for (host, name) in [
            ("gw1", Some("gw1")),
            ("GW-Hall2.plant.example", Some("gw-hall2")),
            ("räume_7", Some("r-ume-7")),
            ("---", None),
            ("", None),
            (
                "a-very-long-machine-name-that-goes-on-and-on",
                Some("a-very-long-machine-name-that-go"),
            ),
        ] {
            assert_eq!(from_host(host).as_ref().map(AsRef::as_ref), name, "{host}");
        }
    }
}
