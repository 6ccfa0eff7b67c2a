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

use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use strowger_core::call::Cause;
use strowger_core::ids::{AgentId, CallId, Extension};
use strowger_core::ports::{Meta, Proposal, RequestId};
use strowger_core::site::{ExtensionSpec, NumberSpec, QueueSpec, Strategy, Target};
use strowger_core::skill::SkillRule;
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
        let line = ExtensionSpec {
            contact: None,
            qualify_s: None,
        };
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
        world.observe(call, observations);
    }
    world.log.split_off(from)
}

fn row_bytes() {
    let mut world = floor(5);
    world.invite_at(1, "1001", "4009");
    let call = world.arrived[0];
    println!(
        "CallRow, offered:  {:>5} bytes, checkpoints left out",
        encode_row(&world.row(call)).len()
    );
    let (near, far) = (world.caller_leg(call), world.far_leg(call));
    world.observe(call, vec![answered(near), answered(far)]);
    println!(
        "CallRow, bridged:  {:>5} bytes, checkpoints left out",
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

/// What an assignment costs on a wide floor: the arrival that is offered at once, and
/// the caller's leaving, each an entry of its own, while others wait in vain. The time
/// must not grow with those whom the event does not concern.
fn assignments(agents: u32, queues: u32, waiting: u32, rounds: u32) {
    let mut site = site::site();
    let device = |n: u32| format!("sip:a{n}@127.0.0.91");
    let name = |n: u32| format!("q{}", n % queues);
    site.queues = (0..queues)
        .map(|n| {
            let mut spec = QueueSpec::plain(Strategy::LongestIdle, 15_000, 0, 0);
            // The last queue asks for what nobody can do.
            if n + 1 == queues {
                spec.skills = SkillRule::AtLeast("none".into(), 1);
            }
            (name(n).into(), spec)
        })
        .collect();
    site.numbers = (0..queues)
        .map(|n| {
            let target = Target::Queue(name(n).into());
            let number = NumberSpec {
                target,
                public: true,
                greeting: None,
                hours: None,
            };
            (format!("5{n:03}"), number)
        })
        .collect();
    site.agents = (0..agents)
        .map(|n| {
            let mut spec = site::agent_spec(None, &[], true);
            spec.contact = Some(device(n));
            spec.queues = (0..10).map(|k| name(n + k).into()).collect();
            (AgentId::from(format!("a{n}")), spec)
        })
        .collect();
    let mut world = World::with_site_unchecked(site);
    let stuck = format!("5{:03}", queues - 1);
    for _ in 0..waiting {
        world.invite_at(1, "anonymous", &stuck);
    }
    let mut spent = [Duration::ZERO; 2];
    for n in 0..rounds {
        let to = format!("5{:03}", n % (queues - 1));
        let begun = Instant::now();
        world.invite_at(1, "anonymous", &to);
        spent[0] += begun.elapsed();
        let Some(call) = world.arrived.pop() else {
            return;
        };
        let legs: Vec<_> = world.row(call).legs.iter().map(|leg| leg.id).collect();
        assert_eq!(legs.len(), 2, "offered at once");
        let gone = legs.iter().map(|leg| ended(*leg, Cause::CANCELLED));
        let gone: Vec<Observation> = gone.collect();
        let begun = Instant::now();
        world.observe(call, gone);
        spent[1] += begun.elapsed();
    }
    let [offered, freed] = spent.map(|all| all.as_secs_f64() * 1e6 / f64::from(rounds));
    println!(
        "{agents} agents x {queues} queues, {waiting} wait: arrival and offer {offered:.0} us, \
         end {freed:.0} us, {:.0} assignments/s",
        1e6 / (offered + freed),
    );
    let agent = world.state(|state| state.agents.values().next().map(encode_row));
    println!("AgentRow: {:>5} bytes", agent.map_or(0, |row| row.len()));
    if let Some(call) = world.arrived.first() {
        let bytes = encode_row(&world.row(*call)).len();
        println!("CallRow, waiting:  {bytes:>5} bytes, checkpoints left out");
    }
}

fn lives(bench: &mut Criterion) {
    row_bytes();
    assignments(50, 5, 0, 2_000);
    assignments(500, 50, 0, 2_000);
    // The cost of each from a tenth of the largest floor to the whole of it.
    for size in [1_000, 3_000, 10_000] {
        assignments(size, 50, size, 2_000);
    }
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
