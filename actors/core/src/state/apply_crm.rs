//! Customers: who calls, what became of it, changes and imports.
//!
//! Rows of customers are read and written at once, not at the end of the entry: what an
//! earlier command of the same entry wrote is seen by the next.

use super::State;
use super::command::{CallArrived, CrmChange, ImportBatch, Refusal, Reply};
use super::event::Value;
use super::store::{Writer, decode_row};
use crate::call::CallRow;
use crate::crm::{Customer, ImportRow, Interaction, Profile, keys};
use crate::ids::{CallId, CustomerId, InteractionId, TenantId};
use crate::limits;
use crate::number::E164;
use crate::ports::{Rows, RowsRead, Table};
use crate::site::Site;

/// Whom a call is with.
pub(super) struct Party {
    customer: Customer,
    /// Others who have the same number.
    others: Vec<CustomerId>,
}

/// What one row of an import did.
enum Taken {
    Created,
    Updated,
    Unchanged,
}

/// The customer with this id.
pub fn read_customer(
    rows: &(impl RowsRead + ?Sized),
    tenant: &TenantId,
    id: &CustomerId,
) -> Option<Customer> {
    decode_row(&rows.get(Table::Customer, &keys::customer(tenant, id))?)
}

/// The customers with this number, by id, at most [`limits::CUSTOMERS_PER_NUMBER`].
pub fn customers_with(
    rows: &(impl RowsRead + ?Sized),
    tenant: &TenantId,
    number: E164,
) -> Vec<Customer> {
    let prefix = keys::number(tenant, number);
    let page = rows.scan(
        Table::CustomerByNumber,
        &prefix,
        None,
        limits::CUSTOMERS_PER_NUMBER,
    );
    let ids = page
        .iter()
        .filter_map(|(key, _)| keys::id_after(key, prefix.len()));
    ids.filter_map(|id| read_customer(rows, tenant, &id))
        .collect()
}

impl State {
    /// Finds the customer a call is with: of several who share the number the one most
    /// recently in contact, else the first by id.
    pub(super) fn find_party(&self, rows: &dyn Rows, arrived: &CallArrived) -> Option<Party> {
        let number = arrived.from.e164.or(arrived.called)?;
        let mut found = customers_with(rows, &arrived.tenant, number);
        // Stable: those never in contact stay in the order of their ids.
        found.sort_by_key(|one| std::cmp::Reverse(one.last_contact_at));
        let mut found = found.into_iter();
        let customer = found.next()?;
        let others = found.map(|other| other.profile.id).collect();
        Some(Party { customer, others })
    }

    /// Notes on a new call whom it is with, and says so.
    pub(super) fn introduce(&mut self, call: &mut CallRow, site: &Site, party: Party) {
        attach(call, site, &party.customer);
        let others: Vec<&str> = party.others.iter().map(CustomerId::as_str).collect();
        let others = (!others.is_empty()).then(|| others.join(","));
        let preferred = call.preferred.as_ref().map(ToString::to_string);
        let fields = [
            ("customer", Value::from(party.customer.profile.id.as_str())),
            ("tier", party.customer.profile.tier.into()),
            ("preferred", preferred.into()),
            ("others", others.into()),
        ];
        self.event("call.customer", call.id, fields);
    }

