//! The error of a setting that was refused.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// A setting was refused. It names the setting, its value, and what is allowed.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use zset_semaphore::Client;
///
/// let jobs = Client::in_memory().semaphore("jobs", 4);
/// let error = jobs.lease(Duration::from_millis(1)).build().unwrap_err();
/// assert_eq!(error.field(), "lease");
/// assert_eq!(error.value(), "1ms");
/// assert_eq!(error.allowed(), "50 ms to 30 days");
/// assert_eq!(error.to_string(), "lease is 1ms; allowed: 50 ms to 30 days");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    field: &'static str,
    value: String,
    problem: Option<Cow<'static, str>>,
    allowed: &'static str,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, value: impl fmt::Debug, allowed: &'static str) -> Self {
        Self { field, value: format!("{value:?}"), problem: None, allowed }
    }

    /// Adds what is wrong with the value. `problem` must have no part of a password.
    #[cfg(feature = "redis")]
    pub(crate) fn because(self, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { problem: Some(problem.into()), ..self }
    }

    /// For a text of any length, of which it keeps the first 80 characters.
    pub(crate) fn of_text(field: &'static str, text: &str, allowed: &'static str) -> Self {
        let shown: String = text.chars().take(80).collect();
        Self::new(field, shown, allowed)
    }

    /// Returns the name of the setting.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// Returns the value that was refused, as `Debug` writes it. A long text is cut, and a password
    /// is left out.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns what is wrong with the value, where it has several parts, such as a URL.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Returns what is allowed, in words.
    pub fn allowed(&self) -> &'static str {
        self.allowed
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, problem, allowed } = self;
        match problem {
            Some(problem) => write!(f, "{field} is {value}: {problem}; allowed: {allowed}"),
            None => write!(f, "{field} is {value}; allowed: {allowed}"),
        }
    }
}

impl Error for ConfigError {}

/// Returns whether a text is neither empty nor too long for a name, and has no control characters.
pub(crate) fn is_plain_name(text: &str) -> bool {
    (1..=512).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Returns whether a semaphore may have this name.
pub(crate) fn is_semaphore_name(text: &str) -> bool {
    is_plain_name(text) && !has_forbidden_characters(text)
}

/// Returns whether a text has a character that no name and no prefix may have.
pub(crate) fn has_forbidden_characters(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || c == '{' || c == '}')
}
