//! Calls: arrival, what was seen of their legs, and their end.

use super::apply_trunk::NoWay;
use super::command::{CallArrived, Late, Observation, Refusal, Reply};
use super::event::Value;
use super::{Deadline, Of, State, Wake};
use crate::call::{
    CallRow, Cause, Codec, Disposition, LegRole, LegRow, LegTarget, Seen, Stage, Visit, Want,
};
use crate::floor::agent::Activity;
use crate::floor::figure::Fact;
use crate::ids::{AgentId, BlobId, CallId, Extension, HoursName, LegId, QueueName};
use crate::limits;
use crate::ports::Rows;
use crate::route::{Destination, route};
use crate::time::TimeMs;

/// What an answer brought.
struct Answered {
    sip_call_id: String,
    remote: Option<String>,
    codec: Codec,
    checkpoint: Vec<u8>,
}

/// How a call enters a queue.
struct Entry {
    greeting: Option<BlobId>,
    music: Option<BlobId>,
    /// A place taken up again, and since when the wait counts there.
    place: Option<(u64, TimeMs)>,
}

/// How a call ended whose caller's leg went away before an answer.
fn unanswered(cause: Cause) -> (Disposition, Cause) {
    match cause.status {
        200 | 487 => (Disposition::Abandoned, Cause::CANCELLED),
        _ => (Disposition::Abandoned, cause),
    }
}

impl State {
    /// Admits a new call and decides what becomes of it.
    pub(super) fn call_arrived(&mut self, rows: &dyn Rows, arrived: CallArrived) -> Reply {
        let current = self.addresses.get(&arrived.address);
        let entitled = current
            .is_some_and(|row| row.holder == Some(arrived.node) && row.epoch == arrived.epoch);
        if !entitled {
            return Reply::Refused(Refusal::Stale);
        }
        let Some(site) = self.site(&arrived.tenant).cloned() else {
            return Reply::Refused(Refusal::NotFound(format!("tenant {}", arrived.tenant)));
        };
        let is_open = |hours: &HoursName| self.is_open(&arrived.tenant, hours);
        let destination = route(&site, is_open, &arrived.from, &arrived.to);
        let party = self.find_party(rows, &arrived);
        let mut call = self.new_call(arrived);
        let (id, leg) = (
            call.id,
            call.legs.first().map(|leg| leg.id).unwrap_or_default(),
        );
        let fields = [
            ("from", Value::from(call.from.number.as_str())),
            ("to", Value::from(call.to.as_str())),
        ];
        self.event("call.arrived", id, fields);
        if let Some(party) = party {
            self.introduce(&mut call, &site, party);
        }
        let tenant = call.tenant.clone();
        let caller = call.from.extension.clone();
        self.calls.insert(id, call);
        if let Some(extension) = caller {
            self.occupy(&(tenant.clone(), extension), id);
        }
        let seized = self.seize_incoming(id);
        let refused = match destination {
            _ if seized.is_err() => seized.err().map(|cause| (Disposition::Failed, cause)),
            Destination::Refused(cause) => Some((Disposition::Rejected, cause)),
            Destination::Extension(number) => {
                let key = (tenant, number);
                let targets = self.extension_targets(&key);
                self.ring(id, &LegRole::Extension(key.1), targets)
            }
            Destination::Trunk { .. } => self.ring_trunk(id),
            Destination::Queue {
                queue,
                greeting,
                music,
            } => {
                let place = self.take_place(id, &queue);
                self.enter_queue(
                    id,
                    queue,
                    Entry {
                        greeting,
                        music,
                        place,
                    },
                );
                None
            }
            Destination::Code(code, extension) => {
                self.feature_code(id, code, &(tenant, extension));
                None
            }
            Destination::Closed(language) => {
                self.tell_closed(id, language);
                None
            }
        };
        match refused {
            Some(ending) => {
                self.close_call(id, ending);
                Reply::CallRefused(ending.1)
            }
            None => Reply::Call { call: id, leg },
        }
    }

