//! Nodes, service addresses and sites.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::command::{Refusal, Reply, SiteApply};
use super::event::Value;
use super::{Deadline, SiteRow, State, Wake};
use crate::call::{Cause, Disposition};
use crate::floor::address::{AddressRow, NodeRow, imbalance, next_holder};
use crate::floor::agent::{Activity, AgentRow};
use crate::floor::figure::{Subject, Tally};
use crate::ids::{AgentId, CallId, NodeId, TenantId};
use crate::limits;
use crate::site::{AgentSpec, Site, TakeoverMode};

impl State {
    /// A life of a node begins; what an older life owned is over.
    pub(super) fn node_up(
        &mut self,
        id: NodeId,
        incarnation: u64,
        address: IpAddr,
        (version, level): (String, u32),
    ) -> Reply {
        let in_force = self.meta.feature_level;
        if level < in_force {
            let why = format!("{id} reads feature level {level}, {in_force} is in force");
            return Reply::Refused(Refusal::Conflict(why));
        }
        match self.nodes.get(&id) {
            Some(known) if known.diverged.is_some() => {
                let why = format!("the state of {id} was found wrong; remove it and join anew");
                return Reply::Refused(Refusal::Conflict(why));
            }
            Some(known) if known.incarnation > incarnation => {
                return Reply::Refused(Refusal::Stale);
            }
            Some(known) if known.incarnation == incarnation && known.up => return Reply::Done,
            Some(known) if known.incarnation == incarnation => {
                // Declared down while it lived on: it may come back in the same life.
            }
            // What an older life owned goes on in this one.
            Some(_) | None => {}
        }
        let mut due = self.deadlines.iter();
        if self.nodes.is_empty() && !due.any(|(_, due)| *due == Deadline::Events) {
            self.at(
                self.meta.now.plus(limits::EVENTS_PRUNE_EVERY_MS),
                Deadline::Events,
            );
        }
        let known = self.nodes.get(&id);
        let draining = known.is_some_and(|known| known.draining);
        let is_new_life = known.is_some_and(|known| known.incarnation != incarnation);
        let since = self.meta.now;
        let row = NodeRow {
            id,
            incarnation,
            address,
            version,
            level,
            up: true,
            draining,
            since,
            diverged: None,
        };
        self.nodes.insert(id, row);
        self.batch.nodes.insert(id);
        self.event("node.up", id, [("address", address.to_string().into())]);
        // Its machine may have got addresses meanwhile: it tries them anew.
        for row in self.addresses.values_mut() {
            if row.barred.remove(&id) {
                self.batch.addresses.insert(row.address);
            }
        }
        // What it held in a life nobody declared over it holds anew: whatever the older life
        // has still said of these addresses is then out of date.
        let held: Vec<IpAddr> = self
            .addresses
            .values()
            .filter(|row| row.holder == Some(id))
            .map(|row| row.address)
            .collect();
        for address in held {
            self.move_address(address, id);
        }
        self.place_addresses();
        if is_new_life {
            self.move_calls(id);
        }
        self.batch.wakes.push(Wake::Cluster);
        Reply::Done
    }

    /// The feature level every node reads, dead ones included: they may come back.
    pub fn level_read(&self) -> Option<u32> {
        self.nodes.values().map(|node| node.level).min()
    }

    /// Puts a feature level in force that every node reads.
    pub(super) fn raise(&mut self, level: u32) -> Reply {
        if level <= self.meta.feature_level {
            return Reply::Done;
        }
        if self.level_read().is_none_or(|read| read < level) {
            let why = format!("a node does not read feature level {level}");
            return Reply::Refused(Refusal::Conflict(why));
        }
        self.meta.feature_level = level;
        self.event("cluster.raised", "", [("level", u64::from(level).into())]);
        self.batch.wakes.push(Wake::Cluster);
        Reply::Done
    }

