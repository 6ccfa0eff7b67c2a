//! Customers: found by their number before a queue is entered, every ended call on the
//! timeline in the commit of its record, edits with versions, imports that go on.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use strowger_core::call::Disposition;
use strowger_core::crm::{Customer, Direction, ImportRow, Interaction, Profile, Reject, keys};
use strowger_core::ids::{AgentId, CallId, CustomerId};
use strowger_core::limits;
use strowger_core::ports::{Machine, RowsRead, Table};
use strowger_core::state::apply_crm::read_customer;
use strowger_core::state::command::{Command, CrmChange, ImportBatch, Refusal, Reply};
use strowger_core::state::decode_row;
use strowger_core::state::event::Value;

use crate::harness::{World, refusal, tenant};
use crate::rows::{Copy, MemRows};

const LEE: &str = "+861062345678";
const WANG: &str = "+8613800138000";

fn profile(id: &str, numbers: &[&str]) -> Profile {
    Profile {
        id: CustomerId::from(id),
        name: format!("Name of {id}"),
        tier: None,
        tags: BTreeSet::new(),
        fields: BTreeMap::new(),
        numbers: numbers
            .iter()
            .map(|number| number.parse().expect("a number"))
            .collect(),
        owner: None,
    }
}

fn crm(world: &mut World, change: CrmChange) -> Reply {
    world.propose(Command::Crm {
        id: String::new(),
        tenant: tenant(),
        change,
    })
}

fn put(world: &mut World, profile: Profile) -> Reply {
    let expected = None;
    crm(world, CrmChange::Put { profile, expected })
}

fn customer(world: &World, id: &str) -> Option<Customer> {
    read_customer(&world.copy.rows, &tenant(), &CustomerId::from(id))
}

fn timeline(world: &World, id: &str) -> Vec<Interaction> {
    let prefix = keys::timeline(&tenant(), &CustomerId::from(id));
    let rows = world
        .copy
        .rows
        .scan(Table::Interaction, &prefix, None, usize::MAX);
    let rows = rows.iter().map(|(_, row)| decode_row(row));
    rows.map(|row| row.expect("a contact of this version"))
        .collect()
}

fn field(world: &World, call: CallId, name: &str) -> Option<String> {
    let event = world
        .events()
        .into_iter()
        .rfind(|event| event.kind == "call.customer" && event.entity == call.to_string())?;
    event
        .fields
        .into_iter()
        .find_map(|(field, value)| match value {
            Value::Text(text) if field == name => Some(text),
            _ => None,
        })
}

/// Every row of these tables, to compare.
fn rows_of(rows: &MemRows, tables: &[Table]) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let read = |table: &Table| {
        let table = *table;
        let page = rows.scan(table, &[], None, usize::MAX);
        page.into_iter().map(move |(key, row)| (table, key, row))
    };
    tables.iter().flat_map(read).collect()
}

const CUSTOMERS: [Table; 3] = [
    Table::Customer,
    Table::CustomerByNumber,
    Table::CustomerByName,
];

#[test]
fn a_caller_is_known_before_the_offer() {
    let mut world = World::at_work(&["amy"]);
    let mut lee = profile("lee", &[LEE, WANG]);
    lee.tier = Some("vip".to_string());
    lee.owner = Some(AgentId::from("bob"));
    put(&mut world, lee);
    for number in [LEE, WANG] {
        let call = world.call(number, "4008");
        let row = world.row(call);
        assert_eq!(row.customer, Some(CustomerId::from("lee")));
        assert_eq!(row.visit.expect("in the queue").priority, 100);
        assert_eq!(row.preferred, Some(AgentId::from("bob")));
        assert_eq!(field(&world, call, "tier").as_deref(), Some("vip"));
        let kinds: Vec<String> = world
            .events()
            .into_iter()
            .filter(|event| event.entity == call.to_string())
            .map(|event| event.kind)
            .collect();
        let at = |kind: &str| kinds.iter().position(|one| one == kind);
        assert!(at("call.customer") < at("call.queued"), "{kinds:?}");
        world.leaves(call);
    }
    let call = world.call("+4930123456", "4008");
    assert_eq!(world.row(call).customer, None);
    assert_eq!(field(&world, call, "customer"), None);
}

