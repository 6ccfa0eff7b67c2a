//! The answering half: the peer's INVITE, re-INVITE and UPDATE.

use super::machine::{Machine, Phase, sdp_version};
use super::{By, LegError, LegEvent, LegSink};
use crate::dialog::Dialog;
use crate::endpoint::Core;
use crate::message::{HeaderName, Method, Request, Response, response_to};
use crate::timer::LegTimer;
use crate::token::LegToken;
use crate::transaction::Key;
use crate::transport::Flow;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// The interval of RFC 3261 §13.3.1.1 between provisional responses.
const PROVISIONAL_INTERVAL: Duration = Duration::from_secs(60);

/// A peer's INVITE, re-INVITE or UPDATE under way.
pub(super) struct Answering {
    key: Key,
    request: Arc<Request>,
    cseq: u32,
    /// The last provisional response.
    provisional: Option<Response>,
    /// Our 2xx, repeated until its ACK.
    ok: Option<Bytes>,
    interval: Duration,
}

impl Answering {
    fn new(key: Key, request: Arc<Request>) -> Self {
        Self {
            key,
            cseq: request.headers.cseq().map_or(0, |cseq| cseq.number),
            request,
            provisional: None,
            ok: None,
            interval: Duration::ZERO,
        }
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn cseq(&self) -> u32 {
        self.cseq
    }

    pub(super) fn awaits_ack(&self) -> bool {
        self.ok.is_some()
    }

    fn has_offer(&self) -> bool {
        self.request.sdp().is_some()
    }
}

impl Machine {
    /// The leg of a peer's INVITE.
    pub(crate) fn incoming(
        core: &Core,
        token: LegToken,
        key: Key,
        request: Arc<Request>,
        flow: Flow,
        sink: LegSink,
    ) -> Self {
        let dialog = Dialog::of_invite(&request, token, core.tokens().tag(token), flow);
        Self::of_dialog(dialog, key, request, sink)
    }

    /// The same of an INVITE that another node took in.
    pub(crate) fn revived(
        core: &Core,
        (token, epoch): (LegToken, u32),
        key: Key,
        request: Arc<Request>,
        flow: Flow,
        sink: LegSink,
    ) -> Self {
        let dialog = Dialog::of_invite(&request, token, core.tokens().tag(token), flow);
        Self::of_dialog(dialog.imported(epoch), key, request, sink)
    }

    fn of_dialog(dialog: Dialog, key: Key, request: Arc<Request>, sink: LegSink) -> Self {
        let mut machine = Self::new(dialog, Phase::Incoming, sink);
        machine.answering = Some(Answering::new(key, request));
        machine
    }

    fn open_invite(&mut self) -> Result<&mut Answering, LegError> {
        match &mut self.answering {
            Some(answering) if self.phase == Phase::Incoming => Ok(answering),
            _ => Err(LegError::WrongState),
        }
    }

    pub(super) fn ring(
        &mut self,
        core: &Core,
        status: u16,
        sdp: Option<String>,
    ) -> Result<(), LegError> {
        let contact = self.dialog.contact();
        let tag = self.dialog.local_tag.clone();
        if !(101..200).contains(&status) {
            return Err(LegError::WrongState);
        }
        let answering = self.open_invite()?;
        let mut response = response_to(&answering.request, status, "", Some(&tag));
        copy_routes(&answering.request, &mut response);
        response.headers.push(HeaderName::Contact, contact);
        response.headers.push(HeaderName::Allow, core.allow());
        if let Some(sdp) = &sdp {
            response = response.with_body("application/sdp", sdp.clone());
        }
        core.answer(&answering.key, &response);
        answering.provisional = Some(response);
        if sdp.is_some() {
            self.note_local_sdp(sdp);
        }
        self.arm(core, LegTimer::Provisional, PROVISIONAL_INTERVAL);
        Ok(())
    }

    pub(super) fn repeat_provisional(&mut self, core: &Core) {
        if self.phase != Phase::Incoming {
            return;
        }
        if let Some(answering) = &self.answering
            && let Some(response) = &answering.provisional
        {
            core.answer(&answering.key, response);
        }
        self.arm(core, LegTimer::Provisional, PROVISIONAL_INTERVAL);
    }

    pub(super) fn answer(&mut self, core: &Core, sdp: String) -> Result<(), LegError> {
        self.open_invite()?;
        self.phase = Phase::Up;
        self.disarm(LegTimer::Provisional);
        self.send_ok(core, Some(sdp));
        Ok(())
    }

