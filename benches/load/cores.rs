//! Where server and clients run: on cores of their own, or wherever the scheduler puts them.

use test_support::redis_server::{RedisServer, RedisServerBuilder};

/// Where the processes of one measurement run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The server on one core, its clients on the others.
    Pinned,
    /// The scheduler places all of them.
    Unpinned,
}

impl Placement {
    pub(crate) const BOTH: [Self; 2] = [Self::Pinned, Self::Unpinned];

    /// As it stands beside a figure.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Unpinned => "unpinned",
        }
    }
}

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

    /// A server on the first core.
    pub(crate) fn server(&self, placement: Placement) -> RedisServerBuilder {
        match self.of_server() {
            Some(core) if placement == Placement::Pinned => {
                RedisServer::builder().arg("--server_cpulist").arg(core.to_string())
            }
            _ => RedisServer::builder(),
        }
    }

    /// The cores of the clients: a list with commas, empty where they are not pinned.
    pub(crate) fn of_clients(&self, placement: Placement) -> String {
        let rest = match placement {
            Placement::Pinned => self.0.get(1..).unwrap_or_default(),
            Placement::Unpinned => &[],
        };
        rest.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }

    /// One sentence for the reader.
    pub(crate) fn explain(&self, placement: Placement) -> String {
        match (placement, self.of_server()) {
            (Placement::Unpinned, _) => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                format!("Unpinned: the scheduler places server and clients on {cores} cores")
            }
            (Placement::Pinned, Some(core)) => {
                let clients = self.of_clients(placement);
                format!("Pinned: the server on core {core}, clients on {clients}")
            }
            (Placement::Pinned, None) if self.0.is_empty() => {
                "Nothing is pinned to a core here".to_owned()
            }
            (Placement::Pinned, None) => "Server and clients share the one core".to_owned(),
        }
    }

    /// Where the processes of a scenario run that says nothing of its own.
    pub(crate) fn explain_default(&self) -> String {
        let server = match self.of_server() {
            Some(core) => format!("the server is on core {core} and"),
            None => "the server and".to_owned(),
        };
        format!(
            "Where nothing else is said, {server} its clients are where the scheduler puts them."
        )
    }

    /// None where there is but one core.
    fn of_server(&self) -> Option<usize> {
        if self.0.len() > 1 { self.0.first().copied() } else { None }
    }
}
