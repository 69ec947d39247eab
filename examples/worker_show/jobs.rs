//! The jobs: a made-up list.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::common::in_flight::InFlight;
use crate::options::Options;

/// The jobs that are to be done, and what became of the others.
#[derive(Clone)]
pub(crate) struct Jobs {
    list: Arc<Mutex<List>>,
    takes: Duration,
    units_at_work: InFlight,
}

struct List {
    waiting: VecDeque<(usize, u32)>,
    done: usize,
}

impl Jobs {
    pub(crate) fn new(options: &Options) -> Self {
        // No job may weigh more than the limit: it could never run.
        let weights = [1, 2, 3, 1, 1, 3, 2].map(|units| options.limit.min(units));
        let waiting = (1..=options.jobs).zip(weights.into_iter().cycle()).collect();
        Self {
            list: Arc::new(Mutex::new(List { waiting, done: 0 })),
            takes: options.job_ms,
            units_at_work: InFlight::default(),
        }
    }

    pub(crate) fn take(&self) -> Option<Job> {
        let (number, units) = self.list().waiting.pop_front()?;
        Some(Job { number, units, done: false, jobs: self.clone() })
    }

    pub(crate) fn summary(&self) -> String {
        let (List { waiting, done }, most) = (&*self.list(), self.units_at_work.peak());
        format!("{done} jobs done, {} left; at most {most} units at once", waiting.len())
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job in a worker's hands; unless it is done it goes back to the head of the list.
pub(crate) struct Job {
    number: usize,
    pub(crate) units: u32,
    done: bool,
    jobs: Jobs,
}

impl Job {
    pub(crate) async fn run(&self) {
        let units = usize::try_from(self.units).unwrap_or(usize::MAX);
        let _at_work = self.jobs.units_at_work.enter(units);
        sleep(self.jobs.takes).await;
    }

    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut list = self.jobs.list();
        if self.done {
            list.done += 1;
        } else {
            list.waiting.push_front((self.number, self.units));
        }
    }
}

impl Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} (weight {})", self.number, self.units)
    }
}
