//! The names outsiders rely on: verbs, files, objects, metrics. A change here is a change
//! of the interface and needs to be announced.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};
use strowger_tests::cluster::Cluster;
use strowger_tests::phone::{Phone, Policy};
use strowger_tests::poll::eventually;
use strowger_tests::programs::{run, strowger, strowgerd};

const SOON: Duration = Duration::from_secs(10);

/// The objects of the interface, field by field.
const OBJECTS: &[(&str, &str)] = &[
    (
        "nodes",
        "id address state role term applied lag calls version state_hash service_addresses",
    ),
    (
        "registrations",
        "extension contact transport node expires_at",
    ),
    ("agents", "id extension state since_at call queues"),
    (
        "calls",
        "id state from to queue agent position node epoch legs",
    ),
    (
        "queues",
        "name waiting longest_wait_ms agents_ready agents_signed_in",
    ),
    (
        "cdrs",
        "id cursor call from to started_at queued_at answered_at ended_at wait_ms talk_ms \
              queue agent node disposition sip_status q850 legs",
    ),
];
const LEG: &str = "id sip_call_id direction remote codec state";
const FIGURES: &str = "offered answered abandoned overflowed callback_taken node_lost waiting";

fn missing(object: &Value, fields: &str) -> Vec<String> {
    let own: BTreeSet<&str> = object
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    fields
        .split_whitespace()
        .filter(|field| !own.contains(field))
        .map(str::to_owned)
        .collect()
}

#[test]
fn verbs_are_named_as_promised() {
    let (code, out, _) = run(strowgerd().arg("--help"));
    assert_eq!(code, 0);
    for verb in ["init", "join", "run", "demo"] {
        assert!(
            out.contains(verb),
            "strowgerd {verb} is not in its help:\n{out}"
        );
    }
    let verbs: &[(&str, &[&str])] = &[
        ("cluster", &["show"]),
        (
            "node",
            &["list", "show", "invite", "drain", "undrain", "remove"],
        ),
        ("site", &["apply", "show", "history", "rollback"]),
        ("extension", &["list", "show", "import"]),
        ("registration", &["list"]),
        (
            "agent",
            &["list", "show", "sign-in", "sign-out", "pause", "ready"],
        ),
        ("queue", &["list", "show"]),
        ("call", &["list", "show", "hangup"]),
        ("hours", &["list", "show", "open", "close", "follow"]),
        ("customer", &["import", "list", "show", "edit"]),
        ("cdr", &["list"]),
    ];
    for (noun, actions) in verbs {
        let (code, out, err) = run(strowger().args([noun, "--help"]));
        assert_eq!(code, 0, "strowger {noun}: {err}");
        for action in *actions {
            assert!(
                out.contains(action),
                "strowger {noun} {action} is not in its help:\n{out}"
            );
        }
    }
    for verb in ["figures", "events", "console"] {
        assert_eq!(
            run(strowger().args([verb, "--help"])).0,
            0,
            "strowger {verb}"
        );
    }
    assert_eq!(run(strowger().arg("--no-such-flag")).0, 2);
    let dead = ["--api", "http://127.0.0.99:9", "node", "list"];
    assert_eq!(
        run(strowger().args(dead)).0,
        4,
        "nobody answers: unreachable"
    );
    let (_, out, err) = run(strowger().args(["--output", "json"]).args(dead));
    let error: Value = serde_json::from_str(err.trim())
        .or_else(|_| serde_json::from_str(out.trim()))
        .unwrap_or_else(|_| panic!("errors are JSON under --output json: {out}{err}"));
    assert_eq!(
        missing(&error["error"], "code what where next"),
        Vec::<String>::new()
    );
}

