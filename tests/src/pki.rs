//! Certificates as an operator makes them: an authority, and what it vouched for, as files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
};

use crate::workplace::Workplace;

/// A file that nobody else may read.
pub fn private(workplace: &Workplace, name: &str, text: &str) -> PathBuf {
    let path = workplace.join(name);
    std::fs::write(&path, text).expect("the workplace is writable");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .expect("the workplace is ours");
    path
}

/// An authority and what it vouched for, as files: each a certificate and its key.
#[derive(Debug)]
pub struct Pki {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// For servers, which also call each other.
    pub server: (PathBuf, PathBuf),
    /// For clients.
    pub client: (PathBuf, PathBuf),
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut lines = String::new();
    for (at, letter) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            lines.push('\n');
        }
        lines.push(letter);
    }
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}

impl Pki {
    /// An authority of its own, which vouches for 127.0.0.1.
    ///
    /// # Panics
    /// When no certificate can be made.
    pub fn new(workplace: &Workplace, name: &str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.distinguished_name.push(DnType::CommonName, format!("authority {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = params.self_signed(&key).expect("an authority can be made");
        let issue = |who: &str, usages: Vec<ExtendedKeyUsagePurpose>| {
            let own = rcgen::KeyPair::generate().expect("a key can be made");
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])
                .expect("an address is a valid name");
            params.distinguished_name.push(DnType::CommonName, who);
            params.extended_key_usages = usages;
            let certificate =
                params.signed_by(&own, &authority, &key).expect("a certificate can be made");
            let file = |ending: &str, text: &str| {
                private(workplace, &format!("{name}-{who}.{ending}"), text)
            };
            (
                file("pem", &pem("CERTIFICATE", certificate.der())),
                file("key", &pem("PRIVATE KEY", &own.serialize_der())),
            )
        };
        let (serve, call) =
            (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
        Self {
            server: issue("server", vec![serve, call.clone()]),
            client: issue("client", vec![call]),
            authority: private(
                workplace,
                &format!("{name}-ca.pem"),
                &pem("CERTIFICATE", authority.der()),
            ),
        }
    }

    /// The section of an agent's configuration that shows the client's certificate.
    pub fn agent_section(&self) -> String {
        let show = |path: &Path| path.display().to_string();
        let (cert, key) = &self.client;
        format!(
            "[nats.tls]\nca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n",
            show(&self.authority),
            show(cert),
            show(key)
        )
    }
}
