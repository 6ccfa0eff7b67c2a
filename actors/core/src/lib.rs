//! Everything that decides: the replicated state machine of the exchange.
//!
//! Nothing here touches a socket, a clock, a file or a random source. Time and
//! identity come in with each log entry, so the same log gives the same floor on
//! every node, in a test and in a rehearsal.
//!
//! | module | what lives there |
//! |---|---|
//! | [`ids`], [`time`] | typed identifiers, milliseconds |
//! | [`site`] | the declarative configuration of a tenant |
//! | [`ports`] | what agreement and storage must offer |
//! | [`api`] | wire types of the HTTP and WebSocket interface |

#[cfg(feature = "api")]
pub mod api;
pub mod ids;
#[cfg(feature = "machine")]
pub mod ports;
pub mod site;
pub mod time;
