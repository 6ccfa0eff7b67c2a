//! Opening hours at a real phone: a number closed by hand tells its callers so and hangs up,
//! and opens again.

use std::net::IpAddr;
use std::time::Duration;

use strowger_tests::cluster::{Cluster, MUSIC_HZ};
use strowger_tests::phone::Phone;
use strowger_tests::poll::eventually;
use strowger_tests::tone;

const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_closed_number_says_so_and_hangs_up_until_it_opens_again() {
    let cluster = Cluster::start_with("basic.toml", |folder| {
        let file = folder.join("basic.toml");
        let text = std::fs::read_to_string(&file).expect("the site is there");
        let number = "number = \"4008\"\n";
        let text = text.replacen(number, &format!("{number}hours = \"office\"\n"), 1);
        let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let week = days
            .map(|day| format!("{day} = \"00:00-24:00\"\n"))
            .concat();
        let hours = format!("\n[[hours]]\nname = \"office\"\ntimezone = \"Asia/Shanghai\"\n{week}");
        std::fs::write(&file, text + &hours).expect("the folder is ours");
    });
    let api = cluster.any_api();
    let state = |wanted: &str| {
        eventually(SOON, "the hours are so", || {
            let hours = cluster.command_list(&["hours", "list"]);
            hours.iter().find(|one| one["state"] == wanted).cloned()
        })
    };
    state("open");
    let closing = cluster.command(&["hours", "close", "office", "--for", "1h"]);
    assert_eq!(closing.0, 0, "{closing:?}");
    let shown = state("closed");
    assert_eq!(shown["overridden_until_at"], shown["next_change_at"]);

    let caller = Phone::new(IpAddr::from([127, 0, 0, 84]), "5550002", "", 440);
    let call = caller.call(cluster.service(0), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    let audio = call.audio();
    call.wait(SOON, |_| {
        let heard = audio.heard(Duration::from_millis(300));
        let loudest = heard.iter().map(|sample| sample.unsigned_abs()).max();
        loudest.is_some_and(|loudest| loudest > 1_000) && tone::share(&heard, 8_000, MUSIC_HZ) < 0.3
    })
    .expect("somebody speaks");
    call.wait(SOON, |view| view.ended.is_some())
        .expect("then the call ends");
    assert!(call.view().ended_by_peer, "{:?}", call.view());
    let record = eventually(SOON, "the record is there", || {
        let rows = api.cdrs()?;
        rows.into_iter().find(|row| row["from"] == "5550002")
    });
    assert_eq!(record["disposition"], "rejected", "{record:#}");
    assert_eq!(record["sip_status"], 480, "{record:#}");
    assert_eq!(record["q850"], 21, "{record:#}");

    let following = cluster.command(&["hours", "follow", "office"]);
    assert_eq!(following.0, 0, "{following:?}");
    state("open");
    let call = caller.call(cluster.service(0), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    let audio = call.audio();
    call.wait(SOON, |_| audio.hears(MUSIC_HZ))
        .expect("he waits in the queue");
    call.hang_up();
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
