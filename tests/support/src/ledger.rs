//! The outside witness: who believed to hold what, and when, over all processes of a test.
//!
//! Every instant is of CLOCK_MONOTONIC, which all processes of a machine share. What is recorded lies
//! *within* what was really held, so that an overlap found here is one that happened:
//!
//! - `enter` is stamped after the permit is there, `leave` before it is given back;
//! - a killed process holds until the instant at which the kill was *issued*. It may have gone on for some
//!   microseconds; a stamp from after its death could count work that no longer ran, this one cannot.
//!
//! Reports are datagrams on one unix socket. Writing puts them into the receiver's queue, so they survive the
//! SIGKILL of their sender; and the queue is one for all senders, so a question put into it is answered after
//! all earlier reports.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::Range;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

pub use crate::overlap::{Hold, Overlap};
use crate::overlap::{largest_overlap, timeline};

/// The instant, in nanoseconds, on the clock that all processes of this machine share.
pub fn monotonic_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    u64::try_from(nanos).expect("the clock counts from the start of the machine")
}

/// Collects reports, on a thread of its own: a test that blocks its runtime does not stall the reporters.
pub struct Ledger {
    directory: TempDir,
    own: UnixDatagram,
    answers: Mutex<Receiver<Vec<String>>>,
    collector: Option<JoinHandle<()>>,
}

impl Ledger {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("making a directory for the ledger's socket");
        let path = socket_path(&directory);
        let socket = UnixDatagram::bind(&path).expect("binding the ledger's socket");
        let own = UnixDatagram::unbound().expect("making a socket");
        own.connect(&path).expect("connecting to the ledger");
        let (sender, answers) = mpsc::channel();
        Self {
            directory,
            own,
            answers: Mutex::new(answers),
            collector: Some(thread::spawn(move || collect(&socket, &sender))),
        }
    }

    /// What [`Reporter::connect`] takes, in this process or another.
    pub fn address(&self) -> String {
        let path = socket_path(&self.directory);
        path.into_os_string().into_string().expect("a path in UTF-8")
    }

    /// Ends all holds of a process that was killed at `at_ns`, the instant that `Child::kill` returns.
    pub fn kill_all_of(&self, process: u32, at_ns: u64) {
        self.tell(&format!("killed {process} {at_ns}"));
    }

    /// All holds reported so far.
    ///
    /// # Panics
    ///
    /// If a holder entered twice, or left without having entered: then the reports prove nothing.
    pub fn holds(&self) -> Vec<Hold> {
        self.tell("list");
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        into_holds(&answers.recv().expect("the collector answers"))
    }

    /// The most that was ever held at once.
    pub fn overlap(&self) -> Overlap {
        largest_overlap(&self.holds(), 0..u64::MAX)
    }

    /// The most that was held at once at any instant of `window`.
    pub fn overlap_within(&self, window: Range<u64>) -> Overlap {
        largest_overlap(&self.holds(), window)
    }

    /// All holds as text, for a message.
    pub fn timeline(&self) -> String {
        timeline(&self.holds())
    }

    /// Panics, naming who overlapped, if more than `limit` units were ever held at once.
    #[track_caller]
    pub fn assert_never_over(&self, limit: u32) {
        let overlap = self.overlap();
        assert!(overlap.units <= u64::from(limit), "the limit is {limit}, but {overlap}");
    }

    fn tell(&self, message: &str) {
        self.own.send(message.as_bytes()).expect("the collector listens");
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // If the collector panicked, its message is printed already.
        let _ = self.own.send(b"stop");
        if let Some(collector) = self.collector.take() {
            let _ = collector.join();
        }
    }
}

/// Reports to a [`Ledger`] for the present process: one small write per event, from any thread or task.
#[derive(Clone)]
pub struct Reporter(Arc<UnixDatagram>);

impl Reporter {
    pub fn connect(address: &str) -> Self {
        let socket = UnixDatagram::unbound().expect("making a socket");
        socket.connect(address).expect("connecting to the ledger");
        Self(Arc::new(socket))
    }

    /// Call it once the permit is there. `holder` is unique among those this process has at a time.
    pub fn enter(&self, holder: impl Display, units: u32) {
        let at_ns = monotonic_nanos();
        self.tell(&format!("enter {} {at_ns} {units} {holder}", std::process::id()));
    }

    /// Call it before the permit is given back.
    pub fn leave(&self, holder: impl Display) {
        self.leave_at(holder, monotonic_nanos());
    }

    /// As [`leave`](Self::leave), for a hold that is known to have ended at an instant in the past: at its local
    /// deadline, while the process was frozen.
    pub fn leave_at(&self, holder: impl Display, at_ns: u64) {
        self.tell(&format!("leave {} {at_ns} - {holder}", std::process::id()));
    }

    fn tell(&self, report: &str) {
        self.0.send(report.as_bytes()).expect("the ledger listens");
    }
}

fn collect(socket: &UnixDatagram, answers: &Sender<Vec<String>>) {
    let mut reports = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).expect("receiving a report");
        match String::from_utf8_lossy(&buffer[..length]).as_ref() {
            "stop" => return,
            "list" => answers.send(reports.clone()).expect("the ledger outlives this thread"),
            report => reports.push(report.to_owned()),
        }
    }
}

fn into_holds(reports: &[String]) -> Vec<Hold> {
    let number = |word: &str| word.parse::<u64>().expect("reports count in integers");
    let mut holds: Vec<Hold> = Vec::new();
    let mut present = HashMap::new();
    let mut killed = HashMap::new();
    for report in reports {
        let words: Vec<_> = report.splitn(5, ' ').collect();
        match words[..] {
            ["enter", process, at_ns, units, holder] => {
                let earlier = present.insert((process, holder), holds.len());
                assert!(earlier.is_none(), "{holder} of process {process} entered twice");
                holds.push(Hold {
                    process: process.parse().expect("a process id"),
                    holder: holder.to_owned(),
                    units: units.parse().expect("a number of units"),
                    from_ns: number(at_ns),
                    until_ns: u64::MAX,
                });
            }
            ["leave", process, at_ns, _, holder] => {
                let Some(index) = present.remove(&(process, holder)) else {
                    panic!("{holder} of process {process} left without having entered");
                };
                holds[index].until_ns = number(at_ns);
            }
            ["killed", process, at_ns] => {
                killed.insert(number(process), number(at_ns));
            }
            _ => panic!("not a report: {report:?}"),
        }
    }
    for hold in &mut holds {
        if let Some(&at_ns) = killed.get(&u64::from(hold.process)) {
            hold.until_ns = hold.until_ns.min(at_ns);
        }
    }
    holds
}

fn socket_path(directory: &TempDir) -> PathBuf {
    directory.path().join("ledger.sock")
}
