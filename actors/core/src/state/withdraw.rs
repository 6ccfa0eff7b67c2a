//! Callbacks that are taken back: by an operator, or by the customer who comes to the queue
//! himself.
//!
//! Invariant: who is served as a caller is not called back as well. An attempt under way
//! ends with its callback, and the agent kept for it is free.

use super::State;
use super::command::Refusal;
use super::event::Value;
use crate::call::{Cause, Disposition};
use crate::ids::{CallId, QueueName, TenantId};

impl State {
    /// An operator takes a callback back.
    pub(super) fn withdraw(&mut self, tenant: &TenantId, id: CallId) -> Result<(), Refusal> {
        // Another tenant's callback is as unknown as one that never was.
        let row = self.callbacks.get(&id);
        if row.is_none_or(|row| row.tenant != *tenant) {
            return Err(Refusal::NotFound(format!("callback {id}")));
        }
        self.take_callback_back(id, None);
        Ok(())
    }

    /// The customer is in his queue as the caller of `call`, or is served there: he is not
    /// called back.
    pub(super) fn came_himself(&mut self, call: CallId) {
        let Some(row) = self.calls.get(&call) else {
            return;
        };
        let Some(visit) = &row.visit else { return };
        if let Some(origin) = self.own_callback(&row.tenant, &visit.queue, &row.from) {
            self.take_callback_back(origin, Some(call));
        }
    }

    /// True while a call waits in this queue.
    pub(super) fn waits_in(&self, call: CallId, queue: &QueueName) -> bool {
        let row = self.calls.get(&call).filter(|row| row.is_waiting());
        let visit = row.and_then(|row| row.visit.as_ref());
        visit.is_some_and(|visit| visit.queue == *queue)
    }

    /// Takes a callback back, with the attempt under way.
    fn take_callback_back(&mut self, id: CallId, by: Option<CallId>) {
        let Some(row) = self.drop_callback(id) else {
            return;
        };
        let why = if by.is_some() { "caller" } else { "command" };
        let fields = [
            ("queue", Value::from(row.queue.as_str())),
            ("by", why.into()),
            ("call", by.map(|call| call.to_string()).into()),
        ];
        self.event("callback.withdrawn", id, fields);
        if let Some(call) = row.state.call() {
            self.let_go(&row, call);
            self.clear_call(call, (Disposition::Abandoned, Cause::CANCELLED));
        }
    }
}
