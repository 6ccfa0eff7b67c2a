//! The program as scripts meet it: exit codes, streams and forms, against a tiny node
//! that answers from a table.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

type Answers = BTreeMap<&'static str, (u16, &'static str)>;

/// A node that answers each `METHOD path` from a table and remembers what it was asked.
struct TinyNode {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TinyNode {
    fn start(answers: &[(&'static str, u16, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let answers: Answers = answers
            .iter()
            .map(|(request, status, body)| (*request, (*status, *body)))
            .collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&asked);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (answers, book) = (answers.clone(), Arc::clone(&book));
                std::thread::spawn(move || serve(socket, &answers, &book));
            }
        });
        Self { url, asked }
    }

    fn run(&self, words: &[&str]) -> Output {
        run(&self.url, words)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

fn serve(socket: TcpStream, answers: &Answers, book: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(socket);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => break,
                Ok(_) => head.push(line.trim().to_owned()),
            }
        }
        let header = |name: &str| {
            head.iter().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found
                    .eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let body = if header("transfer-encoding").is_some() {
            read_chunks(&mut reader)
        } else {
            let length = header("content-length")
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body follows");
            body
        };
        let request = head[0].trim_end_matches(" HTTP/1.1").to_owned();
        let token = header("authorization").unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        book.lock()
            .expect("nobody panicked")
            .push(format!("{request} {token} {body}"));
        let (status, answer) = answers.get(request.as_str()).copied().unwrap_or((404, ""));
        let length = answer.len();
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{answer}");
        if reader.get_mut().write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_chunks(reader: &mut impl BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a chunk follows");
        let length = usize::from_str_radix(line.trim(), 16).expect("a chunk length");
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).expect("the chunk follows");
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

fn run(api: &str, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strowger"))
        .env_remove("STROWGER_TOKEN_FILE")
        .env_remove("STROWGER_CA_FILE")
        .env("STROWGER_API", api)
        .args(words)
        .output()
        .expect("the program runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// A URL nobody listens at.
fn dead_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
    format!("http://{}", listener.local_addr().expect("a bound address"))
}

const AGENTS: &str = r#"[{"id":"a1","extension":"1001","state":"ready","reason":null,
    "since_at":"2026-11-22T01:00:00.000Z","calls":3,"call":null,"queues":["main","東京"]}]"#;
const DRAINED: &str = r#"{"id":"node_2","address":"127.0.0.2","state":"draining","role":"voter",
    "term":1,"applied":7,"lag":0,"calls":0,"version":"0.1.0","state_hash":"aa",
    "service_addresses":[]}"#;
const DRAINING: &str = r#"{"id":"node_2","address":"127.0.0.2","state":"draining","role":"voter",
    "term":1,"applied":7,"lag":0,"calls":34,"version":"0.1.0","state_hash":"aa",
    "service_addresses":["127.0.0.2"]}"#;
const REFUSED: &str = r#"{"error":{"code":"SW0310","what":"agent a1 is not signed in",
    "where":"agent a1","next":"sign the agent in"}}"#;

#[test]
fn a_list_in_each_form() {
    let node = TinyNode::start(&[("GET /v1/agents", 200, AGENTS)]);
    let table = node.run(&["agent", "list"]);
    assert_eq!(
        stdout(&table),
        "AGENT  EXTENSION  STATE  REASON  SINCE                 CALLS  CALL  QUEUES\n\
         a1     1001       ready  -       2026-11-22 01:00:00Z      3  -     main 東京\n"
    );
    let json = node.run(&["agent", "list", "--output", "json"]);
    let sent: serde_json::Value = serde_json::from_str(AGENTS).expect("JSON");
    let came: serde_json::Value = serde_json::from_str(&stdout(&json)).expect("JSON");
    assert_eq!(came, sent);
    let csv = node.run(&["--output", "csv", "agent", "list"]);
    assert_eq!(
        stdout(&csv),
        "id,extension,state,reason,since_at,calls,call,queues\n\
         a1,1001,ready,,2026-11-22T01:00:00.000Z,3,,main 東京\n"
    );
    for output in [table, json, csv] {
        assert_eq!((code(&output), stderr(&output)), (0, String::new()));
    }
}

