//! Waiting callers: what they hear, the keys they press, and where that leads.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use strowger_tests::cluster::{Cluster, MUSIC_HZ};
use strowger_tests::phone::Phone;
use strowger_tests::poll::eventually;
use strowger_tests::tone;

const SOON: Duration = Duration::from_secs(15);
const ADVERT_HZ: u32 = 1_200;
/// What is looked at of the audio at a time, and how much of it is one tone at most when
/// somebody speaks.
const GLANCE: Duration = Duration::from_millis(300);
const TONE_SHARE_MAX: f64 = 0.3;

/// True while the last moments were sound, and neither of these tones.
fn is_speech(samples: &[i16], tones: [u32; 2]) -> bool {
    if samples.len() < 2_400 {
        return false;
    }
    let loudest = samples.iter().map(|sample| sample.unsigned_abs()).max();
    loudest.is_some_and(|loudest| loudest > 1_000)
        && tones
            .iter()
            .all(|&hz| tone::share(samples, 8_000, hz) < TONE_SHARE_MAX)
}

#[test]
fn a_waiting_caller_is_told_his_place_hears_adverts_and_leaves_by_key() {
    let cluster = Cluster::start_with("basic.toml", |folder| {
        tone::write_wav(&folder.join("advert.wav"), ADVERT_HZ, 2);
        let file = folder.join("basic.toml");
        let text = std::fs::read_to_string(&file).expect("the site is there");
        let more = "music = \"hold.wav\"\nlanguage = \"en\"\nannounce_s = 5\n\
                    announce_position = true\nadvert_key = \"2\"\nadvert = \"advert.wav\"\n\
                    exit_key = \"0\"\nexit = \"queue:second\"\n";
        let text = text.replacen("music = \"hold.wav\"\n", more, 1);
        let second = "\n[[queue]]\nname = \"second\"\nmusic = \"hold.wav\"\n";
        std::fs::write(&file, text + second).expect("the folder is ours");
    });
    let api = cluster.any_api();
    let caller = Phone::new(IpAddr::from([127, 0, 0, 84]), "5550001", "", 440);
    let call = caller.call(cluster.service(0), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    let audio = call.audio();
    call.wait(SOON, |_| audio.hears(MUSIC_HZ))
        .expect("music after the greeting");
    let began = Instant::now();
    audio.forget();
    call.wait(SOON, |_| {
        is_speech(&audio.heard(GLANCE), [MUSIC_HZ, ADVERT_HZ])
    })
    .expect("after 5 s somebody says where he stands");
    println!(
        "he was told his place after {} ms",
        began.elapsed().as_millis()
    );
    assert!(began.elapsed() >= Duration::from_secs(2), "not at once");
    audio.forget();
    call.wait(SOON, |_| audio.hears(MUSIC_HZ))
        .expect("then the music goes on");

    audio.dial("2");
    call.wait(SOON, |_| audio.hears(ADVERT_HZ))
        .expect("the advert on request");
    let place = |queue: &str| {
        let calls = api.list("/v1/calls")?;
        let own = calls.iter().find(|one| one["from"] == "5550001")?;
        (own["queue"] == queue)
            .then(|| own["position"].as_u64())
            .flatten()
    };
    assert_eq!(place("main"), Some(1), "the place is kept");
    // The second way a phone says which key was pressed.
    assert_eq!(
        call.info("application/dtmf-relay", "Signal=2\r\nDuration=160\r\n"),
        Some(200)
    );
    audio.dial("0");
    eventually(SOON, "he waits in the other queue", || place("second"));
    call.hang_up();
    let record = eventually(SOON, "the record is there", || {
        let rows = api.cdrs()?;
        rows.into_iter().find(|row| row["from"] == "5550001")
    });
    assert_eq!(record["exits"][0]["queue"], "main", "{record:#}");
    assert_eq!(record["exits"][0]["cause"], "key", "{record:#}");
    assert_eq!(record["disposition"], "abandoned", "{record:#}");
    for (queue, overflowed, abandoned) in [("main", 1.0, 0.0), ("second", 0.0, 1.0)] {
        let figure = |name: &str| {
            let name = format!("strowger_queue_{name}_total");
            api.metric(&name, &[("queue", queue)])
        };
        assert_eq!(figure("offered"), Some(1.0), "{queue}");
        assert_eq!(figure("overflowed"), Some(overflowed), "{queue}");
        assert_eq!(figure("abandoned"), Some(abandoned), "{queue}");
    }
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

/// The music of the site that one node has no file of at first.
const LATER_HZ: u32 = 900;

#[test]
fn music_that_was_not_there_yet_is_heard_when_it_comes() {
    let cluster = Cluster::start("basic.toml");
    let node = cluster.leader() % 3 + 1;
    println!("node {node} can keep no sound file");
    let blobs = cluster.dir().join(format!("n{node}/data/blobs"));
    let aside = blobs.with_file_name("blobs.aside");
    std::fs::rename(&blobs, &aside).expect("the node has sound files");
    std::fs::write(&blobs, "in the way").expect("a temporary folder is writable");

    let folder = cluster.site_folder();
    tone::write_wav(&folder.join("later.wav"), LATER_HZ, 3);
    let text = std::fs::read_to_string(folder.join("basic.toml")).expect("the site is there");
    let site = folder.join("later.toml");
    let text = text.replace("hold.wav", "later.wav");
    std::fs::write(&site, text).expect("a temporary folder is writable");
    let (code, _, err) = cluster.command(&["site", "apply", site.to_str().expect("ASCII")]);
    assert_eq!(code, 0, "{err}");

    let mut held = cluster.sip().iter();
    let held = held.find(|address| cluster.holder(**address) == node);
    let caller = Phone::new(IpAddr::from([127, 0, 0, 82]), "5550001", "", 500);
    let call = caller.call(*held.expect("every node holds addresses"), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    eventually(SOON, "the node says that the music is missing", || {
        let music = |event: &serde_json::Value| {
            let text = event.to_string();
            text.contains("a sound is missing") && text.contains("Music(")
        };
        cluster.log(node).iter().any(music).then_some(())
    });
    assert!(!call.audio().hears(LATER_HZ), "nobody can play it");

    println!("it can again, and fetches the file");
    std::fs::remove_file(&blobs).expect("the test wrote it");
    std::fs::rename(&aside, &blobs).expect("the test moved it");
    call.wait(SOON, |_| call.audio().hears(LATER_HZ))
        .unwrap_or_else(|| panic!("the caller waits in silence: {:?}", call.view()));
    call.hang_up();
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
