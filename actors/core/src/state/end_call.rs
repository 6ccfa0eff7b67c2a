//! The end of a call: first it is cleared (outcome fixed, queue left, every leg to
//! end), then, when its last leg has gone, closed (agent freed, record written). Agents who
//! answered too late may still be told so then: the record does not wait for them.
//!
//! Invariant: a call that was admitted, and an attempt of a callback, leave exactly one
//! record.

use super::event::Value;
use super::{Deadline, State};
use crate::call::{CallRow, Cause, Disposition, LegRole, LegRow, Seen, Stage, Want};
use crate::cdr::CdrRow;
use crate::floor::figure::Fact;
use crate::ids::{CallId, CdrId};
use crate::limits;

impl State {
    /// Ends a call: every live leg is to end, the queue is left, the outcome is fixed.
    pub(super) fn clear_call(&mut self, id: CallId, ending: (Disposition, Cause)) {
        let now = self.meta.now;
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        if call.stage == Stage::Clearing {
            return;
        }
        // A caller cleared out of a queue by whatever rule has left it unanswered.
        let ending = match ending.0 {
            Disposition::Rejected | Disposition::Failed | Disposition::NoAnswer
                if call.is_waiting() =>
            {
                (Disposition::Abandoned, ending.1)
            }
            _ => ending,
        };
        self.depart(id, ending.0);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let talked = matches!(call.stage, Stage::Bridged { .. });
        call.stage = Stage::Clearing;
        call.ending.get_or_insert(ending);
        if talked {
            call.talk_ended_at.get_or_insert(now);
        }
        call.note_hold(call.talk_ended_at.filter(|_| talked).unwrap_or(now));
        if let Some(visit) = &mut call.visit {
            visit.offers.clear();
            visit.meant_until = None;
        }
        for leg in call.legs.iter_mut().filter(|leg| leg.is_live()) {
            let cause = if leg.role == LegRole::Caller {
                ending.1
            } else {
                Cause::NORMAL
            };
            leg.want = Want::End(cause);
        }
        self.at(now.plus(limits::CLEARING_MS), Deadline::Clearing(id));
        self.touch_call(id);
        let origin = self.calls.get(&id).and_then(|call| call.callback);
        self.attempt_over(id, origin, ending.0);
    }

    /// The owner had time enough to clear the legs; the call ends without them.
    pub(super) fn clearing_due(&mut self, id: CallId) {
        let ending = self
            .calls
            .get(&id)
            .filter(|call| call.stage == Stage::Clearing);
        if let Some(ending) = ending.map(|call| call.ending) {
            self.doubt_live_channels(id);
            self.close_call(id, ending.unwrap_or((Disposition::Failed, Cause::FAILURE)));
        }
    }

    /// Closes the call when its last leg has ended; writes its record when only agents are
    /// left who answered too late.
    pub(super) fn settle(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let ending = call.ending.unwrap_or((Disposition::Failed, Cause::FAILURE));
        let mut live = call.legs.iter().filter(|leg| leg.is_live()).peekable();
        if live.peek().is_none() {
            return self.close_call(id, ending);
        }
        let clearing = call.stage == Stage::Clearing && !call.recorded;
        if clearing && live.all(LegRow::is_parting) {
            self.record_early(id, ending);
        }
    }

    fn record_early(&mut self, id: CallId, ending: (Disposition, Cause)) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.recorded = true;
        let call = call.clone();
        self.record(&call, ending);
        self.touch_call(id);
    }

    /// Writes the record of a call and counts its talk.
    fn record(&mut self, call: &CallRow, ending: (Disposition, Cause)) {
        if call.callback.is_some() && call.attempt == 0 {
            // It rang at an agent only, and nobody was called.
            let fields = [
                ("disposition", Value::from(ending.0.as_str())),
                ("cdr", Value::Absent),
                ("talk_ms", Value::from(0u64)),
            ];
            return self.event("call.ended", call.id, fields);
        }
        let cdr = CdrRow::of(CdrId(self.mint()), call, self.meta.now, ending);
        self.count_talk(call, cdr.talk_ms);
        let fields = [
            ("disposition", Value::from(cdr.disposition.as_str())),
            ("cdr", cdr.id.to_string().into()),
            ("talk_ms", cdr.talk_ms.into()),
        ];
        self.event("call.ended", call.id, fields);
        self.batch.cdrs.push(cdr);
    }

    /// Ends a call at once: queue left, agent freed, record written, row gone.
    pub(super) fn close_call(&mut self, id: CallId, ending: (Disposition, Cause)) {
        let now = self.meta.now;
        self.depart(id, ending.0);
        let Some(mut call) = self.calls.get(&id).cloned() else {
            return;
        };
        if call.answered_at.is_some() {
            call.talk_ended_at.get_or_insert(now);
        }
        // A record already decided stays: a node that dies while legs are being cleared
        // changes nothing about how the call ended.
        let ending = call.ending.unwrap_or(ending);
        for leg in &mut call.legs {
            if leg.seen != Seen::Ended {
                leg.seen = Seen::Ended;
                leg.held = false;
                leg.cause.get_or_insert(ending.1);
                leg.ended_at = Some(now);
            }
        }
        call.note_hold(now);
        self.calls.insert(id, call.clone());
        for leg in &call.legs {
            if let Some(trunk) = Self::trunk_of(&call, leg) {
                self.free_channel(&trunk, leg.id);
            }
            self.vacate_leg(id, &leg.role);
            if let LegRole::Agent(agent) = &leg.role {
                self.release_agent(&(call.tenant.clone(), agent.clone()), &call);
            }
        }
        self.calls.remove(&id);
        self.touch_call(id);
        self.attempt_over(id, call.callback, ending.0);
        if !call.recorded {
            self.record(&call, ending);
        }
    }

    /// Takes a waiting call out of its queue and counts how it left; what was counted.
    pub(super) fn depart(&mut self, id: CallId, how: Disposition) -> Option<Fact> {
        let call = self.calls.get(&id).filter(|call| call.is_waiting())?;
        let visit = call.visit.as_ref()?;
        let (key, entered_at) = ((call.tenant.clone(), visit.queue.clone()), visit.entered_at);
        let places = self.waiting.get_mut(&key)?;
        places.remove(&visit.order)?;
        if places.is_empty() {
            self.waiting.remove(&key);
        }
        if matches!(how, Disposition::Abandoned | Disposition::NodeLost) {
            self.keep_place(id);
        }
        Some(self.count_departure(&key, entered_at, how))
    }
}
