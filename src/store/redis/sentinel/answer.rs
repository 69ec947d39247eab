//! What a sentinel says of the primary.

use std::collections::HashMap;

use redis::{FromRedisValue, Pipeline, Value};

use crate::store::redis::url::Address;

use super::refusal::Refusal;

/// What one sentinel knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) primary: Known,
    /// The other sentinels.
    pub(super) others: Vec<Address>,
}

/// Where the primary is, as of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) address: Address,
    /// Rises with each failover. A sentinel that was cut off has a lower one.
    pub(super) epoch: u64,
}

impl Known {
    /// Returns whether the primary has moved to `self` since it was at `other`.
    pub(super) fn follows(&self, other: &Self) -> bool {
        self.epoch > other.epoch && self.address != other.address
    }
}

/// Makes the questions that [`read`] reads the replies to. The first one alone tells a new primary as soon as it
/// is promoted.
pub(super) fn questions(master: &str) -> Pipeline {
    let mut pipe = redis::pipe();
    for question in ["GET-MASTER-ADDR-BY-NAME", "MASTER", "SENTINELS"] {
        pipe.cmd("SENTINEL").arg(question).arg(master);
    }
    pipe
}

/// Reads the replies to the questions.
pub(super) fn read(replies: Vec<Value>) -> Result<Answer, Refusal> {
    let mut replies = replies.into_iter().map(Value::extract_error);
    let mut next = || replies.next().unwrap_or(Ok(Value::Nil));
    // A sentinel says nil if it does not know the master, so an error is the answer of another server.
    let address = next().map_err(Refusal::of_first_question)?;
    if address == Value::Nil {
        return Err(Refusal::UnknownMaster);
    }
    let address = Option::<(String, u16)>::from_redis_value(address);
    let Ok(Some((host, port))) = address else { return Err(Refusal::NoSentinel) };
    let details = next().map_err(Refusal::Failed)?;
    let details = HashMap::<String, String>::from_redis_value(details).unwrap_or_default();
    let epoch = details.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let others = next().map_err(Refusal::Failed)?;
    let others = Vec::<HashMap<String, String>>::from_redis_value(others).unwrap_or_default();
    Ok(Answer {
        primary: Known { address: Address::new(host, port), epoch },
        others: others.iter().filter_map(address_of).collect(),
    })
}

fn address_of(instance: &HashMap<String, String>) -> Option<Address> {
    let port = instance.get("port")?.parse().ok()?;
    Some(Address::new(instance.get("ip")?.as_str(), port))
}
