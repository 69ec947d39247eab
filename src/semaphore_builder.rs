//! The builder of a semaphore: its settings, and what is allowed.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::driver::{Lifeline, Seat};
use crate::error::ConfigError;
use crate::lease;
use crate::options::{Options, Renew, Wake};
use crate::semaphore::ZSetSemaphore;
use crate::semaphore_inner::SemaphoreInner;

/// Configures a [`ZSetSemaphore`]; made by [`Client::semaphore`](crate::Client::semaphore).
///
/// # Default
///
/// | setting | default |
/// |---|---|
/// | [`lease`](Self::lease) | 30 s |
/// | [`renew`](Self::renew) | [`Renew::Auto`] |
/// | [`max_hold`](Self::max_hold) | none |
/// | [`max_queue`](Self::max_queue) | none |
/// | [`wake`](Self::wake) | [`Wake::Push`] |
/// | [`backoff`](Self::backoff) | [`Backoff::decay()`] |
/// | [`label`](Self::label) | that of the client |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use zset_semaphore::Client;
///
/// let chats = Client::in_memory()
///     .semaphore("chat-sessions", 64)
///     .lease(Duration::from_secs(10))
///     .max_hold(Duration::from_secs(600))
///     .build()?;
/// assert_eq!(chats.limit(), 64);
///
/// let error = Client::in_memory().semaphore("a{b}", 1).build().unwrap_err();
/// assert_eq!(error.field(), "semaphore name");
/// # Ok::<(), zset_semaphore::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build()`"]
pub struct SemaphoreBuilder {
    client: Arc<Lifeline>,
    name: String,
    limit: u32,
    lease: Duration,
    options: Options,
    label: Option<String>,
}

impl SemaphoreBuilder {
    pub(crate) fn new(client: Arc<Lifeline>, name: String, limit: u32) -> Self {
        Self {
            client,
            name,
            limit,
            lease: Duration::from_secs(30),
            options: Options {
                lease_ms: 0,
                renew: Renew::Auto,
                max_hold: None,
                backoff: Backoff::default(),
                wake: Wake::Push,
                max_queue: None,
            },
            label: None,
        }
    }

    /// How long a permit lives in the store without a renewal: after a crash its units are back so
    /// much later. 50 ms to 30 days. Default: 30 s.
    ///
    /// A lease is held while a round trip to the store takes up to a third of it, from the moment the
    /// driver wants to send until it has read the answer: so a pause of the process counts, and a
    /// lease of 50 ms needs a runtime that is never busy for more than a few milliseconds. Renewals go
    /// out when a third of the lease is over, and again after each sixth without an answer. Up to a
    /// sixth, a lost answer costs nothing.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Who keeps leases alive. Default: [`Renew::Auto`].
    pub fn renew(mut self, renew: Renew) -> Self {
        self.options.renew = renew;
        self
    }

    /// Ends permits that are held longer: [`lost()`](crate::Permit::lost) fires and the units go
    /// back. Default: none.
    pub fn max_hold(mut self, max_hold: Duration) -> Self {
        self.options.max_hold = Some(max_hold);
        self
    }

    /// Turns an acquire away when so many wait already, cluster-wide. Default: none.
    pub fn max_queue(mut self, max_queue: u32) -> Self {
        self.options.max_queue = Some(max_queue);
        self
    }

    /// How waiters learn of their grant. Default: [`Wake::Push`].
    pub fn wake(mut self, wake: Wake) -> Self {
        self.options.wake = wake;
        self
    }

    /// How often to ask when wake-ups are off or unheard. Default: [`Backoff::decay()`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.options.backoff = backoff;
        self
    }

    /// What [`inspect`](ZSetSemaphore::inspect) shows beside this client's permits, say a host
    /// name. Kept per client and name; up to 128 bytes, no control characters. Default: that of
    /// the client.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Checks the settings and makes the handle. Talks to nobody yet.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting, its value and what is allowed.
    pub fn build(self) -> Result<ZSetSemaphore, ConfigError> {
        check_name(&self.name)?;
        self.options.backoff.check()?;
        let lease_ms = lease::checked_ms("lease", self.lease)?;
        if self.options.max_hold == Some(Duration::ZERO) {
            return Err(ConfigError::new("max_hold", Duration::ZERO, "more than 0"));
        }
        let label: Arc<str> = match self.label {
            Some(label) => check_label(label)?.into(),
            None => Arc::clone(&self.client.0.label),
        };
        let cell = self.client.0.line(&self.name, self.limit, &label);
        Ok(ZSetSemaphore {
            inner: Arc::new(SemaphoreInner {
                name: self.name.into(),
                limit: self.limit,
                options: Arc::new(Options { lease_ms, ..self.options }),
                seat: Seat::new(cell, self.client),
            }),
        })
    }
}

fn check_name(name: &str) -> Result<(), ConfigError> {
    const ALLOWED: &str = "1 to 512 bytes without control characters and without { or }";
    let length = (1..=512).contains(&name.len());
    if !length || name.chars().any(|c| c.is_control() || c == '{' || c == '}') {
        let shown: String = name.chars().take(80).collect();
        return Err(ConfigError::new("semaphore name", shown, ALLOWED));
    }
    Ok(())
}

pub(crate) fn check_label(label: String) -> Result<String, ConfigError> {
    if label.len() > 128 || label.chars().any(char::is_control) {
        let shown: String = label.chars().take(80).collect();
        let allowed = "up to 128 bytes without control characters";
        return Err(ConfigError::new("label", shown, allowed));
    }
    Ok(label)
}
