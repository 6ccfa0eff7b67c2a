//! What an operator sees when something is refused: a stable code, what is wrong,
//! where, and what to do next. Printed as `SW0123 what; why; what next`.
//!
//! Every code has a page `docs/errors/SWnnnn.md`. Codes are never used again for
//! another meaning. SW01xx node file and daemon start, SW02xx site files, SW04xx
//! agreement and joining (their messages come from the cluster with their code),
//! SW05xx the demonstration, SW06xx the HTTP interface.

use std::borrow::Cow;
use std::fmt;

use strowger_core::api::{ErrorBody, Problem};

/// The codes of the daemon.
pub mod code {
    /// The node file cannot be read.
    pub const NODE_FILE_UNREADABLE: &str = "SW0101";
    /// The node file is not TOML.
    pub const NODE_FILE_SYNTAX: &str = "SW0102";
    /// Unknown section or key in the node file or environment.
    pub const NODE_FILE_UNKNOWN_KEY: &str = "SW0103";
    /// A value of the node file is missing, of the wrong type or out of range.
    pub const NODE_FILE_VALUE: &str = "SW0104";
    /// The data folder cannot be used.
    pub const DATA_FOLDER: &str = "SW0105";
    /// A port or address cannot be bound.
    pub const BIND: &str = "SW0107";
    /// The log file cannot be written.
    pub const LOG_FILE: &str = "SW0108";
    /// A part of the daemon did not start.
    pub const START: &str = "SW0109";
    /// The daemon was used wrongly on the command line.
    pub const USAGE: &str = "SW0110";
    /// An examination of a node's data found something wrong.
    pub const DATA_UNWELL: &str = "SW0111";

    /// A backup could not be taken.
    pub const BACKUP_FAILED: &str = "SW0112";
    /// A backup is not whole.
    pub const BACKUP_DAMAGED: &str = "SW0113";
    /// A backup was written by a newer version.
    pub const BACKUP_FORMAT: &str = "SW0114";
    /// A backup is to be restored into a folder that is not empty.
    pub const RESTORE_TARGET: &str = "SW0115";
    /// The key for the secrets in a backup is missing or wrong.
    pub const BACKUP_KEY: &str = "SW0116";
    /// A backup could not be restored.
    pub const RESTORE_FAILED: &str = "SW0117";
    /// A recovery was not forced.
    pub const RECOVER_UNFORCED: &str = "SW0118";

    /// The site file is not TOML.
    pub const SITE_SYNTAX: &str = "SW0201";
    /// Unknown section or key in the site file.
    pub const SITE_UNKNOWN_KEY: &str = "SW0202";
    /// A value of the site file is missing, of the wrong type or out of range.
    pub const SITE_VALUE: &str = "SW0203";
    /// The same extension, number, agent, queue, trunk or route twice.
    pub const SITE_DUPLICATE: &str = "SW0204";
    /// A queue, extension or trunk that is named nowhere.
    pub const SITE_REFERENCE: &str = "SW0205";
    /// A range such as `1001-1020` that cannot be understood.
    pub const SITE_RANGE: &str = "SW0206";
    /// A sound file that cannot be played.
    pub const SITE_SOUND: &str = "SW0207";
    /// A file named by the site is missing or too large.
    pub const SITE_ATTACHMENT: &str = "SW0208";
    /// A line of a CSV file is wrong.
    pub const SITE_CSV: &str = "SW0209";

    /// No token or a wrong one.
    pub const UNAUTHORIZED: &str = "SW0601";
    /// The thing asked for does not exist.
    pub const NOT_FOUND: &str = "SW0602";
    /// The request is malformed.
    pub const BAD_REQUEST: &str = "SW0603";
    /// The exchange refused the command.
    pub const REFUSED: &str = "SW0604";
    /// No majority of nodes can be reached.
    pub const NO_QUORUM: &str = "SW0605";
    /// The outcome of a change is not known yet.
    pub const OUTCOME_UNKNOWN: &str = "SW0606";
    /// The event cursor is too old.
    pub const RESYNC: &str = "SW0607";
    /// Too many nodes lack a file that the site names.
    pub const BLOB_MAJORITY: &str = "SW0609";
    /// A node's clock is off.
    pub const CLOCK_OFFSET: &str = "SW0611";
    /// An invariant of the state is broken.
    pub const INVARIANT: &str = "SW0406";
    /// Too many connections or readers at once.
    pub const BUSY: &str = "SW0610";
    /// An agent has missed too many offers and is paused.
    pub const AGENT_MISSED: &str = "SW0612";
    /// An agent's pause lasts longer than its reason allows.
    pub const PAUSE_OVERDUE: &str = "SW0613";

    /// The demonstration folder cannot be used.
    pub const DEMO_FOLDER: &str = "SW0501";
    /// A node of the demonstration did not start.
    pub const DEMO_NODE: &str = "SW0502";
    /// The demonstration's site was refused.
    pub const DEMO_SITE: &str = "SW0503";
}

/// Exit codes of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Refused by the exchange or the system.
    Refused = 1,
    /// Used wrongly.
    Usage = 2,
    /// Named something that does not exist.
    NotFound = 3,
    /// Unreachable, or not done in time.
    Unreachable = 4,
    /// A file is invalid.
    InvalidFile = 5,
}

