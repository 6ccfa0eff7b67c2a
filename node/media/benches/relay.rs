//! Processor time of a media worker per relayed packet, over real sockets.
//!
//! Calls of two legs, fifty packets a second each way, through one worker. What is measured is
//! the worker thread alone, system calls included; the phones are this program's other threads.
//! `STROWGER_BENCH_CALLS` (200) and `STROWGER_BENCH_SECONDS` (10) may be set; without `--bench`
//! among the arguments (as when tests are run) it only tries itself out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strowger_media::{Codec, Engine, EngineConfig, LegKey, LegMedia};

const PHONES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 77, 1));
const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 77, 2));
/// Slices of the 20 ms period, so that packets come evenly.
const SLICES: usize = 20;

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let calls = setting("STROWGER_BENCH_CALLS", if full { 200 } else { 2 });
    let seconds = setting("STROWGER_BENCH_SECONDS", if full { 10 } else { 1 });
    println!("| case | calls | packets | lost | worker µs per packet | % of a core per call |");
    println!("|---|---|---|---|---|---|");
    let ms = Duration::from_millis(1);
    for (name, other, gather) in [
        ("relay", Codec::Pcmu, ms),
        ("relay, each packet at once", Codec::Pcmu, Duration::ZERO),
        ("transcode", Codec::Pcma, ms),
    ] {
        measure(name, other, gather, calls, Duration::from_secs(seconds));
    }
}

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

fn measure(name: &str, other: Codec, gather: Duration, calls: u64, time: Duration) {
    let config = EngineConfig {
        gather,
        ..EngineConfig::default()
    };
    let (engine, _events) = Engine::start(config).expect("starts");
    let phones = UdpSocket::bind((PHONES, 0)).expect("binds");
    let remote = phones.local_addr().expect("bound");
    let mut ports = Vec::new();
    for call in 0..calls {
        let legs = [
            (LegKey(u128::from(call) * 2), Codec::Pcmu),
            (LegKey(u128::from(call) * 2 + 1), other),
        ];
        for (leg, codec) in legs {
            let opened = engine.open(leg, SERVICE).expect("opens");
            engine
                .configure(leg, LegMedia::new(remote, codec))
                .expect("configures");
            ports.push((SocketAddr::new(SERVICE, opened.rtp_port), codec));
        }
        engine.bridge(legs[0].0, legs[1].0).expect("bridges");
    }
    let over = Arc::new(AtomicBool::new(false));
    let heard = Arc::new(AtomicU64::new(0));
    let listener = listen(phones.try_clone().expect("clones"), &over, &heard);
    let mut sent = talk(&phones, &ports, Duration::from_millis(200));
    let before = (engine.totals().packets_sent, worker_time());
    let start = Instant::now();
    sent += talk(&phones, &ports, time);
    let (packets, used) = (
        engine.totals().packets_sent - before.0,
        worker_time() - before.1,
    );
    let share = used.as_secs_f64() / start.elapsed().as_secs_f64() / calls as f64 * 100.0;
    let each = used.as_secs_f64() * 1e6 / packets as f64;
    std::thread::sleep(Duration::from_millis(100));
    over.store(true, Ordering::Release);
    listener.join().expect("listened");
    let lost = sent.saturating_sub(heard.load(Ordering::Relaxed));
    println!("| {name} | {calls} | {packets} | {lost} | {each:.2} | {share:.4} |");
    engine.stop();
}

fn listen(
    socket: UdpSocket,
    over: &Arc<AtomicBool>,
    heard: &Arc<AtomicU64>,
) -> std::thread::JoinHandle<()> {
    let (over, heard) = (Arc::clone(over), Arc::clone(heard));
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("sets");
    std::thread::spawn(move || {
        let mut bytes = [0; 1_500];
        while !over.load(Ordering::Acquire) {
            if socket.recv(&mut bytes).is_ok() {
                heard.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
}

/// Sends a packet every 20 ms to every port, evenly spread. Returns how many.
fn talk(socket: &UdpSocket, ports: &[(SocketAddr, Codec)], time: Duration) -> u64 {
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    let start = Instant::now();
    let mut sent = 0;
    for slice in 0.. {
        let due = Duration::from_millis(slice);
        if due >= time {
            break;
        }
        if let Some(wait) = due.checked_sub(start.elapsed()) {
            std::thread::sleep(wait);
        }
        let turn = usize::try_from(slice).unwrap_or(0) % SLICES;
        let round = if turn == 0 {
            SEQUENCE.fetch_add(1, Ordering::Relaxed) + 1
        } else {
            SEQUENCE.load(Ordering::Relaxed)
        };
        for (to, codec) in ports.iter().skip(turn).step_by(SLICES) {
            let mut packet = [0x55; 172];
            packet[..2].copy_from_slice(&[0x80, codec.static_payload_type()]);
            packet[2..4].copy_from_slice(&(round as u16).to_be_bytes());
            packet[4..8].copy_from_slice(&((round * 160) as u32).to_be_bytes());
            packet[8..12].copy_from_slice(&[1, 2, 3, 4]);
            sent += u64::from(socket.send_to(&packet, to).is_ok());
        }
    }
    sent
}

/// Processor time of the worker thread so far, as the scheduler counts it.
fn worker_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let nanos = tasks.flatten().filter_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        if !name.starts_with("media-") {
            return None;
        }
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
