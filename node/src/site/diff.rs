//! What changes between two sites, as lines people read, and what that touches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};

use strowger_core::hours::{HoursSpec, Span};
use strowger_core::ids::{AgentId, Extension, QueueName};
use strowger_core::site::{
    AgentSpec, Callback, CallerId, Choice, Closed, ExtensionSpec, NumberSpec, PauseSpec, QueueSpec,
    RelaxStep, RungFirst, Site, TakeoverMode, Target, TrunkSpec,
};

/// Lines shown; further ones are counted.
const LINES_MAX: usize = 400;

/// The difference between two sites.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Lines `+ …`, `- …`, `~ …`.
    pub lines: Vec<String>,
    /// Extensions that go or change.
    pub extensions: BTreeSet<Extension>,
    /// Agents that go or change.
    pub agents: BTreeSet<AgentId>,
    /// Queues that go or change.
    pub queues: BTreeSet<QueueName>,
}

/// Compares the site in force, if any, with a new one.
pub fn difference(old: Option<&Site>, new: &Site) -> Difference {
    let empty = Site {
        tenant: new.tenant.clone(),
        domain: String::new(),
        timezone: String::new(),
        digest: Vec::new(),
        numbering: strowger_core::site::Numbering::default(),
        tiers: BTreeMap::new(),
        service_addresses: Vec::new(),
        takeover: new.takeover,
        extensions: BTreeMap::new(),
        imported: BTreeSet::new(),
        numbers: BTreeMap::new(),
        queues: BTreeMap::new(),
        agents: BTreeMap::new(),
        pauses: Vec::new(),
        hours: BTreeMap::new(),
        trunks: BTreeMap::new(),
        routes: Vec::new(),
        blobs: BTreeMap::new(),
    };
    let before = old.unwrap_or(&empty);
    let mut lines = Vec::new();
    if old.is_none() {
        lines.push(format!("+ tenant {}", new.tenant));
    } else {
        let name = format!("tenant {}", new.tenant);
        change(
            &mut lines,
            &name,
            &tenant_fields(before),
            &tenant_fields(new),
        );
    }
    set(
        &mut lines,
        "service address",
        &before.service_addresses,
        &new.service_addresses,
    );
    let extensions = map(
        &mut lines,
        "extension",
        &before.extensions,
        &new.extensions,
        extension_fields,
    );
    map(
        &mut lines,
        "number",
        &before.numbers,
        &new.numbers,
        number_fields,
    );
    map(&mut lines, "hours", &before.hours, &new.hours, hours_fields);
    let queues = map(
        &mut lines,
        "queue",
        &before.queues,
        &new.queues,
        queue_fields,
    );
    let agents = map(
        &mut lines,
        "agent",
        &before.agents,
        &new.agents,
        agent_fields,
    );
    map(
        &mut lines,
        "trunk",
        &before.trunks,
        &new.trunks,
        trunk_fields,
    );
    map(&mut lines, "tier", &before.tiers, &new.tiers, |weight| {
        vec![("weight", weight.to_string())]
    });
    if order_of_agents(before, new) != order_of_agents(new, before) {
        lines.push("~ agents: other order".to_owned());
    }
    let pauses = |site: &Site| -> Vec<String> { site.pauses.iter().map(pause_words).collect() };
    set(&mut lines, "pause", &pauses(before), &pauses(new));
    let routes = |site: &Site| -> Vec<String> {
        let line = |route: &strowger_core::site::RouteSpec| {
            let trunks: Vec<String> = route.trunks.iter().map(choice).collect();
            format!(
                "{} strip {} trunk {}",
                route.prefix,
                route.strip,
                trunks.join(", ")
            )
        };
        site.routes.iter().map(line).collect()
    };
    set(&mut lines, "route", &routes(before), &routes(new));
    if lines.len() > LINES_MAX {
        let more = lines.len() - LINES_MAX;
        lines.truncate(LINES_MAX);
        lines.push(format!("… and {more} more"));
    }
    Difference {
        lines,
        extensions,
        agents,
        queues,
    }
}

