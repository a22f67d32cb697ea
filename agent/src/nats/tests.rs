//! Tables of servers and credentials that are taken or refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::{NatsAuth, NatsConfig, Secret, TlsConfig};

use super::prepare::{NatsError, Prepared, Proof, prepare_with, redacted};

pub(super) fn config(urls: &[&str]) -> NatsConfig {
    NatsConfig {
        enabled: true,
        urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        urls_are_default: false,
        context: None,
        auth: NatsAuth::None,
        tls: TlsConfig::default(),
        allow_insecure: false,
    }
}

pub(super) fn prepared(config: &NatsConfig) -> Result<Prepared, NatsError> {
    prepare_with(config, None, None)
}

fn password() -> NatsAuth {
    NatsAuth::Password { user: "u".to_owned(), password: Secret::new("p") }
}

#[test]
fn off_the_loopback_it_takes_tls_and_credentials() {
    // URL, credentials, expected without and with allow_insecure.
    let cases: &[(&str, bool, &str)] = &[
        ("nats://127.0.0.1:4222", false, "ok"),
        ("nats://127.9.9.9", false, "ok"),
        ("nats://[::1]:4222", false, "ok"),
        ("nats://localhost", false, "ok"),
        ("nats://LOCALHOST", false, "ok"),
        ("127.0.0.1", false, "ok"),
        ("127.0.0.1:4222", false, "ok"),
        ("tls://127.0.0.1", false, "ok"),
        ("nats://10.0.0.1", false, "plaintext"),
        ("nats://10.0.0.1", true, "plaintext"),
        ("nats://0.0.0.0", true, "plaintext"),
        ("nats://[::ffff:10.0.0.1]", true, "plaintext"),
        ("nats://localhost.example.com", true, "plaintext"),
        ("nats://127.0.0.1.example.com", true, "plaintext"),
        ("nats://broker", true, "plaintext"),
        ("nats://u:p@broker", false, "plaintext"),
        ("tls://broker", false, "unauthenticated"),
        ("tls://broker", true, "ok"),
        ("tls://u:p@broker", false, "ok"),
        ("tls://t0ken@broker", false, "ok"),
    ];
    for (url, credentials, wanted) in cases {
        let mut config = config(&[url]);
        if *credentials {
            config.auth = password();
        }
        let got = match prepared(&config) {
            Ok(_) => "ok",
            Err(NatsError::Plaintext { .. }) => "plaintext",
            Err(NatsError::Unauthenticated { .. }) => "unauthenticated",
            Err(other) => panic!("{url}: {other}"),
        };
        assert_eq!(got, *wanted, "{url} credentials={credentials}");
        config.allow_insecure = true;
        assert!(prepared(&config).is_ok(), "{url}");
    }
}

#[test]
fn a_client_certificate_encrypts_and_proves() {
    let mut config = config(&["nats://broker"]);
    let folder = tempfile::tempdir().unwrap();
    // Only the form is looked at here; whether the server likes it is between the two.
    let cert = write(folder.path(), "cert", &pem("CERTIFICATE"));
    let key = write(folder.path(), "key", &pem("PRIVATE KEY"));
    config.tls.client = Some((cert.clone(), key.clone()));
    let ready = prepared(&config).unwrap();
    assert!(ready.require_tls);
    assert!(!ready.ignore_discovered);

    for (ca, cert, key, wanted) in [
        (Some(&key), &cert, &key, "nats.tls.ca"),
        (Some(&PathBuf::from("/nowhere")), &cert, &key, "nats.tls.ca"),
        (None, &key, &key, "nats.tls.cert"),
        (None, &cert, &cert, "nats.tls.key"),
    ] {
        config.tls.ca = ca.cloned();
        config.tls.client = Some((cert.clone(), key.clone()));
        let message = prepared(&config).map(|_| ()).unwrap_err().to_string();
        assert!(message.starts_with(wanted) && message.contains("PEM"), "{message}");
    }
}

fn pem(label: &str) -> String {
    format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
}

#[test]
fn one_bad_server_among_good_ones_is_refused() {
    let mut config = config(&["nats://127.0.0.1", "nats://broker"]);
    config.auth = password();
    assert!(
        matches!(prepared(&config), Err(NatsError::Plaintext { url }) if url == "nats://broker")
    );
}

#[test]
fn servers_told_by_a_plaintext_server_are_ignored() {
    assert!(prepared(&config(&["nats://127.0.0.1"])).unwrap().ignore_discovered);
    let mut insecure = config(&["nats://127.0.0.1"]);
    insecure.allow_insecure = true;
    assert!(!prepared(&insecure).unwrap().ignore_discovered);
}