    fn new_call(&mut self, arrived: CallArrived) -> CallRow {
        let now = self.meta.now;
        let id = CallId(self.mint());
        let site = self.site(&arrived.tenant);
        let hold_music = site.and_then(|site| site.queues.values().find_map(|queue| queue.music));
        let leg = LegRow {
            id: LegId(self.mint()),
            role: LegRole::Caller,
            target: None,
            want: Want::Alert,
            seen: Seen::Fresh,
            sip_call_id: arrived.sip_call_id,
            remote: arrived.remote,
            codec: None,
            held: false,
            started_at: now,
            answered_at: None,
            ended_at: None,
            cause: None,
            late: false,
            checkpoint: arrived.checkpoint,
        };
        self.batch.calls.insert(id);
        CallRow {
            id,
            tenant: arrived.tenant,
            address: arrived.address,
            address_epoch: arrived.epoch,
            epoch: arrived.epoch,
            owner: arrived.node,
            moved: false,
            from: arrived.from,
            to: arrived.to,
            customer: None,
            priority: 0,
            preferred: None,
            callback: None,
            attempt: 0,
            started_at: now,
            stage: Stage::Ringing {
                until: now.plus(limits::EXTENSION_RING_MS),
            },
            legs: vec![leg],
            visit: None,
            greeting: None,
            hold_music,
            announcement: None,
            exits: Vec::new(),
            answered_at: None,
            talk_ended_at: None,
            agent: None,
            held_since: None,
            held_ms: 0,
            ending: None,
            recorded: false,
            seq: 1,
        }
    }

    /// Rings all targets at once; says how the call ends when there is none.
    pub(super) fn ring(
        &mut self,
        id: CallId,
        role: &LegRole,
        targets: Vec<LegTarget>,
    ) -> Option<(Disposition, Cause)> {
        let refused = self.add_legs(id, role, targets);
        if refused.is_none() {
            self.rings(id);
        }
        refused
    }

    /// Adds a leg for each target; says how the call ends when there is none.
    pub(super) fn add_legs(
        &mut self,
        id: CallId,
        role: &LegRole,
        targets: Vec<LegTarget>,
    ) -> Option<(Disposition, Cause)> {
        if targets.is_empty() {
            return Some((Disposition::Failed, Cause::NOT_REGISTERED));
        }
        for target in targets {
            self.add_leg(id, role.clone(), target);
        }
        None
    }

    /// Sends the call out over a trunk; says how it ends when none takes it.
    fn ring_trunk(&mut self, id: CallId) -> Option<(Disposition, Cause)> {
        match self.dial_out(id) {
            Ok(()) => {
                self.rings(id);
                None
            }
            Err(NoWay::Full) => Some((Disposition::Failed, Cause::CONGESTION)),
            Err(NoWay::Tried) => Some((Disposition::Failed, Cause::UNKNOWN_NUMBER)),
        }
    }

    /// Far phones ring from now on.
    fn rings(&mut self, id: CallId) {
        self.at(
            self.meta.now.plus(limits::EXTENSION_RING_MS),
            Deadline::Call(id),
        );
        self.touch_call(id);
    }

    fn enter_queue(&mut self, id: CallId, queue: QueueName, entry: Entry) {
        let now = self.meta.now;
        let (mut order, mut since) = entry.place.unwrap_or((id.0, now));
        let own = self.calls.get(&id);
        let own = own.and_then(|call| self.own_callback(&call.tenant, &queue, &call.from));
        let own = own.and_then(|origin| self.callbacks.get(&origin));
        let kept = own.map(|row| (row.order, row.since, row.priority));
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let mut priority = call.priority;
        if let Some(kept) = kept {
            // He was to be called back: the place of the callback is his.
            (order, since) = (order.min(kept.0), since.min(kept.1));
            priority = kept.2;
        }
        call.stage = Stage::Waiting;
        call.greeting = entry.greeting;
        call.visit = Some(Visit {
            queue: queue.clone(),
            order,
            entered_at: now,
            since,
            priority,
            step: 0,
            preferred: call.preferred.clone(),
            meant_until: None,
            offers: Vec::new(),
            passed_over: Vec::new(),
            music: entry.music,
            advert: None,
            adverts: 0,
            expected_ms: None,
        });
        if let Some(leg) = call.legs.first_mut() {
            leg.want = Want::Answer;
        }
        let key = (call.tenant.clone(), queue);
        self.waiting
            .entry(key.clone())
            .or_default()
            .insert(order, id);
        self.count_queue(&key.0, &key.1, Fact::Entered);
        self.touch_call(id);
        self.event("call.queued", id, [("queue", Value::from(key.1.as_str()))]);
        self.take_steps(id);
        self.keep_for_preferred(id);
        self.settle_in(id);
        // Sent on at once, as by a queue that is full, he goes on being called back.
        if self.waits_in(id, &key.1) {
            self.came_himself(id);
        }
    }

