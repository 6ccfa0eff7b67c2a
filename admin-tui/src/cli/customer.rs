//! `strowger customer …`: customers, their timeline, edits.

use std::collections::BTreeMap;

use serde_json::Value;
use strowger_core::api::{CustomerPatch, CustomerProfile};

use super::args::CustomerVerb;
use super::{Session, command_id, import};
use crate::client::{Verb, segment};
use crate::error::{Exit, Failure};
use crate::render::{self, Output, shape};

/// Runs a verb of customers.
pub fn run(session: &Session, verb: CustomerVerb) -> Result<Exit, Failure> {
    match verb {
        CustomerVerb::List {
            number,
            name,
            after,
            limit,
        } => {
            let query = [
                ("number", number),
                ("name", name),
                ("after", after),
                ("limit", limit.map(|limit| limit.to_string())),
            ];
            session.list(&with_query("/v1/customers", &query), &shape::CUSTOMER)
        }
        CustomerVerb::Show { id } => show(session, &id),
        CustomerVerb::Edit {
            id,
            new,
            version,
            changes,
        } => edit(session, &id, new, version, &changes),
        CustomerVerb::Remove { id } => {
            let path = format!("/v1/customers/{}", segment(&id));
            session.client.send(Verb::Delete, &path, None::<&()>)?;
            session.print("done\n")
        }
        CustomerVerb::Import { file, resume } => import::run(session, &file, resume),
    }
}

/// `path` with the parts of the query that are there.
pub fn with_query(path: &str, parts: &[(&str, Option<String>)]) -> String {
    let given = parts
        .iter()
        .filter_map(|(name, text)| Some(format!("{name}={}", segment(text.as_ref()?))));
    let query: Vec<String> = given.collect();
    if query.is_empty() {
        return path.to_owned();
    }
    format!("{path}?{}", query.join("&"))
}

fn show(session: &Session, id: &str) -> Result<Exit, Failure> {
    let path = format!("/v1/customers/{}?limit=20", segment(id));
    let card: Value = session.client.get(&path)?;
    if session.output != Output::Table {
        return session.one(&shape::CUSTOMER, &card);
    }
    let mut text = render::one(Output::Table, &shape::CUSTOMER, &card);
    let contacts = card.get("interactions").and_then(Value::as_array);
    if let Some(contacts) = contacts.filter(|contacts| !contacts.is_empty()) {
        text.push_str("\nlatest contacts\n");
        text.push_str(&render::list(Output::Table, &shape::INTERACTION, contacts));
    }
    session.print(&text)
}

fn edit(
    session: &Session,
    id: &str,
    new: bool,
    version: Option<u64>,
    changes: &[String],
) -> Result<Exit, Failure> {
    let mut patch = CustomerPatch {
        command: Some(command_id()),
        version,
        ..CustomerPatch::default()
    };
    for change in changes {
        let Some((key, text)) = change.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::Usage {
                what: format!("\"{change}\" is no change"),
                next: "write KEY=VALUE, such as tier=vip; KEY= takes a value away".to_owned(),
            });
        };
        set(&mut patch, key, text);
    }
    let path = format!("/v1/customers/{}", segment(id));
    let customer = if new {
        let body = made(patch);
        session.client.send(Verb::Put, &path, Some(&body))?
    } else {
        session.client.send(Verb::Patch, &path, Some(&patch))?
    };
    session.one(&shape::CUSTOMER, &customer)
}

fn set(patch: &mut CustomerPatch, key: &str, text: &str) {
    match key {
        "name" => patch.name = Some(text.to_owned()),
        "tier" => patch.tier = Some(text.to_owned()),
        "owner" => patch.owner = Some(text.to_owned()),
        "tags" => patch.tags = Some(parts(text)),
        "number" | "numbers" => patch.numbers = Some(parts(text)),
        field => {
            let text = Some(text.to_owned()).filter(|text| !text.is_empty());
            patch.fields.insert(field.to_owned(), text);
        }
    }
}

/// Several values in one text.
pub fn parts(text: &str) -> Vec<String> {
    let parts = text.split([',', ';', '|']).map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A new customer, as if nothing had been there before the changes.
fn made(patch: CustomerPatch) -> CustomerProfile {
    let fields = patch.fields.into_iter();
    let fields: BTreeMap<String, String> = fields
        .filter_map(|(name, text)| Some((name, text?)))
        .collect();
    CustomerProfile {
        command: patch.command,
        name: patch.name.unwrap_or_default(),
        tier: patch.tier,
        tags: patch.tags.unwrap_or_default(),
        fields,
        numbers: patch.numbers.unwrap_or_default(),
        owner: patch.owner,
        version: Some(0),
    }
}
