//! The floor, proved: every path of calls, queues, agents, registrations and nodes
//! through the encoded form of commands, with the invariants checked after each entry.

mod agent_first;
mod answer;
mod callback;
mod callback_hours;
mod calls;
mod cluster;
mod comfort;
mod compare;
mod crm;
mod days;
mod dispatch;
mod expected_wait;
mod fairness;
mod fence;
mod figures;
mod frozen;
mod harness;
mod hours;
mod level;
mod log;
mod phone;
mod queue;
mod random;
mod redial;
mod reference;
mod registration;
mod rehearsal;
mod rows;
mod site;
mod trunk;
