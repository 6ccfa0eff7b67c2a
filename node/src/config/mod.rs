//! The node file: identity, addresses, paths and limits of one daemon.
//!
//! Written by people, read once at start. Environment variables named
//! `STROWGER__SECTION__KEY` win over the file. Paths are relative to the file.
//! Nothing here is replicated; what all nodes share stands in the site.

mod environment;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::document::{At, Codes, Section, Source};
use crate::fault::{Fault, code};
use crate::limits;

const CODES: Codes = Codes {
    syntax: code::NODE_FILE_SYNTAX,
    unknown: code::NODE_FILE_UNKNOWN_KEY,
    value: code::NODE_FILE_VALUE,
};

/// Highest node number: the number is part of ids and certificates, and a cluster
/// has a handful of nodes over its life.
const NODE_NUMBER_MAX: u64 = 9_999;

/// The node file, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The file itself.
    pub file: PathBuf,
    /// Number of the node, from 1.
    pub id: u64,
    /// Folder of the node's data.
    pub data: PathBuf,
    /// What it listens on.
    pub listen: Listen,
    /// Limits for outsiders.
    pub limits: Limits,
    /// Where and how much it logs.
    pub log: Log,
}

/// Addresses and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The node's own address: API and cluster. SIP is served on service addresses.
    pub address: IpAddr,
    /// SIP over UDP on every service address held.
    pub sip_udp: u16,
    /// SIP over TCP on every service address held.
    pub sip_tcp: u16,
    /// SIP over TLS; kept for a later version, not served.
    pub sip_tls: u16,
    /// SIP over WebSocket; kept for a later version, not served.
    pub ws: u16,
    /// SIP over secure WebSocket; kept for a later version, not served.
    pub wss: u16,
    /// HTTP interface.
    pub api: u16,
    /// Cluster: QUIC on UDP, death watch on TCP.
    pub cluster: u16,
    /// RTP and RTCP ports of every service address.
    pub rtp: RangeInclusive<u16>,
}

/// Limits for outsiders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// SIP requests per second from one source address.
    pub per_source_rps: u32,
    /// Sources that skip rate limits and bans, never authentication.
    pub trusted_sources: Vec<ipnet::IpNet>,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The log file, JSON lines; `None` = standard error only.
    pub file: Option<PathBuf>,
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub level: Level,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Defects and data loss.
    Error,
    /// What an operator should look into.
    Warn,
    /// What happened.
    Info,
    /// How it happened.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    const NAMES: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// The word in the node file.
    pub fn as_str(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, level)| *level == self)
            .map_or("info", |(name, _)| name)
    }
}

impl NodeConfig {
    /// Reads the node file and the environment.
    ///
    /// # Errors
    /// A [`Fault`] with file and line, or with the name of the variable.
    pub fn load(file: &Path) -> Result<Self, Fault> {
        let unreadable = |why: String| {
            let next = "name a node file with --config";
            Fault::new(code::NODE_FILE_UNREADABLE, why, next).at(file.display().to_string())
        };
        let length = std::fs::metadata(file)
            .map_err(|error| unreadable(error.to_string()))?
            .len();
        if length > limits::NODE_FILE_BYTES_MAX {
            return Err(unreadable(format!(
                "{length} bytes are too many for a node file"
            )));
        }
        let text = std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(file, &text, std::env::vars())
    }

