//! A worker: what to start from.

use tokio::sync::watch;
use zset_semaphore::Client;

use crate::common::Result;
use crate::common::output::say;
use crate::jobs::Jobs;
use crate::options::Options;

/// Takes job after job until there is none, or it is time to stop.
pub(crate) async fn work(
    number: usize,
    client: &Client,
    options: &Options,
    jobs: &Jobs,
    mut stopping: watch::Receiver<bool>,
) -> Result<()> {
    let semaphore =
        client.semaphore(&options.name, options.limit).lease(options.lease_ms).build()?;
    while let Some(job) = jobs.take() {
        let permit = tokio::select! {
            biased;
            // What is dropped here goes back: the acquire leaves the queue, the job its worker.
            _ = stopping.wait_for(|stop| *stop) => break,
            permit = semaphore.acquire(job.units) => permit?,
        };
        // Whatever the job writes would carry this token, so that a late write can be refused.
        let token = permit.fencing_token();
        say(format_args!("worker {number} starts {job}, token {token}"));
        // Once the permit is lost somebody else may hold its units, so `run` drops the work.
        match permit.run(job.run()).await {
            Ok(()) => {
                say(format_args!("worker {number} ended {job}"));
                job.done();
            }
            Err(lost) => say(format_args!("worker {number} stopped {job}: {lost}")),
        }
        // Here the permit is dropped. That gives its units back, and waits for nothing.
    }
    Ok(())
}
