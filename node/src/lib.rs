//! The daemon `strowgerd`: configuration, site, secrets, sound files, the HTTP and
//! WebSocket interface, the demonstration and the command line.
//!
//! Only this crate knows all components. What decides is in `strowger-core`; nothing
//! here picks an agent or changes the floor other than by a committed command.
//!
//! | module | what lives there |
//! |---|---|
//! | [`document`], [`config`], [`site`] | files people write, with file and line in errors |
//! | [`numbering`] | what people dial, as numbers with a country code |
//! | [`secrets`] | keys of the cluster, sealed credentials, the admin token |
//! | [`blobs`], [`peer`] | sound files on every node, what nodes ask each other |
//! | [`view`], [`figures`], [`metrics`] | the state folded into what people and programs read |
//! | [`api`] | the HTTP and WebSocket interface |
//! | [`telephony`] | calls: actors, signalling and media of this node |
//! | [`founding`], [`daemon`], [`logging`] | how a node begins, runs, ends and says what happened |
//! | [`backup`], [`recover`] | copies of a cluster made into another; one survivor made the whole |
//! | [`doctor`] | examining the data of a node that does not run |
//! | [`demo`] | a three-node exchange on one machine |
//! | [`fault`] | codes, messages and exit codes |

pub mod api;
pub mod backup;
pub mod blobs;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod doctor;
pub mod document;
pub mod fault;
pub mod figures;
pub mod founding;
#[cfg(test)]
mod frozen;
pub mod limits;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod numbering;
pub mod peer;
pub mod recover;
pub mod secrets;
pub mod site;
pub mod telephony;
pub mod view;

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
