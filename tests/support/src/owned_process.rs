//! A process this test started: it can be frozen, thawed and killed, and does not outlive its owner.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::wait::eventually;

/// Until it is waited for, a dead child keeps its pid; so no signal sent here can reach a stranger.
pub struct OwnedProcess {
    child: Child,
    exit: Option<ExitStatus>,
}

impl OwnedProcess {
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.spawn()?;
        Ok(Self { child, exit: None })
    }

    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the process (SIGSTOP) and returns once it has stopped.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
        // The signal only asks. NOWAIT leaves the exit status, if it comes to that, to `exited`.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.rustix_pid()), options)
            .expect("waiting for a child to stop")
            .expect("a blocking wait has a status");
        assert!(status.stopped(), "process {} ended instead of stopping", self.pid());
    }

    /// Lets a frozen process go on (SIGCONT).
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Asks the process to end (SIGTERM).
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Kills the process (SIGKILL reaches a frozen one too) and returns once it is gone.
    pub fn kill(&mut self) -> ExitStatus {
        if let Some(status) = self.exited() {
            return status;
        }
        self.child.kill().expect("killing a child");
        let status = self.child.wait().expect("waiting for a killed child");
        self.exit = Some(status);
        status
    }

    /// The exit status, if the process has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().expect("asking for a child's status");
        }
        self.exit
    }

    /// Waits for the process to end by itself.
    pub async fn wait_for_exit(&mut self, patience: Duration) -> ExitStatus {
        let what = format!("process {} has ended", self.pid());
        eventually(&what, patience, async || self.exited().is_some()).await;
        self.exit.expect("just seen")
    }

    fn signal(&mut self, signal: Signal) {
        assert!(
            self.exited().is_none(),
            "process {} has ended, it cannot get {signal:?}",
            self.pid()
        );
        kill_process(self.rustix_pid(), signal).expect("sending a signal to a child");
    }

    fn rustix_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for OwnedProcess {
    fn drop(&mut self) {
        // Runs during panics too, so it reports nothing: a second panic would abort and leak the rest.
        if self.exit.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
