//! What a sentinel says of the primary.

use std::collections::HashMap;

use redis::{FromRedisValue, Pipeline, Value};

use crate::store::redis::url::Address;

use super::refusal::Refusal;

/// What one sentinel knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) primary: Known,
    /// The replica that is about to become the primary, if this sentinel leads a failover.
    pub(super) promoting: Option<Address>,
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
    for question in ["GET-MASTER-ADDR-BY-NAME", "MASTER", "SENTINELS", "REPLICAS"] {
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
    let Ok(Some((host, port))) = address else { return Err(Refusal::NoSentinel(None)) };
    let details = next().map_err(Refusal::Failed)?;
    let details = HashMap::<String, String>::from_redis_value(details).unwrap_or_default();
    let epoch = details.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let mut instances = || {
        let instances = next().map_err(Refusal::Failed)?;
        Ok(Vec::<HashMap<String, String>>::from_redis_value(instances).unwrap_or_default())
    };
    let (others, replicas) = (instances()?, instances()?);
    let primary = Known { address: Address::new(host, port), epoch };
    let promoting = replicas.iter().filter(|replica| is_promoted(replica)).find_map(address_of);
    Ok(Answer {
        promoting: promoting.filter(|replica| *replica != primary.address),
        primary,
        others: others.iter().filter_map(address_of).collect(),
    })
}

/// Returns whether the sentinel has chosen a replica to become the primary.
fn is_promoted(replica: &HashMap<String, String>) -> bool {
    replica.get("flags").is_some_and(|flags| flags.split(',').any(|flag| flag == "promoted"))
}

fn address_of(instance: &HashMap<String, String>) -> Option<Address> {
    let port = instance.get("port")?.parse().ok()?;
    Some(Address::new(instance.get("ip")?.as_str(), port))
}
