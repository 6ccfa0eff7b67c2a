//! `strowger`: what operators type. Commands ask a node over HTTP and print its answer;
//! `strowger console` is the live board.
//!
//! Nothing here decides about calls, and no figure is computed here that a node
//! computes: every surface shows the same answers.

mod cli;
mod client;
mod console;
mod endpoint;
mod error;
mod limits;
mod render;
mod stream;
mod text;
mod tls;

use std::process::ExitCode;

fn main() -> ExitCode {
    let done = cli::main(std::env::args_os());
    ExitCode::from(done as u8)
}
