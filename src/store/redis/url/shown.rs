//! A URL as errors and logs show it.

use super::scheme::is_name;

/// The maximum number of characters of a URL that an error shows.
const LONGEST: usize = 160;

/// Returns the URL without what may be a password: the part before an `@`, the part after a `?` or `#`, and a
/// port that is no number.
pub(crate) fn shown(url: &str) -> String {
    let (scheme, rest) = split(url);
    let mut text = scheme.to_owned();
    if hides_its_end(url) {
        text.push_str("***");
    } else {
        let rest = without_query(rest);
        let at = rest.rfind('@').map_or(0, |at| at + 1);
        if at > 0 {
            text.push_str("***@");
        }
        let (hosts, path) = rest[at..].split_at(rest[at..].find('/').unwrap_or(rest.len() - at));
        text.push_str(&hosts.split(',').map(with_numeric_port).collect::<Vec<_>>().join(","));
        text.push_str(path);
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
fn with_numeric_port(host: &str) -> String {
    let from = host.find(']').unwrap_or(0);
    match host[from..].find(':') {
        Some(colon) if !host[from + colon..].chars().all(|c| c.is_ascii_digit() || c == ':') => {
            format!("{}:***", &host[..from + colon])
        }
        _ => host.to_owned(),
    }
}
