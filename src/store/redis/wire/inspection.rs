//! The reply to `inspect`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use redis::Value;

use crate::error::StoreError;
use crate::id::PermitId;
use crate::inspection::{Holder, Inspection, QueuedWaiter};

use super::words::{Garbled, Words};

/// Reads the reply to `inspect`.
pub(in crate::store::redis) fn read_inspection(value: &Value) -> Result<Inspection, StoreError> {
    inspection(value).map_err(|garbled| garbled.reply_to("inspect"))
}

fn inspection(value: &Value) -> Result<Inspection, Garbled> {
    let mut words = Words::of(value)?;
    let now = words.number()?;
    let now_ms = now / 1000;
    let limit_override = words.optional_small()?;
    let declared_limit = words.optional_small()?;
    let (in_use, holders_total) = (words.number()?, words.number()?);
    let waiters_total = words.number()?;
    let (mut holders, mut waiters) = (words.list()?, words.list()?);
    let labels = labels(words.list()?)?;
    let label = |id: &PermitId| labels.get(&*id.client().to_string()).map(|text| text.to_string());

    let grace = Duration::from_millis(words.number()?);
    let mut found = Inspection {
        limit: limit_override.or(declared_limit).unwrap_or(0),
        declared_limit,
        limit_override,
        failover_grace: (!grace.is_zero()).then_some(grace),
        in_use,
        holders_total,
        waiters_total,
        holders: Vec::new(),
        waiters: Vec::new(),
    };
    while !holders.is_empty() {
        let id = holders.id()?;
        let score: f64 = holders.text()?.parse().map_err(|_| Garbled)?;
        let left = score.floor() - now_ms as f64;
        found.holders.push(Holder {
            id,
            client: id.client(),
            label: label(&id),
            units: id.units(),
            lease: id.lease(),
            expires_in: Duration::try_from_secs_f64(left.max(0.0) / 1000.0).unwrap_or_default(),
            kicked: score.fract() != 0.0,
        });
    }
    while !waiters.is_empty() {
        let id = waiters.id()?;
        let ticket = waiters.text()?.parse().map_err(|_| Garbled)?;
        found.waiters.push(QueuedWaiter {
            id,
            client: id.client(),
            label: label(&id),
            units: id.units(),
            ticket,
            waited: Duration::from_micros(now.saturating_sub(ticket)),
        });
    }
    Ok(found)
}

/// Reads pairs of a client and its label. A label that is not text is shown as well as it can be.
fn labels(mut words: Words<'_>) -> Result<HashMap<&str, Cow<'_, str>>, Garbled> {
    let mut labels = HashMap::new();
    while !words.is_empty() {
        labels.insert(words.text()?, words.any_text()?);
    }
    Ok(labels)
}
