//! Calling again soon, at real phones: who hung up while waiting and calls again within the
//! time takes up the place left, also when the node of the first call has died.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use strowger_tests::cluster::{Cluster, MUSIC_HZ};
use strowger_tests::phone::{Call, Phone};
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(15);
const AGENT_HZ: u32 = 700;
/// How long the queue behind 4010 keeps a place.
const BRIEF: Duration = Duration::from_secs(2);
const A: &str = "5550010";
const B: &str = "5550020";

/// The queue behind 4008 keeps places for a minute, as always; that behind 4009 keeps none,
/// that behind 4010 keeps them briefly.
fn start() -> Cluster {
    Cluster::start_with("basic.toml", |folder| {
        let file = folder.join("basic.toml");
        let text = std::fs::read_to_string(&file).expect("the site is there");
        let all = "queues = [\"main\", \"forgetful\", \"brief\"]";
        let mut text = text.replace("queues = [\"main\"]", all);
        for (number, queue, keeps_s) in
            [("4009", "forgetful", 0), ("4010", "brief", BRIEF.as_secs())]
        {
            text.push_str(&format!(
                "\n[[number]]\nnumber = \"{number}\"\ntarget = \"queue:{queue}\"\npublic = true\n\
                 \n[[queue]]\nname = \"{queue}\"\nwrap_s = 0\nring_s = 30\nmusic = \"hold.wav\"\n\
                 redial_s = {keeps_s}\n"
            ));
        }
        std::fs::write(&file, text).expect("the folder is ours");
    })
}

/// Two callers and an agent.
struct Cast {
    a: Phone,
    b: Phone,
    agent: Phone,
}

impl Cast {
    fn new(cluster: &Cluster) -> Self {
        let phone = |last, user: &str, password: &str, hz| {
            Phone::new(IpAddr::from([127, 0, 0, last]), user, password, hz)
        };
        let agent = phone(81, "1001", &cluster.password("1001"), AGENT_HZ);
        assert_eq!(agent.register(cluster.service(0), 600), Some(200));
        Self {
            a: phone(82, A, "", 440),
            b: phone(83, B, "", 620),
            agent,
        }
    }

    /// The agent comes to work and takes both callers; their numbers in that order.
    fn serve(&self, cluster: &Cluster) -> Vec<String> {
        let before = self.agent.calls().len();
        let (code, _, err) = cluster.command(&["agent", "sign-in", "a1"]);
        assert_eq!(code, 0, "{err}");
        let mut served = Vec::new();
        for n in 0..2 {
            let offer = self
                .agent
                .incoming(before + n, SOON)
                .expect("the next caller is offered");
            offer.answer();
            let peer = offer.view().peer;
            let hz = if peer == A { 440 } else { 620 };
            offer
                .wait(SOON, |_| offer.audio().hears(hz))
                .expect("the agent hears the caller");
            served.push(peer);
            offer.hang_up();
        }
        let (code, _, err) = cluster.command(&["agent", "sign-out", "a1"]);
        assert_eq!(code, 0, "{err}");
        served
    }
}

fn position(cluster: &Cluster, from: &str) -> Option<u64> {
    let calls = cluster.any_api().list("/v1/calls")?;
    let own = calls.iter().find(|call| call["from"] == from)?;
    own["position"].as_u64()
}

fn wait_position(cluster: &Cluster, from: &str, place: Option<u64>) {
    eventually(SOON, &format!("{from} stands at {place:?}"), || {
        (position(cluster, from) == place).then_some(())
    });
}

/// Calls `number` by way of service address `at` and waits until the music plays.
fn call(cluster: &Cluster, phone: &Phone, at: usize, number: &str) -> Call {
    let call = phone.call(cluster.service(at), number);
    assert!(call.answered(SOON), "{:?}", call.view());
    call.wait(SOON, |_| call.audio().hears(MUSIC_HZ))
        .expect("the caller hears music");
    call
}

