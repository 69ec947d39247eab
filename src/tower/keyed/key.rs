//! The key of a request, and how it stands in the store.

use std::borrow::Cow;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::tower::rejection::NO_KEY;

/// The maximum length in bytes of a key that the store gets unhashed.
const LONGEST_PLAIN: usize = 64;

/// The key of a request: requests with the same key share one semaphore.
///
/// The key becomes part of a name in the store. It stands there as it is if it has at most 64 bytes of
/// `A-Z`, `a-z`, `0-9` and `-_.@:`, and is not `-` alone. Any other key, and every
/// [secret](Self::secret), stands there as the first 128 bits of its SHA-256.
#[derive(Clone, PartialEq, Eq)]
pub struct Key<'r> {
    bytes: Cow<'r, [u8]>,
    secret: bool,
}

impl<'r> Key<'r> {
    /// Makes a key that may be seen in the store, in logs and in the results of `inspect`.
    pub fn new(bytes: impl Into<Cow<'r, [u8]>>) -> Self {
        Self { bytes: bytes.into(), secret: false }
    }

    /// Makes a key that nobody may see, such as a token: only its hash leaves the process.
    pub fn secret(bytes: impl Into<Cow<'r, [u8]>>) -> Self {
        Self { bytes: bytes.into(), secret: true }
    }

    /// Returns the key as it stands in the store, and as a [`KeyLimit`](crate::tower::KeyLimit) gets it. The
    /// semaphore of the key has the name `<name of the limit>/<this>`.
    pub fn name(&self) -> String {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.@:".contains(byte);
        let is_plain = !self.secret
            && !self.bytes.is_empty()
            && *self.bytes != *NO_KEY.as_bytes()
            && self.bytes.len() <= LONGEST_PLAIN
            && self.bytes.iter().all(plain);
        if is_plain && let Ok(text) = std::str::from_utf8(&self.bytes) {
            return text.to_owned();
        }
        let hash = Sha256::digest(&self.bytes);
        // No plain key has a `#`, so no key can pass for the hash of another one.
        hash.iter().take(16).fold("#".to_owned(), |mut name, byte| {
            for nibble in [byte >> 4, byte & 15] {
                name.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
            }
            name
        })
    }
}

// By hand, so that no secret gets into a log.
impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.name()).finish()
    }
}
