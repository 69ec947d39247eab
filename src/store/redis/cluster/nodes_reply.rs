//! What a node answers about the nodes of its cluster. Pure.

use redis::{RedisError, Value};

use super::super::url::Address;
use super::slot_map::SlotRange;
use super::slots::{SLOTS, Slot};

/// The maximum number of replicas that are remembered.
const MOST_REPLICAS: usize = 256;

/// What `CLUSTER SLOTS` tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) ranges: Vec<SlotRange>,
    pub(super) replicas: Vec<Address>,
}

impl Told {
    /// Reads the answer of the node at `asked`. Ranges that cannot be read are left out.
    pub(super) fn read(reply: &Value, asked: &Address) -> Self {
        let mut told = Self::default();
        let Value::Array(ranges) = reply else { return told };
        for range in ranges.iter().take(SLOTS.into()) {
            let Value::Array(range) = range else { continue };
            let [Value::Int(first), Value::Int(last), primary, replicas @ ..] = range.as_slice()
            else {
                continue;
            };
            let (Some(first), Some(last)) = (slot(*first), slot(*last)) else { continue };
            let Some(primary) = node(primary, asked).filter(|_| first <= last) else { continue };
            told.ranges.push(SlotRange { first, last, primary });
            told.replicas.extend(replicas.iter().filter_map(|replica| node(replica, asked)));
        }
        told.replicas.sort_by_cached_key(ToString::to_string);
        told.replicas.dedup();
        told.replicas.truncate(MOST_REPLICAS);
        told
    }
}

fn slot(number: i64) -> Option<Slot> {
    Slot::new(u16::try_from(number).ok()?)
}

/// Reads `[host, port, id, ..]`.
fn node(node: &Value, asked: &Address) -> Option<Address> {
    let Value::Array(node) = node else { return None };
    let [host, Value::Int(port), ..] = node.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        Value::Nil => "",
        _ => return None,
    };
    address(host, u16::try_from(*port).ok()?, asked)
}

/// Returns the slot that an error `MOVED` or `ASK` of the node at `asked` names, and the address of the node
/// that has it.
pub(super) fn redirection(error: &RedisError, asked: &Address) -> Option<(Slot, Address)> {
    let (to, number) = error.redirect_node()?;
    let (host, port) = to.rsplit_once(':')?;
    Some((Slot::new(number)?, address(host, port.parse().ok()?, asked)?))
}

/// A node that does not know its own host, or is not to tell it, says nothing, or a question mark. Then it is
/// the host at which the other one was reached.
fn address(host: &str, port: u16, asked: &Address) -> Option<Address> {
    let host = match host {
        "" | "?" => asked.host(),
        host => host.trim_start_matches('[').trim_end_matches(']'),
    };
    (port > 0).then(|| Address::new(host, port))
}
