//! A worker that runs jobs of different weights, at most 6 units at once over all workers.
//!
//! ```sh
//! cargo run --example worker                        # needs a Redis; REDIS_URL tells where
//! ```
//!
//! ```toml
//! [dependencies]
//! zset-semaphore = { version = "0.1", default-features = false, features = ["redis"] }
//! tokio = { version = "1", features = ["full"] }
//! ```

use std::pin::pin;
use std::time::Duration;

use zset_semaphore::Client;

struct Job {
    number: u32,
    weight: u32,
}

impl Job {
    /// Whatever a job writes carries the token, so that the write of a job that lost its permit can
    /// be told from that of a later one, and refused.
    async fn run(&self, token: u64) {
        println!("job {} runs, weight {}, token {token}", self.number, self.weight);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let client = Client::builder().url(url).label("worker").connect().await?;
    // The units of a worker that crashed are free again after the lease.
    let units = client.semaphore("worker-units", 6).lease(Duration::from_secs(10)).build()?;

    // Your queue stands here.
    let jobs = (1..=10).map(|number| Job { number, weight: number % 3 + 1 });
    let mut ctrl_c = pin!(tokio::signal::ctrl_c());
    for job in jobs {
        let permit = tokio::select! {
            biased;
            // The dropped acquire leaves the queue; the job goes back to yours.
            _ = &mut ctrl_c => break,
            permit = units.acquire(job.weight) => permit?, // all units or none
        };
        // Once the permit is lost another worker may hold its units, so `run` drops the job.
        match permit.run(job.run(permit.fencing_token())).await {
            Ok(()) => println!("job {} is done", job.number),
            Err(lost) => println!("job {} was stopped, do it again: {lost}", job.number),
        }
    } // Dropping the permit gives its units back.
    client.shutdown().await?; // Waits until Redis knows.
    Ok(())
}