    /// As [`Self::answer`], for a caller who may have had an answer before: sent once, and a
    /// re-INVITE may follow at once.
    pub(super) fn answer_once(&mut self, core: &Core, sdp: String) -> Result<(), LegError> {
        self.answer(core, sdp)?;
        self.answering = None;
        self.disarm(LegTimer::RetransmitOk);
        self.disarm(LegTimer::AckOverdue);
        Ok(())
    }

    /// As after [`Self::answer`] and its ACK, without sending anything.
    pub(super) fn answered_before(&mut self, core: &Core, sdp: String) -> Result<(), LegError> {
        self.open_invite()?;
        self.phase = Phase::Up;
        if let Some(answering) = self.answering.take() {
            core.abandon(&answering.key);
            let mut unsent = response_to(&answering.request, 200, "", None);
            self.session_asked(core, &answering.request, &mut unsent);
        }
        self.note_local_sdp(Some(sdp));
        Ok(())
    }

    /// The 2xx to the INVITE, re-INVITE or UPDATE that is being answered.
    fn send_ok(&mut self, core: &Core, sdp: Option<String>) {
        let Some(mut answering) = self.answering.take() else {
            return;
        };
        let tag = self.dialog.local_tag.clone();
        let mut response = response_to(&answering.request, 200, "", Some(&tag));
        copy_routes(&answering.request, &mut response);
        let headers = &mut response.headers;
        headers.push(HeaderName::Contact, self.dialog.contact());
        headers.push(HeaderName::Allow, core.allow());
        headers.push(HeaderName::Supported, "timer");
        self.session_asked(core, &answering.request, &mut response);
        if let Some(sdp) = &sdp {
            response = response.with_body("application/sdp", sdp.clone());
            self.note_local_sdp(Some(sdp.clone()));
        }
        core.answer(&answering.key, &response);
        if answering.request.method == Method::Invite {
            answering.ok = Some(response.to_bytes());
            answering.interval = core.times().t1;
            self.arm(core, LegTimer::RetransmitOk, answering.interval);
            self.arm(core, LegTimer::AckOverdue, core.times().patience());
            self.answering = Some(answering);
        }
    }

    pub(super) fn retransmit_ok(&mut self, core: &Core) {
        let flow = self.dialog.flow;
        let Some(answering) = &mut self.answering else {
            return;
        };
        let Some(ok) = &answering.ok else {
            return;
        };
        core.transmit(&flow, ok);
        answering.interval = core.times().double(answering.interval);
        let interval = answering.interval;
        self.arm(core, LegTimer::RetransmitOk, interval);
    }

    pub(super) fn ack_overdue(&mut self, core: &Core) {
        self.answering = None;
        self.disarm(LegTimer::RetransmitOk);
        self.emit(LegEvent::AckTimeout);
        if self.phase == Phase::EndingOnAck {
            self.phase = Phase::Up;
        } else {
            self.end_cause = Some(102);
        }
        self.send_bye(core, By::Us);
    }

    /// An ACK for a 2xx of ours.
    pub(crate) fn on_ack(&mut self, core: &Core, request: &Request) {
        let cseq = request.headers.cseq().map_or(0, |cseq| cseq.number);
        let matches = self
            .answering
            .as_ref()
            .is_some_and(|answering| answering.awaits_ack() && answering.cseq == cseq);
        if !matches || !self.is_from_peer(request) {
            return;
        }
        self.acknowledged(core, request.sdp());
    }

    fn acknowledged(&mut self, core: &Core, sdp: Option<String>) {
        self.answering = None;
        self.disarm(LegTimer::RetransmitOk);
        self.disarm(LegTimer::AckOverdue);
        if sdp.is_some() {
            self.dialog.remote_sdp.clone_from(&sdp);
        }
        self.emit(LegEvent::Acked { sdp });
        if self.phase == Phase::EndingOnAck {
            self.phase = Phase::Up;
            self.send_bye(core, By::Us);
        }
    }

