//! Two endpoints call each other over loopback, through every path of a leg.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Events, SDP, Seen, Side, events, next_token, sdp, side, side_with, spec};
use strowger_sip::leg::{By, Leg, LegError, LegEvent};
use strowger_sip::message::{HeaderName, Method, NameAddr, Uri, new_request};
use strowger_sip::transport::Flow;

fn ended(by: By, q850: Option<u16>) -> LegEvent {
    LegEvent::Ended { by, q850 }
}

/// A call that is up on both sides: caller, its events, callee, its events.
async fn up(a: &Side, b: &Side) -> (Leg, Events, Leg, Events) {
    let (caller, mut at_caller) = a.call(b.address, Some(sdp(1)));
    let (callee, mut at_callee) = b.incoming().await;
    callee.answer(sdp(2)).unwrap();
    assert!(matches!(at_caller.next().await, LegEvent::Answered { .. }));
    caller.ack(None).unwrap();
    assert_eq!(at_callee.next().await, LegEvent::Acked { sdp: None });
    (caller, at_caller, callee, at_callee)
}

#[tokio::test]
async fn ring_answer_ack_and_bye_from_either_side() {
    let (a, b) = (side(), side());
    for caller_ends in [true, false] {
        let (caller, mut at_caller) = a.call(b.address, Some(SDP.to_owned()));
        let invite = b.invite().await;
        assert_eq!(invite.sdp().as_deref(), Some(SDP));
        invite.trying();
        let (sink, mut at_callee) = events();
        let callee = invite.accept(next_token(), sink).unwrap();
        callee.ring(180, None).unwrap();
        assert_eq!(at_caller.next().await, LegEvent::Ringing);
        callee.ring(183, Some(sdp(2))).unwrap();
        let early = LegEvent::Progress {
            status: 183,
            sdp: Some(sdp(2)),
        };
        assert_eq!(at_caller.next().await, early);
        callee.answer(sdp(2)).unwrap();
        match at_caller.next().await {
            LegEvent::Answered {
                sdp: answer,
                contact,
                ..
            } => {
                assert_eq!(answer, Some(sdp(2)));
                assert_eq!(contact.socket_address(), Some(b.address));
            }
            other => panic!("{other:?}"),
        }
        caller.ack(None).unwrap();
        assert_eq!(at_callee.next().await, LegEvent::Acked { sdp: None });
        let ends = if caller_ends { &caller } else { &callee };
        ends.bye(Some(16)).unwrap();
        let (first, second) = if caller_ends {
            (&mut at_callee, &mut at_caller)
        } else {
            (&mut at_caller, &mut at_callee)
        };
        assert_eq!(first.next().await, ended(By::Peer, Some(16)));
        assert_eq!(second.next().await, ended(By::Us, Some(16)));
    }
}

#[tokio::test]
async fn busy_unknown_and_other_refusals_reach_the_caller() {
    let (a, b) = (side(), side());
    for status in [404, 480, 486, 503, 603] {
        let (_caller, mut at_caller) = a.call(b.address, Some(SDP.to_owned()));
        let (callee, mut at_callee) = b.incoming().await;
        let headers = [
            (HeaderName::RetryAfter, "7".to_owned()),
            (HeaderName::Reason, "Q.850;cause=17".to_owned()),
        ];
        callee.reject(status, "Because", &headers).unwrap();
        assert_eq!(at_callee.next().await, ended(By::Us, None));
        let expected = LegEvent::Failed {
            status,
            reason: "Because".to_owned(),
            retry_after_s: Some(7),
            q850: Some(17),
        };
        assert_eq!(at_caller.next().await, expected);
    }
}

#[tokio::test]
async fn cancel_before_and_after_a_provisional_response() {
    let (a, b) = (side(), side());
    for rings in [true, false] {
        let (caller, mut at_caller) = a.call(b.address, Some(SDP.to_owned()));
        if !rings {
            caller.cancel().unwrap();
        }
        let (callee, mut at_callee) = b.incoming().await;
        callee.ring(180, None).unwrap();
        if rings {
            assert_eq!(at_caller.next().await, LegEvent::Ringing);
            caller.cancel().unwrap();
        }
        assert_eq!(at_callee.next().await, LegEvent::Cancelled);
        assert!(matches!(
            at_caller.next().await,
            LegEvent::Failed { status: 487, .. }
        ));
        assert_eq!(callee.answer(sdp(2)), Err(LegError::WrongState));
    }
}

