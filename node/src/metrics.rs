//! The text that Prometheus reads, made from the same folds as everything else.

use std::fmt::{Display, Write};

use strowger_cluster::ClusterFigures;
use strowger_core::api;
use strowger_core::floor::figure::{WAIT_CLASSES, wait_bound_ms};

use crate::memory::Memory;

/// What the metrics are made of.
#[derive(Debug)]
pub struct Readings<'a> {
    /// Totals of the queues.
    pub figures: &'a [api::Figures],
    /// Trunks.
    pub trunks: &'a [api::Trunk],
    /// Live calls.
    pub calls: u64,
    /// Registered contacts.
    pub registrations: u64,
    /// Agreement and storage.
    pub cluster: &'a ClusterFigures,
    /// RTP port pairs in use on this node.
    pub rtp_ports: u64,
    /// Actors of calls on this node.
    pub call_actors: u64,
    /// Tasks of this node's runtime that have not ended.
    pub tasks: u64,
    /// SIP messages received and sent by this life of the node.
    pub sip_messages: (u64, u64),
    /// Protocol, cause and number of what this life of the node dropped.
    pub dropped: &'a [(&'static str, &'static str, u64)],
    /// Event readers connected here.
    pub event_readers: u64,
    /// Checks of the state that found an invariant broken.
    pub breaches: u64,
    /// Memory of this process.
    pub memory: Memory,
}

