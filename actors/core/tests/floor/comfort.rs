//! Waiting callers: what they are told, their keys, and the ways out of a queue.

use strowger_core::call::{Cause, Disposition, ExitCause};
use strowger_core::ids::{BlobId, CallId, Extension, QueueName};
use strowger_core::ivr::speech::{Announcement, Key, Language};
use strowger_core::outstanding::Audio;
use strowger_core::site::{Comfort, Site, Target};
use strowger_core::state::comfort::overflow_loop;
use strowger_core::state::command::Observation;

use crate::harness::World;
use crate::site::site;

fn key(c: char) -> Key {
    Key::parse(c).expect("a key")
}

fn queue(name: &str) -> Target {
    Target::Queue(QueueName::from(name))
}

/// The usual site with rules for those who wait for support.
fn site_with(change: impl FnOnce(&mut Comfort)) -> Site {
    let mut site = site();
    let spec = site.queues.get_mut(&QueueName::from("support"));
    change(&mut spec.expect("the site has it").comfort);
    site
}

fn world(change: impl FnOnce(&mut Comfort)) -> World {
    World::with_site(site_with(change))
}

fn press(world: &mut World, call: CallId, c: char) {
    let leg = world.caller_leg(call);
    world.observe(call, vec![Observation::KeyPressed { leg, key: key(c) }]);
    world.run();
}

fn exits(world: &World, call: CallId) -> Vec<(String, ExitCause)> {
    let row = world.row(call);
    let exits = row.exits.iter();
    exits
        .map(|exit| (exit.queue.to_string(), exit.cause))
        .collect()
}

#[test]
fn a_caller_is_told_his_place_and_the_wait_to_expect() {
    let mut world = world(|comfort| {
        comfort.language = Language::Zh;
        comfort.announce_ms = 20_000;
        comfort.position = true;
        comfort.expected_wait = true;
        comfort.exit = Some((key('0'), queue("sales")));
    });
    world.register("1002", "bob", 36_000);
    world.sign_in("bob");
    let first = world.call("anonymous", "4008");
    let second = world.call("anonymous", "4008");
    let told = |world: &World, call: CallId| {
        let told = world.state(|state| state.standing(&state.calls[&call]));
        let Some((language, Announcement::Waiting(standing))) = told else {
            panic!("nothing is told: {told:?}");
        };
        assert_eq!(language, Language::Zh);
        assert_eq!(standing.exit, Some(key('0')));
        (standing.position, standing.wait_min)
    };
    // Nobody was handled yet, so nothing is known of waits.
    assert_eq!(told(&world, second), (Some(2), None));
    world.agent_answers(first);
    world.advance(170_000);
    world.leaves(first);
    world.advance(10_000);
    // One call took 180 s, talk and wrap-up together, and one agent is at work.
    assert_eq!(world.offered_to(second).as_deref(), Some("bob"));
    assert_eq!(told(&world, second), (Some(1), Some(3)));
    let third = world.call("anonymous", "4008");
    assert_eq!(told(&world, third), (Some(2), Some(6)));
    assert_eq!(
        world.row(third).visit.and_then(|visit| visit.expected_ms),
        Some(360_000)
    );
    world.agent_answers(second);
    world.advance(50_000);
    world.leaves(second);
    world.advance(10_000);
    world.agent_answers(third);
    let figure = world.figure("support");
    assert_eq!(figure.foretold, 1, "only the third was told a wait");
    assert_eq!(figure.foretold_wait_ms, 60_000);
    assert_eq!(figure.foretold_off_ms, 300_000);
}

