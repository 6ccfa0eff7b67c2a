//! Every live transaction, in shards; bounded.
//!
//! A shard's lock is never held while a leg or the handler is called.

use super::client::{ClientOwner, ClientTx, Heard};
use super::server::{Acked, Arrival, ServerTx};
use super::{Key, Wire};
use crate::limits;
use crate::message::{Request, Response};
use crate::timer::{Intervals, Kind};
use crate::token::LegToken;
use crate::transport::Flow;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[derive(Default)]
struct Shard {
    servers: HashMap<Key, ServerTx>,
    clients: HashMap<Key, ClientTx>,
}

/// The table has no room for another request.
#[derive(Debug)]
pub(crate) struct Unsent;

/// A CANCEL's effect on its INVITE.
pub(crate) enum Cancelled {
    /// No such INVITE.
    Unknown,
    /// It was answered already.
    TooLate,
    /// It belongs to this leg.
    Leg(LegToken),
    /// It belongs to nobody yet; it is marked.
    Pending(Arc<Request>),
}

pub(crate) struct Table {
    shards: Vec<Mutex<Shard>>,
    merged: Vec<Mutex<HashMap<u64, Key>>>,
    hasher: RandomState,
    live: AtomicUsize,
    times: Intervals,
}

impl Table {
    pub(crate) fn new(times: Intervals) -> Self {
        Self {
            shards: (0..limits::SHARDS).map(|_| Mutex::default()).collect(),
            merged: (0..limits::SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            live: AtomicUsize::new(0),
            times,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        let at = usize::try_from(self.hasher.hash_one(key) % limits::SHARDS as u64).unwrap_or(0);
        self.shards
            .get(at)
            .unwrap_or_else(|| unreachable!("a remainder by SHARDS indexes SHARDS shards"))
    }

    fn merged(&self, identity: u64) -> &Mutex<HashMap<u64, Key>> {
        let at = usize::try_from(identity % limits::SHARDS as u64).unwrap_or(0);
        self.merged
            .get(at)
            .unwrap_or_else(|| unreachable!("a remainder by SHARDS indexes SHARDS shards"))
    }

    fn take_place(&self) -> bool {
        let before = self.live.fetch_add(1, Ordering::Relaxed);
        if before >= limits::TRANSACTIONS_MAX {
            self.live.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    fn remove_server(&self, shard: &mut Shard, key: &Key) {
        if let Some(gone) = shard.servers.remove(key) {
            self.live.fetch_sub(1, Ordering::Relaxed);
            if let Some(identity) = gone.identity {
                let mut merged = self.merged(identity).lock();
                if merged.get(&identity) == Some(key) {
                    merged.remove(&identity);
                }
            }
        }
    }

    fn remove_client(&self, shard: &mut Shard, key: &Key) -> Option<ClientOwner> {
        let gone = shard.clients.remove(key)?;
        self.live.fetch_sub(1, Ordering::Relaxed);
        Some(gone.owner)
    }

    /// Finds or makes the server transaction of a request.
    pub(crate) fn arrive(
        &self,
        wire: &dyn Wire,
        key: &Key,
        request: &Arc<Request>,
        flow: Flow,
    ) -> Arrival {
        let mut shard = self.shard(key).lock();
        if let Some(known) = shard.servers.get(key) {
            known.again(wire);
            return Arrival::Absorbed;
        }
        if !self.take_place() {
            return Arrival::Full;
        }
        shard
            .servers
            .insert(key.clone(), ServerTx::new(request, flow, None));
        Arrival::New
    }

    /// True when another live transaction carries the same out-of-dialog request: it was forked
    /// on its way and came twice (RFC 3261 §8.2.2.2). The first one is remembered.
    pub(crate) fn is_merged(&self, key: &Key, request: &Request) -> bool {
        let headers = &request.headers;
        let cseq = headers.cseq().map_or(0, |cseq| cseq.number);
        let method = request.method.as_str();
        let parts = (headers.call_id(), headers.from_tag(), cseq, method);
        let identity = self.hasher.hash_one(parts);
        {
            let mut merged = self.merged(identity).lock();
            match merged.get(&identity) {
                Some(other) if other != key => return true,
                Some(_) => return false,
                None => merged.insert(identity, key.clone()),
            };
        }
        if let Some(server) = self.shard(key).lock().servers.get_mut(key) {
            server.identity = Some(identity);
        }
        false
    }

    pub(crate) fn respond(&self, wire: &dyn Wire, key: &Key, status: u16, bytes: Bytes) -> bool {
        let mut shard = self.shard(key).lock();
        let Some(server) = shard.servers.get_mut(key) else {
            return false;
        };
        if server.respond(wire, &self.times, key, status, bytes) {
            self.remove_server(&mut shard, key);
        }
        true
    }

    /// Ties an INVITE to its leg. `None` when it is gone, else whether it was cancelled already.
    pub(crate) fn adopt(&self, key: &Key, leg: LegToken) -> Option<bool> {
        let mut shard = self.shard(key).lock();
        let server = shard.servers.get_mut(key)?;
        server.leg = Some(leg);
        Some(server.cancelled)
    }

    pub(crate) fn cancel(&self, key: &Key) -> Cancelled {
        let mut shard = self.shard(key).lock();
        let Some(server) = shard.servers.get_mut(key) else {
            return Cancelled::Unknown;
        };
        match (&server.request, server.leg) {
            _ if !server.is_open() => Cancelled::TooLate,
            (_, Some(leg)) => Cancelled::Leg(leg),
            (Some(request), None) => {
                server.cancelled = true;
                Cancelled::Pending(Arc::clone(request))
            }
            (None, None) => Cancelled::TooLate,
        }
    }

    /// What is set once the refusal of an INVITE is acknowledged.
    pub(crate) fn refusal_known(&self, key: &Key) -> Arc<AtomicBool> {
        let shard = self.shard(key).lock();
        let server = shard.servers.get(key);
        server.map_or_else(Arc::default, |server| Arc::clone(&server.refusal_known))
    }

    /// Drops a server transaction that will never be answered here.
    pub(crate) fn abandon(&self, key: &Key) {
        let mut shard = self.shard(key).lock();
        if shard.servers.get(key).is_some_and(ServerTx::is_open) {
            self.remove_server(&mut shard, key);
        }
    }

    /// An ACK, which carries the tag of this leg.
    pub(crate) fn ack(&self, wire: &dyn Wire, key: &Key, answered: Option<LegToken>) -> Acked {
        let mut shard = self.shard(key).lock();
        let Some(server) = shard.servers.get_mut(key) else {
            return Acked::Success;
        };
        let acked = server.ack(wire, &self.times, key, answered);
        if acked == Acked::Over {
            self.remove_server(&mut shard, key);
        }
        acked
    }

    pub(crate) fn server_timer(&self, wire: &dyn Wire, key: &Key, kind: Kind) {
        let mut shard = self.shard(key).lock();
        let over = shard
            .servers
            .get_mut(key)
            .is_some_and(|server| server.timer(wire, &self.times, key, kind));
        if over {
            self.remove_server(&mut shard, key);
        }
    }

    /// Sends a request as a new client transaction.
    pub(crate) fn send(
        &self,
        wire: &dyn Wire,
        key: &Key,
        request: Request,
        flow: Flow,
        owner: ClientOwner,
    ) -> Result<(), Unsent> {
        if !self.take_place() {
            return Err(Unsent);
        }
        let mut client = ClientTx::new(request, flow, owner);
        let mut shard = self.shard(key).lock();
        client.start(wire, &self.times, key);
        if shard.clients.insert(key.clone(), client).is_some() {
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A response: its owner when there is something to deliver, or `None` when the transaction
    /// is not known here.
    pub(crate) fn response(
        &self,
        wire: &dyn Wire,
        key: &Key,
        response: &Response,
    ) -> Option<ClientOwner> {
        let mut shard = self.shard(key).lock();
        let client = shard.clients.get_mut(key)?;
        match client.response(wire, &self.times, key, response) {
            Heard::Deliver => Some(client.hand_over(response)),
            Heard::Nothing | Heard::Timeout | Heard::Over => Some(ClientOwner::Nobody),
        }
    }

    /// A timer; the owner is returned when it must hear of a timeout.
    pub(crate) fn client_timer(
        &self,
        wire: &dyn Wire,
        key: &Key,
        kind: Kind,
        stands: impl Fn(LegToken) -> bool,
    ) -> Option<ClientOwner> {
        let mut shard = self.shard(key).lock();
        let client = shard.clients.get_mut(key)?;
        // A leg that was let go has gone to another node, which speaks for it now.
        if let ClientOwner::Leg(token) = client.owner
            && !stands(token)
        {
            self.remove_client(&mut shard, key);
            return None;
        }
        match client.timer(wire, &self.times, key, kind) {
            Heard::Nothing | Heard::Deliver => None,
            Heard::Timeout => self.remove_client(&mut shard, key),
            Heard::Over => {
                self.remove_client(&mut shard, key);
                None
            }
        }
    }
}

impl ClientTx {
    /// The owner to deliver to; one that hears only once is given away with the final response.
    fn hand_over(&mut self, response: &Response) -> ClientOwner {
        match &self.owner {
            ClientOwner::Leg(token) => ClientOwner::Leg(*token),
            ClientOwner::Nobody => ClientOwner::Nobody,
            ClientOwner::Once(_) if response.is_provisional() => ClientOwner::Nobody,
            ClientOwner::Once(_) => std::mem::replace(&mut self.owner, ClientOwner::Nobody),
        }
    }
}
