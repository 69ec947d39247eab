//! The builder of a semaphore: its settings, their defaults and what is allowed.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::driver::{DriverHandle, DropGuard};
use crate::error::{ConfigError, is_plain_name, is_semaphore_name};
use crate::lease;
use crate::numbers::{Millis, Replicas};
use crate::options::{Options, Renew, Wake};
use crate::semaphore::ZSetSemaphore;
use crate::semaphore_inner::SemaphoreInner;
use crate::store::LABEL_BOUND;

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
/// | [`label`](Self::label) | the label of the client |
/// | [`failover_grace`](Self::failover_grace) | none |
/// | [`replicated`](Self::replicated) | 0 |
/// | [`metrics_name`](Self::metrics_name) | the name of the semaphore |
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
    client: Arc<DropGuard>,
    name: String,
    limit: u32,
    lease: Duration,
    renew: Renew,
    max_hold: Option<Duration>,
    max_queue: Option<u32>,
    wake: Wake,
    backoff: Backoff,
    label: Option<String>,
    failover_grace: Duration,
    replicated: u32,
    metrics_name: MetricsName,
}

/// What the metrics count a semaphore under.
#[derive(Debug, Clone)]
enum MetricsName {
    /// Its own name.
    Default,
    Set(Arc<str>),
    /// The name of its keyed limit, which was checked as such.
    #[cfg(feature = "tower")]
    OfLimit(Arc<str>),
}

impl SemaphoreBuilder {
    pub(crate) fn new(client: Arc<DropGuard>, name: String, limit: u32) -> Self {
        Self {
            client,
            name,
            limit,
            lease: Duration::from_secs(30),
            renew: Renew::Auto,
            max_hold: None,
            max_queue: None,
            wake: Wake::Push,
            backoff: Backoff::default(),
            label: None,
            failover_grace: Duration::ZERO,
            replicated: 0,
            metrics_name: MetricsName::Default,
        }
    }

    /// Sets how long a permit lives in the store without a renewal: 50 ms to 30 days. After a crash
    /// of its holder, the units are free again after this time. Default: 30 s.
    ///
    /// A renewal is sent when a third of the lease has passed, and again after each further sixth
    /// without an answer. A permit is kept while a round trip to the store takes up to a third of the
    /// lease. If round trips take up to a sixth, one answer can be lost without harm.
    ///
    /// The round trip counts from when the client wants to send until it has read the answer, so a
    /// pause of the process counts as well. A lease of 50 ms needs a runtime that is never busy for
    /// more than a few milliseconds.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets who renews leases. Default: [`Renew::Auto`].
    pub fn renew(mut self, renew: Renew) -> Self {
        self.renew = renew;
        self
    }

    /// Sets how long a permit may be held at most. After that it is lost, with
    /// [`LostReason::MaxHold`](crate::LostReason::MaxHold), and its units are released. Default: no
    /// maximum.
    pub fn max_hold(mut self, max_hold: Duration) -> Self {
        self.max_hold = Some(max_hold);
        self
    }

    /// Sets how many may wait at most, in the whole cluster. When as many wait already, an acquire ends
    /// with [`AcquireError::QueueFull`](crate::AcquireError::QueueFull). Default: no maximum.
    pub fn max_queue(mut self, max_queue: u32) -> Self {
        self.max_queue = Some(max_queue);
        self
    }

    /// Sets how waiters learn that they were granted a permit. Default: [`Wake::Push`].
    pub fn wake(mut self, wake: Wake) -> Self {
        self.wake = wake;
        self
    }