type Fields = Vec<(&'static str, String)>;

fn tenant_fields(site: &Site) -> Fields {
    let takeover = match site.takeover {
        TakeoverMode::Address => "address",
        TakeoverMode::Reinvite => "reinvite",
    };
    vec![
        ("domain", site.domain.clone()),
        (
            "digest",
            list(site.digest.iter().map(|one| super::digest_name(*one))),
        ),
        ("takeover", takeover.to_owned()),
        ("timezone", site.timezone.clone()),
        ("country", site.numbering.country.clone()),
        ("area", site.numbering.area.clone()),
        ("trunk_prefix", site.numbering.trunk_prefix.clone()),
        (
            "international_prefix",
            site.numbering.international_prefix.clone(),
        ),
    ]
}

fn extension_fields(spec: &ExtensionSpec) -> Fields {
    vec![
        ("contact", optional(spec.contact.as_ref())),
        (
            "qualify_s",
            spec.qualify_s
                .map_or_else(|| "usual".to_owned(), |seconds| seconds.to_string()),
        ),
    ]
}

fn target(target: &Target) -> String {
    match target {
        Target::Queue(queue) => format!("queue:{queue}"),
        Target::Extension(extension) => format!("extension:{extension}"),
    }
}

fn number_fields(spec: &NumberSpec) -> Fields {
    let target = target(&spec.target);
    vec![
        ("target", target),
        ("public", spec.public.to_string()),
        (
            "greeting",
            optional(spec.greeting.as_ref().map(short).as_ref()),
        ),
        (
            "hours",
            optional(spec.hours.as_ref().map(|(hours, _)| hours)),
        ),
        (
            "closed",
            optional(spec.hours.as_ref().map(|(_, to)| closed(to)).as_ref()),
        ),
    ]
}

fn hours_fields(spec: &HoursSpec) -> Fields {
    let [mon, tue, wed, thu, fri, sat, sun] = &spec.week;
    let holidays = spec.holidays.iter().map(|(day, spans)| {
        let date = format!("{:04}-{:02}-{:02}", day.year, day.month, day.day);
        format!("{date} {}", spans_words(spans))
    });
    vec![
        ("timezone", spec.timezone.clone()),
        ("mon", spans_words(mon)),
        ("tue", spans_words(tue)),
        ("wed", spans_words(wed)),
        ("thu", spans_words(thu)),
        ("fri", spans_words(fri)),
        ("sat", spans_words(sat)),
        ("sun", spans_words(sun)),
        ("holidays", list(holidays)),
    ]
}

fn spans_words(spans: &[Span]) -> String {
    match spans {
        [] => "closed".to_owned(),
        _ => super::hours::words(spans),
    }
}

fn closed(closed: &Closed) -> String {
    match closed {
        Closed::To(to) => target(to),
        Closed::Told(language) => format!("announcement {}", language.as_str()),
    }
}

fn queue_fields(spec: &QueueSpec) -> Fields {
    vec![
        ("strategy", spec.strategy.as_str().to_owned()),
        ("ring_s", (spec.ring_ms / 1_000).to_string()),
        ("wrap_s", (spec.wrap_ms / 1_000).to_string()),
        ("missed_max", spec.missed_max.to_string()),
        ("music", optional(spec.music.as_ref().map(short).as_ref())),
        (
            "agent_announcement",
            optional(spec.agent_announcement.as_ref().map(short).as_ref()),
        ),
        ("sl_s", (spec.sl_ms / 1_000).to_string()),
        (
            "short_abandon_s",
            (spec.short_abandon_ms / 1_000).to_string(),
        ),
        ("sl_formula", spec.sl_formula.as_str().to_owned()),
        ("language", spec.comfort.language.as_str().to_owned()),
        ("announce_s", (spec.comfort.announce_ms / 1_000).to_string()),
        ("announce_position", spec.comfort.position.to_string()),
        ("announce_wait", spec.comfort.expected_wait.to_string()),
        (
            "advert",
            optional(
                spec.comfort
                    .advert
                    .map(|(key, blob)| format!("{} {}", key.as_char(), short(&blob)))
                    .as_ref(),
            ),
        ),
        (
            "exit",
            optional(
                spec.comfort
                    .exit
                    .as_ref()
                    .map(|(key, to)| format!("{} {}", key.as_char(), target(to)))
                    .as_ref(),
            ),
        ),
        (
            "max_wait_s",
            optional(
                spec.comfort
                    .max_wait
                    .as_ref()
                    .map(|(ms, to)| format!("{} {}", ms / 1_000, target(to)))
                    .as_ref(),
            ),
        ),
        (
            "max_length",
            optional(
                spec.comfort
                    .max_length
                    .as_ref()
                    .map(|(most, to)| format!("{most} {}", target(to)))
                    .as_ref(),
            ),
        ),
        (
            "no_agents",
            optional(spec.comfort.unstaffed.as_ref().map(target).as_ref()),
        ),
        (
            "callback",
            optional(spec.comfort.callback.as_ref().map(callback_words).as_ref()),
        ),
        ("redial_s", (spec.comfort.redial_ms / 1_000).to_string()),
        ("weight", spec.weight.to_string()),
        ("slope", spec.slope.to_string()),
        ("age_max_s", (spec.age_max_ms / 1_000).to_string()),
        ("skills", spec.skills.to_string()),
        ("relax", list(spec.relax.iter().map(relax_words))),
        ("sticky_s", (spec.sticky_ms / 1_000).to_string()),
    ]
}

/// How a queue calls back, such as `key 1 after 30s, 3 attempts 600s apart`.
fn callback_words(rule: &Callback) -> String {
    let mut words = format!(
        "key {} after {}s, {} attempts {}s apart",
        rule.key.as_char(),
        rule.after_ms / 1_000,
        rule.attempts,
        rule.pause_ms / 1_000
    );
    if !rule.prefix.is_empty() {
        words.push_str(&format!(", by {}", rule.prefix));
    }
    if let Some(hours) = &rule.hours {
        words.push_str(&format!(", in {hours}"));
    }
    if rule.first != RungFirst::default() {
        words.push_str(&format!(", {} first", rule.first.as_str()));
    }
    words
}

/// A step that widens who may serve, such as `20s lang>=1 +queue other`.
fn relax_words(step: &RelaxStep) -> String {
    let mut words = format!("{}s", step.after_ms / 1_000);
    if let Some(rule) = &step.skills {
        words.push_str(&format!(" {rule}"));
    }
    for queue in &step.queues {
        words.push_str(&format!(" +queue {queue}"));
    }
    for team in &step.teams {
        words.push_str(&format!(" +team {team}"));
    }
    words
}

/// Agents of `site` that `other` has too, in the order written.
fn order_of_agents<'s>(site: &'s Site, other: &Site) -> Vec<&'s AgentId> {
    let agents = site.agents.iter();
    let mut common: Vec<_> = agents
        .filter(|(id, _)| other.agents.contains_key(*id))
        .map(|(id, spec)| (spec.place, id))
        .collect();
    common.sort_unstable();
    common.into_iter().map(|(_, id)| id).collect()
}

