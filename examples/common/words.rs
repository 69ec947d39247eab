//! What the stand-ins for a language model say.

use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::sleep;

const WORDS: [&str; 8] = ["first", "come,", "first", "served,", "and", "nobody", "is", "left."];
const PAUSE: Duration = Duration::from_millis(20);

/// Yields `count` words, with a pause before each but the first.
pub(crate) fn words(count: usize) -> impl Stream<Item = &'static str> + Send {
    stream::iter(WORDS.into_iter().cycle().take(count).enumerate()).then(async |(index, word)| {
        if index > 0 {
            sleep(PAUSE).await;
        }
        word
    })
}
