//! Opening hours: the times worked out for them, and what an operator says instead.
//!
//! Invariants: each of the hours of a site in force has a row, and no others have. Before a
//! command is carried out, each row notes whether its hours are open at that time.

use super::command::{Refusal, Reply};
use super::event::Value;
use super::{Deadline, Of, State};
use crate::call::{Cause, Disposition, Stage, Want};
use crate::hours::{HoursRow, OpenTimes, Override};
use crate::ids::{CallId, HoursName, TenantId};
use crate::ivr::speech::{Announcement, Language};
use crate::limits;
use crate::site::Site;
use crate::time::TimeMs;

impl State {
    /// True when these hours of a tenant are open.
    pub fn is_open(&self, tenant: &TenantId, hours: &HoursName) -> bool {
        let row = self.hours.get(&(tenant.clone(), hours.clone()));
        row.is_some_and(|row| row.is_open(self.meta.now))
    }

    /// The hours of a site put in force. What was said instead stays.
    pub(super) fn site_hours(&mut self, tenant: &TenantId, site: &Site, times: Vec<OpenTimes>) {
        let gone: Vec<Of<HoursName>> = self
            .hours
            .keys()
            .filter(|(of, name)| of == tenant && !site.hours.contains_key(name))
            .cloned()
            .collect();
        for key in gone {
            self.hours.remove(&key);
            self.batch.hours.insert(key);
        }
        for name in site.hours.keys() {
            let key = (tenant.clone(), name.clone());
            let before = self.hours.get(&key);
            let spoken = before.and_then(|row| row.spoken);
            let noted = before.is_some_and(|row| row.noted);
            let unknown = || OpenTimes {
                name: name.clone(),
                until: TimeMs(0),
                open: Vec::new(),
            };
            let found = times.iter().find(|times| times.name == *name).cloned();
            let row = HoursRow {
                tenant: tenant.clone(),
                times: found.unwrap_or_else(unknown),
                spoken,
                noted,
                look_at: TimeMs(0),
            };
            self.hours.insert(key.clone(), row);
            self.batch.hours.insert(key);
        }
        self.index_hours();
        self.note_hours();
    }

    /// When the first of the hours are to be looked at.
    pub(super) fn index_hours(&mut self) {
        self.hours_due = self.hours.values().map(|row| row.look_at).min();
    }

    /// Notes which hours have opened or closed, when that can be.
    pub(super) fn note_hours(&mut self) {
        let now = self.meta.now;
        if self.hours_due.is_none_or(|due| due > now) {
            return;
        }
        let due = self.hours.iter().filter(|(_, row)| row.look_at <= now);
        let due: Vec<Of<HoursName>> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(row) = self.hours.get_mut(&key) else {
                continue;
            };
            let open = row.is_open(now);
            let turned = open != row.noted;
            row.noted = open;
            row.look_at = row.next_look(now);
            let look_at = row.look_at;
            self.batch.hours.insert(key.clone());
            self.at(look_at, Deadline::Hours(key.0.clone(), key.1.clone()));
            if turned {
                self.turn_callbacks(&key);
            }
        }
        self.index_hours();
    }

    /// Hours may be open or closed now for another reason than the time.
    fn look_at_hours(&mut self, key: &Of<HoursName>) {
        if let Some(row) = self.hours.get_mut(key) {
            row.look_at = self.meta.now;
        }
        self.index_hours();
        self.note_hours();
    }

    /// Takes in times that reach further. Times worked out from another site, or reaching
    /// less far than what is known, change nothing.
    pub(super) fn hours_set(
        &mut self,
        tenant: &TenantId,
        site_version: u64,
        times: Vec<OpenTimes>,
    ) -> Reply {
        let current = self.sites.get(tenant).map(|row| row.version);
        if current != Some(site_version) {
            return Reply::Refused(Refusal::Stale);
        }
        for times in times {
            let key = (tenant.clone(), times.name.clone());
            if let Some(row) = self.hours.get_mut(&key)
                && row.times.until < times.until
            {
                row.times = times;
                self.look_at_hours(&key);
            }
        }
        Reply::Done
    }

    /// Opens or closes hours until a given time, or lets the times hold again.
    pub(super) fn override_hours(
        &mut self,
        tenant: &TenantId,
        hours: HoursName,
        open: Option<bool>,
        until: TimeMs,
    ) -> Result<(), Refusal> {
        let now = self.meta.now;
        let key = (tenant.clone(), hours);
        let Some(row) = self.hours.get_mut(&key) else {
            return Err(Refusal::NotFound(format!("hours {}", key.1)));
        };
        if open.is_some() && until <= now {
            let why = String::from("the time until which it was to hold has passed");
            return Err(Refusal::Conflict(why));
        }
        if open.is_some() && until > now.plus(limits::OVERRIDE_MAX_MS) {
            let why = String::from("hours are opened or closed for a year at most");
            return Err(Refusal::Conflict(why));
        }
        row.spoken = open.map(|open| Override { open, until });
        let word = match open {
            Some(true) => "open",
            Some(false) => "closed",
            None => "as_scheduled",
        };
        let end = open.map(|_| until.rfc3339());
        let fields = [("state", Value::from(word)), ("until", Value::from(end))];
        self.event("hours.override", &key.1, fields);
        self.look_at_hours(&key);
        Ok(())
    }

    /// A caller is answered, told that nobody is there, and the call ends.
    pub(super) fn tell_closed(&mut self, id: CallId, language: Language) {
        let until = self.meta.now.plus(limits::TELLING_MS);
        let ending = (Disposition::Rejected, Cause::CLOSED);
        if let Some(call) = self.calls.get_mut(&id) {
            call.stage = Stage::Telling {
                language,
                what: Announcement::Closed,
                ending,
                until,
            };
            if let Some(leg) = call.legs.first_mut() {
                leg.want = Want::Answer;
            }
        }
        self.at(until, Deadline::Call(id));
        self.touch_call(id);
        self.event("call.closed", id, []);
    }
}