fn pause_words(pause: &PauseSpec) -> String {
    let limit = pause.limit_ms.map_or_else(
        || "without limit".to_owned(),
        |limit| format!("limit {} s", limit / 1_000),
    );
    let kind = if pause.productive { ", productive" } else { "" };
    format!("{} {limit}{kind}", pause.reason)
}

fn agent_fields(spec: &AgentSpec) -> Fields {
    let skills = spec
        .skills
        .iter()
        .map(|(skill, level)| format!("{skill}={level}"));
    vec![
        ("extension", optional(spec.extension.as_ref())),
        ("contact", optional(spec.contact.as_ref())),
        ("devices", list(spec.devices.iter())),
        ("queues", list(spec.queues.iter())),
        ("skills", list(skills)),
        ("team", optional(spec.team.as_ref())),
        (
            "wrap_s",
            optional(spec.wrap_ms.map(|ms| ms / 1_000).as_ref()),
        ),
        ("signed_in", spec.signed_in.to_string()),
        ("qualify_s", spec.qualify_s.to_string()),
    ]
}

fn trunk_fields(spec: &TrunkSpec) -> Fields {
    vec![
        ("destinations", list(spec.destinations.iter().map(choice))),
        ("sources", list(spec.sources.iter())),
        ("channels", spec.channels.to_string()),
        ("cps", spec.cps.to_string()),
        ("failover_s", (spec.failover_ms / 1_000).to_string()),
        ("caller_id", caller_id(&spec.caller_id)),
        ("qualify_s", spec.qualify_s.to_string()),
    ]
}

