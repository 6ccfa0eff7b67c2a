//! The parser against everything: mutated messages, random bytes, and another implementation.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use proptest::prelude::*;
use std::path::Path;
use strowger_sip::message::{Message, parse};
use strowger_sip::sdp;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// What every accepted message is asked for somewhere; none of it may panic.
fn touch(message: &Message) {
    let headers = message.headers();
    let _ = (
        headers.from(),
        headers.to(),
        headers.via(),
        headers.cseq(),
        headers.contact_uri(),
    );
    let _ = (
        headers.from_tag(),
        headers.to_tag(),
        headers.session_expires(),
        headers.q850(),
    );
    let _ = (
        headers.retry_after(),
        headers.expires(),
        headers.max_forwards(),
    );
    if let Message::Request(request) = message {
        let _ = request.sdp().map(|text| sdp::parse(&text));
    }
}

fn mutate(bytes: &mut Vec<u8>, edits: &[(u16, u8, u8)]) {
    for (at, kind, value) in edits {
        if bytes.is_empty() {
            return;
        }
        let at = usize::from(*at) % bytes.len();
        match kind % 4 {
            0 => bytes[at] = *value,
            1 => {
                bytes.remove(at);
            }
            2 => bytes.insert(at, *value),
            _ => {
                let end = (at + usize::from(*value)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.extend_from_slice(&part);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_messages_never_panic(
        which in 0..49_usize,
        edits in prop::collection::vec((any::<u16>(), any::<u8>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = corpus()[which].clone();
        mutate(&mut bytes, &edits);
        match parse(&bytes) {
            Ok(message) => touch(&message),
            Err(rejected) => {
                if let Some(response) = rejected.response {
                    let _ = response.to_bytes();
                }
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = parse(&bytes);
        let _ = sdp::parse(&String::from_utf8_lossy(&bytes));
    }

    /// What we accept and write again is accepted again and says the same.
    #[test]
    fn accepted_messages_survive_a_round_trip(
        which in 0..49_usize,
        edits in prop::collection::vec((any::<u16>(), any::<u8>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = corpus()[which].clone();
        mutate(&mut bytes, &edits);
        if let Ok(first) = parse(&bytes) {
            let again = parse(&first.to_bytes());
            prop_assert!(again.is_ok(), "{:?}", again.err());
            prop_assert_eq!(first.to_bytes(), again.unwrap().to_bytes());
        }
    }
}

/// Messages we refuse although another well-tested parser takes them: only those whose fault is
/// beyond what that parser checks.
#[test]
fn agrees_with_another_parser_on_the_corpus() {
    let limits = sipx_sip::Limits::datagram();
    let mut differ = Vec::new();
    for bytes in corpus() {
        let theirs = sipx_sip::parse_datagram(Bytes::from(bytes.clone()), &limits);
        let theirs = theirs.is_ok_and(|message| {
            sipx_sip::validate(&message)
                .iter()
                .all(sipx_sip::Finding::is_repairable)
        });
        let ours = parse(&bytes).is_ok();
        if theirs != ours {
            let call_id = String::from_utf8_lossy(&bytes).into_owned();
            let name = call_id.lines().next().unwrap_or("").to_owned();
            differ.push((ours, name));
        }
    }
    // We are stricter only where RFC 4475 says 400 and they leave it to the header's reader.
    assert!(differ.iter().all(|(ours, _)| !ours), "{differ:#?}");
}
