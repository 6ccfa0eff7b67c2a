//! End-to-end tests: the harness that starts real clusters and real phones.
//!
//! The library drives the built programs from outside, through the interface operators
//! rely on (ready line, files of the demo folder, HTTP, commands, SIP and RTP). It links
//! no other crate of the workspace, so that a test never agrees with a fault by sharing
//! its code. Whatever it starts it ends when dropped.

pub mod apart;
pub mod api;
pub mod baresip;
pub mod behind;
pub mod capture;
pub mod clock;
pub mod cluster;
pub mod daemon;
pub mod dice;
pub mod g711;
pub mod history;
pub mod netstring;
pub mod network;
pub mod phone;
pub mod poll;
pub mod programs;
pub mod rtp;
pub mod seats;
pub mod sipp;
pub mod talks;
pub mod terminal;
pub mod tone;
pub mod torture;
