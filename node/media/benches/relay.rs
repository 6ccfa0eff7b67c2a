//! Processor time per relayed packet.
fn main() {}
