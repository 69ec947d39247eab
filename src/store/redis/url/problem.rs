//! What is wrong with a URL, and how the error tells it.

use std::borrow::Cow;

use crate::error::ConfigError;

use super::scheme::Mode;
use super::shown::{has_at_behind_hosts, shown};

/// What is wrong, as a sentence without its end.
pub(super) type Problem = Cow<'static, str>;

const ANY: &str = "redis://[user][:password@]host[:port][/db], rediss:// for TLS, \
                   redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://, \
                   all of them with valkey instead of redis, or unix:///path";
const SINGLE: &str =
    "redis://[user][:password@]host[:port][/db], rediss:// for TLS, or unix:///path";
const SENTINEL: &str = "redis+sentinel://[user:password@]sentinel[:26379][,sentinel..]/master[/db]\
                        [?sentinel_user=..&sentinel_password=..&sentinel_tls=yes], \
                        or rediss+sentinel:// for TLS";
const CLUSTER: &str =
    "redis+cluster://[user:password@]host[:6379][,host..], or rediss+cluster:// for TLS";

/// An excerpt of such a URL could be a part of the password.
const AMBIGUOUS: &str = "an @ stands behind the host; in a user or password, write %40 for @, \
                         %2F for /, %3F for ? and %23 for #";

/// A URL that was refused.
pub(super) struct Refused {
    problem: Option<Problem>,
    allowed: &'static str,
}

impl Refused {
    pub(super) fn without_scheme() -> Self {
        Self { problem: None, allowed: ANY }
    }

    pub(super) fn unknown_scheme(name: &str) -> Self {
        let problem = format!("the scheme {name:.30} is not known");
        Self { problem: Some(problem.into()), allowed: ANY }
    }

    pub(super) fn in_mode(mode: Mode, problem: Problem) -> Self {
        let allowed = match mode {
            Mode::Single | Mode::Unix => SINGLE,
            Mode::Sentinel => SENTINEL,
            Mode::Cluster => CLUSTER,
        };
        Self { problem: Some(problem), allowed }
    }

    pub(super) fn error(self, url: &str) -> ConfigError {
        let error = ConfigError::new("url", shown(url), self.allowed);
        match self.problem {
            Some(_) if has_at_behind_hosts(url) => error.because(AMBIGUOUS),
            Some(problem) => error.because(problem),
            None => error,
        }
    }
}
