//! The questions of operators to one place, beside its turns.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::error::{ControlError, StoreError};
use crate::store::{BoxFuture, Session};

use super::handle::NoDriver;
use super::place::Place;
use super::shared::{NoSession, Shared};

impl From<NoDriver> for ControlError {
    fn from(reason: NoDriver) -> Self {
        match reason {
            NoDriver::NoRuntime => Self::NoRuntime,
            NoDriver::Ended => Self::Closed,
        }
    }
}

impl From<NoSession> for ControlError {
    fn from(reason: NoSession) -> Self {
        match reason {
            NoSession::Unavailable(error) => Self::Unavailable(error),
            NoSession::Ended => Self::Closed,
        }
    }
}

impl Shared {
    /// Asks a place one question over the connection of the client, for `patience` at most.
    pub(crate) async fn ask<T>(
        self: &Arc<Self>,
        place: &Arc<Place>,
        question: impl for<'a> Fn(&'a dyn Session) -> BoxFuture<'a, Result<T, StoreError>>,
        patience: Duration,
    ) -> Result<T, ControlError> {
        let start = Instant::now();
        let session = self.session(place, patience).await?;
        let left = patience.saturating_sub(start.elapsed());
        let answer = timeout(left, question(&*session)).await.unwrap_or_else(|_| {
            Err(StoreError::timeout(format!("no answer within {:?}", self.call_timeout)))
        });
        if answer.as_ref().map_or_else(|error| !error.is_unanswered(), |_| true) {
            place.link().hear(Instant::now());
        }
        answer.map_err(|error| {
            // Where connecting took the time, a timeout says nothing about the connection.
            if !error.is_timeout() || left >= self.call_timeout / 2 {
                place.complain(&session, error.clone());
            }
            ControlError::Unavailable(error)
        })
    }
}