/// The metrics as text, format version 0.0.4.
pub fn text(readings: &Readings<'_>) -> String {
    let mut out = String::with_capacity(4_096);
    type Total = (&'static str, fn(&api::Figures) -> u64);
    let totals: [Total; 11] = [
        ("offered", |figures| figures.offered),
        ("answered", |figures| figures.answered),
        ("abandoned", |figures| figures.abandoned),
        ("overflowed", |figures| figures.overflowed),
        ("callback_taken", |figures| figures.callback_taken),
        ("node_lost", |figures| figures.node_lost),
        ("answered_in_target", |figures| figures.answered_in_target),
        ("abandoned_in_target", |figures| figures.abandoned_in_target),
        ("short_abandoned", |figures| figures.short_abandoned),
        ("offers", |figures| figures.offers),
        ("missed", |figures| figures.missed),
    ];
    for (word, value) in totals {
        let name = format!("strowger_queue_{word}_total");
        head(
            &mut out,
            &name,
            "counter",
            "Callers of the queue and offers to its agents, by what became of them.",
        );
        for figures in readings.figures {
            line(&mut out, &name, &queue_labels(figures), value(figures));
        }
    }
    let name = "strowger_queue_waiting";
    head(&mut out, name, "gauge", "Callers waiting.");
    for figures in readings.figures {
        line(&mut out, name, &queue_labels(figures), figures.waiting);
    }
    waits(&mut out, readings.figures);
    let name = "strowger_trunk_channels_in_use";
    head(
        &mut out,
        name,
        "gauge",
        "Channels of the trunk in use over the whole cluster.",
    );
    for trunk in readings.trunks {
        line(&mut out, name, &[("trunk", &trunk.name)], trunk.in_use);
    }
    type Count = (
        &'static str,
        &'static str,
        &'static str,
        fn(&api::Trunk) -> u64,
    );
    let counts: [Count; 5] = [
        (
            "strowger_trunk_channels",
            "gauge",
            "Channels of the trunk.",
            |trunk| trunk.channels,
        ),
        (
            "strowger_trunk_channels_peak",
            "gauge",
            "Highest number of channels in use so far.",
            |trunk| trunk.peak,
        ),
        (
            "strowger_trunk_seized_total",
            "counter",
            "Channels seized.",
            |trunk| trunk.seized,
        ),
        (
            "strowger_trunk_refused_total",
            "counter",
            "Calls that found no channel free or came too fast.",
            |trunk| trunk.refused,
        ),
        (
            "strowger_trunk_doubtful_total",
            "counter",
            "Channels given back without a final answer of the far end.",
            |trunk| trunk.doubtful,
        ),
    ];
    for (name, kind, help, value) in counts {
        head(&mut out, name, kind, help);
        for trunk in readings.trunks {
            line(&mut out, name, &[("trunk", &trunk.name)], value(trunk));
        }
    }
    let cluster = readings.cluster;
    let single = [
        (
            "strowger_calls",
            "gauge",
            "Live calls of the cluster.",
            readings.calls,
        ),
        (
            "strowger_registrations",
            "gauge",
            "Registered contacts.",
            readings.registrations,
        ),
        ("strowger_raft_term", "gauge", "Raft term.", cluster.term),
        (
            "strowger_raft_applied",
            "gauge",
            "Index of the last applied entry.",
            cluster.applied,
        ),
        (
            "strowger_raft_entries_total",
            "counter",
            "Entries applied by this life.",
            cluster.entries,
        ),
        (
            "strowger_raft_proposals_total",
            "counter",
            "Commands applied.",
            cluster.proposals,
        ),
        (
            "strowger_raft_syncs_total",
            "counter",
            "Synced writes of this life.",
            cluster.syncs,
        ),
        (
            "strowger_store_memory_bytes",
            "gauge",
            "Write buffers and caches of the store here.",
            cluster.store_memory,
        ),
        (
            "strowger_memory_allocated_bytes",
            "gauge",
            "Memory this process uses, the store's included.",
            readings.memory.allocated,
        ),
        (
            "strowger_memory_resident_bytes",
            "gauge",
            "Memory this process holds for that, the unused rests of pages included.",
            readings.memory.resident,
        ),
        (
            "strowger_rtp_ports_in_use",
            "gauge",
            "RTP port pairs in use here.",
            readings.rtp_ports,
        ),
        (
            "strowger_call_actors",
            "gauge",
            "Actors of calls here.",
            readings.call_actors,
        ),
        (
            "strowger_tasks",
            "gauge",
            "Tasks of the runtime here.",
            readings.tasks,
        ),
        (
            "strowger_sip_received_total",
            "counter",
            "SIP messages received here.",
            readings.sip_messages.0,
        ),
        (
            "strowger_sip_sent_total",
            "counter",
            "SIP messages sent from here.",
            readings.sip_messages.1,
        ),
        (
            "strowger_event_readers",
            "gauge",
            "Event readers here.",
            readings.event_readers,
        ),
        (
            "strowger_invariant_breaches_total",
            "counter",
            "Checks of the state here that found an invariant broken.",
            readings.breaches,
        ),
    ];
    for (name, kind, help, value) in single {
        head(&mut out, name, kind, help);
        line(&mut out, name, &[], value);
    }
    let name = "strowger_dropped_total";
    head(
        &mut out,
        name,
        "counter",
        "What was dropped here, by cause.",
    );
    for (protocol, cause, number) in readings.dropped {
        line(
            &mut out,
            name,
            &[("protocol", protocol), ("cause", cause)],
            *number,
        );
    }
    out
}

/// The waits of answered calls as a histogram, a bucket for each doubling.
fn waits(out: &mut String, figures: &[api::Figures]) {
    let name = "strowger_queue_wait_seconds";
    head(out, name, "histogram", "Waits of answered calls.");
    let bucket = format!("{name}_bucket");
    for one in figures {
        let [tenant, queue] = queue_labels(one);
        let bounds = (0..WAIT_CLASSES).step_by(4).filter_map(wait_bound_ms);
        for bound in bounds {
            let within = one.waits.iter();
            let within = within.filter(|class| class.le_ms.is_some_and(|le| le <= bound));
            let count: u64 = within.map(|class| class.count).sum();
            let le = seconds(bound);
            line(out, &bucket, &[tenant, queue, ("le", &le)], count);
        }
        line(out, &bucket, &[tenant, queue, ("le", "+Inf")], one.answered);
        let sum = seconds(one.answered_wait_ms);
        line(out, &format!("{name}_sum"), &[tenant, queue], sum);
        line(
            out,
            &format!("{name}_count"),
            &[tenant, queue],
            one.answered,
        );
    }
}

/// Milliseconds as seconds with the digits they have.
fn seconds(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1_000, ms % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn queue_labels(figures: &api::Figures) -> [(&'static str, &str); 2] {
    [("tenant", &figures.tenant), ("queue", &figures.name)]
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: impl Display) {
    out.push_str(name);
    for (place, (label, text)) in labels.iter().enumerate() {
        out.push(if place == 0 { '{' } else { ',' });
        let _ = write!(out, "{label}=\"");
        for letter in text.chars() {
            match letter {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_names_are_those_of_the_interface() {
        let figures = [api::Figures {
            tenant: "a\"b\\c\nd".to_owned(),
            name: "main".to_owned(),
            offered: 3,
            answered: 2,
            answered_wait_ms: 20_250,
            waits: [(100, 1), (23_782, 1)]
                .map(|(le_ms, count)| api::WaitClass {
                    le_ms: Some(le_ms),
                    count,
                })
                .to_vec(),
            waiting: 1,
            ..api::Figures::default()
        }];
        let cluster = ClusterFigures {
            term: 4,
            applied: 99,
            ..ClusterFigures::default()
        };
        let text = text(&Readings {
            figures: &figures,
            trunks: &[],
            calls: 5,
            registrations: 6,
            cluster: &cluster,
            rtp_ports: 7,
            call_actors: 10,
            tasks: 11,
            sip_messages: (8, 9),
            dropped: &[("sip", "malformed", 1)],
            event_readers: 0,
            breaches: 0,
            memory: Memory {
                allocated: 21,
                resident: 22,
            },
        });
        let wanted = [
            "strowger_queue_offered_total{tenant=\"a\\\"b\\\\c\\nd\",queue=\"main\"} 3\n",
            "strowger_queue_answered_total{tenant=\"a\\\"b\\\\c\\nd\",queue=\"main\"} 2\n",
            "strowger_queue_waiting{tenant=\"a\\\"b\\\\c\\nd\",queue=\"main\"} 1\n",
            "strowger_queue_wait_seconds_bucket{tenant=\"a\\\"b\\\\c\\nd\",queue=\"main\",le=\"0.1\"} 1\n",
            "strowger_queue_wait_seconds_bucket{tenant=\"a\\\"b\\\\c\\nd\",queue=\"main\",le=\"12.8\"} 1\n",
            "strowger_queue_wait_seconds_bucket{tenant=\"a\\\"b\\\\c\\nd\",queue=\"main\",le=\"25.6\"} 2\n",
            "strowger_queue_wait_seconds_bucket{tenant=\"a\\\"b\\\\c\\nd\",queue=\"main\",le=\"+Inf\"} 2\n",
            "strowger_queue_wait_seconds_sum{tenant=\"a\\\"b\\\\c\\nd\",queue=\"main\"} 20.25\n",
            "strowger_queue_wait_seconds_count{tenant=\"a\\\"b\\\\c\\nd\",queue=\"main\"} 2\n",
            "strowger_calls 5\n",
            "strowger_registrations 6\n",
            "strowger_raft_term 4\n",
            "strowger_raft_applied 99\n",
            "strowger_rtp_ports_in_use 7\n",
            "strowger_call_actors 10\n",
            "strowger_tasks 11\n",
            "strowger_memory_allocated_bytes 21\n",
            "strowger_memory_resident_bytes 22\n",
            "strowger_sip_received_total 8\n",
            "strowger_dropped_total{protocol=\"sip\",cause=\"malformed\"} 1\n",
            "# TYPE strowger_queue_offered_total counter\n",
        ];
        for line in wanted {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
