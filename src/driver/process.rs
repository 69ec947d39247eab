//! The id of this process, without a system call each time.
//!
//! # Implementation
//!
//! A fork copies what its parent has noted, and goes on with one thread. The copy of a runtime is of no use
//! to it, so it makes a new one. So a thread under the runtime of its last call is in the process of that call.

use std::cell::Cell;
use std::process;

use tokio::runtime::{self, Handle};

thread_local! {
    static LAST_CALL: Cell<Option<(runtime::Id, u32)>> = const { Cell::new(None) };
}

/// Returns the id of this process.
pub(super) fn id() -> u32 {
    let Ok(runtime) = Handle::try_current().map(|runtime| runtime.id()) else {
        return process::id();
    };
    match LAST_CALL.get() {
        Some((last, process)) if last == runtime => process,
        _ => {
            let process = process::id();
            LAST_CALL.set(Some((runtime, process)));
            process
        }
    }
}
