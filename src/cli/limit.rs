//! `zsem limit`, `pause`, `resume`: the limit of the whole cluster.

use serde::Serialize;
use zset_semaphore::{Inspection, ZSetSemaphore};

use crate::args::Global;
use crate::client::own_label;
use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::printable::Printable;
use crate::show::limit_of;
use crate::status::Status;

#[derive(Debug, Serialize)]
struct Limit {
    limit: Option<u32>,
    limit_override: Option<u32>,
    declared_limit: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Change {
    before: Limit,
    after: Limit,
}

impl Limit {
    fn of(seen: &Inspection) -> Self {
        let Inspection { limit_override, declared_limit, .. } = *seen;
        Self { limit: limit_override.or(declared_limit), limit_override, declared_limit }
    }
}

/// Shows the limit; or sets an override, or clears it.
pub(crate) async fn limit(
    global: &Global,
    name: &str,
    limit: Option<u32>,
    clear: bool,
) -> Result<Status, Failure> {
    if limit.is_some() || clear {
        return change(global, name, limit).await;
    }
    let seen = semaphore(global, name).await?.inspect().await?;
    if global.json {
        print_json(&Limit::of(&seen))?;
    } else {
        print(&format!("{}\n", limit_of(&seen)))?;
    }
    Ok(Status::OK)
}

pub(crate) async fn pause(global: &Global, name: &str) -> Result<Status, Failure> {
    change(global, name, Some(0)).await
}

pub(crate) async fn resume(global: &Global, name: &str) -> Result<Status, Failure> {
    change(global, name, None).await
}

async fn semaphore(global: &Global, name: &str) -> Result<ZSetSemaphore, Failure> {
    let client = global.connect(&own_label()).await?;
    Ok(client.semaphore(name, 0).build()?)
}

/// Sets the override or clears it, and prints the limit before and after.
async fn change(global: &Global, name: &str, limit: Option<u32>) -> Result<Status, Failure> {
    global.may_change()?;
    let semaphore = semaphore(global, name).await?;
    let before = semaphore.inspect().await?;
    match limit {
        Some(limit) => semaphore.set_limit(limit).await?,
        None => semaphore.clear_limit().await?,
    }
    let after = semaphore.inspect().await?;
    if global.json {
        print_json(&Change { before: Limit::of(&before), after: Limit::of(&after) })?;
    } else {
        let (name, before, after) = (Printable::new(name), limit_of(&before), limit_of(&after));
        print(&format!("{name}: the limit was {before}; it is {after}\n"))?;
    }
    Ok(Status::OK)
}
