//! The interface over real HTTP and WebSocket, on a cluster of one node.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use futures_util::StreamExt;
use serde_json::{Value, json};
use strowger_cluster::{Cluster, ClusterConfig};
use strowger_core::ids::NodeId;
use strowger_core::ports::Proposer;
use strowger_core::state::command::Command;
use strowger_core::state::machine::encode_command;
use strowger_core::state::{ExchangeMachine, SharedState, Wake, WakeSink};
use strowger_node::api::{Gauges, Office, TlsFiles};
use strowger_node::blobs::Blobs;
use strowger_node::config::NodeConfig;
use strowger_node::founding;
use strowger_node::peer::PeerService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

struct Deaf;

impl WakeSink for Deaf {
    fn wake(&mut self, _wakes: Vec<Wake>) {}
}

struct Still;

impl Gauges for Still {
    fn serves_sip(&self) -> bool {
        true
    }

    fn rtp_ports_in_use(&self) -> u64 {
        0
    }

    fn call_actors(&self) -> u64 {
        0
    }

    fn sip_messages(&self) -> (u64, u64) {
        (0, 0)
    }

    fn dropped(&self) -> Vec<(&'static str, &'static str, u64)> {
        Vec::new()
    }
}

struct Bench {
    address: SocketAddr,
    token: String,
    office: Arc<Office>,
    _folder: tempfile::TempDir,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let (api, cluster_port) = (free_port(), free_port());
    let text = format!(
        "[node]\nid = 1\n[listen]\naddress = \"127.0.0.1\"\napi = {api}\ncluster = {cluster_port}\n"
    );
    let config = NodeConfig::parse(&folder.path().join("node.toml"), &text, std::iter::empty());
    let config = config.expect("valid");
    founding::init(&config, "bench").expect("founded");
    let (identity, vault) = founding::load(&config).expect("loaded");
    let token = vault.admin_token().to_owned();
    let state = SharedState::default();
    let machine = ExchangeMachine::new(state.clone(), Box::new(Deaf));
    let settings = ClusterConfig::new(&config.data, founding::cluster_address(&config));
    let cluster = tokio::task::spawn_blocking(move || Cluster::open(settings, machine));
    let cluster = cluster.await.expect("no panic").expect("opened");
    let blobs = Blobs::new(&config.data);
    cluster.set_handler(PeerService::new(&cluster, Arc::clone(&blobs)));
    let up = Command::NodeUp {
        node: NodeId(1),
        incarnation: cluster.incarnation(),
        address: config.listen.address,
        version: "test".to_owned(),
        level: strowger_core::state::FEATURE_LEVEL,
    };
    cluster
        .propose(encode_command(&up), Duration::from_secs(10))
        .await;
    let office = Office::new(cluster, state, Arc::new(vault), blobs, Arc::new(Still));
    let (certificate, key) = identity.tls_identity();
    let tls = TlsFiles {
        certificate,
        key,
        authority: identity.authority_certificate(),
    };
    let address = SocketAddr::new(config.listen.address, api);
    office.serve(address, tls).await.expect("listening");
    Bench {
        address,
        token,
        office,
        _folder: folder,
    }
}

impl Bench {
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value, String) {
        self.ask_as(Some(&self.token), method, path, body).await
    }

    async fn ask_as(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value, String) {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        if let Some(token) = token {
            write!(head, "Authorization: Bearer {token}\r\n").expect("a string");
        }
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream
            .write_all(format!("{head}\r\n{body}").as_bytes())
            .await
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let value = serde_json::from_str(body).unwrap_or(Value::Null);
        (status.expect("a status"), value, answer)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, value, text) = self.ask("GET", path, None).await;
        assert_eq!(status, 200, "{text}");
        value
    }

    async fn events(&self, from: &str) -> Reader {
        let url = format!("ws://{}/v1/events?from={from}", self.address);
        let mut request = url.into_client_request().expect("a request");
        let value = format!("Bearer {}", self.token).parse().expect("a header");
        request.headers_mut().insert("authorization", value);
        Reader(
            tokio_tungstenite::connect_async(request)
                .await
                .expect("upgraded")
                .0,
        )
    }
}

struct Reader(tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>);

