//! The small phone against a tiny exchange: registration with digest, a challenged call.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{LOOPBACK, Seen, Side, events, next_token, sdp, side};
use std::time::SystemTime;
use strowger_sip::digest::{Algorithm, Answer, Challenge, NonceKeys, Verdict, Verifier, ha1};
use strowger_sip::leg::{By, LegEvent};
use strowger_sip::message::{HeaderName, Request, Response};
use strowger_sip::phone::{Phone, PhoneConfig, PhoneError};
use strowger_sip::registrar::{ExpiryBounds, Registration, parse_register, with_bindings};
use strowger_sip::transport::Protocol;

const KEYS: NonceKeys = NonceKeys {
    current: [5; 32],
    previous: None,
};

struct Exchange {
    side: Side,
    challenge: Challenge,
    verifier: Verifier,
}

impl Exchange {
    fn new(algorithm: Algorithm) -> Self {
        Self {
            side: side(),
            challenge: Challenge {
                realm: "demo.invalid".to_owned(),
                algorithms: vec![algorithm],
            },
            verifier: Verifier::new(),
        }
    }

    fn admits(&self, request: &Request) -> bool {
        let Some(answer) = Answer::of_request(request, "demo.invalid") else {
            return false;
        };
        let secret = ha1(answer.algorithm, "1001", "demo.invalid", "right");
        let method = request.method.as_str();
        let verdict = self
            .verifier
            .verify(&answer, method, &secret, &KEYS, SystemTime::now());
        verdict == Verdict::Good
    }

    fn challenged(&self, mut response: Response) -> Response {
        for value in self.challenge.values(&KEYS, SystemTime::now(), false) {
            response.headers.push(HeaderName::WwwAuthenticate, value);
        }
        response
    }

    async fn serve(&self) -> ! {
        let bounds = ExpiryBounds {
            min_s: 10,
            max_s: 600,
            default_s: 300,
        };
        let mut legs = Vec::new();
        loop {
            match self.side.seen().await {
                Seen::Request(incoming) => {
                    let response = if self.admits(incoming.request()) {
                        let Ok(Registration::Update(list)) =
                            parse_register(incoming.request(), bounds)
                        else {
                            panic!("an update");
                        };
                        let listed = list.iter().map(|binding| (binding, binding.expires_s));
                        with_bindings(incoming.response(200), listed)
                    } else {
                        self.challenged(incoming.response(401))
                    };
                    incoming.respond(&response);
                }
                Seen::Invite(invite) if !self.admits(invite.request()) => {
                    let response = self.challenged(invite.response(401));
                    invite.reject(&response);
                }
                Seen::Invite(invite) => {
                    let (sink, events) = events();
                    let leg = invite.accept(next_token(), sink).unwrap();
                    leg.answer(sdp(2)).unwrap();
                    legs.push((leg, events));
                }
                _ => panic!("unexpected"),
            }
        }
    }

    fn phone(&self, protocol: Protocol, password: &str) -> Phone {
        let server = match protocol {
            Protocol::Udp => self.side.address,
            Protocol::Tcp => self.side.tcp,
        };
        let config = PhoneConfig {
            ip: LOOPBACK,
            port: 0,
            protocol,
            server,
            domain: "demo.invalid".to_owned(),
            user: "1001".to_owned(),
            password: password.to_owned(),
        };
        Phone::start(config).unwrap().0
    }
}

#[tokio::test]
async fn a_phone_registers_and_calls_with_both_algorithms_over_both_transports() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let exchange = Exchange::new(algorithm);
            let phone = exchange.phone(protocol, "right");
            let talk = async {
                assert_eq!(phone.register(3_600).await.unwrap(), 600);
                let (sink, mut at_phone) = events();
                let leg = phone.call("4008", Some(sdp(1)), sink).unwrap();
                assert!(matches!(at_phone.next().await, LegEvent::Answered { .. }));
                leg.ack(None).unwrap();
                leg.bye(None).unwrap();
                let by = By::Us;
                assert_eq!(at_phone.next().await, LegEvent::Ended { by, q850: None });
            };
            tokio::select! {
                _ = exchange.serve() => {}
                () = talk => {}
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let exchange = Exchange::new(Algorithm::Md5);
    let phone = exchange.phone(Protocol::Udp, "wrong");
    tokio::select! {
        _ = exchange.serve() => {}
        result = phone.register(60) => {
            assert!(matches!(result, Err(PhoneError::Refused { status: 401, .. })), "{result:?}");
        }
    }
}
