//! The port pools: one per local address, round robin, bounded.
//!
//! A pair is held by a [`PortLease`] and free when that is dropped, so no path can leak one.
//! The pool decides numbers only; binding is the caller's business.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::OpenError;
use crate::limits;

/// The pools of all local addresses.
#[derive(Debug)]
pub(crate) struct PortPool {
    first: u16,
    pairs: usize,
    pools: Mutex<HashMap<IpAddr, Pool>>,
}

#[derive(Debug)]
struct Pool {
    taken: Vec<bool>,
    in_use: usize,
    /// Where the next search starts: behind the pair given last, so that a port just closed
    /// rests as long as possible and late packets of its old call meet nobody.
    next: usize,
    /// Pairs that legs still to be taken over want, and until when they are kept for them.
    wanted: Option<(HashSet<usize>, Instant)>,
}

/// One even port and its odd neighbour, ours until dropped.
#[derive(Debug)]
pub(crate) struct PortLease {
    pool: Arc<PortPool>,
    local: IpAddr,
    index: usize,
    port: u16,
}

impl PortPool {
    /// `None` when the range holds no pair.
    pub(crate) fn new(range: &RangeInclusive<u16>) -> Option<Arc<Self>> {
        let first = range.start().checked_next_multiple_of(2)?;
        let pairs = usize::from(range.end().checked_sub(first)?).div_ceil(2);
        (pairs > 0 && first > 0).then(|| {
            Arc::new(Self {
                first,
                pairs,
                pools: Mutex::new(HashMap::new()),
            })
        })
    }

    /// Port pairs per local address.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs
    }

    /// Pairs in use over all addresses.
    pub(crate) fn in_use(&self) -> usize {
        self.pools.lock().values().map(|pool| pool.in_use).sum()
    }

    /// The next free pair of this address.
    pub(crate) fn take(self: &Arc<Self>, local: IpAddr) -> Result<PortLease, OpenError> {
        self.with_pool(local, |pool| {
            let pairs = pool.taken.len();
            pool.wanted.take_if(|(_, until)| *until <= Instant::now());
            let wanted = |index: &usize| {
                let wanted = pool.wanted.as_ref();
                wanted.is_some_and(|(pairs, _)| pairs.contains(index))
            };
            let mut free = (0..pairs)
                .map(|step| (pool.next + step) % pairs)
                .filter(|index| pool.taken.get(*index) == Some(&false));
            // Whoever is here now goes before whoever may never be taken over.
            let index = free.clone().find(|index| !wanted(index));
            let index = index.or_else(|| free.next());
            let index = index.ok_or(OpenError::PortsExhausted { local, pairs })?;
            pool.next = (index + 1) % pairs;
            Ok(index)
        })
    }

    /// Keeps pairs of an address for legs that are taken over with them, for so long: others
    /// get them only when no other is left. Replaces what was kept before.
    pub(crate) fn keep(
        self: &Arc<Self>,
        local: IpAddr,
        ports: impl IntoIterator<Item = u16>,
        patience: Duration,
    ) -> Result<(), OpenError> {
        let indices = ports.into_iter().filter_map(|port| self.index_of(port));
        let wanted = (indices.collect(), Instant::now() + patience);
        let mut pools = self.pools.lock();
        self.pool(&mut pools, local)?.wanted = Some(wanted);
        Ok(())
    }

    fn index_of(&self, port: u16) -> Option<usize> {
        let offset = port.checked_sub(self.first)?;
        let index = usize::from(offset / 2);
        (offset % 2 == 0 && index < self.pairs).then_some(index)
    }

    /// This very pair, for a call that is taken over with its ports. The search for others
    /// goes on elsewhere: the next pair is likely to be wanted by the next such call.
    pub(crate) fn take_port(
        self: &Arc<Self>,
        local: IpAddr,
        port: u16,
    ) -> Result<PortLease, OpenError> {
        let index = self.index_of(port);
        let index = index.ok_or(OpenError::PortOutOfRange(port))?;
        self.with_pool(local, |pool| match pool.taken.get(index) {
            Some(false) => Ok(index),
            _ => Err(OpenError::PortInUse { local, port }),
        })
    }

    fn with_pool(
        self: &Arc<Self>,
        local: IpAddr,
        choose: impl FnOnce(&mut Pool) -> Result<usize, OpenError>,
    ) -> Result<PortLease, OpenError> {
        let mut pools = self.pools.lock();
        let pool = self.pool(&mut pools, local)?;
        let index = choose(pool)?;
        let offset = u16::try_from(index * 2).map_err(|_| OpenError::TooManyAddresses)?;
        if let Some(slot) = pool.taken.get_mut(index) {
            *slot = true;
        }
        pool.in_use += 1;
        Ok(PortLease {
            pool: Arc::clone(self),
            local,
            index,
            port: self.first + offset,
        })
    }

    fn pool<'a>(
        &self,
        pools: &'a mut HashMap<IpAddr, Pool>,
        local: IpAddr,
    ) -> Result<&'a mut Pool, OpenError> {
        if !pools.contains_key(&local) && pools.len() >= limits::LOCAL_ADDRESSES_MAX {
            pools.retain(|_, pool| pool.in_use > 0);
            if pools.len() >= limits::LOCAL_ADDRESSES_MAX {
                return Err(OpenError::TooManyAddresses);
            }
        }
        Ok(pools.entry(local).or_insert_with(|| Pool {
            taken: vec![false; self.pairs],
            in_use: 0,
            // Not where another holder of the address began: legs taken over from it want
            // their own ports.
            next: usize::try_from(RandomState::new().hash_one(local)).unwrap_or(0) % self.pairs,
            wanted: None,
        }))
    }
}

