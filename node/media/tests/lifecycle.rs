//! Opening and closing: clear answers, and no port that is not given back.

mod common;

use std::collections::HashSet;
use std::time::Duration;

use common::{PATIENCE, Phone, engine, event, local};
use proptest::prelude::*;
use strowger_media::{
    Codec, Digit, Engine, EngineConfig, Event, EventReceiver, LegKey, LegMedia, MediaError,
    OpenError, PlayToken, Repeat, StartError, Tone,
};

fn closed(events: &EventReceiver, wanted: LegKey) {
    event(events, |event| match event {
        Event::Closed { leg, .. } if *leg == wanted => Some(()),
        _ => None,
    });
}

#[test]
fn impossible_configurations_are_refused() {
    let with = |workers, ports| {
        Engine::start(EngineConfig {
            workers,
            ports,
            ..Default::default()
        })
    };
    assert!(matches!(
        with(0, 30_300..=30_309),
        Err(StartError::Workers(0))
    ));
    assert!(matches!(
        with(65, 30_300..=30_309),
        Err(StartError::Workers(65))
    ));
    assert!(matches!(
        with(1, 30_301..=30_302),
        Err(StartError::Ports { .. })
    ));
}

#[test]
fn a_full_pool_says_so_and_a_closed_port_comes_again_last() {
    let (engine, events) = engine(30_300..=30_305, 1);
    let ports: Vec<u16> = (1..=3)
        .map(|key| engine.open(LegKey(key), local(2)).expect("free").rtp_port)
        .collect();
    let mut sorted = ports.clone();
    sorted.sort_unstable();
    assert_eq!(
        (sorted.as_slice(), engine.ports_in_use()),
        (&[30_300, 30_302, 30_304][..], 3)
    );
    let refused = engine.open(LegKey(4), local(2));
    assert!(
        matches!(refused, Err(OpenError::PortsExhausted { pairs: 3, .. })),
        "{refused:?}"
    );
    engine
        .open(LegKey(5), local(3))
        .expect("another address has its own ports");
    engine.close(LegKey(2)).expect("closes");
    closed(&events, LegKey(2));
    engine.close(LegKey(1)).expect("closes");
    closed(&events, LegKey(1));
    // The search goes on behind the port given last.
    assert_eq!(
        engine.open(LegKey(6), local(2)).expect("free").rtp_port,
        ports[0]
    );
    assert_eq!(
        engine.open(LegKey(7), local(2)).expect("free").rtp_port,
        ports[1]
    );
    engine.stop();
    assert_eq!(engine.ports_in_use(), 0);
}

#[test]
fn ports_of_other_processes_are_passed_over() {
    let (engine, _events) = engine(30_310..=30_315, 1);
    let _rtcp = std::net::UdpSocket::bind((local(2), 30_311)).expect("binds");
    let mut ports: Vec<u16> = (1..=2)
        .map(|key| engine.open(LegKey(key), local(2)).expect("free").rtp_port)
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [30_312, 30_314]);
    assert_eq!(engine.ports_in_use(), 2);
    let wrong = engine.open(LegKey(3), "192.0.2.1".parse().expect("an address"));
    assert!(matches!(wrong, Err(OpenError::Bind { .. })), "{wrong:?}");
    assert_eq!(engine.ports_in_use(), 2);
}

#[test]
fn a_given_port_is_opened_for_a_call_taken_over() {
    let (engine, events) = engine(30_320..=30_325, 1);
    assert_eq!(
        engine
            .open_at(LegKey(1), local(2), 30_322)
            .expect("free")
            .rtp_port,
        30_322
    );
    let refused = engine.open_at(LegKey(2), local(2), 30_322);
    assert!(matches!(
        refused,
        Err(OpenError::PortInUse { port: 30_322, .. })
    ));
    let refused = engine.open_at(LegKey(2), local(2), 30_323);
    assert!(matches!(refused, Err(OpenError::PortOutOfRange(30_323))));
    engine.close(LegKey(1)).expect("closes");
    closed(&events, LegKey(1));
    engine
        .open_at(LegKey(2), local(2), 30_322)
        .expect("free again");
}

