//! Operators and agents: somebody signs in or out, pauses, is ready again, drains a node,
//! changes the site. Through the commands of whichever node they happen to use.

use std::sync::Arc;
use std::time::Duration;

use strowger_actors::desk::Desk;
use strowger_core::ids::NodeId;
use strowger_core::state::State;
use strowger_core::state::command::{Action, Command, Reply, SiteApply};

use crate::node::Lived;
use crate::site;
use crate::world::{Event, Sim, World};

/// Longest pause between two actions, ms.
const EVERY: u64 = 4_000;
/// How long somebody waits for the outcome.
const WAIT: Duration = Duration::from_secs(3);

impl World {
    /// The commands of some node that runs, with its state.
    fn some_desk(&mut self) -> Option<(u64, u64)> {
        let alive: Vec<(u64, u64)> = self
            .nodes
            .iter()
            .filter_map(|(n, node)| Some((*n, node.life.as_ref()?.incarnation)))
            .collect();
        self.chance.pick(&alive).copied()
    }
}

/// Somebody does something, and somebody else will.
pub fn operate(sim: &Sim) {
    let doing = {
        let mut world = sim.world();
        let pause = world.chance.within(1, EVERY);
        world.after(pause, Event::Operate);
        let Some((node, life)) = world.some_desk() else {
            return;
        };
        let Some(own) = world.life(node, life) else {
            return;
        };
        let (state, desk) = (own.state.clone(), own.desk.clone());
        let command = choose(&mut world, &state.read());
        command.map(|command| (desk, command))
    };
    if let Some((desk, command)) = doing {
        tokio::spawn(async move {
            // Whoever asked sees the state afterwards and asks again.
            let _ = desk.propose(&command, WAIT).await;
        });
    }
}

fn act(action: Action) -> Option<Command> {
    Some(Command::Act {
        id: String::new(),
        tenant: site::tenant(),
        action,
    })
}

fn choose(world: &mut World, state: &State) -> Option<Command> {
    let agents: Vec<_> = state.agents.values().collect();
    let agent = world.chance.pick(&agents).map(|row| (*row).clone())?;
    if agent.paused.is_some() || !agent.signed_in {
        let agent = agent.id;
        let extension = None;
        return act(
            match state.agents[&(site::tenant(), agent.clone())].signed_in {
                true => Action::Ready { agent },
                false => Action::SignIn { agent, extension },
            },
        );
    }
    if world.calm {
        // Nobody is left out of service for good.
        let draining = state.nodes.values().find(|node| node.draining);
        let node = draining.map(|node| node.id)?;
        return act(Action::Drain { node, on: false });
    }
    if world.plan.kill_every_ms.is_some() {
        return None;
    }
    match world.chance.within(0, 99) {
        0..=9 => act(Action::SignOut { agent: agent.id }),
        10..=19 => act(Action::Pause {
            agent: agent.id,
            reason: String::from("tea"),
        }),
        20..=24 => {
            let calls: Vec<_> = state.calls.keys().copied().collect();
            let call = *world.chance.pick(&calls)?;
            act(Action::Hangup { call })
        }
        25..=29 => {
            let calls: Vec<_> = state.calls.keys().copied().collect();
            let call = *world.chance.pick(&calls)?;
            let weight = 5;
            act(Action::Prioritize { call, weight })
        }
        30..=34 => {
            let callbacks: Vec<_> = state.callbacks.keys().copied().collect();
            let callback = *world.chance.pick(&callbacks)?;
            act(Action::Withdraw { callback })
        }
        35..=41 => {
            let node = NodeId(world.chance.within(1, world.plan.nodes));
            let on = state.nodes.values().all(|node| !node.draining);
            let draining = state.nodes.values().find(|node| node.draining);
            let node = draining.map_or(node, |node| node.id);
            act(Action::Drain { node, on })
        }
        42..=44 => {
            let version = state.sites.get(&site::tenant())?.version;
            Some(Command::SiteApply(SiteApply {
                site: Arc::new(site::site(&world.plan, version)),
                text: String::new(),
                base: version,
                secrets: Vec::new(),
                times: Vec::new(),
            }))
        }
        _ => None,
    }
}

/// Puts the site in force at the beginning.
pub async fn establish(sim: Sim) {
    loop {
        let first = {
            let mut world = sim.world();
            let site = Arc::new(site::site(&world.plan, 0));
            world.some_desk().and_then(|(node, life)| {
                let lived = Lived {
                    sim: sim.clone(),
                    node,
                    life,
                };
                let desk: Desk = world.life(node, life)?.desk.clone();
                Some((lived, desk, site))
            })
        };
        if let Some((_, desk, site)) = first {
            let command = Command::SiteApply(SiteApply {
                site,
                text: String::new(),
                base: 0,
                secrets: Vec::new(),
                times: Vec::new(),
            });
            if matches!(desk.propose(&command, WAIT).await, Ok(Reply::Site { .. })) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