    pub(super) fn reject(
        &mut self,
        core: &Core,
        status: u16,
        reason: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<(), LegError> {
        let tag = self.dialog.local_tag.clone();
        let answering = self.open_invite()?;
        let status = if (300..700).contains(&status) {
            status
        } else {
            500
        };
        let mut response = response_to(&answering.request, status, reason, Some(&tag));
        for (name, value) in headers {
            response.headers.push(name.clone(), value.as_str());
        }
        core.answer(&answering.key, &response);
        let (by, q850) = (By::Us, None);
        self.finish(core, LegEvent::Ended { by, q850 });
        Ok(())
    }

    /// The peer cancelled its INVITE; the CANCEL itself was answered.
    pub(crate) fn on_cancel(&mut self, core: &Core) {
        let tag = self.dialog.local_tag.clone();
        match &self.answering {
            Some(answering) if !answering.awaits_ack() => {
                let response = response_to(&answering.request, 487, "", Some(&tag));
                core.answer(&answering.key, &response);
            }
            _ => return,
        }
        if self.phase == Phase::Incoming {
            self.finish(core, LegEvent::Cancelled);
        } else {
            self.answering = None;
        }
    }

    /// A re-INVITE or UPDATE (RFC 3261 §14.2, RFC 3311 §5.2).
    pub(super) fn on_offer(&mut self, core: &Core, key: &Key, request: &Arc<Request>) {
        // A re-INVITE is sent by who has had our answer, though its ACK was lost, or went to an
        // owner before this one (RFC 5407 §3.1.4); an UPDATE may have crossed it. An offer of
        // ours is answered by the ACK alone.
        let answered = |answering: &Answering| answering.awaits_ack() && answering.has_offer();
        let goes_on = self.phase == Phase::Up && request.method == Method::Invite;
        if goes_on && self.answering.as_ref().is_some_and(answered) {
            self.acknowledged(core, None);
        }
        let early = matches!(self.phase, Phase::Incoming | Phase::Outgoing);
        if early || self.answering.is_some() {
            let seconds = rand::random_range(0..10_u32).to_string();
            let response = response_to(request, 500, "", None);
            return core.answer(key, &response.with(HeaderName::RetryAfter, seconds));
        }
        if self.is_calling() {
            return core.answer(key, &response_to(request, 491, "", None));
        }
        if self.phase != Phase::Up {
            return core.answer(key, &response_to(request, 481, "", None));
        }
        self.dialog.refresh_target(&request.headers);
        let sdp = request.sdp();
        self.answering = Some(Answering::new(key.clone(), Arc::clone(request)));
        // A refresh changes nothing and needs nobody's decision (RFC 4028 §7.4).
        let unchanged = match (&sdp, request.method == Method::Update) {
            (None, true) => Some(None),
            (Some(_), _) if sdp == self.dialog.remote_sdp => Some(self.dialog.local_sdp.clone()),
            _ => None,
        };
        if let Some(ours) = unchanged {
            return self.send_ok(core, ours);
        }
        if request.method == Method::Invite {
            core.answer(key, &response_to(request, 100, "", None));
        }
        self.emit(LegEvent::Reinvited { sdp });
    }

    fn open_offer(&self) -> Result<&Answering, LegError> {
        match &self.answering {
            Some(answering) if self.phase == Phase::Up && !answering.awaits_ack() => Ok(answering),
            _ => Err(LegError::WrongState),
        }
    }

    pub(super) fn accept_reinvite(
        &mut self,
        core: &Core,
        sdp: Option<String>,
    ) -> Result<(), LegError> {
        let offer = self.open_offer()?.request.sdp();
        if offer.is_some() {
            self.dialog.remote_sdp = offer;
        }
        self.send_ok(core, sdp);
        Ok(())
    }

    pub(super) fn reject_reinvite(&mut self, core: &Core, status: u16) -> Result<(), LegError> {
        self.open_offer()?;
        let status = if (300..700).contains(&status) {
            status
        } else {
            488
        };
        self.refuse_pending(core, status);
        Ok(())
    }

    /// Answers a pending re-INVITE or UPDATE with a refusal and stops repeating a 2xx.
    pub(super) fn refuse_pending(&mut self, core: &Core, status: u16) {
        if self.phase == Phase::Incoming {
            return;
        }
        if let Some(answering) = self.answering.take()
            && !answering.awaits_ack()
        {
            core.answer(
                &answering.key,
                &response_to(&answering.request, status, "", None),
            );
        }
        self.disarm(LegTimer::RetransmitOk);
        self.disarm(LegTimer::AckOverdue);
    }

    pub(super) fn note_local_sdp(&mut self, sdp: Option<String>) {
        if let Some(version) = sdp.as_deref().and_then(sdp_version) {
            self.dialog.sdp_version = version;
        }
        self.dialog.local_sdp = sdp;
    }
}

fn copy_routes(request: &Request, response: &mut Response) {
    for value in request.headers.get_all(&HeaderName::RecordRoute) {
        response.headers.push(HeaderName::RecordRoute, value);
    }
}
