//! A listener that ignores all wake-ups.

use crate::id::PermitId;
use crate::store::{WakeListener, WakeUp};

pub(crate) struct Deaf;

impl WakeListener for Deaf {
    fn wake(&self, _: &str, _: PermitId, _: WakeUp) {}
    fn subscription_changed(&self) {}
    fn disconnected(&self) {}
    fn places_changed(&self) {}
}
