//! What stands in for the metrics without the feature: types without a size, whose calls do nothing.

use std::sync::Arc;

use tokio::time::Instant;

use super::outcome::{TurnEnd, WaitOutcome};
use crate::hold::Hold;
use crate::id::PermitId;
use crate::lost_reason::LostReason;

#[derive(Debug)]
pub(crate) struct ClientMeter(());

#[derive(Debug)]
pub(crate) struct Connected(());

#[derive(Debug, Clone, Copy)]
pub(crate) struct SentAt(());

#[derive(Debug, Default)]
pub(crate) struct NameMeter(Meter);

#[derive(Debug, Default)]
pub(crate) struct Meter(());

#[derive(Debug, Default)]
pub(crate) struct StateMeter(());

#[derive(Debug, Default)]
pub(crate) struct Waiting(());

#[cfg(feature = "tower")]
pub(crate) use layer::{KeysMeter, LayerMeter};

#[cfg(feature = "tower")]
mod layer {
    use std::time::Duration;

    use super::Meter;
    use crate::metrics::outcome::RequestOutcome;

    #[derive(Debug)]
    pub(crate) struct Counted(());

    #[derive(Debug)]
    pub(crate) struct LayerMeter(());

    #[derive(Debug)]
    pub(crate) struct KeysMeter(());

    impl LayerMeter {
        pub(crate) fn new(_: &str) -> Self {
            Self(())
        }

        pub(crate) fn of(_: &Meter) -> Self {
            Self(())
        }

        pub(crate) fn request(&self, _: RequestOutcome, _: Duration) {}

        pub(crate) fn outage_began(&self) {}

        pub(crate) fn outage_ended(&self) {}
    }

    impl KeysMeter {
        pub(crate) fn new(_: &str) -> Self {
            Self(())
        }

        pub(crate) fn set(&mut self, _: usize) {}
    }

    impl Meter {
        pub(crate) fn resting(&self, _: u32) -> Counted {
            Counted(())
        }
    }
}

impl SentAt {
    pub(crate) fn new(_: Instant, _: usize) -> Self {
        Self(())
    }
}

impl ClientMeter {
    pub(crate) fn new() -> Self {
        Self(())
    }

    pub(crate) fn present(&self, before: Instant) -> Instant {
        before
    }

    pub(crate) fn of(&self, _: &str) -> Meter {
        Meter(())
    }

    pub(crate) fn connected(&self) -> Connected {
        Connected(())
    }

    pub(crate) fn failed_to_connect(&self) {}

    pub(crate) fn landed(&self, _: SentAt, _: TurnEnd, _: impl FnOnce() -> Instant) {}
}

impl NameMeter {
    pub(crate) fn get(&self) -> &Meter {
        &self.0
    }

    pub(crate) fn lacks(&self, _: Option<&str>) -> bool {
        false
    }

    pub(crate) fn set(&self, _: Option<&str>, _: Meter) {}
}

impl Meter {
    pub(crate) fn is_heard(&self) -> bool {
        false
    }
}

impl StateMeter {
    pub(crate) fn set(&mut self, _: &Meter) {}

    pub(crate) fn granted(&mut self, _: &Hold, _: bool, _: Instant) {}

    pub(crate) fn renews(&mut self, _: impl FnOnce() -> Option<Arc<Hold>>) {}

    pub(crate) fn lost(&mut self, _: &Hold, _: LostReason, _: Instant) {}

    pub(crate) fn released(&mut self, _: &Hold, _: impl FnOnce() -> Instant) {}

    pub(crate) fn gone(&mut self, _: PermitId) {}

    pub(crate) fn replicating(&mut self) {}

    pub(crate) fn replicating_ended(&mut self) {}

    pub(crate) fn told(&mut self, _: u64, _: u64, _: u32) {}

    pub(crate) fn show(&mut self, _: usize) {}

    pub(crate) fn end(&mut self) {}

    pub(crate) fn shrink_idle(&mut self) {}

    pub(crate) fn unheard_grant(&self) {}

    pub(crate) fn data_loss(&self) {}
}

impl Waiting {
    pub(crate) fn begin(_: &Meter, _: Instant) -> Self {
        Self(())
    }

    pub(crate) fn end(&mut self, _: &Meter, _: WaitOutcome, _: impl FnOnce() -> Instant) {}
}
