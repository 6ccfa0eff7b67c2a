//! A caller's INVITE becomes a committed call with an actor, or is refused: what the daemon's
//! admission does, without SIP.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use strowger_actors::desk::DeskError;
use strowger_actors::ports::LegEvent;
use strowger_actors::withdrawal::Withdrawal;
use strowger_core::call::{Caller, Cause};
use strowger_core::ids::{Extension, NodeId};
use strowger_core::state::command::{CallArrived, Command, Reply};

use crate::exchange::{Entry, FromExchange, checkpoint};
use crate::node::{Lived, Refusal};
use crate::site;
use crate::world::{Sim, World};

/// A caller who hears nothing for this long would send the INVITE again, as in the daemon.
const TRYING_AFTER: Duration = Duration::from_millis(150);

impl World {
    /// An INVITE has reached a life.
    pub fn admit(&mut self, node: u64, life: u64, far: u64) {
        if !self.has_lease(node) {
            return self.reply(node, life, far, FromExchange::Final(503));
        }
        if let Some(own) = self.life(node, life) {
            own.admitting.insert(far);
        }
        self.admissions.push_back((node, life, far));
    }
}

/// Begins the admissions that wait for it.
pub fn begin(sim: &Sim) {
    loop {
        let next = sim.world().admissions.pop_front();
        let Some((node, life, far)) = next else {
            return;
        };
        let lived = Lived {
            sim: sim.clone(),
            node,
            life,
        };
        tokio::spawn(admit(lived, far));
    }
}

async fn admit(lived: Lived, far: u64) {
    let asked = {
        let mut world = lived.sim.world();
        let Some(caller) = world.fars.get(&far).cloned() else {
            return;
        };
        let Some(own) = world.life(lived.node, lived.life) else {
            return;
        };
        let held = {
            let state = own.state.read();
            let row = state.addresses.get(&caller.address);
            let row = row.filter(|row| row.holder == Some(NodeId(lived.node)));
            row.map(|row| row.epoch)
        };
        let pass = own.gate.enter();
        let ready = held.zip(pass).zip(own.switchboard.clone());
        ready.map(|((epoch, pass), board)| (caller, epoch, pass, board, own.desk.clone()))
    };
    let Some((caller, epoch, pass, board, desk)) = asked else {
        return refuse(&lived, far, 503);
    };
    let line = caller.phone.starts_with("10");
    let command = Command::CallArrived(CallArrived {
        tenant: site::tenant(),
        address: caller.address,
        node: NodeId(lived.node),
        epoch,
        from: Caller {
            number: caller.phone.clone(),
            display: String::new(),
            extension: line.then(|| Extension::from(caller.phone.as_str())),
            trunk: None,
            e164: None,
        },
        to: caller.to.clone(),
        sip_call_id: format!("far-{far}"),
        remote: None,
        called: None,
        checkpoint: Some(checkpoint(far)),
    });
    let proposal = desk.propose(&command, strowger_actors::limits::ARRIVAL);
    tokio::pin!(proposal);
    let reply = tokio::select! {
        biased;
        reply = &mut proposal => reply,
        () = tokio::time::sleep(TRYING_AFTER) => {
            say(&lived, far, FromExchange::Trying);
            proposal.await
        }
    };
    match reply {
        Ok(Reply::Call { call, leg }) => {
            {
                let mut world = lived.sim.world();
                let withdrawn = world.fars.get_mut(&far).is_none_or(|far| {
                    far.leg = Some(leg);
                    far.withdrawn
                });
                let Some(own) = world.life(lived.node, lived.life) else {
                    return;
                };
                own.admitting.remove(&far);
                let known = Some(far).filter(|_| !withdrawn);
                own.legs.insert(leg, Entry::new(call, known, epoch, true));
                if withdrawn {
                    // The caller is gone before the call was his.
                    let gone = LegEvent::Ended {
                        sip_call_id: String::new(),
                        cause: Cause::CANCELLED,
                    };
                    world.report(lived.node, lived.life, leg, gone);
                }
            }
            say(&lived, far, FromExchange::Trying);
            board.admit(call, leg, pass).await;
            lived.sim.world().opened(lived.node, lived.life, leg);
        }
        Ok(Reply::CallRefused(cause)) => refuse(&lived, far, cause.status),
        Err(DeskError::Unknown(request)) => {
            let refusal_known = Arc::<AtomicBool>::default();
            refuse_noting(&lived, far, 503, Arc::clone(&refusal_known));
            let own = lived.with(|life| (life.state.clone(), life.gate.clone()));
            let Some((state, gate)) = own else { return };
            let withdrawal = Withdrawal {
                desk: desk.clone(),
                state,
                request,
                refusal_known,
                pass,
            };
            if let Some(call) = withdrawal.carry_out().await {
                board.open(call, gate.enter()).await;
            }
        }
        Ok(_) | Err(DeskError::NoQuorum) => refuse(&lived, far, 503),
        Err(_) => refuse(&lived, far, 500),
    }
}

fn say(lived: &Lived, far: u64, message: FromExchange) {
    let mut world = lived.sim.world();
    world.reply(lived.node, lived.life, far, message);
    drop(world);
    lived.sim.stirred.notify_one();
}

fn refuse(lived: &Lived, far: u64, status: u16) {
    refuse_noting(lived, far, status, Arc::default());
}

/// Sets `known` once the far end has acknowledged it.
fn refuse_noting(lived: &Lived, far: u64, status: u16, known: Arc<AtomicBool>) {
    lived.with(|life| {
        life.admitting.remove(&far);
        life.refused.insert(far, Refusal { status, known });
    });
    say(lived, far, FromExchange::Final(status));
}