#[test]
fn callers_of_another_queue_with_the_same_agents_count_in_the_wait_to_expect() {
    // `amy` and `cat` serve both queues, `bob` support only, `dan` sales only.
    let mut world = World::at_work(&["dan", "bob", "amy", "cat"]);
    let four = |world: &mut World| -> Vec<CallId> {
        let numbers = ["4009", "4008", "4009", "4008"].into_iter();
        let calls: Vec<CallId> = numbers.map(|to| world.call("1005", to)).collect();
        calls.iter().for_each(|call| world.agent_answers(*call));
        calls
    };
    let calls = four(&mut world);
    world.advance(90_000);
    calls.iter().for_each(|call| world.leaves(*call));
    // Wrap-up: 10 s in support, none in sales.
    world.advance(10_000);
    four(&mut world);
    let expected = |world: &World, call: CallId| world.row(call).visit.and_then(|v| v.expected_ms);
    let first = world.call("anonymous", "4008");
    // Of support: 100 s for each call, shared among three at work.
    assert_eq!(expected(&world, first), Some(33_333));
    let other = world.call("1006", "4009");
    // Of sales: 90 s, shared among three; of the four of support, two serve sales too, so that
    // the caller before counts half of his 100 s.
    assert_eq!(expected(&world, other), Some((90_000 + 50_000) / 3));
    let restarted = crate::rows::Copy::restored(&world.copy.rows);
    let told = |state: &strowger_core::state::State| {
        let order = u64::MAX;
        state.expected_ms(&crate::site::queue_key("support"), order, 2)
    };
    let known = world.state(told);
    assert!(known.is_some());
    assert_eq!(
        told(&restarted.state.read()),
        known,
        "a restart foretells the same"
    );
}

#[test]
fn the_advert_is_played_on_request_and_costs_no_place() {
    let advert = BlobId([9; 32]);
    let mut world = world(|comfort| comfort.advert = Some((key('2'), advert)));
    let first = world.call("anonymous", "4008");
    let second = world.call("anonymous", "4008");
    press(&mut world, first, '2');
    press(&mut world, first, '5');
    let row = world.row(first);
    assert_eq!(row.visit.map(|visit| visit.adverts), Some(1));
    assert_eq!(
        world.figure("support").adverts,
        1,
        "other keys mean nothing"
    );
    let place = |call| world.state(|state| state.position(&state.calls[&call]));
    assert_eq!((place(first), place(second)), (Some(1), Some(2)));
    let heard = world.state(|state| {
        use strowger_core::outstanding::{CallObserved, Effect, LegObserved, Phase, outstanding};
        let row = &state.calls[&second];
        let leg = row.legs[0].id;
        let mut row = row.clone();
        if let Some(visit) = &mut row.visit {
            visit.adverts = 1;
        }
        let mut observed = CallObserved {
            greeted: true,
            ..CallObserved::default()
        };
        let up = LegObserved {
            known: false,
            phase: Phase::Up,
            audio: Audio::Silence,
            announced: false,
        };
        observed.legs.insert(leg, up);
        outstanding(Some(&row), &observed)
            .into_iter()
            .find_map(|effect| match effect {
                Effect::Hear(_, audio) => Some(audio),
                _ => None,
            })
    });
    assert_eq!(heard, Some(Audio::Advert(advert)));
}

#[test]
fn a_key_leaves_the_queue_for_another_and_the_place_is_that_of_the_arrival() {
    let mut world = world(|comfort| comfort.exit = Some((key('0'), queue("sales"))));
    let first = world.call("anonymous", "4008");
    let other = world.call("1005", "4009");
    world.advance(4_000);
    press(&mut world, first, '0');
    assert_eq!(
        exits(&world, first),
        [("support".to_owned(), ExitCause::Key)]
    );
    let place = |call| world.state(|state| state.position(&state.calls[&call]));
    assert_eq!((place(first), place(other)), (Some(1), Some(2)));
    let (support, sales) = (world.figure("support"), world.figure("sales"));
    assert_eq!((support.entered, support.overflowed), (1, 1));
    assert_eq!((sales.entered, sales.left()), (2, 0));
    world.leaves(first);
    let cdr = world.cdr(first);
    assert_eq!(cdr.disposition, Disposition::Abandoned);
    assert_eq!(cdr.exits.len(), 1);
    assert_eq!(cdr.exits[0].waited_ms, 4_000);
    assert_eq!(world.figure("sales").abandoned, 1);
}

