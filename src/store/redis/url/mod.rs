//! URLs: which servers a client connects to, and with which login. Nothing here connects.
//!
//! # Implementation
//!
//! The `url` crate refuses lists of hosts, so the parts of a URL are split here. What it accepted of a URL with
//! one host is accepted.

mod address;
mod hosts;
mod parts;
mod problem;
mod query;
mod scheme;
mod shown;
mod target;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::error::ConfigError;

use parts::Parts;
use problem::{Problem, Refused};
use query::Query;
use scheme::{Mode, Scheme};

pub(super) use address::Address;
pub(super) use shown::shown;
pub(super) use target::{Access, Cluster, Endpoint, Sentinel, Single, Target, Tls};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Reads a URL.
///
/// # Errors
///
/// [`ConfigError`] tells what is wrong with the URL, without its passwords.
pub(super) fn parse(url: &str) -> Result<Target, ConfigError> {
    let url = url.trim();
    let read = || {
        let (scheme, rest) = Scheme::split(url)?;
        read(scheme, rest).map_err(|problem| Refused::in_mode(scheme.mode, problem))
    };
    read().map_err(|refused| refused.error(url))
}

fn read(scheme: Scheme, rest: &str) -> Result<Target, Problem> {
    let parts = Parts::split(rest)?;
    let mut query = Query::read(parts.query)?;
    query.take_protocol()?;
    let access = Access { login: parts.login()?, tls: parts.tls(scheme.tls)?, database: 0 };
    let target = match scheme.mode {
        Mode::Single => Target::Single(single(&parts, access)?),
        Mode::Unix => Target::Single(unix(&parts, access, &mut query)?),
        Mode::Sentinel => Target::Sentinel(sentinel(&parts, access, &mut query)?),
        Mode::Cluster => Target::Cluster(cluster(&parts, access, &mut query)?),
    };
    query.end(scheme.mode)?;
    Ok(target)
}

fn single(parts: &Parts<'_>, access: Access) -> Result<Single, Problem> {
    let database = parts.database()?;
    let endpoint = Endpoint::Tcp(hosts::one(parts.hosts, PORT)?);
    Ok(Single { endpoint, access: Access { database, ..access } })
}

fn unix(parts: &Parts<'_>, access: Access, query: &mut Query) -> Result<Single, Problem> {
    if !matches!(parts.hosts, "" | "localhost") {
        return Err("the path of a unix socket begins with a third slash".into());
    }
    let path = parts::decoded(parts.path)?;
    if path.trim_matches('/').is_empty() {
        return Err("the path of the unix socket is missing".into());
    }
    let database = query.take(&["db"])?.map_or(Ok(0), |database| parts::database(&database))?;
    let login = query.take_login(&["user", "username"], &["pass", "password"])?;
    let login = login.or(access.login);
    Ok(Single {
        endpoint: Endpoint::Unix(PathBuf::from(path)),
        access: Access { login, database, ..access },
    })
}

fn sentinel(parts: &Parts<'_>, access: Access, query: &mut Query) -> Result<Sentinel, Problem> {
    let mut seeds = hosts::list(parts.hosts, SENTINEL_PORT)?;
    hosts::more(&mut seeds, query, SENTINEL_PORT)?;
    let named = query.take(&query::MASTER)?;
    let (master, database) = parts.master_and_database(named)?;
    let login = query.take_login(
        &["sentinel_user", "sentinel_username", "sentinelUsername"],
        &["sentinel_password", "sentinelPassword"],
    )?;
    let tls = query.take_flag("sentinel_tls")?;
    let tls = match tls {
        None => access.tls,
        Some(false) => Tls::Off,
        Some(true) if access.tls == Tls::Off => Tls::On,
        Some(true) => access.tls,
    };
    Ok(Sentinel {
        seeds,
        master,
        of_sentinels: Access { login, tls, database: 0 },
        of_primary: Access { database, ..access },
    })
}

fn cluster(parts: &Parts<'_>, access: Access, query: &mut Query) -> Result<Cluster, Problem> {
    if parts.database()? != 0 {
        return Err("it names a database, and a cluster has only database 0".into());
    }
    let mut seeds = hosts::list(parts.hosts, PORT)?;
    hosts::more(&mut seeds, query, PORT)?;
    Ok(Cluster { seeds, access })
}
