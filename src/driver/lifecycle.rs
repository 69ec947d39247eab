//! The life of a client: under which id, in which process, and whether its driver runs.

use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::id::ClientId;
use crate::sync::lock;

#[derive(Debug)]
pub(super) struct Lifecycle {
    identity: Mutex<Identity>,
    /// The process whose driver runs, or 0 if none does. It is a copy of the value in `identity`, for calls
    /// that cannot wait for that lock.
    driven_by: AtomicU32,
    closing: AtomicBool,
    abandoned: AtomicBool,
}

/// The identity of this client. A fork copies it. If no driver has used it yet, the new process takes its
/// own id. If a driver has used it, it belongs to the process of that driver.
#[derive(Debug, Clone, Copy)]
struct Identity {
    id: ClientId,
    process: u32,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Running,
    Ended,
}

/// The result of [`Lifecycle::start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// The driver has not run yet; the caller has to start it now.
    Now(ClientId),
    Before(ClientId),
    Ended,
}

impl Identity {
    fn new() -> Self {
        Self { id: ClientId::random(), process: process::id(), phase: Phase::New }
    }
}

impl Lifecycle {
    pub(super) fn new() -> Self {
        Self {
            identity: Mutex::new(Identity::new()),
            driven_by: AtomicU32::new(0),
            closing: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        }
    }

    /// Returns the id of the client. It calls `renamed` if the id is new, in a process that was forked
    /// before the driver was started.
    pub(super) fn id(&self, renamed: impl FnOnce(ClientId)) -> ClientId {
        self.identity(renamed).id
    }

    fn identity(&self, renamed: impl FnOnce(ClientId)) -> MutexGuard<'_, Identity> {
        let mut identity = lock(&self.identity);
        if identity.phase == Phase::New && identity.process != process::id() {
            *identity = Identity::new();
            renamed(identity.id);
        }
        identity
    }

    /// Starts the life of the driver if that has not begun.
    pub(super) fn start(&self, renamed: impl FnOnce(ClientId)) -> Start {
        let mut identity = self.identity(renamed);
        match identity.phase {
            Phase::New => {
                identity.phase = Phase::Running;
                self.driven_by.store(identity.process, Ordering::SeqCst);
                Start::Now(identity.id)
            }
            Phase::Running => Start::Before(identity.id),
            Phase::Ended => Start::Ended,
        }
    }

    /// Returns whether this client is a copy made by a fork, whose driver runs in another process.
    pub(super) fn is_inherited(&self) -> bool {
        let process = self.driven_by.load(Ordering::Relaxed);
        process != 0 && process != super::process::id()
    }

    pub(super) fn end(&self) {
        lock(&self.identity).phase = Phase::Ended;
        self.driven_by.store(0, Ordering::SeqCst);
    }

    pub(super) fn has_ended(&self) -> bool {
        lock(&self.identity).phase == Phase::Ended
    }

    /// New semaphores are closed from now on.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// No caller is left: the driver ends once everything is given back.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }
}
