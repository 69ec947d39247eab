//! The error of a setting that was refused.

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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}; allowed: {allowed}")]
pub struct ConfigError {
    field: &'static str,
    value: String,
    allowed: &'static str,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, value: impl fmt::Debug, allowed: &'static str) -> Self {
        Self { field, value: format!("{value:?}"), allowed }
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

    /// Returns what is allowed, in words.
    pub fn allowed(&self) -> &'static str {
        self.allowed
    }
}

/// Returns whether a text has a character that no name and no prefix may have.
pub(crate) fn has_forbidden_characters(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || c == '{' || c == '}')
}