#[test]
fn each_outcome_has_its_exit_code() {
    let node = TinyNode::start(&[
        ("GET /v1/agents", 200, "[]"),
        ("POST /v1/commands", 409, REFUSED),
        ("GET /v1/queues", 401, ""),
        ("GET /v1/trunks", 503, ""),
        ("GET /v1/calls", 200, "<html>"),
    ]);
    for (words, expected, text) in [
        (&["agent", "list"][..], 0, ""),
        (
            &["agent", "pause", "a1"],
            1,
            "SW0310 agent a1 is not signed in; agent a1; sign the",
        ),
        (&["queue", "list"], 1, "SW0911 "),
        (&["call", "list"], 1, "SW0907 "),
        (&["agent", "dance"], 2, "SW0901 "),
        (&["agent"], 2, "SW0901 "),
        (&["call", "show", "call_1"], 3, "SW0911 "),
        (&["trunk", "list"], 4, "SW0911 "),
        (&["site", "apply", "/no/such/site.toml"], 5, "SW0904 "),
        (
            &["--token-file", "/no/such/token", "agent", "list"],
            5,
            "SW0906 ",
        ),
        (
            &["--api", "http://192.0.2.1:80", "agent", "list"],
            2,
            "SW0910 ",
        ),
        (&["console"], 2, "SW0909 "),
    ] {
        let output = node.run(words);
        assert_eq!(code(&output), expected, "{words:?}: {}", stderr(&output));
        assert!(
            stderr(&output).starts_with(text),
            "{words:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).lines().count() <= 1,
            "{words:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn nobody_there_is_exit_code_4_in_the_form_asked_for() {
    let output = run(&dead_url(), &["node", "list"]);
    assert_eq!(code(&output), 4);
    assert!(stderr(&output).starts_with("SW0902 no node answers; http://127.0.0.1:"));
    let output = run(&dead_url(), &["node", "list", "--output", "json"]);
    assert_eq!((code(&output), stdout(&output)), (4, String::new()));
    let error: serde_json::Value = serde_json::from_str(&stderr(&output)).expect("JSON");
    assert_eq!(error["error"]["code"], "SW0902");
    for field in ["what", "where", "next"] {
        assert!(error["error"][field].is_string(), "{field}: {error}");
    }
    let output = run(&dead_url(), &["node", "dance", "--output", "json"]);
    assert_eq!(code(&output), 2);
    let error: serde_json::Value = serde_json::from_str(&stderr(&output)).expect("JSON");
    assert_eq!(error["error"]["code"], "SW0901");
}

#[test]
fn the_next_node_is_asked_when_one_is_dead() {
    let node = TinyNode::start(&[
        ("GET /v1/agents", 200, "[]"),
        ("POST /v1/commands", 200, "{}"),
    ]);
    let api = format!("{},{}", dead_url(), node.url);
    assert_eq!(code(&run(&api, &["agent", "list"])), 0);
    let output = run(&api, &["agent", "ready", "a1"]);
    assert_eq!((code(&output), stdout(&output)), (0, "done\n".to_owned()));
}

#[test]
fn commands_and_the_token_go_over_the_wire_as_agreed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n").expect("written");
    let token = token.to_str().expect("UTF-8");
    let node = TinyNode::start(&[("POST /v1/commands", 200, r#"{"id":"x","outcome":"done"}"#)]);
    for (words, fields) in [
        (
            &["agent", "sign-in", "a1", "--extension", "1002"][..],
            r#""type":"agent_sign_in","agent":"a1","extension":"1002"}"#,
        ),
        (
            &["agent", "pause", "a1", "--reason", "lunch"],
            r#""type":"agent_pause","agent":"a1","reason":"lunch"}"#,
        ),
        (
            &["call", "hangup", "call_1"],
            r#""type":"call_hangup","call":"call_1"}"#,
        ),
        (
            &["node", "undrain", "2"],
            r#""type":"node_undrain","node":"node_2"}"#,
        ),
    ] {
        let words = [&["--token-file", token], words].concat();
        assert_eq!(code(&node.run(&words)), 0);
        let asked = node.asked().pop().expect("it was asked");
        assert!(
            asked.starts_with("POST /v1/commands Bearer s3cret {\"id\":\"cmd_"),
            "{asked}"
        );
        assert!(asked.ends_with(fields), "{asked}");
    }
    let output = node.run(&["call", "hangup", "call_1", "-o", "json"]);
    let outcome: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(outcome["outcome"], "done");
}

#[test]
fn draining_waits_until_no_call_is_left_and_says_how_many_are() {
    let done = ("POST /v1/commands", 200, r#"{"id":"x","outcome":"done"}"#);
    let empty = TinyNode::start(&[done, ("GET /v1/nodes/node_2", 200, DRAINED)]);
    let output = empty.run(&["node", "drain", "2"]);
    assert_eq!((code(&output), stdout(&output)), (0, "done\n".to_owned()));
    assert_eq!(stderr(&output), "node_2 has 0 calls\n");
    let asked = empty.asked();
    assert!(
        asked[0].ends_with(r#""type":"node_drain","node":"node_2"}"#),
        "{asked:?}"
    );
    let output = empty.run(&["node", "drain", "2", "-o", "json"]);
    let outcome: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(outcome["outcome"], "done");
    assert_eq!(stderr(&output), "");

    let busy = TinyNode::start(&[done, ("GET /v1/nodes/node_2", 200, DRAINING)]);
    let output = busy.run(&["node", "drain", "2", "--within-s", "0"]);
    assert_eq!((code(&output), stdout(&output)), (4, String::new()));
    assert_eq!(
        stderr(&output),
        "node_2 has 34 calls\nSW0913 node_2 still has 34 calls and goes on draining; \
         wait and repeat the command; `strowger call list` shows which they are\n"
    );
}

#[test]
fn a_site_is_sent_with_its_files_and_the_change_is_shown() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let site = folder.path().join("site.toml");
    std::fs::write(&site, "[[queue]]\nname = \"main\"\nmusic = \"hold.wav\"\n").expect("written");
    let change = r#"{"version":4,"dry_run":false,"diff":["+ queue main"],"calls_affected":0,
        "agents_affected":2,"generated":[{"extension":"1001","password":"abc"}]}"#;
    let node = TinyNode::start(&[("POST /v1/site", 200, change)]);
    let words = ["site", "apply", site.to_str().expect("UTF-8")];
    let missing = node.run(&words);
    assert_eq!(code(&missing), 5);
    assert!(
        stderr(&missing).contains("site.toml:3"),
        "{}",
        stderr(&missing)
    );
    std::fs::write(folder.path().join("hold.wav"), "RIFF").expect("written");
    let applied = node.run(&words);
    assert_eq!(
        stdout(&applied),
        "+ queue main\nin force: version 4; 0 calls, 2 agents affected\n\n\
         passwords made, shown only now\nEXTENSION  PASSWORD\n1001       abc\n"
    );
    assert!(node.asked()[0].contains(r#""attachments":{"hold.wav":"UklGRg=="}"#));
    let wrong = r#"{"error":{"code":"SW0120","what":"unknown key rings","where":"site.toml:3",
        "next":"did you mean ring_s?"}}"#;
    let node = TinyNode::start(&[("POST /v1/site", 422, wrong)]);
    let refused = node.run(&words);
    assert_eq!(code(&refused), 5);
    assert_eq!(
        stderr(&refused),
        "SW0120 unknown key rings; site.toml:3; did you mean ring_s?\n"
    );
}

#[test]
fn doctor_says_what_is_wrong() {
    let cluster = r#"{"name":"t","id":"1","leader":"node_1","term":1,"applied":7,"nodes":1,
        "nodes_up":1,"feature_level":1,"service_addresses":[{"address":"127.0.0.1","node":"node_1",
        "epoch":1,"calls":0}]}"#;
    let nodes = r#"[{"id":"node_1","address":"127.0.0.1","state":"up","role":"leader","term":1,
        "applied":7,"lag":0,"calls":0,"version":"0.1.0","state_hash":"aa",
        "service_addresses":["127.0.0.1"]}]"#;
    let overview = r#"{"at":"2026-11-22T01:00:00.000Z","calls":0,"registrations":0,"waiting":0,
        "longest_wait_ms":0,"agents":{},"figures":[],"alarms":[]}"#;
    let fine = TinyNode::start(&[
        ("GET /v1/cluster", 200, cluster),
        ("GET /v1/nodes", 200, nodes),
        ("GET /v1/figures", 200, "[]"),
        ("GET /v1/overview", 200, overview),
    ]);
    let output = fine.run(&["doctor", "--output", "json"]);
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    let checks: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(checks.as_array().map(Vec::len), Some(10));
    let figures = r#"[{"tenant":"t","name":"main","queue":"main","offered":3,"answered":1,"abandoned":1,
        "overflowed":0,"callback_taken":0,"node_lost":0,"waiting":0,"answered_wait_ms":0,
        "talk_ms":0}]"#;
    let wrong = TinyNode::start(&[
        ("GET /v1/cluster", 200, cluster),
        ("GET /v1/nodes", 200, nodes),
        ("GET /v1/figures", 200, figures),
        ("GET /v1/overview", 200, overview),
    ]);
    let output = wrong.run(&["doctor"]);
    assert_eq!(code(&output), 1);
    assert!(
        stdout(&output).contains("t main: offered 3, sum 2"),
        "{}",
        stdout(&output)
    );
    assert!(
        stderr(&output).starts_with("SW0908 1 of 10 checks failed"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn help_offers_every_verb() {
    let output = run(&dead_url(), &["--help"]);
    assert_eq!(code(&output), 0);
    let help = stdout(&output);
    for verb in [
        "cluster",
        "node",
        "site",
        "extension",
        "registration",
        "agent",
        "queue",
        "call",
        "trunk",
        "customer",
        "cdr",
        "why",
        "figures",
        "events",
        "doctor",
        "console",
    ] {
        assert!(
            help.lines().any(|line| line.trim().starts_with(verb)),
            "{verb}: {help}"
        );
    }
}
