//! Legs that we begin: which way they go, and what is offered.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use strowger_actors::ports::LegEvent;
use strowger_core::call::{CallRow, Cause, FlowRef, LegRole, LegTarget, Transport};
use strowger_core::ids::LegId;
use strowger_sip::leg::{InviteSpec, Leg};
use strowger_sip::message::{NameAddr, Uri};
use strowger_sip::token::LegToken;
use strowger_sip::transport::{Flow, Protocol};
use tracing::warn;

use super::super::session::{Offer, Session};
use super::super::{leftovers, parting, reports};
use super::{Entry, NodeLegs, ended, report};

/// A phone that a dead node rang is left to its old INVITE for so long: one that had just been
/// answered repeats its 200 within it and can be told then, and would be busy before.
const RUNG_MAX: Duration = Duration::from_secs(2);
/// Between two looks whether it has been told.
const RUNG_LOOK: Duration = Duration::from_millis(10);

impl NodeLegs {
    /// True while the phone of a leg has a call that was lost with its node, or an INVITE of it.
    pub(super) fn is_rung_still(&self, call: &CallRow, leg: LegId) -> bool {
        let Some(target) = call.leg(leg).and_then(|row| row.target.as_ref()) else {
            return false;
        };
        let state = self.shared.state.read();
        let mut lost = state
            .leftovers
            .values()
            .filter_map(|row| row.target.as_ref());
        lost.any(|lost| lost.uri == target.uri)
    }

    /// Begins a leg as soon as what its phone has had before is over.
    pub(super) fn invite_later(&self, call: &CallRow, leg: LegId) {
        leftovers::tell_all(&self.shared);
        let entry = Entry::new(call.id, call.address, false, Offer::default());
        self.shared.legs.legs.lock().insert(leg, entry);
        let (own, call) = (Self::new(Arc::clone(&self.shared)), call.clone());
        tokio::spawn(async move {
            let until = Instant::now() + RUNG_MAX;
            while own.is_rung_still(&call, leg) && Instant::now() < until {
                tokio::time::sleep(RUNG_LOOK).await;
            }
            let waits = |entry: &mut Entry| entry.sip.is_none() && !entry.ended;
            let waits = own.shared.legs.with(leg, waits) == Some(true);
            let is_ours = {
                let state = own.shared.state.read();
                let row = state.calls.get(&call.id);
                row.is_some_and(|row| row.epoch == call.epoch && row.owner == own.shared.node)
            };
            if waits && is_ours {
                own.invite_now(&call, leg);
            }
        });
    }

    /// Begins a leg, or reports that it cannot be.
    pub(super) fn invite_now(&self, call: &CallRow, leg: LegId) {
        if let Err(cause) = self.try_invite(call, leg) {
            let legs = &self.shared.legs.legs;
            legs.lock()
                .entry(leg)
                .or_insert_with(|| Entry::new(call.id, call.address, false, Offer::default()));
            report(&self.shared, leg, ended(cause));
        }
    }

