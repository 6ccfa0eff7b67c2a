//! The takeover matrix: every state in which a call can be when its node dies, and what becomes
//! of it, with addresses that move and with re-INVITEs. A state that the interface names and no
//! row has fails the test.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use strowger_tests::apart::site::{Site, Takeover, passwords, secret};
use strowger_tests::apart::{Apart, moving, phones, service};
use strowger_tests::cluster::{GREETING_HZ, MUSIC_HZ, node_number};
use strowger_tests::phone::{Call, Phase, Phone, Policy};
use strowger_tests::poll::eventually;

use super::apart::{SOON, hears};

/// What waits for the pause of a callback, or for a phone that is no more.
const LATE: Duration = Duration::from_secs(45);
/// A talk is recorded from its commit to its commit.
const TRUE_MS: u64 = 2_000;
/// Callers, and those they talk with.
const CALLER_HZ: u32 = 440;
const OTHER_HZ: u32 = 620;
const AT_ONCE: Policy = Policy::Answer {
    after: Duration::ZERO,
    talk: None,
};

/// A cluster one node of which is to die.
struct Scene {
    cluster: Apart,
    takeover: Takeover,
    victim: u64,
    /// A service address of that node, and one of another.
    dying: SocketAddr,
    living: SocketAddr,
}

/// A call in some state, with its phones.
struct Begun {
    phones: Vec<Phone>,
    /// Of the caller first.
    calls: Vec<Call>,
    /// What was asked of the dying node.
    asked: Option<JoinHandle<Option<u16>>>,
    /// Whose attempt it is.
    callback: Option<Value>,
}

/// One state.
struct Row {
    name: &'static str,
    /// What lists call it.
    word: &'static str,
    /// It comes of itself a moment before the kill, and lists hardly ever show it.
    passes: Option<fn(&Begun)>,
    /// Who calls.
    from: &'static str,
    /// Brings a call into it.
    begin: fn(&Scene) -> Begun,
    /// What happens the moment the node is dead.
    meanwhile: fn(&mut Begun),
    /// What becomes of it: caller and other, if they talk then.
    after: fn(&Scene, &mut Begun) -> Option<[Call; 2]>,
    /// How its records end, one for each.
    records: &'static [&'static str],
}

fn nothing(_: &mut Begun) {}

