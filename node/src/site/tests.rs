//! Tables of good and bad site files.

use std::collections::BTreeMap;
use std::fmt::Write;

use strowger_core::ids::{AgentId, Extension, QueueName};

use super::*;

const GOOD: &str = r#"[cluster]
service_addresses = ["127.0.0.1", "127.0.0.2"]
takeover = "address"
[tenant]
name = "demo"
domain = "demo.invalid"
digest = ["MD5"]
country = "86"
area = "10"
[[extension]]
range = "1001-1020"
[[extension]]
file = "users.csv"
[[extension]]
range = "b000-b001"
contact = "sip:{id}@127.0.0.60:5080"
[[number]]
number = "4008"
target = "queue:main"
public = true
greeting = "hello.wav"
[[tier]]
name = "vip"
weight = 100
[[skill]]
name = "lang"
[[skill]]
name = "tv"
[[pause]]
reason = "lunch"
limit_s = 1800
[[pause]]
reason = "training"
productive = true
[[queue]]
name = "main"
ring_s = 15
music = "hello.wav"
[[queue]]
name = "second"
strategy = "round-robin"
weight = 20
slope = 3
age_max_s = 300
sticky_s = 8
skills = "lang>=2 & tv"
relax = [{after_s = 20, skills = "lang"}, {after_s = 40, queues = ["main"], teams = ["night"]}]
[[agent]]
id = "a1"
extension = "1001"
queues = ["main"]
skills = {lang = 3, tv = 1}
team = "night"
wrap_s = 20
devices = ["sip:{id}@127.0.0.61:6060"]
[[agent]]
range = "s01-s03"
contact = "sip:{id}@127.0.0.60:6060"
queues = ["main"]
signed_in = true
qualify_s = 0
[[trunk]]
name = "peer"
destinations = ["sip:127.0.0.50:5070"]
sources = ["127.0.0.50/32"]
auth = "ip"
channels = 60
qualify_s = 0
[[route]]
prefix = "9"
strip = 1
trunk = "peer"
[[route]]
prefix = "99"
trunk = "peer"
"#;

/// A short tone: 8 kHz mono, PCM 16 bit.
fn wav() -> Vec<u8> {
    wav_of(800)
}

fn wav_of(samples: u32) -> Vec<u8> {
    let samples: Vec<u8> = (0..samples)
        .map(|n| i16::try_from(n % 20).expect("small"))
        .flat_map(|n| ((n - 10) * 500).to_le_bytes())
        .collect();
    let size = u32::try_from(samples.len()).expect("short");
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + size).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend([1, 0, 1, 0]);
    bytes.extend(8_000u32.to_le_bytes());
    bytes.extend(16_000u32.to_le_bytes());
    bytes.extend([2, 0, 16, 0]);
    bytes.extend(b"data");
    bytes.extend(size.to_le_bytes());
    bytes.extend(samples);
    bytes
}

fn attachments() -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([
        (
            "users.csv".to_owned(),
            b"extension,password\n2001,geheim\n".to_vec(),
        ),
        ("hello.wav".to_owned(), wav()),
        ("ten.wav".to_owned(), wav_of(80_000)),
        ("long.wav".to_owned(), wav_of(80_400)),
        ("noise.wav".to_owned(), b"RIFF....WAVEnothing".to_vec()),
        (
            "bad.csv".to_owned(),
            b"extension,password\n2001,a\n1001,b\n".to_vec(),
        ),
    ])
}

