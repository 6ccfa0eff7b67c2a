//! The console against two tiny nodes, one of which dies or falls silent.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;

use super::app::{App, Effect, Msg};
use super::feed;
use crate::client::Client;
use crate::endpoint::Access;
use crate::limits;

const AT: &str = "2026-11-22T01:00:00.000Z";

/// A node of its own runtime; dropping it closes all its sockets, as a kill does.
struct TinyNode {
    runtime: Option<Runtime>,
    url: String,
    silent: watch::Sender<bool>,
    events: watch::Sender<u64>,
}

impl TinyNode {
    fn start(calls: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a socket that does not block");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let (silent, silence) = watch::channel(false);
        let (events, count) = watch::channel(0);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listening socket");
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, calls, silence.clone(), count.clone()));
            }
        });
        Self {
            runtime: Some(runtime),
            url,
            silent,
            events,
        }
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for TinyNode {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(
    mut socket: TcpStream,
    calls: u64,
    mut silence: watch::Receiver<bool>,
    mut events: watch::Receiver<u64>,
) {
    let mut head = [0; 512];
    let peeked = socket.peek(&mut head).await.unwrap_or(0);
    if head[..peeked].starts_with(b"GET /v1/events") {
        let Ok(mut stream) = tokio_tungstenite::accept_async(socket).await else {
            return;
        };
        while events.changed().await.is_ok() {
            let cursor = format!("{}.0", *events.borrow());
            let event = serde_json::json!({ "cursor": cursor, "at": AT,
                "type": "call.arrived", "entity": "call_1" })
            .to_string();
            if stream.send(Message::text(event)).await.is_err() {
                return;
            }
        }
        return;
    }
    let mut request = Vec::new();
    loop {
        let mut bytes = [0; 1024];
        match socket.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(n) => request.extend_from_slice(&bytes[..n]),
        }
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        // A silent node takes requests and never answers.
        if silence.wait_for(|silent| !silent).await.is_err() {
            return;
        }
        let body = if request.starts_with(b"GET /v1/overview") {
            serde_json::json!({ "at": AT, "calls": calls, "registrations": 0, "waiting": 0,
                "longest_wait_ms": 0, "agents": {}, "figures": [], "alarms": [] })
        } else if request.starts_with(b"GET /v1/cluster") {
            serde_json::json!({ "name": "t", "id": "1", "leader": null, "term": 1,
                "applied": 1, "nodes": 2, "nodes_up": 2, "feature_level": 1,
                "service_addresses": [] })
        } else {
            serde_json::json!([])
        };
        let body = body.to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        request.clear();
    }
}

/// The console's loop without keys and screen.
struct Board {
    app: App,
    client: Client,
    to: mpsc::Sender<Msg>,
    messages: mpsc::Receiver<Msg>,
}

impl Board {
    fn open(urls: &[String]) -> Self {
        let access = Access::read(urls, None, None).expect("fine URLs");
        let client = Client::new(access, limits::CONSOLE_TIMEOUT).expect("a client");
        let (to, messages) = mpsc::channel(limits::MESSAGES_MAX);
        tokio::spawn(feed::stream(client.clone(), to.clone()));
        Self {
            app: App::default(),
            client,
            to,
            messages,
        }
    }

    /// Runs until `done` or five seconds; how long it took.
    async fn run_until(&mut self, done: impl Fn(&App) -> bool) -> Duration {
        let start = Instant::now();
        let mut tick = tokio::time::interval(limits::TICK_INTERVAL);
        while !done(&self.app) {
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "never: {:?}",
                self.app.link
            );
            let msg = tokio::select! {
                Some(msg) = self.messages.recv() => msg,
                _ = tick.tick() => Msg::Tick,
            };
            for effect in self.app.handle(msg, Instant::now()) {
                match effect {
                    Effect::Ask(topic) => feed::ask(&self.client, topic, &self.to),
                    other => panic!("nobody asked for {other:?}"),
                }
            }
        }
        start.elapsed()
    }
}

fn attached_to(app: &App, url: &str) -> bool {
    app.link.stream
        && app
            .link
            .node
            .as_ref()
            .is_some_and(|node| node.to_string() == url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_console_turns_to_another_node_within_a_second_of_a_death() {
    let (mut first, second) = (TinyNode::start(11), TinyNode::start(22));
    let mut board = Board::open(&[first.url.clone(), second.url.clone()]);
    let url = first.url.clone();
    board
        .run_until(|app| attached_to(app, &url) && app.model.overview.calls == 11)
        .await;
    first.kill();
    let url = second.url.clone();
    let took = board
        .run_until(|app| attached_to(app, &url) && app.model.overview.calls == 22)
        .await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_that_falls_silent_is_left_too() {
    let (first, second) = (TinyNode::start(11), TinyNode::start(22));
    let mut board = Board::open(&[first.url.clone(), second.url.clone()]);
    let url = first.url.clone();
    board
        .run_until(|app| attached_to(app, &url) && app.model.overview.calls == 11)
        .await;
    first.silent.send_replace(true);
    let url = second.url.clone();
    let took = board
        .run_until(|app| attached_to(app, &url) && app.model.overview.calls == 22)
        .await;
    // Poll interval and answer timeout together.
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_event_makes_the_board_ask_again_at_once() {
    let node = TinyNode::start(11);
    let mut board = Board::open(std::slice::from_ref(&node.url));
    let url = node.url.clone();
    board
        .run_until(|app| attached_to(app, &url) && app.model.overview.calls == 11)
        .await;
    let mut seen = Vec::new();
    node.events.send_replace(1);
    while !matches!(seen.last(), Some(Msg::Event)) {
        let next = tokio::time::timeout(limits::POLL_INTERVAL, board.messages.recv()).await;
        seen.push(
            next.expect("the event came in time")
                .expect("the channel is open"),
        );
    }
    let effects = board
        .app
        .handle(Msg::Event, Instant::now() + limits::COALESCE_INTERVAL);
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Ask(_))),
        "{seen:?}"
    );
}
