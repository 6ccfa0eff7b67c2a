//! The working part of a test phone: its socket, its thread, its transactions.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::calls::{Phase, Record, Repeat, View};
use super::message::{self, Algorithm, Message, address_of, authorization, uri_of};
use crate::poll::within_time;
use crate::rtp::Audio;

/// How long the thread waits for a datagram before it looks at its timers.
const TICK: Duration = Duration::from_millis(10);
/// Largest datagram taken.
const DATAGRAM_MAX: usize = 65_535;

/// What a phone does with a call that comes in.
#[derive(Clone, Copy, Debug)]
pub enum Policy {
    /// Rings until told otherwise.
    Ring,
    /// The same, and the caller hears the phone's tone meanwhile (183 with SDP).
    EarlyMedia,
    /// Answers after a while; hangs up after `talk`, or leaves that to the other end.
    Answer {
        /// From ringing to answer.
        after: Duration,
        /// From answer to BYE.
        talk: Option<Duration>,
    },
    /// Refuses with a status.
    Refuse(u16),
    /// Rings, and is busy while it has a call.
    OneLine,
    /// Sends nothing at all, as a phone without power.
    Silent,
    /// Rings, and answers in the very moment a CANCEL comes: the two cross.
    Cross,
}

/// What a phone does with a change of a call's session (a re-INVITE).
#[derive(Clone, Copy, Debug)]
pub enum Changes {
    /// Takes it.
    Taken,
    /// Refuses so many with a status, and takes those after.
    Refused(u16, usize),
    /// Takes it after so long, and refuses others until then (RFC 3261 §14.2).
    Slow(Duration),
    /// Never gets it, as behind a firewall.
    Unheard,
}

pub(super) struct State {
    pub closed: bool,
    pub policy: Policy,
    pub changes: Changes,
    /// Changes of sessions that came, each with its repeats once.
    pub changes_seen: usize,
    pub order: Vec<String>,
    calls: BTreeMap<String, Record>,
    /// Answers to requests outside of calls and to BYE, INFO, CANCEL, by branch.
    answers: BTreeMap<String, Message>,
}

pub(super) struct Core {
    socket: UdpSocket,
    pub local: SocketAddr,
    pub user: String,
    password: String,
    tone_hz: u32,
    serial: AtomicU64,
    md5_only: AtomicBool,
    withholds_acks: AtomicBool,
    offers_late: AtomicBool,
    state: Mutex<State>,
}

impl Core {
    pub fn start(address: SocketAddr, user: &str, password: &str, tone_hz: u32) -> Arc<Self> {
        // A phone that was here before lets go of its address a moment after it is dropped.
        let free = || UdpSocket::bind(address).ok();
        let socket = within_time(Duration::from_secs(5), free)
            .unwrap_or_else(|| panic!("phone {user} cannot bind {address}: it is in use"));
        socket
            .set_read_timeout(Some(TICK))
            .expect("a UDP socket takes a timeout");
        let core = Arc::new(Self {
            local: socket.local_addr().expect("bound"),
            socket,
            user: user.to_owned(),
            password: password.to_owned(),
            tone_hz,
            serial: AtomicU64::new(1),
            md5_only: AtomicBool::new(false),
            withholds_acks: AtomicBool::new(false),
            offers_late: AtomicBool::new(false),
            state: Mutex::new(State {
                closed: false,
                policy: Policy::Ring,
                changes: Changes::Taken,
                changes_seen: 0,
                order: Vec::new(),
                calls: BTreeMap::new(),
                answers: BTreeMap::new(),
            }),
        });
        let own = Arc::clone(&core);
        std::thread::spawn(move || own.run());
        core
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn forget_ended(&self, ago: Duration) {
        let mut state = self.lock();
        let State { calls, order, .. } = &mut *state;
        calls.retain(|_, record| record.view.ended.is_none_or(|at| at.elapsed() < ago));
        order.retain(|call_id| calls.contains_key(call_id));
    }

    pub fn offer_late(&self) {
        self.offers_late.store(true, Ordering::Relaxed);
    }

    pub fn withhold_acks(&self, withheld: bool) {
        self.withholds_acks.store(withheld, Ordering::Relaxed);
    }

    pub fn speak_md5_only(&self) {
        self.md5_only.store(true, Ordering::Relaxed);
    }

    fn run(&self) {
        let mut buffer = vec![0u8; DATAGRAM_MAX];
        loop {
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer)
                && let Some(message) = Message::parse(&buffer[..length])
            {
                match message.status() {
                    Some(status) => self.handle_response(message, status),
                    None => self.handle_request(&message, from),
                }
            }
            let mut state = self.lock();
            if state.closed {
                return;
            }
            self.run_timers(&mut state);
        }
    }

