//! Certificates of a test's own.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A root, and what it has signed: a server at `localhost` and 127.0.0.1, and a client.
pub(crate) struct Certificates {
    directory: tempfile::TempDir,
    pub(crate) root: String,
    pub(crate) client: String,
    pub(crate) client_key: String,
}

impl Certificates {
    pub(crate) fn make() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own: with that of its children it would not count as their issuer.
        params.distinguished_name.push(DnType::CommonName, "root of the test");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let signed = |names: Vec<String>| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(names).unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
        };
        let (server, server_key) = signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let (client, client_key) = signed(Vec::new());
        write("root.pem", &issuer.pem());
        write("server.pem", &server);
        write("server.key", &server_key);
        Self { root: issuer.pem(), client, client_key, directory }
    }

    /// The folder of `root.pem`, `server.pem` and `server.key`.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The path of `root.pem`, `server.pem` or `server.key`.
    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}
