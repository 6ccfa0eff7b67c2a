//! Everything that decides: the replicated state machine of the exchange.
//!
//! Nothing here touches a socket, a clock, a file or a random source. Time and
//! identity come in with each log entry, so the same log gives the same floor on
//! every node, in a test and in a rehearsal.
//!
//! | module | what lives there |
//! |---|---|
//! | [`ids`], [`time`], [`limits`] | typed identifiers, milliseconds, every bound in one place |
//! | [`call`], [`route`] | calls and legs as rows; what a dialled number means |
//! | [`floor`] | queues, agents, assignments, registrations, service addresses |
//! | [`hours`] | opening hours as intervals in UTC |
//! | [`number`] | telephone numbers as the world writes them |
//! | [`cdr`] | what is left of a call when it has ended |
//! | [`crm`] | customers, their contacts, imports; as rows, never held in memory |
//! | [`site`], [`skill`] | the declarative configuration of a tenant; what agents can do |
//! | [`state`] | commands, `apply`, rows |
//! | [`outstanding`](mod@outstanding) | what remains to be done so that the world matches a row |
//! | [`ports`] | what agreement and storage must offer |
//! | `api` | wire types of the HTTP and WebSocket interface |

#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "machine")]
pub mod call;
pub mod call_state;
#[cfg(feature = "machine")]
pub mod cdr;
#[cfg(feature = "machine")]
pub mod crm;
#[cfg(feature = "machine")]
pub mod floor;
#[cfg(feature = "machine")]
pub mod hours;
pub mod ids;
pub mod ivr;
pub mod limits;
pub mod number;
#[cfg(feature = "machine")]
pub mod outstanding;
#[cfg(feature = "machine")]
pub mod ports;
#[cfg(feature = "machine")]
pub mod route;
#[cfg(feature = "machine")]
pub mod site;
#[cfg(feature = "machine")]
pub mod skill;
#[cfg(feature = "machine")]
pub mod state;
pub mod time;
