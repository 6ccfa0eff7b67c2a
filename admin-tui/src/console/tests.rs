//! The whole console on a drawn screen: what each view looks like, what keys do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use strowger_core::api::{
    Action, Agent, Call, Cluster, Figures, Leg, Node, Overview, Problem, Queue, Registration,
    ServiceAddress,
};

use super::app::{App, Effect, Mode, Msg, View};
use super::draw::{self, Theme};
use super::model::{Answer, Topic};
use crate::endpoint::Endpoint;
use crate::error::Failure;

const AT: &str = "2026-11-22T01:00:00.000Z";

fn text(words: &str) -> String {
    words.to_owned()
}

fn figures(queue: &str, waiting: u64) -> Figures {
    Figures {
        tenant: text("demo"),
        of: text("queue"),
        name: text(queue),
        queue: Some(text(queue)),
        offered: 120 + waiting,
        answered: 100,
        abandoned: 15,
        overflowed: 2,
        callback_taken: 0,
        node_lost: 3,
        waiting,
        answered_wait_ms: 720_000,
        talk_ms: 18_300_000,
        answered_in_target: 92,
        short_abandoned: 4,
        sl_formula: text("SL-C"),
        sl_target_ms: Some(20_000),
        sl_permille: Some(793),
        asa_ms: Some(7_200),
        adverts: 0,
        foretold: 0,
        foretold_wait_ms: 0,
        foretold_off_ms: 0,
        aht_ms: Some(203_000),
        ..Figures::default()
    }
}

fn overview(waiting: u64) -> Overview {
    let agents = [
        ("ready", 2),
        ("talking", 3),
        ("wrap_up", 1),
        ("paused", 1),
        ("signed_out", 13),
    ];
    Overview {
        at: text(AT),
        calls: 12,
        registrations: 20,
        waiting,
        longest_wait_ms: 42_000,
        agents: agents
            .iter()
            .map(|(state, n)| (text(state), *n))
            .collect::<BTreeMap<_, _>>(),
        figures: vec![figures("main", waiting), figures("東京受付", 0)],
        total: Box::new(Figures {
            of: text("all"),
            offered: 240 + waiting,
            answered: 200,
            abandoned: 30,
            overflowed: 4,
            node_lost: 6,
            sl_permille: Some(1_000),
            ..figures("", waiting)
        }),
        alarms: vec![Problem {
            code: text("SW0123"),
            what: text("node_3 is down"),
            place: None,
            next: Some(text("start it again")),
        }],
    }
}

fn queue(name: &str) -> Queue {
    Queue {
        name: text(name),
        strategy: text("longest-idle"),
        waiting: 3,
        longest_wait_ms: 42_000,
        agents_ready: 2,
        agents_signed_in: 7,
    }
}

fn agent(id: &str, state: &str, call: Option<&str>) -> Agent {
    Agent {
        id: text(id),
        extension: Some(text("1001")),
        state: text(state),
        reason: (state == "paused").then(|| text("missed 3")),
        since_at: text("2026-11-22T00:58:30.000Z"),
        calls: 17,
        talk_ms: 0,
        times: std::collections::BTreeMap::new(),
        at_work_ms: 0,
        team: None,
        skills: std::collections::BTreeMap::new(),
        call: call.map(text),
        queues: vec![text("main")],
    }
}

fn leg(n: u8, party: &str, direction: &str) -> Leg {
    Leg {
        id: format!("leg_0000000001A4{n}"),
        sip_call_id: format!("c0ffee{n}@127.0.0.1"),
        direction: text(direction),
        party: text(party),
        remote: Some(format!("sip:{party}@127.0.0.9:5062")),
        codec: Some(text("PCMA")),
        state: text("answered"),
        started_at: text("2026-11-22T00:59:00.000Z"),
        answered_at: Some(text("2026-11-22T00:59:03.000Z")),
        ended_at: None,
    }
}

fn call(n: u8, from: &str, state: &str, position: Option<u64>) -> Call {
    Call {
        id: format!("call_0000000001A4{n}"),
        state: text(state),
        from: text(from),
        to: text("4008"),
        started_at: text("2026-11-22T00:59:00.000Z"),
        queue: Some(text("main")),
        agent: (state == "bridged").then(|| text("a2")),
        customer: None,
        position,
        priority: None,
        relax_step: None,
        wait_ms: Some(42_000),
        node: Some(text("node_1")),
        address: text("127.0.0.1"),
        epoch: 1,
        legs: vec![leg(1, from, "in"), leg(2, "a2", "out")],
    }
}

