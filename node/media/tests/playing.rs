//! Clips, music and tones as a phone hears them, and what becomes of the relay meanwhile.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Phone, engine, event, local};
use strowger_media::{Clip, Codec, Event, LegMedia, PlayToken, Repeat, Tone};

/// A clip whose samples are a ramp, so that each place in it is recognised.
fn ramp(samples: i16) -> Arc<Clip> {
    Arc::new(Clip::from_pcm((0..samples).map(|n| n * 20).collect()))
}

fn ended(event: &Event) -> Option<(PlayToken, bool)> {
    match event {
        Event::PlayEnded {
            token, complete, ..
        } => Some((*token, *complete)),
        _ => None,
    }
}

#[test]
fn a_clip_is_played_once_and_its_end_reported() {
    let (engine, events) = engine(30_200..=30_209, 1);
    let a = Phone::join(&engine, 1, local(2), Codec::Pcma);
    let clip = ramp(700);
    let start = Instant::now();
    engine
        .play(a.leg, Arc::clone(&clip), Repeat::Once, PlayToken(7))
        .expect("plays");
    let packets: Vec<_> = (0..5).map(|_| a.listen()).collect();
    let first = packets[0].at - start;
    assert!(
        first < Duration::from_millis(250),
        "the first packet took {first:?}"
    );
    let heard: Vec<u8> = packets.iter().flat_map(|p| p.payload.clone()).collect();
    assert_eq!(&heard[..700], clip.encoded(Codec::Pcma));
    assert_eq!(&heard[700..], [0xd5; 100]);
    assert_eq!(event(&events, ended), (PlayToken(7), true));
    assert!(
        a.listen_for(Duration::from_millis(60)).is_none(),
        "silence behind the clip"
    );
    assert!(packets[0].marker && packets[1..].iter().all(|p| !p.marker));
}

#[test]
fn a_clip_ends_in_time_where_nobody_can_be_sent_to() {
    let (engine, events) = engine(30_270..=30_279, 1);
    let a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
    let nowhere = LegMedia {
        remote: None,
        ..a.media(Codec::Pcmu)
    };
    engine.configure(a.leg, nowhere).expect("configures");
    let play = |token| engine.play(a.leg, ramp(700), Repeat::Once, PlayToken(token));
    play(1).expect("plays");
    assert_eq!(event(&events, ended), (PlayToken(1), true));
    engine
        .configure(a.leg, a.media(Codec::Pcmu))
        .expect("configures");
    play(2).expect("plays");
    a.listen();
    assert_eq!(event(&events, ended), (PlayToken(2), true));
}

#[test]
fn music_loops_without_a_gap_and_keeps_time() {
    let (engine, events) = engine(30_210..=30_219, 1);
    let a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
    let clip = ramp(1_000);
    engine
        .play(a.leg, Arc::clone(&clip), Repeat::Loop, PlayToken(1))
        .expect("plays");
    let packets: Vec<_> = (0..50).map(|_| a.listen()).collect();
    let round = clip.encoded(Codec::Pcmu);
    let wanted: Vec<u8> = round.iter().copied().cycle().take(50 * 160).collect();
    let heard: Vec<u8> = packets.iter().flat_map(|p| p.payload.clone()).collect();
    assert_eq!(heard, wanted);
    for (n, packet) in (0u16..).zip(&packets) {
        assert_eq!(packet.sequence, packets[0].sequence.wrapping_add(n));
        assert_eq!(
            packet.timestamp,
            packets[0].timestamp.wrapping_add(160 * u32::from(n))
        );
    }
    // Absolute schedule: a late packet does not make the next ones late. The bound is wide for
    // busy machines; a schedule that adds up delays of 1 ms per packet would be 49 ms off.
    let span = packets[49].at - packets[0].at;
    assert!(span > Duration::from_millis(900), "{span:?}");
    engine.stop_playing(a.leg).expect("stops");
    assert_eq!(event(&events, ended), (PlayToken(1), false));
}

#[test]
fn playing_covers_the_relay_and_gives_it_back() {
    let (engine, events) = engine(30_220..=30_229, 2);
    let mut a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
    let mut b = Phone::join(&engine, 2, local(2), Codec::Pcmu);
    engine.bridge(a.leg, b.leg).expect("bridges");
    a.talk(Codec::Pcmu, 1);
    let before = b.listen();
    engine.hold_music(b.leg, Tone::Dial.clip()).expect("plays");
    let music = b.listen();
    assert_eq!(music.sequence, before.sequence.wrapping_add(1));
    assert_eq!((music.ssrc, music.marker), (before.ssrc, true));
    a.talk(Codec::Pcmu, 2);
    a.heard(&engine, 2);
    b.talk(Codec::Pcmu, 3);
    assert_eq!(a.listen().payload, vec![3; 160], "the other way is open");
    engine
        .tone(b.leg, Tone::Sine(440), Some(100), PlayToken(5))
        .expect("plays");
    assert_eq!(event(&events, ended), (PlayToken(0), false), "replaced");
    assert_eq!(event(&events, ended), (PlayToken(5), true));
    a.talk(Codec::Pcmu, 4);
    let mut last = music;
    let after = loop {
        let packet = b.listen();
        assert_ne!(packet.payload, vec![2; 160], "covered audio is not heard");
        assert_eq!(packet.sequence, last.sequence.wrapping_add(1));
        let step = packet.timestamp.wrapping_sub(last.timestamp);
        assert!(
            (160..80_000).contains(&step),
            "the timestamp jumped by {step}"
        );
        if packet.payload == vec![4; 160] {
            break packet;
        }
        last = packet;
    };
    assert!(after.marker);
}

