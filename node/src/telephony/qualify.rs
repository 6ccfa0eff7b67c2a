//! Phones are asked now and then whether they are there (OPTIONS), so that no caller is
//! offered to one that is not.
//!
//! Each phone is asked by one node: the holder of the address it registered at, or, for a
//! fixed device, the one a rendezvous hash picks. Only a change is proposed. A phone has
//! failed when it has not answered twice in a row.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use strowger_core::call::LegTarget;
use strowger_core::floor::phone::PhoneName;
use strowger_core::ids::{NodeId, TenantId};
use strowger_core::state::State;
use strowger_core::state::command::{Command, PhoneSeen};
use strowger_sip::message::{HeaderName, Method, Uri, host_of, new_request};
use tracing::debug;

use super::Shared;
use super::legs::NodeLegs;

/// How often due checks are looked for.
const LOOK: Duration = Duration::from_millis(500);
/// A phone that has said nothing for this long has not answered; SIP repeats twice within.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Interval for phones at which a signed-in agent works and of which the site says nothing,
/// s: two silences in a row are noticed within 8 s.
const USUAL_S: u32 = 4;
/// A phone that fails is asked at least this often, so that it is soon back.
const FAILING: Duration = Duration::from_secs(5);
/// Silences in a row that count as failure.
const SILENCES: u32 = 2;
/// Phones asked at once; the others wait for the next look.
const AT_ONCE: usize = 256;
/// How long one proposal may take.
const PROPOSE: Duration = Duration::from_secs(2);

type Phone = (TenantId, PhoneName);

/// What is to be checked.
struct Wanted {
    every: Duration,
    targets: Vec<(IpAddr, LegTarget)>,
}

/// How the checks of a phone stand.
struct Standing {
    due: Instant,
    silences: u32,
    under_way: bool,
}

/// Asks the phones that are this node's to ask, for ever.
pub async fn keep(shared: Arc<Shared>) {
    let standings: Arc<Mutex<BTreeMap<Phone, Standing>>> = Arc::default();
    loop {
        tokio::time::sleep(LOOK).await;
        if !shared.cluster.lease_valid() {
            continue;
        }
        let wanted = wanted(&shared.state.read(), shared.node);
        let now = Instant::now();
        let mut table = standings.lock();
        table.retain(|phone, standing| standing.under_way || wanted.contains_key(phone));
        let mut asked = 0;
        for (phone, wish) in wanted {
            let standing = table.entry(phone.clone()).or_insert_with(|| Standing {
                // Spread, so that a site applied does not ask all its phones at once.
                due: now + wish.every.mul_f64(rand::random::<f64>()),
                silences: 0,
                under_way: false,
            });
            if standing.under_way || standing.due > now || asked >= AT_ONCE {
                continue;
            }
            asked += 1;
            standing.under_way = true;
            let (shared, standings) = (Arc::clone(&shared), Arc::clone(&standings));
            tokio::spawn(async move {
                let status = ask(&shared, &wish.targets).await;
                let silences = settle(&standings, &phone, &wish, status);
                // A node without its lease sends nothing, and hears nothing for it.
                if shared.cluster.lease_valid() {
                    tell(&shared, phone, silences, status).await;
                }
            });
        }
    }
}

/// The phones this node asks, with where and how often.
fn wanted(state: &State, node: NodeId) -> BTreeMap<Phone, Wanted> {
    let mut wanted = BTreeMap::new();
    let here = state
        .addresses
        .values()
        .find(|row| row.holder == Some(node));
    let Some(here) = here.map(|row| row.address) else {
        return wanted;
    };
    let askers: BTreeSet<NodeId> = state
        .addresses
        .values()
        .filter_map(|row| row.holder)
        .collect();
    let fixed = |phone: &Phone, uri: &String, seconds: u32| {
        (seconds > 0 && asker(&askers, phone) == Some(node)).then(|| Wanted {
            every: Duration::from_secs(u64::from(seconds)),
            targets: vec![(
                here,
                LegTarget {
                    uri: uri.clone(),
                    flow: None,
                },
            )],
        })
    };
    for agent in state.agents.values().filter(|agent| agent.signed_in) {
        let Some(site) = state.site(&agent.tenant) else {
            continue;
        };
        let Some(spec) = site.agents.get(&agent.id) else {
            continue;
        };
        if let Some(uri) = &spec.contact {
            let phone = (agent.tenant.clone(), PhoneName::Agent(agent.id.clone()));
            if let Some(wish) = fixed(&phone, uri, spec.qualify_s) {
                wanted.insert(phone, wish);
            }
        }
        let Some(seat) = &agent.extension else {
            continue;
        };
        let spec = site.extensions.get(seat);
        if spec.is_some_and(|spec| spec.contact.is_none() && spec.qualify_s.is_none()) {
            registered(state, node, (&agent.tenant, seat), USUAL_S, &mut wanted);
        }
    }
    for (tenant, row) in &state.sites {
        for (extension, spec) in &row.site.extensions {
            let Some(seconds) = spec.qualify_s.filter(|seconds| *seconds > 0) else {
                continue;
            };
            match &spec.contact {
                Some(uri) => {
                    let phone = (tenant.clone(), PhoneName::Extension(extension.clone()));
                    if let Some(wish) = fixed(&phone, uri, seconds) {
                        wanted.insert(phone, wish);
                    }
                }
                None => registered(state, node, (tenant, extension), seconds, &mut wanted),
            }
        }
    }
    wanted
}