/// In the order in which they are begun: what passes quickly comes last.
const ROWS: [Row; 16] = [
    Row {
        name: "rings at an extension",
        word: "ringing",
        passes: None,
        from: "1001",
        begin: |scene| {
            let begun = scene.dials("1001", "1002");
            let rings = |view: &strowger_tests::phone::View| view.phase == Phase::Ringing;
            begun.calls[0].wait(SOON, rings).expect("he hears it ring");
            begun
        },
        meanwhile: nothing,
        after: |_, begun| Some(answered_anew(begun)),
        records: &["answered"],
    },
    Row {
        name: "rings, and is heard before the answer",
        word: "ringing",
        passes: None,
        from: "1026",
        begin: |scene| {
            let caller = scene.phone("1026", CALLER_HZ);
            let begun = scene.rings(caller, "1027", Policy::EarlyMedia);
            hears(&begun.calls[0], OTHER_HZ, "early media before");
            begun
        },
        meanwhile: nothing,
        after: |_, begun| {
            begun.calls[0].audio().forget();
            let again = rings_again(begun);
            hears(&begun.calls[0], OTHER_HZ, "early media after");
            again.answer();
            assert!(begun.calls[0].answered(SOON), "{:?}", begun.calls[0].view());
            Some([begun.calls[0].clone(), again])
        },
        records: &["answered"],
    },
    Row {
        name: "is offered to an agent",
        word: "offered",
        passes: None,
        from: "5550001",
        begin: |scene| {
            scene.signs_in("a1");
            scene.joins("5550001", "4001", "1003")
        },
        meanwhile: nothing,
        after: |_, begun| Some(answered_anew(begun)),
        records: &["answered"],
    },
    Row {
        name: "waits in a queue",
        word: "queued",
        passes: None,
        from: "5550002",
        begin: |scene| {
            let begun = scene.joins("5550002", "4002", "1004");
            hears(&begun.calls[0], MUSIC_HZ, "music before");
            begun
        },
        meanwhile: nothing,
        after: |scene, begun| {
            hears(&begun.calls[0], MUSIC_HZ, "music after");
            scene.signs_in("a2");
            let offer = begun.phones[1].incoming(0, SOON).expect("his turn");
            offer.answer();
            Some([begun.calls[0].clone(), offer])
        },
        records: &["answered"],
    },
    Row {
        name: "talks",
        word: "bridged",
        passes: None,
        from: "1005",
        begin: |scene| scene.talks("1005", "1006"),
        meanwhile: nothing,
        after: |_, begun| Some(begun.pair()),
        records: &["answered"],
    },
    Row {
        name: "talks with an agent",
        word: "bridged",
        passes: None,
        from: "5550003",
        begin: |scene| {
            scene.signs_in("a3");
            let mut begun = scene.joins("5550003", "4003", "1007");
            let offer = begun.phones[1].incoming(0, SOON).expect("it is offered");
            offer.answer();
            begun.calls.push(offer);
            begun.hear_each_other();
            begun
        },
        meanwhile: nothing,
        after: |_, begun| Some(begun.pair()),
        records: &["answered"],
    },
    Row {
        name: "is held by the caller",
        word: "held",
        passes: None,
        from: "1008",
        begin: |scene| {
            let begun = scene.talks("1008", "1009");
            assert_eq!(begun.calls[0].hold(), Some(200));
            hears(&begun.calls[1], MUSIC_HZ, "music before");
            begun
        },
        meanwhile: nothing,
        after: |_, begun| {
            hears(&begun.calls[1], MUSIC_HZ, "music after");
            assert_eq!(begun.calls[0].resume(), Some(200));
            Some(begun.pair())
        },
        records: &["answered"],
    },
    Row {
        name: "is held by the called",
        word: "held",
        passes: None,
        from: "1010",
        begin: |scene| {
            let begun = scene.talks("1010", "1011");
            assert_eq!(begun.calls[1].hold(), Some(200));
            hears(&begun.calls[0], MUSIC_HZ, "music before");
            begun
        },
        meanwhile: nothing,
        after: |_, begun| {
            hears(&begun.calls[0], MUSIC_HZ, "music after");
            assert_eq!(begun.calls[1].resume(), Some(200));
            Some(begun.pair())
        },
        records: &["answered"],
    },
    Row {
        name: "is hung up as the node dies",
        word: "bridged",
        passes: None,
        from: "1014",
        begin: |scene| scene.talks("1014", "1015"),
        meanwhile: |begun| begun.calls[0].hang_up(),
        after: |_, begun| {
            begun.calls[1].ended(SOON).expect("the called is told");
            None
        },
        records: &["answered"],
    },
    Row {
        name: "is put on hold as the node dies",
        word: "bridged",
        passes: None,
        from: "1016",
        begin: |scene| scene.talks("1016", "1017"),
        meanwhile: |begun| {
            let holder = begun.calls[0].clone();
            begun.asked = Some(std::thread::spawn(move || holder.hold()));
        },
        after: |scene, begun| {
            let asked = begun.asked.take().expect("somebody asked");
            let status = asked.join().expect("the phone asserts nothing");
            // Said to an address that is no more it is lost, and said again.
            if matches!(scene.takeover, Takeover::Address) {
                assert_eq!(status, Some(200), "the next holder answers");
            }
            if status == Some(200) {
                hears(&begun.calls[1], MUSIC_HZ, "music");
                assert_eq!(begun.calls[0].resume(), Some(200));
            }
            Some(begun.pair())
        },
        records: &["answered"],
    },
    Row {
        name: "dials the customer of a callback",
        word: "dialling",
        passes: None,
        from: "1018",
        begin: |scene| scene.is_called_back("1018", "4005", ("a5", "1019"), |[caller, _]| caller),
        meanwhile: nothing,
        after: |_, begun| {
            begun.calls[0].ended(SOON).expect("the attempt is over");
            let again = rings_now(&begun.phones[0]);
            again.answer();
            let offer = rings_now(&begun.phones[1]);
            offer.answer();
            Some([again, offer])
        },
        records: &["node_lost", "answered"],
    },
    Row {
        name: "asks an agent to call back",
        word: "offered",
        passes: None,
        from: "1020",
        begin: |scene| scene.is_called_back("1020", "4006", ("a6", "1021"), |[_, agent]| agent),
        meanwhile: nothing,
        after: |_, begun| {
            begun.calls[0].ended(SOON).expect("the ringing is over");
            let again = rings_now(&begun.phones[1]);
            again.answer();
            let dialled = rings_now(&begun.phones[0]);
            dialled.answer();
            Some([dialled, again])
        },
        // The customer was not dialled: no attempt.
        records: &["answered"],
    },
    Row {
        name: "is answered, and the ACK is lost",
        word: "bridged",
        passes: None,
        from: "1012",
        begin: |scene| {
            let caller = scene.phone("1012", CALLER_HZ);
            caller.withhold_acks(true);
            scene.rings(caller, "1013", AT_ONCE)
        },
        meanwhile: |begun| begun.phones[0].withhold_acks(false),
        after: |_, begun| Some(begun.pair()),
        records: &["answered"],
    },
    Row {
        name: "is being cleared",
        word: "clearing",
        passes: Some(|begun| begun.calls[0].hang_up()),
        from: "1022",
        begin: |scene| scene.talks("1022", "1023"),
        meanwhile: nothing,
        after: |_, begun| {
            begun.calls[1].ended(SOON).expect("the called is told");
            None
        },
        records: &["answered"],
    },
    Row {
        name: "is told something",
        word: "announcing",
        passes: None,
        from: "5550004",
        begin: |scene| scene.joins("5550004", "4004", "1024"),
        meanwhile: nothing,
        after: |_, begun| {
            let told = begun.calls[0].ended(SOON).expect("it ends after that");
            assert!(told.ended_by_peer, "{told:?}");
            None
        },
        records: &["rejected"],
    },
    Row {
        name: "is greeted",
        word: "queued",
        passes: None,
        from: "5550005",
        begin: |scene| {
            let begun = scene.joins("5550005", "4007", "1025");
            hears(&begun.calls[0], GREETING_HZ, "the greeting before");
            begun
        },
        meanwhile: nothing,
        after: |scene, begun| {
            hears(&begun.calls[0], MUSIC_HZ, "music after the greeting");
            scene.signs_in("a7");
            let offer = begun.phones[1].incoming(0, SOON).expect("his turn");
            offer.answer();
            Some([begun.calls[0].clone(), offer])
        },
        records: &["answered"],
    },
];