/// A refusal as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Stable code, see [`code`].
    pub code: Cow<'static, str>,
    /// What is wrong, and why.
    pub what: String,
    /// File and line, key, field.
    pub place: Option<String>,
    /// What to do next.
    pub next: String,
    /// Exit code of a command that ends with it.
    pub exit: Exit,
}

impl Fault {
    /// A fault without a place; the exit code follows from the code.
    pub fn new(code: &'static str, what: impl Into<String>, next: impl Into<String>) -> Self {
        let exit = exit_of(code);
        Self {
            code: code.into(),
            what: what.into(),
            place: None,
            next: next.into(),
            exit,
        }
    }

    /// A fault from a message of another crate: `SW0123: what` keeps its own code,
    /// anything else gets `code`.
    pub fn of(code: &'static str, error: &dyn fmt::Display, next: impl Into<String>) -> Self {
        let message = error.to_string();
        let own = message.split_once(": ").filter(|(code, _)| {
            code.len() == 6
                && code
                    .strip_prefix("SW")
                    .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
        });
        match own {
            Some((own, what)) => Self {
                code: own.to_owned().into(),
                what: what.to_owned(),
                place: None,
                next: remedy(own).map_or_else(|| next.into(), ToOwned::to_owned),
                exit: exit_of(own),
            },
            None => Self::new(code, message, next),
        }
    }

    /// The same with a place.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// As the HTTP interface says it.
    pub fn problem(&self) -> Problem {
        Problem {
            code: self.code.clone().into_owned(),
            what: self.what.clone(),
            place: self.place.clone(),
            next: Some(self.next.clone()),
        }
    }

    /// The body of an error answer.
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            error: self.problem(),
        }
    }
}

/// What to do about a fault of the cluster that says too little where it is met.
fn remedy(code: &str) -> Option<&'static str> {
    match code {
        "SW0403" => Some("keep its data folder for analysis, remove the node and join it anew"),
        "SW0404" => Some("remove its data folder and join again with a new token"),
        "SW0407" | "SW0426" => {
            Some("remove the node from the cluster, clear its data folder and join it anew")
        }
        "SW0427" => Some("install the version the other nodes run, and start it on the same data"),
        "SW0410" => Some("run `strowgerd init` or `strowgerd join` first"),
        "SW0411" => Some("run it, or name another data folder"),
        "SW0420" => Some("end that one, or name another data folder"),
        _ => None,
    }
}

fn exit_of(code: &str) -> Exit {
    match code {
        code::NODE_FILE_UNREADABLE
        | code::NODE_FILE_SYNTAX
        | code::NODE_FILE_UNKNOWN_KEY
        | code::NODE_FILE_VALUE
        | code::BACKUP_DAMAGED
        | code::BACKUP_FORMAT
        | code::DEMO_SITE => Exit::InvalidFile,
        code::USAGE => Exit::Usage,
        code::NOT_FOUND => Exit::NotFound,
        code::NO_QUORUM | code::OUTCOME_UNKNOWN | code::DEMO_NODE => Exit::Unreachable,
        // Joining: nobody answers, or no majority does.
        "SW0436" | "SW0437" => Exit::Unreachable,
        code if code.starts_with("SW02") => Exit::InvalidFile,
        _ => Exit::Refused,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ", self.code)?;
        if let Some(place) = &self.place {
            write!(out, "{}: ", printable(place))?;
        }
        write!(out, "{}; {}", printable(&self.what), printable(&self.next))
    }
}

impl std::error::Error for Fault {}

/// The text with control characters escaped, so that what a file or a peer wrote
/// cannot steer the terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|letter| {
            let escape = letter.is_control() && letter != '\n';
            let escaped = escape.then(|| letter.escape_unicode());
            let plain = (!escape).then_some(letter);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_code_place_what_and_next() {
        let fault = Fault::new(code::SITE_VALUE, "ring_s is -1", "use 1 to 600").at("site.toml:4");
        assert_eq!(
            fault.to_string(),
            "SW0203 site.toml:4: ring_s is -1; use 1 to 600"
        );
        assert_eq!(fault.exit, Exit::InvalidFile);
        assert_eq!(fault.body().error.place.as_deref(), Some("site.toml:4"));
    }

    #[test]
    fn exit_codes_follow_the_code() {
        let table = [
            (code::NODE_FILE_UNKNOWN_KEY, Exit::InvalidFile),
            (code::USAGE, Exit::Usage),
            (code::NOT_FOUND, Exit::NotFound),
            (code::NO_QUORUM, Exit::Unreachable),
            (code::BIND, Exit::Refused),
        ];
        for (code, exit) in table {
            assert_eq!(Fault::new(code, "", "").exit, exit, "{code}");
        }
    }

    #[test]
    fn a_message_with_a_code_keeps_it() {
        let fault = Fault::of(code::START, &"SW0436: nobody answers: x", "look");
        assert_eq!((&*fault.code, fault.exit), ("SW0436", Exit::Unreachable));
        assert_eq!(fault.what, "nobody answers: x");
        assert_eq!(Fault::of(code::START, &"odd: x", "look").code, code::START);
        let running = Fault::of(code::START, &"SW0420: another daemon", "look");
        assert!(running.next.starts_with("end that one"), "{running}");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
    }
}