    /// Sets how often a waiter asks the store when no wake-ups arrive, or with [`Wake::Poll`].
    /// Default: [`Backoff::decay()`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the label that [`inspect`](ZSetSemaphore::inspect) shows with the permits and waiters of
    /// this client, such as a host name: up to 128 bytes without control characters. A client has one
    /// label for each semaphore name. Default: the label of the client.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets for how long nothing new is granted after another server has taken over, or the server was
    /// restarted: up to 30 days. Default: none.
    ///
    /// A new primary may lack the last writes of the old one. Clients put back what it lacks when they reconnect,
    /// while there is room. Without a grace, others may have taken that room by then. Then the limit is passed
    /// until the late holder hears that its permit is lost, or until its lease ends. With a grace of at least the
    /// longest lease, the limit is not exceeded for names that the new server knows. During the grace, permits are
    /// renewed, put back and released. Waiters keep their places. A try ends with
    /// [`TryAcquireError::Full`](crate::TryAcquireError::Full).
    ///
    /// The grace of a name starts with its first turn on the new server. If the server has no data of the name, the
    /// grace counts from the start of the server instead, because the name may be new. So there is no grace for such
    /// a name on a server that has been up for longer than the grace. If clients set different graces, the longest
    /// one that was set since the last change of the server counts.
    ///
    /// A grace costs its whole length after each restart, planned failover and move of the name to another
    /// server, even where nothing was lost, since the server cannot know. Therefore there is none by default.
    /// Without a grace, only grants that the old primary had not replicated can be given twice, and only until
    /// their holders reconnect. In a test of 90 workers on 30 units, a replica that lagged by 300 ms caused no
    /// excess. With all 30 grants lost, and holders that reconnect half a second later than waiters, there were
    /// 30 units too many for half a second. A grace of one lease of 2 s left no excess, and no grant for 2 s.
    ///
    /// The older data may also contain permits that were released meanwhile. They take room until their leases end.
    /// A permit that finds no room is lost. The Redis user needs the right to call `INFO`.
    pub fn failover_grace(mut self, grace: Duration) -> Self {
        self.failover_grace = grace;
        self
    }

    /// Sets how many replicas must have a grant before it is handed out. Default: 0, so a grant is handed out when
    /// the primary has it.
    ///
    /// Redis replicates asynchronously. If a primary dies, the promoted replica lacks what it had not received yet.
    /// With `replicated(1)` and one replica, that replica has each grant before the holder starts to work. So a
    /// failover to it loses no grant that was handed out.
    ///
    /// While the client waits for the replicas, the permit takes its units and is renewed. Concurrent callers share
    /// one `WAIT` command, which is sent over a second connection to the primary. The first caller opens that
    /// connection. It is closed after a minute without a caller. A grant costs one more round trip to the primary, and
    /// from there to the replicas. With one replica on the same machine, a pair of acquire and release took 2.4 times
    /// as long for one task, and twice as long for 64 tasks.
    ///
    /// While too few replicas acknowledge, an acquire waits as it does in an outage of the store, and keeps its units.
    /// A [`timeout`](crate::Acquire::timeout) ends it with
    /// [`AcquireError::Timeout`](crate::AcquireError::Timeout), and a try ends with
    /// [`TryAcquireError::Unavailable`](crate::TryAcquireError::Unavailable). The error in it is
    /// [`TooFewReplicas`](crate::StoreErrorKind::TooFewReplicas), with both numbers. The permit is given back. The
    /// tower layer treats it as an outage: its policy decides. A permit that is lost while replicas are asked was
    /// never handed out, so the acquire goes back to the end of the queue. If the permit was kicked, the acquire ends
    /// with [`AcquireError::Kicked`](crate::AcquireError::Kicked).
    ///
    /// # What it does not promise
    ///
    /// - It does not make Redis consistent. A failover to a replica other than those that have acknowledged loses
    ///   the grant. With the number of all replicas there is no other one, but then no grant is handed out while one
    ///   of them is down.
    /// - Renewals and releases are not waited for. After a failover, a lease may end earlier in the store than its
    ///   holder knows, and is then put back by the next renewal while there is room. A permit that was released
    ///   may take its units again until its lease ends.
    /// - A replica acknowledges what it has in memory, not what it has on disk.
    ///
    /// # Errors
    ///
    /// [`build`](Self::build) refuses it for a client in memory, which has no replicas. If the server does not know
    /// the command `WAIT`, or the user has no right to it, an acquire ends with
    /// [`AcquireError::Refused`](crate::AcquireError::Refused).
    pub fn replicated(mut self, replicas: u32) -> Self {
        self.replicated = replicas;
        self
    }

