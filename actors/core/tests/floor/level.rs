//! Feature levels: raised when every node reads them, and read by nobody who cannot.

use strowger_core::ids::NodeId;
use strowger_core::ports::{Machine, Proposal, RequestId, Table};
use strowger_core::state::command::{Action, Command, Refusal, Reply};
use strowger_core::state::machine::encode_command;
use strowger_core::state::store::META_KEY;
use strowger_core::state::{
    ExchangeMachine, FEATURE_LEVEL, FEATURE_LEVEL_FIRST, MetaRow, SharedState, decode_row,
    encode_row,
};

use crate::harness::World;
use crate::rows::{Copy, MemRows, Recorder};

const NEXT: u32 = FEATURE_LEVEL + 1;

fn up(world: &mut World, node: u64, incarnation: u64, level: u32) -> Reply {
    let address = world.state(|state| state.nodes[&NodeId(1)].address);
    world.propose(Command::NodeUp {
        node: NodeId(node),
        incarnation,
        address,
        version: "other".to_string(),
        level,
    })
}

fn in_force(world: &World) -> u32 {
    world.state(|state| state.meta.feature_level)
}

fn is_conflict(reply: &Reply) -> bool {
    matches!(reply, Reply::Refused(Refusal::Conflict(_)))
}

fn raise() -> Command {
    Command::Raise { level: NEXT }
}

/// Three nodes that all read the next level, which is in force.
fn raised() -> World {
    let mut world = World::new();
    world.propose(Command::Raise {
        level: FEATURE_LEVEL,
    });
    for node in 1..=3 {
        assert_eq!(up(&mut world, node, 2, NEXT), Reply::Done);
    }
    assert_eq!(world.propose(raise()), Reply::Done);
    world
}

/// The machine of a program that reads `level`, at these rows.
fn reading(level: u32, rows: &MemRows) -> ExchangeMachine {
    let sink = Box::new(Recorder::default());
    let mut machine = ExchangeMachine::new(SharedState::default(), sink).reading(level);
    machine.restore(rows);
    machine
}

fn batch(commands: &[Command]) -> Vec<Proposal> {
    let request = RequestId {
        node: 1,
        incarnation: 9,
        sequence: 1,
    };
    let batch = commands.iter().map(|command| Proposal {
        request,
        command: encode_command(command),
    });
    batch.collect()
}

#[test]
fn a_level_comes_into_force_when_every_node_reads_it_dead_ones_included() {
    let mut world = World::new();
    assert_eq!(in_force(&world), FEATURE_LEVEL_FIRST);
    world.propose(Command::Raise {
        level: FEATURE_LEVEL,
    });
    assert_eq!(in_force(&world), FEATURE_LEVEL);
    up(&mut world, 1, 2, NEXT);
    up(&mut world, 2, 2, NEXT);
    assert!(is_conflict(&world.propose(raise())));
    world.node_down(3, 1);
    assert!(is_conflict(&world.propose(raise())), "it may come back");
    assert_eq!(in_force(&world), FEATURE_LEVEL);
    world.act(Action::Forget { node: NodeId(3) });
    assert_eq!(world.propose(raise()), Reply::Done);
    assert_eq!(in_force(&world), NEXT);
    assert_eq!(world.propose(raise()), Reply::Done, "once is enough");
    let told = world.events();
    let told = told.iter().filter(|event| event.kind == "cluster.raised");
    assert_eq!(told.count(), 2, "one for each level");
}

#[test]
fn who_reads_less_than_is_in_force_does_not_come_up() {
    let mut world = raised();
    world.node_down(2, 2);
    assert!(is_conflict(&up(&mut world, 2, 3, FEATURE_LEVEL)));
    let still = world.state(|state| state.nodes[&NodeId(2)].up);
    assert!(!still);
    assert_eq!(up(&mut world, 2, 4, NEXT), Reply::Done);
}

#[test]
fn a_level_outlives_a_restart() {
    let world = raised();
    let restarted = Copy::restored(&world.copy.rows);
    assert_eq!(restarted.words(), world.copy.words());
}

#[test]
fn a_program_that_does_not_read_a_level_stops_before_the_entry_that_brings_it() {
    let world = World::new();
    let old = reading(FEATURE_LEVEL, &world.copy.rows);
    assert_eq!(old.beyond(&batch(&[Command::Tick, Command::Compare])), None);
    assert_eq!(old.beyond(&batch(&[Command::Tick, raise()])), Some(NEXT));
    assert_eq!(old.beyond(&[]), None);
    let new = reading(NEXT, &world.copy.rows);
    assert_eq!(new.beyond(&batch(&[Command::Tick, raise()])), None);
    // Rows from behind that entry: a snapshot, or its own after a newer program ran on them.
    let world = raised();
    let old = reading(FEATURE_LEVEL, &world.copy.rows);
    assert_eq!(old.beyond(&[]), Some(NEXT));
    assert_eq!(reading(NEXT, &world.copy.rows).beyond(&[]), None);
}

#[test]
fn rows_whose_level_cannot_even_be_read_are_of_a_later_one() {
    let mut rows = World::new().copy.rows;
    rows.replace(Table::Meta, META_KEY, vec![u8::MAX, 1, 2]);
    let machine = reading(FEATURE_LEVEL, &rows);
    assert_eq!(machine.beyond(&[]), Some(u32::MAX));
}

#[test]
fn a_command_of_a_level_that_is_not_in_force_is_refused_like_one_nobody_knows() {
    let mut world = World::new();
    let mut rows = world.copy.rows.clone();
    let meta = strowger_core::ports::RowsRead::get(&rows, Table::Meta, META_KEY);
    let meta: MetaRow = decode_row(&meta.expect("written")).expect("of this version");
    let below = MetaRow {
        feature_level: Command::Tick.level() - 1,
        ..meta
    };
    rows.replace(Table::Meta, META_KEY, encode_row(&below));
    assert_eq!(world.propose(Command::Tick), Reply::Done);
    world.copy = Copy::restored(&rows);
    let refused = Reply::Refused(Refusal::Unreadable);
    assert_eq!(world.propose(Command::Tick), refused);
}
