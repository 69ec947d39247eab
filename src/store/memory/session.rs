//! The session of one client.

use std::sync::Arc;

use crate::error::StoreError;
use crate::id::{ClientId, PermitId};
use crate::inspection::{Inspection, KickOutcome};
use crate::store::{
    BoxFuture, Kick, NamesCursor, NamesPage, Session, Turn, TurnAnswer, WakeListener,
};

use super::shared::Shared;

/// The client gets wake-ups until this is dropped. The store itself does not keep the listener
/// alive.
pub(super) struct MemorySession {
    shared: Arc<Shared>,
    client: ClientId,
    _listener: Arc<dyn WakeListener>,
}

impl MemorySession {
    pub(super) fn open(
        shared: Arc<Shared>,
        client: ClientId,
        listener: Arc<dyn WakeListener>,
    ) -> Self {
        shared.listen(client, Arc::downgrade(&listener));
        Self { shared, client, _listener: listener }
    }
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        self.shared.forget_listener(self.client);
    }
}

impl Session for MemorySession {
    fn turn(self: Arc<Self>, turn: Turn) -> BoxFuture<'static, TurnAnswer> {
        Box::pin(async move { Ok(self.shared.turn(&turn)) })
    }

    fn turns(self: Arc<Self>, turns: Vec<Turn>) -> BoxFuture<'static, Vec<TurnAnswer>> {
        Box::pin(async move { turns.iter().map(|turn| Ok(self.shared.turn(turn))).collect() })
    }

    fn is_inline(&self) -> bool {
        true
    }

    fn inspect(&self, name: Arc<str>) -> BoxFuture<'_, Result<Inspection, StoreError>> {
        Box::pin(async move { Ok(self.shared.inspect(&name)) })
    }

    fn set_limit(
        &self,
        name: Arc<str>,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.shared.set_limit(&name, limit);
            Ok(())
        })
    }

    fn kick(
        &self,
        name: Arc<str>,
        id: PermitId,
        kick: Kick,
    ) -> BoxFuture<'_, Result<KickOutcome, StoreError>> {
        Box::pin(async move { Ok(self.shared.kick(&name, id, kick)) })
    }

    fn names(&self, _: NamesCursor) -> BoxFuture<'_, Result<NamesPage, StoreError>> {
        let page = NamesPage { names: self.shared.names_in_use(), next: None };
        Box::pin(async move { Ok(page) })
    }

    fn is_subscribed(&self) -> bool {
        true
    }

    fn is_alive(&self) -> bool {
        true
    }
}