#[test]
fn urls_that_can_not_be_used_are_refused() {
    for (url, wanted) in [
        ("ws://127.0.0.1", "scheme"),
        ("http://127.0.0.1", "not a URL"),
        ("nats://", "names no host"),
        ("nats://127.0.0.1:0", "port 0"),
        ("nats://127.0.0.1:99999", "not a URL"),
        ("nats://127.0.0.1/path", "behind the port"),
        ("nats://127.0.0.1?x=1", "behind the port"),
        ("nats://a\u{1b}[2J", "not a URL"),
        ("://", "not a URL"),
    ] {
        let message = prepared(&config(&[url])).map(|_| ()).expect_err(url).to_string();
        assert!(message.contains(wanted) || message.contains("not a URL"), "{url:?}: {message}");
        assert!(message.starts_with("nats.urls: ") && !message.contains('\u{1b}'), "{message}");
    }
}

#[test]
fn credentials_stand_in_one_place() {
    let urls = ["nats://a%40b:p%3aw@127.0.0.1:1", "nats://127.0.0.1:2"];
    let proof = prepared(&config(&urls)).unwrap().proof;
    assert_eq!(proof, Proof::Password { user: "a@b".to_owned(), password: Secret::new("p:w") });

    let mixed = ["nats://a:b@127.0.0.1:1", "nats://c:d@127.0.0.1:2"];
    assert_eq!(prepared(&config(&mixed)).map(|_| ()), Err(NatsError::MixedCredentials));

    let mut twice = config(&["nats://a:b@127.0.0.1"]);
    twice.auth = password();
    assert!(matches!(prepared(&twice), Err(NatsError::TwiceCredentials { key: "nats.user" })));

    for (url, shown) in [
        ("nats://a:secret@h:1", "nats://h:1"),
        ("secret@h", "nats://h"),
        ("tls://a:se@cret@h", "tls://h"),
    ] {
        assert_eq!(redacted(url), shown);
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn secret_files_must_hold_what_they_are_for() {
    let folder = tempfile::tempdir().unwrap();
    let nkey = write(folder.path(), "nkey", "# of the agent\nSUAM\n");
    let empty = write(folder.path(), "empty", " \n");
    let prose = write(folder.path(), "prose", "nothing to see here\n");
    let mut config = config(&["nats://127.0.0.1"]);
    config.auth = NatsAuth::NkeyFile(nkey);
    assert_eq!(prepared(&config).unwrap().proof, Proof::Nkey(Secret::new("SUAM")));
    for (auth, wanted) in [
        (NatsAuth::NkeyFile(prose.clone()), "the seed of a user"),
        (NatsAuth::CredsFile(prose), "a user's JWT and seed"),
        (NatsAuth::TokenFile(empty), "is empty"),
        (NatsAuth::TokenFile(PathBuf::from("/nowhere")), "can't be read"),
    ] {
        config.auth = auth;
        let message = prepared(&config).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(wanted) && message.starts_with("nats."), "{message}");
    }
}

#[test]
fn a_context_fills_in_what_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let home = Some(folder.path().to_owned());
    let ca = write(folder.path(), "ca.pem", &pem("CERTIFICATE"));
    write(
        folder.path(),
        "plant.json",
        r#"{"description":"x","url":"tls://a:4222, tls://b:4222","user":"u","password":"p",
            "ca":"~/ca.pem","inbox_prefix":"_INBOX_u","jetstream_domain":"","new_member":[1]}"#,
    );
    let mut config = config(&["nats://127.0.0.1:4222"]);
    config.urls_are_default = true;
    config.context = Some("plant".to_owned());
    let ready = prepare_with(&config, Some(folder.path()), home.clone()).unwrap();
    assert_eq!(ready.urls(), ["tls://a:4222", "tls://b:4222"]);
    assert_eq!(ready.tls.ca, Some(ca));
    assert_eq!(ready.inbox_prefix.as_deref(), Some("_INBOX_u"));
    assert!(matches!(ready.proof, Proof::Password { .. }));

    // What is configured stays.
    config.urls_are_default = false;
    let ready = prepare_with(&config, Some(folder.path()), home).unwrap();
    assert_eq!(ready.urls(), ["nats://127.0.0.1:4222"]);
}

#[test]
fn a_context_that_can_not_be_honoured_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "proxy.json", r#"{"url":"nats://127.0.0.1","socks_proxy":"socks5://x"}"#);
    write(folder.path(), "broken.json", "{");
    write(folder.path(), "half.json", r#"{"cert":"/c.pem"}"#);
    write(folder.path(), "remote.json", r#"{"url":"nats://broker","user":"u","password":"p"}"#);
    for (name, wanted) in [
        ("proxy", "socks_proxy"),
        ("broken", "not a valid context"),
        ("half", "cert and key belong together"),
        ("missing", "can't be read"),
        ("../proxy", "can't be the name"),
        (".hidden", "can't be the name"),
        ("remote", "would not be encrypted"),
    ] {
        let mut config = config(&["nats://127.0.0.1"]);
        config.urls_are_default = true;
        config.context = Some(name.to_owned());
        let message = prepare_with(&config, Some(folder.path()), None)
            .map(|_| ())
            .expect_err(name)
            .to_string();
        assert!(message.contains(wanted), "{name}: {message}");
    }
    let mut config = config(&["nats://127.0.0.1"]);
    config.context = Some("x".to_owned());
    let message = prepare_with(&config, None, None).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("XDG_CONFIG_HOME"), "{message}");
}