#[test]
fn a_better_tier_is_served_first() {
    let mut world = World::at_work(&[]);
    for (id, number, tier) in [("lee", LEE, "gold"), ("wang", WANG, "vip")] {
        let mut one = profile(id, &[number]);
        one.tier = Some(tier.to_string());
        put(&mut world, one);
    }
    let calls = ["anonymous", LEE, WANG].map(|from| world.call(from, "4008"));
    for (agent, call) in ["amy", "bob", "cat"].iter().zip(calls.iter().rev()) {
        world.sign_in(agent);
        world.run();
        assert_eq!(world.offered_to(*call).as_deref(), Some(*agent));
    }
}

#[test]
fn the_end_of_a_call_writes_record_contact_and_customer_at_once() {
    let mut world = World::at_work(&["amy"]);
    put(&mut world, profile("lee", &[LEE]));
    let call = world.call(LEE, "4008");
    world.advance(2_000);
    world.agent_answers(call);
    world.advance(5_000);
    let entries = world.index;
    assert_eq!(timeline(&world, "lee"), []);
    world.leaves(call);
    let contact = timeline(&world, "lee").pop().expect("one contact");
    let cdr = world.cdr(call);
    assert_eq!(contact.call, Some(call));
    assert_eq!(
        (contact.at, contact.direction),
        (cdr.started_at, Direction::In)
    );
    assert_eq!((contact.wait_ms, contact.talk_ms), (2_000, 5_000));
    assert_eq!(contact.agent, Some(AgentId::from("amy")));
    assert_eq!(contact.disposition, Disposition::Answered);
    assert_eq!(cdr.customer, Some(CustomerId::from("lee")));
    assert_eq!(cdr.id.index(), contact.id.index(), "one commit");
    assert!(cdr.id.index() > entries);
    let lee = customer(&world, "lee").expect("still there");
    assert_eq!(lee.last_agent, Some(AgentId::from("amy")));
    assert_eq!(lee.last_contact_at, Some(cdr.ended_at));
    assert_eq!(lee.version, 1, "a contact is no edit");
    let next = world.call(LEE, "4008");
    assert_eq!(world.row(next).preferred, Some(AgentId::from("amy")));
}

#[test]
fn a_call_out_to_a_customer_is_a_contact_too() {
    let mut world = World::at_work(&[]);
    put(&mut world, profile("lee", &[LEE]));
    let call = world.call("1001", &format!("0{LEE}"));
    assert_eq!(world.row(call).customer, Some(CustomerId::from("lee")));
    world.leaves(call);
    let contacts = timeline(&world, "lee");
    assert_eq!(contacts.len(), 1);
    assert_eq!(contacts[0].direction, Direction::Out);
}

#[test]
fn of_several_the_one_last_in_contact_is_meant_and_another_can_be_picked() {
    let mut world = World::at_work(&["amy"]);
    for id in ["ann", "ben", "cem"] {
        put(&mut world, profile(id, &[LEE]));
    }
    let call = world.call(LEE, "4008");
    assert_eq!(field(&world, call, "customer").as_deref(), Some("ann"));
    assert_eq!(field(&world, call, "others").as_deref(), Some("ben,cem"));
    let attach = |call, who: &str| CrmChange::Attach {
        call,
        customer: Some(CustomerId::from(who)),
    };
    assert_eq!(crm(&mut world, attach(call, "ben")), Reply::Done);
    let nobody = crm(&mut world, attach(call, "zoe"));
    assert!(matches!(refusal(&nobody), Refusal::NotFound(_)));
    world.leaves(call);
    assert_eq!(timeline(&world, "ann").len(), 0);
    assert_eq!(timeline(&world, "ben").len(), 1);
    let gone = crm(&mut world, attach(call, "ben"));
    assert!(matches!(refusal(&gone), Refusal::NotFound(_)));
    let call = world.call(LEE, "4008");
    assert_eq!(field(&world, call, "customer").as_deref(), Some("ben"));
    assert_eq!(field(&world, call, "others").as_deref(), Some("ann,cem"));
}