/// Their queues, by the agent who serves them at an extension of his own.
const QUEUES: [(&str, &str, &str); 6] = [
    ("4001", "a1", "1003"),
    ("4002", "a2", "1004"),
    ("4003", "a3", "1007"),
    ("4005", "a5", "1019"),
    ("4006", "a6", "1021"),
    ("4007", "a7", "1025"),
];

/// The words of a queue that calls back.
const CALLS_BACK: &str = "callback_key = \"1\"\ncallback_attempts = 3\n\
    callback_pause_s = 10\ncallback_first = \"FIRST\"\n";

fn site(takeover: Takeover) -> Site {
    let services: fn(u8) -> SocketAddr = match takeover {
        Takeover::Address => moving,
        Takeover::Reinvite => service,
    };
    let mut site = Site::new(takeover, (1..=3).map(services));
    for (number, agent, extension) in QUEUES {
        let (queue, back) = (
            format!("q{number}"),
            match number {
                "4005" => CALLS_BACK.replace("FIRST", "customer"),
                "4006" => CALLS_BACK.replace("FIRST", "agent"),
                _ => String::new(),
            },
        );
        site = site
            .number(number, &queue)
            .and(&format!(
                "[[queue]]\nname = \"{queue}\"\nstrategy = \"longest-idle\"\nring_s = 60\n\
                 wrap_s = 1\nmissed_max = 3\nmusic = \"hold.wav\"\n{back}"
            ))
            .agent(agent, extension, &queue);
    }
    let week: String = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
        .iter()
        .map(|day| format!("{day} = \"00:00-24:00\"\n"))
        .collect();
    site.and(&format!(
        "[[number]]\nnumber = \"4004\"\ntarget = \"queue:q4001\"\npublic = true\n\
         hours = \"office\"\n\n[[hours]]\nname = \"office\"\ntimezone = \"UTC\"\n{week}"
    ))
}