#[test]
fn the_documented_site_is_read() {
    let read = read("site.toml", GOOD, &attachments()).expect("valid");
    let site = &read.site;
    assert_eq!(site.extensions.len(), 20 + 1 + 2);
    assert_eq!(read.generated.len(), 20);
    assert_eq!(
        read.passwords
            .get(&Extension::from("2001"))
            .map(String::as_str),
        Some("geheim")
    );
    let fixed = site
        .extensions
        .get(&Extension::from("b001"))
        .and_then(|e| e.contact.as_deref());
    assert_eq!(fixed, Some("sip:b001@127.0.0.60:5080"));
    assert_eq!(site.agents.len(), 4);
    assert!(
        site.agents
            .get(&AgentId::from("s02"))
            .is_some_and(|agent| agent.signed_in)
    );
    assert_eq!(site.tiers.get("vip"), Some(&100));
    let numbering = (&*site.numbering.trunk_prefix, &*site.numbering.area);
    assert_eq!(numbering, ("0", "10"), "as usual unless written");
    assert_eq!(site.blobs.len(), 1, "the same sound twice is one blob");
    assert_eq!(
        site.routes.first().map(|route| route.prefix.as_str()),
        Some("99")
    );
    let queue = site.queues.get(&QueueName::from("main")).expect("queue");
    assert_eq!(
        (queue.ring_ms, queue.wrap_ms, queue.missed_max),
        (15_000, 10_000, 3)
    );
    assert_eq!(site.timezone, "UTC");
    assert_eq!((queue.sl_ms, queue.short_abandon_ms), (20_000, 5_000));
    assert_eq!(queue.sl_formula.as_str(), "SL-C");
    let second = site.queues.get(&QueueName::from("second")).expect("queue");
    assert_eq!(second.strategy.as_str(), "round-robin");
    assert_eq!((second.weight, second.slope), (20, 3));
    assert_eq!((second.age_max_ms, second.sticky_ms), (300_000, 8_000));
    let rules: Vec<String> = (0..=2).map(|n| second.skills_at(n).to_string()).collect();
    assert_eq!(rules, ["lang>=2 & tv>=1", "lang>=1", "lang>=1"]);
    let a1 = &site.agents[&AgentId::from("a1")];
    assert_eq!(a1.devices, ["sip:a1@127.0.0.61:6060"]);
    assert_eq!((a1.wrap_ms, a1.place), (Some(20_000), 0));
    assert_eq!(site.agents[&AgentId::from("s03")].place, 3);
    assert!(site.pause("training").is_some_and(|pause| pause.productive));
    assert_eq!(
        site.pause("lunch").and_then(|p| p.limit_ms),
        Some(1_800_000)
    );
}

#[test]
fn agents_are_announced_what_lasts_ten_seconds_at_most() {
    let key = "ring_s = 15\nagent_announcement = \"ten.wav\"";
    let text = GOOD.replacen("ring_s = 15", key, 1);
    let read = read("s", &text, &attachments()).expect("valid");
    let queue = &read.site.queues[&QueueName::from("main")];
    let blob = queue.agent_announcement.expect("written");
    assert_eq!(read.site.blobs.get(&blob), Some(&160_044));
    let second = &read.site.queues[&QueueName::from("second")];
    assert_eq!(second.agent_announcement, None);
}

