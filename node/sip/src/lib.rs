//! SIP signalling of the exchange: messages, transports, transactions, dialogs and legs.
//!
//! The daemon starts an [`endpoint::Endpoint`], binds service addresses to it, and is told of
//! requests through a handler; each SIP dialog of ours with one phone or trunk is a [`leg::Leg`]
//! that it drives with commands and that reports events. Nothing here knows calls, queues or
//! people, and nothing here touches media.
pub mod dialog;
pub mod digest;
pub mod endpoint;
pub mod leg;
pub mod limits;
pub mod message;
pub mod phone;
pub mod registrar;
pub mod sdp;
pub mod stats;
pub mod timer;
pub mod token;
pub mod transaction;
pub mod transport;
