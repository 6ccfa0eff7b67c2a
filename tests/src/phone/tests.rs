//! Two test phones against each other, without an exchange between them.

use super::*;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 61));
const SHORT: Duration = Duration::from_secs(4);

fn pair() -> (Phone, Phone) {
    (
        Phone::new(ADDRESS, "a", "", 440),
        Phone::new(ADDRESS, "b", "", 620),
    )
}

#[test]
fn a_call_is_answered_heard_held_and_ended() {
    let (a, b) = pair();
    b.set_policy(Policy::Answer {
        after: Duration::from_millis(50),
        talk: None,
    });
    let call = a.call(b.address(), "b");
    assert!(call.answered(SHORT));
    let other = b.incoming(0, SHORT).expect("it arrived");
    assert_eq!(other.view().peer, "a");
    call.wait(SHORT, |_| call.audio().hears(620))
        .expect("a hears b");
    other
        .wait(SHORT, |_| other.audio().hears(440))
        .expect("b hears a");
    assert_eq!(call.hold(), Some(200));
    assert_eq!(other.view().peer_direction, "sendonly");
    assert_eq!(call.resume(), Some(200));
    other.hang_up();
    assert!(call.ended(SHORT).expect("the BYE arrived").ended_by_peer);
}

#[test]
fn busy_and_cancel_end_a_call() {
    let (a, b) = pair();
    b.set_policy(Policy::Refuse(486));
    let call = a.call(b.address(), "b");
    assert_eq!(call.ended(SHORT).and_then(|view| view.status), Some(486));
    b.set_policy(Policy::Ring);
    let call = a.call(b.address(), "b");
    call.wait(SHORT, |view| view.phase == Phase::Ringing)
        .expect("it rings");
    call.hang_up();
    assert_eq!(call.ended(SHORT).and_then(|view| view.status), Some(487));
    assert_eq!(
        b.calls()[1].ended(SHORT).and_then(|view| view.status),
        Some(487)
    );
}

#[test]
fn a_phone_without_power_is_called_in_vain() {
    let (a, b) = pair();
    b.set_policy(Policy::Silent);
    let call = a.call(b.address(), "b");
    assert!(
        call.wait(Duration::from_millis(1_200), |view| !view
            .history
            .is_empty())
            .is_none()
    );
    assert_eq!(
        a.register(b.address(), 60),
        Some(200),
        "other requests are answered"
    );
}
