//! Golden output of each form.

use serde_json::{Value, json};

use super::*;

fn calls() -> Vec<Value> {
    vec![
        json!({"id": "call_00000007_0", "state": "bridged", "from": "1001", "to": "1002",
            "started_at": "2026-11-22T01:38:35.123Z", "queue": null, "agent": null,
            "position": null, "wait_ms": null, "node": "node_1", "address": "127.0.0.1",
            "epoch": 1, "legs": [{"id": "leg_1", "sip_call_id": "a@b", "direction": "in",
                "party": "1001", "remote": "sip:1001@127.0.0.9", "codec": "PCMA",
                "state": "answered", "answered_at": "2026-11-22T01:38:36.000Z"}]}),
        json!({"id": "call_00000012_0", "state": "queued", "from": "東京支店", "to": "4008",
            "started_at": "2026-11-22T01:39:00.000Z", "queue": "main", "agent": null,
            "position": 12, "wait_ms": 754_000, "node": "node_2", "address": "127.0.0.2",
            "epoch": 3, "legs": []}),
        json!({"id": "call_00000013_0", "state": "ringing", "from": "evil\u{1b}[2J\u{9b}1m",
            "to": "quote \" comma,", "started_at": "2026-11-22T01:39:01.000Z", "node": null,
            "added_later": true}),
    ]
}

#[test]
fn tables_align_wide_names_and_escape_controls() {
    insta::assert_snapshot!("calls_table", list(Output::Table, &shape::CALL, &calls()));
    insta::assert_snapshot!("calls_none", list(Output::Table, &shape::CALL, &[]));
}

#[test]
fn json_is_one_array_and_keeps_unknown_fields() {
    let text = list(Output::Json, &shape::CALL, &calls());
    let back: Value = serde_json::from_str(&text).expect("valid JSON");
    assert_eq!(back, Value::Array(calls()));
    assert!(
        !text.chars().any(|c| c.is_control() && c != '\n'),
        "{text:?}"
    );
    assert_eq!(list(Output::Json, &shape::CALL, &[]), "[]\n");
}

#[test]
fn csv_has_the_fields_of_the_interface() {
    insta::assert_snapshot!("calls_csv", list(Output::Csv, &shape::CALL, &calls()));
    insta::assert_snapshot!("calls_csv_none", list(Output::Csv, &shape::CALL, &[]));
}

#[test]
fn one_thing_shows_each_field_and_its_parts() {
    insta::assert_snapshot!("call_one", one(Output::Table, &shape::CALL, &calls()[0]));
    let node = json!({"id": "node_1", "state": "up", "service_addresses":
        ["127.0.0.1", "127.0.0.4"], "term": null});
    insta::assert_snapshot!("node_one", one(Output::Table, &shape::NODE, &node));
}
