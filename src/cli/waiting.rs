//! The wait for a permit, which a signal ends.

use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use zset_semaphore::{
    Acquire, AcquireError, Client, ExtendError, LostReason, Permit, ZSetSemaphore,
};

use crate::args::{Global, PermitArgs};
use crate::client::own_label;
use crate::failure::Failure;
use crate::nested;
use crate::output::warn;
use crate::printable::Printable;
use crate::signals::{Received, Signals};
use crate::status::Status;
use crate::times::short;

/// A wait of this length is shown, where somebody looks.
const SHOWN_AFTER: Duration = Duration::from_secs(2);

/// After this long, a wait that has no place in the queue is told, where nobody looks.
const TOLD_AFTER: Duration = Duration::from_secs(5);

/// How long a client may take to leave the queue.
const LEAVING: Duration = Duration::from_secs(2);

/// How a wait has ended.
pub(crate) enum Waited {
    Granted(Box<Granted>),
    Signal(Received),
}

pub(crate) struct Granted {
    pub(crate) client: Client,
    pub(crate) semaphore: ZSetSemaphore,
    pub(crate) permit: Permit,
}

/// Connects and waits for a permit.
pub(crate) async fn wait(
    global: &Global,
    args: &PermitArgs,
    signals: &mut Signals,
) -> Result<Waited, Failure> {
    let waited = wait_or_tell(global, args, signals).await;
    waited.map_err(|failure| if args.quiet { failure.unless_no_permit() } else { failure })
}

async fn wait_or_tell(
    global: &Global,
    args: &PermitArgs,
    signals: &mut Signals,
) -> Result<Waited, Failure> {
    let label = args.label.clone().unwrap_or_else(own_label);
    let prepared = async {
        let client = global.connect(&label).await?;
        let semaphore = args.semaphore(&client).await?;
        Ok::<_, Failure>((client, semaphore))
    };
    let prepared = async {
        let Some(most) = args.longest(global) else { return prepared.await };
        let late = |_| Failure::new(Status::AWAY, format!("no connection within {most:?}"));
        tokio::time::timeout(most, prepared).await.map_err(late)?
    };
    let (client, semaphore) = tokio::select! {
        biased;
        received = signals.next_end() => return Ok(Waited::Signal(received)),
        prepared = prepared => prepared?,
    };
    let granted = async {
        if !args.tries {
            nested::warn_of_itself(&semaphore, args.units).await;
        }
        whole(&semaphore, args).await
    };
    let waited = tokio::select! {
        biased;
        received = signals.next_end() => Err(received),
        permit = granted => Ok(permit),
    };
    match waited {
        Ok(Err(failure)) => {
            leave(&client).await;
            Err(failure)
        }
        Ok(Ok(permit)) => Ok(Waited::Granted(Box::new(Granted { client, semaphore, permit }))),
        Err(received) => {
            leave(&client).await;
            Ok(Waited::Signal(received))
        }
    }
}

/// Lets the client tell Redis what it has given back.
pub(crate) async fn leave(client: &Client) {
    // What is not confirmed by then ends with its lease.
    let _ = tokio::time::timeout(LEAVING, client.shutdown_now()).await;
}

impl PermitArgs {
    /// How long it may take to connect, where the wait is bounded.
    fn longest(&self, global: &Global) -> Option<Duration> {
        let tries = self.tries.then_some(global.call_deadline);
        tries.or_else(|| self.wait.map(|wait| wait.max(global.call_deadline)))
    }

    async fn semaphore(&self, client: &Client) -> Result<ZSetSemaphore, Failure> {
        let limit = match self.limit {
            Some(limit) => limit,
            None => {
                let seen = client.semaphore(&self.name, 1).build()?.inspect().await?;
                seen.declared_limit.unwrap_or(1)
            }
        };
        let mut builder = client.semaphore(&self.name, limit).lease(self.lease);
        if let Some(max_hold) = self.max_hold {
            builder = builder.max_hold(max_hold);
        }
        if let Some(max_queue) = self.max_queue {
            builder = builder.max_queue(max_queue);
        }
        Ok(builder.build()?)
    }
}

