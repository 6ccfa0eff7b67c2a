//! Registrations: REGISTER as the log sees it, and the end of bindings
//! (RFC 3261 §10.3).

use super::command::{Refusal, Reply};
use super::{Deadline, Of, State};
use crate::floor::phone::PhoneName;
use crate::floor::registration::{Register, RegisterRefusal, RegistrationRow};
use crate::ids::Extension;

/// Feature level from which on one deadline stands for a registration, however often it is
/// refreshed.
const ONE_DEADLINE_FROM: u32 = 3;

impl State {
    /// A phone registers, refreshes, asks or leaves.
    pub(super) fn register(&mut self, wish: &Register) -> Reply {
        let key = (wish.tenant.clone(), wish.extension.clone());
        let known = self.site(&wish.tenant).is_some_and(|site| {
            site.extensions
                .get(&wish.extension)
                .is_some_and(|spec| spec.contact.is_none())
        });
        if !known {
            return Reply::Refused(Refusal::NotFound(format!("extension {}", wish.extension)));
        }
        let now = self.meta.now;
        let mut row = self
            .registrations
            .get(&key)
            .cloned()
            .unwrap_or_else(|| RegistrationRow {
                tenant: wish.tenant.clone(),
                extension: wish.extension.clone(),
                bindings: Vec::new(),
            });
        let before = row.bindings.len();
        match row.register(wish, now) {
            Ok(()) => {}
            Err(RegisterRefusal::OutOfOrder) => return Reply::Refused(Refusal::OutOfOrder),
            Err(RegisterRefusal::TooMany) => return Reply::Refused(Refusal::TooManyContacts),
        }
        let bindings = row.bindings.clone();
        if (before == 0) != bindings.is_empty() {
            let kind = if bindings.is_empty() {
                "phone.left"
            } else {
                "phone.registered"
            };
            self.event(kind, &wish.extension, []);
        }
        if self.registrations.get(&key) != Some(&row) {
            self.store_registration(key, row);
        }
        Reply::Registered { now, bindings }
    }

    /// A binding may have ended.
    pub(super) fn registration_due(&mut self, key: &Of<Extension>) {
        let Some(mut row) = self.registrations.get(key).cloned() else {
            return;
        };
        let now = self.meta.now;
        let before = row.bindings.len();
        row.bindings.retain(|binding| binding.expires_at > now);
        if row.bindings.len() == before {
            // Refreshed meanwhile.
            if let Some(due) = row.next_expiry().filter(|_| self.has_one_deadline()) {
                self.at(due, Deadline::Registration(key.0.clone(), key.1.clone()));
            }
            return;
        }
        if row.bindings.is_empty() {
            self.event("phone.expired", &key.1, []);
        }
        self.store_registration(key.clone(), row);
    }

    /// True where a refresh sets no deadline of its own: phones behind a NAT refresh every half
    /// minute what they have for an hour.
    fn has_one_deadline(&self) -> bool {
        self.meta.feature_level >= ONE_DEADLINE_FROM
    }

    fn store_registration(&mut self, key: Of<Extension>, row: RegistrationRow) {
        // One deadline stands for the earliest end, or before it; it sets the next when it fires.
        let stands = self.registrations.get(&key);
        let stands = stands.and_then(RegistrationRow::next_expiry);
        let stands = stands.filter(|stands| *stands > self.meta.now && self.has_one_deadline());
        if let Some(due) = row.next_expiry()
            && stands.is_none_or(|stands| due < stands)
        {
            self.at(due, Deadline::Registration(key.0.clone(), key.1.clone()));
        }
        // A binding that ended unnoticed may be followed by one that has begun.
        let before = (
            self.registrations.contains_key(&key),
            self.is_reachable(&key),
        );
        let is_reachable = !row.bindings.is_empty();
        if is_reachable {
            self.registrations.insert(key.clone(), row);
        } else {
            self.registrations.remove(&key);
            self.forget_phone(&(key.0.clone(), PhoneName::Extension(key.1.clone())));
        }
        self.batch.registrations.insert(key.clone());
        if before != (is_reachable, is_reachable) {
            self.touch_seat(&key);
        }
    }
}