/// Adds a registered phone when this node holds the address it registered at.
fn registered(
    state: &State,
    node: NodeId,
    seat: (&TenantId, &strowger_core::ids::Extension),
    seconds: u32,
    wanted: &mut BTreeMap<Phone, Wanted>,
) {
    let key = (seat.0.clone(), seat.1.clone());
    let Some(row) = state.registrations.get(&key) else {
        return;
    };
    let mine = |address: IpAddr| state.holder(address) == Some(node);
    let first = row.bindings.first().map(|binding| binding.flow.local.ip());
    if !first.is_some_and(mine) {
        return;
    }
    let bindings = row.bindings.iter();
    let targets = bindings
        .filter(|binding| mine(binding.flow.local.ip()))
        .map(|binding| (binding.flow.local.ip(), binding.target()));
    let wish = Wanted {
        every: Duration::from_secs(u64::from(seconds)),
        targets: targets.collect(),
    };
    wanted.insert((key.0, PhoneName::Extension(key.1)), wish);
}

/// The node that asks a fixed device: the highest of the hashes of node and phone.
fn asker(nodes: &BTreeSet<NodeId>, phone: &Phone) -> Option<NodeId> {
    let rank = |node: &NodeId| {
        let text = format!("{} {} {}", node.0, phone.0, phone.1);
        *blake3::hash(text.as_bytes()).as_bytes()
    };
    nodes.iter().copied().max_by_key(rank)
}

/// Asks all contacts of a phone; the best of what they say, 408 for nothing.
async fn ask(shared: &Arc<Shared>, targets: &[(IpAddr, LegTarget)]) -> u16 {
    let mut asking = tokio::task::JoinSet::new();
    for (address, target) in targets {
        let (shared, address, target) = (Arc::clone(shared), *address, target.clone());
        asking.spawn(async move { ask_one(&shared, address, &target).await });
    }
    let mut worst = 408;
    while let Some(status) = asking.join_next().await {
        match status {
            Ok(Some(status)) if answers(status) => return status,
            Ok(Some(status)) => worst = status,
            Ok(None) | Err(_) => {}
        }
    }
    worst
}

/// Whatever a phone says, it is there, unless it or what stands before it says otherwise.
fn answers(status: u16) -> bool {
    !matches!(status, 408 | 503 | 504)
}

async fn ask_one(shared: &Arc<Shared>, address: IpAddr, target: &LegTarget) -> Option<u16> {
    let endpoint = shared.endpoint()?;
    let uri = Uri::parse(&target.uri)?;
    let flow = NodeLegs::new(Arc::clone(shared)).flow(address, target, &uri)?;
    let mut request = new_request(Method::Options, uri.clone());
    let us = format!("<sip:{}>", host_of(address));
    request.headers.push(HeaderName::From, us);
    request.headers.push(HeaderName::To, format!("<{uri}>"));
    request.headers.push(HeaderName::Accept, "application/sdp");
    let answer = tokio::time::timeout(PATIENCE, endpoint.request(request, flow)).await;
    answer.ok()?.ok().map(|response| response.status)
}

/// Notes an answer or a silence; how many silences there were in a row.
fn settle(
    standings: &Mutex<BTreeMap<Phone, Standing>>,
    phone: &Phone,
    wish: &Wanted,
    status: u16,
) -> u32 {
    let mut table = standings.lock();
    let Some(standing) = table.get_mut(phone) else {
        return 0;
    };
    standing.under_way = false;
    let pause = if answers(status) {
        standing.silences = 0;
        wish.every
    } else {
        standing.silences = standing.silences.saturating_add(1);
        if standing.silences < SILENCES {
            Duration::ZERO
        } else {
            wish.every.min(FAILING)
        }
    };
    standing.due = Instant::now() + pause;
    standing.silences
}

/// Proposes what has changed.
async fn tell(shared: &Shared, phone: Phone, silences: u32, status: u16) {
    let failing = shared.state.read().is_failing(&phone);
    let failed = match (failing, silences) {
        (true, 0) if answers(status) => None,
        (false, silences) if silences >= SILENCES => Some(status),
        _ => return,
    };
    let command = Command::PhoneSeen(PhoneSeen {
        tenant: phone.0,
        phone: phone.1,
        failed,
    });
    // Not committed: the next check says it again.
    if let Err(why) = shared.desk.propose(&command, PROPOSE).await {
        debug!(%why, "what became of a phone is not committed yet");
    }
}
