//! Channels of trunks: seized and given back by commit, in both directions.
//!
//! A leg holds a channel from the commit that makes it to the commit of its end; a leg
//! of a call that was lost with its node holds it until its far end has answered our
//! BYE or CANCEL, or for [`limits::LEFTOVER_MS`]. Every attempt of a failover holds a
//! channel of its own, so that the far end never counts more than we do.

use std::collections::BTreeSet;

use super::command::Reply;
use super::event::Value;
use super::{Deadline, Of, State};
use crate::call::{CallRow, Cause, LegRole, LegRow, LegTarget, Stage, Want};
use crate::floor::leftover::LeftoverRow;
use crate::floor::trunk::{TrunkRow, in_order};
use crate::ids::{CallId, LegId, TrunkName};
use crate::limits;
use crate::route::beyond;
use crate::site::Site;

/// Why no further way out was taken.
pub(super) enum NoWay {
    /// Every trunk that could take the call is full or too busy.
    Full,
    /// Every destination has been tried, or there is none.
    Tried,
}

impl State {
    /// Channels of a trunk in use over the whole cluster.
    pub fn channels_in_use(&self, trunk: &Of<TrunkName>) -> usize {
        self.channels.get(trunk).map_or(0, BTreeSet::len)
    }

    /// Channels of a trunk that only leftovers of lost calls hold.
    pub fn channels_releasing(&self, trunk: &Of<TrunkName>) -> usize {
        let held = self.channels.get(trunk).into_iter().flatten();
        held.filter(|leg| self.leftovers.contains_key(leg)).count()
    }

    /// Number and name that the far end of this leg is shown as the caller's.
    pub fn shown_caller(&self, call: &CallRow, role: &LegRole) -> (String, String) {
        let dials =
            matches!(call.stage, Stage::Dialling { .. }) && !matches!(role, LegRole::Agent(_));
        // Who is called back sees the number he had dialled.
        let own = if dials { &call.to } else { &call.from.number };
        let own_name = if dials { "" } else { &call.from.display };
        let LegRole::Trunk(name, _) = role else {
            return (own.clone(), own_name.to_owned());
        };
        let site = self.site(&call.tenant);
        let rule = site
            .and_then(|site| site.trunks.get(name))
            .map(|spec| spec.caller_id.clone())
            .unwrap_or_default();
        let number = rule.shown(own);
        let display = if number == *own {
            own_name.to_owned()
        } else {
            // A name belongs to the number it came with.
            String::new()
        };
        (number, display)
    }

    /// How long the far end of this leg may say nothing at all, ms; `None` without limit.
    pub fn failover(&self, call: &CallRow, role: &LegRole) -> Option<u64> {
        let LegRole::Trunk(name, _) = role else {
            return None;
        };
        let spec = self.site(&call.tenant)?.trunks.get(name)?;
        Some(spec.failover_ms)
    }

    /// The trunk whose channel this leg holds while it lives.
    pub(super) fn trunk_of(call: &CallRow, leg: &LegRow) -> Option<Of<TrunkName>> {
        let name = match &leg.role {
            LegRole::Caller => call.from.trunk.clone()?,
            LegRole::Trunk(name, _) => name.clone(),
            LegRole::Extension(_) | LegRole::Agent(_) => return None,
        };
        Some((call.tenant.clone(), name))
    }

    /// Rows for the trunks of a site; counters of known ones stay.
    pub(super) fn site_trunks(&mut self, site: &Site) {
        for name in site.trunks.keys() {
            let key = (site.tenant.clone(), name.clone());
            if !self.trunks.contains_key(&key) {
                let row = TrunkRow::new(key.0.clone(), key.1.clone());
                self.trunks.insert(key.clone(), row);
                self.batch.trunks.insert(key);
            }
        }
    }

    /// True when the trunk has a channel free and may begin another call now.
    fn has_channel(&self, site: &Site, trunk: &Of<TrunkName>) -> bool {
        let Some(spec) = site.trunks.get(&trunk.1) else {
            return false;
        };
        let free = self.channels_in_use(trunk) < usize::try_from(spec.channels).unwrap_or(0);
        let row = self.trunks.get(trunk);
        free && row.is_none_or(|row| row.may_begin(spec.cps, self.meta.now))
    }

    fn seize(&mut self, site: &Site, trunk: &Of<TrunkName>, leg: LegId) {
        let now = self.meta.now;
        let held = self.channels.entry(trunk.clone()).or_default();
        if !held.insert(leg) {
            return;
        }
        let in_use = u32::try_from(held.len()).unwrap_or(u32::MAX);
        let cps = site.trunks.get(&trunk.1).map_or(0, |spec| spec.cps);
        let row = self
            .trunks
            .entry(trunk.clone())
            .or_insert_with(|| TrunkRow::new(trunk.0.clone(), trunk.1.clone()));
        row.begin(cps, now);
        if in_use > row.peak {
            row.peak = in_use;
            row.peak_at = Some(now);
        }
        self.batch.trunks.insert(trunk.clone());
    }

