//! One phone of the demonstration: registers, dials, answers, talks and hangs up.
//!
//! A line has one call at a time and refuses a second one as busy. It knows all service
//! addresses and tries the next one when the present one stays silent, as a phone with a
//! list of servers does; so it outlives any node.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use strowger_sip::endpoint::IncomingInvite;
use strowger_sip::leg::{Leg, LegEvent, channel_sink};
use strowger_sip::phone::{Phone, PhoneConfig, PhoneError};
use strowger_sip::sdp::{self, LocalMedia};
use strowger_sip::token::LegToken;
use strowger_sip::transport::{BindError, Protocol};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::voice::Voice;

/// Longest wait for the answer to a REGISTER before the next address is tried.
const REGISTER_PATIENCE: Duration = Duration::from_secs(3);
/// Longest silence after an INVITE before the call is given up.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Longest ringing of a call of ours.
const RINGING_MAX: Duration = Duration::from_secs(20);
/// Longest wait for the end of a call that we hung up.
const GOODBYE: Duration = Duration::from_secs(2);
/// Life of a registration.
const EXPIRES_S: u32 = 120;
/// Port of every line, so that a line's contact stays the same when it starts anew.
const PORT: u16 = 5060;

/// Who a line is.
#[derive(Clone, Debug)]
pub(super) struct LineSpec {
    /// Its own address.
    pub ip: IpAddr,
    /// Frequency of its tone in hertz.
    pub hz: u16,
    /// Extension.
    pub extension: String,
    /// Password of the extension.
    pub password: String,
    /// Domain of the tenant.
    pub domain: String,
    /// Service addresses, the preferred one first.
    pub servers: Vec<SocketAddr>,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both spoke.
    Talked,
    /// It ended before anybody answered, with this status where there was one.
    Unanswered(Option<u16>),
    /// Nobody said anything at all.
    Silent,
}

/// A phone in use.
pub(super) struct Line {
    spec: LineSpec,
    server: usize,
    phone: Phone,
    invites: mpsc::Receiver<IncomingInvite>,
    voice: Voice,
}

impl Line {
    /// Opens the sockets.
    ///
    /// # Errors
    /// [`PhoneError`] when an address is taken.
    pub(super) async fn open(spec: LineSpec) -> Result<Self, PhoneError> {
        let voice = Voice::open(spec.ip, spec.hz).await.map_err(|source| {
            let address = SocketAddr::new(spec.ip, 0);
            BindError::System {
                protocol: "UDP",
                address,
                source,
            }
        })?;
        let (phone, invites) = phone(&spec, 0)?;
        Ok(Self {
            spec,
            server: 0,
            phone,
            invites,
            voice,
        })
    }

    /// Registers at the present address or the next one that answers. False when none did.
    pub(super) async fn register(&mut self) -> bool {
        for _ in 0..self.spec.servers.len() {
            match timeout(REGISTER_PATIENCE, self.phone.register(EXPIRES_S)).await {
                Ok(Ok(_)) => return true,
                Ok(Err(error)) => {
                    tracing::debug!(extension = self.spec.extension, %error, "not registered");
                }
                Err(_) => tracing::debug!(extension = self.spec.extension, "no answer"),
            }
            if !self.move_on().await {
                return false;
            }
        }
        false
    }

    /// Turns to the next service address, from the same socket address as before.
    async fn move_on(&mut self) -> bool {
        self.server = (self.server + 1) % self.spec.servers.len().max(1);
        self.phone.stop().await;
        match phone(&self.spec, self.server) {
            Ok((phone, invites)) => {
                (self.phone, self.invites) = (phone, invites);
                true
            }
            Err(error) => {
                tracing::debug!(extension = self.spec.extension, %error, "no socket");
                false
            }
        }
    }

    /// The next call to this line, until `deadline`.
    pub(super) async fn called(&mut self, deadline: Instant) -> Option<IncomingInvite> {
        match timeout_at(deadline, self.invites.recv()).await {
            Ok(Some(invite)) => Some(invite),
            Ok(None) => {
                // A stopped phone takes no calls; the registration is renewed soon.
                sleep_until(deadline).await;
                None
            }
            Err(_) => None,
        }
    }

    /// Calls a number and talks for `talk`, unless the other side hangs up before.
    pub(super) async fn dial(&mut self, number: &str, talk: Duration) -> Outcome {
        let (sender, events) = mpsc::unbounded_channel();
        let media = self.voice.media();
        let offer = sdp::offer(&media);
        let leg = self
            .phone
            .call(number, Some(offer.clone()), channel_sink(sender));
        let Ok(leg) = leg else {
            return Outcome::Silent;
        };
        let media = LocalMedia {
            previous: Some(offer),
            ..media
        };
        let outcome = self.converse(&leg, events, media, talk, false).await;
        if outcome == Outcome::Silent {
            self.register().await;
        }
        outcome
    }