    /// A life of a node is over: its addresses move, and its calls with them.
    pub(super) fn node_down(&mut self, id: NodeId, incarnation: u64) -> Reply {
        let now = self.meta.now;
        let Some(node) = self.nodes.get_mut(&id) else {
            return Reply::Refused(Refusal::NotFound(id.to_string()));
        };
        if node.incarnation != incarnation {
            return Reply::Refused(Refusal::Stale);
        }
        if !node.up {
            return Reply::Done;
        }
        node.up = false;
        node.since = now;
        self.batch.nodes.insert(id);
        self.event("node.down", id, []);
        for address in self.addresses.values_mut() {
            if address.holder == Some(id) {
                address.holder = None;
                self.batch.addresses.insert(address.address);
            }
        }
        // First those that leave their addresses, so that they come to what survivors hold
        // for sure, not to what may turn out to be out of their reach.
        self.move_calls_elsewhere(id, None);
        self.place_addresses();
        self.move_calls(id);
        self.batch.wakes.push(Wake::Cluster);
        Reply::Done
    }

    /// A backup has become a cluster of its own: the nodes it knew belong to another life,
    /// and nobody can go on with their calls. Each leaves its record; the far ends are told
    /// nothing, because they may be talking in the cluster the backup was taken of.
    pub(super) fn refounded(&mut self) -> Reply {
        for address in self.addresses.values_mut() {
            address.holder = None;
            address.barred.clear();
            self.batch.addresses.insert(address.address);
        }
        for id in std::mem::take(&mut self.nodes).into_keys() {
            self.batch.nodes.insert(id);
        }
        let calls: Vec<CallId> = self.calls.keys().copied().collect();
        for call in calls {
            self.close_call(call, (Disposition::NodeLost, Cause::NODE_LOST));
        }
        let legs: Vec<_> = self.leftovers.keys().copied().collect();
        self.released(&legs);
        self.compare = super::compare::CompareRow::default();
        self.batch.compare = true;
        self.event("cluster.refounded", "", []);
        self.batch.wakes.push(Wake::Cluster);
        Reply::Done
    }

    /// A service address is not one of the machine of the node that was to hold it: it goes
    /// to the next, or has no holder until a node comes up that may have it.
    pub(super) fn address_barred(
        &mut self,
        id: NodeId,
        incarnation: u64,
        address: IpAddr,
    ) -> Reply {
        let current = self.nodes.get(&id);
        if !current.is_some_and(|node| node.up && node.incarnation == incarnation) {
            return Reply::Refused(Refusal::Stale);
        }
        let Some(row) = self.addresses.get_mut(&address) else {
            return Reply::Refused(Refusal::NotFound(address.to_string()));
        };
        if !row.barred.insert(id) {
            return Reply::Done;
        }
        let held = row.holder == Some(id);
        if held {
            row.holder = None;
        }
        self.batch.addresses.insert(address);
        self.event("address.barred", address, [("node", id.to_string().into())]);
        if held {
            self.move_calls_elsewhere(id, Some(address));
            self.place_addresses();
            self.move_calls(id);
        }
        self.batch.wakes.push(Wake::Cluster);
        Reply::Done
    }

    /// Starts or stops draining a node.
    pub(super) fn drain(&mut self, id: NodeId, on: bool) -> Result<(), Refusal> {
        let node = self.nodes.get_mut(&id);
        let node = node.ok_or_else(|| Refusal::NotFound(id.to_string()))?;
        node.draining = on;
        self.batch.nodes.insert(id);
        self.event("node.draining", id, [("draining", u64::from(on).into())]);
        self.batch.wakes.push(Wake::Cluster);
        Ok(())
    }

    /// Forgets a node that is down.
    pub(super) fn forget(&mut self, id: NodeId) -> Result<(), Refusal> {
        match self.nodes.get(&id) {
            None => return Err(Refusal::NotFound(id.to_string())),
            Some(node) if node.up => {
                return Err(Refusal::Conflict(format!("{id} is up")));
            }
            Some(_) => {}
        }
        self.nodes.remove(&id);
        self.batch.nodes.insert(id);
        self.event("node.removed", id, []);
        self.batch.wakes.push(Wake::Cluster);
        Ok(())
    }

