//! What can be done to the data of a node that does not run.
//!
//! Everything here takes the lock of the data directory, so that it never meets a running
//! daemon. Deliberately not here: what rows mean; the caller passes the machine and reads
//! its state.

mod founding;
mod survey;

pub use founding::{Founding, Recovery, found_from, recover, recovery};
pub use survey::{Finding, Survey, TableSize, survey};
