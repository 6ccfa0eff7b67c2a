//! The operator's commands: one file per family of verbs.

mod args;
mod customer;
mod doctor;
mod events;
mod extension;
mod hours;
mod import;
mod lists;
mod node;
mod site;

use std::ffi::OsString;

use clap::Parser;
use serde_json::Value;
use strowger_core::api::{Action, Command};

use crate::client::{Client, segment};
use crate::endpoint::Access;
use crate::error::{Exit, Failure};
use crate::render::{self, Output, shape};
use crate::{console, limits};
use args::{AgentVerb, Args, CallVerb, CustomerVerb, ExtensionVerb, SiteVerb, Verb};

/// What every command needs.
struct Session {
    client: Client,
    output: Output,
}

/// Runs the command line; prints its answer or its failure.
pub fn main(line: impl Iterator<Item = OsString>) -> Exit {
    let line: Vec<OsString> = line.collect();
    let args = match Args::try_parse_from(&line) {
        Ok(args) => args,
        Err(error) if !error.use_stderr() => {
            return printed(render::print(&error.to_string()));
        }
        Err(error) => {
            let output = if wants_json(&line) {
                Output::Json
            } else {
                Output::Table
            };
            return failed(output, &misused(&error));
        }
    };
    let output = args.output;
    match run(args) {
        Ok(exit) => exit,
        Err(failure) => failed(output, &failure),
    }
}

fn run(args: Args) -> Result<Exit, Failure> {
    let access = Access::read(
        &args.api,
        args.token_file.as_deref(),
        args.ca_file.as_deref(),
    )?;
    let timeout = match &args.verb {
        Verb::Site {
            verb: SiteVerb::Apply { .. },
        }
        | Verb::Customer {
            verb: CustomerVerb::Import { .. },
        }
        | Verb::Extension {
            verb: ExtensionVerb::Import { .. },
        } => limits::APPLY_TIMEOUT,
        Verb::Console => limits::CONSOLE_TIMEOUT,
        _ => limits::ANSWER_TIMEOUT,
    };
    let session = Session {
        client: Client::new(access, timeout)?,
        output: args.output,
    };
    match args.verb {
        Verb::Console => console::run(session.client).map(|()| Exit::Done),
        Verb::Events { from, limit } => events::run(&session, &from, limit),
        Verb::Doctor => doctor::run(&session),
        Verb::Site { verb } => site::run(&session, verb),
        Verb::Node { verb } => node::run(&session, verb),
        Verb::Agent { verb } => agent(&session, verb),
        Verb::Call { verb } => call(&session, verb),
        Verb::Hours { verb } => hours::run(&session, verb),
        Verb::Customer { verb } => customer::run(&session, verb),
        Verb::Why { call } => why(&session, &call),
        Verb::Extension { verb } => extension::run(&session, verb),
        Verb::Cluster { .. }
        | Verb::Registration { .. }
        | Verb::Queue { .. }
        | Verb::Callback { .. }
        | Verb::Trunk { .. }
        | Verb::Cdr { .. }
        | Verb::Figures(_) => lists::run(&session, args.verb),
    }
}

fn agent(session: &Session, verb: AgentVerb) -> Result<Exit, Failure> {
    match verb {
        AgentVerb::List => session.list("/v1/agents", &shape::AGENT),
        AgentVerb::Show { id } => session.show("/v1/agents", &id, &shape::AGENT),
        AgentVerb::SignIn { id, extension } => session.act(Action::AgentSignIn {
            agent: id,
            extension,
        }),
        AgentVerb::SignOut { id } => session.act(Action::AgentSignOut { agent: id }),
        AgentVerb::Pause { id, reason } => session.act(Action::AgentPause { agent: id, reason }),
        AgentVerb::Ready { id } => session.act(Action::AgentReady { agent: id }),
        AgentVerb::Extend { id, by_s } => {
            session.act(Action::AgentExtendWrapUp { agent: id, by_s })
        }
    }
}

