//! Per-source token buckets, checked before anything is parsed.
//!
//! Trusted networks are never limited. The table is bounded: when it is full, buckets that have
//! refilled (their sources were idle) are forgotten, and if none has, unknown sources share one.

use crate::limits;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

/// An address block, `address/prefix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// A block of this many leading bits; longer than the address counts as the whole address.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        Self { address, prefix }
    }

    /// Reads `10.0.0.0/8` or a single address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let Some((address, prefix)) = text.split_once('/') else {
            let address = text.parse().ok()?;
            return Some(Self::new(address, 128));
        };
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= longest).then_some(Self::new(address, prefix))
    }

    /// True when the address lies in the block.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (ours, theirs, width) = match (self.address, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u128::from(a.to_bits()), u128::from(b.to_bits()), 32)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            _ => return false,
        };
        let shift = width - u32::from(self.prefix).min(width);
        ours.checked_shr(shift).unwrap_or(0) == theirs.checked_shr(shift).unwrap_or(0)
    }
}

/// What a source may do.
#[derive(Debug, Clone)]
pub struct RateLimits {
    /// Messages a second from one address, with a burst of twice as many; 0 means no limit.
    pub per_source_rps: u32,
    /// Networks that are not limited.
    pub trusted: Vec<Network>,
}

struct Bucket {
    /// For what starts something.
    tokens: f64,
    /// For what goes on with or ends something: a call admitted must be able to end, however
    /// many more its source would like to start.
    onward: f64,
    filled_at: Instant,
}

pub(super) struct Guard {
    limits: RateLimits,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl Guard {
    pub(super) fn new(limits: RateLimits) -> Self {
        Self {
            limits,
            buckets: Mutex::default(),
        }
    }

    pub(super) fn trusts(&self, ip: IpAddr) -> bool {
        self.limits
            .trusted
            .iter()
            .any(|network| network.contains(ip))
    }

    /// Takes one token of the source for a message that starts with these bytes; false when it
    /// has none left.
    pub(super) fn admit(&self, ip: IpAddr, now: Instant, message: &[u8]) -> bool {
        if self.limits.per_source_rps == 0 || self.trusts(ip) {
            return true;
        }
        let rate = f64::from(self.limits.per_source_rps);
        let burst = rate * 2.0;
        let mut buckets = self.buckets.lock();
        let mut key = ip;
        if !buckets.contains_key(&ip) && buckets.len() >= limits::RATE_SOURCES_MAX {
            buckets.retain(|_, bucket| {
                let idle = now
                    .saturating_duration_since(bucket.filled_at)
                    .as_secs_f64();
                bucket.tokens + idle * rate < burst
            });
            if buckets.len() >= limits::RATE_SOURCES_MAX {
                key = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            tokens: burst,
            onward: burst * ONWARD_FACTOR,
            filled_at: now,
        });
        let idle = now
            .saturating_duration_since(bucket.filled_at)
            .as_secs_f64();
        bucket.tokens = (bucket.tokens + idle * rate).min(burst);
        bucket.onward = (bucket.onward + idle * rate * ONWARD_FACTOR).min(burst * ONWARD_FACTOR);
        bucket.filled_at = now;
        let left = if goes_on(message) {
            &mut bucket.onward
        } else {
            &mut bucket.tokens
        };
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

/// How many messages within calls a source may send for each that starts one.
const ONWARD_FACTOR: f64 = 8.0;

/// True for responses and for requests that exist only within a transaction or dialog.
fn goes_on(message: &[u8]) -> bool {
    let starts: [&[u8]; 4] = [b"SIP/2.0 ", b"ACK ", b"BYE ", b"CANCEL "];
    starts.iter().any(|start| message.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ip(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn a_source_gets_its_burst_then_its_rate_and_the_trusted_are_free() {
        let trusted = vec![Network::parse("10.0.0.8/29").expect("valid")];
        let guard = Guard::new(RateLimits {
            per_source_rps: 10,
            trusted,
        });
        let start = Instant::now();
        assert_eq!(
            (0..50)
                .filter(|_| guard.admit(ip(1), start, b"INVITE "))
                .count(),
            20
        );
        let later = start + Duration::from_secs(1);
        assert_eq!(
            (0..50)
                .filter(|_| guard.admit(ip(1), later, b"INVITE "))
                .count(),
            10
        );
        assert_eq!(
            (0..50)
                .filter(|_| guard.admit(ip(9), start, b"INVITE "))
                .count(),
            50
        );
    }

    #[test]
    fn a_source_that_starts_too_much_can_still_end_what_it_has() {
        let guard = Guard::new(RateLimits {
            per_source_rps: 10,
            trusted: Vec::new(),
        });
        let now = Instant::now();
        assert_eq!(
            (0..50)
                .filter(|_| guard.admit(ip(1), now, b"INVITE "))
                .count(),
            20
        );
        assert!(guard.admit(ip(1), now, b"BYE sip:a@b SIP/2.0"));
        assert!(guard.admit(ip(1), now, b"ACK sip:a@b SIP/2.0"));
        assert!(guard.admit(ip(1), now, b"SIP/2.0 200 OK"));
        let flood = (0..500)
            .filter(|_| guard.admit(ip(1), now, b"BYE "))
            .count();
        assert!(flood < 200, "{flood} is no limit");
    }

    #[test]
    fn networks_hold_what_their_prefix_says() {
        let block = Network::parse("127.0.0.0/8").expect("valid");
        assert!(block.contains("127.9.9.9".parse().expect("valid")));
        assert!(!block.contains("128.0.0.1".parse().expect("valid")));
        let single = Network::parse("127.0.0.50").expect("valid");
        assert!(single.contains("127.0.0.50".parse().expect("valid")));
        assert!(!single.contains("127.0.0.51".parse().expect("valid")));
        assert_eq!(Network::parse("10.0.0.0/33"), None);
    }
}