#[test]
fn an_edit_of_an_older_version_is_refused() {
    let mut world = World::new();
    let edit = |world: &mut World, name: &str, expected| {
        let mut profile = profile("lee", &[LEE]);
        profile.name = name.to_string();
        crm(world, CrmChange::Put { profile, expected })
    };
    let at = |version| Reply::Customer {
        id: CustomerId::from("lee"),
        version,
    };
    assert!(matches!(
        refusal(&edit(&mut world, "a", Some(1))),
        Refusal::Conflict(_)
    ));
    assert_eq!(edit(&mut world, "a", Some(0)), at(1));
    assert!(matches!(
        refusal(&edit(&mut world, "b", Some(0))),
        Refusal::Conflict(_)
    ));
    assert_eq!(edit(&mut world, "b", Some(1)), at(2));
    assert_eq!(edit(&mut world, "b", Some(2)), at(2), "nothing changes");
    assert_eq!(edit(&mut world, "c", None), at(3));
    let made = put(&mut world, profile("", &[WANG]));
    let Reply::Customer { id, version: 1 } = made else {
        panic!("{made:?}");
    };
    assert!(id.as_str().starts_with("cust_"), "{id}");
    assert_eq!(customer(&world, id.as_str()).expect("made").profile.id, id);
}

#[test]
fn what_is_too_long_or_too_many_is_refused() {
    let mut wrong: Vec<Profile> = Vec::new();
    let mut with = |change: &dyn Fn(&mut Profile)| {
        let mut one = profile("lee", &[]);
        change(&mut one);
        wrong.push(one);
    };
    with(&|one| one.id = CustomerId::from("x".repeat(limits::CUSTOMER_ID_BYTES + 1)));
    with(&|one| one.id = CustomerId::from("a\0b"));
    with(&|one| one.name = "x".repeat(limits::CUSTOMER_NAME_BYTES + 1));
    with(&|one| one.name = "a\nb".to_string());
    with(&|one| one.tags = (0..=limits::CUSTOMER_TAGS).map(|n| n.to_string()).collect());
    with(&|one| one.numbers = vec![LEE.parse().expect("a number"); 2]);
    let text = "x".repeat(limits::CUSTOMER_FIELD_BYTES + 1);
    with(&|one| drop(one.fields.insert("note".into(), text.clone())));
    let most = "x".repeat(limits::CUSTOMER_FIELD_BYTES);
    with(&|one| one.fields = (0..9).map(|n| (n.to_string(), most.clone())).collect());
    let mut world = World::new();
    for one in wrong {
        let reply = put(&mut world, one.clone());
        assert!(matches!(refusal(&reply), Refusal::Conflict(_)), "{one:?}");
    }
    assert_eq!(customer(&world, "lee"), None);
}

#[test]
fn numbers_and_names_that_change_leave_no_trace() {
    let mut world = World::new();
    put(&mut world, profile("lee", &[LEE, WANG]));
    let once = rows_of(&world.copy.rows, &CUSTOMERS);
    let mut other = profile("lee", &["+4930123456"]);
    other.name = "Other".to_string();
    put(&mut world, other);
    put(&mut world, profile("lee", &[WANG, LEE]));
    put(&mut world, profile("lee", &[LEE, WANG]));
    let keys = |rows: &[(Table, Vec<u8>, Vec<u8>)]| -> Vec<_> {
        rows.iter().map(|row| (row.0, row.1.clone())).collect()
    };
    let again = rows_of(&world.copy.rows, &CUSTOMERS);
    assert_eq!(keys(&once), keys(&again));
}