impl PortLease {
    /// The even port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        let mut pools = self.pool.pools.lock();
        if let Some(pool) = pools.get_mut(&self.local)
            && let Some(slot) = pool.taken.get_mut(self.index)
        {
            *slot = false;
            pool.in_use -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn pairs_are_even_and_inside_the_range() {
        let pool = PortPool::new(&(20_001..=20_006)).expect("two pairs");
        assert_eq!(pool.pairs(), 2);
        let a = pool.take(LOCAL).expect("first");
        let b = pool.take(LOCAL).expect("second");
        let ports = BTreeSet::from([a.port(), b.port()]);
        assert_eq!(ports, BTreeSet::from([20_002, 20_004]));
        assert!(matches!(
            pool.take(LOCAL),
            Err(OpenError::PortsExhausted { pairs: 2, .. })
        ));
        assert!(PortPool::new(&(20_001..=20_002)).is_none());
        assert!(PortPool::new(&(65_535..=65_535)).is_none());
        assert_eq!(
            PortPool::new(&(20_000..=20_001)).map(|p| p.pairs()),
            Some(1)
        );
    }

    #[test]
    fn a_freed_pair_is_the_last_to_come_again() {
        let pool = PortPool::new(&(30_000..=30_007)).expect("four pairs");
        let first = pool.take(LOCAL).expect("free").port();
        let mut ports: Vec<u16> = (0..4)
            .map(|_| pool.take(LOCAL).expect("free").port())
            .collect();
        assert_eq!(ports.last(), Some(&first));
        ports.sort_unstable();
        assert_eq!(ports, [30_000, 30_002, 30_004, 30_006]);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn each_address_has_its_own_pool_and_a_port_can_be_asked_for() {
        let pool = PortPool::new(&(30_000..=30_001)).expect("one pair");
        let a = pool.take(LOCAL).expect("free");
        let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        let b = pool.take_port(other, 30_000).expect("free there");
        assert_eq!((a.port(), b.port(), pool.in_use()), (30_000, 30_000, 2));
        assert!(matches!(
            pool.take_port(other, 30_000),
            Err(OpenError::PortInUse { .. })
        ));
        assert!(matches!(
            pool.take_port(other, 30_001),
            Err(OpenError::PortOutOfRange(_))
        ));
        assert!(matches!(
            pool.take_port(other, 30_002),
            Err(OpenError::PortOutOfRange(_))
        ));
        drop((a, b));
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn what_legs_to_come_want_is_given_to_others_last() {
        let pool = PortPool::new(&(30_000..=30_007)).expect("four pairs");
        let minute = Duration::from_secs(60);
        let wanted = [30_000, 30_004, 30_006, 30_001, 29_000, 40_000];
        pool.keep(LOCAL, wanted, minute).expect("one address");
        let new = pool.take(LOCAL).expect("free");
        assert_eq!(new.port(), 30_002);
        let taken_over = pool.take_port(LOCAL, 30_004).expect("kept for it");
        let last: Vec<PortLease> = (0..2).map(|_| pool.take(LOCAL).expect("free")).collect();
        let ports: BTreeSet<u16> = last.iter().map(PortLease::port).collect();
        assert_eq!(ports, BTreeSet::from([30_000, 30_006]), "no other is left");
        drop((new, taken_over, last));
        pool.keep(LOCAL, [30_000, 30_002, 30_004], Duration::ZERO)
            .expect("one address");
        let ports: BTreeSet<u16> = (0..4)
            .map(|_| pool.take(LOCAL).expect("free").port())
            .collect();
        assert_eq!(ports.len(), 4, "nothing is kept any more");
    }
}
