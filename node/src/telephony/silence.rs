//! Far ends that send no audio any more are asked whether they are still there. A phone that has
//! lost its power says no BYE, and without a session timer (RFC 4028) nothing else would end its
//! call: the other one's extension or agent would stay taken, and a caller who waits would be
//! offered to agents.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use strowger_core::ids::LegId;
use tracing::info;

use super::Shared;
use super::sound::key_of;

/// So long a far end may be silent before it is asked. Phones that send nothing while nobody
/// speaks send comfort noise far more often, and testers without audio end their calls sooner.
const SILENT_MAX: Duration = Duration::from_secs(300);
/// Between two questions.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// Legs that were expected to send audio and did not.
#[derive(Default)]
pub struct Silent(Mutex<HashMap<LegId, Since>>);

struct Since {
    at: Instant,
    /// What it had sent by then.
    packets: u64,
}

impl Silent {
    /// A leg is silent from now on.
    pub fn begins(&self, leg: LegId, packets: u64, now: Instant) {
        let since = Since { at: now, packets };
        self.0.lock().insert(leg, since);
    }

    /// Of those that are silent for too long: what has become of them, by what they have sent
    /// now. Those that go on to be silent are returned.
    fn due(&self, now: Instant, sent: impl Fn(LegId) -> Option<u64>) -> Vec<LegId> {
        let is_late = |since: &Since| now.saturating_duration_since(since.at) >= SILENT_MAX;
        let late: Vec<LegId> = {
            let silent = self.0.lock();
            let late = silent.iter().filter(|(_, since)| is_late(since));
            late.map(|(leg, _)| *leg).collect()
        };
        let sent: HashMap<LegId, Option<u64>> =
            late.into_iter().map(|leg| (leg, sent(leg))).collect();
        let mut silent = self.0.lock();
        silent.retain(|leg, since| match sent.get(leg) {
            Some(packets) => *packets == Some(since.packets),
            None => true,
        });
        let still = sent.into_keys().filter(|leg| silent.contains_key(leg));
        still.collect()
    }
}

/// Notes that nothing is heard of a leg.
pub fn begins(shared: &Shared, leg: LegId) {
    if let Ok(stats) = shared.engine.stats(key_of(leg)) {
        let packets = stats.packets_received;
        shared.silent.begins(leg, packets, Instant::now());
    }
}

/// Asks those who are silent, for ever. Who does not know the call, or does not answer at all,
/// has left it (RFC 3261 §12.2.1.2).
pub async fn keep(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(ASK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let sent = |leg| {
            let stats = shared.engine.stats(key_of(leg));
            stats.ok().map(|stats| stats.packets_received)
        };
        for leg in shared.silent.due(Instant::now(), sent) {
            if let Some(sip) = shared.legs.sip(leg) {
                info!(%leg, "a far end has been silent for minutes; it is asked");
                super::legs::log_refusal(leg, sip.options());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stays_silent_is_asked_again_and_again_and_who_speaks_or_leaves_is_not() {
        let silent = Silent::default();
        let began = Instant::now();
        let [speaks, stays, leaves, new] = [1, 2, 3, 4].map(LegId);
        for leg in [speaks, stays, leaves] {
            silent.begins(leg, 100, began);
        }
        let sent = |leg| match leg {
            LegId(1) => Some(101),
            LegId(3) => None,
            _ => Some(100),
        };
        assert!(silent.due(began + SILENT_MAX / 2, sent).is_empty());
        let late = began + SILENT_MAX;
        silent.begins(new, 100, late);
        assert_eq!(silent.due(late, sent), [stays]);
        assert_eq!(silent.due(late + ASK_EVERY, sent), [stays]);
        assert_eq!(silent.0.lock().len(), 2, "nothing is kept of the others");
    }
}
