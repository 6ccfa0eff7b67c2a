//! The console on a real terminal: every screen, the keys, and a node's death.

use std::time::{Duration, Instant};

use strowger_tests::cluster::Cluster;
use strowger_tests::phone::{Phone, Policy};
use strowger_tests::terminal::Terminal;
use unicode_width::UnicodeWidthStr;

const SOON: Duration = Duration::from_secs(10);
/// What happens is on the screen this soon (a promise), and some time for the machine.
const LIVE_MAX: Duration = Duration::from_millis(500);
const MACHINE: Duration = Duration::from_millis(500);
/// After its node's death the console shows another node's view (a promise).
const REATTACH_MAX: Duration = Duration::from_secs(1);

fn console(cluster: &Cluster, rows: u16, columns: u16) -> Terminal {
    let mut command = cluster.client();
    command.arg("console");
    Terminal::start(&command, rows, columns)
}

#[test]
fn every_screen_is_live_and_usable_at_80_by_24() {
    let cluster = Cluster::start("basic.toml");
    let mut screen = console(&cluster, 24, 80);
    let text = screen.wait(SOON, |text| text.contains("main"));
    println!(
        "{}",
        text.unwrap_or_else(|| panic!("the overview:\n{}", screen.text()))
    );
    screen.send("?");
    screen
        .wait(SOON, |text| text.to_lowercase().contains("help"))
        .expect("? shows help");
    screen.send("\u{1b}");

    let address = "127.0.0.67".parse().expect("an address");
    let a = Phone::new(address, "1001", &cluster.password("1001"), 440);
    let b = Phone::new(address, "1002", &cluster.password("1002"), 620);
    assert_eq!(a.register(cluster.service(0), 60), Some(200));
    assert_eq!(b.register(cluster.service(0), 60), Some(200));
    b.set_policy(Policy::Answer {
        after: Duration::ZERO,
        talk: None,
    });
    // The screens in the order of their numbers: overview, queues, agents, calls,
    // registrations, nodes.
    for (key, wanted) in [("2", "main"), ("3", "a1"), ("5", "1002"), ("6", "leader")] {
        screen.send(key);
        let text = screen.wait(SOON, |text| text.contains(wanted));
        assert!(
            text.is_some(),
            "screen {key} shows {wanted}:\n{}",
            screen.text()
        );
    }
    screen.send("4");
    screen
        .wait(SOON, |text| !text.contains("1002"))
        .expect("the calls are shown, and there is none");
    let call = a.call(cluster.service(0), "1002");
    assert!(call.answered(SOON));
    let answered = call.view().answered.expect("it was answered");
    let shown = screen.wait(LIVE_MAX + MACHINE, |text| text.contains("bridged"));
    assert!(shown.is_some(), "the call is live:\n{}", screen.text());
    println!(
        "the answer was on the screen {} ms after it",
        answered.elapsed().as_millis()
    );
    println!("{}", screen.text());
    call.hang_up();
    screen.send("q");
    assert_eq!(screen.ended(SOON), Some(0), "q ends the console");
}

/// Columns of the screen before the first digit that follows `name` in its line.
fn column_after(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find(|line| line.contains(name))?;
    let start = line.find(name)? + name.len();
    let digit = start + line.get(start..)?.find(|c: char| c.is_ascii_digit())?;
    line.get(..digit).map(UnicodeWidthStr::width)
}

#[test]
fn wide_names_stand_in_their_columns() {
    let cluster = Cluster::start_with("basic.toml", |folder| {
        let file = folder.join("basic.toml");
        let text = std::fs::read_to_string(&file).expect("the site is there");
        let more = "\n[[queue]]\nname = \"客服专线\"\nstrategy = \"longest-idle\"\n";
        std::fs::write(&file, text + more).expect("the folder is ours");
    });
    let mut screen = console(&cluster, 24, 80);
    screen.send("2");
    let text = screen.wait(SOON, |text| {
        text.contains("客服专线") && text.contains("main")
    });
    let text = text.unwrap_or_else(|| panic!("both queues:\n{}", screen.text()));
    println!("{text}");
    let columns = ["main", "客服专线"].map(|name| column_after(&text, name));
    assert!(
        columns[0].is_some() && columns[0] == columns[1],
        "{columns:?}"
    );
    screen.send("q");
    assert_eq!(screen.ended(SOON), Some(0), "q ends the console");
}

#[test]
fn it_reattaches_when_its_node_dies() {
    let mut cluster = Cluster::start("basic.toml");
    let mut screen = console(&cluster, 30, 110);
    screen.send("6");
    screen
        .wait(SOON, |text| text.contains("leader"))
        .expect("the nodes are shown");
    // The first address of STROWGER_API is the one a console attaches to.
    cluster.kill(1);
    let killed = Instant::now();
    let text = screen.wait(SOON, |text| text.to_lowercase().contains("down"));
    let after = killed.elapsed();
    println!(
        "{}",
        text.unwrap_or_else(|| panic!("node 1 is down:\n{}", screen.text()))
    );
    println!(
        "another node's view {} ms after the kill",
        after.as_millis()
    );
    assert!(after <= REATTACH_MAX + MACHINE, "it took {after:?}");
    screen.send("q");
    assert_eq!(screen.ended(SOON), Some(0), "q ends the console");
}
