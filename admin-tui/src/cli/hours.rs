//! Opening hours: what they are now and on a day, and opening or closing them by hand.

use serde_json::Value;
use strowger_core::api::Action;

use super::Session;
use super::args::HoursVerb;
use crate::client::segment;
use crate::error::{Exit, Failure};
use crate::render::shape;

/// Carries out a verb of the family.
pub fn run(session: &Session, verb: HoursVerb) -> Result<Exit, Failure> {
    let by_hand = |hours: String, open: Option<bool>, for_s: Option<u64>| {
        session.act(Action::HoursOverride { hours, open, for_s })
    };
    match verb {
        HoursVerb::List => session.list("/v1/hours", &shape::HOURS),
        HoursVerb::Show { name, date: None } => session.show("/v1/hours", &name, &shape::HOURS),
        HoursVerb::Show {
            name,
            date: Some(date),
        } => {
            let path = format!("/v1/hours/{}/days/{}", segment(&name), segment(&date));
            let day: Value = session.client.get(&path)?;
            session.one(&shape::HOURS_DAY, &day)
        }
        HoursVerb::Open { name, for_s } => by_hand(name, Some(true), Some(for_s)),
        HoursVerb::Close { name, for_s } => by_hand(name, Some(false), Some(for_s)),
        HoursVerb::Follow { name } => by_hand(name, None, None),
    }
}
