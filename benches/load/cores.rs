//! Which cores the server gets, and the clients of `pairs` and `names`: never the same one, where
//! there are two.

use std::fmt;

/// The cores this process may use, split between the server and its clients.
pub(crate) struct Cores(Vec<usize>);

impl Cores {
    #[cfg(target_os = "linux")]
    pub(crate) fn here() -> Self {
        use rustix::thread::{CpuSet, sched_getaffinity};

        let ours = sched_getaffinity(None).expect("asking for the cores of this process");
        Self((0..CpuSet::MAX_CPU).filter(|&core| ours.is_set(core)).collect())
    }

    /// Elsewhere nothing is pinned.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn here() -> Self {
        Self(Vec::new())
    }

    /// None where there is but one core.
    pub(crate) fn of_server(&self) -> Option<usize> {
        if self.0.len() > 1 { self.0.first().copied() } else { None }
    }

    /// A list with commas; empty where there is but one core.
    pub(crate) fn of_clients(&self) -> String {
        let rest = self.0.get(1..).unwrap_or_default();
        rest.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of_server() {
            Some(core) => {
                write!(f, "The server on core {core}, clients on {}", self.of_clients())
            }
            None if self.0.is_empty() => f.write_str("Nothing is pinned to a core"),
            None => f.write_str("Server and clients share the one core"),
        }
    }
}
