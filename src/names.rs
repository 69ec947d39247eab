//! The names in use: for the tools of operators.

use std::collections::BTreeSet;

use crate::client::Client;
use crate::error::ControlError;
use crate::store::NamesCursor;

/// How many names one call of [`Client::names`] returns at most.
const MOST: usize = 10_000;

/// The names of semaphores that a store knows; made by [`Client::names`].
///
/// With the feature `serde`, it is a map with the keys `names` and `complete`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Names {
    /// The names, sorted, at most 10 000.
    pub names: Vec<String>,
    /// Whether these are all. Otherwise there are more names than one call returns.
    pub complete: bool,
}

impl Client {
    /// Returns the names that the store knows and that `wanted` accepts. The store knows names that somebody holds or
    /// waits for, names with an [override](crate::ZSetSemaphore::set_limit), and names whose keys have not expired yet,
    /// about a minute after their last use.
    ///
    /// It is meant for the tools of operators, because it scans all keys of the server (`SCAN`), about a thousand with
    /// each call. The server answers other calls in between. In a cluster, it scans each primary. A name that appears
    /// or disappears during the scan may be missed.
    ///
    /// The user of Redis needs the right to call `SCAN`.
    ///
    /// # Errors
    ///
    /// [`ControlError`] when the store refuses, or does not answer one of the calls within the
    /// [call timeout](crate::ClientBuilder::call_timeout).
    ///
    /// # Panics
    ///
    /// If `wanted` panics.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: it changes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use zset_semaphore::Client;
    ///
    /// let client = Client::in_memory();
    /// let held = client.semaphore("chats/eu", 8).build()?.acquire(1).await?;
    /// let found = client.names(|name| name.starts_with("chats/")).await?;
    /// assert_eq!((found.names, found.complete), (vec!["chats/eu".to_owned()], true));
    /// # drop(held);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn names(&self, wanted: impl Fn(&str) -> bool) -> Result<Names, ControlError> {
        self.guard().ensure_driver()?;
        let shared = self.guard().shared();
        let (mut seen, mut names) = (BTreeSet::new(), BTreeSet::new());
        // The first answer of a cluster may tell of more places.
        while let Some(id) = shared.known_places().into_iter().find(|&id| seen.insert(id)) {
            let place = shared.place(id);
            let mut next = Some(NamesCursor::default());
            while let Some(cursor) = next {
                let page =
                    shared.ask(place, |session| session.names(cursor), shared.call_timeout).await?;
                names.extend(page.names.into_iter().filter(|name| wanted(name)));
                if names.len() > MOST {
                    let names = names.into_iter().take(MOST).collect();
                    return Ok(Names { names, complete: false });
                }
                next = page.next;
            }
        }
        Ok(Names { names: names.into_iter().collect(), complete: true })
    }
}