#[test]
fn files_objects_and_metrics_are_named_as_promised() {
    let cluster = Cluster::start("basic.toml");
    let dir = cluster.dir();
    for name in [
        "phones.csv",
        "admin.token",
        "site.toml",
        "n1/node.toml",
        "n2/pid",
        "n3/data",
        "n1/log/strowgerd.log",
    ] {
        assert!(
            dir.join(name).exists(),
            "{name} is not in the demo's folder"
        );
    }
    let phones = std::fs::metadata(dir.join("phones.csv")).expect("checked above");
    assert_eq!(
        phones.permissions().mode() & 0o777,
        0o600,
        "secrets are for the owner only"
    );
    let text = std::fs::read_to_string(dir.join("phones.csv")).expect("checked above");
    assert_eq!(text.lines().next(), Some("extension,password"));
    assert!(cluster.log(1).len() > 1, "logs are JSON lines");

    let address = "127.0.0.65".parse().expect("an address");
    let a = Phone::new(address, "1001", &cluster.password("1001"), 440);
    let b = Phone::new(address, "1002", &cluster.password("1002"), 620);
    assert_eq!(a.register(cluster.service(0), 60), Some(200));
    assert_eq!(b.register(cluster.service(1), 60), Some(200));
    b.set_policy(Policy::Answer {
        after: Duration::ZERO,
        talk: None,
    });
    let done = a.call(cluster.service(0), "1002");
    assert!(done.answered(SOON));
    done.hang_up();
    let call = a.call(cluster.service(0), "1002");
    assert!(call.answered(SOON));

    let api = cluster.api(3);
    for (name, fields) in OBJECTS {
        let row = eventually(SOON, &format!("there is one of {name}"), || {
            api.list(&format!("/v1/{name}"))?.first().cloned()
        });
        assert_eq!(
            missing(&row, fields),
            Vec::<String>::new(),
            "{name}: {row:#}"
        );
        for (field, value) in row.as_object().expect("an object") {
            let as_promised = match value {
                Value::Null => true,
                Value::String(text) if field.ends_with("_at") => {
                    text.ends_with('Z') && text.len() == "2026-01-01T00:00:00.000Z".len()
                }
                value if field.ends_with("_ms") => value.is_u64(),
                _ => true,
            };
            assert!(as_promised, "{name}.{field} is {value}");
        }
    }
    let calls = api.list("/v1/calls").expect("the node answers");
    assert_eq!(
        missing(&calls[0]["legs"][0], LEG),
        Vec::<String>::new(),
        "{:#}",
        calls[0]
    );
    let figures = api.get("/v1/figures").expect("the node answers").text;
    for field in FIGURES.split_whitespace() {
        assert!(
            figures.contains(&format!("\"{field}\"")),
            "figures have no {field}: {figures}"
        );
    }
    for (noun, action) in [
        ("node", "list"),
        ("registration", "list"),
        ("agent", "list"),
        ("queue", "list"),
        ("call", "list"),
        ("cdr", "list"),
        ("extension", "list"),
    ] {
        assert!(
            !cluster.command_list(&[noun, action]).is_empty(),
            "{noun} {action}"
        );
    }
    let (code, out, err) = cluster.command(&["--output", "csv", "registration", "list"]);
    assert!(
        code == 0 && out.lines().count() == 3,
        "a header and two phones: {out}{err}"
    );

    let metrics = api.get("/metrics").expect("the node answers").text;
    for name in [
        "strowger_queue_offered_total",
        "strowger_queue_waiting",
        "strowger_calls",
        "strowger_registrations",
        "strowger_raft_term",
        "strowger_raft_applied",
        "strowger_rtp_ports_in_use",
    ] {
        assert!(metrics.contains(name), "no {name} in /metrics");
    }
    let open = api.with_token("");
    assert_eq!(
        open.get("/health/ready").expect("the node answers").status,
        200
    );
    assert_eq!(open.get("/metrics").expect("the node answers").status, 200);
    assert_eq!(open.get("/v1/calls").expect("the node answers").status, 401);
    let described = api.get("/v1/openapi.json").expect("the node answers").json;
    assert!(
        described["paths"]["/v1/calls"].is_object(),
        "OpenAPI describes /v1/calls"
    );
    call.hang_up();
}

#[test]
fn events_are_resumed_from_a_cursor_and_commands_have_an_outcome() {
    let cluster = Cluster::start("basic.toml");
    let mut events = cluster.api(1).events("").expect("the stream opens");
    let phone = Phone::new(
        "127.0.0.66".parse().expect("an address"),
        "1001",
        &cluster.password("1001"),
        440,
    );
    assert_eq!(phone.register(cluster.service(0), 60), Some(200));
    let mut seen = Vec::new();
    eventually(SOON, "the registration is an event", || {
        while let Ok(Some(event)) = events.poll() {
            seen.push(event);
        }
        seen.iter()
            .any(|event| event.to_string().contains("1001"))
            .then_some(())
    });
    for event in &seen {
        assert_eq!(
            missing(event, "cursor at type entity"),
            Vec::<String>::new(),
            "{event:#}"
        );
    }
    let cursor = |event: &Value| event["cursor"].as_str().unwrap_or_default().to_owned();

    let id = "check-1";
    let command = json!({"id": id, "type": "agent_sign_in", "agent": "a1"});
    let answer = cluster
        .api(2)
        .post("/v1/commands", &command)
        .expect("the node answers");
    assert!((200..300).contains(&answer.status), "{answer:?}");
    // Resumed at another node, from the first event on: nothing is missing, nothing twice.
    let mut resumed = cluster
        .api(3)
        .events(&cursor(&seen[0]))
        .expect("the stream opens");
    let mut again = Vec::new();
    eventually(SOON, "the command has an outcome event", || {
        while let Ok(Some(event)) = resumed.poll() {
            again.push(event);
        }
        again
            .iter()
            .any(|event| event.to_string().contains(id))
            .then_some(())
    });
    let cursors: Vec<String> = again.iter().map(cursor).collect();
    let distinct: BTreeSet<&String> = cursors.iter().collect();
    assert_eq!(distinct.len(), cursors.len(), "no event twice");
    for event in &seen[1..] {
        assert!(again.contains(event), "missing after resuming: {event:#}");
    }
}