#[tokio::test]
async fn a_cancel_that_comes_before_the_leg_is_told_to_it() {
    let (a, b) = (side(), side());
    let (caller, mut at_caller) = a.call(b.address, Some(SDP.to_owned()));
    let invite = b.invite().await;
    invite.trying();
    // 100 is not an event; the CANCEL waits for it by itself.
    caller.cancel().unwrap();
    while b.endpoint.stats().received_total() < 2 {
        tokio::task::yield_now().await;
    }
    let (sink, mut at_callee) = events();
    invite.accept(next_token(), sink).unwrap();
    assert_eq!(at_callee.next().await, LegEvent::Cancelled);
    assert!(matches!(
        at_caller.next().await,
        LegEvent::Failed { status: 487, .. }
    ));
}

#[tokio::test]
async fn nobody_there_is_a_timeout() {
    let (a, nobody) = (side(), common::Script::new().await);
    let (_caller, mut at_caller) = a.call(nobody.address(), Some(SDP.to_owned()));
    assert_eq!(at_caller.next().await, LegEvent::Timeout);
}

#[tokio::test]
async fn an_offerless_invite_is_offered_in_the_200_and_answered_in_the_ack() {
    let (a, b) = (side(), side());
    let (caller, mut at_caller) = a.call(b.address, None);
    let invite = b.invite().await;
    assert_eq!(invite.sdp(), None);
    let (sink, mut at_callee) = events();
    let callee = invite.accept(next_token(), sink).unwrap();
    callee.answer(sdp(1)).unwrap();
    let LegEvent::Answered { sdp: offer, .. } = at_caller.next().await else {
        panic!("answered");
    };
    assert_eq!(offer, Some(sdp(1)));
    caller.ack(Some(sdp(2))).unwrap();
    assert_eq!(
        at_callee.next().await,
        LegEvent::Acked { sdp: Some(sdp(2)) }
    );
    assert_eq!(callee.dialog().unwrap().remote_sdp, Some(sdp(2)));
}

#[tokio::test]
async fn reinvites_are_accepted_refused_and_refreshes_pass_unseen() {
    let (a, b) = (side(), side());
    let (caller, mut at_caller, callee, mut at_callee) = up(&a, &b).await;
    caller.reinvite(Some(sdp(3))).unwrap();
    assert_eq!(caller.reinvite(Some(sdp(3))), Err(LegError::Busy));
    assert_eq!(
        at_callee.next().await,
        LegEvent::Reinvited { sdp: Some(sdp(3)) }
    );
    callee.accept_reinvite(Some(sdp(4))).unwrap();
    assert_eq!(
        at_caller.next().await,
        LegEvent::ReinviteAnswered { sdp: Some(sdp(4)) }
    );
    assert_eq!(at_callee.next().await, LegEvent::Acked { sdp: None });
    // The same offer again changes nothing and is answered without the owner.
    caller.reinvite(Some(sdp(3))).unwrap();
    assert_eq!(
        at_caller.next().await,
        LegEvent::ReinviteAnswered { sdp: Some(sdp(4)) }
    );
    assert_eq!(at_callee.next().await, LegEvent::Acked { sdp: None });
    callee.reinvite(Some(sdp(9))).unwrap();
    assert_eq!(
        at_caller.next().await,
        LegEvent::Reinvited { sdp: Some(sdp(9)) }
    );
    caller.reject_reinvite(488).unwrap();
    assert_eq!(
        at_callee.next().await,
        LegEvent::ReinviteFailed { status: 488 }
    );
    assert_eq!(callee.dialog().unwrap().local_sdp, Some(sdp(4)));
    caller.bye(None).unwrap();
    assert_eq!(at_callee.next().await, ended(By::Peer, None));
}

#[tokio::test]
async fn glare_is_resolved_and_both_reinvites_get_through() {
    let (a, b) = (side(), side());
    let (caller, mut at_caller, callee, mut at_callee) = up(&a, &b).await;
    // Both are sent before either side reads: certain glare.
    caller.reinvite(Some(sdp(3))).unwrap();
    callee.reinvite(Some(sdp(13))).unwrap();
    let (mut answered, mut offered) = (0, 0);
    while answered < 2 || offered < 2 {
        tokio::select! {
            event = at_caller.next() => match event {
                LegEvent::Reinvited { .. } => {
                    offered += 1;
                    caller.accept_reinvite(Some(sdp(5))).unwrap();
                }
                LegEvent::ReinviteAnswered { .. } => answered += 1,
                LegEvent::Acked { .. } => {}
                other => panic!("caller: {other:?}"),
            },
            event = at_callee.next() => match event {
                LegEvent::Reinvited { .. } => {
                    offered += 1;
                    callee.accept_reinvite(Some(sdp(15))).unwrap();
                }
                LegEvent::ReinviteAnswered { .. } => answered += 1,
                LegEvent::Acked { .. } => {}
                other => panic!("callee: {other:?}"),
            },
        }
    }
}

