//! Commits per second and processor time per commit: three nodes in one process on
//! 127.0.0.1, real fsync, mutual TLS, all replicas counted.
//!
//! Run: `cargo bench -p strowger-cluster --bench commits [-- LINGER_MS]`. The data goes
//! to the temporary directory; set TMPDIR to a real disk when /tmp is memory.

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strowger_core::ports::{Outcome, Proposer};

/// User and system time of this process, from /proc (proc(5), fields 14 and 15).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after = stat.rsplit_once(')').expect("the name is in parentheses").1;
    let ticks: u64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}

fn main() {
    let linger = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(0);
    let nodes = common::cluster_of(3, |config| config.linger = Duration::from_millis(linger));
    let leader = common::leader_of(&nodes);
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    println!("linger {linger} ms, 128-byte commands, at the leader and at a follower");
    for (place, at) in [("leader", leader), ("follower", (leader + 1) % 3)] {
        for writers in [1_u64, 16, 256] {
            let cluster = nodes[at].cluster();
            let before = cluster.figures();
            let count = Arc::new(AtomicU64::new(0));
            let (cpu_before, start) = (cpu(), Instant::now());
            let until = start + Duration::from_secs(4);
            runtime.block_on(async {
                let tasks: Vec<_> = (0..writers)
                    .map(|writer| {
                        let (cluster, count) = (cluster.clone(), count.clone());
                        tokio::spawn(async move {
                            let command = format!("writer-{writer:03}={:0>115}", 0).into_bytes();
                            while Instant::now() < until {
                                let outcome = cluster
                                    .propose(command.clone(), Duration::from_secs(5))
                                    .await;
                                assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
                                count.fetch_add(1, Ordering::Relaxed);
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.expect("writer");
                }
            });
            let (took, used) = (start.elapsed(), cpu() - cpu_before);
            let commits = count.load(Ordering::Relaxed) as f64;
            let after = cluster.figures();
            println!(
                "{place:>8} {writers:>4} writers: {:>7.0} commits/s, {:.3} ms CPU each, \
                 {:.1} proposals/entry, {} syncs here",
                commits / took.as_secs_f64(),
                used.as_secs_f64() * 1_000.0 / commits,
                (after.proposals - before.proposals) as f64
                    / (after.entries - before.entries).max(1) as f64,
                after.syncs - before.syncs,
            );
        }
    }
}