#[test]
fn unknown_twice_opened_and_twice_closed_legs_get_clear_answers() {
    let (engine, events) = engine(30_330..=30_339, 1);
    let (leg, other) = (LegKey(1), LegKey(2));
    let unknown = Err(MediaError::UnknownLeg(leg));
    let media = LegMedia::new((local(1), 9).into(), Codec::Pcmu);
    assert_eq!(engine.configure(leg, media), unknown);
    assert_eq!(engine.bridge(leg, other), unknown);
    assert_eq!(engine.unbridge(leg), unknown);
    assert_eq!(
        engine.play(leg, Tone::Busy.clip(), Repeat::Once, PlayToken(1)),
        unknown
    );
    assert_eq!(engine.stop_playing(leg), unknown);
    assert_eq!(engine.stats(leg), Err(MediaError::UnknownLeg(leg)));
    assert_eq!(engine.close(leg), unknown);
    engine.open(leg, local(2)).expect("opens");
    assert!(matches!(
        engine.open(leg, local(3)),
        Err(OpenError::AlreadyOpen(LegKey(1)))
    ));
    assert_eq!(engine.bridge(leg, leg), Err(MediaError::SameLeg(leg)));
    assert_eq!(
        engine.bridge(leg, other),
        Err(MediaError::UnknownLeg(other))
    );
    let wrong = LegMedia {
        payload_type: 128,
        ..media
    };
    assert_eq!(
        engine.configure(leg, wrong),
        Err(MediaError::PayloadType(128))
    );
    assert_eq!(engine.close(leg), Ok(()));
    assert_eq!(engine.close(leg), unknown);
    closed(&events, leg);
    assert_eq!(engine.ports_in_use(), 0);
    engine.open(other, local(2)).expect("opens");
    engine.stop();
    engine.stop();
    closed(&events, other);
    assert_eq!(engine.stats(other), Err(MediaError::Stopped));
    assert!(matches!(
        engine.open(leg, local(2)),
        Err(OpenError::Stopped)
    ));
    assert_eq!(engine.ports_in_use(), 0);
    drop(engine);
    assert_eq!(events.recv_timeout(PATIENCE), Ok(None), "the end of events");
}

#[test]
fn a_leg_bridged_anew_leaves_its_old_partner_alone() {
    let (engine, _events) = engine(30_340..=30_359, 2);
    let mut phones: Vec<Phone> = (1..=3)
        .map(|key| Phone::join(&engine, key, local(2), Codec::Pcmu))
        .collect();
    let legs: Vec<LegKey> = phones.iter().map(|phone| phone.leg).collect();
    engine.bridge(legs[0], legs[1]).expect("bridges");
    engine.bridge(legs[0], legs[2]).expect("bridges");
    phones[1].talk(Codec::Pcmu, 1);
    phones[1].heard(&engine, 1);
    phones[2].talk(Codec::Pcmu, 2);
    assert_eq!(phones[0].listen().payload, vec![2; 160]);
    engine.unbridge(legs[2]).expect("unbridges");
    engine.stats(legs[2]).expect("carried out");
    phones[2].talk(Codec::Pcmu, 3);
    phones[2].heard(&engine, 2);
    assert!(phones[0].listen_for(Duration::from_millis(20)).is_none());
    engine.close(legs[0]).expect("closes");
    phones[2].talk(Codec::Pcmu, 4);
    phones[2].heard(&engine, 3);
}

/// One command of a random life.
#[derive(Debug, Clone)]
enum Step {
    Open(u128),
    Close(u128),
    Configure(u128, bool),
    Bridge(u128, u128),
    Unbridge(u128),
    Play(u128, bool),
    Stop(u128),
    Digit(u128),
    Stats(u128),
}

