//! Which extension's phone is in which call: derived from the legs of calls, kept so
//! that the state of an agent is known without a search.

use super::{Of, State};
use crate::call::{CallRow, LegRole};
use crate::ids::{CallId, Extension};
use crate::time::TimeMs;

impl State {
    pub(super) fn seat_of(call: &CallRow, role: &LegRole) -> Option<Of<Extension>> {
        let extension = match role {
            LegRole::Caller => call.from.extension.clone()?,
            LegRole::Extension(extension) => extension.clone(),
            LegRole::Agent(_) | LegRole::Trunk(..) => return None,
        };
        Some((call.tenant.clone(), extension))
    }

    pub(super) fn occupy(&mut self, seat: &Of<Extension>, call: CallId) {
        let calls = self.occupied.entry(seat.clone()).or_default();
        let was_free = calls.is_empty();
        calls.insert(call);
        if was_free {
            self.touch_seat(seat);
        }
    }

    /// Frees the phone of an ended leg unless another leg of the call is still there.
    pub(super) fn vacate_leg(&mut self, id: CallId, role: &LegRole) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let Some(seat) = Self::seat_of(call, role) else {
            return;
        };
        let still = call
            .legs
            .iter()
            .any(|leg| leg.is_live() && Self::seat_of(call, &leg.role).as_ref() == Some(&seat));
        if still {
            return;
        }
        let Some(calls) = self.occupied.get_mut(&seat) else {
            return;
        };
        calls.remove(&id);
        if calls.is_empty() {
            self.occupied.remove(&seat);
            if let Some(agents) = self.seats.get(&seat).cloned() {
                let now: TimeMs = self.meta.now;
                for agent in agents {
                    if let Some(row) = self.agents.get_mut(&(seat.0.clone(), agent)) {
                        row.idle_since = row.idle_since.max(now);
                    }
                }
            }
            self.touch_seat(&seat);
        }
    }

    /// Rebuilds what is derived from a call's row.
    pub(super) fn index_call(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let live = call.legs.iter().filter(|leg| leg.is_live());
        let seats: Vec<_> = live
            .filter_map(|leg| Self::seat_of(call, &leg.role))
            .collect();
        if let Some(visit) = call.visit.as_ref().filter(|_| call.is_waiting()) {
            let key = (call.tenant.clone(), visit.queue.clone());
            self.waiting.entry(key).or_default().insert(visit.order, id);
        }
        for seat in seats {
            self.occupied.entry(seat).or_default().insert(id);
        }
    }
}