#[test]
fn a_removed_customer_takes_the_timeline_along() {
    let mut world = World::at_work(&[]);
    put(&mut world, profile("lee", &[LEE]));
    let calls = limits::INTERACTIONS_REMOVED + 5;
    for _ in 0..calls {
        let call = world.call(LEE, "4008");
        world.leaves(call);
    }
    assert_eq!(timeline(&world, "lee").len(), calls);
    let live = world.call(LEE, "4008");
    let delete = || CrmChange::Delete {
        customer: CustomerId::from("lee"),
    };
    assert_eq!(crm(&mut world, delete()), Reply::More);
    assert_eq!(crm(&mut world, delete()), Reply::Done);
    let gone = crm(&mut world, delete());
    assert!(matches!(refusal(&gone), Refusal::NotFound(_)));
    assert_eq!(rows_of(&world.copy.rows, &CUSTOMERS), []);
    world.leaves(live);
    assert_eq!(timeline(&world, "lee"), [], "nobody to hang it on");
    assert_eq!(world.cdr(live).customer, Some(CustomerId::from("lee")));
}

fn batch(offset: u64, ids: &[u64], last: bool) -> ImportBatch {
    ImportBatch {
        import: "file".to_string(),
        offset,
        count: u64::try_from(ids.len()).expect("few"),
        restart: false,
        last,
        rows: ids
            .iter()
            .map(|id| profile(&format!("c{id}"), &[&format!("+8610{:08}", id + 1_000)]))
            .collect(),
        rejects: Vec::new(),
    }
}

fn import(world: &mut World, batch: ImportBatch) -> ImportRow {
    match crm(world, CrmChange::Import(batch)) {
        Reply::Import(row) => row,
        other => panic!("not taken in: {other:?}"),
    }
}

#[test]
fn an_import_repeats_nothing_and_leaves_no_gap() {
    let mut world = World::new();
    let first = import(&mut world, batch(0, &[1, 2], false));
    assert_eq!((first.next, first.created), (2, 2));
    let rows = world.copy.rows.clone();
    assert_eq!(
        import(&mut world, batch(0, &[1, 2], false)),
        first,
        "asked again"
    );
    assert_eq!(
        rows_of(&rows, &CUSTOMERS),
        rows_of(&world.copy.rows, &CUSTOMERS)
    );
    let gap = crm(&mut world, CrmChange::Import(batch(3, &[4], false)));
    assert!(
        refusal(&gap).to_string().contains("goes on at row 2"),
        "{gap:?}"
    );
    world.copy = Copy::restored(&world.copy.rows);
    let mut rest = batch(2, &[2, 3], true);
    rest.count += 1;
    let reject = Reject {
        line: 6,
        reason: "no id".to_string(),
    };
    rest.rejects.push(reject.clone());
    let done = import(&mut world, rest);
    let counts = (done.created, done.updated, done.unchanged, done.rejected);
    assert_eq!((done.next, counts), (5, (3, 0, 1, 1)));
    assert!(done.ended_at.is_some());
    let prefix = keys::rejects(&tenant(), "file");
    let kept = world
        .copy
        .rows
        .scan(Table::CustomerImport, &prefix, None, 9);
    let kept: Vec<Reject> = kept.iter().filter_map(|(_, row)| decode_row(row)).collect();
    assert_eq!(kept, [reject]);
}

#[test]
fn the_same_file_twice_gives_the_same_customers() {
    let mut world = World::new();
    import(&mut world, batch(0, &[1, 2, 3], true));
    let once = rows_of(&world.copy.rows, &CUSTOMERS);
    let mut again = batch(0, &[1, 2, 3], true);
    again.restart = true;
    let done = import(&mut world, again);
    assert_eq!((done.created, done.unchanged), (0, 3));
    assert_eq!(once, rows_of(&world.copy.rows, &CUSTOMERS));
}

