//! The signals that `zsem` gets.

use std::fs;
use std::sync::Arc;
use std::thread;

use rustix::process::Signal;
use signal_hook::flag;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithRawSiginfo;
use tokio::sync::mpsc;

use crate::failure::Failure;

/// Those that end a wait.
const ENDING: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
/// Those that only a command wants.
const OTHERS: [Signal; 3] = [Signal::USR1, Signal::USR2, Signal::WINCH];

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

/// `si_code` of a signal that a process has sent.
const BY_PROCESS: i32 = if cfg!(target_os = "linux") { 0 } else { 0x10001 };

/// A signal that has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) signal: Signal,
    /// Whether the terminal has sent it, to all processes in the foreground.
    pub(crate) by_terminal: bool,
}

impl Received {
    pub(crate) fn ends_a_wait(self) -> bool {
        ENDING.contains(&self.signal)
    }
}

/// The signals that come from now on.
pub(crate) struct Signals {
    received: mpsc::UnboundedReceiver<Received>,
}

impl Signals {
    /// Catches all signals that end a wait or that a command wants. One that the parent has ignored stays ignored,
    /// as by `nohup`.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let ignored = ignored();
        let is_caught = |signal: &Signal| ignored & (1 << (signal.as_raw() - 1)) == 0;
        let caught = ENDING.into_iter().chain(OTHERS).filter(is_caught);
        let caught: Vec<i32> = caught.map(Signal::as_raw).collect();
        let refused = |error| Failure::of_system("signals", &error);
        // Where the parent ignores it, the system would not tell how a command has ended.
        flag::register(Signal::CHILD.as_raw(), Arc::default()).map_err(refused)?;
        let mut signals = SignalsInfo::<WithRawSiginfo>::new(&caught).map_err(refused)?;
        let (sender, received) = mpsc::unbounded_channel();
        let hear = move || {
            for info in signals.forever() {
                let signal = Signal::from_named_raw(info.si_signo);
                let by_terminal = info.si_code > 0 && info.si_code != BY_PROCESS;
                let told = signal
                    .is_none_or(|signal| sender.send(Received { signal, by_terminal }).is_ok());
                if !told {
                    return; // nobody listens any more
                }
            }
        };
        let hearing = thread::Builder::new().name("signals".to_owned()).spawn(hear);
        hearing.map_err(refused)?;
        Ok(Self { received })
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
