//! Two phones and the relay between them: both ways, hidden addresses, transcoding, hold,
//! digits, pinning, over one worker and over two.

mod common;

use std::time::{Duration, Instant};

use common::{Phone, engine, event, local};
use strowger_media::{Codec, Digit, Event, LegMedia, MediaError, PlayToken, Repeat, Tone};

#[test]
fn audio_passes_both_ways_with_our_address_and_our_ssrc() {
    for (workers, ports) in [(1, 30_000..=30_019), (2, 30_020..=30_039)] {
        let (engine, events) = engine(ports, workers);
        let mut a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
        let mut b = Phone::join(&engine, 2, local(3), Codec::Pcmu);
        engine.bridge(a.leg, b.leg).expect("bridges");
        a.talk(Codec::Pcmu, 0x11);
        let first = b.listen();
        assert_eq!((first.payload_type, first.payload), (0, vec![0x11; 160]));
        assert!(first.marker, "a new source begins with the marker");
        assert_eq!(first.source, b.to, "from the port the phone sends to");
        assert_ne!(first.ssrc, a.ssrc);
        b.talk(Codec::Pcmu, 0x22);
        assert_eq!(a.listen().payload, vec![0x22; 160]);
        for n in 1..20u16 {
            a.talk(Codec::Pcmu, 0x33);
            let next = b.listen();
            assert_eq!(next.sequence, first.sequence.wrapping_add(n));
            assert_eq!(
                next.timestamp,
                first.timestamp.wrapping_add(160 * u32::from(n))
            );
            assert_eq!((next.ssrc, next.marker), (first.ssrc, false));
        }
        let stats = engine.stats(a.leg).expect("open");
        assert_eq!((stats.packets_received, stats.bytes_received), (20, 3_200));
        assert_eq!(
            (stats.packets_sent, stats.bytes_sent, stats.packets_lost),
            (1, 160, 0)
        );
        let source = event(&events, |event| match event {
            Event::FirstPacket { leg, source } if *leg == a.leg => Some(*source),
            _ => None,
        });
        assert_eq!(source, a.socket.local_addr().expect("bound"));
        engine.stop();
    }
}

#[test]
fn different_codecs_are_transcoded() {
    let (engine, _events) = engine(30_040..=30_049, 1);
    let mut a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
    let mut b = Phone::join(&engine, 2, local(2), Codec::Pcma);
    engine.bridge(a.leg, b.leg).expect("bridges");
    a.talk(Codec::Pcmu, 0xff);
    let heard = b.listen();
    assert_eq!((heard.payload_type, heard.payload), (8, vec![0xd5; 160]));
    b.talk(Codec::Pcma, 0xd5);
    let heard = a.listen();
    assert_eq!((heard.payload_type, heard.payload), (0, vec![0xfe; 160]));
    // A phone that offered both may send either.
    b.talk(Codec::Pcmu, 0x42);
    assert_eq!(a.listen().payload, vec![0x42; 160]);
}

#[test]
fn a_held_leg_is_neither_sent_to_nor_heard() {
    let (engine, _events) = engine(30_050..=30_059, 1);
    let mut a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
    let b = Phone::join(&engine, 2, local(2), Codec::Pcmu);
    engine.bridge(a.leg, b.leg).expect("bridges");
    a.talk(Codec::Pcmu, 1);
    let before = b.listen();
    let both = b.media(Codec::Pcmu);
    engine
        .configure(
            b.leg,
            LegMedia {
                send: false,
                ..both
            },
        )
        .expect("holds");
    a.talk(Codec::Pcmu, 2);
    a.heard(&engine, 2);
    engine.configure(b.leg, both).expect("resumes");
    engine.stats(b.leg).expect("carried out");
    a.talk(Codec::Pcmu, 3);
    let after = b.listen();
    assert_eq!(
        after.payload,
        vec![3; 160],
        "what was said during the hold is not heard"
    );
    assert_eq!(after.ssrc, before.ssrc);
    engine
        .configure(
            a.leg,
            LegMedia {
                receive: false,
                ..a.media(Codec::Pcmu)
            },
        )
        .expect("holds");
    engine.stats(a.leg).expect("carried out");
    a.talk(Codec::Pcmu, 4);
    a.heard(&engine, 4);
    engine
        .configure(a.leg, a.media(Codec::Pcmu))
        .expect("resumes");
    engine.stats(a.leg).expect("carried out");
    a.talk(Codec::Pcmu, 5);
    assert_eq!(b.listen().payload, vec![5; 160]);
}