fn call(session: &Session, verb: CallVerb) -> Result<Exit, Failure> {
    match verb {
        CallVerb::List => session.list("/v1/calls", &shape::CALL),
        CallVerb::Show { id } => session.show("/v1/calls", &id, &shape::CALL),
        CallVerb::Hangup { id } => session.act(Action::CallHangup { call: id }),
        CallVerb::Prioritize { id, weight } => {
            session.act(Action::CallPrioritize { call: id, weight })
        }
        CallVerb::Prefer { id, agent } => session.act(Action::CallPrefer { call: id, agent }),
    }
}

/// Shows each assignment of a call in full: a list has no room for the agents.
fn why(session: &Session, call: &str) -> Result<Exit, Failure> {
    let path = format!("/v1/calls/{}/why", segment(call));
    if session.output != Output::Table {
        return session.list(&path, &shape::EXPLANATION);
    }
    let items: Vec<Value> = session.client.get(&path)?;
    if items.is_empty() {
        return session.print("the call was offered to nobody\n");
    }
    let parts = items
        .iter()
        .map(|item| render::one(Output::Table, &shape::EXPLANATION, item));
    session.print(&parts.collect::<Vec<_>>().join("\n"))
}

impl Session {
    /// Prints the list at `path`.
    fn list(&self, path: &str, shape: &render::Shape) -> Result<Exit, Failure> {
        let items: Vec<Value> = self.client.get(path)?;
        self.print(&render::list(self.output, shape, &items))
    }

    /// Prints the thing `id` of the list at `path`.
    fn show(&self, path: &str, id: &str, shape: &render::Shape) -> Result<Exit, Failure> {
        let item: Value = self.client.get(&format!("{path}/{}", segment(id)))?;
        self.one(shape, &item)
    }

    fn one(&self, shape: &render::Shape, item: &Value) -> Result<Exit, Failure> {
        self.print(&render::one(self.output, shape, item))
    }

    /// Sends a command and prints what became of it.
    fn act(&self, action: Action) -> Result<Exit, Failure> {
        let outcome = self.send(action)?;
        self.outcome(&outcome)
    }

    /// Sends a command; what became of it.
    fn send(&self, action: Action) -> Result<Value, Failure> {
        let command = Command {
            id: command_id(),
            action,
        };
        self.client.post("/v1/commands", &command)
    }

    fn outcome(&self, outcome: &Value) -> Result<Exit, Failure> {
        if self.output == Output::Table {
            return self.print("done\n");
        }
        self.one(&shape::OUTCOME, outcome)
    }

    fn print(&self, text: &str) -> Result<Exit, Failure> {
        render::print(text)
            .map(|()| Exit::Done)
            .map_err(|error| Failure::Terminal {
                why: format!("stdout takes nothing: {error}"),
            })
    }
}

/// An id no other command of this machine carries.
pub fn command_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = jiff::Timestamp::now().as_microsecond();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("cmd_{now:x}_{:x}_{next}", std::process::id())
}

fn printed(result: std::io::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Done,
        Err(_) => Exit::Refused,
    }
}

fn failed(output: Output, failure: &Failure) -> Exit {
    eprint!("{}", render::failure(output, failure));
    failure.exit()
}

/// The words of clap, on one line.
fn misused(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let what: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    let what = what.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    let next = match text.lines().find(|line| line.starts_with("Usage:")) {
        Some(usage) => format!("{}, see --help", usage.replace("Usage:", "usage:")),
        None => "strowger --help lists the commands".to_owned(),
    };
    if text.starts_with("error:") {
        Failure::Usage {
            what: what.to_owned(),
            next,
        }
    } else {
        // A family without a verb: clap answers with its help.
        Failure::Usage {
            what: "the command is not complete".to_owned(),
            next,
        }
    }
}

/// Whether the line asks for JSON, found without parsing it, because it does not parse.
fn wants_json(line: &[OsString]) -> bool {
    line.iter()
        .any(|word| word == "--output=json" || word == "-ojson")
        || line
            .windows(2)
            .any(|pair| (pair[0] == "--output" || pair[0] == "-o") && pair[1] == "json")
}
