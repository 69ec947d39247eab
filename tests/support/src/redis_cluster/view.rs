//! What one node knows of the cluster, read from `CLUSTER NODES` and `CLUSTER INFO`.

use std::net::SocketAddr;

use super::RedisCluster;
use super::slots::Slot;

/// How one node sees the cluster.
pub struct View {
    /// Whether the node takes commands: all slots are served, and most primaries are reachable.
    pub is_ok: bool,
    pub members: Vec<Member>,
}

impl View {
    /// The node that was asked.
    pub fn myself(&self) -> &Member {
        self.members.iter().find(|member| member.is_myself).expect("a node knows itself")
    }

    /// How many slots have a primary.
    pub fn slots_served(&self) -> usize {
        self.members.iter().map(Member::slots).sum()
    }

    /// Whether the other node is well, and does what it says itself, as this one sees it.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        let other = other.myself();
        let seen = self.members.iter().find(|member| member.id == other.id);
        seen.is_some_and(|seen| {
            seen.is_well()
                && seen.addr == other.addr
                && seen.is_primary == other.is_primary
                && seen.replica_of == other.replica_of
                && seen.ranges == other.ranges
                // Else a replica that has not heard of the last epoch of its primary may never be elected.
                && seen.epoch == other.epoch
        })
    }

    pub fn owner(&self, slot: Slot) -> Option<&Member> {
        self.members.iter().find(|member| member.serves(slot))
    }
}

/// One node, as another one sees it.
pub struct Member {
    pub id: String,
    pub addr: SocketAddr,
    pub is_primary: bool,
    /// The primary of a replica.
    pub replica_of: Option<String>,
    /// The highest one decides who owns a slot.
    pub epoch: u64,
    is_myself: bool,
    is_failing: bool,
    is_connected: bool,
    ranges: Vec<(Slot, Slot)>,
}

impl Member {
    pub fn serves(&self, slot: Slot) -> bool {
        self.is_primary && self.ranges.iter().any(|&(first, last)| first <= slot && slot <= last)
    }

    /// Whether the node is reachable, by what is known.
    pub fn is_well(&self) -> bool {
        self.is_connected && !self.is_failing
    }

    fn slots(&self) -> usize {
        if !self.is_primary {
            return 0;
        }
        self.ranges.iter().map(|(first, last)| usize::from(last - first) + 1).sum()
    }

    /// `id addr@bus[,host] flags primary ping pong epoch link slots..`; a slot that is being moved is in brackets.
    fn read(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split(' ').collect();
        let &[id, addr, flags, replica_of, _, _, epoch, link, ref slots @ ..] = words.as_slice()
        else {
            panic!("not a line of CLUSTER NODES: {line:?}")
        };
        let has = |flag| flags.split(',').any(|word| word == flag);
        // A node that was never met does not know its host.
        let (host, port) = addr.split('@').next()?.rsplit_once(':')?;
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        let addr = SocketAddr::new(host.parse().ok()?, port.parse().ok()?);
        Some(Self {
            id: id.to_owned(),
            addr,
            is_primary: has("master"),
            replica_of: (replica_of != "-").then(|| replica_of.to_owned()),
            epoch: epoch.parse().expect("an epoch is a number"),
            is_myself: has("myself"),
            is_failing: ["fail", "fail?", "handshake", "noaddr"].into_iter().any(has),
            is_connected: link == "connected",
            ranges: slots.iter().filter_map(|range| read_range(range)).collect(),
        })
    }
}

fn read_range(range: &str) -> Option<(Slot, Slot)> {
    if range.starts_with('[') {
        return None;
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Some((first.parse().ok()?, last.parse().ok()?))
}

impl RedisCluster {
    /// How a node sees the cluster.
    pub async fn view(&self, node: usize) -> View {
        let lines: String = self.nodes[node].query(&["CLUSTER", "NODES"]).await;
        let info: String = self.nodes[node].query(&["CLUSTER", "INFO"]).await;
        View {
            is_ok: info.contains("cluster_state:ok"),
            members: lines.lines().filter_map(Member::read).collect(),
        }
    }

    /// The id of a node.
    pub async fn id_of(&self, node: usize) -> String {
        self.nodes[node].query(&["CLUSTER", "MYID"]).await
    }

    /// Which nodes are neither killed nor frozen.
    pub fn answering(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].answers()).collect()
    }

    /// Which nodes say that they are primaries.
    pub async fn primaries(&self) -> Vec<usize> {
        let mut primaries = Vec::new();
        for node in self.answering() {
            if self.view(node).await.myself().is_primary {
                primaries.push(node);
            }
        }
        primaries
    }

    /// Which nodes say that they are replicas of `primary`.
    pub async fn replicas_of(&self, primary: usize) -> Vec<usize> {
        let id = self.id_of(primary).await;
        let mut replicas = Vec::new();
        for node in self.answering() {
            if self.view(node).await.myself().replica_of.as_ref() == Some(&id) {
                replicas.push(node);
            }
        }
        replicas
    }

    /// Which node serves a slot. Of several that say so, it is the one of the highest epoch.
    pub async fn owner(&self, slot: Slot) -> Option<usize> {
        let mut owners = Vec::new();
        for node in self.answering() {
            let view = self.view(node).await;
            if view.myself().serves(slot) {
                owners.push((view.myself().epoch, node));
            }
        }
        owners.into_iter().max().map(|(_, node)| node)
    }

    /// Which node serves the slot of a name.
    pub async fn owner_of(&self, name: &str) -> usize {
        let owner = self.owner(super::slots::slot_of(name)).await;
        owner.unwrap_or_else(|| panic!("no node serves {name:?}"))
    }
}
