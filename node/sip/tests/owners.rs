//! A scripted caller whose INVITE more than one node has to do with.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::time::Duration;

use common::{END, Script, events, next_token, sdp, side, side_with};
use strowger_sip::leg::{By, LegEvent};
use strowger_sip::message::{Message, Method};
use strowger_sip::transport::Flow;

#[tokio::test]
async fn a_caller_about_to_be_taken_up_is_neither_new_nor_unknown() {
    let (us, script) = (side(), Script::new().await);
    let call_id = format!("script-{}", script.address().port());
    common::AWAITED.lock().unwrap().push(call_id.clone());
    let invite = script.with_sdp("INVITE", 5, "a", "");
    let cancel = script.text("CANCEL", 5, "a", "", END);
    script.send(&invite, us.address).await;
    script.send(&cancel, us.address).await;
    // What is answered at once shows that both were taken in.
    script
        .send(script.text("OPTIONS", 1, "b", "", END), us.address)
        .await;
    let (first, _) = script.next().await;
    let Message::Response(first) = first else {
        panic!("nobody asks anything");
    };
    assert_eq!(first.headers.cseq().unwrap().method, Method::Options);
    common::AWAITED
        .lock()
        .unwrap()
        .retain(|one| *one != call_id);
    let (sink, mut events) = events();
    let flow = Flow::udp(us.address, script.address());
    let token = next_token();
    let leg = us
        .endpoint
        .revive(invite.as_bytes(), flow, (token, 2), sink)
        .unwrap();
    script.send(&invite, us.address).await;
    script.send(&cancel, us.address).await;
    script.response("CANCEL", 200).await;
    script.response("INVITE", 487).await;
    assert_eq!(events.next().await, LegEvent::Cancelled);
    drop(leg);
    assert!(us.seen.lock().await.try_recv().is_err(), "no new call");
}

#[tokio::test]
async fn who_acknowledges_another_nodes_refusal_rings_nobody_here() {
    // Before the INVITE has become a leg, and while that rings.
    for early in [true, false] {
        let (us, script) = (side(), Script::new().await);
        let invite = script.with_sdp("INVITE", 1, "a", "");
        let ack = script.text("ACK", 1, "a", "of-another-node", END);
        script.send(&invite, us.address).await;
        let incoming = us.invite().await;
        if early {
            script.send(&ack, us.address).await;
            // What is answered shows that the ACK was taken in.
            let options = script.text("OPTIONS", 1, "b", "", END);
            script.send(options, us.address).await;
            script.response("OPTIONS", 200).await;
        }
        let (sink, mut events) = events();
        let leg = incoming.accept(next_token(), sink).unwrap();
        if !early {
            leg.ring(180, None).unwrap();
            script.response("INVITE", 180).await;
            script.send(&ack, us.address).await;
        }
        script.response("INVITE", 487).await;
        assert_eq!(events.next().await, LegEvent::Cancelled);
    }
}

#[tokio::test]
async fn who_acknowledges_the_answer_of_the_owner_before_is_still_answered() {
    let (us, script) = (side(), Script::new().await);
    let invite = script.with_sdp("INVITE", 1, "a", "");
    let flow = Flow::udp(us.address, script.address());
    let token = next_token();
    let tag = us.endpoint.tokens().tag(token);
    let (sink, mut events) = events();
    let leg = us
        .endpoint
        .revive(invite.as_bytes(), flow, (token, 2), sink)
        .unwrap();
    // Some phones acknowledge a 2xx with the branch of the INVITE.
    script
        .send(script.text("ACK", 1, "a", &tag, END), us.address)
        .await;
    script
        .send(script.text("OPTIONS", 1, "b", "", END), us.address)
        .await;
    script.response("OPTIONS", 200).await;
    leg.answer(sdp(2)).unwrap();
    script.response("INVITE", 200).await;
    assert_eq!(events.try_next(), None);
}

#[tokio::test]
async fn a_bye_is_answered_once_its_end_is_known_and_after_t1_in_any_case() {
    for is_known in [true, false] {
        let us = side_with(false, |config| {
            config.byes_wait = true;
            config.intervals.t1 = Duration::from_millis(300);
        });
        let script = Script::new().await;
        let invite = script.with_sdp("INVITE", 1, "a", "");
        script.send(&invite, us.address).await;
        let (leg, mut events) = us.incoming().await;
        leg.answer(sdp(2)).unwrap();
        let answer = script.response("INVITE", 200).await;
        let tag = answer.headers.to_tag().unwrap();
        let ack = script.text("ACK", 1, "b", tag, END);
        script.send(ack, us.address).await;
        assert_eq!(events.next().await, LegEvent::Acked { sdp: None });
        let bye = script.text("BYE", 2, "c", tag, END);
        script.send(&bye, us.address).await;
        let ended = LegEvent::Ended {
            by: By::Peer,
            q850: None,
        };
        assert_eq!(events.next().await, ended);
        script.send(&bye, us.address).await;
        let options = script.text("OPTIONS", 1, "d", "", END);
        script.send(options, us.address).await;
        let (first, _) = script.next().await;
        let Message::Response(first) = first else {
            panic!("nobody asks anything");
        };
        assert_eq!(first.headers.cseq().unwrap().method, Method::Options);
        if is_known {
            leg.end_is_known();
        }
        script.response("BYE", 200).await;
        // Repeated, it has the same answer at once.
        script.send(&bye, us.address).await;
        script.response("BYE", 200).await;
        assert_eq!(events.try_next(), None);
    }
}
