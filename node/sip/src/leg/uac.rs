//! The calling half: our INVITE, its CANCEL and ACK, and further forks.

use super::machine::{Machine, Phase, reason_headers};
use super::{By, LegError, LegEvent, LegSink};
use crate::dialog::{Dialog, Role};
use crate::digest::{self, ClientChallenge};
use crate::endpoint::Core;
use crate::limits;
use crate::message::{HeaderName, Method, NameAddr, Request, Response, Uri};
use crate::timer::LegTimer;
use crate::token::LegToken;
use crate::transaction::{ClientOwner, Key, cancel_of};
use crate::transport::Flow;
use bytes::Bytes;

/// A user name and password to answer a challenge with.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What an outgoing INVITE says.
#[derive(Debug, Clone)]
pub struct InviteSpec {
    /// The leg this becomes; its Call-ID, From tag and branches are made from it.
    pub token: LegToken,
    /// Request-URI, usually the callee's Contact.
    pub target: Uri,
    /// From which of our addresses, over what, to where.
    pub flow: Flow,
    /// Route values to write, first hop first.
    pub route: Vec<String>,
    /// Caller, with display name.
    pub from: NameAddr,
    /// Callee.
    pub to: NameAddr,
    /// The offer; `None` asks the callee for one.
    pub sdp: Option<String>,
    /// Further headers.
    pub headers: Vec<(HeaderName, String)>,
    /// Answers a 401 or 407 once.
    pub credentials: Option<Credentials>,
    /// A 2xx that crosses our CANCEL is acknowledged and reported as `Crossed`, for the owner
    /// to end; without this it is ended at once.
    pub keeps_crossed: bool,
}

/// An INVITE of ours under way.
pub(super) struct Calling {
    pub(super) request: Option<Request>,
    pub(super) cseq: u32,
    pub(super) had_offer: bool,
    pub(super) provisional: bool,
    pub(super) cancelled: bool,
    /// A 2xx came and is not acknowledged yet.
    pub(super) answered: bool,
    /// A session refresh: nobody but us wants to hear of it.
    pub(super) refresh: bool,
    /// Refused for glare and waiting to be tried again.
    pub(super) backing_off: bool,
    pub(super) attempts: u32,
    pub(super) credentials: Option<Credentials>,
    /// What [`InviteSpec::keeps_crossed`] says.
    pub(super) keeps_crossed: bool,
}

impl Calling {
    pub(super) fn new(request: Request, had_offer: bool) -> Self {
        Self {
            cseq: request.headers.cseq().map_or(0, |cseq| cseq.number),
            request: Some(request),
            had_offer,
            provisional: false,
            cancelled: false,
            answered: false,
            refresh: false,
            backing_off: false,
            attempts: 0,
            credentials: None,
            keeps_crossed: false,
        }
    }

    /// An INVITE another node sent, answered and still to be acknowledged.
    pub(super) fn answered(cseq: u32, had_offer: bool) -> Self {
        Self {
            request: None,
            cseq,
            had_offer,
            provisional: true,
            cancelled: false,
            answered: true,
            refresh: false,
            backing_off: false,
            attempts: 0,
            credentials: None,
            keeps_crossed: false,
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }
}

impl Machine {
    /// The leg of an INVITE of ours; nothing is sent before [`Machine::call`].
    pub(crate) fn outgoing(core: &Core, spec: &InviteSpec, sink: LegSink) -> Self {
        let tokens = core.tokens();
        let mut local = spec.from.clone();
        local.params.clear();
        let dialog = Dialog {
            token: spec.token,
            role: Role::Uac,
            call_id: tokens.call_id(spec.token),
            local_tag: tokens.tag(spec.token),
            remote_tag: String::new(),
            local,
            remote: spec.to.clone(),
            remote_target: spec.target.clone(),
            route_set: spec
                .route
                .iter()
                .take(limits::ROUTES_MAX)
                .cloned()
                .collect(),
            local_cseq: 0,
            remote_cseq: None,
            invite_cseq: 0,
            acked: true,
            flow: spec.flow,
            session: None,
            min_se_s: 0,
            sdp_version: 0,
            local_sdp: None,
            remote_sdp: None,
            peer_updates: false,
        };
        Self::new(dialog, Phase::Outgoing, sink)
    }

    /// Sends the INVITE.
    pub(crate) fn call(&mut self, core: &Core, spec: InviteSpec) {
        let mut request = self.invite_request(core, spec.sdp);
        for (name, value) in spec.headers {
            request.headers.push(name, value);
        }
        let mut calling = Calling::new(request.clone(), !request.body.is_empty());
        calling.credentials = spec.credentials;
        calling.keeps_crossed = spec.keeps_crossed;
        self.calling = Some(calling);
        self.send_invite(core, request);
    }

