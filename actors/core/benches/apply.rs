//! What the life of one queued call costs in `apply`, with few and with many agents,
//! and how large its row is.
//!
//! Rows are a map here, so the figures are the decision, the encoding and the hash,
//! without storage. Run with `cargo bench -p strowger-core --bench apply`.

#[path = "../tests/floor/harness.rs"]
mod harness;
#[path = "../tests/floor/reference.rs"]
mod reference;
#[path = "../tests/floor/rows.rs"]
mod rows;
#[path = "../tests/floor/site.rs"]
mod site;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use strowger_core::call::Cause;
use strowger_core::ids::{AgentId, CallId, Extension};
use strowger_core::ports::{Meta, Proposal, RequestId};
use strowger_core::site::ExtensionSpec;
use strowger_core::state::command::{Command, Observation};
use strowger_core::state::encode_row;
use strowger_core::state::machine::encode_command;

use crate::harness::{World, answered, ended};
use crate::rows::Copy;

/// A floor with this many agents at work, in a queue without wrap-up so that it is the
/// same before and after a call.
fn floor(agents: u32) -> World {
    let mut site = site::site();
    site.agents.clear();
    for n in 0..agents {
        let extension = (2_000 + n).to_string();
        let line = ExtensionSpec { contact: None };
        site.extensions
            .insert(Extension::from(extension.as_str()), line);
        let spec = site::agent_spec(Some(&extension), &["sales"], true);
        site.agents.insert(AgentId::from(format!("agent{n}")), spec);
    }
    let mut world = World::with_site(site);
    world.register("1001", "desk", 7_200);
    for n in 0..agents {
        world.register(&(2_000 + n).to_string(), "desk", 7_200);
    }
    world
}

/// Commits the life of one call, each step in an entry of its own; the entries.
fn life(world: &mut World) -> Vec<(Meta, Vec<Proposal>)> {
    let from = world.log.len();
    let reply = world.invite_at(1, "1001", "4009");
    let call: CallId = world.arrived.pop().unwrap_or_else(|| panic!("{reply:?}"));
    let (near, far) = (world.caller_leg(call), world.far_leg(call));
    let steps: [Vec<Observation>; 4] = [
        vec![answered(near)],
        vec![answered(far)],
        vec![ended(near, Cause::NORMAL)],
        vec![ended(far, Cause::NORMAL)],
    ];
    for observations in steps {
        world.propose(Command::CallObserved { call, observations });
    }
    world.log.split_off(from)
}

fn row_bytes() {
    let mut world = floor(5);
    world.invite_at(1, "1001", "4009");
    let call = world.arrived[0];
    println!(
        "CallRow, offered:  {:>5} bytes",
        encode_row(&world.row(call)).len()
    );
    let (near, far) = (world.caller_leg(call), world.far_leg(call));
    world.observe(call, vec![answered(near), answered(far)]);
    println!(
        "CallRow, bridged:  {:>5} bytes",
        encode_row(&world.row(call)).len()
    );
    world.observe(
        call,
        vec![ended(near, Cause::NORMAL), ended(far, Cause::NORMAL)],
    );
    println!(
        "CdrRow:            {:>5} bytes",
        encode_row(&world.cdr(call)).len()
    );
}

fn lives(bench: &mut Criterion) {
    row_bytes();
    for agents in [5, 50] {
        let mut world = floor(agents);
        let rows = world.copy.rows.clone();
        let entries = life(&mut world);
        bench.bench_function(
            &format!("life of a queued call, {agents} agents"),
            |bench| {
                let begin = || Copy::restored(&rows);
                let whole = |mut copy: Copy| {
                    for (meta, batch) in &entries {
                        copy.apply(*meta, batch);
                    }
                    copy
                };
                bench.iter_batched(begin, whole, BatchSize::LargeInput);
            },
        );
    }
    let tick = vec![Proposal {
        request: RequestId {
            node: 9,
            incarnation: 1,
            sequence: 1,
        },
        command: encode_command(&Command::Tick),
    }];
    let mut world = floor(50);
    let mut index = world.index;
    bench.bench_function("a tick with nothing due", |bench| {
        bench.iter(|| {
            index += 1;
            let stamp_ms = world.now;
            world.copy.apply(Meta { index, stamp_ms }, &tick)
        });
    });
}

criterion_group!(benches, lives);
criterion_main!(benches);
