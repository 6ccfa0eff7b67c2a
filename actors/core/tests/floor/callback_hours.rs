//! Hours of callbacks: when customers may be dialled, and what becomes of the others.

use strowger_core::floor::agent::AgentState;
use strowger_core::floor::callback::CallbackState;
use strowger_core::hours::{HoursSpec, OpenTimes, Span};
use strowger_core::ids::{CallId, HoursName, QueueName};
use strowger_core::ivr::speech::Key;
use strowger_core::site::Site;
use strowger_core::state::State;
use strowger_core::state::command::{Action, Command, Observation, Reply, SiteApply};
use strowger_core::time::TimeMs;

use crate::harness::{BEGIN, Phone, World};
use crate::rows::Copy;
use crate::site::{queue_key, site};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// The usual site, whose support calls back in office hours only.
fn office() -> Site {
    let mut site = site();
    let spec = HoursSpec {
        timezone: "UTC".to_string(),
        week: std::array::from_fn(|_| vec![Span { from: 60, to: 240 }]),
        holidays: std::collections::BTreeMap::new(),
    };
    site.hours.insert(HoursName::from("office"), spec);
    let spec = site.queues.get_mut(&QueueName::from("support"));
    let rule = spec.and_then(|spec| spec.comfort.callback.as_mut());
    rule.expect("it calls back").hours = Some(HoursName::from("office"));
    site
}

/// Open from the second to the fourth hour of each day from `BEGIN`.
fn times(days: u64) -> Vec<OpenTimes> {
    let open = (0..days).map(|day| {
        let begin = BEGIN + day * DAY;
        (TimeMs(begin + HOUR), TimeMs(begin + 4 * HOUR))
    });
    vec![OpenTimes {
        name: HoursName::from("office"),
        until: TimeMs(BEGIN + days * DAY),
        open: open.collect(),
    }]
}

fn apply(world: &mut World, site: Site, base: u64, times: Vec<OpenTimes>) {
    let reply = world.propose(Command::SiteApply(SiteApply {
        site: site.into(),
        text: String::new(),
        base,
        secrets: Vec::new(),
        times,
    }));
    assert_eq!(reply, Reply::Site { version: base + 1 });
}

/// The office at `BEGIN`, an hour before it opens. Agent and customer have fixed phones.
fn world() -> World {
    let mut world = World::new();
    apply(&mut world, office(), 1, times(15));
    world
}

fn taken(world: &mut World, from: &str) -> CallId {
    let call = world.call(from, "4008");
    let leg = world.caller_leg(call);
    let key = Key::parse('1').expect("a key");
    world.observe(call, vec![Observation::KeyPressed { leg, key }]);
    world.run();
    assert_eq!(world.word(call), "over");
    call
}

fn doing(world: &World, origin: CallId) -> &'static str {
    world.state(|state| state.callbacks[&origin].state.as_str())
}

fn say(world: &mut World, open: Option<bool>, for_ms: u64) {
    let until = TimeMs(world.now + for_ms);
    let said = world.act(Action::Override {
        hours: HoursName::from("office"),
        open,
        until,
    });
    assert_eq!(said, Reply::Done);
    world.run();
}

#[test]
fn a_callback_waits_for_its_hours_without_an_agent_and_without_holding_anybody_up() {
    let mut world = world();
    let origin = taken(&mut world, "1090");
    world.sign_in("eve");
    world.run();
    assert_eq!(world.agent("eve"), AgentState::Ready);
    let opens = world.state(|state| state.calls_back_at(&queue_key("support")));
    assert_eq!(opens, Some(TimeMs(BEGIN + HOUR)));
    let later = world.call("1006", "4008");
    assert_eq!(world.offered_to(later).as_deref(), Some("eve"));
    let place = world.state(|state| state.position(&state.calls[&later]));
    assert_eq!(place, Some(1), "nobody is served before him");
    world.agent_answers(later);
    world.leaves(later);
    world.advance(HOUR - 1 - (world.now - BEGIN));
    assert_eq!(doing(&world, origin), "waiting");
    world.advance(1);
    assert_eq!(doing(&world, origin), "dialling");
    assert_eq!(world.agent("eve"), AgentState::Offered);
}

