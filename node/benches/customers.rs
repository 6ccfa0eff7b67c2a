//! How soon the customers with a number are found among ten million, as the arrival of a
//! call finds them: over the rows of a real store, which do not fit into its caches.
//!
//! `cargo bench -p strowger-node --bench customers`; `STROWGER_ROWS` sets how many.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use strowger_actors::desk::Desk;
use strowger_cluster::{Cluster, ClusterConfig, identity};
use strowger_core::crm::Profile;
use strowger_core::ids::{CustomerId, NodeId, TenantId};
use strowger_core::limits::IMPORT_ROWS;
use strowger_core::number::E164;
use strowger_core::state::apply_crm::customers_with;
use strowger_core::state::command::{Command, CrmChange, ImportBatch, Reply, SiteApply};
use strowger_core::state::machine::{ExchangeMachine, WakeSink};
use strowger_core::state::{SharedState, Wake};

#[path = "../../actors/core/tests/floor/site.rs"]
#[allow(dead_code, reason = "the bench needs little of it")]
mod site;

/// Every customer has a number of his own; each thousandth shares it with another.
const SHARED_EVERY: u64 = 1_000;
const ROWS: u64 = 10_000_000;
const READS: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(60);

struct Nobody;

impl WakeSink for Nobody {
    fn wake(&mut self, _wakes: Vec<Wake>) {}
}

fn number(n: u64) -> E164 {
    let shared = if n % SHARED_EVERY == 1 { n - 1 } else { n };
    let text = format!("+8613{:09}", shared % 1_000_000_000);
    text.parse().expect("a number with country code")
}

fn profile(n: u64) -> Profile {
    Profile {
        id: CustomerId::from(format!("C{n}")),
        name: format!("Customer {n}"),
        tier: n.is_multiple_of(5).then(|| "gold".to_owned()),
        tags: BTreeSet::from(["imported".to_owned()]),
        fields: BTreeMap::from([
            ("city".to_owned(), format!("City {}", n % 300)),
            ("account".to_owned(), format!("{:012}", n * 7_919)),
        ]),
        numbers: vec![number(n)],
        owner: None,
    }
}

fn batch(offset: u64, rows: u64) -> Command {
    let count = (rows - offset).min(IMPORT_ROWS as u64);
    Command::Crm {
        id: String::new(),
        tenant: site::tenant(),
        change: CrmChange::Import(ImportBatch {
            import: "bench".to_owned(),
            offset,
            count,
            restart: false,
            last: offset + count == rows,
            rows: (offset..offset + count).map(profile).collect(),
            rejects: Vec::new(),
        }),
    }
}

async fn import(desk: &Desk, rows: u64) {
    let mut offset = 0;
    while offset < rows {
        let reply = desk.propose(&batch(offset, rows), PATIENCE).await;
        let Ok(Reply::Import(progress)) = reply else {
            panic!("not taken in: {reply:?}");
        };
        offset = progress.next;
    }
}

/// Bytes of the files of the store.
fn bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("the store is there");
    let sizes = files.filter_map(|file| file.ok()?.metadata().ok());
    sizes.map(|file| file.len()).sum()
}

/// Reads customers by number; how long each took, in order of length.
fn read(cluster: &Cluster, tenant: &TenantId, rows: u64, seed: u64) -> Vec<Duration> {
    let mut random = SmallRng::seed_from_u64(seed);
    let stored = cluster.rows();
    let mut took: Vec<Duration> = (0..READS)
        .map(|_| {
            let number = number(random.random_range(0..rows));
            let begun = Instant::now();
            let found = customers_with(&*stored, tenant, number);
            let took = begun.elapsed();
            assert!((1..=2).contains(&found.len()), "{number}");
            took
        })
        .collect();
    took.sort_unstable();
    took
}

fn print(what: &str, took: &[Duration]) {
    let at = |share: usize| took[(took.len() * share / 1_000).min(took.len() - 1)];
    println!(
        "{what}: p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?} ({} reads)",
        at(500),
        at(990),
        at(999),
        at(1_000),
        took.len()
    );
}

fn main() {
    // `cargo test --benches` only tries whether this program starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let rows = std::env::var("STROWGER_ROWS").ok();
    let rows: u64 = rows.and_then(|rows| rows.parse().ok()).unwrap_or(ROWS);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address: SocketAddr = "127.0.0.1:47990".parse().expect("an address");
    identity::init(folder.path(), "bench", 1, address).expect("a new folder");
    let state = SharedState::default();
    let machine = ExchangeMachine::new(state.clone(), Box::new(Nobody));
    let config = ClusterConfig::new(folder.path(), address);
    let cluster = Cluster::open(config, machine).expect("the port is free");
    let desk = Desk::new(Arc::new(cluster.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let up = Command::NodeUp {
            node: NodeId(1),
            incarnation: 1,
            address: address.ip(),
            version: "1".to_owned(),
            level: strowger_core::state::FEATURE_LEVEL,
        };
        let site = Command::SiteApply(SiteApply {
            site: Arc::new(site::site()),
            text: String::new(),
            base: 0,
            secrets: Vec::new(),
            times: Vec::new(),
        });
        for command in [up, site] {
            let reply = desk.propose(&command, PATIENCE).await;
            assert!(
                matches!(reply, Ok(Reply::Done | Reply::Site { .. })),
                "{reply:?}"
            );
        }
        let begun = Instant::now();
        import(&desk, rows).await;
        let took = begun.elapsed();
        println!(
            "{rows} customers taken in by one node: {took:.0?}, {:.0} a second",
            rows as f64 / took.as_secs_f64()
        );
    });
    let size = bytes(&folder.path().join("store"));
    println!("store: {:.1} GiB", size as f64 / f64::from(1u32 << 30));
    // Only the machine's owner may empty its caches; without that the store's own stay small.
    let emptied = std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
    let cold = if emptied {
        "caches emptied"
    } else {
        "caches as they were"
    };
    let tenant = site::tenant();
    print(
        &format!("by number, {cold}"),
        &read(&cluster, &tenant, rows, 1),
    );
    print("by number, others", &read(&cluster, &tenant, rows, 2));
    print(
        "by number, the same again",
        &read(&cluster, &tenant, rows, 2),
    );
    cluster.close();
}