/// Waits for a permit with its whole lease. A waiter that was woken has a short claim at first. If Redis has not
/// confirmed the claim, or has lost it, `zsem` waits again.
async fn whole(semaphore: &ZSetSemaphore, args: &PermitArgs) -> Result<Permit, Failure> {
    let end = args.wait.and_then(|wait| Instant::now().checked_add(wait));
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let permit = acquire(semaphore, args, left).await?;
        match confirm(&permit, args.lease).await {
            Ok(()) => return Ok(permit),
            Err(ExtendError::Lost(LostReason::RenewalTimeout | LostReason::MissingInStore))
                if !args.tries => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn acquire(
    semaphore: &ZSetSemaphore,
    args: &PermitArgs,
    wait: Option<Duration>,
) -> Result<Permit, Failure> {
    if args.tries {
        return Ok(semaphore.try_acquire(args.units).await?);
    }
    let acquire = semaphore.acquire(args.units);
    let acquire = match wait {
        Some(wait) => acquire.timeout(wait),
        None => acquire,
    };
    let waited = match io::stderr().is_terminal() {
        _ if args.quiet => acquire.await,
        true => shown(acquire, &args.name).await,
        false => told(acquire).await,
    };
    match waited {
        Err(AcquireError::Timeout { waited, place, outage }) => {
            let asks = outage.is_none();
            // The last one of several waits may be shorter than what the caller has set.
            let waited = args.wait.unwrap_or(waited);
            let error = AcquireError::Timeout { waited, place, outage };
            Err(if asks { after_timeout(semaphore, error).await } else { error.into() })
        }
        waited => Ok(waited?),
    }
}

/// The time is over. Whether others hold all units or Redis does not answer, only Redis can tell.
async fn after_timeout(semaphore: &ZSetSemaphore, timeout: AcquireError) -> Failure {
    match semaphore.inspect().await {
        Ok(_) => timeout.into(),
        Err(error) => {
            let told = format!("{timeout}; {error}");
            Failure::new(Failure::from(error).status(), told)
        }
    }
}

/// Waits until the store has given a permit its whole lease.
async fn confirm(permit: &Permit, lease: Duration) -> Result<(), ExtendError> {
    if permit.remaining() >= lease / 2 {
        return Ok(());
    }
    permit.extend(lease).await
}

/// Waits, and tells once if Redis does not let it wait. It may do so later, so the wait goes on.
async fn told(acquire: Acquire) -> Result<Permit, AcquireError> {
    let mut acquire = pin!(acquire);
    if let Ok(waited) = tokio::time::timeout(TOLD_AFTER, &mut acquire).await {
        return waited;
    }
    if acquire.place().is_none() {
        warn("Redis does not answer, or refuses; the wait goes on, and -v tells more");
    }
    acquire.await
}

/// Waits, and shows for how long.
async fn shown(acquire: Acquire, name: &str) -> Result<Permit, AcquireError> {
    let start = Instant::now();
    let mut acquire = pin!(acquire);
    let mut look = interval_at(start + SHOWN_AFTER, Duration::from_secs(1));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut line = Line { is_shown: false };
    loop {
        tokio::select! {
            biased;
            permit = &mut acquire => return permit,
            _ = look.tick() => {
                let ahead = match acquire.place() {
                    Some(0) => ", next".to_owned(),
                    Some(ahead) => format!(", {ahead} ahead"),
                    None => ", Redis does not answer, or refuses".to_owned(),
                };
                let waited = short(start.elapsed());
                line.show(&format!("waiting for {}: {waited}{ahead}", Printable::new(name)));
            }
        }
    }
}

/// One line on standard error that goes away.
struct Line {
    is_shown: bool,
}

impl Line {
    /// Erases the line, by ECMA-48.
    const ERASE: &str = "\r\u{1b}[K";

    fn show(&mut self, text: &str) {
        self.is_shown = true;
        let mut out = io::stderr().lock();
        let _ = write!(out, "{}zsem: {text}", Self::ERASE).and_then(|()| out.flush());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.is_shown {
            let mut out = io::stderr().lock();
            let _ = write!(out, "{}", Self::ERASE).and_then(|()| out.flush());
        }
    }
}