    /// Sets the value of the label `semaphore` in metrics: 1 to 512 bytes without control characters, and not `_other`.
    /// Default: the name of the semaphore.
    ///
    /// It is for names that are made from data, such as one for each customer: without it, the first of them fill the
    /// label, whose values are bounded. It has no effect without the feature `metrics`.
    ///
    /// A client counts a name under one value. If several handles of a client have the same name, the first one that sets a
    /// value decides for all of them, and a keyed limit sets its own name. What was counted before that under the name
    /// itself stays there; gauges move over.
    ///
    /// # Examples
    ///
    /// ```
    /// use zset_semaphore::Client;
    ///
    /// let client = Client::in_memory();
    /// let customer = 4711;
    /// let name = format!("exports-of-{customer}");
    /// let exports = client.semaphore(name, 2).metrics_name("exports").build()?;
    /// # Ok::<(), zset_semaphore::ConfigError>(())
    /// ```
    pub fn metrics_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.metrics_name = MetricsName::Set(name.into());
        self
    }

    /// Sets the keyed limit that the semaphore belongs to.
    #[cfg(feature = "tower")]
    pub(crate) fn of_limit(mut self, limit_name: Arc<str>) -> Self {
        self.metrics_name = MetricsName::OfLimit(limit_name);
        self
    }

    /// Checks the settings and makes the semaphore. It does not call the store.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting, its value and what is allowed.
    pub fn build(self) -> Result<ZSetSemaphore, ConfigError> {
        check_name(&self.name)?;
        self.metrics_name.check()?;
        self.backoff.check()?;
        let lease = lease::checked("lease", self.lease)?;
        if self.max_hold == Some(Duration::ZERO) {
            return Err(ConfigError::new("max_hold", Duration::ZERO, "more than 0"));
        }
        if self.failover_grace > lease::LONGEST {
            return Err(ConfigError::new("failover_grace", self.failover_grace, "up to 30 days"));
        }
        let failover_grace = Millis::from(self.failover_grace);
        let replicated = Replicas::new(self.replicated);
        if replicated.is_some() && self.client.shared().is_in_process() {
            let allowed = "0 for a client in memory, which has no replicas";
            return Err(ConfigError::new("replicated", self.replicated, allowed));
        }
        let label: Arc<str> = match self.label {
            Some(label) => check_label(label)?.into(),
            None => Arc::clone(&self.client.shared().label),
        };
        let options = Options {
            lease,
            renew: self.renew,
            max_hold: self.max_hold,
            backoff: self.backoff,
            wake: self.wake,
            max_queue: self.max_queue,
            failover_grace,
            replicated,
        };
        let shared = self.client.shared();
        let cell = shared.semaphore(&self.name, self.limit, &label, self.metrics_name.as_deref());
        let driver = DriverHandle::new(cell, self.client);
        driver.with(|state| state.add_grace(failover_grace));
        let inner = SemaphoreInner::new(self.name.into(), self.limit, Arc::new(options), driver);
        Ok(ZSetSemaphore { inner: Arc::new(inner) })
    }
}

impl MetricsName {
    fn as_deref(&self) -> Option<&str> {
        match self {
            Self::Default => None,
            Self::Set(name) => Some(name),
            #[cfg(feature = "tower")]
            Self::OfLimit(name) => Some(name),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        const ALLOWED: &str = "1 to 512 bytes without control characters, and not _other";
        match self {
            Self::Set(name) if !is_plain_name(name) || **name == *"_other" => {
                Err(ConfigError::of_text("metrics_name", name, ALLOWED))
            }
            _ => Ok(()),
        }
    }
}

fn check_name(name: &str) -> Result<(), ConfigError> {
    const ALLOWED: &str = "1 to 512 bytes without control characters and without { or }";
    if !is_semaphore_name(name) {
        return Err(ConfigError::of_text("semaphore name", name, ALLOWED));
    }
    Ok(())
}

pub(crate) fn check_label(label: String) -> Result<String, ConfigError> {
    if label.len() > LABEL_BOUND || label.chars().any(char::is_control) {
        let allowed = "up to 128 bytes without control characters";
        return Err(ConfigError::of_text("label", &label, allowed));
    }
    Ok(label)
}