    /// Gives every address without a holder to a node that is up.
    fn place_addresses(&mut self) {
        let mut without: Vec<(u32, IpAddr)> = self
            .addresses
            .values()
            .filter(|row| row.holder.is_none())
            .map(|row| (row.place, row.address))
            .collect();
        without.sort_unstable();
        for (_, address) in without {
            if let Some(holder) = self.next_holder(address) {
                self.move_address(address, holder);
            }
        }
    }

    /// Who holds an address next; `None` when no node is up that may.
    pub(super) fn next_holder(&self, address: IpAddr) -> Option<NodeId> {
        let row = self.addresses.get(&address)?;
        next_holder(&self.nodes, &self.addresses, row)
    }

    pub(super) fn move_address(&mut self, address: IpAddr, holder: NodeId) {
        let Some(row) = self.addresses.get_mut(&address) else {
            return;
        };
        row.holder = Some(holder);
        row.epoch += 1;
        let epoch = u64::from(row.epoch);
        self.batch.addresses.insert(address);
        let fields = [("node", holder.to_string().into()), ("epoch", epoch.into())];
        self.event("address.moved", address, fields);
        self.batch.wakes.push(Wake::Cluster);
    }

    /// Moves addresses without live calls from the node with most to the one with
    /// fewest, so that a node that came back carries its share again, and those of one that
    /// is draining with their calls.
    pub(super) fn rebalance(&mut self) {
        self.leave_draining();
        // Each move lessens the difference, so that as many moves as there are addresses
        // always suffice.
        for _ in 0..self.addresses.len() {
            if !self.rebalance_one() {
                return;
            }
        }
    }

    fn rebalance_one(&mut self) -> bool {
        let Some((from, to)) = imbalance(&self.nodes, &self.addresses) else {
            return false;
        };
        let in_use: BTreeSet<IpAddr> = self.calls_of(from).map(|call| call.address).collect();
        let idle = self
            .addresses
            .values()
            .filter(|row| row.holder == Some(from) && !row.barred.contains(&to))
            .filter(|row| !in_use.contains(&row.address))
            .min_by_key(|row| {
                // A node prefers the places it had at the start.
                let count = u32::try_from(self.nodes.len()).unwrap_or(1).max(1);
                let home = self
                    .nodes
                    .keys()
                    .nth(usize::try_from(row.place % count).unwrap_or(0));
                (home != Some(&to), row.place)
            })
            .map(|row| row.address);
        if let Some(address) = idle {
            self.move_address(address, to);
        }
        idle.is_some()
    }

    /// Puts a site in force. Live calls go on; counters stay.
    pub(super) fn site_apply(&mut self, apply: SiteApply) -> Reply {
        let tenant = apply.site.tenant.clone();
        let current = self.sites.get(&tenant).map_or(0, |row| row.version);
        if apply.base != current {
            return Reply::Refused(Refusal::Stale);
        }
        let version = current + 1;
        let site = Arc::clone(&apply.site);
        let row = SiteRow {
            version,
            applied_at: self.meta.now,
            site: apply.site,
            text: apply.text,
        };
        let before = self.sites.get(&tenant).map(|row| Arc::clone(&row.site));
        let gone = before.iter().flat_map(|site| site.extensions.keys());
        for extension in gone.filter(|one| !site.extensions.contains_key(one)) {
            // Who comes back under this number later does not come back with its secret.
            let key = (tenant.clone(), extension.clone());
            self.batch.secrets.push((key, None));
        }
        for (extension, secret) in apply.secrets {
            self.batch
                .secrets
                .push(((tenant.clone(), extension), Some(secret)));
        }
        self.sites.insert(tenant.clone(), Arc::new(row));
        self.batch.sites.insert(tenant.clone());
        self.site_hours(&tenant, &site, apply.times);
        self.site_queues(&tenant, &site);
        self.site_addresses(&site);
        self.site_registrations(&tenant, &site);
        self.site_agents(&tenant, &site);
        self.site_trunks(&site);
        self.site_phones(&site);
        self.site_callbacks(&site);
        for queue in site.queues.keys() {
            let key = (tenant.clone(), Subject::Queue(queue.clone()));
            if !self.figures.contains_key(&key) {
                self.figures.insert(key.clone(), Tally::default());
                self.batch.figures.insert(key);
            }
        }
        self.event("site.applied", &tenant, [("version", Value::from(version))]);
        self.batch.wakes.extend([Wake::Site(tenant), Wake::Cluster]);
        self.site_dispatch();
        Reply::Site { version }
    }

