//! Whether peers live and whether this node may act.
//!
//! Two sources: the death watch (`death`) tells certain death from suspicion by a plain
//! TCP connection; leases (`lease`) tell when a silent node's right to act has surely run
//! out. `election` uses certain death to replace a leader at once; `succession` tells a new
//! leader how long the leases of earlier ones may still run.
//!
//! Invariant: `Dead` is never reported about a node that may still rightly act.

pub mod clocks;
pub mod death;
pub mod election;
pub mod lease;
pub mod succession;

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use strowger_core::ports::{IncarnationNumber, NodeNumber};
use tokio::sync::broadcast;

use crate::event::{ClusterEvent, Liveness};
use crate::limits;

/// A moment on the clock that runs through suspend (`CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// Now.
    pub fn now() -> Self {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
            .expect("Linux has CLOCK_BOOTTIME since 2.6.39");
        Self(now.into())
    }

    /// This moment plus `span`.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0 + span)
    }

    /// This moment minus `span`.
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }

    /// Time from `earlier` to this moment; zero when it is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// What is known about the peers.
pub struct Peers {
    known: Mutex<HashMap<NodeNumber, Liveness>>,
    incarnations: Mutex<HashMap<NodeNumber, IncarnationNumber>>,
    watched: Mutex<BTreeSet<NodeNumber>>,
    /// When leases were found to have run out.
    over_since: Mutex<HashMap<NodeNumber, Instant>>,
    /// Whose end is being proposed. Held while a lease is granted: either the proposer sees that
    /// its node is alive again, or the node is granted none.
    declaring: Mutex<BTreeSet<NodeNumber>>,
    events: broadcast::Sender<ClusterEvent>,
}

impl Peers {
    /// Nothing known yet; changes go to `events`.
    pub fn new(events: broadcast::Sender<ClusterEvent>) -> Self {
        Self {
            known: Mutex::default(),
            incarnations: Mutex::default(),
            watched: Mutex::default(),
            over_since: Mutex::default(),
            declaring: Mutex::default(),
            events,
        }
    }

    /// What is known about `node`.
    pub fn liveness(&self, node: NodeNumber) -> Option<Liveness> {
        self.known.lock().get(&node).copied()
    }

    /// The last life of `node` that was seen; 0 when none was.
    pub fn incarnation(&self, node: NodeNumber) -> IncarnationNumber {
        self.incarnations.lock().get(&node).copied().unwrap_or(0)
    }

    /// The death watch holds a connection to `node`, or lost it.
    pub fn watching(&self, node: NodeNumber, holds: bool) {
        let mut watched = self.watched.lock();
        if holds {
            watched.insert(node);
        } else {
            watched.remove(&node);
        }
    }

    /// Nodes whose death would be certain at once.
    pub fn watched(&self) -> Vec<NodeNumber> {
        self.watched.lock().iter().copied().collect()
    }

    /// `node` answered with this life.
    pub fn alive(&self, node: NodeNumber, incarnation: IncarnationNumber) {
        {
            let mut lives = self.incarnations.lock();
            let life = lives.entry(node).or_insert(incarnation);
            if *life > incarnation {
                return;
            }
            *life = incarnation;
        }
        // What a dead process sent may still arrive; its life stays over.
        let over = Liveness::Dead {
            incarnation,
            certain: true,
        };
        self.set(node, Liveness::Alive { incarnation }, |old| {
            old != Some(over)
        });
    }

    /// `node` stopped answering.
    pub fn suspect(&self, node: NodeNumber) {
        let liveness = Liveness::Suspect {
            since: Instant::now(),
        };
        self.set(node, liveness, |old| {
            matches!(old, None | Some(Liveness::Alive { .. }))
        });
    }

    /// The process that was life `incarnation` of `node` is gone.
    pub fn certainly_dead(&self, node: NodeNumber, incarnation: IncarnationNumber) {
        if self.incarnation(node) > incarnation {
            return;
        }
        self.set(
            node,
            Liveness::Dead {
                incarnation,
                certain: true,
            },
            |_| true,
        );
    }

    /// The lease of `node` surely ran out.
    pub fn lease_over(&self, node: NodeNumber) {
        let liveness = Liveness::Dead {
            incarnation: self.incarnation(node),
            certain: false,
        };
        if !matches!(self.liveness(node), Some(Liveness::Dead { .. })) {
            self.over_since.lock().insert(node, Instant::now());
        }
        self.set(node, liveness, |old| {
            !matches!(old, Some(Liveness::Dead { .. }))
        });
    }

    /// `node` is granted no lease from now on until this is called again: its end is proposed, if
    /// it is over still.
    pub fn declares(&self, node: NodeNumber, begins: bool) {
        let mut declaring = self.declaring.lock();
        if begins {
            declaring.insert(node);
        } else {
            declaring.remove(&node);
        }
    }