fn node(id: &str, role: &str, state: &str) -> Node {
    let up = state == "up";
    Node {
        id: text(id),
        address: format!("127.0.0.{}", &id[5..]),
        state: text(state),
        role: text(role),
        term: up.then_some(7),
        applied: up.then_some(123_456),
        lag: up.then_some(0),
        calls: if up { 6 } else { 0 },
        version: up.then(|| text("0.1.0")),
        state_hash: up.then(|| text("9f86d081884c7d65")),
        service_addresses: if up {
            vec![text("127.0.0.1"), text("127.0.0.4")]
        } else {
            vec![]
        },
    }
}

fn registration(extension: &str, contact: &str) -> Registration {
    Registration {
        extension: text(extension),
        contact: text(contact),
        transport: text("udp"),
        node: Some(text("node_1")),
        expires_at: text("2026-11-22T01:30:00.000Z"),
    }
}

fn address(ip: &str, node: &str) -> ServiceAddress {
    ServiceAddress {
        address: text(ip),
        node: Some(text(node)),
        epoch: 1,
        calls: 3,
    }
}

fn endpoint() -> Endpoint {
    Endpoint::parse("http://127.0.0.1:8080").expect("a fine URL")
}

/// A console that is attached and knows a lively exchange.
struct Desk {
    app: App,
    now: Instant,
}

impl Desk {
    fn new() -> Self {
        let mut desk = Self {
            app: App::default(),
            now: Instant::now(),
        };
        desk.send(Msg::Attached(endpoint()));
        for answer in [
            Answer::Overview(overview(3)),
            Answer::Queues(vec![queue("main"), queue("東京受付")]),
            Answer::Agents(vec![
                agent("a1", "ready", None),
                agent("a2", "talking", Some("call_0000000001A41")),
                agent("田中さくら", "paused", None),
                agent("evil\u{1b}[2J", "signed_out", None),
            ]),
            Answer::Calls(vec![
                call(1, "1007", "bridged", None),
                call(2, "東京支店", "queued", Some(1)),
                call(3, "\u{1b}]0;x\u{7}1009", "queued", Some(2)),
            ]),
            Answer::Registrations(vec![
                registration("1001", "sip:1001@127.0.0.9:5062;transport=udp"),
                registration("1002", "sip:佐藤@127.0.0.9:5064"),
            ]),
            Answer::Nodes(vec![
                node("node_1", "leader", "up"),
                node("node_2", "voter", "up"),
                node("node_3", "voter", "down"),
            ]),
            Answer::Cluster(Cluster {
                name: text("demo"),
                id: text("c1"),
                leader: Some(text("node_1")),
                term: 7,
                applied: 123_456,
                nodes: 3,
                nodes_up: 2,
                feature_level: 1,
                service_addresses: vec![
                    address("127.0.0.1", "node_1"),
                    address("127.0.0.4", "node_1"),
                    address("127.0.0.2", "node_2"),
                ],
            }),
        ] {
            desk.answer(answer);
        }
        desk
    }

    fn send(&mut self, msg: Msg) -> Vec<Effect> {
        self.app.handle(msg, self.now)
    }

    fn answer(&mut self, answer: Answer) {
        self.send(Msg::Answered(Box::new(answer), endpoint()));
    }

    fn key(&mut self, code: KeyCode) -> Vec<Effect> {
        let effects = self.send(Msg::Key(KeyEvent::new(code, KeyModifiers::NONE)));
        effects
            .into_iter()
            .filter(|effect| !matches!(effect, Effect::Ask(_)))
            .collect()
    }

    fn keys(&mut self, letters: &str) -> Vec<Effect> {
        letters
            .chars()
            .flat_map(|c| self.key(KeyCode::Char(c)))
            .collect()
    }

    /// The screen as lines of text, as a terminal shows it: the cell after a wide
    /// character belongs to that character.
    fn screen(&mut self, width: u16, height: u16) -> String {
        self.app.page = draw::page(height);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a test screen");
        let (app, now) = (&self.app, self.now);
        terminal
            .draw(|frame| draw::draw(frame, app, Theme::new(true), now))
            .expect("drawing into memory");
        let buffer = terminal.backend().buffer();
        let mut lines = Vec::new();
        for y in 0..height {
            let mut line = String::new();
            let mut x = 0;
            while x < width {
                let symbol = buffer[(x, y)].symbol();
                line.push_str(symbol);
                x += u16::try_from(crate::text::width(symbol).max(1)).expect("a narrow symbol");
            }
            lines.push(line.trim_end().to_owned());
        }
        lines.join("\n")
    }
}

#[test]
fn every_view_at_both_sizes() {
    for (name, key) in [
        "overview",
        "queues",
        "agents",
        "calls",
        "registrations",
        "nodes",
    ]
    .iter()
    .zip(['1', '2', '3', '4', '5', '6'])
    {
        let mut desk = Desk::new();
        desk.keys(&key.to_string());
        insta::assert_snapshot!(format!("{name}_80x24"), desk.screen(80, 24));
        insta::assert_snapshot!(format!("{name}_120x40"), desk.screen(120, 40));
    }
}

