//! SIPp as an independent phone, in both directions. Passed over where SIPp is not installed.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Events, SDP, sdp, side, side_with};
use std::process::{Command, Stdio};
use strowger_sip::leg::{Leg, LegEvent};
use strowger_sip::timer::Intervals;

fn installed() -> bool {
    Command::new("sipp")
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

async fn follow(leg: Leg, mut events: Events) {
    loop {
        match events.next().await {
            LegEvent::Ended { .. } => return,
            LegEvent::Answered { .. } => {
                leg.ack(None).unwrap();
                leg.bye(Some(16)).unwrap();
            }
            LegEvent::Failed { status, .. } => panic!("failed with {status}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn sipp_calls_us() {
    if !installed() {
        return;
    }
    let us = side_with(false, |config| config.intervals = Intervals::default());
    let folder = std::env::temp_dir();
    let mut sipp = tokio::process::Command::new("sipp")
        .args([
            "-sn",
            "uac",
            "-i",
            "127.0.0.1",
            "-m",
            "60",
            "-r",
            "60",
            "-d",
            "20",
        ])
        .args(["-timeout", "12s", "-timeout_error", "-nostdin"])
        .arg(us.address.to_string())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let serve = async {
        loop {
            let (leg, events) = us.incoming().await;
            leg.ring(180, None).unwrap();
            leg.answer(sdp(2)).unwrap();
            tokio::spawn(follow(leg, events));
        }
    };
    tokio::select! {
        () = serve => {}
        status = sipp.wait() => assert!(status.unwrap().success(), "every call must succeed"),
    }
}

#[tokio::test]
async fn we_call_sipp() {
    if !installed() {
        return;
    }
    let us = side();
    let probe = common::Script::new().await;
    let address = probe.address();
    drop(probe);
    let mut sipp = tokio::process::Command::new("sipp")
        .args([
            "-sn",
            "uas",
            "-i",
            "127.0.0.1",
            "-p",
            &address.port().to_string(),
        ])
        .args(["-m", "20", "-timeout", "12s", "-timeout_error", "-nostdin"])
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let calls = async {
        // SIPp needs a moment to listen; the INVITE is repeated until it does.
        for _ in 0..20 {
            let (leg, events) = us.call(address, Some(SDP.to_owned()));
            follow(leg, events).await;
        }
    };
    calls.await;
    assert!(sipp.wait().await.unwrap().success());
}