#[test]
fn who_waited_long_enough_goes_on_even_while_he_is_offered() {
    let mut world = world(|comfort| comfort.max_wait = Some((12_000, queue("sales"))));
    world.register("1002", "bob", 36_000);
    world.sign_in("bob");
    let call = world.call("anonymous", "4008");
    assert_eq!(world.offered_to(call).as_deref(), Some("bob"));
    world.advance(11_999);
    assert!(exits(&world, call).is_empty());
    world.advance(1);
    world.run();
    assert_eq!(
        exits(&world, call),
        [("support".to_owned(), ExitCause::MaxWait)]
    );
    assert_eq!(world.offered_to(call), None);
    assert_eq!(
        world.figure("support").missed,
        0,
        "nothing is held against bob"
    );
    assert_eq!(world.state(|state| state.check()), Vec::<String>::new());
}

#[test]
fn a_full_queue_and_one_without_agents_send_on() {
    let mut full = world(|comfort| comfort.max_length = Some((2, queue("sales"))));
    let calls: Vec<CallId> = (0..3).map(|_| full.call("anonymous", "4008")).collect();
    assert!(exits(&full, calls[1]).is_empty());
    assert_eq!(
        exits(&full, calls[2]),
        [("support".to_owned(), ExitCause::Full)]
    );
    assert_eq!(full.figure("support").overflowed, 1);

    let mut unstaffed = world(|comfort| comfort.unstaffed = Some(queue("sales")));
    let call = unstaffed.call("anonymous", "4008");
    assert_eq!(
        exits(&unstaffed, call),
        [("support".to_owned(), ExitCause::Unstaffed)]
    );
    unstaffed.register("1002", "bob", 36_000);
    unstaffed.sign_in("bob");
    let call = unstaffed.call("anonymous", "4008");
    assert!(exits(&unstaffed, call).is_empty());
}

#[test]
fn a_caller_sent_to_an_extension_talks_there_or_is_told_that_nobody_answers() {
    let to = Target::Extension(Extension::from("1008"));
    let mut world = world(|comfort| comfort.exit = Some((key('0'), to.clone())));
    world.register("1008", "desk", 36_000);
    let call = world.call("anonymous", "4008");
    world.run();
    press(&mut world, call, '0');
    assert_eq!(world.word(call), "ringing");
    let far = world.far_leg(call);
    world.answers(call, far);
    world.run();
    assert_eq!(world.word(call), "bridged");
    world.advance(5_000);
    world.leaves(call);
    let cdr = world.cdr(call);
    assert_eq!(
        (cdr.disposition, cdr.talk_ms, cdr.queue),
        (Disposition::Answered, 5_000, None)
    );
    let figure = world.figure("support");
    assert_eq!((figure.overflowed, figure.answered), (1, 0));
    assert_eq!(figure.talk_ms, 0, "that talk is not the queue's");

    // Nobody registered there: the call ends, and says why it left the queue.
    let nobody = world.call("anonymous", "4008");
    world.run();
    world.register("1008", "desk", 0);
    press(&mut world, nobody, '0');
    world.run();
    let cdr = world.cdr(nobody);
    assert_eq!(cdr.disposition, Disposition::Overflowed);
    assert_eq!(cdr.cause, Cause::NOT_REGISTERED);
}

#[test]
fn ways_that_lead_back_are_found() {
    let mut site = site_with(|comfort| comfort.max_wait = Some((1, queue("sales"))));
    assert_eq!(overflow_loop(&site.queues), None);
    let sales = site.queues.get_mut(&QueueName::from("sales"));
    let sales = sales.expect("the site has it");
    sales.comfort.exit = Some((key('0'), queue("support")));
    assert_eq!(
        overflow_loop(&site.queues),
        None,
        "a key is pressed on purpose"
    );
    let sales = site.queues.get_mut(&QueueName::from("sales"));
    let sales = sales.expect("the site has it");
    sales.comfort.unstaffed = Some(queue("support"));
    let names = |way: Vec<QueueName>| {
        let names: Vec<String> = way.iter().map(ToString::to_string).collect();
        names.join(" ")
    };
    assert_eq!(
        overflow_loop(&site.queues).map(names).as_deref(),
        Some("sales support sales")
    );
}
