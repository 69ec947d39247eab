//! The settings of the connection to Redis. They are checked before anything is connected.

use redis::{ConnectionInfo, IntoConnectionInfo};

use crate::error::{ConfigError, has_forbidden_characters};

use super::store::RedisStore;

/// The settings of the connection to Redis.
#[derive(Clone)]
pub(crate) struct RedisConfig {
    pub(crate) url: String,
    pub(crate) credentials: Option<(String, String)>,
    pub(crate) prefix: String,
    #[cfg(feature = "tls-rustls")]
    pub(crate) root_certificate: Option<Vec<u8>>,
    #[cfg(feature = "tls-rustls")]
    pub(crate) client_certificate: Option<(Vec<u8>, Vec<u8>)>,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            credentials: None,
            prefix: "zsem:".to_owned(),
            #[cfg(feature = "tls-rustls")]
            root_certificate: None,
            #[cfg(feature = "tls-rustls")]
            client_certificate: None,
        }
    }
}

impl RedisConfig {
    /// Makes the store. Checks all that can be checked without connecting.
    pub(crate) fn store(self) -> Result<RedisStore, ConfigError> {
        if !(1..=64).contains(&self.prefix.len()) || has_forbidden_characters(&self.prefix) {
            let allowed = "1 to 64 bytes without control characters and without { or }";
            return Err(ConfigError::of_text("prefix", &self.prefix, allowed));
        }
        let client = self.client()?;
        Ok(RedisStore::new(client, self.prefix.into()))
    }

    fn client(&self) -> Result<redis::Client, ConfigError> {
        let info = self.connection_info()?;
        #[cfg(feature = "tls-rustls")]
        if matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. }) {
            return self.tls_client(info);
        }
        redis::Client::open(info).map_err(|_| bad_url(&self.url))
    }

    fn connection_info(&self) -> Result<ConnectionInfo, ConfigError> {
        let secure = self.url.starts_with("rediss:") || self.url.starts_with("valkeys:");
        if secure && cfg!(not(feature = "tls-rustls")) {
            let allowed = "redis:// or unix://; TLS needs the crate's feature `tls-rustls`";
            return Err(ConfigError::new("url", without_password(&self.url), allowed));
        }
        let info = self.url.as_str().into_connection_info().map_err(|_| bad_url(&self.url))?;
        let mut settings = info.redis_settings().clone();
        if let Some((user, password)) = &self.credentials {
            settings = settings.set_username(user).set_password(password);
        }
        settings = settings.set_lib_name("zset-semaphore", env!("CARGO_PKG_VERSION"));
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
    }

    #[cfg(feature = "tls-rustls")]
    fn tls_client(&self, info: ConnectionInfo) -> Result<redis::Client, ConfigError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let allowed = "used once the process has a rustls CryptoProvider; install one first, \
                           as with rustls::crypto::ring::default_provider().install_default()";
            return Err(ConfigError::new("url", without_password(&self.url), allowed));
        }
        if self.root_certificate.is_none() && self.client_certificate.is_none() {
            return redis::Client::open(info).map_err(|_| bad_url(&self.url));
        }
        let certificates = redis::TlsCertificates {
            client_tls: self.client_certificate.clone().map(|(client_cert, client_key)| {
                redis::ClientTlsConfig { client_cert, client_key }
            }),
            root_cert: self.root_certificate.clone(),
        };
        redis::Client::build_with_tls(info, certificates).map_err(|_| {
            let allowed = "PEM text with a certificate, and with a key where one is asked for";
            ConfigError::new("TLS certificate", "not readable", allowed)
        })
    }
}

fn bad_url(url: &str) -> ConfigError {
    let allowed = "redis://[user][:password@]host[:port][/db], rediss:// for TLS, or unix:///path";
    ConfigError::new("url", without_password(url), allowed)
}

/// Returns the URL without the part before an `@` and the part after a `?`, which may contain a password.
pub(super) fn without_password(url: &str) -> String {
    let shown = match url.rfind('@') {
        Some(at) => {
            let scheme = url[..at].find("://").map_or(0, |end| end + 3);
            format!("{}***{}", &url[..scheme], &url[at..])
        }
        None => url.to_owned(),
    };
    let end = shown.find('?').unwrap_or(shown.len()); // a unix URL has its password there
    shown[..end].chars().take(200).collect()
}