#[tokio::test]
async fn info_and_options_inside_the_dialog() {
    let (a, b) = (side(), side());
    let (caller, mut at_caller, _callee, mut at_callee) = up(&a, &b).await;
    caller
        .info("application/dtmf-relay", "Signal=5\r\n")
        .unwrap();
    let info = LegEvent::Info {
        content_type: "application/dtmf-relay".to_owned(),
        body: "Signal=5\r\n".into(),
    };
    assert_eq!(at_callee.next().await, info);
    assert_eq!(at_caller.next().await, LegEvent::Replied { status: 200 });
    caller.options().unwrap();
    assert_eq!(at_caller.next().await, LegEvent::Replied { status: 200 });
}

#[tokio::test]
async fn the_same_calls_work_over_tcp() {
    let (a, b) = (side(), side());
    let (sink, mut at_caller) = events();
    let flow = Flow::tcp(a.tcp, b.tcp);
    let caller = a
        .endpoint
        .invite(spec(flow, Some(SDP.to_owned())), sink)
        .unwrap();
    let (callee, mut at_callee) = b.incoming().await;
    callee.ring(180, None).unwrap();
    callee.answer(sdp(2)).unwrap();
    assert_eq!(at_caller.next().await, LegEvent::Ringing);
    assert!(matches!(at_caller.next().await, LegEvent::Answered { .. }));
    caller.ack(None).unwrap();
    assert_eq!(at_callee.next().await, LegEvent::Acked { sdp: None });
    callee.bye(Some(16)).unwrap();
    assert_eq!(at_caller.next().await, ended(By::Peer, Some(16)));
    assert_eq!(at_callee.next().await, ended(By::Us, Some(16)));
}

#[tokio::test]
async fn a_peer_that_takes_no_connection_is_known_to_be_away_at_once() {
    let a = side();
    // A port that was free a moment ago: whoever connects is refused.
    let closed = std::net::TcpListener::bind((common::LOOPBACK, 0)).unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    let (sink, mut at_caller) = events();
    let flow = Flow::tcp(a.tcp, nobody);
    let _caller = a
        .endpoint
        .invite(spec(flow, Some(SDP.to_owned())), sink)
        .unwrap();
    assert!(matches!(
        at_caller.next().await,
        LegEvent::Failed { status: 503, .. }
    ));
}

#[tokio::test]
async fn a_leg_taken_over_by_another_endpoint_goes_on() {
    let (a, b) = (side(), side());
    let (caller, _at_caller, _callee, mut at_callee) = up(&a, &b).await;
    let dialog = caller.dialog().unwrap();
    // The old owner dies; a new one takes its address and the dialog.
    a.endpoint.shutdown().await;
    let new = side_with(false, |_| {});
    new.endpoint.unbind(common::LOOPBACK).await;
    new.endpoint
        .bind(common::LOOPBACK, a.address.port(), None)
        .unwrap();
    let (sink, mut at_new) = events();
    let before = dialog.local_cseq;
    let leg = new.endpoint.import(dialog, 2, sink).unwrap();
    leg.info("text/plain", "hello").unwrap();
    assert!(matches!(at_callee.next().await, LegEvent::Info { .. }));
    assert_eq!(at_new.next().await, LegEvent::Replied { status: 200 });
    assert!(leg.dialog().unwrap().local_cseq > before + 100);
    leg.bye(None).unwrap();
    assert_eq!(at_callee.next().await, ended(By::Peer, None));
    assert_eq!(at_new.next().await, ended(By::Us, None));
}

#[tokio::test]
async fn an_unacknowledged_answer_is_taken_over_and_acknowledged_by_the_new_owner() {
    let (a, b) = (side(), side());
    let (caller, mut at_caller) = a.call(b.address, Some(SDP.to_owned()));
    let (callee, mut at_callee) = b.incoming().await;
    callee.answer(sdp(2)).unwrap();
    assert!(matches!(at_caller.next().await, LegEvent::Answered { .. }));
    let dialog = caller.dialog().unwrap();
    a.endpoint.shutdown().await;
    let new = side();
    new.endpoint.unbind(common::LOOPBACK).await;
    new.endpoint
        .bind(common::LOOPBACK, a.address.port(), None)
        .unwrap();
    let (sink, _at_new) = events();
    let leg = new.endpoint.import(dialog, 2, sink).unwrap();
    leg.ack(None).unwrap();
    assert_eq!(at_callee.next().await, LegEvent::Acked { sdp: None });
}

