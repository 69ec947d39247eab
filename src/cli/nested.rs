//! A wait inside a run of the same name: it may wait for itself.

use std::env;

use zset_semaphore::{Inspection, PermitId, ZSetSemaphore};

use crate::output::warn;

/// Warns if this process runs inside a permit of the semaphore, and has to wait for units of it.
pub(crate) async fn warn_of_itself(semaphore: &ZSetSemaphore, units: u32) {
    let Some(outer) = outer(semaphore.name()) else { return };
    // If it fails, the wait tells.
    let Ok(seen) = semaphore.inspect().await else { return };
    let limit = seen.limit_override.unwrap_or(semaphore.limit()); // others may have declared more
    if let Some(danger) = danger(&seen, outer, units, limit) {
        warn(&format!("warning: this runs inside a permit of {}; {danger}", semaphore.name()));
    }
}

/// Returns the permit that `zsem run` has named in the environment, if it is one of this name.
fn outer(name: &str) -> Option<PermitId> {
    let is_inside = env::var_os("ZSEM_NAME").is_some_and(|outer| outer == name);
    env::var("ZSEM_ID").ok().filter(|_| is_inside)?.parse().ok()
}

/// Returns what may happen to a wait for units while the outer permit is held, if it has to wait.
fn danger(seen: &Inspection, outer: PermitId, units: u32, limit: u32) -> Option<String> {
    let all_are_seen = seen.holders_total == seen.holders.len() as u64;
    let is_held = seen.holders.iter().any(|holder| holder.id == outer) || !all_are_seen;
    let limit = u64::from(limit);
    let has_room = seen.waiters_total == 0 && seen.in_use.saturating_add(units.into()) <= limit;
    let (held, units) = (u64::from(outer.units()), u64::from(units));
    if !is_held || has_room {
        None
    } else if held + units > limit {
        Some(format!("that holds {held} of {limit} units, so this waits for its own end"))
    } else {
        Some("if all who hold wait like this, nobody is ever let in".to_owned())
    }
}
