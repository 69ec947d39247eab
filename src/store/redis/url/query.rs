//! The parameters behind the `?` of a URL.

use super::parts::decoded;
use super::problem::Problem;
use super::scheme::Mode;
use super::target::Login;

/// The parameters that name the master.
pub(super) const MASTER: [&str; 2] = ["sentinelMasterId", "sentinelServiceName"];

/// The parameters that nobody has taken yet.
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    /// Whether one of the parameters is a password. Then an unknown name may be a part of it.
    has_password: bool,
}

impl Query {
    pub(super) fn read(text: &str) -> Result<Self, Problem> {
        let read = |pair: &str| {
            let (name, value) = pair.split_once('=').ok_or("a parameter behind the ? has no =")?;
            Ok((form_decoded(name)?, form_decoded(value)?))
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(read);
        let pairs: Vec<_> = pairs.collect::<Result<_, Problem>>()?;
        let has_password = pairs.iter().any(|(name, _)| name.to_lowercase().contains("pass"));
        Ok(Self { pairs, has_password })
    }

    /// Takes the parameter that has one of these names, which mean the same.
    pub(super) fn take(&mut self, names: &[&'static str]) -> Result<Option<String>, Problem> {
        let mut found = None;
        for name in names {
            for value in self.take_all(name) {
                if found.replace(value).is_some() {
                    return Err(format!("the parameter {} is there twice", names[0]).into());
                }
            }
        }
        Ok(found)
    }

    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        self.pairs.extract_if(.., |(other, _)| other == name).map(|(_, value)| value).collect()
    }

    pub(super) fn take_flag(&mut self, name: &'static str) -> Result<Option<bool>, Problem> {
        match self.take(&[name])?.as_deref() {
            None => Ok(None),
            Some("yes" | "true" | "1") => Ok(Some(true)),
            Some("no" | "false" | "0") => Ok(Some(false)),
            Some(_) => Err(format!("the parameter {name} is neither yes nor no").into()),
        }
    }

    pub(super) fn take_login(
        &mut self,
        users: &[&'static str],
        passwords: &[&'static str],
    ) -> Result<Login, Problem> {
        let (user, password) = (self.take(users)?, self.take(passwords)?);
        Ok(Login::new(user.unwrap_or_default(), password.unwrap_or_default()))
    }

    /// Takes the version of the protocol. It has no effect, because the store finds out by itself.
    pub(super) fn take_protocol(&mut self) -> Result<(), Problem> {
        match self.take(&["protocol"])?.as_deref() {
            None | Some("2" | "3" | "resp2" | "resp3") => Ok(()),
            Some(_) => Err("the parameter protocol is neither 2 nor 3".into()),
        }
    }

    /// Refuses what nobody has taken.
    pub(super) fn end(self, mode: Mode) -> Result<(), Problem> {
        let Some((name, _)) = self.pairs.first() else { return Ok(()) };
        let known = match mode {
            Mode::Single => "it takes none but protocol",
            Mode::Unix => "it takes db, user, pass and protocol",
            Mode::Sentinel => {
                "it takes sentinel_user, sentinel_password, sentinel_tls, sentinelMasterId, node \
                 and protocol"
            }
            Mode::Cluster => "it takes node and protocol",
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let problem = match !self.has_password && name.chars().all(is_plain) {
            true => format!("the parameter {name:.40} is not known; {known}"),
            false => format!(
                "a parameter is not known, or a password has a & that is not written %26; {known}"
            ),
        };
        Err(problem.into())
    }
}

/// In a query, `+` is a blank.
fn form_decoded(text: &str) -> Result<String, Problem> {
    decoded(&text.replace('+', " "))
}
