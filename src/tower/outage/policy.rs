//! The policy for outages, as users set it.

/// What a layer does with requests while the store is unavailable.
///
/// The store counts as unavailable once it has not answered for
/// [`outage_after`](crate::tower::ZSetSemaphoreLayer::outage_after) (default 1 s), or has refused for that
/// time. From then on the policy decides at once about new requests and about those that wait. Until then a
/// waiting request keeps its place in the queue.
///
/// From time to time one request still waits for the store, to find out whether it is back. All requests do
/// so if none has asked for some time. As soon as the store answers, requests queue there as before. A
/// permit that is held stays valid for as long as its lease is provably alive.
///
/// Each of several stacked layers decides by its own policy. The outermost layer with `FailClosed` rejects a
/// request, even if inner layers would let it through.
///
/// It is not an outage if a client was closed or its runtime has ended. Then requests are rejected under
/// every policy.
///
/// Each layer logs one line when an outage begins and one when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OutagePolicy {
    /// Rejects requests with [`Reason::Unavailable`](crate::tower::Reason::Unavailable): the limit
    /// holds at all times. The default.
    #[default]
    FailClosed,
    /// Lets requests through uncounted; see
    /// [`Admission::is_uncounted`](crate::tower::Admission::is_uncounted).
    FailOpen,
    /// Lets requests share a cap of this many units in this process, first come first served. They wait
    /// for it within their timeout.
    ///
    /// With a key per request, each key has its own cap. Clones of a layer share the cap. If they set
    /// different caps, the one that is needed first counts. When the store is back, the requests that the
    /// cap let through run on, uncounted by the cluster. 0 is the same as [`FailClosed`](Self::FailClosed).
    LocalCap(u32),
}
