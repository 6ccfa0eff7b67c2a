//! Our re-INVITEs: their answers, their refusals, and glare (RFC 3261 §14.1).

use super::machine::{Machine, Phase};
use super::uac::Calling;
use super::{LegError, LegEvent};
use crate::dialog::Role;
use crate::endpoint::Core;
use crate::limits;
use crate::message::{HeaderName, Response};
use crate::timer::LegTimer;
use std::time::Duration;

impl Machine {
    pub(super) fn reinvite(&mut self, core: &Core, sdp: Option<String>) -> Result<(), LegError> {
        if self.phase != Phase::Up {
            return Err(LegError::WrongState);
        }
        if self.calling.is_some() || self.answering.is_some() {
            return Err(LegError::Busy);
        }
        self.start_reinvite(core, sdp, false);
        Ok(())
    }

    pub(super) fn start_reinvite(&mut self, core: &Core, sdp: Option<String>, refresh: bool) {
        let before = (self.dialog.local_sdp.clone(), self.dialog.sdp_version);
        let had_offer = sdp.is_some();
        let request = self.invite_request(core, sdp);
        let mut calling = Calling::new(request.clone(), had_offer);
        calling.refresh = refresh;
        self.calling = Some(calling);
        self.sdp_before = Some(before);
        self.send_invite(core, request);
    }

    pub(super) fn on_reinvite_answer(&mut self, core: &Core, response: &Response) {
        self.dialog.refresh_target(&response.headers);
        let sdp = response.sdp();
        if sdp.is_some() {
            self.dialog.remote_sdp.clone_from(&sdp);
        }
        self.sdp_before = None;
        self.session_answered(core, response);
        let Some(calling) = &self.calling else {
            return;
        };
        let (had_offer, refresh) = (calling.had_offer, calling.refresh);
        if had_offer || refresh {
            self.send_ack(core, None);
        }
        if !refresh && self.phase == Phase::Up {
            self.emit(LegEvent::ReinviteAnswered { sdp });
        }
    }

    pub(super) fn on_reinvite_refusal(&mut self, core: &Core, response: &Response) {
        let longer = self.learn_min_se(response);
        if longer && let Some(mut request) = self.calling.as_mut().and_then(|c| c.request.take()) {
            self.ask_longer_session(&mut request);
            if let Some(calling) = &mut self.calling {
                calling.request = Some(request);
            }
        }
        let Some(calling) = &mut self.calling else {
            return;
        };
        let retry = (longer || matches!(response.status, 491 | 500))
            && calling.attempts < limits::GLARE_RETRIES_MAX;
        if retry {
            calling.attempts += 1;
            calling.backing_off = true;
            let wait = match (response.status, response.headers.retry_after()) {
                (422, _) => Duration::ZERO,
                (500, seconds) => Duration::from_secs(u64::from(seconds.unwrap_or(1).min(10))),
                // RFC 3261 §14.1: the owner of the Call-ID waits longer.
                _ if self.dialog.role == Role::Uac => {
                    Duration::from_millis(rand::random_range(210..=400_u64) * 10)
                }
                _ => Duration::from_millis(rand::random_range(0..=200_u64) * 10),
            };
            let wait = core.times().scale(wait);
            return self.arm(core, LegTimer::Glare, wait);
        }
        let refresh = calling.refresh;
        self.calling = None;
        if let Some((sdp, version)) = self.sdp_before.take() {
            self.dialog.local_sdp = sdp;
            self.dialog.sdp_version = version;
        }
        let status = response.status;
        if !refresh {
            self.emit(LegEvent::ReinviteFailed { status });
        }
        self.lost_if_dead(core, status);
    }

    pub(super) fn retry_reinvite(&mut self, core: &Core) {
        if self.phase != Phase::Up {
            return;
        }
        if self.answering.is_some() {
            // The peer's own re-INVITE got in first: ours follows when that one is through.
            return self.arm(core, LegTimer::Glare, core.times().t1);
        }
        let Some(calling) = &mut self.calling else {
            return;
        };
        let Some(mut request) = calling.request.take() else {
            return;
        };
        self.dialog.local_cseq += 1;
        self.dialog.invite_cseq = self.dialog.local_cseq;
        let cseq = self.dialog.local_cseq;
        calling.cseq = cseq;
        calling.backing_off = false;
        request.headers.remove(&HeaderName::Via);
        request
            .headers
            .set(HeaderName::CSeq, format!("{cseq} INVITE"));
        self.send_invite(core, request);
    }

    /// True while the answer to our re-INVITE may come any moment.
    pub(super) fn awaits_answer(&self) -> bool {
        let calling = self.calling.as_ref();
        calling.is_some_and(|calling| !calling.answered && !calling.backing_off)
    }

    /// True while an INVITE of ours stands in the way of the peer's; one that waits to be tried
    /// again after glare does not.
    pub(super) fn is_calling(&self) -> bool {
        self.calling
            .as_ref()
            .is_some_and(|calling| !calling.backing_off)
    }
}
