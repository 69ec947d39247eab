//! A host and a port.

use std::fmt;
use std::net::Ipv6Addr;

use super::problem::Problem;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

/// What is wrong with a host. No excerpt: it may be a password whose `@` is missing.
#[derive(Debug)]
pub(super) enum Wrong {
    Missing,
    Port,
    Brackets,
    Character,
    Wildcard,
}

impl Wrong {
    /// Tells the problem of the host that `name` names.
    pub(super) fn of(&self, name: &str) -> Problem {
        match self {
            Self::Missing => format!("{name} is missing"),
            Self::Port => format!("the port behind {name} is no number from 1 to 65535"),
            Self::Brackets => format!("{name} is an IPv6 address that does not stand as [::1]"),
            Self::Character => format!("{name} has a character that no host has"),
            Self::Wildcard => format!("{name} is an address to listen on, not to connect to"),
        }
        .into()
    }
}

impl Address {
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Reads `host[:port]`. An IPv6 address has brackets.
    pub(super) fn read(text: &str, default: u16) -> Result<Self, Wrong> {
        let (host, port) = match text.strip_prefix('[') {
            Some(inner) => {
                let (host, behind) = inner.split_once(']').ok_or(Wrong::Brackets)?;
                let host: Ipv6Addr = host.parse().map_err(|_| Wrong::Brackets)?;
                let port = match behind.strip_prefix(':') {
                    Some(port) => port,
                    None if behind.is_empty() => "",
                    None => return Err(Wrong::Character),
                };
                (host.to_string(), port)
            }
            None => {
                let (host, port) = text.split_once(':').unwrap_or((text, ""));
                if port.contains(':') {
                    return Err(Wrong::Brackets);
                }
                (host.to_owned(), port)
            }
        };
        let port = match port.parse() {
            Ok(port) if port > 0 => port,
            Err(_) if port.is_empty() => default,
            _ => return Err(Wrong::Port),
        };
        match host.as_str() {
            "" => Err(Wrong::Missing),
            "0.0.0.0" | "::" => Err(Wrong::Wildcard),
            _ if !host.chars().all(is_of_host) => Err(Wrong::Character),
            _ => Ok(Self { host, port }),
        }
    }
}

fn is_of_host(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':')
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
