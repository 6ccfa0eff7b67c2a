//! Tables of offers, answers and broken descriptions.

use super::*;

const OFFER: &str = "v=0\r\no=alice 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 8 0 96\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\n\
    a=ptime:20\r\n";

fn local() -> LocalMedia {
    LocalMedia {
        ip: "127.0.0.1".parse().expect("valid"),
        port: 20_000,
        codecs: vec![Codec::Pcmu, Codec::Pcma],
        direction: Direction::SendRecv,
        session: 77,
        previous: None,
    }
}

#[test]
fn an_answer_picks_our_codec_and_their_event_type() {
    let answered = answer(OFFER, &local()).expect("fits");
    assert_eq!((answered.codec, answered.payload_type), (Codec::Pcmu, 0));
    assert_eq!(answered.telephone_event, Some(96));
    assert_eq!(
        answered.remote,
        Some("192.0.2.1:4000".parse().expect("valid"))
    );
    assert_eq!(answered.direction, Direction::SendRecv);
    assert!(
        answered.sdp.contains("m=audio 20000 RTP/AVP 0 96\r\n"),
        "{}",
        answered.sdp
    );
    assert!(
        answered
            .sdp
            .contains("a=rtpmap:96 telephone-event/8000\r\n")
    );
}

#[test]
fn directions_are_answered_with_their_mirror() {
    for (line, expected) in [
        ("a=sendrecv", Direction::SendRecv),
        ("a=sendonly", Direction::RecvOnly),
        ("a=recvonly", Direction::SendOnly),
        ("a=inactive", Direction::Inactive),
    ] {
        let offer = format!("{OFFER}{line}\r\n");
        assert_eq!(
            answer(&offer, &local()).expect("fits").direction,
            expected,
            "{line}"
        );
    }
    let hold = OFFER.replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0");
    let held = answer(&hold, &local()).expect("fits");
    assert_eq!((held.direction, held.remote), (Direction::RecvOnly, None));
}

#[test]
fn further_media_are_refused_in_place() {
    let offer = OFFER.replace("m=audio", "m=video 5000 RTP/AVP 31\r\nm=audio")
        + "m=image 6000 udptl t38\r\n";
    let answered = answer(&offer, &local()).expect("fits");
    let sdp = parse(&answered.sdp).expect("ours");
    let ports: Vec<_> = sdp
        .media
        .iter()
        .map(|m| (m.kind.as_str(), m.port))
        .collect();
    assert_eq!(ports, [("video", 0), ("audio", 20_000), ("image", 0)]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let only_g729 = OFFER.replace("RTP/AVP 8 0 96", "RTP/AVP 18 96");
    let video = OFFER.replace("m=audio", "m=video");
    let secure = OFFER.replace("RTP/AVP", "RTP/SAVP");
    for (offer, expected) in [
        (only_g729, Refused::NoCommonCodec),
        (video, Refused::NoAudio),
        (secure, Refused::NoAudio),
    ] {
        assert_eq!(
            answer(&offer, &local()),
            Err(NegotiateError::Refused(expected))
        );
    }
}

#[test]
fn the_version_rises_only_on_a_change() {
    let mut local = local();
    let first = offer(&local);
    local.previous = Some(first.clone());
    assert_eq!(offer(&local), first);
    local.direction = Direction::SendOnly;
    let held = offer(&local);
    assert_eq!(parse(&held).expect("ours").origin.version, 2);
    local.previous = Some(held.clone());
    assert_eq!(offer(&local), held);
}

#[test]
fn our_offer_is_understood_by_our_answer_and_back() {
    let ours = local();
    let theirs = LocalMedia {
        codecs: vec![Codec::Pcma],
        port: 30_000,
        ..local()
    };
    let answered = answer(&offer(&ours), &theirs).expect("fits");
    let agreed = accept_answer(&answered.sdp, &ours).expect("fits");
    assert_eq!((agreed.codec, agreed.payload_type), (Codec::Pcma, 8));
    assert_eq!(agreed.remote.map(|r| r.port()), Some(30_000));
    assert_eq!(agreed.telephone_event, Some(101));
}

#[test]
fn faults_name_their_line() {
    for (text, line) in [
        ("", 0),
        ("x=1\r\n", 1),
        ("v=0\r\no=broken\r\n", 2),
        ("v=0\r\nnonsense\r\n", 2),
        (
            "v=0\r\no=- 1 1 IN IP4 a\r\ns=-\r\nm=audio x RTP/AVP 0\r\n",
            4,
        ),
        (
            "v=0\r\no=- 1 1 IN IP4 a\r\ns=-\r\nm=audio 1 RTP/AVP 0\r\na=rtpmap:0\r\n",
            5,
        ),
        (
            "v=0\r\no=- 1 1 IN IP4 a\r\ns=-\r\nm=audio 1 RTP/AVP 0\r\n",
            4,
        ),
    ] {
        assert_eq!(parse(text).expect_err("broken").line, line, "{text:?}");
    }
}
