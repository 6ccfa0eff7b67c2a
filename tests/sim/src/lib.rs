//! The exchange under simulation: the production state machine, call actors, steward and
//! leases on several nodes, with the network, the disks, the clocks and every phone drawn
//! from one seed, on virtual time, without a socket.
//!
//! The same seed gives the same run to the last line of its trace, so a failure is a number.
//!
//! | module | what lives there |
//! |---|---|
//! | `world` | the queue of events, virtual time, the network |
//! | `agreement` | a stand-in for agreement: one log, leaders, quorums, snapshots |
//! | `liveness` | the leases of the cluster crate on virtual time |
//! | `disk` | rows, and what a power cut takes of them |
//! | `node` | lives of nodes around the exchange's own code |
//! | `exchange` | a stand-in for SIP and RTP: legs as messages |
//! | `routing` | messages that find no leg at first |
//! | `admission` | an INVITE becomes a call |
//! | `phones` | callers, agents, lines, customers |
//! | `operators` | who signs in and out, drains, changes the site |
//! | `faults` | what goes wrong |
//! | `checks` | what must hold all the same |
//! | `readers` | who follows the events from node to node |
//! | `promises` | what no entry may do to those who talk |
//!
//! Not simulated: SIP and RTP themselves, registrations, RocksDB, QUIC, openraft's messages,
//! the death watch's sockets. Those have tests of their own with real processes.

mod admission;
mod agreement;
mod chance;
mod checks;
mod disk;
mod exchange;
mod faults;
#[path = "../../../cluster/src/limits.rs"]
#[allow(dead_code, reason = "leases need a few of the cluster's limits")]
mod limits;
#[allow(
    dead_code,
    reason = "the cluster uses more of its leases than agreement here does"
)]
mod liveness;
mod node;
mod operators;
mod phones;
mod plan;
mod promises;
mod readers;
mod routing;
mod site;
mod trace;
mod world;

pub use crate::plan::Plan;

use crate::faults::Fault;
use crate::world::{Event, Sim};

/// How long everything may take to come to rest when the faults have ended, ms.
const REST_MAX: u64 = 300_000;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Hash over the trace: equal for equal seeds.
    pub hash: String,
    /// The property found broken, and how.
    pub broken: Option<(&'static str, String)>,
    /// The last lines of the trace, or all of them when they were wanted.
    pub trace: String,
    /// Simulated time, ms.
    pub lasted_ms: u64,
    /// Calls admitted.
    pub calls: usize,
    /// Calls in which two parties talked.
    pub talks: u64,
    /// Events that each reader read.
    pub events: usize,
    /// Entries of the log.
    pub entries: u64,
    /// Faults.
    pub faults: u64,
    /// Elections.
    pub elections: u64,
    /// How long anything lasted that must not last, ms, by property.
    pub longest: [(&'static str, u64); 8],
}

/// Runs `plan` from its beginning to its end, or until something is found broken.
///
/// # Panics
/// When no runtime can be made.
pub fn run(plan: Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without sockets needs nothing that can be missing");
    runtime.block_on(play(plan))
}

async fn play(plan: Plan) -> Outcome {
    let seed = plan.seed;
    let sim = Sim::new(plan.clone());
    {
        let mut world = sim.world();
        world.after(0, Event::Heartbeat);
        for node in 1..=plan.nodes {
            let at = world.chance.within(0, 500);
            world.after(at, Event::Start(node));
        }
    }
    tokio::spawn(operators::establish(sim.clone()));
    sim.play(5_000).await;
    {
        let mut world = sim.world();
        world.after(0, Event::Look);
        world.after(0, Event::Call);
        world.after(0, Event::Operate);
        match plan.kill_every_ms {
            Some(every) => world.after(every, Event::Fault(Fault::Kill)),
            None => world.after(0, Event::Fault(Fault::Any)),
        }
    }
    sim.play(5_000 + plan.busy_ms).await;
    sim.world().calm_down();
    let mut until = 5_000 + plan.busy_ms;
    let last = until + REST_MAX;
    loop {
        until += 5_000;
        sim.play(until).await;
        let mut world = sim.world();
        if world.checks.is_broken() {
            break;
        }
        if world.is_quiet() {
            break;
        }
        if until > last {
            let why = world.going_on();
            world.broken("rest", why);
            break;
        }
    }
    // Deadlines of what is over come and go.
    if !sim.world().checks.is_broken() {
        let last = until + 120_000;
        sim.play(last).await;
        // The last entry may just be on its way to somebody.
        let mut more = 0;
        while !sim.world().is_level() && more < 1_000 {
            more += 10;
            sim.play(last + more).await;
        }
        let mut world = sim.world();
        if !world.checks.is_broken() {
            world.check_end();
        }
    }
    let mut world = sim.world();
    let outcome = Outcome {
        seed,
        hash: world.trace.hash(),
        broken: world.checks.broken(),
        trace: world.trace.text(),
        lasted_ms: world.now(),
        calls: world.arrived.len(),
        talks: world.checks.talked,
        events: world.readers.read(),
        entries: world.agreement.last(),
        faults: world.checks.faults,
        elections: world.agreement.elections,
        longest: world.checks.longest(),
    };
    // The nodes' tasks know the world, and the world knows them.
    let nodes = std::mem::take(&mut world.nodes);
    drop(world);
    drop(nodes);
    outcome
}