    fn count_refused(&mut self, trunk: &Of<TrunkName>) {
        if let Some(row) = self.trunks.get_mut(trunk) {
            row.refused += 1;
            self.batch.trunks.insert(trunk.clone());
        }
    }

    /// Gives a channel back, unless a leftover goes on holding it.
    pub(super) fn free_channel(&mut self, trunk: &Of<TrunkName>, leg: LegId) {
        if self.leftovers.contains_key(&leg) {
            return;
        }
        let Some(held) = self.channels.get_mut(trunk) else {
            return;
        };
        held.remove(&leg);
        if held.is_empty() {
            self.channels.remove(trunk);
        }
    }

    /// Says that a channel is given back although its far end has not said that it is
    /// free there.
    pub(super) fn doubt_channel(&mut self, trunk: &Of<TrunkName>, leg: LegId, call: CallId) {
        if let Some(row) = self.trunks.get_mut(trunk) {
            row.doubtful += 1;
            self.batch.trunks.insert(trunk.clone());
        }
        let fields = [
            ("leg", Value::from(leg.to_string())),
            ("call", call.to_string().into()),
        ];
        self.event("trunk.doubtful", &trunk.1, fields);
    }

    /// The owner never said that the legs of this call have ended.
    pub(super) fn doubt_live_channels(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let live = call.legs.iter().filter(|leg| leg.is_live());
        let held: Vec<_> = live
            .filter_map(|leg| Some((Self::trunk_of(call, leg)?, leg.id)))
            .collect();
        for (trunk, leg) in held {
            self.doubt_channel(&trunk, leg, id);
        }
    }

    /// Takes a channel for a call that comes in over a trunk.
    pub(super) fn seize_incoming(&mut self, id: CallId) -> Result<(), Cause> {
        let Some(call) = self.calls.get(&id) else {
            return Ok(());
        };
        let Some(trunk) = call.legs.first().and_then(|leg| Self::trunk_of(call, leg)) else {
            return Ok(());
        };
        let leg = call.legs.first().map(|leg| leg.id).unwrap_or_default();
        let Some(site) = self.site(&trunk.0).cloned() else {
            return Ok(());
        };
        if !site.trunks.contains_key(&trunk.1) {
            return Err(Cause::FORBIDDEN);
        }
        if !self.has_channel(&site, &trunk) {
            self.count_refused(&trunk);
            return Err(Cause::CONGESTION);
        }
        self.seize(&site, &trunk, leg);
        Ok(())
    }

    /// Sends a call out over the next trunk and destination that were not tried yet.
    pub(super) fn dial_out(&mut self, id: CallId) -> Result<(), NoWay> {
        let Some(call) = self.calls.get(&id) else {
            return Err(NoWay::Tried);
        };
        let Some(site) = self.site(&call.tenant).cloned() else {
            return Err(NoWay::Tried);
        };
        let Some((rule, number)) = beyond(&site, &self.dialled(&site, call)) else {
            return Err(NoWay::Tried);
        };
        let tenant = call.tenant.clone();
        let tried: BTreeSet<(TrunkName, String)> = call
            .legs
            .iter()
            .filter_map(|leg| match (&leg.role, &leg.target) {
                (LegRole::Trunk(name, _), Some(to)) => Some((name.clone(), to.uri.clone())),
                _ => None,
            })
            .collect();
        if tried.len() >= limits::TRUNK_ATTEMPTS {
            return Err(NoWay::Tried);
        }
        let mut full = Vec::new();
        for name in in_order(&rule.trunks, id.0) {
            let Some(spec) = site.trunks.get(name) else {
                continue;
            };
            let mut ways = in_order(&spec.destinations, id.0).into_iter().map(|host| {
                let host = host.trim_start_matches("sip:");
                format!("sip:{number}@{host}")
            });
            let Some(uri) = ways.find(|uri| !tried.contains(&(name.clone(), uri.clone()))) else {
                continue;
            };
            let trunk = (tenant.clone(), name.clone());
            if !self.has_channel(&site, &trunk) {
                full.push(trunk);
                continue;
            }
            let target = LegTarget { uri, flow: None };
            let leg = self.add_leg(id, LegRole::Trunk(name.clone(), number), target);
            self.seize(&site, &trunk, leg);
            self.touch_call(id);
            return Ok(());
        }
        for trunk in &full {
            self.count_refused(trunk);
        }
        Err(if full.is_empty() {
            NoWay::Tried
        } else {
            NoWay::Full
        })
    }

