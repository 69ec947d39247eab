//! What a URL leads to: one server, a primary behind sentinels, or a cluster.

use std::fmt;
use std::path::PathBuf;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisResult};

use super::address::Address;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Single(Single),
    Sentinel(Sentinel),
    Cluster(Cluster),
}

/// One server, or one address that leads to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Single {
    pub(crate) endpoint: Endpoint,
    pub(crate) access: Access,
}

/// A primary whose address the sentinels know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sentinel {
    /// The sentinels that are asked first. There is at least one.
    pub(crate) seeds: Vec<Address>,
    /// The name under which the sentinels know the primary.
    pub(crate) master: String,
    pub(crate) of_sentinels: Access,
    pub(crate) of_primary: Access,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// The nodes that are asked first. There is at least one.
    pub(crate) seeds: Vec<Address>,
    pub(crate) access: Access,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tcp(Address),
    Unix(PathBuf),
}

/// How to talk to a server, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) login: Login,
    pub(crate) tls: Tls,
    pub(crate) database: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    Off,
    On,
    /// The certificate of the server is not verified.
    Unverified,
}

/// A user and a password, which nothing shows.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Login {
    user: Option<String>,
    password: Option<String>,
}

impl Access {
    /// Sets user and password, if they are given, instead of those of the URL.
    pub(crate) fn with(self, credentials: Option<&(String, String)>) -> Self {
        match credentials {
            Some((user, password)) => Self { login: Login::new(user, password), ..self },
            None => self,
        }
    }

    /// Returns what the redis crate needs to connect to `endpoint`. It has no certificates yet.
    pub(crate) fn to(&self, endpoint: &Endpoint) -> RedisResult<ConnectionInfo> {
        let address = match endpoint {
            Endpoint::Unix(path) => ConnectionAddr::Unix(path.clone()),
            Endpoint::Tcp(address) => {
                let (host, port) = (address.host().to_owned(), address.port());
                let insecure = self.tls == Tls::Unverified;
                match self.tls {
                    Tls::Off => ConnectionAddr::Tcp(host, port),
                    Tls::On | Tls::Unverified => {
                        ConnectionAddr::TcpTls { host, port, insecure, tls_params: None }
                    }
                }
            }
        };
        let info = address.into_connection_info()?;
        let settings = self.login.put_into(info.redis_settings().clone()).set_db(self.database);
        Ok(info.set_redis_settings(settings))
    }
}

impl Login {
    /// An empty user or password is none.
    pub(crate) fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        Self { user: some(user.into()), password: some(password.into()) }
    }

    fn put_into(&self, mut settings: RedisConnectionInfo) -> RedisConnectionInfo {
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        settings
    }

    /// Returns this login, or the other one if this one has neither user nor password.
    pub(crate) fn or(self, other: Self) -> Self {
        match self == Self::default() {
            true => other,
            false => self,
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |part: &Option<String>| if part.is_some() { "***" } else { "none" };
        write!(f, "Login(user {}, password {})", shown(&self.user), shown(&self.password))
    }
}
