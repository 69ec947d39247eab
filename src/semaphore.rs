//! A semaphore: one name, one count, cluster-wide.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{Acquire, TryAcquire};
use crate::backoff::Backoff;
use crate::driver::{Lifeline, Line, Link, NoDriver, Seat};
use crate::error::{ConfigError, ControlError, StoreError};
use crate::id::{ClientId, PermitId};
use crate::numbers::Millis;
use crate::permit::lease_ms;
use crate::store::{BoxFuture, Kick, KickOutcome, Session};

/// Who keeps a lease alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Renew {
    /// The crate, in the background, every third of the lease. The default.
    #[default]
    Auto,
    /// Nobody: the lease is fixed, and only [`Permit::extend`](crate::Permit::extend) pushes it.
    Manual,
}

/// How a waiter learns that it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Wake {
    /// The store tells at once; where it cannot, as [`Poll`](Wake::Poll). The default.
    #[default]
    Push,
    /// By asking at the pace of the [`Backoff`]. A wake-up that arrives all the same is used.
    Poll,
}

/// What a handle wants of its permits.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) lease: Millis,
    pub(crate) renew: Renew,
    pub(crate) max_hold: Option<Duration>,
    pub(crate) backoff: Backoff,
    pub(crate) wake: Wake,
    pub(crate) max_queue: Option<u32>,
}

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
                lease: Millis::new(0),
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
        let lease = lease_ms("lease", self.lease)?;
        if self.options.max_hold == Some(Duration::ZERO) {
            return Err(ConfigError::new("max_hold", Duration::ZERO, "more than 0"));
        }
        let label: Arc<str> = match self.label {
            Some(label) => check_label(label)?.into(),
            None => Arc::clone(&self.client.0.label),
        };
        let cell = self.client.0.line(&self.name, self.limit, &label);
        Ok(ZSetSemaphore {
            inner: Arc::new(Inner {
                name: self.name.into(),
                limit: self.limit,
                options: Arc::new(Options { lease, ..self.options }),
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

/// A counting semaphore that is shared by all processes that use the same store, prefix and name.
///
/// Cheap to clone. Waiters are served first come first served across the whole cluster: nobody
/// overtakes, and a waiter for many units is not starved by those for one.
///
/// Handles of one name made by one client share one queue and one count; options belong to the
/// handle. Handles with different limits may meet, say during a roll-out: each turn uses the
/// highest limit of the handles of its own client, so **the highest limit in use is the cap**.
/// [`set_limit`](Self::set_limit) overrides them all.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use zset_semaphore::{Client, TryAcquireError};
///
/// let chats = Client::in_memory().semaphore("chats", 2).build()?;
/// let one = chats.acquire_one().await?;
/// let two = chats.acquire(1).timeout(Duration::from_secs(5)).await?;
/// assert!(matches!(chats.try_acquire(1).await, Err(TryAcquireError::Full { in_use: 2, .. })));
/// drop(one);
/// let three = chats.acquire(1).await?;
/// assert!(three.fencing_token() > two.fencing_token());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ZSetSemaphore {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) name: Arc<str>,
    pub(crate) limit: u32,
    pub(crate) options: Arc<Options>,
    pub(crate) seat: Seat,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.seat.update(|line| line.remove_handle(self.limit));
    }
}

impl ZSetSemaphore {
    /// Waits for `units`, first come first served, and holds nothing while it waits.
    ///
    /// The returned future is inert until polled; set a [`timeout`](Acquire::timeout) before.
    ///
    /// # Errors
    ///
    /// See [`AcquireError`](crate::AcquireError). An outage of the store is ridden out, with the
    /// place in the queue kept, until the timeout.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe at every point: a dropped future leaves no permit and no queue entry. The place
    /// in the queue is lost.
    pub fn acquire(&self, units: u32) -> Acquire {
        Acquire::new(Arc::clone(&self.inner), units)
    }

    /// Short for [`acquire(1)`](Self::acquire).
    pub fn acquire_one(&self) -> Acquire {
        self.acquire(1)
    }

    /// Takes `units` if they are free and nobody waits; one round trip, never waits for room.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::Full`](crate::TryAcquireError::Full) when there is no room or somebody
    /// waits for it; see there for the others.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe at every point: a dropped future leaves no permit.
    pub fn try_acquire(&self, units: u32) -> TryAcquire {
        TryAcquire::new(Arc::clone(&self.inner), units)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    #[cfg(feature = "tower")]
    pub(crate) fn clone_name(&self) -> Arc<str> {
        Arc::clone(&self.inner.name)
    }

    /// The limit this handle was made with; an override may be in force instead.
    pub fn limit(&self) -> u32 {
        self.inner.limit
    }

    /// Overrides the limit for the whole cluster at once, until
    /// [`clear_limit`](Self::clear_limit); 0 pauses. It survives idling and restarts of clients.
    ///
    /// Raising it serves waiters at once. Lowering it takes nothing from anybody: nobody new is
    /// let in until enough have left.
    ///
    /// # Errors
    ///
    /// [`ControlError`] when the store cannot be asked within the call deadline.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the limit may or may not be set.
    pub async fn set_limit(&self, limit: u32) -> Result<(), ControlError> {
        let name = Arc::clone(&self.inner.name);
        self.ask(|session| session.set_limit(name, Some(limit))).await?;
        self.inner.seat.update(Line::nudge);
        Ok(())
    }

    /// Ends what [`set_limit`](Self::set_limit) set: the handles' own limits count again.
    ///
    /// # Errors
    ///
    /// As [`set_limit`](Self::set_limit).
    ///
    /// # Cancel safety
    ///
    /// If dropped, the limit may or may not be cleared.
    pub async fn clear_limit(&self) -> Result<(), ControlError> {
        let name = Arc::clone(&self.inner.name);
        self.ask(|session| session.set_limit(name, None)).await?;
        self.inner.seat.update(Line::nudge);
        Ok(())
    }

    /// Ends somebody's permit: it can no longer be renewed, its holder's
    /// [`lost()`](crate::Permit::lost) fires, and its units are free when the holder has let go, or
    /// at its deadline at the latest.
    ///
    /// # Errors
    ///
    /// As [`set_limit`](Self::set_limit).
    ///
    /// # Cancel safety
    ///
    /// If dropped, the permit may or may not be kicked.
    pub async fn kick(&self, id: PermitId) -> Result<KickOutcome, ControlError> {
        let name = Arc::clone(&self.inner.name);
        self.ask(|session| session.kick(name, id, Kick::Mark)).await
    }

    /// As [`kick`](Self::kick), but frees the units at once, before the holder knows.
    ///
    /// **This breaks the promise that the limit is never exceeded**: until the holder has noticed,
    /// two may run where one should. Only for holders that are known to be dead.
    ///
    /// # Errors
    ///
    /// As [`set_limit`](Self::set_limit).
    ///
    /// # Cancel safety
    ///
    /// If dropped, the permit may or may not be kicked.
    pub async fn kick_now(&self, id: PermitId) -> Result<KickOutcome, ControlError> {
        let name = Arc::clone(&self.inner.name);
        let outcome = self.ask(|session| session.kick(name, id, Kick::Remove)).await?;
        self.inner.seat.update(Line::nudge);
        Ok(outcome)
    }

    /// Who holds and who waits, by the store's own books.
    ///
    /// A permit that was just dropped may still be listed: its id goes with the next turn. Await
    /// [`Permit::release`](crate::Permit::release) where that matters.
    ///
    /// # Errors
    ///
    /// As [`set_limit`](Self::set_limit).
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: it changes nothing.
    pub async fn inspect(&self) -> Result<Inspection, ControlError> {
        let name = Arc::clone(&self.inner.name);
        let mut inspection = self.ask(|session| session.inspect(name)).await?;
        inspection.limit = inspection.limit_override.unwrap_or(self.inner.limit);
        Ok(inspection)
    }

    /// Ends all waiters of this name in this client with `Closed`, and lets in no new ones. Held
    /// permits stay as they are.
    pub fn close(&self) {
        self.inner.seat.update(|line| line.close(tokio::time::Instant::now()));
    }

    /// Whether [`close`](Self::close) was called, on any handle of this name in this client.
    pub fn is_closed(&self) -> bool {
        self.inner.seat.peek(|line| line.is_closed())
    }

    /// What is known here without asking the store.
    #[cfg(feature = "tower")]
    pub(crate) fn outlook(&self) -> Outlook {
        let shared = self.inner.seat.shared();
        let (unconnected, heard) = (shared.unconnected_since(), shared.heard_at());
        self.inner.seat.peek(|line| {
            let since = [unconnected, line.troubled_since(heard)].into_iter().flatten().min();
            let away = since.map(|since| Away {
                since,
                error: line.trouble().cloned().or_else(|| shared.link_trouble()),
                connected: unconnected.is_none(),
            });
            Outlook {
                away,
                in_use: line.counts().map(|(in_use, _)| in_use),
                limit: line.counts().map_or(self.inner.limit, |(_, limit)| limit),
            }
        })
    }

    /// How long the answer to a call may take.
    #[cfg(feature = "tower")]
    pub(crate) fn call_deadline(&self) -> Duration {
        self.inner.seat.shared().call_deadline
    }

    /// Whether a caller may ask the store though that is in trouble.
    #[cfg(feature = "tower")]
    pub(crate) fn may_probe(&self, every: Duration) -> bool {
        let now = tokio::time::Instant::now();
        self.inner.seat.peek(|line| line.may_probe(now, every))
    }

    async fn ask<T>(
        &self,
        question: impl for<'a> FnOnce(&'a dyn Session) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> Result<T, ControlError> {
        let shared = self.inner.seat.shared();
        shared.ensure_driver().map_err(|reason| match reason {
            NoDriver::NoRuntime => ControlError::NoRuntime,
            NoDriver::Ended => ControlError::Closed,
        })?;
        let start = tokio::time::Instant::now();
        let session = shared.session().await.map_err(|link| match link {
            Link::Down(error) => ControlError::Unavailable(error),
            _ => ControlError::Closed,
        })?;
        let left = shared.call_deadline.saturating_sub(start.elapsed());
        let answer = tokio::time::timeout(left, question(&*session)).await.unwrap_or_else(|_| {
            let deadline = shared.call_deadline;
            Err(StoreError::timeout(format!("no answer within {deadline:?}")))
        });
        answer.map_err(|error| {
            // Where connecting took the time, a timeout says nothing about the connection.
            if !error.is_timeout() || left >= shared.call_deadline / 2 {
                shared.complain(&session, error.clone());
            }
            ControlError::Unavailable(error)
        })
    }
}

impl fmt::Debug for ZSetSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZSetSemaphore")
            .field("name", &self.inner.name)
            .field("limit", &self.inner.limit)
            .field("options", &self.inner.options)
            .finish()
    }
}

/// What a client knows of a semaphore without asking the store.
#[cfg(feature = "tower")]
pub(crate) struct Outlook {
    pub(crate) away: Option<Away>,
    pub(crate) in_use: Option<u64>,
    pub(crate) limit: u32,
}

/// The store does not answer, or not as it should.
#[cfg(feature = "tower")]
pub(crate) struct Away {
    pub(crate) since: tokio::time::Instant,
    pub(crate) error: Option<StoreError>,
    pub(crate) connected: bool,
}

/// The store's books about one semaphore at one moment; made by
/// [`inspect`](ZSetSemaphore::inspect).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The limit in force: the override if there is one, else that of the handle that asked.
    pub limit: u32,
    /// What [`set_limit`](ZSetSemaphore::set_limit) set.
    pub limit_override: Option<u32>,
    /// Units in use, including those of permits whose lease has just ended.
    pub in_use: u64,
    /// How many permits are held.
    pub holders_total: u64,
    /// How many wait.
    pub waiters_total: u64,
    /// The holders whose leases end first, at most 500.
    pub holders: Vec<Holder>,
    /// The first waiters in the order in which they will be served, at most 500.
    pub waiters: Vec<QueuedWaiter>,
}

/// One permit in an [`Inspection`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its id.
    pub id: PermitId,
    /// The client that holds it.
    pub client: ClientId,
    /// What that client calls itself.
    pub label: Option<String>,
    /// How many units it holds.
    pub units: u32,
    /// How long its lease still runs by the store's clock.
    pub expires_in: Duration,
    /// Whether it was kicked.
    pub kicked: bool,
}

/// One waiter in an [`Inspection`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueuedWaiter {
    /// The id of the permit it waits for.
    pub id: PermitId,
    /// The client that waits.
    pub client: ClientId,
    /// What that client calls itself.
    pub label: Option<String>,
    /// How many units it waits for.
    pub units: u32,
}
