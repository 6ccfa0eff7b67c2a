//! The floor: who waits, who is free, who was given which call, which phone is
//! registered where, and which node holds which service address.

pub mod address;
pub mod agent;
pub mod assignment;
pub mod callback;
pub mod dispatch;
pub mod explanation;
pub mod figure;
pub mod leftover;
pub mod pace;
pub mod phone;
pub mod place;
pub mod registration;
pub mod trunk;
