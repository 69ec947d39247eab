//! `zsem limit`, `pause`, `resume`: the limit of the whole cluster.

use std::fmt;

use serde::Serialize;
use zset_semaphore::Inspection;

use crate::args::Global;
use crate::failure::Failure;
use crate::printable::Printable;
use crate::status::Status;

/// The limit of a semaphore, and where it comes from.
#[derive(Debug, Serialize)]
pub(crate) struct Limit {
    /// The one in force, if it is known.
    pub(crate) limit: Option<u32>,
    pub(crate) limit_override: Option<u32>,
    declared_limit: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Change {
    before: Limit,
    after: Limit,
}

impl Limit {
    pub(crate) fn of(seen: &Inspection) -> Self {
        let Inspection { limit_override, declared_limit, .. } = *seen;
        Self { limit: limit_override.or(declared_limit), limit_override, declared_limit }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.limit_override, self.declared_limit) {
            (Some(0), _) => f.write_str("paused"),
            (Some(limit), Some(declared)) => write!(f, "{limit}, an override of {declared}"),
            (Some(limit), None) => write!(f, "{limit}, an override"),
            (None, Some(declared)) => write!(f, "{declared}"),
            (None, None) => f.write_str("not known"),
        }
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
    let limit = Limit::of(&global.semaphore(name).await?.inspect().await?);
    global.tell(&limit, || format!("{limit}\n"))?;
    Ok(Status::OK)
}

pub(crate) async fn pause(global: &Global, name: &str) -> Result<Status, Failure> {
    change(global, name, Some(0)).await
}

pub(crate) async fn resume(global: &Global, name: &str) -> Result<Status, Failure> {
    change(global, name, None).await
}

/// Sets the override or clears it, and prints the limit before and after.
async fn change(global: &Global, name: &str, limit: Option<u32>) -> Result<Status, Failure> {
    global.may_change()?;
    let semaphore = global.semaphore(name).await?;
    let before = Limit::of(&semaphore.inspect().await?);
    match limit {
        Some(limit) => semaphore.set_limit(limit).await?,
        None => semaphore.clear_limit().await?,
    }
    let after = Limit::of(&semaphore.inspect().await?);
    let change = Change { before, after };
    global.tell(&change, || {
        let (name, Change { before, after }) = (Printable::new(name), &change);
        format!("{name}: the limit was {before}; it is {after}\n")
    })?;
    Ok(Status::OK)
}