impl Reader {
    async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(Duration::from_secs(5), self.0.next()).await;
        next.expect("in time").expect("open").expect("a message")
    }

    async fn event(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("an event was awaited, not {other:?}"),
        }
    }

    /// Reads events until one is of this type.
    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.event().await;
            if event.get("type").and_then(Value::as_str) == Some(kind) {
                return event;
            }
        }
    }
}

const SITE: &str = r#"[cluster]
service_addresses = ["127.0.0.1"]
[tenant]
name = "demo"
domain = "demo.invalid"
digest = ["MD5"]
[[extension]]
range = "1001-1003"
[[queue]]
name = "main"
[[number]]
number = "4008"
target = "queue:main"
[[agent]]
id = "a1"
extension = "1001"
queues = ["main"]
"#;

fn upload(text: &str, files: &[(&str, &[u8])], dry_run: bool) -> Value {
    let base64 = base64::engine::general_purpose::STANDARD;
    let files: BTreeMap<_, _> = files
        .iter()
        .map(|(name, bytes)| (*name, base64.encode(bytes)))
        .collect();
    json!({ "file": "site.toml", "text": text, "attachments": files, "dry_run": dry_run })
}

fn text_at<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_health_and_metrics_are_open() {
    let bench = bench().await;
    for path in ["/health/live", "/health/ready", "/metrics"] {
        assert_eq!(bench.ask_as(None, "GET", path, None).await.0, 200, "{path}");
    }
    for path in ["/v1/nodes", "/v1/events", "/v1/openapi.json", "/v1/site"] {
        let (status, body, text) = bench.ask_as(None, "GET", path, None).await;
        assert_eq!(
            (status, text_at(&body, "/error/code")),
            (401, "SW0601"),
            "{text}"
        );
        let (status, ..) = bench.ask_as(Some("wrong"), "GET", path, None).await;
        assert_eq!(status, 401);
    }
    assert!(
        bench
            .get("/v1/openapi.json")
            .await
            .pointer("/paths/~1v1~1nodes")
            .is_some()
    );
    let (status, body, _) = bench.ask("GET", "/v1/nothing", None).await;
    assert_eq!((status, text_at(&body, "/error/code")), (404, "SW0602"));
    assert_eq!(bench.ask("DELETE", "/v1/nodes", None).await.0, 405);
    let nodes = bench.get("/v1/nodes").await;
    assert_eq!(text_at(&nodes, "/0/id"), "node_1");
    assert_eq!(text_at(&nodes, "/0/role"), "leader");
    assert_eq!(text_at(&nodes, "/0/state"), "up");
    bench.office.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_checked_shown_applied_and_rolled_back() {
    let bench = bench().await;
    let wrong = SITE.replace("domain", "domian");
    let (status, body, _) = bench
        .ask("POST", "/v1/site", Some(&upload(&wrong, &[], false)))
        .await;
    assert_eq!((status, text_at(&body, "/error/code")), (422, "SW0203"));
    assert_eq!(text_at(&body, "/error/where"), "site.toml:3");

    let (status, dry, _) = bench
        .ask("POST", "/v1/site", Some(&upload(SITE, &[], true)))
        .await;
    assert_eq!((status, dry.pointer("/version")), (200, Some(&json!(0))));
    assert_eq!(
        bench.ask("GET", "/v1/site", None).await.0,
        404,
        "a dry run applies nothing"
    );

    let (status, done, text) = bench
        .ask("POST", "/v1/site", Some(&upload(SITE, &[], false)))
        .await;
    assert_eq!(
        (status, done.pointer("/version")),
        (200, Some(&json!(1))),
        "{text}"
    );
    assert_eq!(
        done.pointer("/generated")
            .and_then(Value::as_array)
            .map(Vec::len),
        Some(3)
    );
    let (_, again, _) = bench
        .ask("POST", "/v1/site", Some(&upload(SITE, &[], false)))
        .await;
    assert_eq!(
        again.pointer("/version"),
        Some(&json!(1)),
        "nothing changed, no new version"
    );

    let changed = SITE.replace(
        "[[queue]]\nname = \"main\"",
        "[[queue]]\nname = \"main\"\nring_s = 20",
    );
    let (_, second, _) = bench
        .ask("POST", "/v1/site", Some(&upload(&changed, &[], false)))
        .await;
    assert_eq!(
        second.pointer("/diff"),
        Some(&json!(["~ queue main: ring_s 15 → 20"]))
    );
    assert_eq!(
        second.pointer("/generated"),
        Some(&json!([])),
        "secrets stay"
    );
    let back = json!({ "version": 1 });
    let (_, third, _) = bench.ask("POST", "/v1/site/rollback", Some(&back)).await;
    assert_eq!(third.pointer("/version"), Some(&json!(3)));
    let history = bench.get("/v1/site/history").await;
    assert_eq!(history.as_array().map(Vec::len), Some(3));
    assert_eq!(history.pointer("/0/current"), Some(&json!(true)));
    assert_eq!(text_at(&bench.get("/v1/site").await, "/text"), SITE);
    assert_eq!(
        bench.get("/v1/extensions").await.as_array().map(Vec::len),
        Some(3)
    );
    let figures = bench.get("/v1/figures").await;
    assert_eq!(figures.pointer("/0/offered"), Some(&json!(0)));
    assert_eq!(figures.pointer("/0/sl_formula"), Some(&json!("SL-C")));
    assert_eq!(figures.pointer("/0/sl_permille"), Some(&json!(null)));
    let tenants = bench.get("/v1/figures?of=tenant").await;
    assert_eq!(tenants.pointer("/0/of"), Some(&json!("tenant")));
    for (path, status) in [
        ("/v1/figures?of=queue&name=nowhere", 404),
        ("/v1/figures?of=nothing", 400),
        ("/v1/figures/intervals?of=queue&name=nowhere", 404),
        (
            "/v1/figures/intervals?by=day&from=2026-11-22&to=2026-11-23",
            200,
        ),
        ("/v1/figures/intervals?by=month&of=agent", 200),
        ("/v1/figures/intervals?from=yesterday", 400),
    ] {
        let (found, body, _) = bench.ask("GET", path, None).await;
        assert_eq!(found, status, "{path}: {body}");
    }
    bench.office.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_have_outcomes_and_events_can_be_resumed() {
    let bench = bench().await;
    bench
        .ask("POST", "/v1/site", Some(&upload(SITE, &[], false)))
        .await;
    let sign_in = json!({ "id": "c1", "type": "agent_sign_in", "agent": "a1", "extension": null });
    let (status, done, text) = bench.ask("POST", "/v1/commands", Some(&sign_in)).await;
    assert_eq!(
        (status, text_at(&done, "/outcome")),
        (200, "done"),
        "{text}"
    );
    assert_eq!(
        text_at(&bench.get("/v1/agents/a1").await, "/state"),
        "no_phone"
    );

    let unknown = json!({ "id": "c2", "type": "agent_ready", "agent": "nobody" });
    let (status, body, _) = bench.ask("POST", "/v1/commands", Some(&unknown)).await;
    assert_eq!((status, text_at(&body, "/error/code")), (404, "SW0602"));
    let (status, body, _) = bench
        .ask("POST", "/v1/commands", Some(&json!({ "id": "c" })))
        .await;
    assert_eq!((status, text_at(&body, "/error/code")), (400, "SW0603"));
    let remove = json!({ "id": "c3", "type": "node_remove", "node": "1" });
    let (status, body, _) = bench.ask("POST", "/v1/commands", Some(&remove)).await;
    assert_eq!((status, text_at(&body, "/error/code")), (409, "SW0604"));

    let mut all = bench.events("0").await;
    let applied = all.until("site.applied").await;
    let cursor = text_at(&applied, "/cursor").to_owned();
    let outcome = all.until("command.outcome").await;
    assert_eq!(text_at(&outcome, "/entity"), "c1");
    let mut rest = bench.events(&cursor).await;
    let first = rest.event().await;
    assert_ne!(
        text_at(&first, "/cursor"),
        cursor,
        "what was seen does not come again"
    );
    assert_ne!(text_at(&first, "/type"), "site.applied");

    let mut now = bench.events("now").await;
    let sign_out = json!({ "id": "c4", "type": "agent_sign_out", "agent": "a1" });
    bench.ask("POST", "/v1/commands", Some(&sign_out)).await;
    assert_eq!(
        text_at(&now.until("command.outcome").await, "/entity"),
        "c4"
    );

    let mut old = bench.events("0.7").await;
    assert_eq!(text_at(&old.event().await, "/error/code"), "SW0607");
    match old.next().await {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 4000),
        other => panic!("a close frame was awaited, not {other:?}"),
    }
    bench.office.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_are_shown_for_now_and_a_day_and_opened_by_hand() {
    let bench = bench().await;
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let week = days
        .map(|day| format!("{day} = \"00:00-24:00\"\n"))
        .concat();
    let text = format!(
        "{SITE}[[hours]]\nname = \"office\"\ntimezone = \"Europe/Berlin\"\n{week}\
         [[holiday]]\nhours = \"office\"\ndate = \"2027-01-01\"\nopen = \"\"\n"
    );
    let (status, _, said) = bench
        .ask("POST", "/v1/site", Some(&upload(&text, &[], false)))
        .await;
    assert_eq!(status, 200, "{said}");
    let now = bench.get("/v1/hours").await;
    assert_eq!(text_at(&now, "/0/name"), "office");
    assert_eq!(text_at(&now, "/0/state"), "open");
    assert_eq!(now.pointer("/0/overridden_until_at"), Some(&Value::Null));

    let by_hand = |open: Value, for_s: Value| {
        json!({ "id": "h", "type": "hours_override", "hours": "office",
            "open": open, "for_s": for_s })
    };
    let close = by_hand(json!(false), json!(3_600));
    assert_eq!(bench.ask("POST", "/v1/commands", Some(&close)).await.0, 200);
    let now = bench.get("/v1/hours/office").await;
    assert_eq!(text_at(&now, "/state"), "closed");
    let (until, next) = (
        text_at(&now, "/overridden_until_at").to_owned(),
        text_at(&now, "/next_change_at").to_owned(),
    );
    assert_eq!(until, next, "it opens when that is over");
    let soon = by_hand(json!(false), json!(1));
    assert_eq!(bench.ask("POST", "/v1/commands", Some(&soon)).await.0, 200);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let now = bench.get("/v1/hours/office").await;
    assert_eq!(text_at(&now, "/state"), "open", "it has expired by itself");
    let endless = by_hand(json!(true), Value::Null);
    let (status, body, _) = bench.ask("POST", "/v1/commands", Some(&endless)).await;
    assert_eq!((status, text_at(&body, "/error/code")), (400, "SW0603"));

    let day = bench.get("/v1/hours/office/days/2027-01-01").await;
    assert_eq!(day.pointer("/holiday"), Some(&json!(true)));
    assert_eq!(day.pointer("/spans"), Some(&json!([])));
    let day = bench.get("/v1/hours/office/days/2027-03-28").await;
    assert_eq!(day.pointer("/spans"), Some(&json!(["00:00-24:00"])));
    let times = json!([{ "from_at": "2027-03-27T23:00:00.000Z",
        "to_at": "2027-03-28T22:00:00.000Z" }]);
    assert_eq!(day.pointer("/times"), Some(&times));
    for (path, status) in [
        ("/v1/hours/office/days/tomorrow", 400),
        ("/v1/hours/other/days/2027-01-01", 404),
        ("/v1/hours/other", 404),
    ] {
        assert_eq!(bench.ask("GET", path, None).await.0, status, "{path}");
    }
    bench.office.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_known_secrets_are_applied_in_ten_seconds() {
    let bench = bench().await;
    let mut csv = String::from("extension,password\n");
    for n in 0..10_000 {
        writeln!(csv, "{},secret-{n}", 20_000 + n).expect("a string");
    }
    let text = format!("{SITE}[[extension]]\nfile = \"users.csv\"\n");
    let body = upload(&text, &[("users.csv", csv.as_bytes())], false);
    let begun = Instant::now();
    let (status, done, text) = bench.ask("POST", "/v1/site", Some(&body)).await;
    assert_eq!(
        (status, done.pointer("/version")),
        (200, Some(&json!(1))),
        "{text}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "took {:?}",
        begun.elapsed()
    );
    assert_eq!(
        bench.get("/v1/extensions").await.as_array().map(Vec::len),
        Some(10_003)
    );
    bench.office.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_are_imported_and_stay_when_a_site_is_applied() {
    let bench = bench().await;
    let import = |text: &str, replace: bool, dry_run: bool| json!({ "file": "u.csv", "text": text, "replace": replace, "dry_run": dry_run });
    let path = "/v1/extensions/import";
    let few = "extension,password\n5001,a\n1001,b\n";
    let (status, ..) = bench
        .ask("POST", path, Some(&import(few, false, false)))
        .await;
    assert_eq!(status, 404, "into no site");
    let (status, ..) = bench
        .ask("POST", "/v1/site", Some(&upload(SITE, &[], false)))
        .await;
    assert_eq!(status, 200);
    let bad = "extension,password\n5001,a\n4008,b\n";
    let (status, body, _) = bench
        .ask("POST", path, Some(&import(bad, false, false)))
        .await;
    assert_eq!((status, text_at(&body, "/error/code")), (422, "SW0209"));
    assert_eq!(text_at(&body, "/error/where"), "u.csv:3");
    let (status, body, _) = bench.ask("POST", path, Some(&json!({ "file": "x" }))).await;
    assert_eq!((status, text_at(&body, "/error/code")), (400, "SW0603"));

    let counts = |body: &Value| {
        ["version", "added", "updated", "unchanged", "removed"]
            .map(|name| body.get(name).and_then(Value::as_u64).unwrap_or(99))
    };
    let (_, dry, _) = bench
        .ask("POST", path, Some(&import(few, false, true)))
        .await;
    assert_eq!(counts(&dry), [1, 1, 1, 0, 0]);
    let (_, done, text) = bench
        .ask("POST", path, Some(&import(few, false, false)))
        .await;
    assert_eq!(counts(&done), [2, 1, 1, 0, 0], "{text}");
    let (_, again, _) = bench
        .ask("POST", path, Some(&import(few, false, false)))
        .await;
    assert_eq!(
        counts(&again),
        [2, 0, 0, 2, 0],
        "nothing new, no new version"
    );
    assert_eq!(text_at(&bench.get("/v1/site").await, "/text"), SITE);

    let changed = SITE.replace("extension = \"1001\"", "extension = \"5001\"");
    let (status, applied, text) = bench
        .ask("POST", "/v1/site", Some(&upload(&changed, &[], false)))
        .await;
    assert_eq!(
        status, 200,
        "an agent may work at an imported extension: {text}"
    );
    assert_eq!(
        applied.pointer("/generated"),
        Some(&json!([])),
        "secrets stay"
    );
    let kept = bench.get("/v1/extensions/5001").await;
    assert_eq!(kept.get("imported"), Some(&json!(true)));
    let (_, back, text) = bench
        .ask("POST", "/v1/site/rollback", Some(&json!({ "version": 1 })))
        .await;
    assert_eq!(back.pointer("/version"), Some(&json!(4)), "{text}");
    assert_eq!(back.pointer("/generated"), Some(&json!([])));
    bench.get("/v1/extensions/5001").await;
    let other = import("extension,password\n5002,a\n", true, false);
    let (_, replaced, _) = bench.ask("POST", path, Some(&other)).await;
    assert_eq!(counts(&replaced), [5, 1, 0, 0, 1]);
    assert_eq!(bench.ask("GET", "/v1/extensions/5001", None).await.0, 404);
    bench.office.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_extensions_are_imported_in_ten_seconds() {
    let bench = bench().await;
    bench
        .ask("POST", "/v1/site", Some(&upload(SITE, &[], false)))
        .await;
    let mut csv = String::from("extension,password\n");
    for n in 0..10_000 {
        writeln!(csv, "{},secret-{n}", 20_000 + n).expect("a string");
    }
    let body = json!({ "file": "u.csv", "text": csv });
    let begun = Instant::now();
    let (status, done, text) = bench
        .ask("POST", "/v1/extensions/import", Some(&body))
        .await;
    assert_eq!(
        (status, done.get("added")),
        (200, Some(&json!(10_000))),
        "{text}"
    );
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "took {took:?}");
    println!("10,000 extensions imported in {took:?}");
    bench.office.stop.cancel();
}