    fn try_invite(&self, call: &CallRow, leg: LegId) -> Result<(), Cause> {
        let shared = &self.shared;
        // What rang before at this phone goes first.
        leftovers::tell_all(shared);
        let target = call
            .leg(leg)
            .and_then(|row| row.target.as_ref())
            .ok_or(Cause::FAILURE)?;
        let uri = Uri::parse(&target.uri).ok_or(Cause::UNKNOWN_NUMBER)?;
        let flow = self
            .flow(call.address, target, &uri)
            .ok_or(Cause::UNKNOWN_NUMBER)?;
        let caller = call.caller().map(|row| row.id);
        let codecs = caller.and_then(|caller| {
            shared.legs.with(caller, |entry| match &entry.session {
                Some(session) => session.codecs(),
                None => entry.offer.codecs.clone(),
            })
        });
        let address = call.address;
        let mut session = Session::open(&shared.engine, leg, address, codecs.unwrap_or_default())
            .map_err(|why| {
            warn!(code = "SW0301", %leg, %why, "no port for a leg");
            Cause::CONGESTION
        })?;
        let offer = session.offer();
        let mut entry = Entry::new(call.id, address, false, Offer::default());
        entry.session = Some(session);
        let token = LegToken {
            index: leg.index(),
            n: leg.n(),
            epoch: call.epoch,
        };
        let endpoint = shared.endpoint().ok_or(Cause::FAILURE)?;
        entry.sip_call_id = endpoint.tokens().call_id(token);
        shared.legs.legs.lock().insert(leg, entry);
        let mut to = uri.clone();
        to.params.clear();
        to.headers.clear();
        let role = call.leg(leg).map(|row| &row.role);
        let (number, display, failover, language) = {
            let state = shared.state.read();
            let role = role.unwrap_or(&LegRole::Caller);
            let (number, display) = state.shown_caller(call, role);
            let language = parting::language(&state, call, role);
            (number, display, state.failover(call, role), language)
        };
        let parts = |entry: &mut Entry| entry.parting.language = language;
        shared.legs.with(leg, parts);
        let host = strowger_sip::message::host_of(address);
        let mut from = NameAddr::new(Uri::sip(Some(&number), &host, None));
        from.display = Some(display).filter(|display| !display.is_empty());
        let spec = InviteSpec {
            token,
            target: uri,
            flow,
            route: Vec::new(),
            from,
            to: NameAddr::new(to),
            sdp: Some(offer),
            headers: Vec::new(),
            credentials: None,
            keeps_crossed: language.is_some(),
        };
        let sip = endpoint
            .invite(spec, reports::sink(shared, leg))
            .map_err(|why| {
                warn!(%leg, %why, "a leg cannot be made");
                Cause::CONGESTION
            })?;
        if let Some(patience) = failover {
            self.watch(leg, sip.clone(), Duration::from_millis(patience));
        }
        shared.legs.with(leg, |entry| entry.sip = Some(sip));
        Ok(())
    }

    /// Reports an outgoing leg to which nothing at all has come back in time.
    fn watch(&self, leg: LegId, sip: Leg, patience: Duration) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            if !sip.is_heard() {
                report(&shared, leg, LegEvent::Silent);
            }
        });
    }

    /// The path to a phone. A phone that is where its contact says is called from the
    /// call's own address; one behind a NAT or on a connection only by the path it
    /// registered on.
    pub(in crate::telephony) fn flow(
        &self,
        address: IpAddr,
        target: &LegTarget,
        uri: &Uri,
    ) -> Option<Flow> {
        let ports = self.shared.ports;
        let contact = uri.socket_address();
        let tcp = uri
            .transport()
            .is_some_and(|name| name.eq_ignore_ascii_case("tcp"));
        match &target.flow {
            Some(flow) if flow.transport == Transport::Udp && contact == Some(flow.remote) => {
                Some(Flow::udp(SocketAddr::new(address, ports.udp), flow.remote))
            }
            Some(flow) if flow.transport == Transport::Udp || self.connected(flow) => Some(Flow {
                protocol: match flow.transport {
                    Transport::Udp => Protocol::Udp,
                    Transport::Tcp => Protocol::Tcp,
                },
                local: flow.local,
                remote: flow.remote,
                connection: flow.connection,
            }),
            Some(_) => contact.map(|remote| Flow::tcp(SocketAddr::new(address, ports.tcp), remote)),
            None if tcp => {
                contact.map(|remote| Flow::tcp(SocketAddr::new(address, ports.tcp), remote))
            }
            None => contact.map(|remote| Flow::udp(SocketAddr::new(address, ports.udp), remote)),
        }
    }

    /// True while the node that accepted a connection still holds its address.
    fn connected(&self, flow: &FlowRef) -> bool {
        self.shared.state.read().holder(flow.local.ip()) == Some(flow.node)
    }
}
