//! A crowd of clients, and how long they waited.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::output::row;

/// What came of a crowd.
pub(crate) struct Outcomes<T> {
    pub(crate) all: Vec<T>,
    pub(crate) took: Duration,
}

/// Lets `clients` clients ask `total` times, all at once but each one question at a time.
///
/// `client` makes the client of a number; what it returns asks once.
pub(crate) async fn ask_all<T, Ask, Answer>(
    clients: usize,
    total: usize,
    mut client: impl FnMut(usize) -> Ask,
) -> Outcomes<T>
where
    T: Send + 'static,
    Ask: Fn() -> Answer + Send + 'static,
    Answer: Future<Output = T> + Send,
{
    let (began, mut crowd) = (Instant::now(), JoinSet::new());
    for number in 0..clients {
        let ask = client(number);
        crowd.spawn(async move {
            let mut answers = Vec::new();
            for _ in (number..total).step_by(clients) {
                answers.push(ask().await);
            }
            answers
        });
    }
    let all = crowd.join_all().await.into_iter().flatten().collect();
    Outcomes { all, took: began.elapsed() }
}

impl<T, E> Outcomes<Result<T, E>> {
    /// Those that were served, and the errors of the others.
    pub(crate) fn served_and_failed(self) -> (Vec<T>, Vec<E>) {
        let (mut served, mut failed) = (Vec::new(), Vec::new());
        for outcome in self.all {
            match outcome {
                Ok(answer) => served.push(answer),
                Err(error) => failed.push(error),
            }
        }
        (served, failed)
    }
}

/// The rows of a table about those that were served.
pub(crate) fn print_waits(mut waits: Vec<Duration>, took: Duration, what: &str) {
    waits.sort_unstable();
    let wait = |percent| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
    let rate = waits.len() as f64 / took.as_secs_f64();
    row("wait p50, p99", format_args!("{:.1?}, {:.1?}", wait(50), wait(99)));
    row("throughput", format_args!("{rate:.1} {what}/s"));
}
