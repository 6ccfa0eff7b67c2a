//! A scripted peer against one endpoint: lost messages, forks, order, streams.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{
    END, Events, SDP, Script, Seen, Side, events, next_token, sdp, side, side_with, spec,
};
use strowger_sip::leg::{By, Leg, LegEvent};
use strowger_sip::message::{HeaderName, Message, Request, Response, parse, response_to};
use strowger_sip::stats::Drop;
use strowger_sip::timer::Intervals;
use strowger_sip::transport::{Flow, RateLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A 200 of the script to an INVITE.
fn ok(invite: &Request, script: &Script, tag: &str) -> Response {
    response_to(invite, 200, "", Some(tag))
        .with(
            HeaderName::Contact,
            format!("<sip:{tag}@{}>", script.address()),
        )
        .with_body("application/sdp", sdp(2))
}

#[tokio::test]
async fn a_200_is_repeated_until_the_ack_and_lost_acks_are_sent_again() {
    let (us, script) = (side(), Script::new().await);
    let (leg, mut events) = us.call(script.address(), Some(SDP.to_owned()));
    let (invite, _) = script.request("INVITE").await;
    let answer = ok(&invite, &script, "one").to_bytes();
    script.send(&answer, us.address).await;
    assert!(matches!(events.next().await, LegEvent::Answered { .. }));
    // Retransmitted before our ACK: absorbed. After it: acknowledged again, the same way.
    script.send(&answer, us.address).await;
    leg.ack(None).unwrap();
    let (first, _) = script.request("ACK").await;
    script.send(&answer, us.address).await;
    let (again, _) = script.request("ACK").await;
    assert_eq!(first, again);
    assert_eq!(first.uri.user.as_deref(), Some("one"));
    assert_eq!(events.try_next(), None);
}

#[tokio::test]
async fn further_forks_are_acknowledged_and_ended() {
    let (us, script) = (side(), Script::new().await);
    let (leg, mut events) = us.call(script.address(), Some(SDP.to_owned()));
    let (invite, _) = script.request("INVITE").await;
    script
        .send(ok(&invite, &script, "one").to_bytes(), us.address)
        .await;
    assert!(matches!(events.next().await, LegEvent::Answered { .. }));
    script
        .send(ok(&invite, &script, "two").to_bytes(), us.address)
        .await;
    let (ack, _) = script.request("ACK").await;
    assert_eq!(ack.headers.to_tag(), Some("two"));
    let (bye, _) = script.request("BYE").await;
    assert_eq!(bye.headers.to_tag(), Some("two"));
    script
        .send(response_to(&bye, 200, "", None).to_bytes(), us.address)
        .await;
    leg.ack(None).unwrap();
    let (ack, _) = script.request("ACK").await;
    assert_eq!(ack.headers.to_tag(), Some("one"));
    assert_eq!(events.try_next(), None);
}

#[tokio::test]
async fn a_200_that_crosses_the_cancel_is_acknowledged_and_ended() {
    let (us, script) = (side(), Script::new().await);
    let (leg, mut events) = us.call(script.address(), Some(SDP.to_owned()));
    let (invite, _) = script.request("INVITE").await;
    script
        .send(
            response_to(&invite, 180, "", Some("one")).to_bytes(),
            us.address,
        )
        .await;
    assert_eq!(events.next().await, LegEvent::Ringing);
    leg.cancel().unwrap();
    let (cancel, _) = script.request("CANCEL").await;
    assert_eq!(cancel.headers.via(), invite.headers.via());
    script
        .send(ok(&invite, &script, "one").to_bytes(), us.address)
        .await;
    script.request("ACK").await;
    script.request("BYE").await;
    assert!(matches!(
        events.next().await,
        LegEvent::Failed { status: 487, .. }
    ));
    assert_eq!(events.try_next(), None);
}

#[tokio::test]
async fn a_200_that_crosses_the_cancel_stays_for_its_owner_to_end_but_not_for_long() {
    let us = side();
    for ends in [true, false] {
        let script = Script::new().await;
        let (sink, mut events) = events();
        let mut spec = spec(
            Flow::udp(us.address, script.address()),
            Some(SDP.to_owned()),
        );
        spec.keeps_crossed = true;
        let leg = us.endpoint.invite(spec, sink).unwrap();
        let (invite, _) = script.request("INVITE").await;
        let rings = response_to(&invite, 180, "", Some("one"));
        script.send(rings.to_bytes(), us.address).await;
        assert_eq!(events.next().await, LegEvent::Ringing);
        leg.bye(Some(26)).unwrap();
        script.request("CANCEL").await;
        let answer = ok(&invite, &script, "one").to_bytes();
        script.send(&answer, us.address).await;
        script.request("ACK").await;
        let crossed = events.next().await;
        assert_eq!(crossed, LegEvent::Crossed { sdp: Some(sdp(2)) });
        assert!(leg.dialog().is_some(), "it can be told to an heir");
        if ends {
            leg.bye(Some(26)).unwrap();
        }
        let (bye, _) = script.request("BYE").await;
        assert_eq!(bye.headers.q850(), Some(26));
        let done = response_to(&bye, 200, "", None);
        script.send(done.to_bytes(), us.address).await;
        let by = By::Us;
        let q850 = Some(26);
        assert_eq!(events.next().await, LegEvent::Ended { by, q850 });
        assert_eq!(events.try_next(), None);
    }
}

#[tokio::test]
async fn our_200_is_repeated_and_without_ack_the_leg_ends() {
    let (us, script) = (side(), Script::new().await);
    script
        .send(script.with_sdp("INVITE", 1, "a", ""), us.address)
        .await;
    let (leg, mut events) = us.incoming().await;
    leg.answer(sdp(2)).unwrap();
    for _ in 0..3 {
        script.response("INVITE", 200).await;
    }
    assert_eq!(events.next().await, LegEvent::AckTimeout);
    let (bye, _) = script.request("BYE").await;
    script
        .send(response_to(&bye, 200, "", None).to_bytes(), us.address)
        .await;
    let by = By::Us;
    assert_eq!(
        events.next().await,
        LegEvent::Ended {
            by,
            q850: Some(102)
        }
    );
}

#[tokio::test]
async fn a_new_offer_stands_for_a_lost_ack_but_not_for_an_answer_in_it() {
    for (offers, status) in [(true, 200), (false, 500)] {
        let (us, script) = (side(), Script::new().await);
        let invite = match offers {
            true => script.with_sdp("INVITE", 1, "a", ""),
            false => script.text("INVITE", 1, "a", "", END),
        };
        script.send(invite, us.address).await;
        let (leg, mut events) = us.incoming().await;
        leg.answer(sdp(2)).unwrap();
        let answer = script.response("INVITE", 200).await;
        let tag = answer.headers.to_tag().unwrap();
        let again = script.with_sdp("INVITE", 2, "b", tag);
        script.send(again, us.address).await;
        if offers {
            assert_eq!(events.next().await, LegEvent::Acked { sdp: None });
            // A session that differs is the owner's to agree to.
            if matches!(events.try_next(), Some(LegEvent::Reinvited { .. })) {
                leg.accept_reinvite(Some(sdp(3))).unwrap();
            }
        }
        loop {
            let said = script.response("INVITE", status).await;
            if said.headers.cseq().map(|cseq| cseq.number) == Some(2) {
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_update_may_have_crossed_our_answer_and_stands_for_no_ack() {
    let (us, script) = (side(), Script::new().await);
    let invite = script.with_sdp("INVITE", 1, "a", "");
    script.send(invite, us.address).await;
    let (leg, mut events) = us.incoming().await;
    leg.answer(sdp(2)).unwrap();
    let answer = script.response("INVITE", 200).await;
    let tag = answer.headers.to_tag().unwrap();
    let update = script.text("UPDATE", 2, "b", tag, END);
    script.send(update, us.address).await;
    script.response("UPDATE", 500).await;
    script.response("INVITE", 200).await;
    assert_eq!(events.next().await, LegEvent::AckTimeout);
}

#[tokio::test]
async fn a_bye_on_command_waits_for_the_ack() {
    let (us, script) = (side(), Script::new().await);
    script
        .send(script.with_sdp("INVITE", 1, "a", ""), us.address)
        .await;
    let (leg, mut events) = us.incoming().await;
    leg.answer(sdp(2)).unwrap();
    leg.bye(None).unwrap();
    let answer = script.response("INVITE", 200).await;
    let tag = answer.headers.to_tag().unwrap();
    script
        .send(script.text("ACK", 1, "b", tag, END), us.address)
        .await;
    assert_eq!(events.next().await, LegEvent::Acked { sdp: None });
    script.request("BYE").await;
}

#[tokio::test]
async fn retransmitted_requests_are_absorbed_and_old_ones_refused() {
    let (us, script) = (side(), Script::new().await);
    let invite = script.with_sdp("INVITE", 5, "a", "");
    script.send(&invite, us.address).await;
    let (leg, mut events) = us.incoming().await;
    leg.ring(180, None).unwrap();
    let ringing = script.response("INVITE", 180).await;
    script.send(&invite, us.address).await;
    assert_eq!(script.response("INVITE", 180).await, ringing);
    leg.answer(sdp(2)).unwrap();
    let answer = script.response("INVITE", 200).await;
    let tag = answer.headers.to_tag().unwrap();
    script
        .send(script.text("ACK", 5, "b", tag, END), us.address)
        .await;
    assert_eq!(events.next().await, LegEvent::Acked { sdp: None });
    script
        .send(script.text("INFO", 4, "c", tag, END), us.address)
        .await;
    script.response("INFO", 500).await;
    let bye = script.text(
        "BYE",
        6,
        "d",
        tag,
        "Reason: Q.850;cause=16\r\nContent-Length: 0\r\n\r\n",
    );
    script.send(&bye, us.address).await;
    script.response("BYE", 200).await;
    let ended = LegEvent::Ended {
        by: By::Peer,
        q850: Some(16),
    };
    assert_eq!(events.next().await, ended);
    script.send(&bye, us.address).await;
    script.response("BYE", 200).await;
    assert_eq!(events.try_next(), None);
}

#[tokio::test]
async fn unknown_dialogs_and_merged_requests_are_refused() {
    let (us, script) = (side(), Script::new().await);
    script
        .send(script.text("BYE", 1, "a", "nobody", END), us.address)
        .await;
    script.response("BYE", 481).await;
    let forged = us.endpoint.tokens().tag(next_token());
    script
        .send(script.text("BYE", 1, "b", &forged, END), us.address)
        .await;
    script.response("BYE", 481).await;
    assert!(matches!(us.seen().await, Seen::Unrouted(..)));
    script
        .send(script.text("CANCEL", 1, "c", "", END), us.address)
        .await;
    script.response("CANCEL", 481).await;
    script
        .send(script.with_sdp("INVITE", 2, "d", ""), us.address)
        .await;
    let _first = us.invite().await;
    script
        .send(script.with_sdp("INVITE", 2, "e", ""), us.address)
        .await;
    script.response("INVITE", 482).await;
}

#[tokio::test]
async fn an_update_without_sdp_refreshes_and_a_session_timer_is_agreed() {
    let (us, script) = (side(), Script::new().await);
    let text = sdp(1);
    let extra = format!(
        "Supported: timer\r\nSession-Expires: 1800\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{text}",
        text.len()
    );
    script
        .send(script.text("INVITE", 1, "a", "", &extra), us.address)
        .await;
    let (leg, mut events) = us.incoming().await;
    leg.answer(sdp(2)).unwrap();
    let answer = script.response("INVITE", 200).await;
    assert_eq!(
        answer.headers.get(&HeaderName::SessionExpires),
        Some("1800;refresher=uac")
    );
    let tag = answer.headers.to_tag().unwrap().to_owned();
    script
        .send(script.text("ACK", 1, "b", &tag, END), us.address)
        .await;
    assert_eq!(events.next().await, LegEvent::Acked { sdp: None });
    let extra = "Supported: timer\r\nSession-Expires: 1800;refresher=uac\r\n\
         Content-Length: 0\r\n\r\n";
    script
        .send(script.text("UPDATE", 2, "c", &tag, extra), us.address)
        .await;
    let refreshed = script.response("UPDATE", 200).await;
    assert_eq!(
        refreshed.headers.get(&HeaderName::SessionExpires),
        Some("1800;refresher=uac")
    );
    let timer = leg.dialog().unwrap().session.unwrap();
    assert_eq!((timer.interval_s, timer.we_refresh), (1800, false));
    assert_eq!(events.try_next(), None);
}

/// With the timers of RFC 3261: nothing is repeated within a test.
fn patient() -> Side {
    side_with(false, |config| config.intervals = Intervals::default())
}

/// A call that stands and whose re-INVITE the far end has just received.
async fn reinvited(us: &Side, script: &Script) -> (Leg, Events, Request) {
    let (leg, mut events) = us.call(script.address(), Some(SDP.to_owned()));
    let (invite, _) = script.request("INVITE").await;
    script
        .send(ok(&invite, script, "one").to_bytes(), us.address)
        .await;
    assert!(matches!(events.next().await, LegEvent::Answered { .. }));
    leg.ack(None).unwrap();
    leg.reinvite(Some(sdp(2))).unwrap();
    script.request("ACK").await;
    let (again, _) = script.request("INVITE").await;
    (leg, events, again)
}

/// The far end has been sent nothing more: what it hears next answers its own question.
async fn heard_nothing_more(us: &Side, script: &Script) {
    script
        .send(script.text("OPTIONS", 9, "last", "", END), us.address)
        .await;
    match script.next().await {
        (Message::Response(response), _) => {
            assert_eq!(response.headers.cseq().unwrap().number, 9);
        }
        (Message::Request(request), _) => panic!("it was sent a {}", request.method.as_str()),
    }
}

#[tokio::test]
async fn a_peer_that_is_gone_ends_the_leg_on_481() {
    let (us, script) = (patient(), Script::new().await);
    let (_leg, mut events, again) = reinvited(&us, &script).await;
    script
        .send(response_to(&again, 481, "", None).to_bytes(), us.address)
        .await;
    assert_eq!(
        events.next().await,
        LegEvent::ReinviteFailed { status: 481 }
    );
    let ended = LegEvent::Ended {
        by: By::Peer,
        q850: None,
    };
    assert_eq!(events.next().await, ended);
    script.request("ACK").await;
    heard_nothing_more(&us, &script).await;
}

#[tokio::test]
async fn a_bye_waits_for_the_answer_to_a_reinvite() {
    for status in [200, 481, 488] {
        let (us, script) = (patient(), Script::new().await);
        let (leg, mut events, again) = reinvited(&us, &script).await;
        leg.bye(Some(16)).unwrap();
        heard_nothing_more(&us, &script).await;
        let answer = match status {
            200 => ok(&again, &script, "one"),
            _ => response_to(&again, status, "", None),
        };
        script.send(answer.to_bytes(), us.address).await;
        script.request("ACK").await;
        if status == 481 {
            heard_nothing_more(&us, &script).await;
        } else {
            let (bye, _) = script.request("BYE").await;
            script
                .send(response_to(&bye, 200, "", None).to_bytes(), us.address)
                .await;
        }
        let ended = LegEvent::Ended {
            by: By::Us,
            q850: Some(16),
        };
        assert_eq!(events.next().await, ended, "after {status}");
    }
}

#[tokio::test]
async fn a_bye_does_not_wait_for_a_peer_that_is_silent() {
    let (us, script) = (side(), Script::new().await);
    let (leg, mut events, _again) = reinvited(&us, &script).await;
    leg.bye(None).unwrap();
    let (bye, _) = script.request("BYE").await;
    script
        .send(response_to(&bye, 200, "", None).to_bytes(), us.address)
        .await;
    assert!(matches!(
        events.next().await,
        LegEvent::Ended { by: By::Us, .. }
    ));
}

#[tokio::test]
async fn what_a_leg_has_sent_is_not_repeated_after_it_was_let_go() {
    let (us, script) = (side(), Script::new().await);
    let (mut legs, mut call_ids) = (Vec::new(), Vec::new());
    for tag in ["one", "two"] {
        let (leg, mut events) = us.call(script.address(), Some(SDP.to_owned()));
        let (invite, _) = script.request("INVITE").await;
        script
            .send(ok(&invite, &script, tag).to_bytes(), us.address)
            .await;
        assert!(matches!(events.next().await, LegEvent::Answered { .. }));
        leg.ack(None).unwrap();
        script.request("ACK").await;
        leg.bye(None).unwrap();
        call_ids.push(invite.headers.call_id().to_owned());
        legs.push((leg, events));
    }
    legs[0].0.forget();
    // Some may have been under way.
    let (mut last_of_first, mut second) = (0, 0);
    while second < 8 {
        let (bye, _) = script.request("BYE").await;
        match bye.headers.call_id() == call_ids[0] {
            true => last_of_first = second,
            false => second += 1,
        }
    }
    assert!(
        last_of_first <= 4,
        "repeated after {last_of_first} of {second}"
    );
}

#[tokio::test]
async fn requests_follow_loose_and_strict_routes() {
    for (route, strict) in [("<sip:127.0.0.1:9;lr>", false), ("<sip:127.0.0.1:9>", true)] {
        let (us, script) = (side(), Script::new().await);
        let text = sdp(1);
        let extra = format!(
            "Record-Route: {route}\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{text}",
            text.len()
        );
        script
            .send(script.text("INVITE", 1, "a", "", &extra), us.address)
            .await;
        let (leg, mut events) = us.incoming().await;
        leg.answer(sdp(2)).unwrap();
        let answer = script.response("INVITE", 200).await;
        assert_eq!(answer.headers.get(&HeaderName::RecordRoute), Some(route));
        let tag = answer.headers.to_tag().unwrap().to_owned();
        script
            .send(script.text("ACK", 1, "b", &tag, END), us.address)
            .await;
        events.next().await;
        leg.bye(None).unwrap();
        let (bye, _) = script.request("BYE").await;
        let contact = format!("sip:script@{}", script.address());
        let hop = route.trim_matches(['<', '>']);
        let routes = bye.headers.list(&HeaderName::Route);
        if strict {
            assert_eq!(bye.uri.to_string(), hop);
            assert_eq!(routes, [format!("<{contact}>")]);
        } else {
            assert_eq!(bye.uri.to_string(), contact);
            assert_eq!(routes, [route]);
        }
    }
}

#[tokio::test]
async fn a_source_beyond_its_rate_is_dropped_and_counted() {
    let us = side_with(false, |config| {
        config.rate = RateLimits {
            per_source_rps: 10,
            trusted: Vec::new(),
        };
    });
    let script = Script::new().await;
    for at in 0..40 {
        script
            .send(
                script.text("OPTIONS", at, &format!("r{at}"), "", END),
                us.address,
            )
            .await;
    }
    while us.endpoint.stats().received_total()
        + us.endpoint.stats().dropped_total(Drop::RateLimited)
        < 40
    {
        tokio::task::yield_now().await;
    }
    assert!(us.endpoint.stats().dropped_total(Drop::RateLimited) >= 15);
}

#[tokio::test]
async fn a_tcp_stream_is_framed_pinged_and_closed_when_broken() {
    let (us, script) = (side(), Script::new().await);
    let mut stream = TcpStream::connect(us.tcp).await.unwrap();
    let one = script.text("OPTIONS", 1, "t1", "", END);
    let two = script.text("OPTIONS", 2, "t2", "", END);
    let both = format!("\r\n\r\n{one}{two}");
    let (first, second) = both.split_at(both.len() / 2);
    stream.write_all(first.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    tokio::task::yield_now().await;
    stream.write_all(second.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let mut chunk = [0; 4_096];
    while read.windows(7).filter(|w| *w == b"SIP/2.0").count() < 4 {
        let length = stream.read(&mut chunk).await.unwrap();
        assert!(length > 0, "closed early");
        read.extend_from_slice(&chunk[..length]);
    }
    assert!(read.starts_with(b"\r\n"), "the ping is answered first");
    stream
        .write_all(b"OPTIONS sip:x SIP/2.0\r\nno length\r\n\r\n")
        .await
        .unwrap();
    while stream.read(&mut chunk).await.unwrap() > 0 {}
    assert_eq!(us.endpoint.stats().dropped_total(Drop::BadFrame), 1);
}

#[tokio::test]
async fn garbage_is_survived() {
    let (us, script) = (side(), Script::new().await);
    for at in 0..=255_u8 {
        script.send(vec![at; usize::from(at)], us.address).await;
    }
    script
        .send(script.text("OPTIONS", 1, "alive", "", END), us.address)
        .await;
    let answer = script.response("OPTIONS", 200).await;
    assert!(matches!(
        parse(&answer.to_bytes()),
        Ok(Message::Response(_))
    ));
    let (_, _events) = events();
}

#[tokio::test]
async fn another_fork_cannot_end_the_leg() {
    let (us, script) = (side(), Script::new().await);
    let (leg, mut events) = us.call(script.address(), Some(SDP.to_owned()));
    let (invite, _) = script.request("INVITE").await;
    script
        .send(ok(&invite, &script, "one").to_bytes(), us.address)
        .await;
    assert!(matches!(events.next().await, LegEvent::Answered { .. }));
    leg.ack(None).unwrap();
    let tag = invite.headers.from_tag().unwrap();
    let bye = script.text("BYE", 1, "f", tag, END);
    let call_id = invite.headers.call_id();
    let bye = bye.replace(&format!("script-{}", script.address().port()), call_id);
    script.send(&bye, us.address).await;
    script.response("BYE", 481).await;
    let real = bye
        .replace("tag=script", "tag=one")
        .replace("z9hG4bKf", "z9hG4bKg");
    script.send(&real, us.address).await;
    script.response("BYE", 200).await;
    assert!(matches!(
        events.next().await,
        LegEvent::Ended { by: By::Peer, .. }
    ));
}

#[tokio::test]
async fn an_invite_nobody_answers_for_is_answered_500_and_not_kept() {
    let (us, script) = (side(), Script::new().await);
    script
        .send(script.with_sdp("INVITE", 1, "a", ""), us.address)
        .await;
    drop(us.invite().await);
    let refused = script.response("INVITE", 500).await;
    let tag = refused.headers.to_tag().unwrap();
    script
        .send(script.text("ACK", 1, "a", tag, END), us.address)
        .await;
    while us.endpoint.transaction_count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_session_interval_below_our_least_is_refused_with_422() {
    let (us, script) = (side(), Script::new().await);
    let offer = |cseq: u32, branch: &str, seconds: u32, supported: &str| {
        let text = sdp(1);
        let extra = format!(
            "{supported}Session-Expires: {seconds}\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{text}",
            text.len()
        );
        script.text("INVITE", cseq, branch, "", &extra)
    };
    let timer = "Supported: timer\r\n";
    script.send(offer(1, "a", 89, timer), us.address).await;
    let refused = script.response("INVITE", 422).await;
    assert_eq!(refused.headers.get(&HeaderName::MinSe), Some("90"));
    let tag = refused.headers.to_tag().unwrap().to_owned();
    script
        .send(script.text("ACK", 1, "a", &tag, END), us.address)
        .await;
    // Asked again as told, and by a phone that would not understand 422: both get through.
    for (cseq, branch, seconds, supported) in [(2, "b", 90, timer), (3, "c", 60, "")] {
        let text = offer(cseq, branch, seconds, supported);
        let text = text.replace("Call-ID: ", &format!("Call-ID: {branch}"));
        script.send(text, us.address).await;
        let (leg, _events) = us.incoming().await;
        leg.answer(sdp(2)).unwrap();
        let answer = script.response("INVITE", 200).await;
        let agreed = answer
            .headers
            .session_expires()
            .map(|agreed| agreed.seconds);
        assert_eq!(agreed, (!supported.is_empty()).then_some(90));
    }
}

#[tokio::test]
async fn a_422_of_the_peer_is_answered_with_the_interval_it_wants() {
    let (us, script) = (side(), Script::new().await);
    let (leg, mut events) = us.call(script.address(), Some(SDP.to_owned()));
    let too_small = |request: &Request, least: &str| {
        response_to(request, 422, "", Some("one"))
            .with(HeaderName::MinSe, least)
            .to_bytes()
    };
    let asked = |request: &Request| {
        let seconds = request.headers.session_expires().map(|asked| asked.seconds);
        (seconds, request.headers.number(&HeaderName::MinSe))
    };
    let (invite, _) = script.request("INVITE").await;
    script.send(too_small(&invite, "600"), us.address).await;
    let (again, _) = script.request("INVITE").await;
    assert_eq!(asked(&again), (Some(600), Some(600)));
    assert_eq!(again.headers.cseq().unwrap().number, 2);
    let answer = ok(&again, &script, "one")
        .with(HeaderName::Require, "timer")
        .with(HeaderName::SessionExpires, "600;refresher=uac");
    script.send(answer.to_bytes(), us.address).await;
    assert!(matches!(events.next().await, LegEvent::Answered { .. }));
    leg.ack(None).unwrap();
    script.request("ACK").await;
    // Within the dialog too, and it is remembered.
    leg.reinvite(Some(sdp(2))).unwrap();
    let (reinvite, _) = script.request("INVITE").await;
    assert_eq!(asked(&reinvite), (Some(600), Some(600)));
    script.send(too_small(&reinvite, "1800"), us.address).await;
    let (again, _) = script.request("INVITE").await;
    assert_eq!(asked(&again), (Some(1_800), Some(1_800)));
    // One that names nothing new is a refusal like any other.
    script.send(too_small(&again, "1800"), us.address).await;
    let failed = LegEvent::ReinviteFailed { status: 422 };
    assert_eq!(events.next().await, failed);
}

#[tokio::test]
async fn what_came_before_a_broken_frame_is_answered_and_then_the_stream_closes() {
    let (us, script) = (side(), Script::new().await);
    let mut stream = TcpStream::connect(us.tcp).await.unwrap();
    let one = script.text("OPTIONS", 1, "t1", "", END);
    let later = script.text("REGISTER", 2, "t2", "", END);
    let broken = "OPTIONS sip:x SIP/2.0\r\nno length\r\n\r\n";
    stream
        .write_all(format!("{one}{later}{broken}").as_bytes())
        .await
        .unwrap();
    // The second one is answered after a while, as one that waits for a commit is.
    let Seen::Request(register) = us.seen().await else {
        panic!("the REGISTER came before the break");
    };
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let answer = register.response(200);
    register.respond(&answer);
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.unwrap();
    let answers = read.windows(11).filter(|w| *w == b"SIP/2.0 200").count();
    assert_eq!(answers, 2, "{}", String::from_utf8_lossy(&read));
    assert_eq!(us.endpoint.stats().dropped_total(Drop::BadFrame), 1);
}

#[tokio::test]
async fn a_dialog_flooded_with_requests_gets_503_and_others_go_on() {
    const FLOOD: u32 = 400;
    let (us, script, other) = (side(), Script::new().await, Script::new().await);
    let mut tags = Vec::new();
    let mut legs = Vec::new();
    for script in [&script, &other] {
        script
            .send(script.with_sdp("INVITE", 1, "a", ""), us.address)
            .await;
        let (leg, mut events) = us.incoming().await;
        leg.answer(sdp(2)).unwrap();
        let tag = script.response("INVITE", 200).await;
        let tag = tag.headers.to_tag().unwrap().to_owned();
        script
            .send(script.text("ACK", 1, "b", &tag, END), us.address)
            .await;
        assert_eq!(events.next().await, LegEvent::Acked { sdp: None });
        tags.push(tag);
        legs.push((leg, events));
    }
    let mut refused = 0;
    for at in 0..FLOOD {
        let method = ["INFO", "OPTIONS"][usize::from(at % 2 == 0)];
        let text = script.text(method, 2 + at, &format!("f{at}"), &tags[0], END);
        script.send(text, us.address).await;
        let (Message::Response(answer), _) = script.next().await else {
            panic!("only answers come");
        };
        match answer.status {
            200 => {}
            503 => {
                assert_eq!(answer.headers.retry_after(), Some(1));
                refused += 1;
            }
            status => panic!("{status}"),
        }
    }
    assert!(refused > FLOOD / 2, "{refused} refused");
    let counted = us.endpoint.stats().dropped_total(Drop::LegFlooded);
    assert_eq!(counted, u64::from(refused));
    let reports = std::iter::from_fn(|| legs[0].1.try_next()).count();
    assert!(reports <= usize::try_from(FLOOD - refused).unwrap());
    other
        .send(other.text("INFO", 2, "i", &tags[1], END), us.address)
        .await;
    other.response("INFO", 200).await;
    // And a dialog that floods can still be ended.
    let bye = script.text("BYE", 2 + FLOOD, "bye", &tags[0], END);
    script.send(bye, us.address).await;
    script.response("BYE", 200).await;
}
