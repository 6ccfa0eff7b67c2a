//! Opening hours: where callers are led over the day, what an operator says instead, and
//! what becomes of those who are told that nobody is there.

use strowger_core::call::{Cause, Disposition};
use strowger_core::hours::{HoursSpec, OpenTimes, Span};
use strowger_core::ids::{Extension, HoursName, QueueName};
use strowger_core::ivr::speech::{Announcement, Language};
use strowger_core::outstanding::{Audio, CallObserved, Effect, Phase, outstanding};
use strowger_core::site::{Closed, Site, Target};
use strowger_core::state::command::{Action, Command, Refusal, Reply, SiteApply};
use strowger_core::time::TimeMs;

use crate::harness::{BEGIN, World, refusal};
use crate::rows::Copy;
use crate::site::{site, tenant};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// Open for nine hours of each day from `BEGIN`, with an hour's pause after the third.
fn times(days: u64) -> OpenTimes {
    let spans = (0..days).flat_map(|day| {
        let begin = BEGIN + day * DAY;
        [
            (TimeMs(begin + HOUR), TimeMs(begin + 4 * HOUR)),
            (TimeMs(begin + 5 * HOUR), TimeMs(begin + 10 * HOUR)),
        ]
    });
    OpenTimes {
        name: HoursName::from("office"),
        until: TimeMs(BEGIN + days * DAY),
        open: spans.collect(),
    }
}

fn queue(name: &str) -> Target {
    Target::Queue(QueueName::from(name))
}

/// The usual site, where 4008 follows the hours.
fn site_with(closed: Closed) -> Site {
    let mut site = site();
    let spec = HoursSpec {
        timezone: "UTC".to_string(),
        week: std::array::from_fn(|_| vec![Span { from: 60, to: 240 }]),
        holidays: std::collections::BTreeMap::new(),
    };
    site.hours.insert(HoursName::from("office"), spec);
    let number = site.numbers.get_mut("4008").expect("the site has it");
    number.hours = Some((HoursName::from("office"), closed));
    site
}

fn apply(world: &mut World, site: Site, base: u64, times: Vec<OpenTimes>) -> Reply {
    world.propose(Command::SiteApply(SiteApply {
        site: site.into(),
        text: String::new(),
        base,
        secrets: Vec::new(),
        times,
    }))
}

fn world(closed: Closed) -> World {
    let mut world = World::new();
    let reply = apply(&mut world, site_with(closed), 1, vec![times(15)]);
    assert_eq!(reply, Reply::Site { version: 2 });
    world
}

fn to_sales() -> World {
    world(Closed::To(queue("sales")))
}

/// The queue a caller of 4008 is led to now.
fn led_to(world: &mut World) -> String {
    let call = world.call("anonymous", "4008");
    let visit = world.row(call).visit.expect("he waits");
    world.leaves(call);
    visit.queue.to_string()
}

fn say(world: &mut World, open: Option<bool>, for_ms: u64) -> Reply {
    let until = TimeMs(world.now + for_ms);
    world.act(Action::Override {
        hours: HoursName::from("office"),
        open,
        until,
    })
}

#[test]
fn callers_are_led_by_the_hours_of_the_day() {
    let table = [
        (0, "sales"),
        (HOUR - 1, "sales"),
        (HOUR, "support"),
        (4 * HOUR - 1, "support"),
        (4 * HOUR, "sales"),
        (5 * HOUR, "support"),
        (10 * HOUR - 1, "support"),
        (10 * HOUR, "sales"),
        (DAY + HOUR, "support"),
        (14 * DAY + 9 * HOUR, "support"),
        (14 * DAY + 10 * HOUR, "sales"),
        // Nobody has worked these out: the week before holds.
        (15 * DAY, "sales"),
        (15 * DAY + HOUR, "support"),
        (100 * DAY + 11 * HOUR, "sales"),
        (100 * DAY + 6 * HOUR, "support"),
    ];
    for (at, queue) in table {
        let mut world = to_sales();
        world.now = BEGIN + at;
        assert_eq!(led_to(&mut world), queue, "after {at} ms");
    }
}

#[test]
fn a_closed_number_greets_nobody_and_may_lead_to_an_extension() {
    let mut world = to_sales();
    let call = world.call("anonymous", "4008");
    assert_eq!(world.row(call).greeting, None);
    world.leaves(call);
    world.now = BEGIN + HOUR;
    let call = world.call("anonymous", "4008");
    assert!(world.row(call).greeting.is_some());

    let to = Target::Extension(Extension::from("1001"));
    let mut world = self::world(Closed::To(to));
    world.register("1001", "amy", 3_600);
    let call = world.call("anonymous", "4008");
    assert_eq!(world.word(call), "ringing");
}