    pub(super) fn invite_request(&mut self, core: &Core, sdp: Option<String>) -> Request {
        let mut request = self.dialog.request(Method::Invite);
        request.headers.push(HeaderName::Allow, core.allow());
        request.headers.push(HeaderName::Supported, "timer");
        self.session_of_request(&mut request);
        if let Some(sdp) = sdp {
            request
                .headers
                .push(HeaderName::ContentType, "application/sdp");
            request.body = Bytes::from(sdp.clone());
            self.note_local_sdp(Some(sdp));
        }
        request
    }

    pub(super) fn send_invite(&mut self, core: &Core, mut request: Request) {
        let first = self.phase == Phase::Outgoing && self.dialog.invite_cseq == 1;
        let flow = self.dialog.flow;
        let branch = if first {
            core.stamp_first(&mut request, self.token, &flow)
        } else {
            core.stamp(&mut request, self.token, &flow)
        };
        let key = Key::of_sent(&branch, &Method::Invite);
        if let Some(calling) = &mut self.calling {
            calling.request = Some(request.clone());
        }
        let owner = ClientOwner::Leg(self.token);
        if core
            .send_request(&key, request, self.dialog.flow, owner)
            .is_err()
        {
            self.on_invite_timeout(core);
        }
    }

    pub(super) fn on_invite_response(&mut self, core: &Core, number: u32, response: &Response) {
        if number != self.dialog.invite_cseq {
            if response.is_success() && self.phase == Phase::Up {
                self.acknowledge_for_another(core, number, response);
            }
            return;
        }
        if response.is_provisional() {
            return self.on_provisional(core, response);
        }
        if response.is_success() {
            return self.on_ok(core, number, response);
        }
        match self.phase {
            Phase::Outgoing => self.on_refusal(core, response),
            Phase::Up => self.on_reinvite_refusal(core, response),
            Phase::EndingOnAnswer => {
                self.calling = None;
                match response.status {
                    481 => self.over(core, self.end_cause),
                    _ => self.send_bye(core, By::Us),
                }
            }
            _ => self.calling = None,
        }
    }

    /// A 2xx to a re-INVITE of the owner before us, which did not live to acknowledge it: without
    /// an ACK the peer would end the call (RFC 3261 §14.2).
    fn acknowledge_for_another(&mut self, core: &Core, number: u32, response: &Response) {
        if response.headers.to_tag() == Some(self.dialog.remote_tag.as_str()) {
            let mut ack = self.dialog.ack_of(number);
            core.stamp(&mut ack, self.token, &self.dialog.flow);
            core.transmit(&self.dialog.flow, &ack.to_bytes());
        }
    }

    fn on_provisional(&mut self, core: &Core, response: &Response) {
        let Some(calling) = &mut self.calling else {
            return;
        };
        let first = !calling.provisional;
        calling.provisional = true;
        if calling.cancelled {
            if first {
                self.send_cancel(core);
            }
            return;
        }
        if self.phase != Phase::Outgoing || response.status == 100 || !self.has_allowance(core) {
            return;
        }
        let sdp = response.sdp();
        if response.status == 180 && sdp.is_none() {
            self.emit(LegEvent::Ringing);
        } else {
            let status = response.status;
            self.emit(LegEvent::Progress { status, sdp });
        }
    }

    fn on_ok(&mut self, core: &Core, number: u32, response: &Response) {
        let tag = response.headers.to_tag().unwrap_or("");
        let ours = self.phase == Phase::Outgoing || tag == self.dialog.remote_tag;
        if !ours {
            return self.end_fork(core, response);
        }
        if let Some((acked, ack)) = &self.ack
            && *acked == number
        {
            return core.transmit(&self.dialog.flow, ack);
        }
        let Some(calling) = &mut self.calling else {
            if self.phase == Phase::Over {
                self.end_fork(core, response);
            }
            return;
        };
        if calling.answered || calling.cseq != number {
            return;
        }
        calling.answered = true;
        self.dialog.acked = false;
        if self.phase == Phase::Outgoing {
            self.on_answer(core, response);
        } else {
            self.on_reinvite_answer(core, response);
            if self.phase == Phase::EndingOnAnswer {
                self.send_bye(core, By::Us);
            }
        }
    }