#[test]
fn digits_pass_with_their_payload_type_and_are_reported_once() {
    let (engine, events) = engine(30_060..=30_069, 1);
    let mut a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
    let b = Phone::open(&engine, 2, local(2));
    let media = LegMedia {
        dtmf_payload_type: Some(96),
        ..b.media(Codec::Pcma)
    };
    engine.configure(b.leg, media).expect("configures");
    engine.bridge(a.leg, b.leg).expect("bridges");
    a.talk(Codec::Pcmu, 7);
    let audio = b.listen();
    a.timestamp += 160;
    for (flags, length) in [
        (0x0a, 160u16),
        (0x0a, 320),
        (0x8a, 480),
        (0x8a, 480),
        (0x8a, 480),
    ] {
        a.sequence = a.sequence.wrapping_add(1);
        let [high, low] = length.to_be_bytes();
        a.raw(101, &[11, flags, high, low]);
        let passed = b.listen();
        assert_eq!(
            (passed.payload_type, passed.payload),
            (96, vec![11, flags, high, low])
        );
        assert_eq!(passed.timestamp, audio.timestamp.wrapping_add(160));
    }
    a.timestamp += 320;
    a.talk(Codec::Pcmu, 8);
    assert_eq!(
        b.listen().timestamp,
        audio.timestamp.wrapping_add(160 + 480)
    );
    engine.close(a.leg).expect("closes");
    let mut digits = Vec::new();
    event(&events, |event| match event {
        Event::Digit { .. } => None,
        Event::Closed { .. } => Some(()),
        _ => None,
    });
    // The same again, collecting: a second press of another phone whose ends are all lost.
    let mut c = Phone::join(&engine, 3, local(2), Codec::Pcmu);
    c.raw(101, &[5, 0x0a, 0, 160]);
    c.sequence = c.sequence.wrapping_add(2);
    c.timestamp += 4_000;
    c.raw(101, &[6, 0x8a, 3, 32]);
    c.raw(101, &[6, 0x8a, 3, 32]);
    c.heard(&engine, 3);
    engine.close(c.leg).expect("closes");
    loop {
        match events.recv().expect("running") {
            Event::Digit {
                leg,
                digit,
                duration_ms,
            } if leg == c.leg => {
                digits.push((digit.as_char(), duration_ms));
            }
            Event::Closed { leg, .. } if leg == c.leg => break,
            _ => {}
        }
    }
    assert_eq!(digits, [('5', 20), ('6', 100)]);
}