fn choice<T: Display>(choice: &Choice<T>) -> String {
    match choice.weight {
        0 => choice.what.to_string(),
        weight => format!("{} weight={weight}", choice.what),
    }
}

fn caller_id(rule: &CallerId) -> String {
    match rule {
        CallerId::Fixed(number) => format!("fixed:{number}"),
        CallerId::Own { strip: 0, prepend } if prepend.is_empty() => "pass".to_owned(),
        CallerId::Own { strip: 0, prepend } => format!("prepend:{prepend}"),
        CallerId::Own { strip, prepend } if prepend.is_empty() => format!("strip:{strip}"),
        CallerId::Own { strip, prepend } => format!("strip:{strip} prepend:{prepend}"),
    }
}

/// The first digits of a blob's hash: enough to see that it changed.
fn short(blob: &strowger_core::ids::BlobId) -> String {
    blob.to_string().chars().take(13).collect()
}

fn optional<T: Display>(value: Option<&T>) -> String {
    value.map_or_else(|| "none".to_owned(), ToString::to_string)
}

fn list(items: impl Iterator<Item = impl Display>) -> String {
    let words: Vec<String> = items.map(|item| item.to_string()).collect();
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(",")
    }
}

/// Adds the lines of two maps; returns the keys that went or changed.
fn map<K: Ord + Clone + Display, V: PartialEq>(
    lines: &mut Vec<String>,
    word: &str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    fields: fn(&V) -> Fields,
) -> BTreeSet<K> {
    let mut touched = BTreeSet::new();
    for (key, was) in old {
        match new.get(key) {
            None => lines.push(format!("- {word} {key}")),
            Some(is) if is != was && fields(is) != fields(was) => {
                change(lines, &format!("{word} {key}"), &fields(was), &fields(is));
            }
            Some(_) => continue,
        }
        touched.insert(key.clone());
    }
    let added = new.keys().filter(|key| !old.contains_key(key));
    lines.extend(added.map(|key| format!("+ {word} {key}")));
    touched
}

fn set<T: PartialEq + Display + Debug>(lines: &mut Vec<String>, word: &str, old: &[T], new: &[T]) {
    let gone = old.iter().filter(|item| !new.contains(item));
    lines.extend(gone.map(|item| format!("- {word} {item}")));
    let added = new.iter().filter(|item| !old.contains(item));
    lines.extend(added.map(|item| format!("+ {word} {item}")));
}

fn change(lines: &mut Vec<String>, name: &str, old: &Fields, new: &Fields) {
    let changes: Vec<String> = old
        .iter()
        .zip(new)
        .filter(|(was, is)| was.1 != is.1)
        .map(|((field, was), (_, is))| format!("{field} {was} → {is}"))
        .collect();
    if !changes.is_empty() {
        lines.push(format!("~ {name}: {}", changes.join(", ")));
    }
}