    /// `node` asks for a lease in this life and is heard, unless it is being declared down.
    pub fn unless_declared<T>(
        &self,
        node: NodeNumber,
        incarnation: IncarnationNumber,
        grant: impl FnOnce() -> T,
    ) -> Option<T> {
        let declaring = self.declaring.lock();
        if declaring.contains(&node) || self.is_being_declared(node) {
            return None;
        }
        let granted = grant();
        self.alive(node, incarnation);
        Some(granted)
    }

    /// True while `node` is being declared down because its lease ran out.
    fn is_being_declared(&self, node: NodeNumber) -> bool {
        let since = self.over_since.lock().get(&node).copied();
        let still = matches!(
            self.liveness(node),
            Some(Liveness::Dead { certain: false, .. })
        );
        still && since.is_some_and(|since| since.elapsed() < limits::DECLARING)
    }

    /// Takes back what was concluded from leases: only a leader hears of their renewal,
    /// so a node that leads no more would believe it for ever.
    pub fn withdraw(&self) {
        let concluded: Vec<(NodeNumber, Liveness)> = {
            let known = self.known.lock();
            let dead =
                |liveness: &Liveness| matches!(liveness, Liveness::Dead { certain: false, .. });
            let dead = known.iter().filter(|(_, liveness)| dead(liveness));
            dead.map(|(node, liveness)| (*node, *liveness)).collect()
        };
        for (node, verdict) in concluded {
            let watched = self.watched.lock().contains(&node);
            let liveness = if watched {
                Liveness::Alive {
                    incarnation: self.incarnation(node),
                }
            } else {
                Liveness::Suspect {
                    since: Instant::now(),
                }
            };
            self.set(node, liveness, |old| old == Some(verdict));
        }
    }

    /// Forgets `node`, which is no member any more.
    pub fn forget(&self, node: NodeNumber) {
        self.known.lock().remove(&node);
    }

    fn set(
        &self,
        node: NodeNumber,
        liveness: Liveness,
        may_replace: impl FnOnce(Option<Liveness>) -> bool,
    ) {
        let mut known = self.known.lock();
        let old = known.get(&node).copied();
        if old == Some(liveness) || !may_replace(old) {
            return;
        }
        known.insert(node, liveness);
        drop(known);
        // Nobody listening is fine; the state can be asked for.
        let _ = self.events.send(ClusterEvent::Liveness { node, liveness });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Peers {
        Peers::new(broadcast::channel(16).0)
    }

    #[test]
    fn only_a_leader_keeps_what_it_concluded_from_leases() {
        let peers = peers();
        peers.alive(2, 5);
        peers.watching(2, true);
        peers.alive(3, 1);
        peers.alive(4, 1);
        peers.lease_over(2);
        peers.lease_over(3);
        peers.certainly_dead(4, 1);
        peers.withdraw();
        assert_eq!(peers.liveness(2), Some(Liveness::Alive { incarnation: 5 }));
        assert!(matches!(peers.liveness(3), Some(Liveness::Suspect { .. })));
        let dead = Liveness::Dead {
            incarnation: 1,
            certain: true,
        };
        assert_eq!(peers.liveness(4), Some(dead));
    }

    #[test]
    fn who_is_being_declared_down_is_granted_nothing_until_that_is_known() {
        let peers = peers();
        let grant = || peers.unless_declared(2, 5, || ()).is_some();
        assert!(grant());
        peers.lease_over(2);
        peers.over_since.lock().clear();
        peers.declares(2, true);
        assert!(!grant(), "its end is proposed");
        assert!(matches!(peers.liveness(2), Some(Liveness::Dead { .. })));
        peers.declares(2, false);
        assert!(grant());
        assert_eq!(peers.liveness(2), Some(Liveness::Alive { incarnation: 5 }));
    }

    #[test]
    fn who_is_being_declared_down_is_so_until_it_is_heard_of_again() {
        let peers = peers();
        peers.alive(2, 5);
        assert!(!peers.is_being_declared(2));
        peers.lease_over(2);
        assert!(peers.is_being_declared(2));
        peers.alive(2, 5);
        assert!(!peers.is_being_declared(2));
        peers.certainly_dead(2, 5);
        assert!(
            !peers.is_being_declared(2),
            "a new life is not kept waiting"
        );
    }

    #[test]
    fn death_of_an_old_life_says_nothing_about_the_new_one() {
        let peers = peers();
        peers.alive(2, 5);
        peers.certainly_dead(2, 4);
        assert_eq!(peers.liveness(2), Some(Liveness::Alive { incarnation: 5 }));
        peers.certainly_dead(2, 5);
        let dead = Liveness::Dead {
            incarnation: 5,
            certain: true,
        };
        assert_eq!(peers.liveness(2), Some(dead));
        peers.suspect(2);
        peers.lease_over(2);
        assert_eq!(
            peers.liveness(2),
            Some(dead),
            "suspicion never weakens certainty"
        );
        peers.alive(2, 4);
        assert_eq!(
            peers.liveness(2),
            Some(dead),
            "a late word of an old life is no life"
        );
        peers.alive(2, 6);
        assert_eq!(peers.liveness(2), Some(Liveness::Alive { incarnation: 6 }));
    }
}