    /// Ends the calls that wait in queues that have left the site: nobody would ever be
    /// offered them.
    fn site_queues(&mut self, tenant: &TenantId, site: &Site) {
        let stranded: Vec<CallId> = self
            .waiting
            .iter()
            .filter(|((of, queue), _)| of == tenant && !site.queues.contains_key(queue))
            .flat_map(|(_, places)| places.values().copied())
            .collect();
        for call in stranded {
            self.clear_call(call, (Disposition::Rejected, Cause::REMOVED));
        }
    }

    fn site_addresses(&mut self, site: &Site) {
        let in_use: BTreeSet<IpAddr> = self.calls.values().map(|call| call.address).collect();
        // Addresses belong to the cluster: another tenant's site may name them too.
        let named: BTreeSet<IpAddr> = self
            .sites
            .values()
            .flat_map(|row| &row.site.service_addresses)
            .copied()
            .collect();
        let gone: Vec<IpAddr> = self
            .addresses
            .keys()
            .filter(|known| !named.contains(known) && !in_use.contains(known))
            .copied()
            .collect();
        for address in gone {
            self.addresses.remove(&address);
            self.batch.addresses.insert(address);
        }
        for (place, address) in (0u32..).zip(&site.service_addresses) {
            let row = self.addresses.entry(*address).or_insert(AddressRow {
                address: *address,
                holder: None,
                epoch: 0,
                place,
                barred: BTreeSet::new(),
            });
            row.place = place;
            if site.takeover == TakeoverMode::Address {
                // Such addresses follow their holder, whatever was found before.
                row.barred.clear();
            }
            self.batch.addresses.insert(*address);
        }
        self.place_addresses();
    }

    fn site_agents(&mut self, tenant: &TenantId, site: &Site) {
        let known: Vec<AgentId> = self
            .agents
            .keys()
            .filter(|(of, id)| of == tenant && !site.agents.contains_key(id))
            .map(|(_, id)| id.clone())
            .collect();
        for id in known {
            let key = (tenant.clone(), id);
            // An agent in a call stays until it ends and leaves with the next change.
            let idle = self.agents.get(&key).is_some_and(|agent| {
                matches!(agent.activity, Activity::Idle | Activity::WrapUp(_))
            });
            if idle {
                self.count_time(&key);
                self.unseat(&key);
                self.agents.remove(&key);
                self.batch.agents.insert(key);
            }
        }
        for (id, spec) in &site.agents {
            self.site_agent(tenant, id, spec);
        }
        // Whose phone has gone or come with the change shows another state now.
        let agents: Vec<_> = self
            .agents
            .keys()
            .filter(|key| key.0 == *tenant)
            .cloned()
            .collect();
        agents.iter().for_each(|key| self.touch_agent(key));
    }

    fn site_agent(&mut self, tenant: &TenantId, id: &AgentId, spec: &AgentSpec) {
        let key = (tenant.clone(), id.clone());
        let now = self.meta.now;
        let is_new = !self.agents.contains_key(&key);
        if !is_new && self.agents.get(&key).is_some_and(|agent| agent.signed_in) {
            // Signed in: the seat chosen at sign-in stays until sign-out.
            return;
        }
        self.unseat(&key);
        let agent = self
            .agents
            .entry(key.clone())
            .or_insert_with(|| AgentRow::new(tenant.clone(), id.clone(), now));
        agent.extension.clone_from(&spec.extension);
        if is_new {
            agent.signed_in = spec.signed_in;
        }
        self.seat(&key);
        self.batch.agents.insert(key);
    }

    fn site_registrations(&mut self, tenant: &TenantId, site: &Site) {
        let gone: Vec<_> = self
            .registrations
            .keys()
            .filter(|(of, extension)| of == tenant && !site.extensions.contains_key(extension))
            .cloned()
            .collect();
        for key in gone {
            self.registrations.remove(&key);
            self.batch.registrations.insert(key);
        }
    }
}