#[test]
fn mistakes_name_code_line_and_remedy() {
    let table = [
        ("ring_s = 15", "rings = 15", "SW0202", "", "`ring_s`"),
        ("[[queue]]", "[[queues]]", "SW0202", "", "`queue`"),
        (
            "ring_s = 15",
            "ring_s = \"15\"",
            "SW0203",
            "",
            "whole number",
        ),
        ("ring_s = 15", "ring_s = 0", "SW0203", "", "1 to 600"),
        ("ring_s = 15", "sl_formula = \"SL-D\"", "SW0203", "", "SL-C"),
        ("ring_s = 15", "sl_s = 0", "SW0203", "", "1 to 3600"),
        ("ring_s = 15", "language = \"fr\"", "SW0203", "", "\"zh\""),
        (
            "ring_s = 15",
            "announce_s = 30",
            "SW0203",
            "",
            "announce_position",
        ),
        (
            "ring_s = 15",
            "advert_key = \"2\"",
            "SW0203",
            "",
            "advert =",
        ),
        ("ring_s = 15", "max_wait_s = 60", "SW0203", "", "overflow"),
        (
            "ring_s = 15",
            "agent_announcement = \"long.wav\"",
            "SW0207",
            "",
            "lasts 10.050 s",
        ),
        (
            "ring_s = 15",
            "agent_announcement = \"noise.wav\"",
            "SW0207",
            "",
            "WAV",
        ),
        (
            "ring_s = 15",
            "callback_after_s = 30",
            "SW0203",
            "",
            "callback_key",
        ),
        (
            "ring_s = 15",
            "callback_key = \"0\"\nexit_key = \"0\"\nexit = \"queue:main\"",
            "SW0203",
            "",
            "a key for each",
        ),
        (
            "ring_s = 15",
            "callback_hours = \"office\"\ncallback_key = \"1\"",
            "SW0205",
            "",
            "hours",
        ),
        (
            "ring_s = 15",
            "callback_hours = \"office\"",
            "SW0203",
            "",
            "callback_key",
        ),
        (
            "ring_s = 15",
            "callback_first = \"me\"\ncallback_key = \"1\"",
            "SW0203",
            "",
            "\"agent\"",
        ),
        ("ring_s = 15", "redial_s = 3601", "SW0203", "", "0 to 3600"),
        (
            "ring_s = 15",
            "exit_key = \"12\"\nexit = \"queue:second\"",
            "SW0203",
            "",
            "one digit",
        ),
        (
            "ring_s = 15",
            "no_agents = \"voicemail\"",
            "SW0203",
            "",
            "queue:NAME",
        ),
        (
            "ring_s = 15",
            "no_agents = \"queue:main\"",
            "SW0203",
            "",
            "main → main",
        ),
        (
            "digest = [\"MD5\"]",
            "timezone = \"Asia/Pekin\"",
            "SW0203",
            "",
            "Asia/Shanghai",
        ),
        ("public = true", "public = 1", "SW0203", "", "true or false"),
        ("1001-1020", "1020-1001", "SW0206", "", "1001-1020"),
        ("b000-b001", "1005-1006", "SW0204", "", "1005"),
        ("\"4008\"", "\"1005\"", "SW0204", "", "1005"),
        ("s01-s03", "a1-a3", "SW0204", "", "a1"),
        ("queue:main", "queue:mian", "SW0205", "", "`main`"),
        ("= \"1001\"", "= \"3001\"", "SW0205", "", "1001"),
        (
            "trunk = \"peer\"",
            "trunk = \"pear\"",
            "SW0205",
            "",
            "`peer`",
        ),
        (
            "greeting = \"hello.wav\"",
            "greeting = \"noise.wav\"",
            "SW0207",
            "",
            "WAV",
        ),
        (
            "greeting = \"hello.wav\"",
            "greeting = \"x.wav\"",
            "SW0208",
            "",
            "beside",
        ),
        (
            "\"users.csv\"",
            "\"bad.csv\"",
            "SW0204",
            "bad.csv:3",
            "1001",
        ),
        (
            "digest = [\"MD5\"]",
            "digest = [\"SHA1\"]",
            "SW0203",
            "",
            "SHA-256",
        ),
        ("\"127.0.0.2\"", "\"127.0.0.1\"", "SW0204", "", "127.0.0.1"),
        ("\"127.0.0.2\"", "\"host\"", "SW0203", "", "IP address"),
        (
            "sip:127.0.0.50:5070",
            "127.0.0.50",
            "SW0203",
            "",
            "sip:ADDRESS:PORT",
        ),
        (
            "country = \"86\"",
            "country = \"+86\"",
            "SW0203",
            "",
            "digits",
        ),
        (
            "country = \"86\"",
            "country = \"086\"",
            "SW0203",
            "",
            "prefix",
        ),
        (
            "country = \"86\"",
            "# country",
            "SW0203",
            "site.toml:9",
            "country",
        ),
        ("weight = 100", "weight = -1", "SW0203", "", "0 to 1000000"),
        ("channels = 60", "channels = 0", "SW0203", "", "1 to 100000"),
        ("channels = 60", "failover_s = 5", "SW0203", "", "1 to 4"),
        ("channels = 60", "cps = 5000", "SW0203", "", "0 to 1000"),
        (
            "channels = 60",
            "caller_id = \"fixed:abc\"",
            "SW0203",
            "",
            "strip:N prepend:DIGITS",
        ),
        (
            "sip:127.0.0.50:5070\"",
            "sip:127.0.0.50:5070 weight=0\"",
            "SW0203",
            "",
            "from 1 to 1000",
        ),
        (
            "\"sip:127.0.0.50:5070\"",
            "\"sip:127.0.0.50:5070\", \"sip:127.0.0.50:5070\"",
            "SW0204",
            "",
            "127.0.0.50",
        ),
        (
            "trunk = \"peer\"",
            "trunks = [\"peer\", \"pear\"]",
            "SW0205",
            "",
            "`peer`",
        ),
        ("weight = 100", "wait = 100", "SW0202", "", "weight"),
        ("[tenant]", "[tenant", "SW0201", "", "TOML"),
        ("\"round-robin\"", "\"robin\"", "SW0203", "", "fewest-calls"),
        ("lang>=2 & tv", "lang>=2 & tw", "SW0205", "", "`tv`"),
        ("lang>=2 & tv", "lang>=12", "SW0203", "", "1 to 10"),
        ("lang = 3", "lang = 11", "SW0203", "", "1 to 10"),
        ("lang = 3", "lamg = 3", "SW0205", "", "`lang`"),
        ("after_s = 40", "after_s = 20", "SW0203", "", "rising"),
        ("[\"night\"]", "[\"nihgt\"]", "SW0205", "", "`night`"),
        (
            "queues = [\"main\"], teams",
            "queues = [\"mian\"], teams",
            "SW0205",
            "",
            "`main`",
        ),
        (
            "age_max_s = 300",
            "age_max_s = 90000",
            "SW0203",
            "",
            "86400",
        ),
        (
            "reason = \"training\"",
            "reason = \"lunch\"",
            "SW0204",
            "",
            "lunch",
        ),
        ("name = \"demo\"", "name = \"d m\"", "SW0203", "", "letters"),
    ];
    for (from, to, code, place, words) in table {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let fault = read("site.toml", &text, &attachments()).expect_err(to);
        let message = fault.to_string();
        let before = GOOD.split(from).next().unwrap_or("");
        let line = format!("site.toml:{}", before.split('\n').count());
        let place = if place.is_empty() { &line } else { place };
        assert_eq!(fault.code, code, "{message}");
        assert!(
            message.contains(&format!("{place}:")),
            "{message} names {place}"
        );
        assert!(message.contains(words), "{message} says {words}");
    }
}

