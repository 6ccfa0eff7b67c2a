//! Who a customer is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, CustomerId, TenantId};
use crate::limits;
use crate::number::E164;
use crate::time::TimeMs;

/// What people write about a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The id in the client company's own system; empty in a command that has one minted.
    pub id: CustomerId,
    /// Name as shown.
    pub name: String,
    /// Tier, by the name in the site file; one the site does not know weighs nothing.
    pub tier: Option<String>,
    /// Tags.
    pub tags: BTreeSet<String>,
    /// Further fields, by name.
    pub fields: BTreeMap<String, String>,
    /// Numbers, the main one first.
    pub numbers: Vec<E164>,
    /// The agent who looks after this customer.
    pub owner: Option<AgentId>,
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// Whose customer.
    pub tenant: TenantId,
    /// What people wrote.
    pub profile: Profile,
    /// Rises by one with each change of the profile, from 1.
    pub version: u64,
    /// When it was made.
    pub created_at: TimeMs,
    /// When the profile was last changed.
    pub updated_at: TimeMs,
    /// When the last contact ended.
    pub last_contact_at: Option<TimeMs>,
    /// The agent who last talked with this customer.
    pub last_agent: Option<AgentId>,
}

impl Customer {
    /// Whom the customer would best talk to: the owner, else who talked last.
    pub fn preferred(&self) -> Option<&AgentId> {
        self.profile.owner.as_ref().or(self.last_agent.as_ref())
    }
}

/// A text that stands on one line and is not longer than `max` bytes.
fn line(what: &str, text: &str, max: usize) -> Result<(), String> {
    if text.len() > max {
        return Err(format!("{what} is longer than {max} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{what} has control characters"));
    }
    Ok(())
}

fn count(what: &str, length: usize, max: usize) -> Result<(), String> {
    if length > max {
        return Err(format!("{length} {what}, at most {max} are kept"));
    }
    Ok(())
}

impl Profile {
    /// Checks lengths and counts.
    ///
    /// # Errors
    /// What is wrong, in words for the one who wrote it.
    pub fn check(&self) -> Result<(), String> {
        let name_max = limits::CUSTOMER_NAME_BYTES;
        line("the id", self.id.as_str(), limits::CUSTOMER_ID_BYTES)?;
        line("the name", &self.name, name_max)?;
        line("the tier", self.tier.as_deref().unwrap_or(""), name_max)?;
        let owner = self.owner.as_ref().map_or("", AgentId::as_str);
        line("the owner", owner, limits::CUSTOMER_ID_BYTES)?;
        count("numbers", self.numbers.len(), limits::CUSTOMER_NUMBERS)?;
        count("tags", self.tags.len(), limits::CUSTOMER_TAGS)?;
        count("fields", self.fields.len(), limits::CUSTOMER_FIELDS)?;
        self.tags
            .iter()
            .try_for_each(|tag| line("a tag", tag, name_max))?;
        for (name, text) in &self.fields {
            line("the name of a field", name, name_max)?;
            // A field may hold notes of several lines.
            if text.len() > limits::CUSTOMER_FIELD_BYTES {
                let max = limits::CUSTOMER_FIELD_BYTES;
                return Err(format!("the field {name} is longer than {max} bytes"));
            }
        }
        let distinct: BTreeSet<E164> = self.numbers.iter().copied().collect();
        if distinct.len() < self.numbers.len() {
            return Err("a number stands twice".to_owned());
        }
        if self.bytes() > limits::CUSTOMER_BYTES {
            let max = limits::CUSTOMER_BYTES;
            return Err(format!("the texts are longer than {max} bytes together"));
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let fields = self.fields.iter();
        self.name.len()
            + self.tags.iter().map(String::len).sum::<usize>()
            + fields
                .map(|(name, text)| name.len() + text.len())
                .sum::<usize>()
    }
}