/// The call that rings at a phone, soon.
fn rings_now(phone: &Phone) -> Call {
    eventually(LATE, "a phone rings", || {
        let mut calls = phone.calls().into_iter();
        calls.find(|call| call.view().phase == Phase::Ringing)
    })
}

/// Whoever rang rings again.
fn rings_again(begun: &Begun) -> Call {
    let first = begun.phones[1].incoming(0, SOON).expect("as before");
    first.ended(SOON).expect("the first ringing is over");
    rings_now(&begun.phones[1])
}

/// The same, and answers then.
fn answered_anew(begun: &Begun) -> [Call; 2] {
    let again = rings_again(begun);
    again.answer();
    assert!(begun.calls[0].answered(SOON), "{:?}", begun.calls[0].view());
    [begun.calls[0].clone(), again]
}

impl Begun {
    fn pair(&self) -> [Call; 2] {
        [self.calls[0].clone(), self.calls[1].clone()]
    }

    fn hear_each_other(&self) {
        hears(&self.calls[0], OTHER_HZ, "the caller hears");
        hears(&self.calls[1], CALLER_HZ, "and is heard");
    }
}

impl Scene {
    fn phone(&self, user: &str, hz: u32) -> Phone {
        let phone = Phone::new(phones(), user, &secret(user), hz);
        assert_eq!(phone.register(self.living, 600), Some(200), "{user}");
        phone
    }

    fn command(&self, words: &[&str]) {
        let (code, _, err) = self.cluster.command(words);
        assert_eq!(code, 0, "{words:?}: {err}");
    }

    fn signs_in(&self, agent: &str) {
        self.command(&["agent", "sign-in", agent]);
    }

    /// A phone calls another one by way of the dying node.
    fn dials(&self, from: &str, to: &str) -> Begun {
        let caller = self.phone(from, CALLER_HZ);
        self.rings(caller, to, Policy::Ring)
    }

    fn rings(&self, caller: Phone, to: &str, policy: Policy) -> Begun {
        let called = self.phone(to, OTHER_HZ);
        called.set_policy(policy);
        let call = caller.call(self.dying, to);
        let mut calls = vec![call];
        let other = called.incoming(0, SOON).expect("it rings there");
        if matches!(policy, Policy::Answer { .. }) {
            assert!(calls[0].answered(SOON), "{:?}", calls[0].view());
            calls.push(other);
        }
        Begun {
            phones: vec![caller, called],
            calls,
            asked: None,
            callback: None,
        }
    }

    /// Two talk by way of the dying node.
    fn talks(&self, from: &str, to: &str) -> Begun {
        let begun = self.rings(self.phone(from, CALLER_HZ), to, AT_ONCE);
        begun.hear_each_other();
        begun
    }

    /// Somebody calls a number of the exchange by way of the dying node; the phone of the agent.
    fn joins(&self, from: &str, to: &str, agent: &str) -> Begun {
        let caller = Phone::new(phones(), from, "", CALLER_HZ);
        let agent = self.phone(agent, OTHER_HZ);
        let call = caller.call(self.dying, to);
        assert!(call.answered(SOON), "{:?}", call.view());
        Begun {
            phones: vec![caller, agent],
            calls: vec![call],
            asked: None,
            callback: None,
        }
    }