    /// True when a trunk's failure is one that another destination may not have.
    pub(super) fn is_worth_another(cause: Cause) -> bool {
        matches!(cause.status, 408 | 500..=599)
    }

    /// A destination has said nothing in time: the next one is tried, and this attempt is
    /// taken back. Without a next one it goes on.
    pub(super) fn leg_silent(&mut self, id: CallId, leg: LegId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let rings = matches!(call.stage, Stage::Ringing { .. } | Stage::Dialling { .. });
        let waits = call.leg(leg).is_some_and(|row| {
            matches!(row.role, LegRole::Trunk(..))
                && row.seen == crate::call::Seen::Fresh
                && row.want == Want::Alert
        });
        if rings && waits && self.dial_out(id).is_ok() {
            self.want_end(id, leg, Cause::from_status(408));
        }
    }

    /// What is left of a call whose node died: its live legs, for whoever holds their
    /// service address now.
    pub(super) fn leave_over(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id).cloned() else {
            return;
        };
        for leg in call.legs.iter().filter(|leg| leg.is_live()) {
            self.leave_leg_over(&call, leg);
        }
    }

    /// What is left of one leg.
    pub(super) fn leave_leg_over(&mut self, call: &CallRow, leg: &LegRow) {
        let until = self.meta.now.plus(limits::LEFTOVER_MS);
        let row = LeftoverRow {
            leg: leg.id,
            call: call.id,
            tenant: call.tenant.clone(),
            address: call.address,
            epoch: call.epoch,
            trunk: Self::trunk_of(call, leg).map(|(_, name)| name),
            from: self.shown_caller(call, &leg.role).0,
            target: leg.target.clone(),
            checkpoint: leg.checkpoint.clone(),
            until,
        };
        self.leftovers.insert(leg.id, row);
        self.batch.leftovers.insert(leg.id);
        self.at(until, Deadline::Leftover(leg.id));
    }

    /// The far ends of these leftovers have answered finally.
    pub(super) fn released(&mut self, legs: &[LegId]) -> Reply {
        for leg in legs {
            self.drop_leftover(*leg);
        }
        Reply::Done
    }

    /// A leftover's time is over: its channel is given back all the same.
    pub(super) fn leftover_due(&mut self, leg: LegId) {
        if let Some((trunk, call)) = self.drop_leftover(leg) {
            self.doubt_channel(&trunk, leg, call);
        }
    }

    fn drop_leftover(&mut self, leg: LegId) -> Option<(Of<TrunkName>, CallId)> {
        let row = self.leftovers.remove(&leg)?;
        self.batch.leftovers.insert(leg);
        let trunk = (row.tenant, row.trunk?);
        self.free_channel(&trunk, leg);
        self.try_trunk_again(row.call);
        Some((trunk, row.call))
    }

    /// Says what is broken about channels: those held are those of live legs and
    /// leftovers, no more and no fewer.
    pub(super) fn check_channels(&self, broken: &mut Vec<String>) {
        let mut held: std::collections::BTreeMap<Of<TrunkName>, BTreeSet<LegId>> =
            std::collections::BTreeMap::new();
        for call in self.calls.values() {
            for leg in call.legs.iter().filter(|leg| leg.is_live()) {
                if let Some(trunk) = Self::trunk_of(call, leg) {
                    held.entry(trunk).or_default().insert(leg.id);
                }
            }
        }
        for row in self.leftovers.values() {
            if let Some(name) = &row.trunk {
                let trunk = (row.tenant.clone(), name.clone());
                held.entry(trunk).or_default().insert(row.leg);
            }
        }
        if held != self.channels {
            broken.push(String::from("channels held differ from live legs"));
        }
        for (trunk, legs) in &self.channels {
            let peak = self.trunks.get(trunk).map_or(0, |row| row.peak);
            if usize::try_from(peak).unwrap_or(0) < legs.len() {
                broken.push(format!("trunk {}: more channels than its peak", trunk.1));
            }
        }
    }

    /// Rebuilds the channels a call's legs hold.
    pub(super) fn index_channels(&mut self) {
        let calls = self.calls.values();
        let live = calls.flat_map(|call| {
            let legs = call.legs.iter().filter(|leg| leg.is_live());
            legs.filter_map(|leg| Some((Self::trunk_of(call, leg)?, leg.id)))
        });
        let left = self.leftovers.values().filter_map(|row| {
            let trunk = (row.tenant.clone(), row.trunk.clone()?);
            Some((trunk, row.leg))
        });
        let all: Vec<_> = live.chain(left).collect();
        for (trunk, leg) in all {
            self.channels.entry(trunk).or_default().insert(leg);
        }
    }
}
