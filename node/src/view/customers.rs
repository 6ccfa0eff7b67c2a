//! Customers, their contacts and imports as the interface shows them.

use strowger_core::api;
use strowger_core::crm::{Customer, ImportRow, Interaction};
use strowger_core::time::TimeMs;

/// A customer.
pub fn customer(row: &Customer) -> api::Customer {
    let profile = &row.profile;
    api::Customer {
        id: profile.id.to_string(),
        name: profile.name.clone(),
        tier: profile.tier.clone(),
        tags: profile.tags.iter().cloned().collect(),
        fields: profile.fields.clone(),
        numbers: profile.numbers.iter().map(ToString::to_string).collect(),
        owner: profile.owner.as_ref().map(ToString::to_string),
        version: row.version,
        created_at: row.created_at.rfc3339(),
        updated_at: row.updated_at.rfc3339(),
        last_contact_at: row.last_contact_at.map(TimeMs::rfc3339),
        last_agent: row.last_agent.as_ref().map(ToString::to_string),
    }
}

/// A contact, found at `place` of its customer's timeline.
pub fn interaction(place: &[u8], row: &Interaction) -> api::Interaction {
    api::Interaction {
        id: row.id.to_string(),
        cursor: hex::encode(place),
        at: row.at.rfc3339(),
        channel: row.channel.as_str().to_owned(),
        direction: row.direction.as_str().to_owned(),
        call: row.call.map(|call| call.to_string()),
        queue: row.queue.as_ref().map(ToString::to_string),
        agent: row.agent.as_ref().map(ToString::to_string),
        disposition: row.disposition.as_str().to_owned(),
        wait_ms: row.wait_ms,
        talk_ms: row.talk_ms,
    }
}

/// An import.
pub fn import(row: &ImportRow) -> api::CustomerImport {
    let state = match row.ended_at {
        Some(_) => "ended",
        None => "running",
    };
    api::CustomerImport {
        id: row.id.clone(),
        state: state.to_owned(),
        rows: row.next,
        created: row.created,
        updated: row.updated,
        unchanged: row.unchanged,
        rejected: row.rejected,
        began_at: row.began_at.rfc3339(),
        updated_at: row.updated_at.rfc3339(),
        ended_at: row.ended_at.map(TimeMs::rfc3339),
    }
}