    /// Puts the calls that ended with this command on the timelines of their customers:
    /// record, contact and figures are of one commit.
    pub(super) fn record_contacts(&mut self, rows: &mut dyn Rows) {
        while let Some(cdr) = self.batch.cdrs.get(self.batch.recorded) {
            self.batch.recorded += 1;
            if cdr.customer.is_none() {
                continue;
            }
            let cdr = cdr.clone();
            let id = InteractionId(self.mint());
            let Some(contact) = Interaction::of_call(id, &cdr) else {
                continue;
            };
            // Somebody removed the customer while the call was live: nothing to hang it on.
            let Some(mut customer) = read_customer(rows, &contact.tenant, &contact.customer) else {
                continue;
            };
            customer.last_contact_at = Some(self.meta.now);
            if contact.agent.is_some() {
                customer.last_agent.clone_from(&contact.agent);
            }
            let (tenant, who) = (&contact.tenant, &contact.customer);
            let key = keys::interaction(tenant, who, contact.at, id);
            let mut writer = self.writer(rows);
            writer.put(Table::Interaction, &key, &contact);
            writer.put(Table::Customer, &keys::customer(tenant, who), &customer);
            let fields = [
                ("interaction", Value::from(id.to_string())),
                ("call", cdr.call.to_string().into()),
                ("disposition", cdr.disposition.as_str().into()),
            ];
            self.event("customer.contact", who, fields);
        }
    }

    /// Carries out a change of customers and reports its outcome.
    pub(super) fn crm(
        &mut self,
        rows: &mut dyn Rows,
        id: String,
        tenant: &TenantId,
        change: CrmChange,
    ) -> Reply {
        let result = match change {
            CrmChange::Put { profile, expected } => {
                self.put_customer(rows, tenant, profile, expected)
            }
            CrmChange::Delete { customer } => self.delete_customer(rows, tenant, &customer),
            CrmChange::Import(batch) => self.import(rows, tenant, batch),
            CrmChange::Attach { call, customer } => {
                self.attach_customer(rows, tenant, call, customer)
            }
        };
        if !id.is_empty() && result != Ok(Reply::More) {
            let (word, error) = match &result {
                Ok(_) => ("done", None),
                Err(refusal) => ("refused", Some(refusal.to_string())),
            };
            let fields = [("outcome", word.into()), ("error", Value::from(error))];
            self.event("command.outcome", id, fields);
        }
        result.unwrap_or_else(Reply::Refused)
    }

    fn put_customer(
        &mut self,
        rows: &mut dyn Rows,
        tenant: &TenantId,
        mut profile: Profile,
        expected: Option<u64>,
    ) -> Result<Reply, Refusal> {
        profile.check().map_err(Refusal::Conflict)?;
        if self.site(tenant).is_none() {
            return Err(Refusal::NotFound(format!("tenant {tenant}")));
        }
        if profile.id.as_str().is_empty() {
            profile.id = CustomerId::minted(self.mint());
        }
        let id = profile.id.clone();
        let known = read_customer(rows, tenant, &id);
        let version = known.as_ref().map_or(0, |known| known.version);
        if expected.is_some_and(|expected| expected != version) {
            let what = match version {
                0 => format!("customer {id} does not exist"),
                _ => format!("customer {id} is at version {version}"),
            };
            return Err(Refusal::Conflict(what));
        }
        let (kind, version) = match self.write_profile(rows, tenant, known.as_ref(), profile) {
            Taken::Created => ("customer.created", 1),
            Taken::Updated => ("customer.changed", version + 1),
            Taken::Unchanged => return Ok(Reply::Customer { id, version }),
        };
        self.event(kind, &id, [("version", Value::from(version))]);
        Ok(Reply::Customer { id, version })
    }

    /// Removes the timeline, some of it at a time, and with its rest the customer.
    fn delete_customer(
        &mut self,
        rows: &mut dyn Rows,
        tenant: &TenantId,
        id: &CustomerId,
    ) -> Result<Reply, Refusal> {
        let known = read_customer(rows, tenant, id);
        let known = known.ok_or_else(|| Refusal::NotFound(format!("customer {id}")))?;
        let timeline = keys::timeline(tenant, id);
        let most = limits::INTERACTIONS_REMOVED;
        let contacts = rows.scan(Table::Interaction, &timeline, None, most);
        let mut writer = self.writer(rows);
        for (key, _) in &contacts {
            writer.delete(Table::Interaction, key);
        }
        if contacts.len() == most {
            return Ok(Reply::More);
        }
        writer.delete(Table::Customer, &keys::customer(tenant, id));
        for (table, key) in index_rows(tenant, &known.profile) {
            writer.delete(table, &key);
        }
        self.event("customer.deleted", id, []);
        Ok(Reply::Done)
    }

