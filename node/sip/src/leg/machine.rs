//! The state of one leg and what both roles share: requests inside the dialog, ending, timers.

use super::uac::Calling;
use super::uas::Answering;
use super::{By, LegError, LegEvent, LegSink};
use crate::dialog::{Dialog, Order};
use crate::endpoint::Core;
use crate::limits;
use crate::message::{HeaderName, Method, ReasonValue, Request, Response, response_to};
use crate::stats::Drop;
use crate::timer::LegTimer;
use crate::token::LegToken;
use crate::transaction::{ClientOwner, Key};
use crate::transport::{Flow, Protocol};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where a leg stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// UAS: the INVITE is unanswered.
    Incoming,
    /// UAC: the INVITE is unanswered.
    Outgoing,
    /// The dialog stands (either side's first 2xx was sent or received).
    Up,
    /// We want to end it and wait for the ACK that must come first (RFC 3261 §15).
    EndingOnAck,
    /// We want to end it and wait a moment for the answer to our re-INVITE: a peer that knows
    /// the dialog no more needs no BYE.
    EndingOnAnswer,
    /// Our BYE is under way.
    Ending,
    /// Over; kept a while for what still arrives.
    Over,
}

pub(crate) struct LegCell {
    pub(crate) machine: Mutex<Machine>,
}

pub(crate) struct Machine {
    pub(super) token: LegToken,
    pub(super) sink: LegSink,
    pub(super) dialog: Dialog,
    pub(super) phase: Phase,
    /// Our INVITE or re-INVITE that has no final response or no ACK yet.
    pub(super) calling: Option<Calling>,
    /// The peer's INVITE, re-INVITE or UPDATE, until answered and acknowledged.
    pub(super) answering: Option<Answering>,
    /// The last ACK we sent for a 2xx, and the CSeq it belongs to.
    pub(super) ack: Option<(u32, Bytes)>,
    /// Further dialogs our INVITE made, with the ACK each got.
    pub(super) forks: Vec<(String, Bytes)>,
    /// Our SDP and its version before the re-INVITE under way.
    pub(super) sdp_before: Option<(Option<String>, u64)>,
    pub(super) end_cause: Option<u16>,
    pub(super) requests_open: usize,
    /// The peer's BYE and our 200 to it, until its end is known.
    parting: Option<(Key, Response)>,
    allowance: Allowance,
    alarms: [Alarm; LegTimer::COUNT],
}

/// One timer of a leg.
#[derive(Clone, Copy, Default)]
struct Alarm {
    /// When it is due; `None` when it is not armed.
    due: Option<Instant>,
    /// The entry in the queue that counts, and when it comes.
    queued: Option<(u32, Instant)>,
}

/// Numbers the entries of the timer queue. Never begun anew: a leg that went to another node and
/// came back is not to be met by what was queued before.
static ENTRIES: AtomicU32 = AtomicU32::new(0);

impl Machine {
    pub(super) fn new(dialog: Dialog, phase: Phase, sink: LegSink) -> Self {
        Self {
            token: dialog.token,
            sink,
            dialog,
            phase,
            calling: None,
            answering: None,
            ack: None,
            forks: Vec::new(),
            sdp_before: None,
            end_cause: None,
            requests_open: 0,
            parting: None,
            allowance: Allowance::new(Instant::now()),
            alarms: [Alarm::default(); LegTimer::COUNT],
        }
    }

    /// A leg taken over from another node.
    pub(crate) fn imported(dialog: Dialog, epoch: u32, sink: LegSink, core: &Core) -> Self {
        let mut machine = Self::new(dialog.imported(epoch), Phase::Up, sink);
        if !machine.dialog.acked {
            let cseq = machine.dialog.invite_cseq;
            machine.calling = Some(Calling::answered(cseq, true));
        }
        machine.start_session(core);
        machine
    }

    pub(crate) fn snapshot(&self) -> Option<Dialog> {
        let has_dialog = match self.phase {
            Phase::Outgoing => !self.dialog.remote_tag.is_empty(),
            Phase::Over => false,
            _ => true,
        };
        let mut dialog = has_dialog.then(|| self.dialog.clone())?;
        if let Some(answering) = &self.answering
            && self.phase == Phase::Up
            && !answering.awaits_ack()
        {
            // Whoever goes on from here has not answered this change, which its peer repeats.
            dialog.remote_cseq = answering.cseq().checked_sub(1);
        }
        Some(dialog)
    }

    pub(super) fn emit(&self, event: LegEvent) {
        (self.sink)(self.token, event);
    }