    /// The same from a text and given variables.
    ///
    /// # Errors
    /// As [`NodeConfig::load`].
    pub fn parse(
        file: &Path,
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Fault> {
        let name = file.display().to_string();
        let folder = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let variables = environment::relevant(variables);
        let overrides = environment::overrides(&variables)?;
        let source = Source::new(&name, text, CODES, &overrides);
        let parsed = source.parse()?;
        let mut root = Section::new(&source, "the node file", Some(parsed.get_ref()), 0);
        let config = read(&mut root, file, folder, &source)?;
        root.finish()?;
        source.finish()?;
        Ok(config)
    }
}

fn read(
    root: &mut Section<'_, '_>,
    file: &Path,
    folder: &Path,
    source: &Source<'_>,
) -> Result<NodeConfig, Fault> {
    let empty = |name: &str| Section::new(source, name, None, 0);
    let mut node = root.section("node")?.unwrap_or_else(|| empty("[node]"));
    let id = node.number("id", 1..=NODE_NUMBER_MAX)?.map(|id| id.value);
    let id = id.ok_or_else(|| {
        Fault::new(code::NODE_FILE_VALUE, "[node] lacks `id`", "add id = 1").at(node.place())
    })?;
    let data = folder.join(
        node.text("data")?
            .map_or_else(|| "data".to_owned(), |data| data.value),
    );
    node.finish()?;
    let mut listen = root.section("listen")?.unwrap_or_else(|| empty("[listen]"));
    let mut limits = root.section("limits")?.unwrap_or_else(|| empty("[limits]"));
    let mut log = root.section("log")?.unwrap_or_else(|| empty("[log]"));
    let config = NodeConfig {
        file: file.to_owned(),
        id,
        data,
        listen: read_listen(&mut listen)?,
        limits: read_limits(&mut limits)?,
        log: read_log(&mut log, folder)?,
    };
    listen.finish()?;
    limits.finish()?;
    log.finish()?;
    Ok(config)
}

fn read_listen(section: &mut Section<'_, '_>) -> Result<Listen, Fault> {
    let address = section.required("address")?;
    let mut port = |key: &'static str, default: u16| -> Result<u16, Fault> {
        let port = section.number(key, 1..=u64::from(u16::MAX))?;
        Ok(port
            .and_then(|port| u16::try_from(port.value).ok())
            .unwrap_or(default))
    };
    let listen = Listen {
        address: parsed(&address, "an IP address such as \"192.0.2.1\"")?,
        sip_udp: port("sip_udp", 5060)?,
        sip_tcp: port("sip_tcp", 5060)?,
        sip_tls: port("sip_tls", 5061)?,
        ws: port("ws", 5080)?,
        wss: port("wss", 5443)?,
        api: port("api", 8080)?,
        cluster: port("cluster", 7400)?,
        rtp: 20_000..=29_999,
    };
    let Some(rtp) = section.text("rtp")? else {
        return Ok(listen);
    };
    Ok(Listen {
        rtp: port_range(&rtp)?,
        ..listen
    })
}

fn port_range(text: &At<String>) -> Result<RangeInclusive<u16>, Fault> {
    let range = text.value.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first >= 1_024u16 && first < last).then_some(first..=last)
    });
    range.ok_or_else(|| {
        let what = format!("`rtp` is \"{}\"", text.value);
        let next = "write first-last above 1023, such as \"20000-29999\"";
        Fault::new(code::NODE_FILE_VALUE, what, next).at(text.place.clone())
    })
}

fn read_limits(section: &mut Section<'_, '_>) -> Result<Limits, Fault> {
    let per_source_rps = section.number("per_source_rps", 1..=1_000_000)?;
    let trusted = section.texts("trusted_sources")?.unwrap_or_default();
    let wanted = "a network such as \"192.0.2.0/24\"";
    Ok(Limits {
        per_source_rps: per_source_rps
            .and_then(|rate| u32::try_from(rate.value).ok())
            .unwrap_or(200),
        trusted_sources: trusted
            .iter()
            .map(|text| parsed(text, wanted))
            .collect::<Result<_, _>>()?,
    })
}

fn read_log(section: &mut Section<'_, '_>, folder: &Path) -> Result<Log, Fault> {
    let file = section.text("file")?.filter(|file| !file.value.is_empty());
    let level = match section.text("level")? {
        None => Level::Info,
        Some(text) => {
            let known = Level::NAMES.iter().find(|(name, _)| *name == text.value);
            known.map(|(_, level)| *level).ok_or_else(|| {
                let what = format!("`level` is \"{}\"", text.value);
                let next = "use error, warn, info, debug or trace";
                Fault::new(code::NODE_FILE_VALUE, what, next).at(text.place)
            })?
        }
    };
    Ok(Log {
        file: file.map(|file| folder.join(file.value)),
        level,
    })
}

