//! The ids of clients and permits.
//!
//! # Implementation
//!
//! The caller makes the id of a permit before it asks for one, so a request that is sent twice is one
//! permit.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use crate::numbers::Millis;

/// The lease that an id need not spell out.
pub(crate) const DEFAULT_LEASE: Millis = Millis::new(30_000);

/// The character in a permit id that is left to later versions.
const RESERVED: char = '~';

/// The id of a [`Client`](crate::Client): 64 random bits, written as 16 hex digits in lower case.
///
/// # Examples
///
/// ```
/// use zset_semaphore::{Client, ClientId};
///
/// let id = Client::in_memory().id();
/// assert_eq!(id.to_string().parse(), Ok(id));
/// assert!("7".parse::<ClientId>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(u64);

impl ClientId {
    /// Takes an id from the randomness of the system, each time. A fork copies all that a process
    /// keeps, such as `RandomState` and seeded generators.
    pub(crate) fn random() -> Self {
        Self(getrandom::u64().unwrap_or_else(|_| without_system_randomness()))
    }

    #[cfg(test)]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// Tells processes and instants apart without the randomness of the system.
fn without_system_randomness() -> u64 {
    RandomState::new().hash_one((std::process::id(), SystemTime::now()))
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({self})")
    }
}

/// The id of a permit, as Redis and [`inspect`](crate::ZSetSemaphore::inspect) know it.
///
/// It reads `<client>:<counter>[*units][/lease_ms]`, and carries all that another process must know
/// to grant the permit. One unit, and a lease of 30 seconds, are left out. No id is made twice. The character
/// `~` is reserved: ids of later versions may have more behind it, and this version refuses them.
///
/// # Examples
///
/// ```
/// use zset_semaphore::PermitId;
///
/// let id: PermitId = "00c0ffee00c0ffee:7*3/5000".parse()?;
/// assert_eq!(id.units(), 3);
/// assert_eq!(id.lease().as_secs(), 5);
/// assert_eq!(id.to_string(), "00c0ffee00c0ffee:7*3/5000");
/// assert!("7*3".parse::<PermitId>().is_err());
/// assert!("00c0ffee00c0ffee:7~1".parse::<PermitId>().is_err());
/// # Ok::<(), zset_semaphore::ParseIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PermitId {
    client: ClientId,
    counter: u64,
    units: u32,
    lease: LeaseMillis,
}

/// A lease in half of the bytes of [`Millis`], since a process may have very many ids. It reaches 49 days; the
/// longest lease has 30.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct LeaseMillis(u32);

impl LeaseMillis {
    fn millis(self) -> Millis {
        Millis::new(self.0.into())
    }
}

impl PermitId {
    /// A `lease` beyond [`LONGEST`](crate::lease::LONGEST) may be cut short.
    pub(crate) fn new(client: ClientId, counter: u64, units: u32, lease: Millis) -> Self {
        let lease = LeaseMillis(u32::try_from(lease.get()).unwrap_or(u32::MAX));
        Self { client, counter, units, lease }
    }

    /// Returns the client that asked for the permit.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Returns how many units of the limit the permit takes.
    pub fn units(&self) -> u32 {
        self.units
    }

    /// Returns how long the permit lives in the store without a renewal.
    pub fn lease(&self) -> Duration {
        self.lease_ms().duration()
    }

    pub(crate) fn counter(&self) -> u64 {
        self.counter
    }

    pub(crate) fn lease_ms(&self) -> Millis {
        self.lease.millis()
    }

    /// Writes the id without the formatting machinery: a turn names hundreds of ids, and formatting
    /// them would be a good part of its cost.
    pub(crate) fn write_to(&self, text: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let nibbles = (0..16).rev().map(|nibble| (self.client.0 >> (4 * nibble)) as usize & 15);
        text.extend(nibbles.map(|nibble| DIGITS[nibble]));
        text.push(b':');
        put_decimal(text, self.counter);
        if self.units != 1 {
            text.push(b'*');
            put_decimal(text, u64::from(self.units));
        }
        if self.lease_ms() != DEFAULT_LEASE {
            text.push(b'/');
            put_decimal(text, u64::from(self.lease.0));
        }
    }
}

fn put_decimal(text: &mut Vec<u8>, number: u64) {
    let start = text.len();
    let mut rest = number;
    loop {
        text.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text[start..].reverse();
}

impl fmt::Display for PermitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(48);
        self.write_to(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl fmt::Debug for PermitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PermitId({self})")
    }
}

