//! Speaking and listening: what a caller hears between ringing and an agent.

pub mod speech;
