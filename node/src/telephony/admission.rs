//! A new INVITE becomes a committed call with an actor, or gets a clear refusal.
//!
//! Order: what costs nothing first. A full house is refused before anything is checked,
//! a bad offer before anybody is authenticated, and nothing is committed for a caller
//! who has not proved what he claims.

use std::sync::Arc;
use std::time::Duration;

use strowger_actors::desk::DeskError;
use strowger_actors::gate::Pass;
use strowger_actors::withdrawal::Withdrawal;
use strowger_core::call::Caller;
use strowger_core::ids::TenantId;
use strowger_core::number::E164;
use strowger_core::route::{Destination, route};
use strowger_core::site::Site;
use strowger_core::state::command::{CallArrived, Command, Reply};
use strowger_sip::endpoint::IncomingInvite;
use strowger_sip::message::{HeaderName, ReasonValue, Request, Response};
use strowger_sip::token::LegToken;
use tracing::{debug, warn};

use super::auth::{self, Sender};
use super::checkpoint::{Checkpoint, KeptInvite};
use super::session::Offer;
use super::{Shared, legs, reports};
use crate::numbering;

/// A caller who hears nothing for this long would send the INVITE again.
const TRYING_AFTER: Duration = Duration::from_millis(150);

/// Takes in a new INVITE. Does not wait.
pub fn admit(shared: &Arc<Shared>, invite: IncomingInvite) {
    if !shared.cluster.lease_valid() {
        // A node without its lease starts nothing new.
        return refuse(invite, 503, None);
    }
    let Some(pass) = shared.gate.enter() else {
        return refuse(invite, 503, Some(34));
    };
    let offer = match Offer::read(invite.sdp().as_deref()) {
        Ok(offer) => offer,
        Err(why) => {
            debug!(%why, "an offer cannot be taken");
            let warning = format!("304 strowger \"{}\"", why.to_string().replace('"', "'"));
            let response = invite
                .response(488)
                .with(HeaderName::Other("Warning".into()), warning);
            invite.reject(&response);
            return;
        }
    };
    let Some((tenant, site)) = auth::tenant_of(shared, invite.request()) else {
        return refuse(invite, 404, Some(1));
    };
    let Some(to) = invite
        .request()
        .uri
        .user_text()
        .filter(|user| !user.is_empty())
    else {
        return refuse(invite, 484, Some(28));
    };
    match auth::sender(shared, &site, invite.request(), &invite.flow()) {
        Sender::Known(from) => {
            let shared = Arc::clone(shared);
            tokio::spawn(commit(
                shared,
                invite,
                Admitted {
                    tenant,
                    site,
                    from,
                    to,
                    offer,
                    pass,
                },
            ));
        }
        Sender::Challenge { stale } => {
            let response = auth::challenge(shared, &site, invite.response(401), stale);
            invite.reject(&response);
        }
        Sender::Misdirected => refuse(invite, 400, None),
        Sender::Wrong => {
            let response = auth::challenge(shared, &site, invite.response(401), false);
            invite.reject(&response);
        }
    }
}

/// What was found out before the commit.
struct Admitted {
    tenant: TenantId,
    site: Arc<Site>,
    from: Caller,
    to: String,
    offer: Offer,
    pass: Pass,
}

async fn commit(shared: Arc<Shared>, invite: IncomingInvite, admitted: Admitted) {
    let address = invite.flow().local.ip();
    let Some(epoch) = shared.held_epoch(address) else {
        return refuse(invite, 503, Some(41));
    };
    let called = called(&admitted);
    let kept = KeptInvite::of(&invite, epoch);
    let command = Command::CallArrived(CallArrived {
        tenant: admitted.tenant,
        address,
        node: shared.node,
        epoch,
        from: admitted.from,
        to: admitted.to,
        sip_call_id: invite.request().headers.call_id().to_owned(),
        remote: contact(invite.request()),
        called,
        checkpoint: kept.clone().map(|kept| Checkpoint::Invite(kept).bytes()),
    });
    let proposal = shared
        .desk
        .propose(&command, strowger_actors::limits::ARRIVAL);
    tokio::pin!(proposal);
    let reply = tokio::select! {
        reply = &mut proposal => reply,
        () = tokio::time::sleep(TRYING_AFTER) => {
            invite.trying();
            proposal.await
        }
    };
    match reply {
        Ok(Reply::Call { call, leg }) => {
            let token = LegToken {
                index: leg.index(),
                n: leg.n(),
                epoch,
            };
            let Some(switchboard) = shared.switchboard() else {
                return;
            };
            invite.trying();
            let sink = reports::sink(&shared, leg);
            shared.legs.expect(leg, call, address, admitted.offer, kept);
            match invite.accept(token, sink) {
                Ok(sip) => legs::accepted(&shared, leg, sip),
                Err(why) => {
                    debug!(%call, %why, "the caller is gone before the call was his");
                    legs::lost(&shared, leg);
                }
            }
            // Without an actor the sweep tries again, and the call ends if that fails too.
            switchboard.admit(call, leg, admitted.pass).await;
            legs::opened(&shared, leg);
        }
        Ok(Reply::CallRefused(cause)) => refuse(invite, cause.status, Some(cause.q850)),
        Ok(other) => {
            debug!(?other, "a call was not admitted");
            refuse(invite, 503, Some(41));
        }
        Err(DeskError::Unknown(request)) => {
            let response = refusal(invite.response(503), 503, Some(41));
            let refusal_known = invite.reject(&response);
            let withdrawal = Withdrawal {
                desk: shared.desk.clone(),
                state: shared.state.clone(),
                request,
                refusal_known,
                pass: admitted.pass,
            };
            if let Some(call) = withdrawal.carry_out().await
                && let Some(switchboard) = shared.switchboard()
            {
                switchboard.open(call, shared.gate.enter()).await;
            }
        }
        Err(DeskError::NoQuorum) => refuse(invite, 503, Some(41)),
        Err(_) => {
            warn!("a reply to a new call cannot be read");
            refuse(invite, 500, Some(41));
        }
    }
}

/// The called number with its country code, when the call leaves the exchange.
fn called(admitted: &Admitted) -> Option<E164> {
    // Hours lead nowhere beyond the exchange, open or closed.
    match route(&admitted.site, |_| true, &admitted.from, &admitted.to) {
        Destination::Trunk { number, .. } => numbering::e164(&admitted.site.numbering, &number),
        Destination::Extension(_)
        | Destination::Queue { .. }
        | Destination::Code(..)
        | Destination::Closed(_)
        | Destination::Refused(_) => None,
    }
}

fn contact(request: &Request) -> Option<String> {
    request.headers.contact_uri().map(|uri| uri.to_string())
}

fn refuse(invite: IncomingInvite, status: u16, q850: Option<u16>) {
    let response = refusal(invite.response(status), status, q850);
    invite.reject(&response);
}

/// Adds what a refused caller should know: the cause, and when to try again.
fn refusal(mut response: Response, status: u16, q850: Option<u16>) -> Response {
    if let Some(cause) = q850 {
        response = response.with(HeaderName::Reason, ReasonValue::q850(cause));
    }
    if status == 503 {
        response = response.with(HeaderName::RetryAfter, "1");
    }
    response
}
