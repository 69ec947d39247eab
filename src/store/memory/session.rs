//! A client's session of the store in this process.

use std::sync::Arc;

use crate::error::StoreError;
use crate::id::{ClientId, PermitId};
use crate::inspection::{Inspection, KickOutcome};
use crate::store::{BoxFuture, Kick, Session, Turn, TurnOutcome, WakeListener};

use super::store::MemoryStore;

/// Wake-ups are delivered until it is dropped. It keeps the listener alive, which the store does not.
pub(super) struct MemorySession {
    pub(super) store: MemoryStore,
    pub(super) client: ClientId,
    pub(super) _listener: Arc<dyn WakeListener>,
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        self.store.forget_listener(self.client);
    }
}

impl Session for MemorySession {
    fn turn(&self, turn: Turn) -> BoxFuture<'_, Result<TurnOutcome, StoreError>> {
        Box::pin(async move { Ok(self.store.turn(&turn)) })
    }

    fn is_inline(&self) -> bool {
        true
    }

    fn inspect(&self, name: Arc<str>) -> BoxFuture<'_, Result<Inspection, StoreError>> {
        Box::pin(async move { Ok(self.store.inspect(&name)) })
    }

    fn set_limit(
        &self,
        name: Arc<str>,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.store.set_limit(&name, limit);
            Ok(())
        })
    }

    fn kick(
        &self,
        name: Arc<str>,
        id: PermitId,
        kick: Kick,
    ) -> BoxFuture<'_, Result<KickOutcome, StoreError>> {
        Box::pin(async move { Ok(self.store.kick(&name, id, kick)) })
    }

    fn is_subscribed(&self) -> bool {
        true
    }

    fn is_alive(&self) -> bool {
        true
    }
}
