//! Copies that differ are found by what most nodes tell, and stand aside.

use strowger_core::floor::figure::{FigureRow, Subject, figure_key};
use strowger_core::ids::NodeId;
use strowger_core::ports::{Machine, RowsRead, Table};
use strowger_core::state::command::{Action, Command, Refusal, Reply};
use strowger_core::state::{decode_row, encode_row};

use crate::harness::{World, queue_key, refusal, tenant};
use crate::rows::{Copy, MemRows};

const RIGHT: [u8; 16] = [7; 16];
const WRONG: [u8; 16] = [9; 16];
const THIRD: [u8; 16] = [1; 16];

fn tell(world: &mut World, node: u64, hash: [u8; 16]) -> Reply {
    let index = world.state(|state| state.compare.index);
    world.propose(Command::HashTold {
        node: NodeId(node),
        incarnation: 1,
        index,
        hash,
    })
}

fn marked(world: &World) -> Vec<u64> {
    world.state(|state| {
        let nodes = state.nodes.values();
        let marked = nodes.filter(|row| row.diverged.is_some());
        marked.map(|row| row.id.0).collect()
    })
}

#[test]
fn what_most_nodes_tell_is_right() {
    // What nodes 1 to 3 tell, in this order of telling; who is marked; undecided.
    type Row = (&'static [(u64, [u8; 16])], &'static [u64], bool);
    let table: [Row; 7] = [
        (&[(1, RIGHT), (2, RIGHT), (3, RIGHT)], &[], false),
        (&[(1, RIGHT), (2, RIGHT), (3, WRONG)], &[3], false),
        // The first to tell may be the leader, and wrong.
        (&[(1, WRONG), (2, RIGHT), (3, RIGHT)], &[1], false),
        (&[(1, RIGHT), (2, WRONG)], &[], false),
        (&[(1, RIGHT), (2, WRONG), (3, WRONG)], &[1], false),
        (&[(1, RIGHT), (2, WRONG), (3, THIRD)], &[], true),
        // Who told once does not tell otherwise.
        (&[(1, RIGHT), (1, WRONG), (2, WRONG)], &[], false),
    ];
    for (told, expected, undecided) in table {
        let mut world = World::new();
        assert_eq!(world.propose(Command::Compare), Reply::Done);
        for (node, hash) in told {
            assert_eq!(tell(&mut world, *node, *hash), Reply::Done);
        }
        assert_eq!(marked(&world), expected, "{told:?}");
        assert_eq!(world.state(|state| state.compare.undecided), undecided);
        let events = world.events();
        let alarms = events.iter().filter(|event| event.kind == "node.diverged");
        assert_eq!(alarms.count(), expected.len());
        let restarted = Copy::restored(&world.copy.rows);
        assert_eq!(restarted.words(), world.copy.words());
    }
}

#[test]
fn a_marked_node_comes_up_no_more_until_it_was_removed() {
    let mut world = World::new();
    world.propose(Command::Compare);
    for (node, hash) in [(1, RIGHT), (2, WRONG), (3, RIGHT)] {
        tell(&mut world, node, hash);
    }
    assert_eq!(marked(&world), [2]);
    world.node_down(2, 1);
    let again = world.node_up(2, 2);
    assert!(matches!(refusal(&again), Refusal::Conflict(_)), "{again:?}");
    let held = world.state(|state| {
        let rows = state.addresses.values();
        rows.filter(|row| row.holder == Some(NodeId(2))).count()
    });
    assert_eq!(held, 0);
    // The two that are left are two of two, and still compare.
    world.propose(Command::Compare);
    tell(&mut world, 1, RIGHT);
    tell(&mut world, 3, RIGHT);
    assert_eq!(tell(&mut world, 2, RIGHT), Reply::Refused(Refusal::Stale));
    let forgotten = world.act(Action::Forget { node: NodeId(2) });
    assert_eq!(forgotten, Reply::Done);
    assert_eq!(world.node_up(2, 1), Reply::Done);
    assert_eq!(marked(&world), Vec::<u64>::new());
}

#[test]
fn what_is_told_late_or_by_an_older_life_is_refused() {
    let mut world = World::new();
    let ask = |index: u64, incarnation: u64| Command::HashTold {
        node: NodeId(1),
        incarnation,
        index,
        hash: RIGHT,
    };
    let stale = Reply::Refused(Refusal::Stale);
    assert_eq!(world.propose(ask(0, 1)), stale, "nobody has asked");
    world.propose(Command::Compare);
    let index = world.state(|state| state.compare.index);
    assert_eq!(world.propose(ask(index - 1, 1)), stale);
    assert_eq!(world.propose(ask(index, 2)), stale);
    assert_eq!(world.propose(ask(index, 1)), Reply::Done);
}

/// These rows, one caller too many counted in a queue.
fn tampered(rows: &MemRows) -> MemRows {
    let key = figure_key(&tenant(), &Subject::Queue(queue_key("support").1));
    let value = rows
        .get(Table::Figure, &key)
        .expect("the queue has figures");
    let mut row: FigureRow = decode_row(&value).expect("of this version");
    row.tally.entered += 1;
    let mut rows = rows.clone();
    rows.replace(Table::Figure, &key, encode_row(&row));
    rows
}

#[test]
fn a_copy_that_differs_tells_another_hash_and_changes_nothing_for_the_others() {
    let mut world = World::at_work(&["bob"]);
    let mut wrong = Copy::restored(&tampered(&world.copy.rows));
    let mut healthy = Copy::restored(&world.copy.rows);
    let from = world.log.len();
    world.call("anonymous", "4008");
    world.propose(Command::Compare);
    for (meta, batch) in &world.log[from..] {
        wrong.apply(*meta, batch);
        healthy.apply(*meta, batch);
    }
    let own = |copy: &Copy| copy.state.read().compare.hash;
    assert_eq!(own(&healthy), own(&world.copy));
    assert_ne!(own(&wrong), own(&world.copy), "the row was written again");
    let (right, other) = (own(&healthy), own(&wrong));
    let from = world.log.len();
    for (node, hash) in [(1, other), (2, right), (3, right)] {
        tell(&mut world, node, hash);
    }
    for (meta, batch) in &world.log[from..] {
        wrong.apply(*meta, batch);
        healthy.apply(*meta, batch);
    }
    assert_eq!(
        healthy.machine.state_hash(),
        world.copy.machine.state_hash()
    );
    for copy in [&wrong, &healthy, &world.copy] {
        assert!(
            copy.state.read().diverged(NodeId(1)).is_some(),
            "all judge alike, the wrong one too"
        );
    }
}