/// Another endpoint at the address of one that has died.
async fn heir(of: &Side) -> Side {
    of.endpoint.shutdown().await;
    let new = side_with(false, |_| {});
    new.endpoint.unbind(common::LOOPBACK).await;
    new.endpoint
        .bind(common::LOOPBACK, of.address.port(), None)
        .unwrap();
    new
}

async fn over(at: &Side) -> strowger_sip::token::LegToken {
    loop {
        if let Seen::Over(token) = at.seen().await {
            return token;
        }
    }
}

#[tokio::test]
async fn the_far_end_of_a_lost_dialog_is_told_from_its_checkpoint() {
    for acked in [true, false] {
        let (a, b) = (side(), side());
        let (caller, mut at_caller) = a.call(b.address, Some(sdp(1)));
        let (callee, mut at_callee) = b.incoming().await;
        callee.answer(sdp(2)).unwrap();
        assert!(matches!(at_caller.next().await, LegEvent::Answered { .. }));
        // This is what is committed; the ACK goes out after it, or never.
        let dialog = caller.dialog().unwrap();
        if acked {
            caller.ack(None).unwrap();
            assert_eq!(at_callee.next().await, LegEvent::Acked { sdp: None });
        }
        let new = heir(&a).await;
        assert_eq!(
            new.endpoint.end_dialog(dialog.clone(), 2, 41).await,
            Ok(200)
        );
        if !acked {
            assert_eq!(at_callee.next().await, LegEvent::Acked { sdp: None });
        }
        assert_eq!(at_callee.next().await, ended(By::Peer, Some(41)));
        // Told again, by the next heir.
        assert!(new.endpoint.end_dialog(dialog, 2, 41).await.is_ok());
    }
}

#[tokio::test]
async fn the_called_side_of_a_lost_dialog_is_told_too() {
    let (a, b) = (side(), side());
    let (_caller, mut at_caller, callee, _at_callee) = up(&a, &b).await;
    let dialog = callee.dialog().unwrap();
    let new = heir(&b).await;
    assert_eq!(new.endpoint.end_dialog(dialog, 2, 41).await, Ok(200));
    assert_eq!(at_caller.next().await, ended(By::Peer, Some(41)));
}

#[tokio::test]
async fn a_lost_invite_is_cancelled_and_its_end_is_heard() {
    let (a, b) = (side(), side());
    let (caller, mut at_caller) = a.call(b.address, Some(sdp(1)));
    let (callee, mut at_callee) = b.incoming().await;
    callee.ring(180, None).unwrap();
    assert_eq!(at_caller.next().await, LegEvent::Ringing);
    let new = heir(&a).await;
    let flow = Flow::udp(a.address, b.address);
    let sent = spec(flow, None);
    new.endpoint
        .cancel_lost(&strowger_sip::endpoint::LostInvite {
            token: caller.token(),
            target: sent.target,
            sent_by: flow.local,
            flow,
            from: sent.from,
            to: sent.to,
        });
    assert_eq!(at_callee.next().await, LegEvent::Cancelled);
    assert_eq!(over(&new).await, caller.token());
}

#[tokio::test]
async fn an_answer_to_a_lost_invite_is_acknowledged_and_ended() {
    let (a, b) = (side(), side());
    let (caller, mut at_caller) = a.call(b.address, Some(sdp(1)));
    let (callee, mut at_callee) = b.incoming().await;
    callee.ring(180, None).unwrap();
    assert_eq!(at_caller.next().await, LegEvent::Ringing);
    let new = heir(&a).await;
    callee.answer(sdp(2)).unwrap();
    assert_eq!(at_callee.next().await, LegEvent::Acked { sdp: None });
    assert_eq!(at_callee.next().await, ended(By::Peer, Some(41)));
    assert_eq!(over(&new).await, caller.token());
}

