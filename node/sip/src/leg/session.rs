//! Session timers (RFC 4028): accept what the peer asks, refresh when that is our part, and end
//! a session whose refreshes stop.

use super::LegError;
use super::machine::{Machine, Phase};
use crate::dialog::SessionTimer;
use crate::endpoint::Core;
use crate::limits;
use crate::message::{HeaderName, Method, Request, Response, SessionExpires};
use crate::timer::LegTimer;
use std::time::Duration;

/// The session interval we agree to for one that a peer named, s: a longer one may be shortened
/// by whoever answers (RFC 4028 §9), and no timer of ours runs for longer.
fn interval(named: u32) -> u32 {
    named.clamp(
        limits::SESSION_INTERVAL_MIN_S,
        limits::SESSION_INTERVAL_MAX_S,
    )
}

impl Machine {
    /// The peer's INVITE or UPDATE; answers its Session-Expires in our 2xx.
    pub(super) fn session_asked(&mut self, core: &Core, request: &Request, ok: &mut Response) {
        let supported = request.headers.has_token(&HeaderName::Supported, "timer");
        let asked = request.headers.session_expires();
        let (Some(asked), true) = (asked, supported) else {
            // A request without it ends an agreement (RFC 4028 §9), unless it is ours to keep.
            if self
                .dialog
                .session
                .is_some_and(|session| !session.we_refresh)
            {
                self.dialog.session = None;
            }
            return self.start_session(core);
        };
        // Whoever sends the request is its UAC, whatever role it has in the dialog.
        let peer_refreshes = asked.refresher_uac.unwrap_or(true);
        let agreed = SessionExpires {
            seconds: interval(asked.seconds),
            refresher_uac: Some(peer_refreshes),
        };
        ok.headers
            .push(HeaderName::SessionExpires, agreed.to_string());
        if peer_refreshes {
            ok.headers.push(HeaderName::Require, "timer");
        }
        self.dialog.session = Some(SessionTimer {
            interval_s: agreed.seconds,
            we_refresh: !peer_refreshes,
        });
        self.start_session(core);
    }

    /// The 2xx to our INVITE or UPDATE.
    pub(super) fn session_answered(&mut self, core: &Core, response: &Response) {
        self.dialog.session = response
            .headers
            .session_expires()
            .map(|agreed| SessionTimer {
                interval_s: interval(agreed.seconds),
                we_refresh: agreed.refresher_uac.unwrap_or(true),
            });
        self.start_session(core);
    }

    /// Starts the clock of the agreement anew.
    pub(super) fn start_session(&mut self, core: &Core) {
        self.disarm(LegTimer::Refresh);
        self.disarm(LegTimer::Expire);
        let Some(session) = self.dialog.session else {
            return;
        };
        let interval = Duration::from_secs(u64::from(session.interval_s));
        if session.we_refresh {
            self.arm(core, LegTimer::Refresh, interval / 2);
        } else {
            // RFC 4028 §10: end it the lesser of 32 s and a third of the interval early.
            let margin = Duration::from_secs(32).min(interval / 3);
            self.arm(core, LegTimer::Expire, interval.saturating_sub(margin));
        }
    }

    /// Sends our refresh: UPDATE where the peer takes it, else a re-INVITE with the same SDP.
    pub(super) fn refresh(&mut self, core: &Core) {
        let Some(session) = self.dialog.session else {
            return;
        };
        if self.calling.is_some() || self.answering.is_some() {
            // That exchange refreshes, or ends soon.
            return self.arm(core, LegTimer::Refresh, core.times().t2);
        }
        // Without an answer the agreement must not go on for ever: the next half is the last.
        self.arm(
            core,
            LegTimer::Refresh,
            Duration::from_secs(u64::from(session.interval_s) / 2),
        );
        self.send_refresh(core, session.interval_s, true);
    }

    /// Refreshes ahead of time, whoever has to; see [`super::Leg::probe`].
    pub(super) fn probe(&mut self, core: &Core) -> Result<(), LegError> {
        if self.phase != Phase::Up {
            return Err(LegError::WrongState);
        }
        if let Some(session) = self.dialog.session
            && self.calling.is_none()
            && self.answering.is_none()
        {
            self.send_refresh(core, session.interval_s, session.we_refresh);
        }
        Ok(())
    }

    fn send_refresh(&mut self, core: &Core, interval_s: u32, we_refresh: bool) {
        if self.dialog.peer_updates {
            let mut request = self.dialog.request(Method::Update);
            request.headers.push(HeaderName::Supported, "timer");
            self.ask_session(&mut request, interval_s, Some(we_refresh));
            return self.send_request(core, request);
        }
        let sdp = self.dialog.local_sdp.clone();
        self.start_reinvite(core, sdp, true);
    }

    /// The Session-Expires of our own re-INVITE, so that a refresh keeps the agreement.
    pub(super) fn session_of_request(&self, request: &mut Request) {
        if let Some(session) = self.dialog.session {
            self.ask_session(request, session.interval_s, Some(session.we_refresh));
        }
    }

    /// Asks for an interval, never below what the peer has named as its least.
    fn ask_session(&self, request: &mut Request, seconds: u32, refresher_uac: Option<bool>) {
        let least = self.dialog.min_se_s;
        let wanted = SessionExpires {
            seconds: seconds.max(least),
            refresher_uac,
        };
        let headers = &mut request.headers;
        headers.set(HeaderName::SessionExpires, wanted.to_string());
        if least > 0 {
            headers.set(HeaderName::MinSe, least.to_string());
        }
    }

    /// Learns the peer's least interval from its 422; false when there is nothing to learn
    /// from it, so that asking again would be refused again (RFC 4028 §7.4).
    pub(super) fn learn_min_se(&mut self, response: &Response) -> bool {
        let least = response.headers.number(&HeaderName::MinSe).unwrap_or(0);
        let new = self.dialog.min_se_s.max(limits::SESSION_INTERVAL_MIN_S - 1) < least
            && least <= limits::SESSION_INTERVAL_MAX_S;
        if response.status != 422 || !new {
            return false;
        }
        self.dialog.min_se_s = least;
        if let Some(session) = &mut self.dialog.session {
            session.interval_s = session.interval_s.max(least);
        }
        true
    }

    /// Writes what [`Machine::learn_min_se`] learnt on a request that is sent again.
    pub(super) fn ask_longer_session(&self, request: &mut Request) {
        let before = request.headers.session_expires();
        let seconds = before.map_or(0, |before| before.seconds);
        self.ask_session(
            request,
            seconds,
            before.and_then(|before| before.refresher_uac),
        );
    }
}
