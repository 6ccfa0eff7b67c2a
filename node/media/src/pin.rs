//! Which source is the phone: the signalled address at once, another after several packets.
//!
//! Symmetric RTP (RFC 4961) behind NAT, without letting a third party take the stream later:
//! once pinned, other sources are refused until signalling names a new remote. One exception:
//! the signalled address itself always wins over a source that was merely learnt.

use std::net::SocketAddr;

/// The pinning of one leg.
#[derive(Debug)]
pub(crate) struct Pin {
    signalled: Option<SocketAddr>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nobody yet; how often in a row the last unexpected source was seen.
    Learning {
        candidate: Option<SocketAddr>,
        count: u32,
    },
    Pinned(SocketAddr),
}

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// From the pinned source.
    Accept,
    /// The source was pinned by this packet.
    Pinned,
    /// Not known well enough yet; drop it without blame.
    Wait,
    /// From a third party.
    Foreign,
}

impl Pin {
    pub(crate) fn new() -> Self {
        Self {
            signalled: None,
            state: State::Learning {
                candidate: None,
                count: 0,
            },
        }
    }

    /// Signalling named the remote. Returns true when it is new and learning begins again.
    pub(crate) fn signal(&mut self, remote: Option<SocketAddr>) -> bool {
        if self.signalled == remote {
            return false;
        }
        self.signalled = remote;
        self.state = State::Learning {
            candidate: None,
            count: 0,
        };
        true
    }

    /// Judges the source of a valid RTP packet.
    pub(crate) fn judge(&mut self, source: SocketAddr, latch_packets: u32) -> Verdict {
        match self.state {
            State::Pinned(pinned) if pinned == source => Verdict::Accept,
            _ if self.signalled == Some(source) => self.pin(source),
            State::Pinned(_) => Verdict::Foreign,
            State::Learning { candidate, count } => {
                let count = if candidate == Some(source) {
                    count.saturating_add(1)
                } else {
                    1
                };
                if count >= latch_packets {
                    return self.pin(source);
                }
                self.state = State::Learning {
                    candidate: Some(source),
                    count,
                };
                Verdict::Wait
            }
        }
    }

    /// Where packets for the phone go: the pinned source, else the signalled address.
    pub(crate) fn target(&self) -> Option<SocketAddr> {
        match self.state {
            State::Pinned(pinned) => Some(pinned),
            State::Learning { .. } => self.signalled,
        }
    }

    fn pin(&mut self, source: SocketAddr) -> Verdict {
        self.state = State::Pinned(source);
        Verdict::Pinned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 9], port))
    }

    #[test]
    fn the_signalled_source_is_pinned_at_once_and_others_are_foreign() {
        let mut pin = Pin::new();
        assert!(pin.signal(Some(at(1))));
        assert_eq!(pin.target(), Some(at(1)));
        assert_eq!(pin.judge(at(1), 5), Verdict::Pinned);
        assert_eq!(pin.judge(at(1), 5), Verdict::Accept);
        for _ in 0..10 {
            assert_eq!(pin.judge(at(2), 5), Verdict::Foreign);
        }
        assert!(!pin.signal(Some(at(1))), "the same remote changes nothing");
        assert_eq!(pin.judge(at(1), 5), Verdict::Accept);
    }

    #[test]
    fn another_source_needs_five_packets_in_a_row() {
        let mut pin = Pin::new();
        pin.signal(Some(at(1)));
        for _ in 0..4 {
            assert_eq!(pin.judge(at(2), 5), Verdict::Wait);
        }
        assert_eq!(
            pin.judge(at(3), 5),
            Verdict::Wait,
            "a third source starts the count anew"
        );
        for _ in 0..4 {
            assert_eq!(pin.judge(at(2), 5), Verdict::Wait);
        }
        assert_eq!(pin.judge(at(2), 5), Verdict::Pinned);
        assert_eq!(pin.target(), Some(at(2)));
        assert_eq!(pin.judge(at(3), 5), Verdict::Foreign);
    }

    #[test]
    fn the_signalled_address_wins_over_a_learnt_one_and_a_new_remote_reopens() {
        let mut pin = Pin::new();
        pin.signal(Some(at(1)));
        assert_eq!(pin.judge(at(2), 1), Verdict::Pinned);
        assert_eq!(pin.judge(at(1), 1), Verdict::Pinned);
        assert_eq!(pin.judge(at(2), 1), Verdict::Foreign);
        assert!(pin.signal(Some(at(4))));
        assert_eq!(pin.target(), Some(at(4)));
        assert_eq!(pin.judge(at(1), 2), Verdict::Wait);
        assert_eq!(pin.judge(at(4), 2), Verdict::Pinned);
    }
}