fn parsed<T: std::str::FromStr>(text: &At<String>, wanted: &str) -> Result<T, Fault> {
    text.value.parse().map_err(|_| {
        let what = format!("\"{}\" is not {wanted}", text.value);
        Fault::new(code::NODE_FILE_VALUE, what, "correct it").at(text.place.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
[node]
id = 2
data = "data"
[listen]
address = "127.0.0.2"
sip_udp = 5060
sip_tcp = 5060
sip_tls = 5061
ws = 5080
wss = 5443
api = 8080
cluster = 7400
rtp = "20000-29999"
[limits]
per_source_rps = 200
trusted_sources = ["127.0.0.1/32"]
[log]
file = "log/strowgerd.log"
level = "info"
"#;

    fn parse(text: &str, vars: &[(&str, &str)]) -> Result<NodeConfig, Fault> {
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        NodeConfig::parse(Path::new("/etc/strowger/node.toml"), text, vars)
    }

    #[test]
    fn the_documented_file_is_read_with_paths_relative_to_it() {
        let config = parse(FULL, &[]).expect("valid");
        assert_eq!(config.id, 2);
        assert_eq!(config.data, Path::new("/etc/strowger/data"));
        assert_eq!(config.listen.rtp, 20_000..=29_999);
        assert_eq!(config.limits.trusted_sources.len(), 1);
        assert_eq!(
            config.log.file.as_deref(),
            Some(Path::new("/etc/strowger/log/strowgerd.log"))
        );
    }

    #[test]
    fn all_but_id_and_address_have_defaults() {
        let short = parse("[node]\nid = 1\n[listen]\naddress = \"::1\"\n", &[]).expect("valid");
        assert_eq!((short.listen.api, short.listen.cluster), (8080, 7400));
        assert_eq!(short.log.level, Level::Info);
    }

    #[test]
    fn the_environment_wins() {
        let vars = [
            ("STROWGER__LISTEN__API", "9090"),
            ("STROWGER__LOG__LEVEL", "debug"),
            ("STROWGER_API", "http://elsewhere"),
        ];
        let config = parse(FULL, &vars).expect("valid");
        assert_eq!((config.listen.api, config.log.level), (9090, Level::Debug));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let edit = |from: &str, to: &str| parse(&FULL.replace(from, to), &[]);
        let table = [
            (
                edit("sip_udp", "sip_upd"),
                "SW0103",
                "node.toml:7",
                "did you mean `sip_udp`?",
            ),
            (
                edit("[log]", "[logs]"),
                "SW0103",
                "node.toml:18",
                "did you mean `log`?",
            ),
            (
                edit("api = 8080", "api = 80800"),
                "SW0104",
                "node.toml:12",
                "use 1 to 65535",
            ),
            (
                edit("api = 8080", "api = \"x\""),
                "SW0104",
                "node.toml:12",
                "whole number",
            ),
            (
                edit("20000-29999", "29999-20000"),
                "SW0104",
                "node.toml:14",
                "20000-29999",
            ),
            (
                edit("127.0.0.1/32", "127.0.0.1/99"),
                "SW0104",
                "node.toml:17",
                "network",
            ),
            (
                edit("\"info\"", "\"loud\""),
                "SW0104",
                "node.toml:20",
                "trace",
            ),
            (
                edit("id = 2", "id = 0"),
                "SW0104",
                "node.toml:3",
                "use 1 to",
            ),
            (edit("id = 2", ""), "SW0104", "node.toml:2", "add id = 1"),
            (edit("id = 2", "id = = 2"), "SW0102", "node.toml:3", "TOML"),
            (
                parse(FULL, &[("STROWGER__LISTEN__APY", "1")]),
                "SW0103",
                "STROWGER__LISTEN__APY",
                "did you mean",
            ),
            (
                parse(FULL, &[("STROWGER__LISTEN__API", "x")]),
                "SW0104",
                "STROWGER__LISTEN__API",
                "whole number",
            ),
        ];
        for (result, code, place, words) in table {
            let fault = result.expect_err(code);
            let text = fault.to_string();
            assert_eq!(fault.code, code, "{text}");
            assert!(text.contains(place), "{text} names {place}");
            assert!(text.contains(words), "{text} says {words}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let fault = NodeConfig::load(Path::new("/nowhere/node.toml")).expect_err("missing");
        assert_eq!(fault.code, "SW0101");
        assert!(fault.to_string().contains("/nowhere/node.toml"));
    }
}
