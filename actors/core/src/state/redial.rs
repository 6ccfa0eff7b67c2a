//! Calling again soon: who left a queue without an answer has the place back when the same
//! number enters the same queue in time.
//!
//! Invariants: a place is taken up once and by one call; a kept place is nobody's who waits.
//! The kept place decides about turn and score only: figures and records count each call
//! from its own entry.

use super::event::Value;
use super::{Deadline, State};
use crate::floor::place::{PlaceKey, PlaceRow, known_by};
use crate::ids::{CallId, QueueName};
use crate::limits;
use crate::time::TimeMs;

impl State {
    /// A caller has left his queue without an answer: his place is kept for a while. Of two
    /// calls from one number the better place is kept.
    pub(super) fn keep_place(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let (Some(visit), Some(number)) = (&call.visit, known_by(&call.from)) else {
            return;
        };
        let spec = self.queue_spec(&(call.tenant.clone(), visit.queue.clone()));
        let Some(kept_ms) = spec.map(|spec| spec.comfort.redial_ms).filter(|ms| *ms > 0) else {
            return;
        };
        let mut row = PlaceRow {
            tenant: call.tenant.clone(),
            queue: visit.queue.clone(),
            number,
            order: visit.order,
            since: visit.since,
            until: self.meta.now.plus(kept_ms),
        };
        let key = row.key();
        match self.places.get(&key) {
            Some(before) if before.until > self.meta.now && before.order < row.order => {
                (row.order, row.since) = (before.order, before.since);
            }
            Some(_) => {}
            None if self.places.len() >= limits::PLACES_KEPT => return,
            None => {}
        }
        let deadline = Deadline::Place(key.0.clone(), key.1.clone(), key.2.clone());
        self.at(row.until, deadline);
        self.places.insert(key.clone(), row);
        self.batch.places.insert(key);
    }

    /// The place kept for this call in the queue it enters, and since when the wait counts
    /// there. It is taken up with that.
    pub(super) fn take_place(&mut self, id: CallId, queue: &QueueName) -> Option<(u64, TimeMs)> {
        let call = self.calls.get(&id)?;
        let key = (call.tenant.clone(), queue.clone(), known_by(&call.from)?);
        let row = self.places.remove(&key)?;
        self.batch.places.insert(key);
        if row.until <= self.meta.now {
            return None;
        }
        let fields = [
            ("queue", Value::from(queue.as_str())),
            ("since", Value::from(row.since.0)),
        ];
        self.event("call.place_resumed", id, fields);
        Some((row.order, row.since))
    }

    /// A place may have been kept long enough.
    pub(super) fn place_due(&mut self, key: PlaceKey) {
        let over = |row: &PlaceRow| row.until <= self.meta.now;
        if self.places.get(&key).is_some_and(over) {
            self.places.remove(&key);
            self.batch.places.insert(key);
        }
    }

    /// Says what is broken about kept places.
    pub(super) fn check_places(&self, broken: &mut Vec<String>) {
        for row in self.places.values() {
            let queue = (row.tenant.clone(), row.queue.clone());
            let places = self.waiting.get(&queue);
            if places.is_some_and(|places| places.contains_key(&row.order)) {
                broken.push(format!("a place kept in {} is taken", row.queue));
            }
        }
        if self.places.len() > limits::PLACES_KEPT {
            broken.push(String::from("more places are kept than may be"));
        }
    }
}
