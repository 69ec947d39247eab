//! The deadline of a permit, which the guard keeps, too: a `zsem` that is stopped cannot end the command.
//!
//! # Implementation
//!
//! `zsem` writes each deadline into a pipe, in nanoseconds of the system's monotonic clock, which all processes share.
//! The guard opens the pipe by `/proc`, so neither it nor the command inherits anything.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, Signal, getpid, kill_process};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// The number of a pipe that is not there.
pub(super) const NONE: &str = "none";

/// The shortest time between two looks at a deadline.
const SHORTEST_LOOK: Duration = Duration::from_millis(2);

/// What tells the guard until when the command may run.
pub(super) struct Teller {
    /// The guard opens it by its number.
    reader: PipeReader,
    writer: PipeWriter,
    told: Option<Instant>,
    look_at: Instant,
}

impl Teller {
    pub(super) fn new(deadline: Instant) -> io::Result<Self> {
        let (reader, writer) = pipe()?;
        ioctl_fionbio(&writer, true)?; // a guard that could not open it never reads
        let mut teller = Self { reader, writer, told: None, look_at: deadline };
        teller.tell(deadline);
        Ok(teller)
    }

    /// Returns the number by which the guard finds it.
    pub(super) fn number(&self) -> String {
        self.reader.as_raw_fd().to_string()
    }

    /// Returns when to [`tell`](Self::tell) next, whether the permit was renewed or not.
    pub(super) fn look_at(&self) -> Instant {
        self.look_at
    }

    /// Tells a deadline that was not told before. The next look comes after half of the time that is left, since the
    /// guard has to learn of a renewal before the deadline that it knows.
    pub(super) fn tell(&mut self, deadline: Instant) {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        self.look_at = now + (left / 2).max(SHORTEST_LOOK);
        if self.told.replace(deadline) != Some(deadline) {
            let told = u64::try_from((monotonic() + left).as_nanos()).unwrap_or(u64::MAX);
            let _ = self.writer.write(&told.to_ne_bytes()); // if it is full, nobody reads
        }
    }
}

/// Sets `is_over`, and ends the wait of the guard for signals, when the last deadline that its parent has told is over.
pub(super) fn keep(parent: Pid, number: &str, is_over: &Arc<AtomicBool>) {
    // Without `/proc`, `zsem` alone keeps the deadline.
    let Ok(mut told) = File::open(format!("/proc/{}/fd/{number}", parent.as_raw_nonzero())) else {
        return;
    };
    let is_over = Arc::clone(is_over);
    let keeping = move || {
        while let Some(deadline) = read(&mut told) {
            if !is_told_more(&told, deadline) {
                is_over.store(true, Ordering::Relaxed);
                // The guard waits for signals. This one it has in any case.
                let _ = kill_process(getpid(), Signal::CHILD);
                return;
            }
        }
    };
    // Where no thread can be started, `zsem` alone keeps it, too.
    let _ = thread::Builder::new().name("deadline".to_owned()).spawn(keeping);
}

/// Reads a deadline; none if `zsem` has ended.
fn read(told: &mut File) -> Option<Duration> {
    let mut nanos = [0; size_of::<u64>()];
    told.read_exact(&mut nanos).ok()?;
    Some(Duration::from_nanos(u64::from_ne_bytes(nanos)))
}

/// Waits until a deadline. Returns early, and true, if there is something to read.
fn is_told_more(told: &File, deadline: Duration) -> bool {
    loop {
        let left = deadline.saturating_sub(monotonic());
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let time = Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(told, PollFlags::IN)], Some(&time)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            // It cannot wait, so it ends what it may not let run.
            Err(_) => return false,
        }
    }
}

fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}