    fn attach_customer(
        &mut self,
        rows: &dyn Rows,
        tenant: &TenantId,
        call: CallId,
        id: Option<CustomerId>,
    ) -> Result<Reply, Refusal> {
        let site = self.site(tenant).cloned();
        let row = self
            .calls
            .get_mut(&call)
            .filter(|row| row.tenant == *tenant && !row.recorded);
        let (Some(row), Some(site)) = (row, site) else {
            return Err(Refusal::NotFound(call.to_string()));
        };
        match &id {
            Some(id) => {
                let known = read_customer(rows, tenant, id);
                let known = known.ok_or_else(|| Refusal::NotFound(format!("customer {id}")))?;
                // Whoever waits keeps the rank he came with: the choice is for the record.
                let rank = (row.priority, row.preferred.clone());
                attach(row, &site, &known);
                (row.priority, row.preferred) = rank;
            }
            None => row.customer = None,
        }
        self.touch_call(call);
        let customer = id.map(|id| id.to_string());
        self.event("call.customer", call, [("customer", customer.into())]);
        Ok(Reply::Done)
    }

    fn import(
        &mut self,
        rows: &mut dyn Rows,
        tenant: &TenantId,
        batch: ImportBatch,
    ) -> Result<Reply, Refusal> {
        let size = batch.rows.len() + batch.rejects.len();
        let fits = size <= limits::IMPORT_ROWS
            && u64::try_from(size) == Ok(batch.count)
            && (1..=limits::IMPORT_TEXT_BYTES).contains(&batch.import.len())
            && !batch.import.chars().any(char::is_control)
            && batch.rows.iter().all(|row| {
                let named = !row.id.as_str().is_empty();
                named && row.check().is_ok()
            });
        if !fits {
            return Err(Refusal::Conflict("the batch is not a valid one".to_owned()));
        }
        if self.site(tenant).is_none() {
            return Err(Refusal::NotFound(format!("tenant {tenant}")));
        }
        let key = keys::import(tenant, &batch.import);
        let now = self.meta.now;
        let known = rows.get(Table::CustomerImport, &key);
        let known = known.and_then(|row| decode_row::<ImportRow>(&row));
        let mut progress = match known {
            Some(known) if !(batch.restart && batch.offset == 0) => known,
            known => {
                if known.is_some() {
                    self.forget_rejects(rows, tenant, &batch.import);
                } else {
                    self.make_room(rows, tenant);
                }
                ImportRow::new(tenant.clone(), batch.import, now)
            }
        };
        let end = batch.offset.saturating_add(batch.count);
        if end <= progress.next && (batch.count > 0 || progress.ended_at.is_some()) {
            // Asked again: it was taken in already.
            return Ok(Reply::Import(progress));
        }
        if batch.offset != progress.next {
            let next = progress.next;
            let what = format!("import {} goes on at row {next}", progress.id);
            return Err(Refusal::Conflict(what));
        }
        for profile in batch.rows {
            let known = read_customer(rows, tenant, &profile.id);
            match self.write_profile(rows, tenant, known.as_ref(), profile) {
                Taken::Created => progress.created += 1,
                Taken::Updated => progress.updated += 1,
                Taken::Unchanged => progress.unchanged += 1,
            }
        }
        for reject in batch.rejects {
            progress.rejected += 1;
            if progress.rejected <= limits::IMPORT_REJECTS {
                let key = keys::reject(tenant, &progress.id, reject.line);
                self.writer(rows).put(Table::CustomerImport, &key, &reject);
            }
        }
        progress.next = end;
        progress.updated_at = now;
        progress.ended_at = batch.last.then_some(now);
        self.writer(rows)
            .put(Table::CustomerImport, &key, &progress);
        let fields = [
            ("rows", Value::from(progress.next)),
            ("created", progress.created.into()),
            ("updated", progress.updated.into()),
            ("rejected", progress.rejected.into()),
            ("state", if batch.last { "ended" } else { "running" }.into()),
        ];
        self.event("customer.import", &progress.id, fields);
        Ok(Reply::Import(progress))
    }

