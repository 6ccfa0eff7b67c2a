//! Phones that stop answering and answer again.

use super::command::{PhoneSeen, Refusal, Reply};
use super::event::Value;
use super::{Of, State};
use crate::call::Cause;
use crate::floor::agent::AgentRow;
use crate::floor::phone::{FailingRow, PhoneName};
use crate::ids::{AgentId, Extension};
use crate::site::Site;

impl State {
    /// True while this phone is known not to answer.
    pub fn is_failing(&self, phone: &Of<PhoneName>) -> bool {
        self.failing.contains_key(phone)
    }

    /// True while the phone of this extension is known not to answer.
    pub(super) fn is_seat_failing(&self, seat: &Of<Extension>) -> bool {
        let phone = PhoneName::Extension(seat.1.clone());
        self.is_failing(&(seat.0.clone(), phone))
    }

    /// Why an agent has no phone, in words.
    pub fn no_phone_reason(&self, agent: &AgentRow) -> String {
        let own = self.phones_of(agent);
        let failing = own.iter().find_map(|phone| self.failing.get(phone));
        match failing {
            Some(row) => row.why(),
            None if agent.unreachable_until.is_some() => String::from("phone failed"),
            None => String::from("not registered"),
        }
    }

    /// The phones an agent works with, best first.
    fn phones_of(&self, agent: &AgentRow) -> Vec<Of<PhoneName>> {
        let seat = agent.extension.clone().map(PhoneName::Extension);
        let own = PhoneName::Agent(agent.id.clone());
        let phones = seat.into_iter().chain([own]);
        phones.map(|phone| (agent.tenant.clone(), phone)).collect()
    }

    /// A phone was seen to answer again, or to answer no more.
    pub(super) fn phone_seen(&mut self, seen: PhoneSeen) -> Reply {
        let key = (seen.tenant, seen.phone);
        let site = self.site(&key.0);
        if !site.is_some_and(|site| is_checked(site, &key.1)) {
            return Reply::Refused(Refusal::NotFound(key.1.to_string()));
        }
        self.note_phone(key, seen.failed);
        Reply::Done
    }

    fn note_phone(&mut self, key: Of<PhoneName>, failed: Option<u16>) {
        let (known, now) = (self.failing.contains_key(&key), self.meta.now);
        match failed {
            Some(status) if !known => {
                let row = FailingRow {
                    tenant: key.0.clone(),
                    phone: key.1.clone(),
                    status,
                    since: now,
                };
                let fields = [("reason", Value::from(row.why()))];
                self.event("phone.failed", &key.1, fields);
                self.failing.insert(key.clone(), row);
            }
            None if known => {
                self.failing.remove(&key);
                self.event("phone.answers", &key.1, []);
            }
            _ => return,
        }
        self.touch_phone(&key);
    }

    fn touch_phone(&mut self, key: &Of<PhoneName>) {
        self.batch.failing.insert(key.clone());
        match &key.1 {
            PhoneName::Extension(extension) => {
                self.touch_seat(&(key.0.clone(), extension.clone()));
            }
            PhoneName::Agent(agent) => self.touch_agent(&(key.0.clone(), agent.clone())),
        }
    }

    /// Forgets that a phone fails, because it is gone.
    pub(super) fn forget_phone(&mut self, key: &Of<PhoneName>) {
        if self.failing.remove(key).is_some() {
            self.touch_phone(key);
        }
    }

    /// The phone of an agent failed an offer: one that is checked has no phone until it
    /// answers again, any other is left in peace for a while.
    pub(super) fn phone_failed(&mut self, key: &Of<AgentId>, cause: Cause) {
        // Our own want of ports says nothing about the phone.
        let says = matches!(cause.status, 408 | 503) && cause != Cause::CONGESTION;
        let checked = self
            .agents
            .get(key)
            .zip(self.site(&key.0))
            .and_then(|(row, site)| {
                let mut own = self.phones_of(row).into_iter();
                own.find(|phone| is_checked(site, &phone.1))
            });
        match checked.filter(|_| says) {
            Some(phone) => self.note_phone(phone, Some(cause.status)),
            None => self.rest_phone(key),
        }
    }

    /// Forgets phones that a changed site checks no more.
    pub(super) fn site_phones(&mut self, site: &Site) {
        let gone: Vec<Of<PhoneName>> = self
            .failing
            .keys()
            .filter(|(of, phone)| *of == site.tenant && !is_checked(site, phone))
            .cloned()
            .collect();
        for key in gone {
            self.forget_phone(&key);
        }
    }
}

/// True when the site wants this phone checked.
fn is_checked(site: &Site, phone: &PhoneName) -> bool {
    match phone {
        PhoneName::Extension(extension) => site
            .extensions
            .get(extension)
            .is_some_and(|spec| spec.qualify_s != Some(0)),
        PhoneName::Agent(agent) => site
            .agents
            .get(agent)
            .is_some_and(|spec| spec.qualify_s > 0 && spec.contact.is_some()),
    }
}
