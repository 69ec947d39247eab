//! Redis Cluster: each primary is a place, and a map tells which one has the slot of a name.
//!
//! # Implementation
//!
//! The cluster connection of the redis crate is not used: it sends a call again by itself, pauses for seconds,
//! and cannot tell which node broke. Here each node has a connection like that of a single server, and the
//! driver of its place judges it.
//!
//! The map is read from a node when the client begins, while a place cannot be reached, and when the cluster
//! is down. A node that does not have the slot of a call any more tells where it is, which is noted at once.

mod judge;
mod nodes;
mod nodes_reply;
mod open;
mod refresh;
mod replication;
mod session;
mod slot_map;
mod slots;
mod wakes;
mod watch;

#[cfg(test)]
mod tests;

pub(super) use nodes::Cluster;
pub(super) use wakes::Channels;
