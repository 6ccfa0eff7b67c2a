//! Tables and claims about digest authentication.

use super::*;
use std::time::Duration;

const KEYS: NonceKeys = NonceKeys {
    current: [1; 32],
    previous: Some([2; 32]),
};

fn answer(keys: &NonceKeys, algorithm: Algorithm, password: &str, now: SystemTime) -> Answer {
    let challenge = Challenge {
        realm: "demo.invalid".to_owned(),
        algorithms: vec![algorithm],
    };
    let values = challenge.values(keys, now, false);
    let seen = ClientChallenge::parse(&values[0]).expect("our own challenge");
    let value = authorize(&seen, "1001", password, "REGISTER", "sip:demo.invalid");
    Answer::parse(&value).expect("our own answer")
}

fn verdict(verifier: &Verifier, answer: &Answer, now: SystemTime) -> Verdict {
    let secret = ha1(answer.algorithm, "1001", "demo.invalid", "secret");
    verifier.verify(answer, "REGISTER", &secret, &KEYS, now)
}

#[test]
fn the_example_of_rfc_7616_section_3_9_1() {
    for (algorithm, response) in [
        (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
        (
            Algorithm::Sha256,
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ] {
        let answer = Answer {
            user: "Mufasa".to_owned(),
            realm: "http-auth@example.org".to_owned(),
            algorithm,
            nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v".to_owned(),
            uri: "/dir/index.html".to_owned(),
            response: String::new(),
            qop: Some("auth".to_owned()),
            nc: "00000001".to_owned(),
            cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ".to_owned(),
        };
        let secret = ha1(
            algorithm,
            "Mufasa",
            "http-auth@example.org",
            "Circle of Life",
        );
        assert_eq!(response_hash(&answer, "GET", &secret), response);
    }
}

#[test]
fn good_and_bad_passwords_with_both_algorithms() {
    let now = SystemTime::now();
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let verifier = Verifier::new();
        let good = answer(&KEYS, algorithm, "secret", now);
        assert_eq!(verdict(&verifier, &good, now), Verdict::Good);
        let bad = answer(&KEYS, algorithm, "guess", now);
        assert_eq!(verdict(&verifier, &bad, now), Verdict::Bad);
    }
}

#[test]
fn an_answer_sent_twice_or_late_or_for_a_foreign_nonce_is_stale() {
    let now = SystemTime::now();
    let verifier = Verifier::new();
    let first = answer(&KEYS, Algorithm::Md5, "secret", now);
    assert_eq!(verdict(&verifier, &first, now), Verdict::Good);
    assert_eq!(verdict(&verifier, &first, now), Verdict::Stale);
    let old = answer(&KEYS, Algorithm::Md5, "secret", now);
    let late = now + limits::NONCE_AGE_MAX + Duration::from_secs(1);
    assert_eq!(verdict(&verifier, &old, late), Verdict::Stale);
    let foreign = NonceKeys {
        current: [9; 32],
        previous: None,
    };
    let foreign = answer(&foreign, Algorithm::Md5, "secret", now);
    assert_eq!(verdict(&verifier, &foreign, now), Verdict::Stale);
}

#[test]
fn the_previous_key_still_verifies() {
    let now = SystemTime::now();
    let before = NonceKeys {
        current: [2; 32],
        previous: None,
    };
    let answer = answer(&before, Algorithm::Sha256, "secret", now);
    assert_eq!(verdict(&Verifier::new(), &answer, now), Verdict::Good);
}

const NONCE: Stamp = Stamp {
    made_s: 0,
    chance: 0,
};

#[test]
fn counts_may_come_out_of_order_but_not_twice() {
    let mut used = Used::default();
    for (nc, fresh) in [
        ("00000001", true),
        ("00000003", true),
        ("00000002", true),
        ("00000002", false),
        ("00000100", true),
        ("00000003", false),
        ("x", false),
    ] {
        assert_eq!(used.take(NONCE, nc, 0), fresh, "{nc}");
    }
}

#[test]
fn the_memory_of_nonces_is_bounded() {
    let mut used = Used::default();
    for chance in 0..limits::NONCES_MAX as u32 + 10 {
        assert!(used.take(Stamp { chance, ..NONCE }, "1", 0));
    }
    assert_eq!(used.counts.len(), limits::NONCES_MAX);
    assert_eq!(used.order.len(), limits::NONCES_MAX);
}

#[test]
fn a_nonce_is_forgotten_once_it_is_too_old_to_be_taken() {
    let mut used = Used::default();
    let age = limits::NONCE_AGE_MAX.as_secs();
    for made_s in 0..10 * age {
        assert!(used.take(Stamp { made_s, chance: 0 }, "1", made_s));
        assert!(used.order.len() as u64 <= age + 1, "at {made_s} s");
        assert_eq!(used.counts.len(), used.order.len());
    }
    let oldest = Stamp {
        made_s: 9 * age,
        chance: 0,
    };
    assert!(
        !used.take(oldest, "1", 10 * age - 1),
        "it may still be used"
    );
}

#[test]
fn other_schemes_and_broken_values_are_not_answers() {
    for value in [
        "",
        "Digest",
        "Basic dXNlcjpwYXNz",
        "Digest username=\"a\"",
        "NoOneKnowsThisScheme opaque-data=here",
        "Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"u\", response=\"x\", \
         algorithm=SHA-512-256",
    ] {
        assert_eq!(Answer::parse(value), None, "{value}");
    }
}

#[test]
fn the_uri_of_an_answer_names_what_the_request_names() {
    let ours = |host: &str| matches!(host, "demo.invalid" | "127.0.0.1" | "127.0.0.2");
    let named = |uri: &str, target: &str| {
        let value = format!(
            "Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"{uri}\", response=\"x\""
        );
        let target = Uri::parse(target).expect("a URI");
        Answer::parse(&value)
            .expect("an answer")
            .is_for(&target, ours)
    };
    for (uri, target) in [
        ("sip:4008@127.0.0.1", "sip:4008@127.0.0.1"),
        (
            "sip:4008@127.0.0.1:5060;transport=udp",
            "sip:4008@127.0.0.1",
        ),
        ("sips:%34008@DEMO.invalid", "sip:4008@demo.invalid"),
        ("sip:4008@demo.invalid", "sip:4008@127.0.0.2:5060"),
        ("sip:127.0.0.1:5060", "sip:4008@127.0.0.1:5060"),
        ("sip:demo.invalid", "sip:demo.invalid"),
        ("tel:+44", "tel:+44"),
    ] {
        assert!(named(uri, target), "{uri} for {target}");
    }
    for (uri, target) in [
        ("sip:4009@127.0.0.1", "sip:4008@127.0.0.1"),
        ("sip:4008@elsewhere.example", "sip:4008@127.0.0.1"),
        ("sip:elsewhere.example", "sip:demo.invalid"),
        ("sip:1001@demo.invalid", "sip:demo.invalid"),
        ("/", "sip:4008@127.0.0.1"),
        ("", "sip:4008@127.0.0.1"),
        ("tel:+44", "sip:4008@127.0.0.1"),
    ] {
        assert!(!named(uri, target), "{uri} for {target}");
    }
}
