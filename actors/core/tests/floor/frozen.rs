//! Everything a log or a row may hold, written down in `frozen/`: nodes of two versions
//! understand each other, and a node what it wrote before.

use std::path::Path;

use strowger_core::call::CallRow;
use strowger_core::cdr::CdrRow;
use strowger_core::crm::{Customer, ImportRow, Interaction, Reject};
use strowger_core::floor::address::{AddressRow, NodeRow};
use strowger_core::floor::agent::AgentRow;
use strowger_core::floor::callback::CallbackRow;
use strowger_core::floor::explanation::Explanation;
use strowger_core::floor::figure::{FigureRow, Tally};
use strowger_core::floor::leftover::LeftoverRow;
use strowger_core::floor::phone::FailingRow;
use strowger_core::floor::place::PlaceRow;
use strowger_core::floor::registration::RegistrationRow;
use strowger_core::floor::trunk::TrunkRow;
use strowger_core::hours::HoursRow;
use strowger_core::ports::Table;
use strowger_core::state::command::{Command, Reply};
use strowger_core::state::compare::CompareRow;
use strowger_core::state::event::EventRow;
use strowger_core::state::{Deadline, FEATURE_LEVEL, MetaRow, SiteRow, decode_row, encode_row};
use strowger_frozen::Listing;

/// Adds what the values of a table, or its keys, are encoded from.
fn table(listing: Listing, table: Table) -> Listing {
    macro_rules! rows {
        ($($row:ty),*) => {{
            listing$(.of::<$row>(stringify!($row), encode_row, decode_row))*
        }};
    }
    match table {
        Table::Meta => rows!(MetaRow, CompareRow),
        Table::Node => rows!(NodeRow),
        Table::Address => rows!(AddressRow),
        Table::Site => rows!(SiteRow),
        Table::Registration => rows!(RegistrationRow),
        Table::Call => rows!(CallRow),
        Table::Agent => rows!(AgentRow),
        // In the key.
        Table::Timer => rows!(Deadline),
        Table::Reply => rows!(Reply),
        Table::Event => rows!(EventRow),
        Table::Figure => rows!(FigureRow),
        Table::Trunk => rows!(TrunkRow),
        Table::Leftover => rows!(LeftoverRow),
        Table::Failing => rows!(FailingRow),
        Table::Place => rows!(PlaceRow),
        Table::Hours => rows!(HoursRow),
        Table::Callback => rows!(CallbackRow),
        Table::Cdr => rows!(CdrRow),
        Table::Customer => rows!(Customer),
        Table::Interaction => rows!(Interaction),
        Table::CustomerImport => rows!(ImportRow, Reject),
        Table::Interval => rows!(Tally),
        Table::Explanation => rows!(Explanation),
        // Keys, empty values, and bytes of other crates.
        Table::Queue
        | Table::Blob
        | Table::Secret
        | Table::CdrByCall
        | Table::CustomerByNumber
        | Table::CustomerByName => listing,
    }
}

#[test]
fn commands_and_rows_keep_their_encodings() {
    let commands = Listing::default().of::<Command>("Command", encode_row, decode_row);
    let all = Table::ALL.into_iter().fold(commands, table);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/floor/frozen");
    all.check(&folder, FEATURE_LEVEL);
}

#[test]
fn tables_keep_their_numbers() {
    let numbers = Table::ALL.map(|table| (table as u8, table.name()));
    let kept = [
        (1, "meta"),
        (2, "node"),
        (3, "address"),
        (4, "site"),
        (5, "registration"),
        (6, "call"),
        (7, "agent"),
        (8, "queue"),
        (9, "timer"),
        (10, "reply"),
        (11, "event"),
        (12, "figure"),
        (13, "blob"),
        (14, "secret"),
        (15, "trunk"),
        (24, "leftover"),
        (25, "failing"),
        (28, "place"),
        (29, "callback"),
        (30, "hours"),
        (64, "cdr"),
        (65, "cdr_by_call"),
        (66, "customer"),
        (70, "customer_by_number"),
        (71, "customer_by_name"),
        (72, "interaction"),
        (73, "customer_import"),
        (80, "interval"),
        (90, "explanation"),
    ];
    for one in kept {
        assert!(numbers.contains(&one), "{one:?} is in keys on disk");
    }
}