#[test]
fn trunks_are_listed_in_order_with_weights() {
    use strowger_core::site::CallerId;
    let text = GOOD
        .replace(
            "destinations = [\"sip:127.0.0.50:5070\"]",
            "destinations = [\"sip:127.0.0.50:5070 weight=3\", \"sip:127.0.0.51:5070\"]\n\
             cps = 10\nfailover_s = 2\ncaller_id = \"strip:1 prepend:+49\"",
        )
        .replace(
            "[[route]]\nprefix = \"9\"\nstrip = 1\ntrunk = \"peer\"",
            "[[trunk]]\nname = \"other\"\n[[route]]\nprefix = \"9\"\nstrip = 1\n\
             trunks = [\"other weight=2\", \"peer weight=1\"]",
        );
    let site = read("s", &text, &attachments()).expect("valid").site;
    let trunk = site.trunks.get(&"peer".into()).expect("a trunk");
    let weights: Vec<(&str, u32)> = trunk
        .destinations
        .iter()
        .map(|one| (one.what.as_str(), one.weight))
        .collect();
    assert_eq!(
        weights,
        [("sip:127.0.0.50:5070", 3), ("sip:127.0.0.51:5070", 0)]
    );
    assert_eq!((trunk.cps, trunk.failover_ms), (10, 2_000));
    let own = CallerId::Own {
        strip: 1,
        prepend: "+49".to_owned(),
    };
    assert_eq!(trunk.caller_id, own);
    let route = site.routes.iter().find(|route| route.prefix == "9");
    let trunks: Vec<String> = route
        .expect("a route")
        .trunks
        .iter()
        .map(|one| format!("{} {}", one.what, one.weight))
        .collect();
    assert_eq!(trunks, ["other 2", "peer 1"]);
    let old = super::read("s", GOOD, &attachments()).expect("valid").site;
    assert_eq!(
        diff::difference(Some(&old), &site).lines,
        [
            "~ trunk peer: destinations sip:127.0.0.50:5070 → sip:127.0.0.50:5070 weight=3,sip:127.0.0.51:5070, cps 0 → 10, failover_s 3 → 2, caller_id pass → strip:1 prepend:+49",
            "+ trunk other",
            "- route 9 strip 1 trunk peer",
            "+ route 9 strip 1 trunk other weight=2, peer weight=1",
        ]
    );
}

