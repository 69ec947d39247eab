//! A wall clock that is ahead of that of this machine, or behind it, for a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A wall clock that servers may use instead of that of this machine. It can be changed while they run.
/// Their monotonic clock stays as it is.
pub struct ShiftedClock {
    directory: TempDir,
}

/// Shifts the wall clock of the process that it is preloaded into by the milliseconds in a file.
const SHIM: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long long ahead(void) {
    static int file = -2;
    char text[32] = {0};
    if (file == -2) file = open(getenv("AHEAD_FILE"), O_RDONLY);
    return pread(file, text, 31, 0) > 0 ? atoll(text) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *at) {
    int result = syscall(SYS_clock_gettime, clock, at);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        long long nanos = at->tv_nsec + ahead() % 1000 * 1000000;
        at->tv_sec += ahead() / 1000 + (nanos >= 1000000000) - (nanos < 0);
        at->tv_nsec = (nanos + 1000000000) % 1000000000;
    }
    return result;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"#;

impl ShiftedClock {
    /// A clock that is ahead of ours by so many milliseconds, or behind it if they are below 0.
    pub fn ahead_by(ms: i64) -> Self {
        let directory = tempfile::tempdir().expect("making a directory for a clock");
        let clock = Self { directory };
        let source = clock.file("shim.c");
        fs::write(&source, SHIM).expect("writing the shim of a clock");
        fs::write(clock.file("ahead"), as_text(ms)).expect("setting a clock");
        compile(&source, &clock.file("shim.so"));
        clock
    }

    /// Sets the clock, also while servers use it.
    pub fn set_ahead_by(&self, ms: i64) {
        let file = fs::File::options().write(true).open(self.file("ahead"));
        let file = file.expect("finding the file of a clock");
        std::os::unix::fs::FileExt::write_all_at(&file, as_text(ms).as_bytes(), 0)
            .expect("setting a clock");
    }

    /// The environment of a process that uses this clock.
    pub(crate) fn env(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.file("shim.so")), ("AHEAD_FILE", self.file("ahead"))]
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Of one length, so that no half of it is ever read.
fn as_text(ms: i64) -> String {
    format!("{ms:<20}")
}

fn compile(source: &Path, target: &Path) {
    // Rust itself links with `cc`.
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(target).arg(source);
    assert!(cc.status().expect("running cc").success());
}
