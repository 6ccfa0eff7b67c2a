//! The demonstration: a three-node exchange on this machine with phones that call.
//!
//! Three real processes with three data folders that share nothing are founded, joined and
//! given a sample site; phones of our own keep the board alive. A dead node is never
//! restarted here: that is the operator's to see and to do.
