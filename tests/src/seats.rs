//! What a crowd of agents at one SIPp lived through, read from its log of messages.

use std::collections::{BTreeMap, BTreeSet};

/// An agent was free, then called again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    /// When the next INVITE came, in seconds since 1970.
    pub at: f64,
    /// Seconds since the end of the call before.
    pub seconds: f64,
}

/// A second call reached an agent who had one.
#[derive(Clone, Debug, PartialEq)]
pub struct Double {
    /// When, in seconds since 1970.
    pub at: f64,
    /// The agent.
    pub agent: String,
}

/// The agents' side of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seats {
    /// From each agent's BYE to the next INVITE for the same agent.
    pub gaps: Vec<Gap>,
    /// Calls that came to an agent in a call.
    pub doubles: Vec<Double>,
    /// INVITEs, each dialog once.
    pub offers: usize,
}

impl Seats {
    /// Reads the log of [`crate::sipp::Running::messages`].
    pub fn read(messages: &str) -> Self {
        let mut seats = Self::default();
        let mut agent_of: BTreeMap<&str, &str> = BTreeMap::new();
        let mut free_since: BTreeMap<&str, f64> = BTreeMap::new();
        let mut live: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for line in messages.lines() {
            let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
            let [_, _, at, way, call, _, first, ..] = fields.as_slice() else {
                continue;
            };
            let Ok(at) = at.parse::<f64>() else {
                continue;
            };
            let method = first.split(' ').next().unwrap_or_default();
            if (*way, method) == ("R", "INVITE") {
                let user = first.split("sip:").nth(1);
                let Some(agent) = user.and_then(|rest| rest.split('@').next()) else {
                    continue;
                };
                if agent_of.insert(call, agent).is_some() {
                    // Sent again; the first one counts.
                    continue;
                }
                seats.offers += 1;
                let calls = live.entry(agent).or_default();
                if !calls.is_empty() {
                    let agent = agent.to_owned();
                    seats.doubles.push(Double { at, agent });
                }
                calls.insert(call);
                if let Some(since) = free_since.remove(agent) {
                    let seconds = at - since;
                    seats.gaps.push(Gap { at, seconds });
                }
            } else if matches!((*way, method), (_, "BYE") | ("R", "CANCEL"))
                && let Some(agent) = agent_of.get(call)
            {
                if let Some(calls) = live.get_mut(agent) {
                    calls.remove(call);
                }
                if *way == "S" {
                    free_since.entry(agent).or_insert(at);
                }
            }
        }
        seats
    }
}

/// The value below which `share` of the values lie; NaN without any.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() as f64 * share) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(index.min(last)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: f64, way: &str, call: &str, first: &str) -> String {
        format!("2026-01-01\t10:00:00\t{at}\t{way}\t{call}\tCSeq:1 X\t{first}\n")
    }

    #[test]
    fn gaps_and_doubles_are_found() {
        let invite = |agent: &str| format!("INVITE sip:{agent}@127.0.0.60:6060 SIP/2.0");
        let log = [
            line(1.0, "R", "a", &invite("s001")),
            line(1.5, "R", "a", &invite("s001")),
            line(2.0, "S", "a", "BYE sip:127.0.0.1 SIP/2.0"),
            line(2.25, "R", "b", &invite("s001")),
            line(2.5, "R", "c", &invite("s002")),
            line(2.75, "R", "d", &invite("s001")),
            line(3.0, "R", "b", "CANCEL sip:s001@127.0.0.60 SIP/2.0"),
        ]
        .concat();
        let seats = Seats::read(&log);
        assert_eq!(seats.offers, 4);
        let gap = Gap {
            at: 2.25,
            seconds: 0.25,
        };
        assert_eq!(seats.gaps, [gap]);
        let double = Double {
            at: 2.75,
            agent: "s001".to_owned(),
        };
        assert_eq!(seats.doubles, [double]);
    }

    #[test]
    fn quantiles_are_taken_from_what_is_there() {
        let values: Vec<f64> = (1..=100).map(f64::from).rev().collect();
        assert!((quantile(&values, 0.5) - 51.0).abs() < f64::EPSILON);
        assert!((quantile(&values, 1.0) - 100.0).abs() < f64::EPSILON);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