/// The text is not the id of a client or of a permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no {what}{}; one reads {form}, as inspect() and {printed_by} print it",
    if .reserved.to_owned() { " that this version can read: '~' is reserved" } else { "" }
)]
pub struct ParseIdError {
    /// The first 80 characters.
    text: String,
    what: &'static str,
    form: &'static str,
    printed_by: &'static str,
    /// Whether the text has the reserved character.
    reserved: bool,
}

impl ParseIdError {
    fn client_id(text: &str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            what: "client id",
            form: "<16 hex digits in lower case>",
            printed_by: "Client::id()",
            reserved: false,
        }
    }

    fn permit_id(text: &str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            what: "permit id",
            form: "<16 hex digits>:<number>[*units][/lease_ms]",
            printed_by: "Permit::id()",
            reserved: text.contains(RESERVED),
        }
    }
}

impl FromStr for ClientId {
    type Err = ParseIdError;

    /// Reads an id as [`Display`](fmt::Display) writes it.
    ///
    /// # Errors
    ///
    /// [`ParseIdError`] with the text when it is not of that form.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        parse_client(text).ok_or_else(|| ParseIdError::client_id(text))
    }
}

impl FromStr for PermitId {
    type Err = ParseIdError;

    /// Reads an id as [`Display`](fmt::Display) writes it.
    ///
    /// # Errors
    ///
    /// [`ParseIdError`] with the text when it is not of that form. The error says if the text has the reserved
    /// character `~`.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        parse_permit(text).ok_or_else(|| ParseIdError::permit_id(text))
    }
}

/// Serializes an id as `Display` writes it, and reads it as `FromStr` does.
#[cfg(feature = "serde")]
macro_rules! serialize_as_text {
    ($($id:ty),*) => {$(
        impl serde::Serialize for $id {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $id {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

#[cfg(feature = "serde")]
serialize_as_text!(ClientId, PermitId);

fn parse_client(text: &str) -> Option<ClientId> {
    let hex = |digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 16 || !text.bytes().all(hex) {
        return None;
    }
    u64::from_str_radix(text, 16).ok().map(ClientId)
}

fn parse_permit(text: &str) -> Option<PermitId> {
    let (client, rest) = text.split_once(':')?;
    let (rest, lease) = match rest.split_once('/') {
        Some((rest, lease)) => (rest, Millis::new(u32::try_from(decimal(lease)?).ok()?.into())),
        None => (rest, DEFAULT_LEASE),
    };
    let (counter, units) = match rest.split_once('*') {
        Some((counter, units)) => (counter, u32::try_from(decimal(units)?).ok()?),
        None => (rest, 1),
    };
    let client = parse_client(client)?;
    Some(PermitId::new(client, decimal(counter)?, units, lease))
}

/// Reads digits only; `parse` alone would accept a sign.
fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for (units, lease, text) in [
            (1, DEFAULT_LEASE, "00000000000000ff:9"),
            (4, DEFAULT_LEASE, "00000000000000ff:9*4"),
            (1, Millis::new(50), "00000000000000ff:9/50"),
            (u32::MAX, Millis::new(1_000), "00000000000000ff:9*4294967295/1000"),
        ] {
            let id = PermitId::new(ClientId(255), 9, units, lease);
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id));
        }
    }

    #[test]
    fn an_id_has_24_bytes() {
        assert_eq!(size_of::<PermitId>(), 24);
    }

    #[test]
    fn a_client_id_reads_back_and_nothing_else_is_one() {
        for bits in [0, 255, u64::MAX] {
            let id = ClientId::from_bits(bits);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in ["", "ff", "00000000000000FF", "00000000000000ff:9", "+0000000000000ff"] {
            assert!(text.parse::<ClientId>().is_err(), "{text}");
        }
        assert_eq!(
            "7".parse::<ClientId>().unwrap_err().to_string(),
            r#""7" is no client id; one reads <16 hex digits in lower case>, as inspect() and Client::id() print it"#
        );
    }

    #[test]
    fn an_id_with_the_reserved_character_is_refused_and_the_error_says_so() {
        for text in ["00000000000000ff:9~", "00000000000000ff:9~x", "00000000000000ff:9*2/5~1"] {
            let error = text.parse::<PermitId>().unwrap_err().to_string();
            assert!(error.contains("'~' is reserved"), "{error}");
        }
        assert!(!"9".parse::<PermitId>().unwrap_err().to_string().contains('~'));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            ":",
            "ff:9",
            "00000000000000FF:9",
            "00000000000000ff",
            "00000000000000ff:",
            "00000000000000ff:+9",
            "00000000000000ff:9*",
            "00000000000000ff:9*4294967296",
            "00000000000000ff:9/x",
            "00000000000000ff:9/4294967296",
            "00000000000000ff:9/5*2",
        ] {
            assert!(text.parse::<PermitId>().is_err(), "{text}");
        }
    }
}