#[test]
fn ten_thousand_extensions_are_read_in_a_moment() {
    let mut csv = String::from("extension,password\n");
    for n in 0..10_000 {
        writeln!(csv, "{},pw{n}", 20_000 + n).expect("a string");
    }
    let mut files = attachments();
    files.insert("users.csv".to_owned(), csv.into_bytes());
    let begun = std::time::Instant::now();
    let read = read("site.toml", GOOD, &files).expect("valid");
    assert_eq!(read.passwords.len(), 10_000);
    assert!(begun.elapsed().as_secs() < 5, "took {:?}", begun.elapsed());
}

#[test]
fn an_unknown_skill_is_refused_when_no_agent_has_it() {
    let text = GOOD.replace("[[skill]]\nname = \"lang\"\n[[skill]]\nname = \"tv\"\n", "");
    read("s", &text, &attachments()).expect("agents declare their skills");
    let text = text.replace("lang = 3, tv = 1", "lang = 3");
    let fault = read("s", &text, &attachments()).expect_err("tv");
    assert_eq!(fault.code, "SW0205", "{fault}");
}

#[test]
fn the_difference_is_told_in_lines() {
    let old = read("s", GOOD, &attachments()).expect("valid").site;
    assert_eq!(
        diff::difference(Some(&old), &old),
        diff::Difference::default()
    );
    let text = GOOD
        .replace(
            "ring_s = 15",
            "ring_s = 20\nsl_s = 30\nsl_formula = \"SL-A\"",
        )
        .replace(
            "name = \"demo\"",
            "name = \"demo\"\ntimezone = \"Asia/Shanghai\"",
        )
        .replace("1001-1020", "1001-1021")
        .replace("[[route]]\nprefix = \"99\"\ntrunk = \"peer\"\n", "")
        .replace("s01-s03", "s01-s02")
        .replace("limit_s = 1800", "limit_s = 900")
        .replace("after_s = 20", "after_s = 30");
    let new = read("s", &text, &attachments()).expect("valid").site;
    let changed = diff::difference(Some(&old), &new);
    assert_eq!(
        changed.lines,
        [
            "~ tenant demo: timezone UTC → Asia/Shanghai",
            "+ extension 1021",
            "~ queue main: ring_s 15 → 20, sl_s 20 → 30, sl_formula SL-C → SL-A",
            "~ queue second: relax 20s lang>=1,40s +queue main +team night → \
             30s lang>=1,40s +queue main +team night",
            "- agent s03",
            "- pause lunch limit 1800 s",
            "+ pause lunch limit 900 s",
            "- route 99 strip 0 trunk peer",
        ]
    );
    assert!(changed.queues.contains(&QueueName::from("main")));
    assert!(changed.agents.contains(&AgentId::from("s03")));
    let first = diff::difference(None, &old);
    assert!(
        first.lines.iter().all(|line| line.starts_with("+ ")),
        "{:?}",
        first.lines
    );
}