    /// Answers a call after `ringing` and talks for `talk`.
    pub(super) async fn answer(
        &mut self,
        invite: IncomingInvite,
        ringing: Duration,
        talk: Duration,
    ) -> Outcome {
        let media = self.voice.media();
        let answer = invite
            .sdp()
            .and_then(|offer| sdp::answer(&offer, &media).ok());
        let Some(answer) = answer else {
            let refusal = invite.response(488);
            invite.reject(&refusal);
            return Outcome::Unanswered(Some(488));
        };
        let (sender, mut events) = mpsc::unbounded_channel();
        let Ok(leg) = self.phone.accept(invite, channel_sink(sender)) else {
            return Outcome::Silent;
        };
        let rings = leg.ring(180, None).is_ok();
        if !rings || self.gave_up(&mut events, Instant::now() + ringing).await {
            leg.forget();
            return Outcome::Unanswered(None);
        }
        if leg.answer(answer.sdp.clone()).is_err() {
            leg.forget();
            return Outcome::Unanswered(None);
        }
        self.voice.speak(&answer);
        let media = LocalMedia {
            previous: Some(answer.sdp),
            ..media
        };
        self.converse(&leg, events, media, talk, true).await
    }

    /// Whether the caller gave up before `deadline`.
    async fn gave_up(&mut self, events: &mut Events, deadline: Instant) -> bool {
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some((_, event)) if !is_over(&event) => {}
                    Some(_) | None => return true,
                },
                Some(invite) = self.invites.recv() => refuse(invite),
                () = sleep_until(deadline) => return false,
            }
        }
    }

    /// Follows a call to its end.
    async fn converse(
        &mut self,
        leg: &Leg,
        mut events: Events,
        mut media: LocalMedia,
        talk: Duration,
        talking: bool,
    ) -> Outcome {
        let mut outcome = if talking {
            Outcome::Talked
        } else {
            Outcome::Silent
        };
        let mut hung_up = false;
        let patience = if talking { talk } else { SILENCE_MAX };
        let mut deadline = Instant::now() + patience;
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Some((_, event)) = event else { break };
                    match event {
                        LegEvent::Answered { sdp, .. } => {
                            let agreed = sdp
                                .and_then(|answer| sdp::accept_answer(&answer, &media).ok());
                            if leg.ack(None).is_err() { break }
                            if let Some(agreed) = agreed { self.voice.speak(&agreed); }
                            outcome = Outcome::Talked;
                            deadline = Instant::now() + talk;
                        }
                        LegEvent::Ringing | LegEvent::Progress { .. }
                            if outcome == Outcome::Silent =>
                        {
                            outcome = Outcome::Unanswered(None);
                            deadline = Instant::now() + RINGING_MAX;
                        }
                        LegEvent::Reinvited { sdp } => self.change(leg, &mut media, sdp),
                        LegEvent::Failed { status, .. } => {
                            outcome = Outcome::Unanswered(Some(status));
                            break;
                        }
                        event if is_over(&event) => break,
                        _ => {}
                    }
                }
                Some(invite) = self.invites.recv() => refuse(invite),
                () = sleep_until(deadline) => {
                    if hung_up || leg.bye(None).is_err() { break }
                    hung_up = true;
                    self.voice.hush();
                    deadline = Instant::now() + GOODBYE;
                }
            }
        }
        self.voice.hush();
        // What is not over by now has nobody left at the other end.
        leg.forget();
        outcome
    }

    /// Follows a change of the session, such as hold.
    fn change(&mut self, leg: &Leg, media: &mut LocalMedia, offer: Option<String>) {
        let Some(offer) = offer else {
            let ours = sdp::offer(media);
            media.previous = Some(ours.clone());
            // The leg may be over, which its next event says.
            let _ = leg.accept_reinvite(Some(ours));
            return;
        };
        match sdp::answer(&offer, media) {
            Ok(agreed) => {
                media.previous = Some(agreed.sdp.clone());
                self.voice.speak(&agreed);
                let _ = leg.accept_reinvite(Some(agreed.sdp));
            }
            Err(_) => {
                let _ = leg.reject_reinvite(488);
            }
        }
    }
}

type Events = mpsc::UnboundedReceiver<(LegToken, LegEvent)>;

fn is_over(event: &LegEvent) -> bool {
    matches!(
        event,
        LegEvent::Failed { .. } | LegEvent::Cancelled | LegEvent::Timeout | LegEvent::Ended { .. }
    )
}

fn refuse(invite: IncomingInvite) {
    let busy = invite.response(486);
    invite.reject(&busy);
}

fn phone(
    spec: &LineSpec,
    server: usize,
) -> Result<(Phone, mpsc::Receiver<IncomingInvite>), PhoneError> {
    let server = spec.servers.get(server).or(spec.servers.first());
    let server = server.expect("lines are made only where there are service addresses");
    Phone::start(PhoneConfig {
        ip: spec.ip,
        port: PORT,
        protocol: Protocol::Udp,
        server: *server,
        domain: spec.domain.clone(),
        user: spec.extension.clone(),
        password: spec.password.clone(),
    })
}