#[test]
fn a_pause_that_ends_after_closing_time_lasts_until_the_next_opening() {
    let mut world = world();
    let busy = Phone::Refuses(486);
    world.phones.insert("sip:door@127.0.0.90".into(), busy);
    let origin = taken(&mut world, "1090");
    world.sign_in("eve");
    world.advance(4 * HOUR - 10_000);
    let left = world.state(|state| state.callbacks.contains_key(&origin));
    assert!(!left, "both attempts were made while it was open");

    let origin = taken(&mut world, "1090");
    let row = world.state(|state| state.callbacks[&origin].clone());
    assert!(
        matches!(row.state, CallbackState::Resting { .. }),
        "{row:?}"
    );
    world
        .phones
        .insert("sip:door@127.0.0.90".into(), Phone::Rings);
    world.advance(40_000);
    assert_eq!(
        doing(&world, origin),
        "waiting",
        "its pause ended after closing"
    );
    assert_eq!(world.agent("eve"), AgentState::Ready);
    world.advance(DAY + HOUR - (world.now - BEGIN));
    assert_eq!(doing(&world, origin), "dialling");
}

#[test]
fn a_customer_being_dialled_when_it_closes_is_not_hung_up_on() {
    let mut world = world();
    world.sign_in("eve");
    world.advance(4 * HOUR - 1_000);
    let origin = taken(&mut world, "1090");
    assert_eq!(doing(&world, origin), "dialling");
    world.advance(2_000);
    let call = world.state(|state| state.callbacks[&origin].state.call());
    let call = call.expect("it is dialled");
    let leg = world.leg_at(call, "sip:door@127.0.0.90");
    world.answers(call, leg);
    assert_eq!(world.offered_to(call).as_deref(), Some("eve"));
}

#[test]
fn opening_and_closing_by_hand_holds_for_callbacks_at_once() {
    let mut world = world();
    world.sign_in("eve");
    let origin = taken(&mut world, "1090");
    say(&mut world, Some(true), 10_000);
    assert_eq!(doing(&world, origin), "dialling");
    world.act(Action::Withdraw { callback: origin });
    world.run();
    say(&mut world, Some(false), 2 * HOUR);
    let origin = taken(&mut world, "1090");
    world.advance(2 * HOUR - 1);
    assert_eq!(doing(&world, origin), "waiting", "it would be open");
    world.advance(1);
    assert_eq!(doing(&world, origin), "dialling");
}

#[test]
fn a_site_changes_and_a_restart_keeps_when_callbacks_are_made() {
    let mut world = world();
    let origin = taken(&mut world, "1090");
    world.sign_in("eve");
    world.advance(HOUR / 2);
    let mut restarted = Copy::restored(&world.copy.rows);
    assert_eq!(restarted.words(), world.copy.words());
    // Both go on from there alike.
    let before = world.log.len();
    world.advance(HOUR / 2 + 1_000);
    for (meta, batch) in &world.log[before..] {
        restarted.apply(*meta, batch);
    }
    assert_eq!(restarted.words(), world.copy.words());
    let call = world.state(|state| state.callbacks[&origin].state.call());
    let leg = world.leg_at(call.expect("it is dialled"), "sip:door@127.0.0.90");
    world.ends(
        call.expect("it is dialled"),
        leg,
        strowger_core::call::Cause::BUSY,
    );
    // The next site has no such hours: at any time.
    let mut always = site();
    always.hours.clear();
    say(&mut world, Some(false), DAY);
    world.advance(60_000);
    assert_eq!(doing(&world, origin), "waiting");
    apply(&mut world, always, 2, Vec::new());
    world.run();
    assert_eq!(doing(&world, origin), "dialling");
    assert_eq!(world.state(State::check), Vec::<String>::new());
}