    pub(super) fn arm(&mut self, core: &Core, timer: LegTimer, after: Duration) {
        let due = Instant::now() + after;
        let Some(alarm) = self.alarms.get_mut(timer as usize) else {
            return;
        };
        alarm.due = Some(due);
        // An entry that comes earlier is put off when it comes: a peer that moves a distant
        // deadline again and again does not fill the queue.
        if alarm.queued.is_none_or(|(_, at)| due < at) {
            let entry = ENTRIES.fetch_add(1, Ordering::Relaxed);
            alarm.queued = Some((entry, due));
            core.arm_leg(self.token, timer, entry, after);
        }
    }

    pub(super) fn disarm(&mut self, timer: LegTimer) {
        if let Some(alarm) = self.alarms.get_mut(timer as usize) {
            alarm.due = None;
        }
    }

    pub(crate) fn on_timer(&mut self, core: &Core, timer: LegTimer, entry: u32) {
        let Some(alarm) = self.alarms.get_mut(timer as usize) else {
            return;
        };
        if alarm.queued.is_none_or(|(queued, _)| queued != entry) {
            return;
        }
        alarm.queued = None;
        let Some(due) = alarm.due.take() else { return };
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return self.arm(core, timer, left);
        }
        match timer {
            LegTimer::RetransmitOk => self.retransmit_ok(core),
            LegTimer::AckOverdue => self.ack_overdue(core),
            LegTimer::Provisional => self.repeat_provisional(core),
            LegTimer::CancelOverdue => self.fail(core, 487, "Request Terminated"),
            LegTimer::Glare => self.retry_reinvite(core),
            LegTimer::Refresh => self.refresh(core),
            LegTimer::Expire => {
                self.end_cause = Some(102);
                self.send_bye(core, By::Lost);
            }
            LegTimer::Crossed | LegTimer::Unanswered => self.send_bye(core, By::Us),
            LegTimer::Parting => self.end_is_known(core),
            LegTimer::Linger => core.remove_leg(self.token),
        }
    }

    /// Puts our Via and Contact on a dialog request and sends it in a new client transaction.
    pub(super) fn send_request(&mut self, core: &Core, mut request: Request) {
        let branch = core.stamp(&mut request, self.token, &self.dialog.flow);
        let key = Key::of_sent(&branch, &request.method);
        let owner = ClientOwner::Leg(self.token);
        let cseq = request.headers.cseq();
        if core
            .send_request(&key, request, self.dialog.flow, owner)
            .is_err()
            && let Some(cseq) = cseq
        {
            // The table is full: as if nobody had answered. The leg is locked here, so the news
            // takes the way of a response.
            self.on_no_response(core, &cseq.method);
        }
    }

    /// A response to a request of this leg.
    pub(crate) fn on_response(&mut self, core: &Core, response: &Response) {
        let Some(cseq) = response.headers.cseq() else {
            return;
        };
        match cseq.method {
            Method::Invite => self.on_invite_response(core, cseq.number, response),
            Method::Bye => {
                if !response.is_provisional() {
                    self.over(core, self.end_cause);
                }
            }
            Method::Update if !response.is_provisional() => {
                if response.is_success() {
                    self.dialog.refresh_target(&response.headers);
                    self.session_answered(core, response);
                } else if self.learn_min_se(response) {
                    self.arm(core, LegTimer::Refresh, core.times().t1);
                } else {
                    self.lost_if_dead(core, response.status);
                }
            }
            Method::Cancel | Method::Ack => {}
            _ if response.is_provisional() => {}
            _ => {
                self.requests_open = self.requests_open.saturating_sub(1);
                self.emit(LegEvent::Replied {
                    status: response.status,
                });
                self.lost_if_dead(core, response.status);
            }
        }
    }

    /// No final response to a request of this leg came in time.
    pub(crate) fn on_no_response(&mut self, core: &Core, method: &Method) {
        match method {
            Method::Invite => self.on_invite_timeout(core),
            Method::Bye => self.over(core, self.end_cause),
            Method::Cancel | Method::Ack => {}
            Method::Update => self.lost_if_dead(core, 408),
            _ => {
                self.requests_open = self.requests_open.saturating_sub(1);
                if self.phase == Phase::Up {
                    self.emit(LegEvent::Replied { status: 408 });
                }
                self.lost_if_dead(core, 408);
            }
        }
    }

    /// RFC 3261 §12.2.1.2: 481 and 408 to a request in the dialog mean that the dialog is gone.
    /// Who says so itself with a 481 is not told by a BYE.
    pub(super) fn lost_if_dead(&mut self, core: &Core, status: u16) {
        if self.phase != Phase::Up {
            return;
        }
        match status {
            408 => self.send_bye(core, By::Lost),
            481 => {
                self.refuse_pending(core, 487);
                let q850 = self.end_cause;
                self.finish(core, LegEvent::Ended { by: By::Peer, q850 });
            }
            _ => {}
        }
    }

    /// The peer's request came this way. One that has connected anew over TCP is reached there:
    /// its Contact may name a connection of its own that is no more.
    pub(crate) fn reached_over(&mut self, flow: Flow, request: &Request) {
        let both_tcp = [flow, self.dialog.flow]
            .iter()
            .all(|flow| flow.protocol == Protocol::Tcp);
        if both_tcp && self.is_from_peer(request) {
            self.dialog.flow = flow;
        }
    }

    /// A request inside the dialog (not ACK, not CANCEL).
    pub(crate) fn on_request(&mut self, core: &Core, key: &Key, request: &Arc<Request>) {
        let number = request.headers.cseq().map_or(0, |cseq| cseq.number);
        if !self.is_from_peer(request) {
            // Our tag fits and the peer's does not: another fork of our INVITE, which was ended.
            return core.answer(key, &response_to(request, 481, "", None));
        }
        if self.phase == Phase::Over {
            let status = if request.method == Method::Bye {
                200
            } else {
                481
            };
            return core.answer(key, &response_to(request, status, "", None));
        }
        if request.method != Method::Bye && !self.has_allowance(core) {
            let busy = response_to(request, 503, "", None).with(HeaderName::RetryAfter, "1");
            return core.answer(key, &busy);
        }
        if self.dialog.order(number) == Order::Old {
            return core.answer(key, &response_to(request, 500, "CSeq Out Of Order", None));
        }
        match request.method {
            Method::Bye => self.on_bye(core, key, request),
            Method::Invite | Method::Update => self.on_offer(core, key, request),
            Method::Info => {
                core.answer(key, &response_to(request, 200, "", None));
                let content_type = request.headers.get(&HeaderName::ContentType);
                self.emit(LegEvent::Info {
                    content_type: content_type.unwrap_or("").to_owned(),
                    body: request.body.clone(),
                });
            }
            _ => core.answer(key, &core.options_response(request)),
        }
    }

    /// Takes one from what the peer may send within the dialog; counts when nothing is left.
    pub(super) fn has_allowance(&mut self, core: &Core) -> bool {
        let left = self.allowance.take(Instant::now());
        if !left {
            core.count_drop(Drop::LegFlooded);
        }
        left
    }

    /// True when Call-ID and the peer's tag are those of this dialog.
    pub(super) fn is_from_peer(&self, request: &Request) -> bool {
        let headers = &request.headers;
        let known = !self.dialog.remote_tag.is_empty();
        headers.call_id() == self.dialog.call_id
            && (!known || headers.from_tag() == Some(self.dialog.remote_tag.as_str()))
    }

    /// Drops what the transaction layer still holds for a leg that goes without a word.
    pub(super) fn forget(&mut self, core: &Core) {
        if let Some(answering) = self.answering.take() {
            core.abandon(answering.key());
        }
        if let Some((key, _)) = self.parting.take() {
            core.abandon(&key);
        }
    }

    fn on_bye(&mut self, core: &Core, key: &Key, request: &Request) {
        let ok = response_to(request, 200, "", None);
        if self.phase == Phase::Up && core.byes_wait() {
            self.parting = Some((key.clone(), ok));
            self.arm(core, LegTimer::Parting, core.times().t1);
        } else {
            core.answer(key, &ok);
        }
        if self.phase == Phase::Incoming {
            // A caller may end an early dialog so, too (RFC 3261 §15).
            return self.on_cancel(core);
        }
        self.refuse_pending(core, 487);
        if self.phase == Phase::Outgoing {
            // An early dialog ended by the callee: the INVITE's own answer decides.
            return;
        }
        let (by, q850) = match self.phase {
            Phase::Ending | Phase::EndingOnAck | Phase::EndingOnAnswer => (By::Us, self.end_cause),
            _ => (By::Peer, request.headers.q850()),
        };
        self.finish(core, LegEvent::Ended { by, q850 });
    }

    /// What the peer's BYE said is known to whoever has to know it.
    pub(super) fn end_is_known(&mut self, core: &Core) {
        if let Some((key, ok)) = self.parting.take() {
            core.answer(&key, &ok);
        }
    }

    pub(super) fn info(
        &mut self,
        core: &Core,
        content_type: &str,
        body: Bytes,
    ) -> Result<(), LegError> {
        let mut request = self.open_request(Method::Info)?;
        request.headers.push(HeaderName::ContentType, content_type);
        request.body = body;
        self.send_request(core, request);
        Ok(())
    }

    pub(super) fn options(&mut self, core: &Core) -> Result<(), LegError> {
        let request = self.open_request(Method::Options)?;
        self.send_request(core, request);
        Ok(())
    }

    fn open_request(&mut self, method: Method) -> Result<Request, LegError> {
        if self.phase != Phase::Up {
            return Err(LegError::WrongState);
        }
        if self.requests_open >= limits::LEG_REQUESTS_MAX {
            return Err(LegError::Busy);
        }
        self.requests_open += 1;
        Ok(self.dialog.request(method))
    }

    pub(super) fn bye(&mut self, core: &Core, q850: Option<u16>) -> Result<(), LegError> {
        match self.phase {
            Phase::Incoming => self.reject(core, 480, "", &reason_headers(q850)),
            Phase::Outgoing => self.cancel(core, q850),
            Phase::Up => {
                self.end_cause = q850;
                let initial = self.dialog.is_unused();
                let awaits_ack = self.answering.as_ref().is_some_and(Answering::awaits_ack);
                if initial && awaits_ack {
                    self.phase = Phase::EndingOnAck;
                } else if self.awaits_answer() {
                    self.phase = Phase::EndingOnAnswer;
                    self.arm(core, LegTimer::Unanswered, core.times().t1 * 2);
                } else {
                    self.send_bye(core, By::Us);
                }
                Ok(())
            }
            Phase::EndingOnAck | Phase::EndingOnAnswer | Phase::Ending => Ok(()),
            Phase::Over => Err(LegError::Gone),
        }
    }

    /// Sends the BYE. A dialog found dead is over for its owner at once.
    pub(super) fn send_bye(&mut self, core: &Core, by: By) {
        if matches!(self.phase, Phase::Ending | Phase::Over) {
            return;
        }
        self.refuse_pending(core, 487);
        if self.calling.as_ref().is_some_and(Calling::is_answered) {
            // The peer waits for this ACK; without it, it repeats the 2xx beyond our BYE.
            self.send_ack(core, None);
        }
        self.phase = Phase::Ending;
        let mut request = self.dialog.request(Method::Bye);
        if let Some(cause) = self.end_cause {
            request
                .headers
                .push(HeaderName::Reason, ReasonValue::q850(cause));
        }
        if by == By::Lost {
            let q850 = self.end_cause;
            self.finish(core, LegEvent::Ended { by, q850 });
        }
        self.send_request(core, request);
    }

    pub(super) fn over(&mut self, core: &Core, q850: Option<u16>) {
        let by = By::Us;
        self.finish(core, LegEvent::Ended { by, q850 });
    }

    /// Ends the leg with its last event; it lingers to answer what still arrives.
    pub(super) fn finish(&mut self, core: &Core, event: LegEvent) {
        if self.phase == Phase::Over {
            return;
        }
        self.phase = Phase::Over;
        self.answering = None;
        self.dialog.local_sdp = None;
        self.dialog.remote_sdp = None;
        for timer in [
            LegTimer::RetransmitOk,
            LegTimer::AckOverdue,
            LegTimer::Provisional,
            LegTimer::CancelOverdue,
            LegTimer::Glare,
            LegTimer::Refresh,
            LegTimer::Expire,
            LegTimer::Crossed,
            LegTimer::Unanswered,
        ] {
            self.disarm(timer);
        }
        self.arm(core, LegTimer::Linger, core.times().patience());
        self.emit(event);
    }
}

/// What a peer may still send within one dialog. Every such message may become a report to
/// the leg's owner, whose channel has no bound of its own.
struct Allowance {
    /// Thousandths of a message, so that a slow trickle is not rounded away.
    left: u64,
    filled_at: Instant,
}

impl Allowance {
    const FULL: u64 = limits::LEG_BURST_MAX as u64 * 1_000;

    fn new(now: Instant) -> Self {
        Self {
            left: Self::FULL,
            filled_at: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let idle = now.saturating_duration_since(self.filled_at).as_millis();
        let gained = u64::try_from(idle)
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(limits::LEG_RATE_MAX));
        self.left = self.left.saturating_add(gained).min(Self::FULL);
        self.filled_at = now;
        match self.left.checked_sub(1_000) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

pub(super) fn reason_headers(q850: Option<u16>) -> Vec<(HeaderName, String)> {
    q850.map(|cause| (HeaderName::Reason, ReasonValue::q850(cause)))
        .into_iter()
        .collect()
}

/// The version number of an SDP's `o=` line.
pub(super) fn sdp_version(sdp: &str) -> Option<u64> {
    let line = sdp.lines().find_map(|line| line.strip_prefix("o="))?;
    line.split(' ').nth(2)?.parse().ok()
}