    fn on_answer(&mut self, core: &Core, response: &Response) {
        let crossed = self.calling.as_ref().filter(|calling| calling.cancelled);
        let crossed = crossed.map(|calling| calling.keeps_crossed);
        self.dialog.establish(response);
        self.phase = Phase::Up;
        if let Some(keeps) = crossed {
            self.disarm(LegTimer::CancelOverdue);
            self.send_ack(core, None);
            if keeps {
                let sdp = response.sdp();
                self.dialog.remote_sdp.clone_from(&sdp);
                // Whatever becomes of its owner, the leg does not outlive this.
                let longest = core.times().scale(limits::CROSSED_MAX);
                self.arm(core, LegTimer::Crossed, longest);
                return self.emit(LegEvent::Crossed { sdp });
            }
            let bye = self.dialog.request(Method::Bye);
            self.fail(core, 487, "Request Terminated");
            return self.send_request(core, bye);
        }
        let sdp = response.sdp();
        self.dialog.remote_sdp.clone_from(&sdp);
        self.session_answered(core, response);
        self.emit(LegEvent::Answered {
            sdp,
            remote_tag: self.dialog.remote_tag.clone(),
            contact: self.dialog.remote_target.clone(),
        });
    }

    /// ACK and BYE for a 2xx nobody wants (RFC 3261 §13.2.2.4).
    fn end_fork(&mut self, core: &Core, response: &Response) {
        let tag = response.headers.to_tag().unwrap_or("").to_owned();
        if let Some((_, ack)) = self.forks.iter().find(|(known, _)| *known == tag) {
            return core.transmit(&self.dialog.flow, ack);
        }
        if self.forks.len() >= limits::FORKS_MAX || self.dialog.role == Role::Uas {
            return;
        }
        let mut fork = self.dialog.clone();
        fork.establish(response);
        let mut ack = fork.ack();
        core.stamp(&mut ack, self.token, &fork.flow);
        let ack = ack.to_bytes();
        core.transmit(&fork.flow, &ack);
        self.forks.push((tag, ack));
        let mut bye = fork.request(Method::Bye);
        let branch = core.stamp(&mut bye, self.token, &fork.flow);
        let key = Key::of_sent(&branch, &Method::Bye);
        // With a full table the fork ends by its own missing session refresh.
        let _ = core.send_request(&key, bye, fork.flow, ClientOwner::Nobody);
    }

    fn on_refusal(&mut self, core: &Core, response: &Response) {
        if self.answer_challenge(core, response) || self.ask_again(core, response) {
            return;
        }
        let headers = &response.headers;
        let cancelled = self
            .calling
            .as_ref()
            .is_some_and(|calling| calling.cancelled);
        let q850 = headers
            .q850()
            .or(if cancelled { self.end_cause } else { None });
        self.calling = None;
        self.finish(
            core,
            LegEvent::Failed {
                status: response.status,
                reason: response.reason.clone(),
                retry_after_s: headers.retry_after(),
                q850,
            },
        );
    }

    /// Sends the INVITE again with credentials; false when that is not possible.
    fn answer_challenge(&mut self, core: &Core, response: &Response) -> bool {
        let (challenges, answer) = match response.status {
            401 => (HeaderName::WwwAuthenticate, HeaderName::Authorization),
            407 => (
                HeaderName::ProxyAuthenticate,
                HeaderName::ProxyAuthorization,
            ),
            _ => return false,
        };
        let Some(calling) = &mut self.calling else {
            return false;
        };
        let (Some(credentials), Some(mut request), false) = (
            calling.credentials.take(),
            calling.request.take(),
            calling.cancelled,
        ) else {
            return false;
        };
        let best = response
            .headers
            .get_all(&challenges)
            .filter_map(ClientChallenge::parse)
            .next();
        let Some(challenge) = best else {
            return false;
        };
        let uri = request.uri.to_string();
        let value = digest::authorize(
            &challenge,
            &credentials.user,
            &credentials.password,
            "INVITE",
            &uri,
        );
        request.headers.push(answer, value);
        self.repeat_invite(core, request);
        true
    }

    /// Sends the INVITE again with a longer session interval after a 422; false when that is
    /// not possible.
    fn ask_again(&mut self, core: &Core, response: &Response) -> bool {
        let waits = self.calling.as_ref().is_some_and(|calling| {
            !calling.cancelled && calling.attempts < limits::SESSION_RETRIES_MAX
        });
        if !waits || !self.learn_min_se(response) {
            return false;
        }
        let request = self.calling.as_mut().and_then(|calling| {
            calling.attempts += 1;
            calling.request.take()
        });
        let Some(mut request) = request else {
            return false;
        };
        self.ask_longer_session(&mut request);
        self.repeat_invite(core, request);
        true
    }

