//! What can go wrong in an operator's command, as an exit code and a problem with a
//! stable code. Problems the exchange reports are passed on with the code it gave.

use std::path::PathBuf;

use strowger_core::api::Problem;
use thiserror::Error;

/// The exit codes scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Refused by the exchange, or a check found something wrong.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// No node answered in time.
    Unreachable = 4,
    /// A file is missing, unreadable or wrong.
    InvalidFile = 5,
}

/// A command that did not do what it should.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Failure {
    /// The command line is wrong.
    #[error("usage: {what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to do.
        next: String,
    },
    /// A URL this program does not talk to.
    #[error("address {url} refused: {why}")]
    Address {
        /// The URL as given.
        url: String,
        /// Why not.
        why: &'static str,
    },
    /// No node took the connection.
    #[error("no node answers: {tried}")]
    NoNode {
        /// Each URL with what happened there.
        tried: String,
    },
    /// A request was sent and no answer came.
    #[error("no answer from {url}: {why}")]
    NoAnswer {
        /// The node asked.
        url: String,
        /// What happened.
        why: String,
    },
    /// The node answered with an error.
    #[error("{0}", problem.what)]
    Answered {
        /// Exit code that fits the answer.
        exit: Exit,
        /// HTTP status; `None` for an answer inside a stream.
        status: Option<u16>,
        /// The problem as the node put it.
        problem: Problem,
    },
    /// The answer is no valid answer of this version of the interface.
    #[error("answer of {url} not understood: {why}")]
    Garbled {
        /// The node asked.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The site file is unreadable or no TOML.
    #[error("site file: {what}")]
    Site {
        /// What is wrong.
        what: String,
        /// File and line.
        place: String,
    },
    /// A file named by the site file is missing or too large.
    #[error("attachment: {what}")]
    Attachment {
        /// What is wrong.
        what: String,
        /// File and line that names it.
        place: String,
    },
    /// A file of customers cannot be read, or what it refused not be written.
    #[error("customers: {what}")]
    CustomerFile {
        /// What is wrong.
        what: String,
        /// File and line.
        place: String,
    },
    /// The token or CA file cannot be used.
    #[error("{}: {why}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// `doctor` found something wrong.
    #[error("{wrong} of {checks} checks failed")]
    Unwell {
        /// Failed checks.
        wrong: usize,
        /// Checks made.
        checks: usize,
    },
    /// A node that is being drained has calls when the time given for it is over.
    #[error("{node} has {calls} calls")]
    Draining {
        /// The node.
        node: String,
        /// Calls it has.
        calls: u64,
    },
    /// The console needs a terminal.
    #[error("terminal: {why}")]
    Terminal {
        /// What is wrong.
        why: String,
    },
}

impl Failure {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. } | Self::Address { .. } | Self::Terminal { .. } => Exit::Usage,
            Self::NoNode { .. } | Self::NoAnswer { .. } | Self::Draining { .. } => {
                Exit::Unreachable
            }
            Self::Answered { exit, .. } => *exit,
            Self::Garbled { .. } | Self::Unwell { .. } => Exit::Refused,
            Self::Site { .. }
            | Self::Attachment { .. }
            | Self::CustomerFile { .. }
            | Self::Secret { .. } => Exit::InvalidFile,
        }
    }

    /// The problem as operators see it.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Usage { what, next } => problem("SW0901", what, None, next),
            Self::NoNode { tried } => problem(
                "SW0902",
                "no node answers",
                Some(tried),
                "check that a node runs, or name others with --api",
            ),
            Self::NoAnswer { url, why } => problem(
                "SW0903",
                &format!("{url} gave no answer; it may or may not have done what was asked"),
                Some(why),
                "look at the state, then repeat the command",
            ),
            Self::Site { what, place } => problem(
                "SW0904",
                what,
                Some(place),
                "correct the file and apply it again",
            ),
            Self::Attachment { what, place } => problem(
                "SW0905",
                what,
                Some(place),
                "paths are relative to the site file",
            ),
            Self::Secret { path, why } => problem(
                "SW0906",
                &format!("cannot use {}", path.display()),
                Some(why),
                "give a readable file with --token-file or --ca-file",
            ),
            Self::Garbled { url, why } => problem(
                "SW0907",
                &format!("the answer of {url} is not understood"),
                Some(why),
                "use the command line of the same version as the node",
            ),
            Self::Unwell { wrong, checks } => problem(
                "SW0908",
                &format!("{wrong} of {checks} checks failed"),
                None,
                "see the lines marked wrong",
            ),
            Self::Draining { node, calls } => problem(
                "SW0913",
                &format!("{node} still has {calls} calls and goes on draining"),
                None,
                "wait and repeat the command; `strowger call list` shows which they are",
            ),
            Self::Terminal { why } => problem(
                "SW0909",
                "the console needs a terminal",
                Some(why),
                "run it in a terminal, or use the list commands",
            ),
            Self::CustomerFile { what, place } => problem(
                "SW0912",
                what,
                Some(place),
                "give a CSV file in UTF-8 whose first line names the columns, id among them",
            ),
            Self::Address { url, why } => problem(
                "SW0910",
                &format!("{url} is not an address this program talks to"),
                Some(why),
                "use http:// for loopback addresses, https:// with --ca-file elsewhere",
            ),
            Self::Answered { problem, .. } => problem.clone(),
        }
    }
}

/// One line for people: `SW0123 what; why; what next`.
pub fn line(problem: &Problem) -> String {
    let mut text = format!("{} {}", problem.code, problem.what);
    for part in [&problem.place, &problem.next].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(part);
    }
    crate::text::clean(&text).into_owned()
}

fn problem(code: &str, what: &str, place: Option<&str>, next: &str) -> Problem {
    Problem {
        code: code.to_owned(),
        what: what.to_owned(),
        place: place.map(str::to_owned),
        next: Some(next.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_code_cause_and_next_step() {
        let failure = Failure::NoNode {
            tried: "http://127.0.0.1:1 refused".to_owned(),
        };
        assert_eq!(
            line(&failure.problem()),
            "SW0902 no node answers; http://127.0.0.1:1 refused; \
             check that a node runs, or name others with --api"
        );
        assert_eq!(failure.exit(), Exit::Unreachable);
    }

    #[test]
    fn control_characters_of_an_answer_never_reach_the_terminal() {
        let failure = Failure::Answered {
            exit: Exit::Refused,
            status: None,
            problem: Problem {
                code: "SW0123".to_owned(),
                what: "agent \u{1b}[2J unknown".to_owned(),
                place: None,
                next: None,
            },
        };
        assert_eq!(line(&failure.problem()), "SW0123 agent \\u{1b}[2J unknown");
    }
}