    /// Forgets the import unchanged longest when there are as many as are kept.
    fn make_room(&mut self, rows: &mut dyn Rows, tenant: &TenantId) {
        let prefix = keys::imports(tenant);
        let page = rows.scan(Table::CustomerImport, &prefix, None, limits::IMPORTS_KEPT);
        if page.len() < limits::IMPORTS_KEPT {
            return;
        }
        let known = page
            .iter()
            .filter_map(|(_, row)| decode_row::<ImportRow>(row));
        let oldest = known.min_by(|a, b| (a.updated_at, &a.id).cmp(&(b.updated_at, &b.id)));
        if let Some(oldest) = oldest {
            self.forget_rejects(rows, tenant, &oldest.id);
            let key = keys::import(tenant, &oldest.id);
            self.writer(rows).delete(Table::CustomerImport, &key);
        }
    }

    fn forget_rejects(&mut self, rows: &mut dyn Rows, tenant: &TenantId, import: &str) {
        let most = usize::try_from(limits::IMPORT_REJECTS).unwrap_or(usize::MAX);
        let prefix = keys::rejects(tenant, import);
        let page = rows.scan(Table::CustomerImport, &prefix, None, most);
        let mut writer = self.writer(rows);
        for (key, _) in &page {
            writer.delete(Table::CustomerImport, key);
        }
    }

    /// Writes a profile and the rows that lead to it.
    fn write_profile(
        &mut self,
        rows: &mut dyn Rows,
        tenant: &TenantId,
        known: Option<&Customer>,
        profile: Profile,
    ) -> Taken {
        if known.is_some_and(|known| known.profile == profile) {
            return Taken::Unchanged;
        }
        let now = self.meta.now;
        let old = known.map_or_else(Vec::new, |known| index_rows(tenant, &known.profile));
        let new = index_rows(tenant, &profile);
        let customer = Customer {
            tenant: tenant.clone(),
            version: known.map_or(0, |known| known.version) + 1,
            created_at: known.map_or(now, |known| known.created_at),
            updated_at: now,
            last_contact_at: known.and_then(|known| known.last_contact_at),
            last_agent: known.and_then(|known| known.last_agent.clone()),
            profile,
        };
        let mut writer = self.writer(rows);
        for (table, key) in old.iter().filter(|row| !new.contains(row)) {
            writer.delete(*table, key);
        }
        for (table, key) in new.into_iter().filter(|row| !old.contains(row)) {
            writer.put_bytes(table, &key, Vec::new());
        }
        let key = keys::customer(tenant, &customer.profile.id);
        writer.put(Table::Customer, &key, &customer);
        match known {
            Some(_) => Taken::Updated,
            None => Taken::Created,
        }
    }

    fn writer<'a>(&'a mut self, rows: &'a mut dyn Rows) -> Writer<'a> {
        Writer {
            rows,
            hasher: &mut self.batch.written,
        }
    }
}

fn attach(call: &mut CallRow, site: &Site, customer: &Customer) {
    let tier = customer.profile.tier.as_ref();
    call.customer = Some(customer.profile.id.clone());
    call.priority = tier
        .and_then(|tier| site.tiers.get(tier))
        .copied()
        .unwrap_or(0);
    call.preferred = customer.preferred().cloned();
}

/// The rows under which a customer is found.
fn index_rows(tenant: &TenantId, profile: &Profile) -> Vec<(Table, Vec<u8>)> {
    let numbers = profile.numbers.iter().map(|number| {
        let key = keys::by_number(tenant, *number, &profile.id);
        (Table::CustomerByNumber, key)
    });
    let name = keys::by_name(tenant, &profile.name, &profile.id);
    numbers.chain([(Table::CustomerByName, name)]).collect()
}