#[test]
fn other_frame_lengths_are_kept() {
    let (engine, _events) = engine(30_230..=30_239, 1);
    let a = Phone::open(&engine, 1, local(2));
    let media = LegMedia {
        ptime_ms: 33,
        ..a.media(Codec::Pcmu)
    };
    engine.configure(a.leg, media).expect("configures");
    engine
        .play(a.leg, ramp(1_000), Repeat::Loop, PlayToken(1))
        .expect("plays");
    let (first, second) = (a.listen(), a.listen());
    assert_eq!((first.payload.len(), second.payload.len()), (240, 240));
    assert_eq!(second.timestamp.wrapping_sub(first.timestamp), 240);
}

#[test]
fn what_is_played_before_the_leg_is_configured_waits_for_it() {
    let (engine, events) = engine(30_240..=30_249, 1);
    let a = Phone::open(&engine, 1, local(2));
    engine
        .play(a.leg, ramp(160), Repeat::Once, PlayToken(3))
        .expect("plays");
    engine.stats(a.leg).expect("carried out");
    engine
        .configure(a.leg, a.media(Codec::Pcmu))
        .expect("configures");
    assert_eq!(a.listen().payload.len(), 160);
    assert_eq!(event(&events, ended), (PlayToken(3), true));
    let empty = Arc::new(Clip::from_pcm(Vec::new()));
    engine
        .play(a.leg, empty, Repeat::Loop, PlayToken(4))
        .expect("plays");
    assert_eq!(
        event(&events, ended),
        (PlayToken(4), true),
        "an empty clip ends at once"
    );
}

#[test]
fn sender_reports_go_to_the_next_port_and_name_our_source() {
    let (engine, _events) = engine(30_250..=30_259, 1);
    // A phone with an even port and its RTCP port beside it.
    let (rtp, rtcp) = (0..800)
        .find_map(|n| {
            let port = 31_000 + 2 * n;
            let rtp = std::net::UdpSocket::bind((local(1), port)).ok()?;
            Some((rtp, std::net::UdpSocket::bind((local(1), port + 1)).ok()?))
        })
        .expect("a free pair");
    let mut a = Phone::open(&engine, 1, local(2));
    a.socket = rtp;
    rtcp.set_read_timeout(Some(common::PATIENCE)).expect("sets");
    engine
        .configure(a.leg, a.media(Codec::Pcmu))
        .expect("configures");
    engine
        .play(a.leg, ramp(1_000), Repeat::Loop, PlayToken(1))
        .expect("plays");
    let heard = a.listen();
    a.talk(Codec::Pcmu, 1);
    a.heard(&engine, 1);
    engine.close(a.leg).expect("closes");
    let mut report = [0; 256];
    let length = rtcp.recv(&mut report).expect("a report at the end");
    assert_eq!(report[..2], [0x81, 200], "a sender report with one block");
    assert_eq!(report[4..8], heard.ssrc.to_be_bytes());
    assert_eq!(report[28..32], a.ssrc.to_be_bytes(), "about the phone");
    assert_eq!(report[length - 8..length - 4], [0x81, 203, 0, 1], "BYE");
}

#[test]
fn a_phone_that_has_gone_elsewhere_is_sent_nothing_while_in_doubt() {
    const QUIET: Duration = Duration::from_millis(500);
    let (engine, _events) = engine(30_250..=30_259, 1);
    let mut a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
    // One that never talked went nowhere.
    let b = Phone::join(&engine, 2, local(2), Codec::Pcmu);
    for phone in [&a, &b] {
        engine
            .hold_music(phone.leg, Tone::Dial.clip())
            .expect("plays");
    }
    for _ in 0..60 {
        a.talk(Codec::Pcmu, 1);
    }
    a.heard(&engine, 60);
    std::thread::sleep(QUIET);
    a.listen();
    engine.set_in_doubt(true);
    let silence = |phone: &Phone| {
        let give_up = Instant::now() + common::PATIENCE;
        while phone.listen_for(QUIET).is_some() {
            assert!(Instant::now() < give_up, "it is still sent music");
        }
    };
    silence(&a);
    while b.listen_for(Duration::from_millis(1)).is_some() {}
    b.listen();
    // It is back with its next packet, and goes once more after talking steadily.
    for _ in 0..60 {
        a.talk(Codec::Pcmu, 2);
    }
    a.heard(&engine, 120);
    a.listen();
    silence(&a);
    engine.set_in_doubt(false);
    a.listen();
    b.listen();
}
