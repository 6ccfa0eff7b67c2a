//! Customers, their contacts and imports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Customer {
    /// The id in the client company's own system, else `cust_…`.
    pub id: String,
    /// Name.
    pub name: String,
    /// Tier, by the name in the site file.
    pub tier: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Further fields, by name.
    pub fields: BTreeMap<String, String>,
    /// Numbers with country code, the main one first.
    pub numbers: Vec<String>,
    /// The agent who looks after this customer.
    pub owner: Option<String>,
    /// Rises by one with each edit, from 1.
    pub version: u64,
    /// When the customer was made.
    pub created_at: String,
    /// When the customer was last edited.
    pub updated_at: String,
    /// When the last contact ended.
    pub last_contact_at: Option<String>,
    /// The agent who last talked with this customer.
    pub last_agent: Option<String>,
}

/// A customer with the latest contacts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CustomerCard {
    /// The customer.
    #[serde(flatten)]
    pub customer: Customer,
    /// Contacts, newest first.
    pub interactions: Vec<Interaction>,
}

/// One contact of a customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Interaction {
    /// `int_…`.
    pub id: String,
    /// Position on the timeline; give it as `after` to read on.
    pub cursor: String,
    /// When it began.
    pub at: String,
    /// `call`.
    pub channel: String,
    /// `in` or `out`, seen from the client company.
    pub direction: String,
    /// The call, when it was one.
    pub call: Option<String>,
    /// Queue.
    pub queue: Option<String>,
    /// Agent who talked.
    pub agent: Option<String>,
    /// How it ended, as in records of calls.
    pub disposition: String,
    /// Time waited in the queue.
    pub wait_ms: u64,
    /// Time talked.
    pub talk_ms: u64,
}

/// What is written about a customer. Numbers may stand as they are dialled in the
/// tenant's country.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CustomerProfile {
    /// Chosen by the sender; comes back in the outcome event.
    #[serde(default)]
    pub command: Option<String>,
    /// Name.
    pub name: String,
    /// Tier.
    #[serde(default)]
    pub tier: Option<String>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Further fields.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// Numbers.
    #[serde(default)]
    pub numbers: Vec<String>,
    /// Agent who looks after this customer.
    #[serde(default)]
    pub owner: Option<String>,
    /// Version this edit was made from, 0 for a new customer; absent replaces any.
    #[serde(default)]
    pub version: Option<u64>,
}

/// Changes of a customer; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CustomerPatch {
    /// Chosen by the sender; comes back in the outcome event.
    #[serde(default)]
    pub command: Option<String>,
    /// Name.
    #[serde(default)]
    pub name: Option<String>,
    /// Tier; an empty one takes it away.
    #[serde(default)]
    pub tier: Option<String>,
    /// Tags, all of them.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// Fields to set; `null` removes one.
    #[serde(default)]
    pub fields: BTreeMap<String, Option<String>>,
    /// Numbers, all of them.
    #[serde(default)]
    pub numbers: Option<Vec<String>>,
    /// Agent who looks after this customer; an empty one takes him away.
    #[serde(default)]
    pub owner: Option<String>,
    /// Version this edit was made from; absent means the present one.
    #[serde(default)]
    pub version: Option<u64>,
}

/// The next rows of a file of customers, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CustomerUpload {
    /// The import, by an id that the same file has again.
    pub import: String,
    /// Rows of the file before these, refused ones included.
    pub offset: u64,
    /// Begins the import anew; only with `offset` 0.
    #[serde(default)]
    pub restart: bool,
    /// No rows follow.
    #[serde(default)]
    pub last: bool,
    /// The rows, together with `rejects` at most 1,000.
    pub rows: Vec<CustomerLine>,
    /// Lines the sender could not read.
    #[serde(default)]
    pub rejects: Vec<CustomerReject>,
}

/// One row of a file of customers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CustomerLine {
    /// Line of the file, from 1.
    pub line: u64,
    /// The id in the client company's own system.
    pub id: String,
    /// Name.
    pub name: String,
    /// Tier.
    #[serde(default)]
    pub tier: Option<String>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Further fields.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// Numbers, as written.
    #[serde(default)]
    pub numbers: Vec<String>,
    /// Agent who looks after this customer.
    #[serde(default)]
    pub owner: Option<String>,
}

/// A line that was not taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CustomerReject {
    /// Line of the file, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// How far an import has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CustomerImport {
    /// The import.
    pub id: String,
    /// `running` or `ended`.
    pub state: String,
    /// Rows dealt with; where it goes on.
    pub rows: u64,
    /// Customers made.
    pub created: u64,
    /// Customers changed.
    pub updated: u64,
    /// Customers who were like this already.
    pub unchanged: u64,
    /// Rows refused.
    pub rejected: u64,
    /// When it began.
    pub began_at: String,
    /// When the last rows were taken.
    pub updated_at: String,
    /// When the last row was dealt with.
    pub ended_at: Option<String>,
}
