//! The signals that `zsem` gets.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use signal_hook::consts::FORBIDDEN;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use crate::failure::Failure;

/// Those that end a wait.
const ENDING: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
/// Those that only a command wants.
const OTHERS: [Signal; 3] = [Signal::USR1, Signal::USR2, Signal::WINCH];

/// How often to look for children that have ended, where their end is not told.
pub(crate) const UNTOLD: Duration = Duration::from_millis(20);

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

/// How a process reacts to signals, a bit for each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reactions {
    blocked: u64,
    ignored: u64,
    caught: u64,
}

impl Reactions {
    /// None where the system does not tell.
    fn of(process: &str) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let signals = |kind| {
            let mask = status.lines().find_map(|line| line.strip_prefix(kind))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        };
        let (blocked, ignored) = (signals("SigBlk:")?, signals("SigIgn:")?);
        Some(Self { blocked, ignored, caught: signals("SigCgt:")? })
    }

    /// Those of this process, which its parent has set; without any where the system does not tell.
    pub(crate) fn inherited() -> Self {
        Self::of("self").unwrap_or(Self { blocked: 0, ignored: 0, caught: 0 })
    }

    /// The signals to catch: all that end a wait or that a command wants, and the end of a child. One that the parent
    /// has ignored stays ignored, as by `nohup`.
    pub(crate) fn to_catch(self) -> Vec<i32> {
        let is_caught = |signal: &Signal| self.ignored & bit(signal.as_raw()) == 0;
        let caught = ENDING.into_iter().chain(OTHERS).filter(is_caught);
        // Where the parent ignores the end of children, the system would not tell how a command has ended.
        caught.chain([Signal::CHILD]).map(Signal::as_raw).collect()
    }

    /// All signals that a process can catch, whoever wants them, but for those that the parent has ignored.
    pub(crate) fn catchable(self) -> impl Iterator<Item = i32> {
        let all = (1..=HIGHEST).filter(|signal| !FORBIDDEN.contains(signal));
        all.filter(move |signal| self.ignored & bit(*signal) == 0)
    }

    /// Returns whether this process learns of the end of a child by a signal: the parent may have blocked it.
    pub(crate) fn are_ends_told(self) -> bool {
        self.blocked & bit(Signal::CHILD.as_raw()) == 0
    }
}

impl Signals {
    pub(crate) fn catch() -> Result<Self, Failure> {
        let refused = |error| Failure::of_system("signals", &error);
        let reactions = Reactions::inherited();
        let mut signals = SignalsInfo::<WithOrigin>::new(reactions.to_catch()).map_err(refused)?;
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
        if !reactions.are_ends_told() {
            let changes = Arc::clone(&children);
            tokio::spawn(async move {
                loop {
                    sleep(UNTOLD).await;
                    changes.notify_one();
                }
            });
        }
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

/// Returns whether a signal would have ended a process, if it had come. False where the system does not tell.
pub(crate) fn is_fatal_to(process: Pid, signal: Signal) -> bool {
    let reactions = Reactions::of(&process.as_raw_nonzero().to_string());
    reactions.is_some_and(|Reactions { blocked, ignored, caught }| {
        (blocked | ignored | caught) & bit(signal.as_raw()) == 0
    })
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
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