    /// A caller takes a callback by key, and the exchange begins to call, at the dying node: where
    /// it begins goes by turns, so he takes it back and asks again until it is that one's.
    fn is_called_back(
        &self,
        from: &str,
        to: &str,
        (agent, extension): (&str, &str),
        rung: fn([&Phone; 2]) -> &Phone,
    ) -> Begun {
        let caller = self.phone(from, CALLER_HZ);
        let own = self.phone(extension, OTHER_HZ);
        let api = self.cluster.any_api();
        let (ring, callback) = eventually(LATE, "the dying node calls back", || {
            let call = caller.call(self.dying, to);
            assert!(call.answered(SOON), "{:?}", call.view());
            hears(&call, MUSIC_HZ, "music");
            call.audio().dial("1");
            call.ended(SOON).expect("the exchange hangs up");
            let callback = eventually(SOON, "the callback stands", || {
                let rows = api.list("/v1/callbacks")?;
                let row = rows.into_iter().find(|row| row["number"] == from)?;
                row["id"].as_str().map(str::to_owned)
            });
            let phone = rung([&caller, &own]);
            let before = phone.calls().len();
            self.signs_in(agent);
            let ring = phone.incoming(before, SOON).expect("it rings");
            let calls = api.list("/v1/calls").unwrap_or_default();
            let mut calls = calls.iter();
            let here = |row: &Value| node_number(&row["node"]) == Some(self.victim);
            if calls.any(|row| row["from"] == from && here(row)) {
                return Some((ring, callback));
            }
            self.command(&["callback", "cancel", &callback]);
            ring.ended(SOON).expect("it is taken back");
            self.command(&["agent", "sign-out", agent]);
            None
        });
        Begun {
            phones: vec![caller, own],
            calls: vec![ring],
            asked: None,
            callback: Some(callback.into()),
        }
    }

    /// Both sides hold and resume, and one of them hangs up.
    fn use_and_end(&self, row: &Row, pair: &[Call; 2], caller_ends: bool) {
        let [caller, other] = pair;
        for (call, hz) in [(caller, OTHER_HZ), (other, CALLER_HZ)] {
            call.audio().forget();
            hears(call, hz, row.name);
        }
        for (holder, held, hz) in [(caller, other, CALLER_HZ), (other, caller, OTHER_HZ)] {
            assert_eq!(holder.hold(), Some(200), "{}", row.name);
            hears(held, MUSIC_HZ, "who is held hears music");
            assert_eq!(holder.resume(), Some(200), "{}", row.name);
            hears(held, hz, "and then the other again");
        }
        let (ends, told) = if caller_ends {
            (caller, other)
        } else {
            (other, caller)
        };
        ends.hang_up();
        told.ended(SOON).expect("the other side is told");
    }

    /// As many records as it should leave, and the talk in the last of them as the phones saw it.
    fn check_records(&self, row: &Row, begun: &Begun, pair: Option<&[Call; 2]>) {
        let own = |record: &Value| match &begun.callback {
            Some(id) => record["callback"] == *id,
            None => record["from"] == row.from,
        };
        let what = format!("{}: {} records", row.name, row.records.len());
        let records = eventually(LATE, &what, || {
            let all = self.cluster.any_api().cdrs()?;
            let own: Vec<Value> = all.into_iter().filter(own).collect();
            (own.len() >= row.records.len()).then_some(own)
        });
        let endings: Vec<&str> = records
            .iter()
            .filter_map(|record| record["disposition"].as_str())
            .collect();
        assert_eq!(endings, row.records, "{}: {records:#?}", row.name);
        let Some([caller, other]) = pair else { return };
        let began = [caller, other].map(|call| call.view().answered);
        let ended = [caller, other].map(|call| call.view().ended);
        let (began, ended) = (
            began.into_iter().flatten().max(),
            ended.into_iter().flatten().max(),
        );
        let talked = ended.zip(began).map(|(ended, began)| ended - began);
        let talked = u64::try_from(talked.expect("they talked").as_millis()).expect("not long");
        let recorded = records.last().and_then(|record| record["talk_ms"].as_u64());
        let recorded = recorded.expect("a talk is recorded");
        assert!(
            recorded.abs_diff(talked) < TRUE_MS,
            "{}: talked {talked} ms, {recorded} recorded",
            row.name
        );
    }

    /// What lists say of the call of a row.
    fn word(&self, row: &Row) -> Option<String> {
        let calls = self.cluster.any_api().list("/v1/calls")?;
        let own = |call: &&Value| call["from"] == row.from;
        let call = calls.iter().find(own)?;
        call["state"].as_str().map(str::to_owned)
    }

    /// Every queue counted each of its callers once, and nobody was lost or missed.
    fn check_figures(&self) {
        let figures = self.cluster.any_api().list("/v1/figures");
        for row in figures.expect("a node answers") {
            let count = |name: &str| row[name].as_u64().unwrap_or(0);
            let served = count("answered") + count("callback_taken");
            assert_eq!(count("offered"), served, "{row:#}");
            let lost = count("missed") + count("abandoned") + count("node_lost");
            assert_eq!(lost, 0, "{row:#}");
        }
    }
}

