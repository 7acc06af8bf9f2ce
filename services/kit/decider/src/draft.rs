//! Decisions, and the events they are made of before event-log has numbered them.

use cluster::state::Cause;
use schemas::append::Draft;
use schemas::event::Event;
use schemas::id::Tenant;

use crate::Now;

/// What a service decided at once: one batch, recorded whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The events, in order. None: nothing to decide.
    pub events: Vec<Draft>,
    /// Entities that must have no event yet.
    pub absent: Vec<String>,
    /// When to ask again, by the monotonic clock, if nothing happens before.
    pub wake_ms: Option<u64>,
}

impl Decision {
    /// Asks to be asked again at `at_ms`, or earlier if that was asked before.
    pub fn wake_at(&mut self, at_ms: u64) {
        self.wake_ms = Some(self.wake_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }
}

/// An event as its writer states it now.
///
/// # Panics
///
/// Never: the data of an event is JSON, and the tenants that events name themselves are names.
#[must_use]
pub fn draft(
    event: impl Into<Event>,
    tenant: Option<&Tenant>,
    actor: &str,
    cause: &Cause,
    now: Now,
) -> Draft {
    let event = event.into();
    let tenant = tenant.cloned().unwrap_or_else(|| {
        Tenant::new(event.tenant()).expect("an event names a tenant by a constant or an app's own")
    });
    Draft {
        time_ms: now.utc_ms,
        tenant,
        actor: actor.to_owned(),
        correlation: cause.correlation.clone(),
        causation: (cause.position > 0).then_some(cause.position),
        kind: event.kind().to_owned(),
        data: serde_json::value::RawValue::from_string(event.data())
            .expect("an event's data is JSON"),
    }
}
