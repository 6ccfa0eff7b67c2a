//! Far ends of calls that were lost with their node, or that rang when it died: whoever is to
//! tell them (`State::teller`) does, and reports their final answers.
//!
//! Level-triggered: the rows say who is still to be told. Telling twice, after another
//! node or in another life, is harmless: the far end answers 481.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use strowger_core::floor::leftover::LeftoverRow;
use strowger_core::ids::LegId;
use strowger_core::state::command::Command;
use strowger_sip::endpoint::LostInvite;
use strowger_sip::message::{HeaderName, NameAddr, ReasonValue, Uri, host_of};
use strowger_sip::token::LegToken;
use tokio::sync::mpsc;
use tracing::{debug, info};

use super::checkpoint::{Checkpoint, KeptInvite};
use super::legs::NodeLegs;
use super::wake::WakeHub;
use super::{Shared, reports};

/// Without a wake-up, look this often.
const LOOK: Duration = Duration::from_secs(1);
/// While an address is still being bound.
const LOOK_SOON: Duration = Duration::from_millis(20);
/// Far ends told in one go; the rest follow after [`LOOK_SOON`], so that answers find room.
const TOLD_AT_ONCE: usize = 256;
/// Answers that come within this time are reported together.
const GATHER: Duration = Duration::from_millis(10);
/// Legs in one report.
const REPORTED_AT_ONCE: usize = 1_024;
/// How long one report may take, and the pause before it is repeated.
const PROPOSE: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(100);
/// The far end's clearing: temporary failure of Q.850.
const CAUSE: u16 = 41;

/// Tells the far ends that are this node's to tell, for ever.
pub async fn keep(shared: Arc<Shared>, wakes: WakeHub) {
    let mut changed = wakes.cluster();
    loop {
        let more = tell_all(&shared);
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep(if more { LOOK_SOON } else { LOOK }) => {}
        }
    }
}

/// Tells the far ends that are to be told now. True when there is more to tell soon.
pub fn tell_all(shared: &Arc<Shared>) -> bool {
    let mut told = shared.told.lock();
    if told.is_empty() && shared.state.read().leftovers.is_empty() {
        return false;
    }
    let Some(endpoint) = shared.endpoint() else {
        return true;
    };
    let bound = endpoint.bound();
    let mut more = false;
    let rows: Vec<(LeftoverRow, IpAddr)> = {
        let state = shared.state.read();
        told.retain(|leg| state.leftovers.contains_key(leg));
        let untold = state.leftovers.values();
        let untold = untold.filter(|row| !told.contains(&row.leg));
        let mine = untold.filter_map(|row| {
            let (teller, address) = state.teller(row)?;
            (teller == shared.node).then_some((row, address))
        });
        let mut rows = Vec::new();
        for (row, address) in mine {
            if bound.contains(&address) && rows.len() < TOLD_AT_ONCE {
                rows.push((row.clone(), address));
            } else {
                more = true;
            }
        }
        rows
    };
    if !rows.is_empty() {
        info!(legs = rows.len(), "telling far ends of lost calls");
    }
    for (row, address) in rows {
        told.insert(row.leg);
        tell(shared, row, address);
    }
    more
}

fn tell(shared: &Arc<Shared>, row: LeftoverRow, address: IpAddr) {
    let checkpoint = row.checkpoint.as_deref().and_then(Checkpoint::read);
    if let Some(Checkpoint::Invite(kept)) = &checkpoint
        && kept.answer.is_none()
    {
        return refuse(shared, &row, kept, address);
    }
    let endpoint = shared.endpoint();
    let dialog = checkpoint
        .zip(endpoint)
        .and_then(|(checkpoint, endpoint)| checkpoint.dialog(endpoint, row.leg));
    match dialog {
        Some(mut dialog) => {
            let legs = NodeLegs::new(Arc::clone(shared));
            dialog.flow = legs.way_on(dialog.flow, row.address, address);
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                let Some(endpoint) = shared.endpoint() else {
                    return;
                };
                match endpoint.end_dialog(dialog, row.epoch + 1, CAUSE).await {
                    Ok(_) => over(&shared, row.leg),
                    Err(why) => debug!(leg = %row.leg, %why, "a far end was told in vain"),
                }
            });
        }
        None => cancel(shared, &row, address),
    }
}

/// Answers a caller whom nobody has answered: what refused him did not live to say so.
fn refuse(shared: &Arc<Shared>, row: &LeftoverRow, kept: &KeptInvite, address: IpAddr) {
    let Some(endpoint) = shared.endpoint() else {
        return;
    };
    let flow = NodeLegs::new(Arc::clone(shared)).way_on(kept.flow, row.address, address);
    let epoch = row.epoch + 1;
    let token = LegToken {
        index: row.leg.index(),
        n: row.leg.n(),
        epoch,
    };
    let sink = reports::sink(shared, row.leg);
    let refused = endpoint.revive(&kept.raw, flow, (token, epoch), sink);
    let headers = [(HeaderName::Reason, ReasonValue::q850(CAUSE))];
    match refused.map(|leg| leg.reject(480, "", &headers)) {
        Ok(Ok(())) => {}
        Ok(Err(why)) => debug!(leg = %row.leg, %why, "a caller is not to be refused any more"),
        Err(why) => debug!(leg = %row.leg, %why, "a caller cannot be refused"),
    }
    over(shared, row.leg);
}

/// Takes back an INVITE that was not answered. Its final answer is reported when it comes.
fn cancel(shared: &Arc<Shared>, row: &LeftoverRow, address: IpAddr) {
    let Some((endpoint, target)) = shared.endpoint().zip(row.target.as_ref()) else {
        // A caller whose INVITE was too long to be kept.
        return;
    };
    let Some(uri) = Uri::parse(&target.uri) else {
        return;
    };
    let legs = NodeLegs::new(Arc::clone(shared));
    // The way the INVITE went.
    let Some(flow) = legs.flow(row.address, target, &uri) else {
        return;
    };
    let mut to = uri.clone();
    to.params.clear();
    to.headers.clear();
    endpoint.cancel_lost(&LostInvite {
        token: LegToken {
            index: row.leg.index(),
            n: row.leg.n(),
            epoch: row.epoch,
        },
        target: uri,
        sent_by: flow.local,
        flow: legs.way_on(flow, row.address, address),
        from: NameAddr::new(Uri::sip(Some(&row.from), &host_of(row.address), None)),
        to: NameAddr::new(to),
    });
}

/// The far end of a leftover has answered finally.
pub fn over(shared: &Shared, leg: LegId) {
    if shared.state.read().leftovers.contains_key(&leg) {
        // A far end may repeat its answer while no majority takes the report. What finds no
        // room is told by the next repeat, or the row goes by its deadline.
        let _ = shared.released.try_send(leg);
    }
}

/// Reports final answers, many at a time, for ever.
pub async fn report(shared: Arc<Shared>, mut released: mpsc::Receiver<LegId>) {
    while let Some(first) = released.recv().await {
        tokio::time::sleep(GATHER).await;
        let mut legs = vec![first];
        while legs.len() < REPORTED_AT_ONCE
            && let Ok(leg) = released.try_recv()
        {
            legs.push(leg);
        }
        let command = Command::Released { legs: legs.clone() };
        loop {
            // Rows go by themselves when no majority is there to hear this.
            let waited = {
                let state = shared.state.read();
                legs.iter().any(|leg| state.leftovers.contains_key(leg))
            };
            if !waited || shared.desk.propose(&command, PROPOSE).await.is_ok() {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
