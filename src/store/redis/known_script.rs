//! A script, and whether the server of a session has it.
//!
//! # Implementation
//!
//! A server that has restarted has no scripts, and all its clients come back within a second. A script has
//! thousands of bytes, so few clients should send it. A client therefore asks with `EVALSHA` first. If the
//! script is missing, it waits for a random time, asks again, and sends the script only if it is still missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, cmd};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

use super::errors::{is_hopeless, is_noscript};
use super::scripts::Script;

/// The longest wait before a script is sent. The client that waits least needs a few milliseconds to load it, so
/// most others find it. The time to open a connection, which is 40 ms or more, has room for it.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// One script, for one session.
pub(super) struct KnownScript {
    script: Arc<Script>,
    /// How often it was missing and was seen to. Calls that met one absence compare it.
    loads: AtomicU64,
    line: Line,
}

/// The loads that a call knew of when it was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Loads(u64);

/// Whether to ask before the script is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    IfMissing,
    Anyway,
}

impl Load {
    /// How a call loads a script that it finds missing, and finds missing again. Then the server has forgotten it
    /// once more, or stands behind a proxy that refuses the question.
    pub(super) const ATTEMPTS: [Self; 2] = [Self::IfMissing, Self::Anyway];
}

impl KnownScript {
    pub(super) fn new(script: &Arc<Script>) -> Self {
        Self { script: Arc::clone(script), loads: AtomicU64::new(0), line: Line::default() }
    }

    pub(super) fn hash(&self) -> &str {
        &self.script.hash
    }

    /// Returns the present loads, to be read before a call is sent. While the script is being loaded, it waits
    /// for that, so that a call does not overtake those that wait for the script.
    pub(super) async fn loads(&self) -> Loads {
        if !self.line.is_empty() {
            drop(self.line.stand().await);
        }
        Loads(self.loads.load(Ordering::SeqCst))
    }

    /// Loads the script, for a call that was sent after `missed` and found none. Of many calls only the first
    /// one does it, and all return in the order in which they came. Returns the present loads.
    pub(super) async fn load(
        &self,
        missed: Loads,
        how: Load,
        connection: &MultiplexedConnection,
    ) -> RedisResult<Loads> {
        let _one_at_a_time = self.line.stand().await;
        let present = Loads(self.loads.load(Ordering::SeqCst));
        if present != missed {
            return Ok(present);
        }
        sleep(LONGEST_WAIT.mul_f64(fastrand::f64())).await;
        if how == Load::Anyway || !self.is_there(connection).await? {
            let mut load = cmd("SCRIPT");
            load.arg("LOAD").arg(&self.script.text);
            load.exec_async(&mut connection.clone()).await?;
        }
        Ok(Loads(self.loads.fetch_add(1, Ordering::SeqCst) + 1))
    }

    /// Loads the script on a new connection that did not find it.
    pub(super) async fn provide(&self, connection: &MultiplexedConnection) -> RedisResult<()> {
        let loads = self.loads().await;
        self.load(loads, Load::IfMissing, connection).await?;
        Ok(())
    }

    /// Returns whether the server has the script. It calls the script without keys, which fails before it
    /// reads or writes anything. That needs no right that turns do not need, unlike `SCRIPT EXISTS`.
    pub(super) async fn is_there(&self, connection: &MultiplexedConnection) -> RedisResult<bool> {
        let mut call = cmd("EVALSHA");
        call.arg(self.hash()).arg(0);
        let reply = connection.clone().send_packed_command(&call).await;
        match reply.and_then(redis::Value::extract_error) {
            Err(error) if is_noscript(&error) => Ok(false),
            Err(error) if is_hopeless(&error) => Err(error),
            Ok(_) | Err(_) => Ok(true),
        }
    }
}

/// Calls that wait for each other: the first one sees to the script.
#[derive(Default)]
struct Line {
    /// How many are in the line. A look at it costs less than a look at the lock.
    length: AtomicUsize,
    lock: Mutex<()>,
}

/// The place of a call in the line. The next call comes when it is dropped.
struct Place<'a> {
    _lock: MutexGuard<'a, ()>,
    _counted: Counted<'a>,
}

struct Counted<'a>(&'a AtomicUsize);

impl Line {
    fn is_empty(&self) -> bool {
        self.length.load(Ordering::SeqCst) == 0
    }

    /// Waits until all that came before have left the line.
    async fn stand(&self) -> Place<'_> {
        self.length.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(&self.length);
        Place { _lock: self.lock.lock().await, _counted: counted }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
