//! Agreement and durability, ignorant of telephony.
//!
//! A cluster of equal nodes agrees on one log, applies it to a
//! [`strowger_core::ports::Machine`] and keeps the rows in RocksDB. This crate never
//! learns what a command means.
//!
//! | Room | For |
//! |---|---|
//! | [`config`], [`error`], [`event`], [`limits`] | what callers give, get and may rely on |
//! | [`cluster`] | [`Cluster`], the handle everything is reached through |
//! | [`identity`] | who a node is: authority, certificates, join tokens |
//! | `core`, `server`, `propose` | what a node's tasks share, answer and bring to commit |
//! | `store` | the database: families, checksums, rows, the overlay of a batch |
//! | `raft` | the only place that names the Raft library |
//! | `transport` | mutually authenticated QUIC between the nodes |
//! | `liveness` | death watch, leases, forced elections, clock offsets |
//! | `clock` | the wall clock as the log is to know it |
//! | `admission`, `membership` | who may enter, who votes |
//! | `vouch` | nodes that have forgotten what they acknowledged take no part |
//! | [`copy`] | all rows as of one entry, taken while the node goes on |
//! | [`offline`] | examining, founding and recovering the data of a node that does not run |

mod admission;
mod clock;
pub mod cluster;
pub mod config;
pub mod copy;
mod core;
pub mod error;
pub mod event;
#[cfg(test)]
mod frozen;
pub mod identity;
pub mod limits;
mod liveness;
mod membership;
pub mod offline;
mod propose;
mod raft;
mod server;
mod store;
mod transport;
mod vouch;

pub use cluster::{Cluster, Lane, PeerHandler};
pub use config::{ClusterConfig, Timing};
pub use error::{CallError, IdentityError, JoinError, MemberError, OpenError, StoreError};
pub use event::{ClusterEvent, ClusterFigures, Liveness, Member, Role, StandAside};