/// Every state of calls that the interface names has a row.
fn check_rows(cluster: &Apart) {
    let described = cluster.any_api().get("/v1/openapi.json");
    let described = described.expect("a node answers").json;
    let words = described["components"]["schemas"]["CallState"]["enum"].as_array();
    let words: BTreeSet<&str> = words
        .expect("the states of calls are described")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let rows: BTreeSet<&str> = ROWS.iter().map(|row| row.word).collect();
    assert_eq!(words, rows, "each state has a row, each row a state");
}

fn every_state_outlives_its_node(takeover: Takeover) {
    let Some(cluster) = Apart::start(site(takeover).text(), &passwords()) else {
        return;
    };
    check_rows(&cluster);
    let victim = cluster.leader();
    let holder = |at: SocketAddr| {
        let nodes = cluster.any_api().list("/v1/nodes").unwrap_or_default();
        let holds = |row: &&Value| {
            let held = row["service_addresses"].as_array();
            held.is_some_and(|held| held.iter().any(|one| *one == at.ip().to_string()))
        };
        nodes
            .iter()
            .find(holds)
            .and_then(|row| node_number(&row["id"]))
    };
    let services: Vec<SocketAddr> = match takeover {
        Takeover::Address => (1..=3).map(moving).collect(),
        Takeover::Reinvite => (1..=3).map(service).collect(),
    };
    let held = |by_victim: bool| {
        let at = services
            .iter()
            .find(|at| (holder(**at) == Some(victim.into())) == by_victim);
        *at.expect("each node holds an address")
    };
    let (dying, living) = (held(true), held(false));
    let mut scene = Scene {
        cluster,
        takeover,
        victim: victim.into(),
        dying,
        living,
    };
    scene.command(&["hours", "close", "office", "--for", "1h"]);
    let mut begun: Vec<Begun> = Vec::new();
    for row in &ROWS {
        begun.push((row.begin)(&scene));
        if row.passes.is_some() {
            continue;
        }
        eventually(SOON, &format!("{}: it is {}", row.name, row.word), || {
            (scene.word(row)? == row.word).then_some(())
        });
    }
    for call in begun.iter().flat_map(|begun| &begun.calls) {
        call.audio().reset();
        call.audio().forget();
    }
    for row in ROWS.iter().filter(|row| row.passes.is_none()) {
        let word = scene.word(row);
        assert_eq!(word.as_deref(), Some(row.word), "{} still", row.name);
    }
    for (row, begun) in ROWS.iter().zip(&begun) {
        row.passes.inspect(|passes| passes(begun));
    }
    let killed_at = scene.cluster.kill(victim);
    for (row, begun) in ROWS.iter().zip(&mut begun) {
        (row.meanwhile)(begun);
    }
    println!(
        "{takeover:?}: node {victim}, the leader, is killed under {} calls",
        ROWS.len()
    );
    let mut pairs = Vec::new();
    for (number, (row, begun)) in ROWS.iter().zip(&mut begun).enumerate() {
        let pair = (row.after)(&scene, begun);
        if let Some(pair) = &pair {
            scene.use_and_end(row, pair, number % 2 == 0);
        }
        println!(
            "  {:<38} {:>6} ms",
            row.name,
            killed_at.elapsed().as_millis()
        );
        pairs.push(pair);
    }
    for ((row, begun), pair) in ROWS.iter().zip(&begun).zip(&pairs) {
        scene.check_records(row, begun, pair.as_ref());
    }
    eventually(LATE, "no call is left", || {
        scene
            .cluster
            .any_api()
            .list("/v1/calls")?
            .is_empty()
            .then_some(())
    });
    scene.check_figures();
    assert!(
        scene.cluster.panics().is_empty(),
        "{:#?}",
        scene.cluster.panics()
    );
}

#[test]
fn every_state_outlives_its_node_where_addresses_move() {
    every_state_outlives_its_node(Takeover::Address);
}

#[test]
fn every_state_outlives_its_node_where_phones_are_told() {
    every_state_outlives_its_node(Takeover::Reinvite);
}
