//! Customers: who they are, how often they were in contact, and how they are imported.
//!
//! There may be ten million of them, so nothing here is held in memory: `apply` reads
//! them through [`Rows`](crate::ports::Rows) by key and by bounded scan, and writes them
//! in the commit of whatever changes them. The end of a call writes its record, the
//! contact on the customer's timeline and the figures together.
//!
//! Numbers arrive normalised; what a tenant's country makes of digits is settled before
//! a command is proposed.

pub mod customer;
pub mod import;
pub mod interaction;
pub mod keys;

pub use customer::{Customer, Profile};
pub use import::{ImportRow, Reject};
pub use interaction::{Channel, Direction, Interaction};