#[test]
fn a_batch_that_is_too_large_or_miscounted_is_refused() {
    let mut world = World::new();
    let most = u64::try_from(limits::IMPORT_ROWS).expect("few");
    let many: Vec<u64> = (0..=most).collect();
    let mut miscounted = batch(0, &[1], false);
    miscounted.count = 2;
    let mut nameless = batch(0, &[1], false);
    nameless.rows[0].id = CustomerId::from("");
    let mut without_id = batch(0, &[1], false);
    without_id.import = String::new();
    for wrong in [batch(0, &many, false), miscounted, nameless, without_id] {
        let reply = crm(&mut world, CrmChange::Import(wrong));
        assert!(matches!(refusal(&reply), Refusal::Conflict(_)));
    }
}

#[test]
fn old_imports_make_room() {
    let mut world = World::new();
    for n in 0..=limits::IMPORTS_KEPT {
        let mut one = batch(0, &[], true);
        one.import = format!("file{n}");
        one.count = 1;
        one.rejects.push(Reject {
            line: 1,
            reason: "no".to_string(),
        });
        world.now += 1;
        import(&mut world, one);
    }
    let kept = rows_of(&world.copy.rows, &[Table::CustomerImport]);
    assert_eq!(
        kept.len(),
        2 * limits::IMPORTS_KEPT,
        "rows and their refused lines"
    );
}

#[test]
fn the_outcome_of_a_change_is_an_event() {
    let mut world = World::new();
    let mut ask = |expected, id: &str| {
        let profile = profile("lee", &[]);
        let change = CrmChange::Put { profile, expected };
        let (id, tenant) = (id.to_string(), tenant());
        world.propose(Command::Crm { id, tenant, change });
        let last = world.events().pop().expect("an event");
        (last.kind, last.entity, last.fields[0].1.clone())
    };
    let outcome = |id: &str, word: &str| ("command.outcome".into(), id.into(), Value::from(word));
    assert_eq!(ask(Some(0), "one"), outcome("one", "done"));
    assert_eq!(ask(Some(0), "two"), outcome("two", "refused"));
}

/// Something that happens between customers and the floor.
#[derive(Clone, Debug)]
enum Step {
    Put { id: u8, numbers: u8, tier: u8 },
    Delete { id: u8 },
    Import { ids: Vec<u8>, again: bool },
    Call { number: u8 },
    Answer { call: u8 },
    Leave { call: u8 },
    Attach { call: u8, id: u8 },
    Out { number: u8 },
    Wait { ms: u16 },
    NodeDown { node: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..4, 0u8..8, 0u8..3)
            .prop_map(|(id, numbers, tier)| Step::Put { id, numbers, tier }),
        1 => (0u8..4).prop_map(|id| Step::Delete { id }),
        1 => (prop::collection::vec(0u8..6, 0..5), any::<bool>())
            .prop_map(|(ids, again)| Step::Import { ids, again }),
        4 => (0u8..4).prop_map(|number| Step::Call { number }),
        3 => any::<u8>().prop_map(|call| Step::Answer { call }),
        3 => any::<u8>().prop_map(|call| Step::Leave { call }),
        1 => (any::<u8>(), 0u8..4).prop_map(|(call, id)| Step::Attach { call, id }),
        1 => (0u8..4).prop_map(|number| Step::Out { number }),
        2 => (1u16..20_000).prop_map(|ms| Step::Wait { ms }),
        1 => (2u8..=3).prop_map(|node| Step::NodeDown { node }),
    ]
}

fn number(n: u8) -> String {
    format!("+86105550{n:04}")
}

fn some_profile(id: u8, numbers: u8, tier: u8) -> Profile {
    let own: Vec<String> = (0..3)
        .filter(|bit| numbers >> bit & 1 == 1)
        .map(number)
        .collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let mut profile = profile(&format!("c{id}"), &own);
    profile.tier = [None, Some("gold"), Some("lead")][usize::from(tier)].map(str::to_string);
    profile
}

