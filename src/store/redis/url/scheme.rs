//! The first part of a URL, which tells the kind of deployment.

use super::problem::Refused;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Single,
    Unix,
    Sentinel,
    Cluster,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Scheme {
    pub(super) mode: Mode,
    pub(super) tls: bool,
}

impl Scheme {
    /// Splits a URL into its scheme and what follows the two slashes.
    pub(super) fn split(url: &str) -> Result<(Self, &str), Refused> {
        let (name, rest) = url.split_once(':').ok_or(Refused::without_scheme())?;
        let scheme = Self::of(&name.to_ascii_lowercase());
        match (scheme, rest.strip_prefix("//")) {
            (Some(scheme), Some(rest)) => Ok((scheme, rest)),
            (Some(scheme), None) if scheme.mode == Mode::Unix && rest.starts_with('/') => {
                Ok((scheme, rest))
            }
            (None, Some(_)) if is_name(name) => Err(Refused::unknown_scheme(name)),
            _ => Err(Refused::without_scheme()),
        }
    }

    fn of(name: &str) -> Option<Self> {
        if name == "unix" {
            return Some(Self { mode: Mode::Unix, tls: false });
        }
        let rest = name.strip_prefix("redis").or_else(|| name.strip_prefix("valkey"))?;
        let (tls, rest) = match rest.strip_prefix('s') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let mode = match rest {
            "" => Mode::Single,
            "+sentinel" | "-sentinel" => Mode::Sentinel,
            "+cluster" | "-cluster" => Mode::Cluster,
            "+unix" if !tls => Mode::Unix,
            _ => return None,
        };
        Some(Self { mode, tls })
    }
}

/// Returns whether a text can be a scheme, so that it is no part of a password.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}
