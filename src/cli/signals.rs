//! The signals that `zsem` gets.

use std::fs;
use std::sync::Arc;
use std::thread;

use rustix::process::{Pid, Signal};
use signal_hook::consts::FORBIDDEN;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use tokio::sync::{Notify, mpsc};

use crate::failure::Failure;

/// Those that end a wait.
const ENDING: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
/// Those that only a command wants.
const OTHERS: [Signal; 3] = [Signal::USR1, Signal::USR2, Signal::WINCH];

/// The highest number of a signal.
const HIGHEST: i32 = 64;

/// Names that people write, without `SIG`.
const NAMES: [(&str, Signal); 9] = [
    ("TERM", Signal::TERM),
    ("INT", Signal::INT),
    ("HUP", Signal::HUP),
    ("QUIT", Signal::QUIT),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("WINCH", Signal::WINCH),
    ("KILL", Signal::KILL),
    ("ABRT", Signal::ABORT),
];

/// A signal that has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) signal: Signal,
    /// The process that has sent it. None if the terminal has sent it, to all processes in the foreground.
    pub(crate) sender: Option<Pid>,
}

impl Received {
    /// `None` for a signal without a name, which nobody catches here.
    pub(crate) fn new(origin: &Origin) -> Option<Self> {
        let sender = origin.process.filter(|_| origin.cause != Cause::Kernel);
        let sender = sender.map(|process| Pid::from_raw(process.pid).unwrap_or(Pid::INIT));
        Some(Self { signal: Signal::from_named_raw(origin.signal)?, sender })
    }

    pub(crate) fn ends_a_wait(self) -> bool {
        ENDING.contains(&self.signal)
    }
}

/// The signals that come from now on.
pub(crate) struct Signals {
    received: mpsc::UnboundedReceiver<Received>,
    children: Arc<Notify>,
}

/// The signals to catch: all that end a wait or that a command wants, and the end of a child. One that the parent
/// has ignored stays ignored, as by `nohup`.
pub(crate) fn caught() -> Vec<i32> {
    let ignored = ignored();
    let is_caught = |signal: &Signal| ignored & (1 << (signal.as_raw() - 1)) == 0;
    let caught = ENDING.into_iter().chain(OTHERS).filter(is_caught);
    // Where the parent ignores the end of children, the system would not tell how a command has ended.
    caught.chain([Signal::CHILD]).map(Signal::as_raw).collect()
}

/// All signals that a process can catch, whoever wants them, but for those that the parent has ignored.
pub(crate) fn catchable() -> impl Iterator<Item = i32> {
    let ignored = ignored();
    let is_ignored = move |signal: &i32| ignored & (1 << (signal - 1)) != 0;
    let all = (1..=HIGHEST).filter(|signal| !FORBIDDEN.contains(signal));
    all.filter(move |signal| !is_ignored(signal))
}

impl Signals {
    pub(crate) fn catch() -> Result<Self, Failure> {
        let refused = |error| Failure::of_system("signals", &error);
        let mut signals = SignalsInfo::<WithOrigin>::new(caught()).map_err(refused)?;
        let (sender, received) = mpsc::unbounded_channel();
        let children = Arc::new(Notify::new());
        let changes = Arc::clone(&children);
        let hear = move || {
            for received in signals.forever().filter_map(|origin| Received::new(&origin)) {
                if received.signal == Signal::CHILD {
                    changes.notify_one();
                } else if sender.send(received).is_err() {
                    return; // nobody listens any more
                }
            }
        };
        let hearing = thread::Builder::new().name("signals".to_owned()).spawn(hear);
        hearing.map_err(refused)?;
        Ok(Self { received, children })
    }

    /// Returns what is notified whenever a child has ended.
    pub(crate) fn children(&self) -> Arc<Notify> {
        Arc::clone(&self.children)
    }

    /// The next one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Received {
        match self.received.recv().await {
            Some(received) => received,
            None => std::future::pending().await,
        }
    }

    /// The next one that ends a wait.
    pub(crate) async fn next_end(&mut self) -> Received {
        loop {
            let received = self.next().await;
            if received.ends_a_wait() {
                return received;
            }
        }
    }
}

/// The signals that this process ignores, a bit for each. None where the system does not tell.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Reads `TERM`, `SIGTERM` or `15`.
pub(crate) fn parse(text: &str) -> Result<Signal, String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let by_name = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let by_number = || text.parse().ok().and_then(Signal::from_named_raw);
    by_name.map(|(_, signal)| *signal).or_else(by_number).ok_or_else(|| {
        let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        format!("a signal is a number, or one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_name_and_by_number() {
        for text in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(parse(text), Ok(Signal::TERM), "{text}");
        }
        for wrong in ["", "SIG", "TERMINATE", "0", "-1", "999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