#[test]
fn a_caller_out_of_hours_is_answered_told_so_and_recorded_as_rejected() {
    let mut world = world(Closed::Told(Language::Zh));
    let reply = world.invite_at(1, "anonymous", "4008");
    let Reply::Call { call, leg } = reply else {
        panic!("not admitted: {reply:?}");
    };
    assert_eq!(world.word(call), "announcing");
    // He is answered first; nothing is said into a line that is not up.
    let mut seen = CallObserved::default();
    let todo = outstanding(Some(&world.row(call)), &seen);
    assert_eq!(todo, [Effect::Prepare(leg)]);
    seen.legs.entry(leg).or_default().phase = Phase::Up;
    let todo = outstanding(Some(&world.row(call)), &seen);
    let told = Audio::Say(Language::Zh, Announcement::Closed);
    assert_eq!(todo, [Effect::Hear(leg, told)]);
    world.run();
    let cdr = world.cdr(call);
    assert_eq!(cdr.disposition, Disposition::Rejected);
    assert_eq!(cdr.cause, Cause::CLOSED);
    assert_eq!((cdr.queue, cdr.talk_ms), (None, 0));
    assert_eq!(world.figure("support").entered, 0);
}

#[test]
fn who_hangs_up_while_he_is_told_or_is_never_told_leaves_the_same_record() {
    let mut world = world(Closed::Told(Language::En));
    let reply = world.invite_at(1, "anonymous", "4008");
    let Reply::Call { call, .. } = reply else {
        panic!("not admitted: {reply:?}");
    };
    world.leaves(call);
    assert_eq!(world.cdr(call).cause, Cause::CLOSED);

    let reply = world.invite_at(1, "anonymous", "4008");
    let Reply::Call { call, .. } = reply else {
        panic!("not admitted: {reply:?}");
    };
    // Its owner does nothing at all: the state still ends it.
    world.now += 59_999;
    world.propose(Command::Tick);
    assert_eq!(world.word(call), "announcing");
    world.now += 1;
    world.propose(Command::Tick);
    assert_eq!(world.word(call), "clearing");
    world.advance(60_000);
    assert_eq!(world.cdr(call).disposition, Disposition::Rejected);
}

#[test]
fn an_operator_opens_and_closes_for_a_while_and_no_longer() {
    let mut world = to_sales();
    assert_eq!(say(&mut world, Some(true), 2 * HOUR), Reply::Done);
    assert_eq!(led_to(&mut world), "support");
    world.now = BEGIN + 2 * HOUR;
    assert_eq!(led_to(&mut world), "support", "the times hold again");
    assert_eq!(say(&mut world, Some(false), HOUR), Reply::Done);
    assert_eq!(led_to(&mut world), "sales");
    world.now += HOUR - 1;
    assert_eq!(led_to(&mut world), "sales");
    world.now += 1;
    assert_eq!(led_to(&mut world), "support", "nobody had to tell it");
    say(&mut world, Some(false), HOUR);
    assert_eq!(led_to(&mut world), "sales");
    assert_eq!(say(&mut world, None, 0), Reply::Done);
    assert_eq!(led_to(&mut world), "support", "taken back");
    let events = world.events();
    let states = events.iter().filter(|event| event.kind == "hours.override");
    assert_eq!(states.count(), 4);

    let past = say(&mut world, Some(true), 0);
    assert!(matches!(refusal(&past), Refusal::Conflict(_)));
    let ever = say(&mut world, Some(true), 400 * DAY);
    assert!(matches!(refusal(&ever), Refusal::Conflict(_)));
    let nobody = world.act(Action::Override {
        hours: HoursName::from("other"),
        open: Some(true),
        until: TimeMs(world.now + 1),
    });
    assert!(matches!(refusal(&nobody), Refusal::NotFound(_)));
}

#[test]
fn times_are_taken_in_once_from_the_site_in_force_and_never_shorten() {
    let mut world = to_sales();
    let set = |days, site_version| Command::HoursSet {
        tenant: tenant(),
        site_version,
        times: vec![times(days)],
    };
    let until =
        |world: &World| world.state(|state| state.hours.values().next().map(|row| row.times.until));
    assert_eq!(until(&world), Some(TimeMs(BEGIN + 15 * DAY)));
    let stale = world.propose(set(30, 1));
    assert_eq!(refusal(&stale), &Refusal::Stale);
    assert_eq!(world.propose(set(22, 2)), Reply::Done);
    assert_eq!(until(&world), Some(TimeMs(BEGIN + 22 * DAY)));
    assert_eq!(world.propose(set(20, 2)), Reply::Done);
    assert_eq!(until(&world), Some(TimeMs(BEGIN + 22 * DAY)));
}

#[test]
fn what_was_said_outlives_a_site_and_a_restart_and_leaves_with_its_hours() {
    let mut world = to_sales();
    say(&mut world, Some(true), 30 * HOUR);
    let site = site_with(Closed::To(queue("sales")));
    apply(&mut world, site, 2, vec![times(15)]);
    assert_eq!(led_to(&mut world), "support");
    let again = Copy::restored(&world.copy.rows);
    assert_eq!(again.words(), world.copy.words());
    let mut plain = self::site();
    plain.hours.clear();
    apply(&mut world, plain, 3, Vec::new());
    assert!(world.state(|state| state.hours.is_empty()));
    let again = Copy::restored(&world.copy.rows);
    assert!(again.state.read().hours.is_empty());
    assert_eq!(led_to(&mut world), "support", "without hours it is open");
}