#[test]
fn each_press_gives_one_event() {
    let (engine, events) = engine(30_070..=30_079, 1);
    let mut a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
    for event_code in 0..16 {
        a.timestamp += 2_000;
        for flags in [0x0a, 0x0a, 0x8a, 0x8a, 0x8a] {
            a.sequence = a.sequence.wrapping_add(1);
            a.raw(101, &[event_code, flags, 1, 64]);
        }
    }
    a.heard(&engine, 80);
    engine.close(a.leg).expect("closes");
    let mut keys = String::new();
    let stats = loop {
        match events.recv().expect("running") {
            Event::Digit {
                digit,
                duration_ms: 40,
                ..
            } => keys.push(digit.as_char()),
            Event::Closed { stats, .. } => break stats,
            Event::FirstPacket { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(keys, "0123456789*#ABCD");
    assert_eq!((stats.packets_received, stats.packets_lost), (80, 0));
}

#[test]
fn digits_are_sent_and_audio_goes_on_behind_them() {
    let (engine, _events) = engine(30_080..=30_089, 1);
    let mut a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
    let mut b = Phone::join(&engine, 2, local(2), Codec::Pcmu);
    engine.bridge(a.leg, b.leg).expect("bridges");
    a.talk(Codec::Pcmu, 9);
    let audio = b.listen();
    let star = Digit::from_char('*').expect("a key");
    engine.send_digit(b.leg, star, 60).expect("sends");
    let packets: Vec<_> = (0..5).map(|_| b.listen()).collect();
    let lengths: Vec<u16> = packets
        .iter()
        .map(|p| u16::from_be_bytes([p.payload[2], p.payload[3]]))
        .collect();
    assert_eq!(lengths, [160, 320, 480, 480, 480]);
    let ends: Vec<bool> = packets.iter().map(|p| p.payload[1] & 0x80 != 0).collect();
    assert_eq!(ends, [false, false, true, true, true]);
    assert!(packets[0].marker && packets[1..].iter().all(|p| !p.marker));
    for (n, packet) in (1u16..).zip(&packets) {
        assert_eq!((packet.payload_type, packet.payload[0]), (101, 10));
        assert_eq!(packet.sequence, audio.sequence.wrapping_add(n));
        assert_eq!(packet.timestamp, packets[0].timestamp);
    }
    // Audio resumes when the pause is over; until then the relay is quiet.
    let after = loop {
        a.talk(Codec::Pcmu, 10);
        if let Some(packet) = b.listen_for(Duration::from_millis(20)) {
            break packet;
        }
    };
    assert_eq!(
        (after.sequence, after.marker),
        (packets[4].sequence.wrapping_add(1), true)
    );
    assert!(after.timestamp.wrapping_sub(packets[0].timestamp) >= 480);
    let silent = LegMedia {
        dtmf_payload_type: None,
        ..b.media(Codec::Pcmu)
    };
    engine.configure(b.leg, silent).expect("configures");
    let refused = engine.send_digit(b.leg, star, 60);
    assert_eq!(refused, Err(MediaError::NoTelephoneEvents(b.leg)));
    b.talk(Codec::Pcmu, 1);
}

#[test]
fn another_source_is_learnt_by_five_packets_and_third_parties_are_dropped() {
    let (engine, events) = engine(30_090..=30_099, 1);
    let mut a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
    let signalled = Phone::at(a.leg, a.to);
    let mut b = Phone::join(&engine, 2, local(2), Codec::Pcmu);
    engine.bridge(a.leg, b.leg).expect("bridges");
    // The phone said one address and sends from another, as behind a NAT.
    engine
        .configure(a.leg, signalled.media(Codec::Pcmu))
        .expect("configures");
    engine.stats(a.leg).expect("carried out");
    for byte in 1..=6 {
        a.talk(Codec::Pcmu, byte);
    }
    assert_eq!(b.listen().payload, vec![5; 160]);
    assert_eq!(b.listen().payload, vec![6; 160]);
    b.talk(Codec::Pcmu, 7);
    assert_eq!(a.listen().payload, vec![7; 160], "we answer to the source");
    let mut stranger = Phone::at(a.leg, a.to);
    for _ in 0..10 {
        stranger.talk(Codec::Pcmu, 66);
    }
    a.talk(Codec::Pcmu, 8);
    assert_eq!(b.listen().payload, vec![8; 160]);
    a.heard(&engine, 3);
    while engine.stats(a.leg).expect("open").foreign_dropped < 10 {}
    assert_eq!(engine.totals().panics, 0);
    // A new remote opens the learning again.
    engine
        .configure(a.leg, stranger.media(Codec::Pcmu))
        .expect("configures");
    engine.stats(a.leg).expect("carried out");
    stranger.talk(Codec::Pcmu, 9);
    assert_eq!(b.listen().payload, vec![9; 160]);
    for phone in [&a, &stranger] {
        let source = event(&events, |event| match event {
            Event::FirstPacket { leg, source } if *leg == a.leg => Some(*source),
            _ => None,
        });
        assert_eq!(source, phone.socket.local_addr().expect("bound"));
    }
}

#[test]
fn what_is_no_rtp_is_counted_and_harmless() {
    let (engine, _events) = engine(30_100..=30_109, 1);
    let mut a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
    let bad: [&[u8]; 6] = [
        &[],
        &[0x80; 11],
        &[0x00; 50],
        &[0x8f, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0],
        &[
            0x90, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xbe, 0xde, 0xff, 0xff,
        ],
        &[0xa0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 99],
    ];
    for bytes in bad {
        a.bytes(bytes);
    }
    a.bytes(&[0x80; 1_900]);
    a.raw(77, &[0; 160]);
    a.talk(Codec::Pcmu, 1);
    a.heard(&engine, 1);
    let stats = engine.stats(a.leg).expect("open");
    assert_eq!((stats.malformed_dropped, stats.payload_dropped), (7, 1));
    engine.stop();
    assert_eq!(engine.totals().malformed_dropped, 7);
}

#[test]
fn silence_and_its_end_are_reported() {
    let config = strowger_media::EngineConfig {
        ports: 30_110..=30_119,
        no_audio_after: Duration::from_millis(150),
        ..Default::default()
    };
    let (engine, events) = strowger_media::Engine::start(config).expect("starts");
    let mut a = Phone::join(&engine, 1, local(2), Codec::Pcmu);
    let start = Instant::now();
    let for_ms = event(&events, |event| match event {
        Event::NoAudio { for_ms, .. } => Some(*for_ms),
        _ => None,
    });
    assert!(for_ms >= 150 && start.elapsed() >= Duration::from_millis(140));
    a.talk(Codec::Pcmu, 1);
    event(&events, |event| {
        matches!(event, Event::AudioBack { .. }).then_some(())
    });
    // A leg we hold is not expected to talk.
    engine
        .configure(
            a.leg,
            LegMedia {
                receive: false,
                ..a.media(Codec::Pcmu)
            },
        )
        .expect("holds");
    engine
        .tone(a.leg, Tone::Dial, Some(400), PlayToken(1))
        .expect("plays");
    loop {
        match events.recv().expect("running") {
            Event::PlayEnded { complete: true, .. } => break,
            Event::NoAudio { .. } => panic!("a held leg was missed"),
            _ => {}
        }
    }
    let clip = Tone::Dial.clip();
    engine
        .play(a.leg, clip, Repeat::Loop, PlayToken(2))
        .expect("plays");
}
