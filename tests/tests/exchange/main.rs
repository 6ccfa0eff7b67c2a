//! The exchange as outsiders meet it: real nodes, real phones, commands and the console.
//!
//! One program, so that clusters of different tests run side by side: each has a network of
//! its own where the machine lets tests make one (see `strowger_tests::network`).

mod apart;
mod backup;
mod bad_input;
mod bridge;
mod callback;
mod chaos;
mod comfort;
mod console;
mod customers;
mod damage;
mod disks;
mod divergence;
mod doctor;
mod floor;
mod golden_interface;
mod hours;
mod late_offer;
mod leap;
mod matrix;
mod missed;
mod moving;
mod node_kill;
mod operations;
mod over_tcp;
mod phones;
mod queue;
mod quorum_loss;
mod races;
mod recover;
mod redial;
mod splits;
mod strict;
mod takeover;
mod trunk;
mod two_phones;
mod upgrade;
