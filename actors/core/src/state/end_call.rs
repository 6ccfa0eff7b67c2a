//! The end of a call: first it is cleared (outcome fixed, queue left, every leg to
//! end), then, when its last leg has gone, closed (agent freed, record written).
//!
//! Invariant: a call that was admitted leaves exactly one record.

use super::event::Value;
use super::{Deadline, State};
use crate::call::{Cause, Disposition, LegRole, Seen, Stage, Want};
use crate::cdr::CdrRow;
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
            call.talk_ended_at = Some(now);
        }
        if let Some(visit) = &mut call.visit {
            visit.offer = None;
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
    }

    /// The owner had time enough to clear the legs; the call ends without them.
    pub(super) fn clearing_due(&mut self, id: CallId) {
        let ending = self
            .calls
            .get(&id)
            .filter(|call| call.stage == Stage::Clearing);
        if let Some(ending) = ending.map(|call| call.ending) {
            self.close_call(id, ending.unwrap_or((Disposition::Failed, Cause::FAILURE)));
        }
    }

    /// Closes the call when its last leg has ended.
    pub(super) fn settle(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        if call.legs.iter().all(|leg| !leg.is_live()) {
            let ending = call.ending.unwrap_or((Disposition::Failed, Cause::FAILURE));
            self.close_call(id, ending);
        }
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
                leg.cause.get_or_insert(ending.1);
                leg.ended_at = Some(now);
            }
        }
        self.calls.insert(id, call.clone());
        for leg in &call.legs {
            self.vacate_leg(id, &leg.role);
            if let LegRole::Agent(agent) = &leg.role {
                self.release_agent(&(call.tenant.clone(), agent.clone()), &call);
            }
        }
        self.calls.remove(&id);
        self.touch_call(id);
        let cdr = CdrRow::of(CdrId(self.mint()), &call, now, ending);
        if let Some(queue) = &cdr.queue {
            let key = (call.tenant.clone(), queue.clone());
            if let Some(figure) = self.figures.get_mut(&key) {
                figure.talk_ms += cdr.talk_ms;
            }
            self.batch.figures.insert(key);
        }
        let fields = [
            ("disposition", Value::from(cdr.disposition.as_str())),
            ("cdr", cdr.id.to_string().into()),
            ("talk_ms", cdr.talk_ms.into()),
        ];
        self.event("call.ended", id, fields);
        self.batch.cdrs.push(cdr);
    }

    /// Takes a waiting call out of its queue and counts how it left.
    pub(super) fn depart(&mut self, id: CallId, how: Disposition) {
        let now = self.meta.now;
        let Some(call) = self.calls.get(&id).filter(|call| call.is_waiting()) else {
            return;
        };
        let Some(visit) = &call.visit else { return };
        let key = (call.tenant.clone(), visit.queue.clone());
        let Some(places) = self.waiting.get_mut(&key) else {
            return;
        };
        if places.remove(&visit.order).is_none() {
            return;
        }
        if places.is_empty() {
            self.waiting.remove(&key);
        }
        let waited = now.since(visit.entered_at);
        if let Some(figure) = self.figures.get_mut(&key) {
            match how {
                Disposition::Answered => {
                    figure.answered += 1;
                    figure.answered_wait_ms += waited;
                }
                Disposition::Overflowed => figure.overflowed += 1,
                Disposition::CallbackTaken => figure.callback_taken += 1,
                Disposition::NodeLost => figure.node_lost += 1,
                Disposition::Abandoned
                | Disposition::Busy
                | Disposition::NoAnswer
                | Disposition::Rejected
                | Disposition::Failed => figure.abandoned += 1,
            }
        }
        self.batch.figures.insert(key);
    }
}
