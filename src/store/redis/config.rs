//! The settings of the connection to Redis. They are checked before anything is connected.

use std::sync::Arc;

use std::time::Duration;

#[cfg(feature = "tls-rustls")]
use redis::ConnectionAddr;
use redis::{ConnectionInfo, RedisError};

use crate::error::{ConfigError, has_forbidden_characters};

use super::cluster::Cluster;
use super::dial::Dial;
use super::sentinel::Sentinels;
use super::store::{Reach, RedisStore};
use super::url::{self, Access, Address, Endpoint, Sentinel, Single, Target, Tls, shown};

/// How many call timeouts a sentinel may take to answer: one less than the opening of a connection may take, so that
/// there is time to tell which sentinels are silent.
const SENTINEL_PATIENCE: u32 = 3;

/// The settings of the connection to Redis.
#[derive(Clone)]
pub(crate) struct RedisConfig {
    pub(crate) url: String,
    pub(crate) credentials: Option<(String, String)>,
    pub(crate) sentinel_credentials: Option<(String, String)>,
    pub(crate) prefix: String,
    /// The label of the client, which operators see in the names of its connections.
    pub(crate) label: Arc<str>,
    pub(crate) call_timeout: Duration,
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
            sentinel_credentials: None,
            prefix: "zsem:".to_owned(),
            label: Arc::from(""),
            call_timeout: Duration::from_millis(500),
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
        let reach = match url::parse(&self.url)? {
            Target::Single(Single { endpoint, access }) => {
                let access = access.with(self.credentials.as_ref());
                Reach::Direct(Box::new(self.client(&endpoint, access)?))
            }
            Target::Sentinel(sentinel) => self.behind_sentinels(sentinel)?,
            Target::Cluster(cluster) => self.in_cluster(cluster)?,
        };
        Ok(RedisStore::new(reach, self.prefix.into(), self.label))
    }

    fn behind_sentinels(&self, sentinel: Sentinel) -> Result<Reach, ConfigError> {
        let Sentinel { seeds, master, of_sentinels, of_primary } = sentinel;
        let primary = self.dial(&seeds, of_primary.with(self.credentials.as_ref()))?;
        let sentinels = self.dial(&seeds, of_sentinels.with(self.sentinel_credentials.as_ref()))?;
        let patience = self.call_timeout * SENTINEL_PATIENCE;
        Ok(Reach::Sentinels(Sentinels::new(seeds, master, [sentinels, primary], patience)))
    }

    fn in_cluster(&self, cluster: url::Cluster) -> Result<Reach, ConfigError> {
        let url::Cluster { seeds, access } = cluster;
        let dial = self.dial(&seeds, access.with(self.credentials.as_ref()))?;
        Ok(Reach::Cluster(Arc::new(Cluster::new(seeds, dial))))
    }

    fn dial(&self, seeds: &[Address], access: Access) -> Result<Dial, ConfigError> {
        // The address is only a place-holder: it is replaced at each opening.
        let at = Endpoint::Tcp(seeds.first().cloned().unwrap_or_else(|| Address::new("", 0)));
        Ok(Dial::new(self.client(&at, access)?.get_connection_info().clone()))
    }

    /// Makes what opens connections to `endpoint`.
    fn client(&self, endpoint: &Endpoint, access: Access) -> Result<redis::Client, ConfigError> {
        let info = self.connection_info(endpoint, access)?;
        #[cfg(feature = "tls-rustls")]
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return self.tls_client(info);
        }
        redis::Client::open(info).map_err(|error| self.unusable(&error))
    }

    fn connection_info(
        &self,
        endpoint: &Endpoint,
        access: Access,
    ) -> Result<ConnectionInfo, ConfigError> {
        if access.tls != Tls::Off && cfg!(not(feature = "tls-rustls")) {
            let allowed = "redis:// or unix://; TLS needs the crate's feature `tls-rustls`";
            return Err(ConfigError::new("url", shown(&self.url), allowed));
        }
        let info = access.to(endpoint).map_err(|error| self.unusable(&error))?;
        let settings = info.redis_settings().clone();
        let settings = settings.set_lib_name("zset-semaphore", env!("CARGO_PKG_VERSION"));
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
    }

    /// The redis crate refused what was read from the URL.
    fn unusable(&self, error: &RedisError) -> ConfigError {
        let allowed = "an address that this platform and the features of the crate support";
        let problem = error.detail().unwrap_or("it cannot be used").to_owned();
        ConfigError::new("url", shown(&self.url), allowed).because(problem)
    }

    #[cfg(feature = "tls-rustls")]
    fn tls_client(&self, info: ConnectionInfo) -> Result<redis::Client, ConfigError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let allowed = "used once the process has a rustls CryptoProvider; install one first, \
                           as with rustls::crypto::ring::default_provider().install_default()";
            return Err(ConfigError::new("url", shown(&self.url), allowed));
        }
        if self.root_certificate.is_none() && self.client_certificate.is_none() {
            return redis::Client::open(info).map_err(|error| self.unusable(&error));
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
