//! The wait for a permit, which a signal ends.

use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use zset_semaphore::{Acquire, Client, Permit, ZSetSemaphore};

use crate::args::{Global, PermitArgs};
use crate::client::own_label;
use crate::failure::Failure;
use crate::printable::Printable;
use crate::signals::{Received, Signals};
use crate::status::Status;
use crate::times::short;

/// A wait of this length is shown, where somebody looks.
const SHOWN_AFTER: Duration = Duration::from_secs(2);

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
        let permit = acquire(&semaphore, args).await?;
        confirm(&permit, args).await?;
        Ok::<_, Failure>(permit)
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

async fn acquire(semaphore: &ZSetSemaphore, args: &PermitArgs) -> Result<Permit, Failure> {
    if args.tries {
        return Ok(semaphore.try_acquire(args.units).await?);
    }
    let acquire = semaphore.acquire(args.units);
    let acquire = match args.wait {
        Some(wait) => acquire.timeout(wait),
        None => acquire,
    };
    if io::stderr().is_terminal() { shown(acquire, &args.name).await } else { Ok(acquire.await?) }
}

/// A waiter that was woken has a short claim at first. This waits until the store has given it its whole lease.
async fn confirm(permit: &Permit, args: &PermitArgs) -> Result<(), Failure> {
    if permit.remaining() >= args.lease / 2 {
        return Ok(());
    }
    permit.extend(args.lease).await.map_err(|error| Failure::new(Status::NO_PERMIT, error))
}

/// Waits, and shows for how long.
async fn shown(acquire: Acquire, name: &str) -> Result<Permit, Failure> {
    let start = Instant::now();
    let mut acquire = pin!(acquire);
    let mut look = interval_at(start + SHOWN_AFTER, Duration::from_secs(1));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut line = Line { is_shown: false };
    loop {
        tokio::select! {
            biased;
            permit = &mut acquire => return Ok(permit?),
            _ = look.tick() => {
                let ahead = match acquire.place() {
                    Some(0) => ", next".to_owned(),
                    Some(ahead) => format!(", {ahead} ahead"),
                    None => String::new(),
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
