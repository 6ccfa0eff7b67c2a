//! The 49 messages of RFC 4475, through a whole endpoint: valid ones are not refused, invalid
//! ones are answered or dropped with a cause, and the endpoint lives on.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Queue, Seen};
use std::path::Path;
use std::sync::Arc;
use strowger_sip::endpoint::{Endpoint, EndpointConfig};
use strowger_sip::message::{Message, parse};
use strowger_sip::stats::Drop;
use strowger_sip::transport::Flow;
use tokio::sync::mpsc::unbounded_channel;

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Reaches the handler.
    Handler,
    /// Answered by the endpoint.
    Status(u16),
    /// Dropped, and counted under this cause.
    Dropped(Drop),
}

use Fate::{Dropped, Handler, Status};

const TABLE: &[(&str, Fate)] = &[
    // 3.1.1 Valid messages. A method or response that means nothing to us is not malformed.
    // Its To tag names a dialog that nobody here has.
    ("wsinv", Status(481)),
    ("intmeth", Status(405)),
    ("esc01", Handler),
    ("escnull", Handler),
    ("esc02", Status(405)),
    ("lwsdisp", Status(200)),
    ("longreq", Handler),
    ("dblreq", Handler),
    ("semiuri", Status(200)),
    ("transports", Status(200)),
    ("mpart01", Status(405)),
    ("unreason", Dropped(Drop::MisroutedResponse)),
    ("noreason", Dropped(Drop::MisroutedResponse)),
    // 3.1.2 Invalid messages.
    ("badinv01", Status(400)),
    ("clerr", Status(400)),
    ("ncl", Status(400)),
    ("scalar02", Status(400)),
    ("scalarlg", Dropped(Drop::Malformed)),
    ("quotbal", Status(400)),
    ("ltgtruri", Status(400)),
    ("lwsruri", Status(400)),
    ("lwsstart", Status(400)),
    ("trws", Status(400)),
    ("escruri", Status(400)),
    ("baddate", Status(400)),
    ("regbadct", Status(400)),
    ("badaspec", Status(400)),
    ("baddn", Status(400)),
    ("badvers", Status(505)),
    ("mismatch01", Status(400)),
    ("mismatch02", Status(400)),
    ("bigcode", Dropped(Drop::Malformed)),
    // 3.2 Transaction layer.
    ("badbranch", Status(200)),
    // 3.3 Application layer.
    ("insuf", Status(400)),
    ("unkscm", Status(416)),
    ("novelsc", Status(416)),
    ("unksm2", Handler),
    ("bext01", Status(420)),
    ("invut", Status(415)),
    ("regaut01", Handler),
    ("multi01", Status(400)),
    ("mcl01", Status(400)),
    ("bcast", Dropped(Drop::MisroutedResponse)),
    ("zeromf", Status(200)),
    ("cparam01", Handler),
    ("cparam02", Handler),
    ("regescrt", Handler),
    ("sdp01", Status(406)),
    // 3.4 Backward compatibility.
    ("inv2543", Handler),
];

fn load(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture");
    std::fs::read(folder.join(format!("{name}.dat"))).unwrap()
}

#[tokio::test]
async fn every_message_of_rfc_4475_meets_its_fate() {
    assert_eq!(TABLE.len(), 49);
    // The address is not bound: what is sent comes back through the handler.
    let flow = Flow::udp(
        "127.0.0.1:5060".parse().unwrap(),
        "127.0.0.2:5060".parse().unwrap(),
    );
    let mut wrong = Vec::new();
    for (name, expected) in TABLE {
        let (sender, mut seen) = unbounded_channel();
        let endpoint = Endpoint::start(
            EndpointConfig::new(common::KEY),
            Arc::new(Queue(sender, true)),
        );
        endpoint.inject(&load(name), flow);
        let fate = match seen.try_recv() {
            Ok(Seen::Invite(_) | Seen::Request(_)) => Handler,
            Ok(Seen::Via(_, bytes)) => match parse(&bytes) {
                Ok(Message::Response(response)) => Status(response.status),
                // Even the answer to a message that lacks headers must itself be framed; it
                // lacks what the request lacked, so only its status line is judged.
                _ => Status(status_of(&bytes)),
            },
            Ok(Seen::Unrouted(..) | Seen::Over(_)) => panic!("{name}: unrouted"),
            Err(_) => {
                let cause = Drop::ALL
                    .iter()
                    .find(|c| endpoint.stats().dropped_total(**c) > 0);
                Dropped(*cause.unwrap_or_else(|| panic!("{name}: dropped without a cause")))
            }
        };
        if fate != *expected {
            wrong.push(format!(
                "{name}: {fate:?}, expected {expected:?}; {:?}",
                parse(&load(name)).err()
            ));
        }
        endpoint.shutdown().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn status_of(bytes: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(bytes);
    text.split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}

#[test]
fn whitespace_and_case_are_read_as_meant() {
    let Ok(Message::Request(request)) = parse(&load("wsinv")) else {
        panic!("a request");
    };
    let headers = &request.headers;
    assert_eq!(headers.to_tag(), Some("1918181833n"));
    assert_eq!(headers.max_forwards(), Some(68));
    assert_eq!(headers.cseq().unwrap().number, 9);
    let via = headers.via().unwrap();
    assert_eq!(
        (via.host.as_str(), via.branch()),
        ("192.0.2.2", Some("390skdjuw"))
    );
    assert_eq!(
        headers.list(&strowger_sip::message::HeaderName::Via).len(),
        3
    );
    assert_eq!(request.body.len(), 150);
}

#[test]
fn the_second_request_in_a_datagram_is_ignored() {
    let Ok(Message::Request(request)) = parse(&load("dblreq")) else {
        panic!("a request");
    };
    assert_eq!(request.method.as_str(), "REGISTER");
    assert!(request.body.is_empty());
}