#[test]
fn details_help_question_and_filter() {
    let mut desk = Desk::new();
    desk.keys("4");
    desk.key(KeyCode::Enter);
    insta::assert_snapshot!("call_detail_80x24", desk.screen(80, 24));
    desk.key(KeyCode::Esc);
    desk.keys("x");
    insta::assert_snapshot!("call_hang_up_80x24", desk.screen(80, 24));
    desk.keys("n?");
    insta::assert_snapshot!("help_80x24", desk.screen(80, 24));
    desk.key(KeyCode::Esc);
    desk.keys("/東京");
    insta::assert_snapshot!("filter_80x24", desk.screen(80, 24));
    for (name, keys) in [
        ("queue", "2"),
        ("agent", "3j"),
        ("registration", "5"),
        ("node", "6"),
    ] {
        let mut desk = Desk::new();
        desk.keys(keys);
        desk.key(KeyCode::Enter);
        insta::assert_snapshot!(format!("{name}_detail_80x24"), desk.screen(80, 24));
    }
}

#[test]
fn letters_typed_into_the_filter_are_no_commands() {
    let mut desk = Desk::new();
    desk.keys("3/");
    let typed = "qxproidu?/123456jkgG";
    assert!(desk.keys(typed).is_empty(), "no effect of typing");
    assert_eq!(desk.app.filter(), typed);
    assert_eq!(
        (desk.app.view, &desk.app.mode),
        (View::Agents, &Mode::Filter)
    );
    desk.send(Msg::Paste(text("q\ny")));
    assert_eq!(desk.app.filter(), format!("{typed}qy"));
    for code in [
        KeyCode::Tab,
        KeyCode::Up,
        KeyCode::PageDown,
        KeyCode::Backspace,
    ] {
        assert!(desk.key(code).is_empty());
    }
    assert_eq!(desk.app.filter(), format!("{typed}q"));
    desk.key(KeyCode::Enter);
    assert_eq!(desk.app.mode, Mode::Browse);
    assert!(
        desk.keys("p").is_empty(),
        "nothing is selected, nothing is asked"
    );
    desk.key(KeyCode::Esc);
    assert_eq!(desk.app.filter(), "");
}

#[test]
fn a_paste_outside_the_filter_does_nothing() {
    let mut desk = Desk::new();
    let effects = desk.send(Msg::Paste(text("q4xy")));
    assert!(
        effects
            .iter()
            .all(|effect| matches!(effect, Effect::Ask(_)))
    );
    assert_eq!(desk.app.view, View::Overview);
}

#[test]
fn a_call_is_hung_up_only_after_yes() {
    let mut desk = Desk::new();
    let hang_up = Action::CallHangup {
        call: text("call_0000000001A41"),
    };
    assert!(desk.keys("4x").is_empty());
    assert!(
        desk.keys("qjz4").is_empty(),
        "other keys neither answer nor act"
    );
    desk.keys("n");
    assert_eq!(desk.app.mode, Mode::Browse);
    let effects = desk.keys("xy");
    assert_eq!(
        effects,
        [Effect::Act(text("hang up call_0000000001A41"), hang_up)]
    );
}

#[test]
fn agents_are_paused_after_yes_and_made_ready_at_once() {
    let mut desk = Desk::new();
    assert!(desk.keys("3p").is_empty());
    let effects = desk.keys("y");
    assert!(
        matches!(&effects[..], [Effect::Act(_, Action::AgentPause { agent, .. })] if agent == "a1")
    );
    let effects = desk.keys("jr");
    assert!(
        matches!(&effects[..], [Effect::Act(_, Action::AgentReady { agent })] if agent == "a2")
    );
    // The same key means nothing elsewhere.
    assert!(desk.keys("4r").is_empty());
}

#[test]
fn the_question_is_about_the_row_it_names_even_when_rows_move() {
    let mut desk = Desk::new();
    desk.keys("4x");
    desk.answer(Answer::Calls(vec![call(3, "1009", "queued", Some(1))]));
    let effects = desk.keys("y");
    assert!(matches!(
        &effects[..],
        [Effect::Act(_, Action::CallHangup { call })] if call == "call_0000000001A41"
    ));
}

#[test]
fn a_refused_action_shows_its_code() {
    let mut desk = Desk::new();
    let failure = Failure::Answered {
        exit: crate::error::Exit::Refused,
        status: Some(409),
        problem: Problem {
            code: text("SW0123"),
            what: text("agent a1 is not signed in"),
            place: None,
            next: None,
        },
    };
    desk.send(Msg::Outcome(text("pause agent a1"), Err(failure)));
    assert!(
        desk.screen(120, 40)
            .contains("SW0123 agent a1 is not signed in")
    );
}

