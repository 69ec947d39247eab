//! The parts of a URL behind its scheme.

use super::problem::Problem;
use super::target::{Login, Tls};

/// `user:password@hosts/path?query#fragment`
pub(super) struct Parts<'a> {
    user_info: Option<&'a str>,
    pub(super) hosts: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    fragment: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn split(rest: &'a str) -> Result<Self, Problem> {
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user_info, hosts) = match authority.rsplit_once('@') {
            Some((user_info, hosts)) => (Some(user_info), hosts),
            None => (None, authority),
        };
        if user_info.is_some_and(|user_info| user_info.contains('@')) && authority.contains(',') {
            return Err("user and password stand once, before the first host; \
                        in a password, write %40 for @"
                .into());
        }
        Ok(Self { user_info, hosts, path, query, fragment })
    }

    pub(super) fn login(&self) -> Result<Login, Problem> {
        let Some(user_info) = self.user_info else { return Ok(Login::default()) };
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        Ok(Login::new(decoded(user)?, decoded(password)?))
    }

    pub(super) fn tls(&self, tls: bool) -> Result<Tls, Problem> {
        match (tls, self.fragment) {
            (true, "") => Ok(Tls::On),
            (true, "insecure") => Ok(Tls::Unverified),
            (false, "" | "insecure") => Ok(Tls::Off),
            _ => Err("behind a # only `insecure` has a meaning, with TLS; \
                      in a password, write %23 for #"
                .into()),
        }
    }

    /// Returns the number of the database, where the path has nothing else.
    pub(super) fn database(&self) -> Result<i64, Problem> {
        database(self.path.trim_matches('/'))
    }

    /// Returns the name of the master and the number of the database. The path has both, unless the query names
    /// the master.
    pub(super) fn master_and_database(
        &self,
        named: Option<String>,
    ) -> Result<(String, i64), Problem> {
        let path = self.path.trim_matches('/');
        let (master, number) = match named {
            Some(master) => (master, path),
            None => {
                let (master, number) = path.split_once('/').unwrap_or((path, ""));
                if master.chars().all(|c| c.is_ascii_digit()) {
                    return Err("the name of the master is missing; \
                                it follows the sentinels, as in /mymaster"
                        .into());
                }
                (decoded(master)?, number)
            }
        };
        let is_wrong = |c: char| c.is_control() || c.is_whitespace() || c == '/';
        if master.is_empty() || master.contains(is_wrong) {
            return Err("the name of the master is empty, or has a blank or a slash".into());
        }
        Ok((master, database(number)?))
    }
}

/// Reads the number of a database. An empty text is database 0.
pub(super) fn database(text: &str) -> Result<i64, Problem> {
    match text.parse::<u32>() {
        Ok(number) => Ok(number.into()),
        Err(_) if text.is_empty() => Ok(0),
        Err(_) => Err("the database is not a number".into()),
    }
}

/// Decodes `%41`. A `%` without two digits stands for itself.
pub(super) fn decoded(text: &str) -> Result<String, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = match behind {
            [high, low, ..] if first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high * 16 + low);
                rest = &behind[2..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| "a percent-encoded part of it is not UTF-8".into())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