    /// A caller goes on from one queue to another; his place is that of his arrival.
    pub(super) fn enter_other_queue(&mut self, id: CallId, queue: QueueName) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let site = self.site(&call.tenant);
        let Some(music) = site
            .and_then(|site| site.queues.get(&queue))
            .map(|spec| spec.music)
        else {
            return self.clear_call(id, (Disposition::Overflowed, Cause::UNKNOWN_NUMBER));
        };
        let entry = Entry {
            greeting: call.greeting,
            music,
            place: None,
        };
        self.enter_queue(id, queue, entry);
    }

    /// A customer called back enters the queue at the place that was his.
    pub(super) fn enter_queue_at(
        &mut self,
        id: CallId,
        queue: QueueName,
        music: Option<BlobId>,
        place: (u64, TimeMs),
    ) {
        let entry = Entry {
            greeting: None,
            music,
            place: Some(place),
        };
        self.enter_queue(id, queue, entry);
    }

    /// True while the customer of a callback is dialled.
    fn dials(&self, id: CallId) -> bool {
        let call = self.calls.get(&id);
        call.is_some_and(|call| matches!(call.stage, Stage::Dialling { .. }))
    }

    fn feature_code(&mut self, id: CallId, code: crate::route::FeatureCode, seat: &Of<Extension>) {
        use crate::route::FeatureCode;
        let result = match self.agent_at(seat) {
            None => Err(Refusal::NotFound(String::from("agent"))),
            Some(agent) => match code {
                FeatureCode::SignIn => self.sign_in(&agent, Some(seat.1.clone())),
                FeatureCode::SignOut => self.sign_out(&agent),
                FeatureCode::Pause(place) => match self.pause_reason(&seat.0, place) {
                    Some(reason) => self.pause(&agent, reason),
                    None => Err(Refusal::NotFound(String::from("reason"))),
                },
                FeatureCode::Ready => self.ready(&agent),
                FeatureCode::ExtendWrapUp => self.extend_wrap_up(&agent, limits::WRAP_EXTENSION_MS),
            },
        };
        let confirmation = match result {
            Ok(()) => crate::call::Confirmation::Done,
            Err(_) => crate::call::Confirmation::Refused,
        };
        if let Some(call) = self.calls.get_mut(&id) {
            call.stage = Stage::Confirming(confirmation);
            if let Some(leg) = call.legs.first_mut() {
                leg.want = Want::Answer;
            }
        }
        self.touch_call(id);
    }

    /// Adds an outgoing leg to be rung.
    pub(super) fn add_leg(&mut self, id: CallId, role: LegRole, target: LegTarget) -> LegId {
        let leg_id = LegId(self.mint());
        let leg = LegRow {
            id: leg_id,
            role,
            remote: Some(target.uri.clone()),
            target: Some(target),
            want: Want::Alert,
            seen: Seen::Fresh,
            sip_call_id: String::new(),
            codec: None,
            held: false,
            started_at: self.meta.now,
            answered_at: None,
            ended_at: None,
            cause: None,
            late: false,
            checkpoint: None,
        };
        let Some(call) = self.calls.get_mut(&id) else {
            return leg_id;
        };
        let seat = Self::seat_of(call, &leg.role);
        call.legs.push(leg);
        if let Some(seat) = seat {
            self.occupy(&seat, id);
        }
        leg_id
    }

    /// Merges what the owner saw, or what a former owner saw that still counts.
    pub(super) fn call_observed(
        &mut self,
        id: CallId,
        epoch: u32,
        mut observations: Vec<Late>,
    ) -> Reply {
        let Some(call) = self.calls.get(&id) else {
            return Reply::Refused(Refusal::NotFound(id.to_string()));
        };
        let stale = call.epoch != epoch;
        if stale {
            observations.retain(|one| one.observation.outlives_owner());
        }
        for one in observations {
            let seen_at = self.meta.now.before(one.age_ms);
            match one.observation {
                Observation::LegAnswered {
                    leg,
                    sip_call_id,
                    remote,
                    codec,
                    checkpoint,
                } => {
                    let answered = Answered {
                        sip_call_id,
                        remote,
                        codec,
                        checkpoint,
                    };
                    self.leg_answered(id, leg, answered);
                }
                Observation::LegEnded {
                    leg,
                    sip_call_id,
                    cause,
                } => {
                    self.leg_ended(id, leg, (seen_at, sip_call_id), cause);
                }
                Observation::LegHeld {
                    leg,
                    held,
                    checkpoint,
                } => {
                    self.leg_held(id, leg, (seen_at, held), checkpoint);
                }
                Observation::Confirmed { leg } => self.confirmed(id, leg),
                Observation::KeyPressed { leg, key } => {
                    let caller = self.calls.get(&id).and_then(CallRow::caller);
                    if caller.is_some_and(|caller| caller.id == leg) {
                        self.key_pressed(id, key);
                    }
                }
                Observation::LegSilent { leg } => self.leg_silent(id, leg),
            }
        }
        self.settle(id);
        if stale {
            return Reply::Refused(Refusal::Stale);
        }
        Reply::Done
    }

    fn leg_answered(&mut self, id: CallId, leg_id: LegId, answered: Answered) {
        let now = self.meta.now;
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(leg) = call.leg_mut(leg_id).filter(|leg| leg.seen == Seen::Fresh) else {
            return;
        };
        if leg.role == LegRole::Caller && leg.want != Want::Answer {
            // Made ready together with an answer that came too late.
            return;
        }
        leg.seen = Seen::Answered;
        leg.answered_at = Some(now);
        leg.sip_call_id = answered.sip_call_id;
        leg.remote = answered.remote.or_else(|| leg.remote.take());
        leg.codec = Some(answered.codec);
        leg.checkpoint = Some(answered.checkpoint);
        leg.late = matches!(leg.want, Want::End(_));
        let (role, want) = (leg.role.clone(), leg.want);
        self.touch_call(id);
        if matches!(want, Want::End(_)) {
            return;
        }
        match role {
            LegRole::Caller => {}
            LegRole::Extension(_) | LegRole::Trunk(..) if self.dials(id) => {
                self.customer_answered(id, leg_id);
            }
            LegRole::Extension(_) | LegRole::Trunk(..) => {
                let rings = self
                    .calls
                    .get(&id)
                    .is_some_and(|call| matches!(call.stage, Stage::Ringing { .. }));
                if rings {
                    self.bridge(id, leg_id);
                } else {
                    self.want_end(id, leg_id, Cause::ELSEWHERE);
                }
            }
            LegRole::Agent(agent) => {
                let call = self.calls.get(&id);
                let awaited = call.is_some_and(|call| Self::awaits_agent(call, &agent));
                if call.is_some_and(|call| call.stage.asks(&agent)) {
                    self.agent_before_customer(id, leg_id, &agent);
                } else if awaited {
                    self.agent_answered(id, leg_id, agent);
                } else {
                    self.want_end(id, leg_id, Cause::ELSEWHERE);
                }
            }
        }
    }

    fn agent_answered(&mut self, id: CallId, leg: LegId, agent: AgentId) {
        self.count_expected(id);
        let announcement = self
            .waiting_at(id)
            .and_then(|(queue, _)| self.announcement_of(&queue));
        let counted = self.depart(id, Disposition::Answered);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.agent = Some(agent.clone());
        call.announcement = announcement;
        if let Some(visit) = &mut call.visit {
            visit.offers.clear();
            visit.passed_over.clear();
        }
        let key = (call.tenant.clone(), agent);
        if let Some(fact) = counted {
            self.count_agent(&key, fact);
        }
        if let Some(row) = self.agents.get_mut(&key) {
            row.activity = Activity::Talking(id);
            row.calls += 1;
            row.missed = 0;
        }
        self.touch_agent(&key);
        // He may have asked to be called back in another call of his.
        self.came_himself(id);
        self.bridge(id, leg);
    }

    pub(super) fn bridge(&mut self, id: CallId, far: LegId) {
        let now = self.meta.now;
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.stage = Stage::Bridged { far };
        call.answered_at = Some(now);
        for leg in &mut call.legs {
            if leg.role == LegRole::Caller || leg.id == far {
                leg.want = Want::Answer;
            } else if leg.seen != Seen::Ended {
                leg.want = Want::End(Cause::ELSEWHERE);
            }
        }
        let agent = call.agent.as_ref().map(ToString::to_string);
        self.touch_call(id);
        self.event(
            "call.bridged",
            id,
            [("leg", far.to_string().into()), ("agent", agent.into())],
        );
    }

    fn leg_ended(
        &mut self,
        id: CallId,
        leg_id: LegId,
        (seen_at, sip_call_id): (TimeMs, String),
        cause: Cause,
    ) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(leg) = call.leg_mut(leg_id).filter(|leg| leg.seen != Seen::Ended) else {
            return;
        };
        leg.seen = Seen::Ended;
        leg.held = false;
        // Nothing ends before it was committed to have begun.
        let ended_at = seen_at.max(leg.answered_at.unwrap_or(leg.started_at));
        leg.ended_at = Some(ended_at);
        leg.cause = Some(cause);
        leg.checkpoint = None;
        if leg.sip_call_id.is_empty() {
            leg.sip_call_id = sip_call_id;
        }
        let (role, want, ended) = (leg.role.clone(), leg.want, leg.clone());
        let never_up = role == LegRole::Caller && leg.answered_at.is_none();
        call.note_hold(ended_at);
        let trunk = Self::trunk_of(call, &ended);
        let stage = call.stage.clone();
        let bridged =
            matches!(&stage, Stage::Bridged { far } if role == LegRole::Caller || *far == leg_id);
        let ending = if bridged && never_up && call.visit.is_none() {
            // The caller's leg never came up: he left, or could not be answered, while
            // the called party's answer was under way.
            call.answered_at = None;
            unanswered(cause)
        } else {
            (Disposition::Answered, Cause::NORMAL)
        };
        if bridged {
            call.talk_ended_at = call.answered_at.map(|answered| ended_at.max(answered));
        }
        self.touch_call(id);
        self.vacate_leg(id, &role);
        if let Some(trunk) = trunk {
            self.free_channel(&trunk, leg_id);
            // Nobody answered our BYE, CANCEL or INVITE.
            if cause == Cause::SILENCE {
                self.doubt_channel(&trunk, leg_id, id);
            }
        }
        if bridged {
            self.clear_call(id, ending);
        }
        match &role {
            LegRole::Caller => match stage {
                Stage::Waiting | Stage::Ringing { .. } => self.clear_call(id, unanswered(cause)),
                Stage::Confirming(_) => {
                    self.clear_call(id, (Disposition::Answered, Cause::NORMAL));
                }
                Stage::Telling { ending, .. } => self.clear_call(id, ending),
                Stage::Bridged { .. }
                | Stage::Clearing
                | Stage::Dialling { .. }
                | Stage::Offering { .. } => {}
            },
            LegRole::Extension(_) => {
                if matches!(stage, Stage::Ringing { .. } | Stage::Dialling { .. }) {
                    self.far_legs_failed(id);
                }
            }
            LegRole::Trunk(..) => {
                let rings = matches!(stage, Stage::Ringing { .. } | Stage::Dialling { .. });
                let again = want == Want::Alert && Self::is_worth_another(cause);
                if rings && (!again || self.dial_out(id).is_err()) {
                    self.far_legs_failed(id);
                }
            }
            LegRole::Agent(agent) => {
                if matches!(stage, Stage::Dialling { near, .. } if near == Some(leg_id)) {
                    // The agent has hung up before the customer's answer.
                    self.clear_call(id, (Disposition::Abandoned, Cause::CANCELLED));
                }
                self.agent_leg_ended(id, agent, want, cause);
            }
        }
    }

    /// Ends the call when no phone of the dialled party is left ringing, or one has
    /// refused for all of them; the caller is told the best of their answers (RFC 3261
    /// §16.7 steps 5 and 6).
    fn far_legs_failed(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        // An agent's phone that was rung or waits says nothing about the dialled party.
        let is_far = |leg: &&LegRow| matches!(leg.role, LegRole::Extension(_) | LegRole::Trunk(..));
        let far = || call.legs.iter().filter(is_far);
        let everywhere = |leg: &LegRow| leg.cause.is_some_and(Cause::is_global);
        // An attempt being taken back will not take the call any more.
        let rung = |leg: &LegRow| leg.is_live() && !matches!(leg.want, Want::End(_));
        if far().any(rung) && !far().any(everywhere) {
            return;
        }
        let causes = far().filter_map(|leg| leg.cause);
        let rank = |cause: &Cause| match cause.status {
            600..=699 => 0,
            486 => 1,
            480 => 2,
            400..=407 | 409..=499 => 3,
            408 => 4,
            _ => 5,
        };
        let best = causes.min_by_key(rank).unwrap_or(Cause::NO_ANSWER);
        let beyond = |leg: &LegRow| matches!(leg.role, LegRole::Trunk(..));
        let beyond = call.legs.iter().any(beyond);
        let ending = match best.status {
            // What is amiss between us and a trunk says nothing about the number, and the
            // caller may try again; everything else he is told as it came.
            401 | 407 | 408 | 481 | 500..=599 if beyond => (
                Disposition::Failed,
                Cause {
                    status: 503,
                    q850: best.q850,
                },
            ),
            404 | 405 if beyond => (Disposition::Rejected, best),
            486 | 600 => (
                Disposition::Busy,
                Cause {
                    status: best.status,
                    q850: 17,
                },
            ),
            408 => (Disposition::NoAnswer, Cause::NO_ANSWER),
            480 => (Disposition::NoAnswer, best),
            // What a phone means by 401, 404 or 405 is between it and us; the caller
            // asked for an extension that exists.
            401 | 404 | 405 | 407 | 481 => (Disposition::Failed, Cause::NOT_REGISTERED),
            400..=499 | 600..=699 => (Disposition::Rejected, best),
            // Our own want of ports or legs: trying again soon may help.
            503 if best == Cause::CONGESTION => (Disposition::Failed, best),
            // A failure there, a redirection we do not follow, or a phone that answered
            // and hung up at once: no status of these is one for the caller.
            _ => (
                Disposition::Failed,
                Cause {
                    status: 480,
                    q850: best.q850,
                },
            ),
        };
        self.clear_call(id, ending);
    }

    fn leg_held(
        &mut self,
        id: CallId,
        leg_id: LegId,
        (seen_at, held): (TimeMs, bool),
        checkpoint: Vec<u8>,
    ) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(leg) = call.leg_mut(leg_id).filter(|leg| leg.is_live()) else {
            return;
        };
        let changed = leg.held != held;
        leg.held = held;
        leg.checkpoint = Some(checkpoint);
        call.note_hold(seen_at.max(call.answered_at.unwrap_or_default()));
        let agent = call.agent.clone().map(|agent| (call.tenant.clone(), agent));
        self.touch_call(id);
        if let Some(key) = agent {
            self.touch_agent(&key);
        }
        if changed {
            let kind = if held { "call.held" } else { "call.resumed" };
            self.event(kind, id, [("leg", leg_id.to_string().into())]);
        }
    }

    fn confirmed(&mut self, id: CallId, leg: LegId) {
        let call = self.calls.get(&id).filter(|call| call.leg(leg).is_some());
        match call.map(|call| call.stage.clone()) {
            Some(Stage::Confirming(_)) => {
                self.clear_call(id, (Disposition::Answered, Cause::NORMAL));
            }
            Some(Stage::Telling { ending, .. }) => self.clear_call(id, ending),
            _ => {}
        }
    }

    /// An offer, a pass-over or the ringing of an extension may be over.
    pub(super) fn call_due(&mut self, id: CallId) {
        let now = self.meta.now;
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        match &call.stage {
            Stage::Ringing { until } | Stage::Dialling { until, .. } if *until <= now => {
                self.clear_call(id, (Disposition::NoAnswer, Cause::NO_ANSWER));
            }
            Stage::Offering { until, agent } if *until <= now => {
                let agent = agent.clone();
                self.asked_too_long(id, &agent);
            }
            Stage::Telling { until, ending, .. } if *until <= now => {
                let ending = *ending;
                self.clear_call(id, ending);
            }
            Stage::Waiting => {
                self.offers_due(id);
                if let Some(visit) = self.visit_mut(id) {
                    visit.meant_until = visit.meant_until.filter(|until| *until > now);
                    for passed in &mut visit.passed_over {
                        passed.until = passed.until.filter(|until| *until > now);
                    }
                }
                self.take_steps(id);
                self.touch_call(id);
            }
            _ => {}
        }
    }

    pub(super) fn want_end(&mut self, id: CallId, leg: LegId, cause: Cause) {
        if let Some(leg) = self.calls.get_mut(&id).and_then(|call| call.leg_mut(leg)) {
            leg.want = Want::End(cause);
        }
        self.touch_call(id);
    }

    /// Notes that a call's row changed or went.
    pub(super) fn touch_call(&mut self, id: CallId) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.seq += 1;
        }
        self.batch.calls.insert(id);
        self.batch.stirred_calls.insert(id);
        if self.batch.woken.insert(id) {
            self.batch.wakes.push(Wake::Call(id));
        }
    }
}
