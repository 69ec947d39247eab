//! At most 3 jobs at once over all processes: run it in two terminals.
//!
//! ```sh
//! cargo run --example quickstart                    # needs a Redis; REDIS_URL tells where
//! ```
//!
//! ```toml
//! [dependencies]
//! zset-semaphore = { version = "0.1", default-features = false, features = ["redis"] }
//! tokio = { version = "1", features = ["full"] }
//! ```

use std::time::Duration;

use zset_semaphore::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let client = Client::connect(url).await?;
    let jobs = client.semaphore("quickstart", 3).build()?;

    for number in 1..=5 {
        let permit = jobs.acquire(1).await?; // waits while 3 are held, first come first served
        println!("job {number} runs, {} of 3 in use", jobs.inspect().await?.in_use);
        // If the permit is lost, say because Redis was away for long, the job is dropped.
        permit.run(tokio::time::sleep(Duration::from_millis(300))).await?;
    } // Dropping the permit gives it back.

    client.shutdown().await?; // Waits until Redis knows.
    Ok(())
}