fn step() -> impl Strategy<Value = Step> {
    let leg = 0u128..6;
    prop_oneof![
        3 => leg.clone().prop_map(Step::Open),
        2 => leg.clone().prop_map(Step::Close),
        2 => (leg.clone(), any::<bool>()).prop_map(|(leg, on)| Step::Configure(leg, on)),
        3 => (leg.clone(), leg.clone()).prop_map(|(a, b)| Step::Bridge(a, b)),
        1 => leg.clone().prop_map(Step::Unbridge),
        2 => (leg.clone(), any::<bool>()).prop_map(|(leg, on)| Step::Play(leg, on)),
        1 => leg.clone().prop_map(Step::Stop),
        1 => leg.clone().prop_map(Step::Digit),
        1 => leg.prop_map(Step::Stats),
    ]
}

fn run(engine: &Engine, open: &mut HashSet<u128>, step: &Step) -> Result<(), TestCaseError> {
    let known = |leg: u128| open.contains(&leg);
    let (result, wanted) = match *step {
        Step::Open(leg) => {
            let fresh = open.insert(leg);
            match engine.open(LegKey(leg), local(2)) {
                Ok(_) => prop_assert!(fresh),
                Err(OpenError::AlreadyOpen(_)) => prop_assert!(!fresh),
                // Ports of closed legs come back a moment later.
                Err(OpenError::PortsExhausted { .. }) => {
                    prop_assert!(fresh);
                    open.remove(&leg);
                }
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
            return Ok(());
        }
        Step::Close(leg) => {
            let wanted = open.remove(&leg);
            (engine.close(LegKey(leg)), wanted)
        }
        Step::Configure(leg, on) => {
            let media = LegMedia::new((local(1), 9).into(), Codec::Pcma);
            let media = LegMedia {
                send: on,
                receive: !on,
                ..media
            };
            (engine.configure(LegKey(leg), media), known(leg))
        }
        Step::Bridge(a, b) => (
            engine.bridge(LegKey(a), LegKey(b)),
            a != b && known(a) && known(b),
        ),
        Step::Unbridge(leg) => (engine.unbridge(LegKey(leg)), known(leg)),
        Step::Play(leg, looped) => {
            let repeat = if looped { Repeat::Loop } else { Repeat::Once };
            let clip = Tone::Confirmation.clip();
            (
                engine.play(LegKey(leg), clip, repeat, PlayToken(1)),
                known(leg),
            )
        }
        Step::Stop(leg) => (engine.stop_playing(LegKey(leg)), known(leg)),
        Step::Digit(leg) => {
            let digit = Digit::from_event(1).expect("a key");
            match engine.send_digit(LegKey(leg), digit, 40) {
                Err(MediaError::NoTelephoneEvents(_)) => (Ok(()), known(leg)),
                other => (other, known(leg)),
            }
        }
        Step::Stats(leg) => (engine.stats(LegKey(leg)).map(|_| ()), known(leg)),
    };
    prop_assert_eq!(result.is_ok(), wanted, "{:?}: {:?}", step, result);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn no_life_of_legs_leaks_a_port(steps in proptest::collection::vec(step(), 1..120)) {
        // Each case on the same few ports: a socket left open would be met by the next case.
        let (engine, events) = engine(30_360..=30_367, 2);
        let mut open = HashSet::new();
        for step in &steps {
            run(&engine, &mut open, step)?;
        }
        for leg in &open {
            prop_assert_eq!(engine.close(LegKey(*leg)), Ok(()));
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        while engine.ports_in_use() > 0 {
            prop_assert!(std::time::Instant::now() < deadline, "ports are leaked");
            let _ = events.recv_timeout(Duration::from_millis(10));
        }
        let totals = engine.totals();
        prop_assert_eq!(totals.panics, 0);
        engine.stop();
        for port in 30_360..=30_367u16 {
            prop_assert!(std::net::UdpSocket::bind((local(2), port)).is_ok());
        }
    }
}
