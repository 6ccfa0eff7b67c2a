//! Opening hours on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Opening hours as they are now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Hours {
    /// The name in the site file.
    pub name: String,
    /// `open` or `closed`.
    pub state: String,
    /// When that changes next; `null` when it is not known.
    pub next_change_at: Option<String>,
    /// Until when an operator has opened or closed them by hand; `null` when nobody has.
    pub overridden_until_at: Option<String>,
    /// Time zone of their clock.
    pub timezone: String,
    /// Numbers that follow them.
    pub numbers: Vec<String>,
}

/// Opening hours on one day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HoursDay {
    /// The name in the site file.
    pub name: String,
    /// The day, such as `2027-01-01`.
    pub date: String,
    /// True when the spans are those of a holiday.
    pub holiday: bool,
    /// Time zone of their clock.
    pub timezone: String,
    /// Spans by that clock, such as `09:00-12:00`; none when closed all day.
    pub spans: Vec<String>,
    /// The same in UTC.
    pub times: Vec<HoursTime>,
}

/// A time during which hours are open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HoursTime {
    /// When they open.
    pub from_at: String,
    /// When they close.
    pub to_at: String,
}