#[test]
fn control_characters_of_peers_never_reach_the_screen() {
    let mut desk = Desk::new();
    for key in ['1', '2', '3', '4', '5', '6'] {
        desk.keys(&key.to_string());
        let screen = desk.screen(120, 40);
        assert!(
            !screen.chars().any(|c| c.is_control() && c != '\n'),
            "{screen:?}"
        );
    }
}

#[test]
fn columns_stand_under_each_other_with_wide_names() {
    let mut desk = Desk::new();
    desk.keys("3");
    let screen = desk.screen(120, 40);
    let at = |row: &str, word: &str| {
        let line = screen
            .lines()
            .find(|line| line.contains(row))
            .expect("the row is shown");
        let (before, _) = line.split_once(word).expect("the word is shown");
        crate::text::width(before)
    };
    assert_eq!(at("AGENT ", "STATE"), at("田中さくら", "paused"));
    assert_eq!(at("AGENT ", "STATE"), at("a2", "talking"));
    assert_eq!(at("AGENT ", "QUEUES"), at("田中さくら", "main"));
}

#[test]
fn old_data_is_marked_stale_and_the_trouble_is_told() {
    let mut desk = Desk::new();
    assert!(!desk.screen(80, 24).contains("STALE"));
    desk.send(Msg::Lost(text("stream closed")));
    desk.now += Duration::from_secs(3);
    let screen = desk.screen(80, 24);
    assert!(screen.contains("STALE 3 s"), "{screen}");
    assert!(screen.contains("stream closed"), "{screen}");
    desk.answer(Answer::Overview(overview(4)));
    desk.send(Msg::Attached(
        Endpoint::parse("http://127.0.0.2:8080").expect("fine"),
    ));
    let screen = desk.screen(80, 24);
    assert!(
        screen.contains("node_2 http://127.0.0.2:8080 live"),
        "{screen}"
    );
    assert!(!screen.contains("STALE"), "{screen}");
}

#[test]
fn an_event_leads_to_a_new_answer_on_the_screen() {
    let mut desk = Desk::new();
    desk.now += crate::limits::COALESCE_INTERVAL;
    let effects = desk.send(Msg::Event);
    assert!(effects.contains(&Effect::Ask(Topic::Overview)));
    assert!(desk.send(Msg::Event).is_empty(), "requests are under way");
    desk.answer(Answer::Overview(overview(7)));
    assert!(desk.screen(80, 24).contains("waiting 7"));
}

#[test]
fn waiting_is_one_figure_wherever_it_stands() {
    let mut desk = Desk::new();
    // The queue list is older than the figures: the figures count everywhere.
    desk.answer(Answer::Overview(overview(9)));
    for (key, column) in [("1", 1), ("2", 1)] {
        desk.keys(key);
        let screen = desk.screen(80, 24);
        let row = screen
            .lines()
            .find(|line| line.trim().starts_with("main"))
            .expect("a row");
        assert_eq!(row.split_whitespace().nth(column), Some("9"), "{row}");
    }
}

#[test]
fn small_terminals_are_told_what_is_needed() {
    let mut desk = Desk::new();
    for (width, height) in [(1, 1), (10, 3), (59, 30), (60, 12), (61, 13), (200, 12)] {
        desk.screen(width, height);
    }
    assert!(desk.screen(40, 10).contains("at least 60×12"));
}

#[test]
fn long_lists_scroll_with_the_selection() {
    let mut desk = Desk::new();
    let agents = (0..200)
        .map(|n| agent(&format!("s{n:03}"), "ready", None))
        .collect();
    desk.answer(Answer::Agents(agents));
    desk.keys("3G");
    let screen = desk.screen(80, 24);
    assert!(
        screen.contains("s199") && !screen.contains("s100"),
        "{screen}"
    );
    desk.key(KeyCode::PageUp);
    desk.keys("g");
    assert!(desk.screen(80, 24).contains("s000"));
}

#[test]
fn without_colours_nothing_is_coloured_and_the_selection_still_shows() {
    use ratatui::style::{Color, Modifier};
    let mut desk = Desk::new();
    desk.keys("3");
    desk.app.page = draw::page(24);
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a test screen");
    let (app, now) = (&desk.app, desk.now);
    terminal
        .draw(|frame| draw::draw(frame, app, Theme::new(false), now))
        .expect("drawing into memory");
    let cells = &terminal.backend().buffer().content;
    assert!(
        cells
            .iter()
            .all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset))
    );
    let selected = &terminal.backend().buffer()[(1, 4)];
    assert!(selected.modifier.contains(Modifier::REVERSED));
}
