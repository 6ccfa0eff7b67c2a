//! What SIP legs report, on its way to whoever takes it in.
//!
//! A sink is called with its leg locked and may not wait, so the channel has no bound of its
//! own. Each leg has one instead, which holds however slow the taking in is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use strowger_core::ids::LegId;
use strowger_sip::leg::{LegEvent, LegSink};
use strowger_sip::token::LegToken;

use super::Shared;

/// Reports of one leg that wait to be taken in. What the far end may repeat at will (INFO,
/// provisional responses) is dropped and counted beyond it; the rest comes a handful of
/// times in the life of a leg and is never dropped.
const WAITING_MAX: usize = 128;

/// A report under way.
pub struct Report {
    /// Whose: a report that outlives its leg finds nobody instead of somebody else.
    pub leg: LegId,
    /// Its name in the signalling.
    pub token: LegToken,
    /// What.
    pub event: LegEvent,
    _place: Place,
}

/// One of the places a leg's waiting reports have; given back when the report is taken in.
struct Place(Arc<AtomicUsize>);

impl Place {
    /// A place among those counted by `waiting`; `None` when all are taken and the event may
    /// be dropped for it.
    fn of(waiting: &Arc<AtomicUsize>, event: &LegEvent) -> Option<Self> {
        let repeatable = matches!(
            event,
            LegEvent::Info { .. } | LegEvent::Ringing | LegEvent::Progress { .. }
        );
        if repeatable && waiting.load(Ordering::Relaxed) >= WAITING_MAX {
            return None;
        }
        waiting.fetch_add(1, Ordering::Relaxed);
        Some(Self(Arc::clone(waiting)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a SIP leg leaves its reports.
pub fn sink(shared: &Arc<Shared>, leg: LegId) -> LegSink {
    let shared = Arc::downgrade(shared);
    let waiting = Arc::new(AtomicUsize::new(0));
    Arc::new(move |token, event| {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let Some(place) = Place::of(&waiting, &event) else {
            let dropped = &shared.legs.reports_dropped;
            dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let report = Report {
            leg,
            token,
            event,
            _place: place,
        };
        // The receiver lives as long as telephony.
        let _ = shared.reports.send(report);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leg_has_so_many_reports_waiting_and_its_end_always_gets_through() {
        let info = LegEvent::Info {
            content_type: String::new(),
            body: bytes::Bytes::new(),
        };
        let waiting = Arc::new(AtomicUsize::new(0));
        let places: Vec<Place> = (0..1_000)
            .filter_map(|_| Place::of(&waiting, &info))
            .collect();
        assert_eq!(places.len(), WAITING_MAX);
        assert!(Place::of(&waiting, &LegEvent::Ringing).is_none());
        assert!(Place::of(&waiting, &LegEvent::Cancelled).is_some());
        let other = Arc::new(AtomicUsize::new(0));
        assert!(
            Place::of(&other, &info).is_some(),
            "another leg's are its own"
        );
        drop(places);
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
        assert!(Place::of(&waiting, &info).is_some());
    }
}