/// A, then B; A hangs up, and after `between` calls again by way of another address.
fn redial(
    cluster: &mut Cluster,
    cast: &Cast,
    number: &str,
    (first, again): (usize, usize),
    between: impl FnOnce(&mut Cluster),
) -> Vec<String> {
    let left = call(cluster, &cast.a, first, number);
    wait_position(cluster, A, Some(1));
    let stays = call(cluster, &cast.b, again, number);
    wait_position(cluster, B, Some(2));
    left.hang_up();
    wait_position(cluster, A, None);
    wait_position(cluster, B, Some(1));
    between(cluster);
    let back = call(cluster, &cast.a, again, number);
    let places = [A, B].map(|from| position(cluster, from));
    println!(
        "  A called again: A stands at {:?}, B at {:?}",
        places[0], places[1]
    );
    let served = cast.serve(cluster);
    for one in [stays, back] {
        let view = one.ended(SOON).expect("served and hung up on");
        assert!(view.ended_by_peer, "{view:?}");
    }
    // Places shown and turns taken are one order.
    let expected = if places[0] < places[1] {
        [A, B]
    } else {
        [B, A]
    };
    assert_eq!(served, expected, "{places:?}");
    served
}

/// How the calls from a number ended, oldest first.
fn dispositions(cluster: &Cluster, from: &str, records: usize) -> Vec<String> {
    let rows = eventually(SOON, "each call has its record", || {
        let rows = cluster.any_api().cdrs()?;
        let own = rows.into_iter().filter(|row| row["from"] == from);
        let own: Vec<Value> = own.collect();
        (own.len() >= records).then_some(own)
    });
    let words = rows.iter().filter_map(|row| row["disposition"].as_str());
    words.map(str::to_owned).collect()
}

#[test]
fn who_calls_again_soon_is_served_at_the_old_place() {
    let mut cluster = start();
    let cast = Cast::new(&cluster);

    println!("with the switch on");
    let served = redial(&mut cluster, &cast, "4008", (1, 2), |_| {});
    assert_eq!(served, [A, B], "A has the old place again");
    assert_eq!(dispositions(&cluster, A, 2), ["abandoned", "answered"]);

    println!("with the switch off");
    let served = redial(&mut cluster, &cast, "4009", (1, 2), |_| {});
    assert_eq!(served, [B, A], "A stands behind B");

    println!("later than the place is kept");
    let served = redial(&mut cluster, &cast, "4010", (1, 2), |_| {
        std::thread::sleep(BRIEF + Duration::from_millis(500));
    });
    assert_eq!(served, [B, A], "A stands behind B");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn the_place_left_outlives_the_node_it_was_left_at() {
    let mut cluster = start();
    let cast = Cast::new(&cluster);
    // The node of A's first call; the second comes by way of another's address.
    let victim = cluster.leader();
    let of = |cluster: &Cluster, own: bool| {
        let mut all = 0..6;
        all.find(|at| (cluster.holder(cluster.service(*at)) == victim) == own)
            .expect("each node holds addresses")
    };

    println!("A hangs up, and the node, the leader, is killed");
    let at = (of(&cluster, true), of(&cluster, false));
    let served = redial(&mut cluster, &cast, "4008", at, |cluster| {
        cluster.kill(victim);
    });
    assert_eq!(served, [A, B], "A has the old place again");
    assert_eq!(dispositions(&cluster, A, 2), ["abandoned", "answered"]);
    cluster.restart(victim);
    eventually(SOON, "the node holds addresses again", || {
        let held = cluster.sip().iter();
        let own = held.filter(|address| cluster.holder(**address) == victim);
        (own.count() > 0).then_some(())
    });

    println!("the node is killed while A waits, who hangs up then and calls again");
    let (own, other) = (of(&cluster, true), of(&cluster, false));
    let waits = call(&cluster, &cast.a, own, "4008");
    wait_position(&cluster, A, Some(1));
    let stays = call(&cluster, &cast.b, other, "4008");
    wait_position(&cluster, B, Some(2));
    waits.audio().forget();
    cluster.kill(victim);
    waits
        .wait(SOON, |_| waits.audio().hears(MUSIC_HZ))
        .expect("A hears music still");
    waits.hang_up();
    wait_position(&cluster, B, Some(1));
    let back = call(&cluster, &cast.a, other, "4008");
    assert_eq!(position(&cluster, A), Some(1));
    assert_eq!(position(&cluster, B), Some(2));
    assert_eq!(cast.serve(&cluster), [A, B], "A has the old place again");
    for one in [stays, back] {
        one.ended(SOON).expect("served and hung up on");
    }
    assert_eq!(
        dispositions(&cluster, A, 4),
        ["abandoned", "answered", "abandoned", "answered"]
    );
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
