//! Credentials of a broker: read from node-local files when a link is connected, never kept.

use std::path::Path;

use serde::Deserialize;

use crate::config::{Secret, read_secret_file};
use crate::device::connector::ConnectError;

use super::link::{Broker, Tls};

/// A user and a password.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// The user.
    pub(crate) username: String,
    /// The password.
    pub(crate) password: Secret,
}

/// The texts of TLS, in PEM.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificates {
    /// The authorities.
    pub(crate) ca: Option<Secret>,
    /// A certificate of ours and its key.
    pub(crate) client: Option<(Secret, Secret)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginFile {
    username: String,
    password: String,
}

/// The user and password of a broker, where it has them.
///
/// # Errors
/// Why the file can't be used.
pub(crate) fn login(folder: &Path, broker: &Broker) -> Result<Option<Login>, ConnectError> {
    let Some(name) = &broker.credentials else {
        return Ok(None);
    };
    let text = read(folder, name)?;
    // The parser's message would show a line of the file.
    let file: LoginFile = toml::from_str(text.reveal()).map_err(|_| {
        let path = folder.join(name);
        ConnectError::new(format!(
            "{} doesn't hold the two lines username = \"…\" and password = \"…\"; write them",
            path.display()
        ))
    })?;
    Ok(Some(Login { username: file.username, password: Secret::new(file.password) }))
}

/// The certificates of a broker.
///
/// # Errors
/// Why a file can't be used.
pub(crate) fn certificates(folder: &Path, tls: &Tls) -> Result<Certificates, ConnectError> {
    let ca = tls.ca.as_ref().map(|name| read(folder, name)).transpose()?;
    let client = match &tls.client {
        Some((certificate, key)) => Some((read(folder, certificate)?, read(folder, key)?)),
        None => None,
    };
    Ok(Certificates { ca, client })
}

fn read(folder: &Path, name: &str) -> Result<Secret, ConnectError> {
    read_secret_file(&folder.join(name)).map_err(|error| ConnectError::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::device::connectors::mqtt::link::Version;

    fn broker(file: &str) -> Broker {
        Broker {
            host: "broker".to_owned(),
            port: 1883,
            version: Version::V5,
            keep_alive_s: 10,
            credentials: Some(file.to_owned()),
            tls: None,
            will: None,
        }
    }

    #[test]
    fn only_a_closed_file_of_two_lines_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str, mode: u32| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        put("good.toml", "username = \"u\"\npassword = \"p\"\n", 0o600);
        put("open.toml", "username = \"u\"\npassword = \"p\"\n", 0o644);
        put("wrong.toml", "user = \"u\"\nsecret = \"hunter2\"\n", 0o600);
        let login_of = |name: &str| login(folder.path(), &broker(name));
        let good = login_of("good.toml").unwrap().unwrap();
        assert_eq!((good.username.as_str(), good.password.reveal()), ("u", "p"));
        assert!(!format!("{good:?}").contains("\"p\""));
        assert!(login_of("open.toml").unwrap_err().message.contains("chmod"));
        assert!(login_of("missing.toml").unwrap_err().message.contains("missing.toml"));
        let wrong = login_of("wrong.toml").unwrap_err().message;
        assert!(wrong.contains("username") && !wrong.contains("hunter2"), "{wrong}");
    }
}
