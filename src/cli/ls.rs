//! `zsem ls`: the semaphores, with what is in use and who waits.

use futures_util::{StreamExt, stream};
use serde::Serialize;
use zset_semaphore::Client;

use crate::args::Global;
use crate::client::own_label;
use crate::failure::Failure;
use crate::limit::Limit;
use crate::output::warn;
use crate::pattern::Pattern;
use crate::status::Status;
use crate::table::{Cell, Table, Tone};
use crate::times::{millis, short};

/// How many semaphores are asked about at the same time.
const AT_ONCE: usize = 32;

/// How many failures are told. They are often the same.
const TOLD: u64 = 5;

#[derive(Debug, Serialize)]
struct Listing {
    semaphores: Vec<Row>,
    /// Whether these are all.
    complete: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    in_use: u64,
    limit: Option<u32>,
    overridden: bool,
    holders: u64,
    waiters: u64,
    oldest_wait_ms: Option<u64>,
}

pub(crate) async fn ls(global: &Global, pattern: Option<&str>) -> Result<Status, Failure> {
    let pattern = pattern.map(Pattern::new);
    let client = global.connect(&own_label()).await?;
    let matches = |name: &str| pattern.as_ref().is_none_or(|pattern| pattern.matches(name));
    let found = client.names(matches).await?;
    let rows = stream::iter(found.names).map(|name| row(&client, name)).buffered(AT_ONCE);
    let (mut semaphores, mut failed, mut failures) = (Vec::new(), None, 0);
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.next().await {
        match row {
            Ok(row) => semaphores.push(row),
            Err(failure) => {
                failures += 1;
                if failures <= TOLD {
                    warn(failure.message());
                }
                failed = Some(failure.status());
            }
        }
    }
    if failures > TOLD {
        warn(&format!("{} more names failed", failures - TOLD));
    }
    let listing = Listing { semaphores, complete: found.complete };
    global.tell(&listing, || table(&listing).text(global.colors()))?;
    if !listing.complete && !global.json {
        warn("there are more; name a pattern");
    }
    let nothing = listing.semaphores.is_empty();
    Ok(failed.unwrap_or(if nothing { Status::NO } else { Status::OK }))
}

async fn row(client: &Client, name: String) -> Result<Row, Failure> {
    let seen = client.semaphore(name.clone(), 0).build()?.inspect().await?;
    let Limit { limit, limit_override, .. } = Limit::of(&seen);
    let oldest = seen.waiters.iter().map(|waiter| waiter.waited).max();
    Ok(Row {
        name,
        in_use: seen.in_use,
        limit,
        overridden: limit_override.is_some(),
        holders: seen.holders_total,
        waiters: seen.waiters_total,
        oldest_wait_ms: oldest.map(millis),
    })
}

fn table(listing: &Listing) -> Table {
    let mut table =
        Table::new(&["NAME", ">IN USE", ">LIMIT", ">HOLDERS", ">WAITING", ">OLDEST WAIT"]);
    for row in &listing.semaphores {
        let limit = row.limit.map_or_else(|| "?".to_owned(), |limit| limit.to_string());
        let (limit, tone) = match row.limit {
            Some(0) => ("paused".to_owned(), Tone::Bad),
            _ if row.overridden => (format!("{limit}*"), Tone::Warning),
            _ => (limit, Tone::Plain),
        };
        let full = row.limit.is_some_and(|limit| row.in_use >= limit.into());
        let oldest = row.oldest_wait_ms.map(std::time::Duration::from_millis).map(short);
        table.add(vec![
            Cell::plain(&row.name),
            Cell::new(row.in_use.to_string(), if full { Tone::Warning } else { Tone::Good }),
            Cell::new(limit, tone),
            Cell::plain(row.holders.to_string()),
            Cell::plain(row.waiters.to_string()),
            Cell::plain(oldest.unwrap_or_default()),
        ]);
    }
    table
}
