//! A URL as errors and logs show it.

use std::net::Ipv6Addr;

use super::address::{Address, Wrong};
use super::parts;
use super::query::MASTER;
use super::scheme::{Mode, Scheme, is_name};

/// The maximum number of characters of a URL that an error shows.
const LONGEST: usize = 160;

/// Returns the URL without what may be a password: the part before an `@`, the part after a `?` or `#`, and what is no
/// host, port or database where one stands.
pub(crate) fn shown(url: &str) -> String {
    let (scheme, rest) = split(url);
    let mut text = scheme.to_owned();
    if hides_its_end(url) {
        text.push_str("***");
    } else {
        let query = &rest[without_query(rest).len()..];
        let rest = without_query(rest);
        let at = rest.rfind('@').map_or(0, |at| at + 1);
        if at > 0 {
            text.push_str("***@");
        }
        let (hosts, path) = rest[at..].split_at(rest[at..].find('/').unwrap_or(rest.len() - at));
        if scheme.is_empty() && at == 0 && !hosts.contains(':') && !url.is_empty() {
            text.push_str("***"); // a password alone looks like this
        } else {
            text.push_str(&hosts.split(',').map(shown_host).collect::<Vec<_>>().join(","));
            text.push_str(&shown_path(scheme, path, query));
        }
    }
    text.chars().take(LONGEST).collect()
}

/// Returns whether an `@` comes after the path. Then all that comes before it may be a password.
fn hides_its_end(url: &str) -> bool {
    let (_, rest) = split(url);
    rest[without_query(rest).len()..].contains('@')
}

/// Returns whether an `@` comes after the hosts at all. In the path of a unix socket it means nothing.
pub(super) fn has_at_behind_hosts(url: &str) -> bool {
    let (_, rest) = split(url);
    let in_path = || {
        rest.split_once('/')
            .is_some_and(|(hosts, path)| !hosts.is_empty() && without_query(path).contains('@'))
    };
    hides_its_end(url) || in_path()
}

fn split(url: &str) -> (&str, &str) {
    match url.find("://") {
        Some(end) if is_name(&url[..end]) => url.split_at(end + 3),
        _ => ("", url),
    }
}

fn without_query(rest: &str) -> &str {
    &rest[..rest.find(['?', '#']).unwrap_or(rest.len())]
}

/// A user and password without a host look like a host and port.
fn shown_host(text: &str) -> String {
    let hidden = "***".to_owned();
    match Address::read(text, 1) {
        Ok(_) | Err(Wrong::Missing | Wrong::Wildcard) => text.to_owned(),
        Err(Wrong::Port) => {
            let host = &text[..text.rfind(':').unwrap_or(0)];
            match Address::read(host, 1) {
                Ok(_) | Err(Wrong::Missing | Wrong::Wildcard) => format!("{host}:***"),
                Err(_) => hidden,
            }
        }
        Err(Wrong::Brackets) if text.parse::<Ipv6Addr>().is_ok() => text.to_owned(),
        Err(Wrong::Brackets | Wrong::Character) => hidden,
    }
}

/// A password that stands behind the host looks like a database.
fn shown_path(scheme: &str, path: &str, query: &str) -> String {
    let mode = match Scheme::split(&format!("{scheme}host")) {
        Ok((scheme, _)) => scheme.mode,
        Err(_) => Mode::Single,
    };
    let inner = path.trim_matches('/');
    let in_query = |name: &&str| query.contains(*name);
    let names_master = mode == Mode::Sentinel && !MASTER.iter().any(in_query);
    let (master, database) = match inner.split_once('/') {
        Some((master, database)) if names_master => (Some(master), database),
        None if names_master => (Some(inner), ""),
        _ => (None, inner),
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control();
    match (parts::database(database), master) {
        _ if mode == Mode::Unix => path.to_owned(),
        (_, Some(master)) if master.contains(is_odd) => "/***".to_owned(),
        (Ok(_), _) => path.to_owned(),
        (Err(_), Some(master)) => format!("/{master}/***"),
        (Err(_), None) => "/***".to_owned(),
    }
}