#[tokio::test]
async fn messages_for_a_leg_elsewhere_are_passed_on_and_taken_in_there() {
    let (front, phone) = (side_with(true, |_| {}), side());
    let owner = side_with(false, |_| {});
    // The owner's leg speaks through the front's address, which the owner has not bound.
    let (sink, mut at_owner) = events();
    let flow = Flow::udp(front.address, phone.address);
    let leg = owner
        .endpoint
        .invite(spec(flow, Some(SDP.to_owned())), sink)
        .unwrap();
    let token = leg.token();
    let relay = async {
        loop {
            tokio::select! {
                seen = owner.seen() => if let Seen::Via(flow, bytes) = seen {
                    assert!(front.endpoint.send_raw(&flow, &bytes));
                },
                seen = front.seen() => if let Seen::Unrouted(to, raw, flow) = seen {
                    assert_eq!(to, token);
                    owner.endpoint.inject(&raw, flow);
                },
            }
        }
    };
    let call = async {
        let (callee, mut at_callee) = phone.incoming().await;
        callee.answer(sdp(2)).unwrap();
        assert!(matches!(at_owner.next().await, LegEvent::Answered { .. }));
        leg.ack(None).unwrap();
        assert_eq!(at_callee.next().await, LegEvent::Acked { sdp: None });
        callee.bye(None).unwrap();
        assert_eq!(at_owner.next().await, ended(By::Peer, None));
        assert_eq!(at_callee.next().await, ended(By::Us, None));
    };
    tokio::select! {
        () = relay => {}
        () = call => {}
    }
}

#[tokio::test]
async fn a_quiet_node_sends_nothing_but_answers_bye() {
    let (a, b) = (side(), side());
    let (caller, mut at_caller, callee, mut at_callee) = up(&a, &b).await;
    a.endpoint.set_quiet(true);
    let sent = a.endpoint.stats().sent_total();
    caller.info("text/plain", "x").unwrap();
    assert_eq!(a.endpoint.stats().sent_total(), sent);
    callee.bye(Some(16)).unwrap();
    assert_eq!(at_caller.next().await, ended(By::Peer, Some(16)));
    assert_eq!(at_callee.next().await, ended(By::Us, Some(16)));
    let (_late, mut at_late) = b.call(a.address, Some(sdp(1)));
    let invite = a.invite().await;
    let refusal = invite
        .response(503)
        .with(HeaderName::RetryAfter, "1".to_owned());
    invite.reject(&refusal);
    match at_late.next().await {
        LegEvent::Failed {
            status,
            retry_after_s,
            ..
        } => assert_eq!((status, retry_after_s), (503, Some(1))),
        other => panic!("new work shall hear that it may try elsewhere: {other:?}"),
    }
}

#[tokio::test]
async fn requests_outside_dialogs_are_answered() {
    let (a, b) = (side(), side());
    let flow = Flow::udp(a.address, b.address);
    let request = |method: Method| {
        let mut request = new_request(method, Uri::of_address(None, b.address));
        let me = NameAddr::new(Uri::sip(Some("1001"), "demo.invalid", None)).to_string();
        request.headers.push(HeaderName::From, me.clone());
        request.headers.push(HeaderName::To, me);
        request
    };
    let options = a
        .endpoint
        .request(request(Method::Options), flow)
        .await
        .unwrap();
    assert_eq!(options.status, 200);
    assert!(options.headers.has_token(&HeaderName::Allow, "UPDATE"));
    let other = Method::from_name("SUBSCRIBE");
    let subscribe = a.endpoint.request(request(other), flow).await.unwrap();
    assert_eq!(subscribe.status, 405);
    assert!(subscribe.headers.get(&HeaderName::Allow).is_some());
    let mut looped = request(Method::Register);
    looped.headers.set(HeaderName::MaxForwards, "0");
    assert_eq!(a.endpoint.request(looped, flow).await.unwrap().status, 483);
    let mut extended = request(Method::Register);
    extended.headers.push(HeaderName::Require, "outer-space");
    let refused = a.endpoint.request(extended, flow).await.unwrap();
    assert_eq!(refused.status, 420);
    assert_eq!(
        refused.headers.get(&HeaderName::Unsupported),
        Some("outer-space")
    );
    let (answer, ()) = tokio::join!(a.endpoint.request(request(Method::Register), flow), async {
        if let Seen::Request(incoming) = b.seen().await {
            let response = incoming.response(200);
            incoming.respond(&response);
        }
    });
    assert_eq!(answer.unwrap().status, 200);
}

#[tokio::test]
async fn an_address_in_use_is_a_clear_error() {
    let a = side();
    let b = side_with(false, |_| {});
    b.endpoint.unbind(common::LOOPBACK).await;
    let error = b
        .endpoint
        .bind(common::LOOPBACK, 0, Some(a.tcp.port()))
        .unwrap_err();
    assert!(
        error.to_string().starts_with("cannot bind TCP 127.0.0.1:"),
        "{error}"
    );
    assert!(a.endpoint.bind(common::LOOPBACK, 0, None).is_err());
    a.endpoint.unbind(common::LOOPBACK).await;
    assert!(
        b.endpoint
            .bind(common::LOOPBACK, a.address.port(), Some(a.tcp.port()))
            .is_ok()
    );
}