    /// Sends an INVITE that was refused again, as a new transaction.
    fn repeat_invite(&mut self, core: &Core, mut request: Request) {
        self.dialog.local_cseq += 1;
        self.dialog.invite_cseq = self.dialog.local_cseq;
        let cseq = self.dialog.local_cseq;
        request.headers.remove(&HeaderName::Via);
        request
            .headers
            .set(HeaderName::CSeq, format!("{cseq} INVITE"));
        if let Some(calling) = &mut self.calling {
            calling.cseq = cseq;
            calling.provisional = false;
        }
        self.send_invite(core, request);
    }

    /// True once anything came back to our INVITE.
    pub(super) fn is_heard(&self) -> bool {
        let waiting = self
            .calling
            .as_ref()
            .filter(|_| self.phase == Phase::Outgoing);
        waiting.is_none_or(|calling| calling.provisional)
    }

    pub(super) fn on_invite_timeout(&mut self, core: &Core) {
        match self.phase {
            Phase::Outgoing => {
                let calling = self.calling.take();
                if calling.is_some_and(|calling| calling.cancelled) {
                    return self.fail(core, 487, "Request Terminated");
                }
                self.finish(core, LegEvent::Timeout);
            }
            Phase::Up => {
                self.calling = None;
                self.emit(LegEvent::ReinviteFailed { status: 408 });
                self.lost_if_dead(core, 408);
            }
            Phase::EndingOnAnswer => {
                self.calling = None;
                self.send_bye(core, By::Us);
            }
            _ => self.calling = None,
        }
    }

    pub(super) fn fail(&mut self, core: &Core, status: u16, reason: &str) {
        self.calling = None;
        let event = LegEvent::Failed {
            status,
            reason: reason.to_owned(),
            retry_after_s: None,
            q850: self.end_cause,
        };
        self.finish(core, event);
    }

    pub(super) fn cancel(&mut self, core: &Core, q850: Option<u16>) -> Result<(), LegError> {
        let calling = match &mut self.calling {
            Some(calling) if self.phase == Phase::Outgoing => calling,
            _ => return Err(LegError::WrongState),
        };
        if std::mem::replace(&mut calling.cancelled, true) {
            return Ok(());
        }
        let provisional = calling.provisional;
        self.end_cause = q850;
        if provisional {
            self.send_cancel(core);
        }
        Ok(())
    }

    fn send_cancel(&mut self, core: &Core) {
        let request = self
            .calling
            .as_ref()
            .and_then(|calling| calling.request.as_ref());
        let Some(request) = request else {
            return;
        };
        let mut cancel = cancel_of(request);
        for (name, value) in reason_headers(self.end_cause) {
            cancel.headers.push(name, value);
        }
        let branch = request
            .headers
            .via()
            .and_then(|via| via.branch().map(str::to_owned));
        let key = Key::of_sent(&branch.unwrap_or_default(), &Method::Cancel);
        // With a full table the guard below still ends the leg.
        let _ = core.send_request(&key, cancel, self.dialog.flow, ClientOwner::Nobody);
        self.arm(core, LegTimer::CancelOverdue, core.times().patience());
    }

    pub(super) fn ack(&mut self, core: &Core, sdp: Option<String>) -> Result<(), LegError> {
        if !self.calling.as_ref().is_some_and(Calling::is_answered) {
            return Err(LegError::WrongState);
        }
        self.send_ack(core, sdp);
        Ok(())
    }

    pub(super) fn send_ack(&mut self, core: &Core, sdp: Option<String>) {
        let bytes = self.make_ack(core, sdp);
        core.transmit(&self.dialog.flow, &bytes);
    }

    /// As after [`Self::ack`], without sending anything: a peer that has had no ACK repeats its
    /// 2xx, and gets it then.
    pub(super) fn acknowledged_before(&mut self, core: &Core) -> Result<(), LegError> {
        if !self.calling.as_ref().is_some_and(Calling::is_answered) {
            return Err(LegError::WrongState);
        }
        self.make_ack(core, None);
        Ok(())
    }

    /// The ACK for the last 2xx, kept for when that comes again.
    fn make_ack(&mut self, core: &Core, sdp: Option<String>) -> Bytes {
        self.calling = None;
        self.dialog.acked = true;
        let mut ack = self.dialog.ack();
        core.stamp(&mut ack, self.token, &self.dialog.flow);
        if let Some(sdp) = sdp {
            ack.headers.push(HeaderName::ContentType, "application/sdp");
            ack.body = Bytes::from(sdp.clone());
            self.note_local_sdp(Some(sdp));
        }
        let bytes = ack.to_bytes();
        self.ack = Some((self.dialog.invite_cseq, bytes.clone()));
        bytes
    }
}