    fn send(&self, bytes: &[u8], to: SocketAddr) {
        // Refused ports show up as errors here; the transaction's timers deal with them.
        let _ = self.socket.send_to(bytes, to);
    }

    /// A number unique within the phone, for tags, branches and Call-IDs.
    fn unique(&self) -> String {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let nanos = std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_nanos());
        format!("{}{:x}{nanos:x}", self.local.port(), serial)
    }

    fn via(&self) -> String {
        format!(
            "SIP/2.0/UDP {};branch=z9hG4bK{};rport",
            self.local,
            self.unique()
        )
    }

    fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.user, self.local)
    }

    /// A request outside of any dialog.
    pub fn request(&self, method: &str, uri: &str, server: SocketAddr) -> Message {
        let own = format!("<sip:{}@{}>", self.user, server.ip());
        Message::new(format!("{method} {uri} SIP/2.0"))
            .with("Via", self.via())
            .with("Max-Forwards", "70")
            .with("From", format!("{own};tag={}", self.unique()))
            .with(
                "To",
                if method == "REGISTER" {
                    own
                } else {
                    format!("<{uri}>")
                },
            )
            .with("Call-ID", self.unique())
            .with("CSeq", format!("1 {method}"))
            .with("Contact", self.contact())
            .with("User-Agent", "test phone")
    }

    /// Sends a request and waits for its final answer, repeating it meanwhile.
    pub fn exchange(&self, request: Message, to: SocketAddr, within: Duration) -> Option<Message> {
        let branch = request.branch()?;
        let bytes = request.bytes();
        let mut repeat = Repeat::new(bytes.clone(), to);
        self.send(&bytes, to);
        within_time(within, || {
            if let Some((bytes, to)) = repeat.due(Instant::now()) {
                self.send(&bytes, to);
            }
            self.lock().answers.remove(&branch)
        })
    }

    pub fn register(
        &self,
        server: SocketAddr,
        expires_s: u32,
        within: Duration,
    ) -> Option<Message> {
        let uri = format!("sip:{}", server.ip());
        let request = self
            .request("REGISTER", &uri, server)
            .with("Expires", expires_s.to_string());
        let answer = self.exchange(request.clone(), server, within)?;
        if answer.status() != Some(401) {
            return Some(answer);
        }
        let request = self.authorize(request, &answer)?;
        self.exchange(request, server, within)
    }

    /// The same request with an answer to the challenge, a new branch and the next CSeq.
    fn authorize(&self, mut request: Message, challenged: &Message) -> Option<Message> {
        let (challenge, name) = match challenged.status()? {
            407 => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => ("WWW-Authenticate", "Authorization"),
        };
        let (cseq, method) = request
            .cseq()
            .map(|(cseq, method)| (cseq, method.to_owned()))?;
        let uri = request.start.split(' ').nth(1)?.to_owned();
        let known: &[Algorithm] = if self.md5_only.load(Ordering::Relaxed) {
            &[Algorithm::Md5]
        } else {
            &[Algorithm::Md5, Algorithm::Sha256]
        };
        let value = challenged.all(challenge).find_map(|challenge| {
            let request = (method.as_str(), uri.as_str());
            authorization(challenge, known, request, (&self.user, &self.password))
        })?;
        for (own, text) in &mut request.headers {
            match own.as_str() {
                "Via" => *text = self.via(),
                "CSeq" => *text = format!("{} {method}", cseq + 1),
                _ => {}
            }
        }
        Some(request.with(name, value))
    }

    fn sdp(&self, port: u16, direction: &str, version: u32) -> String {
        message::description(self.local.ip(), port, direction, version)
    }

    /// Starts a call; its Call-ID.
    pub fn invite(&self, server: SocketAddr, number: &str) -> String {
        let audio = Arc::new(Audio::start(self.local.ip(), self.tone_hz));
        let mut record = Record::new(audio, server, number.to_owned(), false);
        let uri = format!("sip:{number}@{}", server.ip());
        let request = self.request("INVITE", &uri, server);
        let request = if self.offers_late.load(Ordering::Relaxed) {
            request
        } else {
            request.with_sdp(self.sdp(record.audio.port(), "sendrecv", 1))
        };
        let call_id = request.call_id();
        record.own = request.header("From").unwrap_or_default().to_owned();
        record.other = request.header("To").unwrap_or_default().to_owned();
        record.target = uri;
        let bytes = request.bytes();
        record.repeat = Some(Repeat::new(bytes.clone(), server));
        record.invite = Some(request);
        let mut state = self.lock();
        state.order.push(call_id.clone());
        state.calls.insert(call_id.clone(), record);
        self.send(&bytes, server);
        call_id
    }

    /// A request within a call's dialog and where it goes.
    pub fn in_dialog(&self, call_id: &str, method: &str) -> Option<(Message, SocketAddr)> {
        let mut state = self.lock();
        let record = state.calls.get_mut(call_id)?;
        Some(self.dialog_request(record, call_id, method))
    }

    fn dialog_request(
        &self,
        record: &mut Record,
        call_id: &str,
        method: &str,
    ) -> (Message, SocketAddr) {
        record.cseq += 1;
        let to = address_of(&record.target).unwrap_or(record.server);
        let request = Message::new(format!("{method} {} SIP/2.0", record.target))
            .with("Via", self.via())
            .with("Max-Forwards", "70")
            .with("From", record.own.clone())
            .with("To", record.other.clone())
            .with("Call-ID", call_id)
            .with("CSeq", format!("{} {method}", record.cseq))
            .with("Contact", self.contact());
        (request, to)
    }

    pub fn reinvite(&self, call_id: &str, direction: &'static str) {
        let mut state = self.lock();
        let Some(record) = state.calls.get_mut(call_id) else {
            return;
        };
        record.direction_before = std::mem::replace(&mut record.direction, direction);
        record.sdp_version += 1;
        let sdp = self.sdp(record.audio.port(), direction, record.sdp_version);
        let (request, to) = self.dialog_request(record, call_id, "INVITE");
        let request = request.with_sdp(sdp);
        let bytes = request.bytes();
        record.repeat = Some(Repeat::new(bytes.clone(), to));
        record.invite = Some(request);
        self.send(&bytes, to);
    }

    pub fn hang_up(&self, call_id: &str) {
        let mut state = self.lock();
        let Some(record) = state.calls.get_mut(call_id) else {
            return;
        };
        match (record.view.phase, record.view.incoming) {
            (Phase::Up, _) => self.bye(record, call_id),
            (Phase::Ringing, true) => self.respond_invite(record, 603),
            (Phase::Calling | Phase::Ringing, false) => {
                record.cancelled = true;
                // Before any answer a CANCEL may not be sent (RFC 3261 §9.1).
                if !record.view.history.is_empty() {
                    self.cancel(record);
                }
            }
            (Phase::Calling, true) | (Phase::Ended, _) => {}
        }
    }

    fn bye(&self, record: &mut Record, call_id: &str) {
        let (request, to) = self.dialog_request(record, call_id, "BYE");
        let bytes = request.bytes();
        record.end(None, false);
        record.repeat = None;
        record.farewell = Some(Repeat::new(bytes.clone(), to));
        self.send(&bytes, to);
    }

    fn cancel(&self, record: &Record) {
        let Some(invite) = &record.invite else { return };
        let mut request = Message::new(invite.start.replacen("INVITE", "CANCEL", 1));
        for name in ["Via", "Max-Forwards", "From", "To", "Call-ID"] {
            request = request.with(name, invite.header(name).unwrap_or_default());
        }
        let number = invite.cseq().map_or(1, |(number, _)| number);
        let request = request.with("CSeq", format!("{number} CANCEL"));
        self.send(&request.bytes(), record.server);
    }

    pub fn answer(&self, call_id: &str) {
        let mut state = self.lock();
        if let Some(record) = state.calls.get_mut(call_id)
            && record.view.phase == Phase::Ringing
            && record.view.incoming
        {
            self.respond_invite(record, 200);
        }
    }

    /// Answers the INVITE that came in; our tag and Contact go with it.
    fn respond_invite(&self, record: &mut Record, status: u16) {
        let Some(request) = record.request.clone() else {
            return;
        };
        let mut response = response_to(&request, status);
        for (name, value) in &mut response.headers {
            if name == "To" {
                *value = record.own.clone();
            }
        }
        response = response.with("Contact", self.contact());
        if matches!(status, 183 | 200) {
            let sdp = self.sdp(record.audio.port(), record.direction, record.sdp_version);
            response = response.with_sdp(sdp);
        }
        let bytes = response.bytes();
        self.send(&bytes, record.server);
        record.response = Some(bytes.clone());
        match status {
            200 => {
                record.repeat = Some(Repeat::new(bytes, record.server));
                record.up();
            }
            183 => record.connect_audio(),
            300.. => record.end(Some(status), false),
            _ => {}
        }
    }

    fn run_timers(&self, state: &mut State) {
        let now = Instant::now();
        for (call_id, record) in &mut state.calls {
            let repeats = [&mut record.repeat, &mut record.farewell];
            for repeat in repeats.into_iter().flatten() {
                if let Some((bytes, to)) = repeat.due(now) {
                    self.send(&bytes, to);
                }
            }
            if record.change_at.is_some_and(|at| now >= at) {
                record.change_at = None;
                self.take_change(record);
            }
            if record.answer_at.is_some_and(|at| now >= at) {
                record.answer_at = None;
                self.respond_invite(record, 200);
            }
            if record.hang_up_at.is_some_and(|at| now >= at) {
                self.bye(record, call_id);
            }
        }
    }

    fn handle_response(&self, response: Message, status: u16) {
        let mut state = self.lock();
        let method = response
            .cseq()
            .map_or(String::new(), |(_, method)| method.to_owned());
        let call_id = response.call_id();
        match method.as_str() {
            "INVITE" => {
                if let Some(record) = state.calls.get_mut(&call_id) {
                    self.handle_invite_response(record, &response, status);
                }
            }
            "BYE" if status >= 200 => {
                if let Some(record) = state.calls.get_mut(&call_id) {
                    record.farewell = None;
                }
            }
            _ if status >= 200 => {
                if let Some(branch) = response.branch() {
                    state.answers.insert(branch, response);
                }
            }
            _ => {}
        }
    }

    fn handle_invite_response(&self, record: &mut Record, response: &Message, status: u16) {
        let Some(invite) = record.invite.clone() else {
            return;
        };
        if response.cseq() != invite.cseq() {
            // A late answer to an INVITE that was superseded; final ones still need an ACK.
            return;
        }
        let ours = response.branch() == invite.branch();
        if !ours {
            return;
        }
        let first_final = record.repeat.is_some() || status < 200;
        if status < 200 {
            record.repeat = None;
            record.view.history.push((Instant::now(), status));
            record.hear_once(response);
            if status > 100 && record.view.phase == Phase::Calling {
                record.view.phase = Phase::Ringing;
            }
            if status == 183 || (status == 180 && !response.body.is_empty()) {
                record.connect_audio();
            }
            if record.cancelled && record.view.phase != Phase::Up {
                self.cancel(record);
            }
            return;
        }
        self.acknowledge(record, &invite, response, status);
        if record.view.phase == Phase::Ended {
            // Whoever has hung up takes no more part in the dialog (§15.1.1).
            return;
        }
        let repeated = record.peer_message.bytes() == response.bytes();
        record.repeat = None;
        if repeated && !first_final {
            return;
        }
        if matches!(status, 401 | 407)
            && !record.authorized
            && let Some(again) = self.authorize(invite, response)
        {
            record.authorized = true;
            record.cseq = again.cseq().map_or(record.cseq, |(number, _)| number);
            let bytes = again.bytes();
            record.repeat = Some(Repeat::new(bytes.clone(), record.server));
            record.invite = Some(again);
            self.send(&bytes, record.server);
            return;
        }
        if repeated {
            return;
        }
        record.view.history.push((Instant::now(), status));
        record.peer_message = response.clone();
        if status < 300 {
            record.other = response.header("To").unwrap_or_default().to_owned();
            if let Some(contact) = response.header("Contact") {
                record.target = uri_of(contact);
            }
            record.hear_once(response);
            record.up();
            if record.cancelled {
                // The answer and our CANCEL have crossed (§9.1, §15).
                let call_id = response.call_id();
                self.bye(record, &call_id);
            }
        } else if record.view.phase == Phase::Up {
            record.direction = record.direction_before;
        } else {
            record.end(Some(status), true);
        }
    }

    fn acknowledge(&self, record: &Record, invite: &Message, response: &Message, status: u16) {
        if status < 300 && self.withholds_acks.load(Ordering::Relaxed) {
            return;
        }
        let number = invite.cseq().map_or(1, |(number, _)| number);
        // The ACK to a 2xx is a transaction of its own, to the Contact (§13.2.2.4); to other
        // answers it belongs to the INVITE's (§17.1.1.3).
        let (uri, via, to) = if status < 300 {
            let target = response
                .header("Contact")
                .map_or(record.target.clone(), uri_of);
            let to = address_of(&target).unwrap_or(record.server);
            (target, self.via(), to)
        } else {
            let uri = invite
                .start
                .split(' ')
                .nth(1)
                .unwrap_or_default()
                .to_owned();
            (
                uri,
                invite.header("Via").unwrap_or_default().to_owned(),
                record.server,
            )
        };
        let ack = Message::new(format!("ACK {uri} SIP/2.0"))
            .with("Via", via)
            .with("Max-Forwards", "70")
            .with("From", record.own.clone())
            .with("To", response.header("To").unwrap_or_default())
            .with("Call-ID", response.call_id())
            .with("CSeq", format!("{number} ACK"));
        let ack = if status < 300 && invite.body.is_empty() {
            // The answer to the offer in the 200 (RFC 3261 §13.2.1).
            ack.with_sdp(self.sdp(record.audio.port(), record.direction, record.sdp_version))
        } else {
            ack
        };
        self.send(&ack.bytes(), to);
    }

    fn handle_request(&self, request: &Message, from: SocketAddr) {
        let call_id = request.call_id();
        let mut state = self.lock();
        let policy = state.policy;
        let known = state.calls.contains_key(&call_id);
        match request.method().unwrap_or_default() {
            "INVITE" if !known && request.tag("To").is_none() => {
                if matches!(policy, Policy::Silent) {
                    return;
                }
                let mut record = self.incoming(request, from);
                let talks = |other: &Record| other.view.phase == Phase::Up;
                match policy {
                    Policy::Refuse(status) => self.respond_invite(&mut record, status),
                    Policy::OneLine if state.calls.values().any(talks) => {
                        self.respond_invite(&mut record, 486);
                    }
                    Policy::EarlyMedia => self.respond_invite(&mut record, 183),
                    _ => self.respond_invite(&mut record, 180),
                }
                if let Policy::Answer { after, talk } = policy {
                    record.answer_at = Some(Instant::now() + after);
                    record.talk = talk;
                }
                state.order.push(call_id.clone());
                state.calls.insert(call_id, record);
            }
            "INVITE" if known => {
                let State {
                    calls,
                    changes,
                    changes_seen,
                    ..
                } = &mut *state;
                if matches!(changes, Changes::Unheard) {
                    return;
                }
                let record = calls.get_mut(&call_id).expect("known");
                self.handle_reinvite(record, request, from, (changes, changes_seen));
            }
            "ACK" => {
                if let Some(record) = state.calls.get_mut(&call_id) {
                    record.repeat = None;
                }
            }
            "BYE" if known => {
                self.send(&response_to(request, 200).bytes(), from);
                let record = state.calls.get_mut(&call_id).expect("known");
                (record.repeat, record.farewell) = (None, None);
                if request
                    .branch()
                    .is_some_and(|branch| record.byes.insert(branch))
                {
                    record.view.byes_from.push((Instant::now(), from));
                }
                record.view.byes = record.byes.len();
                record.end(None, true);
            }
            "CANCEL" if known => {
                let record = state.calls.get_mut(&call_id).expect("known");
                let invite = record.request.as_ref();
                if !invite.is_some_and(|invite| same_transaction(invite, request)) {
                    self.send(&response_to(request, 481).bytes(), from);
                    return;
                }
                self.send(&response_to(request, 200).bytes(), from);
                if record.view.phase == Phase::Ringing && matches!(policy, Policy::Cross) {
                    self.respond_invite(record, 200);
                } else if record.view.phase == Phase::Ringing {
                    self.respond_invite(record, 487);
                    record.view.ended_by_peer = true;
                }
            }
            "INVITE" | "BYE" | "CANCEL" => {
                self.send(&response_to(request, 481).bytes(), from);
            }
            "OPTIONS" if matches!(policy, Policy::Silent) => {}
            _ => self.send(&response_to(request, 200).bytes(), from),
        }
    }

    fn incoming(&self, request: &Message, from: SocketAddr) -> Record {
        let audio = Arc::new(Audio::start(self.local.ip(), self.tone_hz));
        let mut record = Record::new(audio, from, request.user("From"), true);
        let to = request.header("To").unwrap_or_default();
        record.own = format!("{to};tag={}", self.unique());
        record.other = request.header("From").unwrap_or_default().to_owned();
        record.target = request.header("Contact").map(uri_of).unwrap_or_default();
        record.request = Some(request.clone());
        record.peer_message = request.clone();
        record.hear(request);
        record
    }

    fn handle_reinvite(
        &self,
        record: &mut Record,
        request: &Message,
        from: SocketAddr,
        (changes, seen): (&mut Changes, &mut usize),
    ) {
        let last = record.request.as_ref().and_then(Message::cseq);
        if last.is_some() && last == request.cseq() {
            if let Some(bytes) = &record.response {
                self.send(bytes, from);
            }
            return;
        }
        if record.view.phase != Phase::Up {
            self.send(&response_to(request, 481).bytes(), from);
            return;
        }
        *seen += 1;
        if record.change_at.is_some() {
            let response = response_to(request, 500).with("Retry-After", "1");
            return self.send(&response.bytes(), from);
        }
        record.request = Some(request.clone());
        record.server = from;
        record.response = None;
        match changes {
            Changes::Refused(status, left @ 1..) => {
                *left -= 1;
                let response = response_to(request, *status).bytes();
                self.send(&response, from);
                record.response = Some(response);
            }
            Changes::Slow(after) => {
                let trying = response_to(request, 100).bytes();
                self.send(&trying, from);
                record.response = Some(trying);
                record.change_at = Some(Instant::now() + *after);
            }
            _ => self.take_change(record),
        }
    }

    /// Takes the change of the session that came last.
    fn take_change(&self, record: &mut Record) {
        let Some(request) = record.request.clone() else {
            return;
        };
        if let Some(contact) = request.header("Contact") {
            record.target = uri_of(contact);
        }
        record.hear(&request);
        record.direction = match record.view.peer_direction {
            "sendonly" => "recvonly",
            // Whom we hold asks for no more than that.
            "recvonly" => "sendonly",
            "inactive" => "inactive",
            _ => "sendrecv",
        };
        record.sdp_version += 1;
        self.respond_invite(record, 200);
    }

    pub fn view(&self, call_id: &str) -> View {
        self.lock()
            .calls
            .get(call_id)
            .expect("calls are kept")
            .view
            .clone()
    }

    pub fn audio(&self, call_id: &str) -> Arc<Audio> {
        Arc::clone(
            &self
                .lock()
                .calls
                .get(call_id)
                .expect("calls are kept")
                .audio,
        )
    }

    pub fn peer_message(&self, call_id: &str) -> Message {
        self.lock()
            .calls
            .get(call_id)
            .expect("calls are kept")
            .peer_message
            .clone()
    }
}

/// Whether a CANCEL means this INVITE: branch and sent-by are the same (RFC 3261 §9.2).
fn same_transaction(invite: &Message, cancel: &Message) -> bool {
    let sent_by = |message: &Message| {
        let via = message.header("Via").unwrap_or_default();
        via.split(';').next().unwrap_or_default().trim().to_owned()
    };
    invite.branch() == cancel.branch() && sent_by(invite) == sent_by(cancel)
}

/// A response with the headers that are copied from the request (RFC 3261 §8.2.6).
fn response_to(request: &Message, status: u16) -> Message {
    let reason = match status {
        100 => "Trying",
        180 => "Ringing",
        200 => "OK",
        486 => "Busy Here",
        487 => "Request Terminated",
        603 => "Decline",
        _ => "Answer",
    };
    let mut response = Message::new(format!("SIP/2.0 {status} {reason}"));
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in request.all(name) {
            response = response.with(name, value);
        }
    }
    response
}