fn pick(world: &World, n: u8) -> Option<CallId> {
    let live: Vec<CallId> = world.state(|state| state.calls.keys().copied().collect());
    live.get(usize::from(n) % live.len().max(1)).copied()
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Put { id, numbers, tier } => {
            put(world, some_profile(id, numbers, tier));
        }
        Step::Delete { id } => {
            let customer = CustomerId::from(format!("c{id}"));
            crm(world, CrmChange::Delete { customer });
        }
        Step::Import { ids, again } => {
            let mut one = batch(0, &[], true);
            one.restart = again;
            one.count = u64::try_from(ids.len()).expect("few");
            one.rows = ids.iter().map(|id| some_profile(*id, *id, 0)).collect();
            crm(world, CrmChange::Import(one));
        }
        Step::Call { number: n } => {
            world.invite_at(n % 3 + 1, &number(n), "4008");
            world.run();
        }
        Step::Out { number: n } => {
            world.invite_at(1, "1003", &format!("0{}", number(n)));
            world.run();
        }
        Step::Answer { call } => {
            let waits = |call: &CallId| {
                let row = world.row(*call);
                row.visit.is_some_and(|visit| !visit.offers.is_empty())
            };
            if let Some(call) = pick(world, call).filter(waits) {
                world.agent_answers(call);
            }
        }
        Step::Leave { call } => {
            if let Some(call) = pick(world, call) {
                world.leaves(call);
            }
        }
        Step::Attach { call, id } => {
            if let Some(call) = pick(world, call) {
                let customer = Some(CustomerId::from(format!("c{id}")));
                crm(world, CrmChange::Attach { call, customer });
            }
        }
        Step::Wait { ms } => world.advance(u64::from(ms)),
        Step::NodeDown { node } => {
            world.node_down(u64::from(node), 1);
            world.run();
        }
    }
}

/// What is read from rows must fit together whatever happened.
fn rows_fit(world: &World, removed: &BTreeSet<String>) {
    let rows = &world.copy.rows;
    let customers: Vec<Customer> = rows_of(rows, &[Table::Customer])
        .iter()
        .map(|(_, _, row)| decode_row(row).expect("a customer"))
        .collect();
    let numbers: usize = customers.iter().map(|one| one.profile.numbers.len()).sum();
    let indexed = rows_of(rows, &[Table::CustomerByNumber]).len();
    assert_eq!(numbers, indexed, "a row for each number");
    assert_eq!(
        customers.len(),
        rows_of(rows, &[Table::CustomerByName]).len()
    );
    let contacts: Vec<Interaction> = rows_of(rows, &[Table::Interaction])
        .iter()
        .map(|(_, _, row)| decode_row(row).expect("a contact"))
        .collect();
    let calls: BTreeSet<CallId> = contacts.iter().filter_map(|one| one.call).collect();
    assert_eq!(calls.len(), contacts.len(), "one contact of a call");
    let matched = world.cdrs().into_iter().filter(|cdr| {
        let who = cdr.customer.as_ref();
        who.is_some_and(|who| !removed.contains(who.as_str()))
    });
    let kept = contacts
        .iter()
        .filter(|one| !removed.contains(one.customer.as_str()));
    assert_eq!(
        kept.count(),
        matched.count(),
        "a contact of each matched call"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn contacts_match_records_and_a_restart_anywhere_changes_nothing(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut world = World::at_work(&["amy", "bob"]);
        let mut removed = BTreeSet::new();
        for step in steps {
            if let Step::Delete { id } = &step {
                removed.insert(format!("c{id}"));
            }
            take(&mut world, step);
            rows_fit(&world, &removed);
        }
        let mut going_on = Copy::new();
        for (meta, batch) in &world.log {
            going_on.apply(*meta, batch);
            let restarted = Copy::restored(&going_on.rows);
            prop_assert_eq!(restarted.words(), going_on.words());
            going_on = restarted;
        }
        prop_assert_eq!(going_on.machine.state_hash(), world.copy.machine.state_hash());
        prop_assert!(going_on.rows == world.copy.rows);
    }
}
