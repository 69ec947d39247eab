//! The ways to ask for a permit, and what may come of it.

use std::error::Error;
use std::fmt::Debug;

use fastrand::Rng;
use tokio::time::timeout;
use zset_semaphore::{AcquireError, Permit, StoreError, TryAcquireError, ZSetSemaphore};

use crate::scene::ms;

/// Asks in one of many ways; what came of it, if no permit.
pub async fn ask(
    semaphore: &ZSetSemaphore,
    units: u32,
    hurried: bool,
    random: &mut Rng,
) -> Result<Permit, String> {
    let way = if hurried { random.u32(..6) } else { random.u32(..20) };
    match way {
        0 | 1 => match semaphore.try_acquire(units).await {
            Ok(permit) => Ok(permit),
            Err(error @ TryAcquireError::Unavailable(_)) => Err(of_store("try", &error)),
            Err(error) => Err(format!("try: {}", kind_of(&error))),
        },
        2 | 3 => semaphore.acquire(units).timeout(ms(random, 5..200)).await.map_err(|e| ended(&e)),
        // The future is dropped, at its first await or later.
        4 | 5 => {
            let patience = ms(random, 0..60);
            match timeout(patience, semaphore.acquire(units)).await {
                Ok(outcome) => outcome.map_err(|error| ended(&error)),
                Err(_) => Err("cancelled".to_owned()),
            }
        }
        _ => semaphore.acquire(units).await.map_err(|error| ended(&error)),
    }
}

fn ended(error: &AcquireError) -> String {
    match error {
        AcquireError::Refused(_) => of_store("acquire", error),
        error => kind_of(error),
    }
}

fn of_store(what: &str, error: &(impl Error + 'static)) -> String {
    let source = error.source().map_or_else(String::new, ToString::to_string);
    let kind = error.source().and_then(|source| source.downcast_ref::<StoreError>());
    let final_ = kind.is_some_and(StoreError::is_final);
    let kind = kind.map_or_else(|| "?".to_owned(), |error| format!("{:?}", error.kind()));
    // What no fault explains is told in full.
    if final_ { format!("{what}: unexpected: {kind}: {source}") } else { format!("{what}: {kind}") }
}

/// The name of the variant.
fn kind_of(error: &impl Debug) -> String {
    let shown = format!("{error:?}");
    shown.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}
