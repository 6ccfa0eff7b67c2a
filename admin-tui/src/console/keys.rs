//! The one table of commands. Dispatch, key bar and help all read it, so none of them
//! can know a key the others do not.

use crossterm::event::KeyCode;

use super::app::View;
use super::grid::Step;

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Shows a view.
    Show(View),
    /// Shows the next view.
    NextView,
    /// Shows the view before.
    PreviousView,
    /// Moves in the list or the details.
    Go(Step),
    /// Opens the details of the selected row.
    Open,
    /// Leaves details, help or a filter.
    Back,
    /// Begins to type a filter.
    Filter,
    /// Shows or hides the help.
    Help,
    /// Pauses the selected agent.
    Pause,
    /// Makes the selected agent ready.
    Ready,
    /// Signs the selected agent in.
    SignIn,
    /// Signs the selected agent out.
    SignOut,
    /// Ends the selected call.
    HangUp,
    /// Drains the selected node.
    Drain,
    /// Takes a drain back.
    Undrain,
    /// Ends the console.
    Quit,
}

/// Where a command applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In every view.
    Everywhere,
    /// While a list is shown.
    List,
    /// While details, help or a filter can be left.
    Within,
    /// In one view and its details.
    In(View),
}

/// One command.
#[derive(Debug)]
pub struct Binding {
    /// Keys that trigger it.
    pub keys: &'static [KeyCode],
    /// How the keys are written.
    pub name: &'static str,
    /// Its word on the key bar; empty when it is in the help only.
    pub bar: &'static str,
    /// Its line in the help.
    pub help: &'static str,
    /// Where it applies.
    pub scope: Scope,
    /// What it does.
    pub act: Act,
}

macro_rules! bindings {
    ($($name:literal [$($key:expr),+] $bar:literal $help:literal $scope:expr => $act:expr;)*) => {
        &[$(Binding {
            keys: &[$($key),+],
            name: $name,
            bar: $bar,
            help: $help,
            scope: $scope,
            act: $act,
        }),*]
    };
}

use KeyCode::{BackTab, Char, Down, End, Enter, Esc, Home, PageDown, PageUp, Tab, Up};
use Scope::{Everywhere, In, List, Within};

/// Every command, in the order of the key bar.
pub static BINDINGS: &[Binding] = bindings![
    "Esc" [Esc] "back" "leave details, help, filter" Within => Act::Back;
    "Enter" [Enter] "open" "details of the selected row" List => Act::Open;
    "p" [Char('p')] "pause" "agents: pause" In(View::Agents) => Act::Pause;
    "r" [Char('r')] "ready" "agents: end pause or wrap-up" In(View::Agents) => Act::Ready;
    "i" [Char('i')] "sign in" "agents: sign in" In(View::Agents) => Act::SignIn;
    "o" [Char('o')] "sign out" "agents: sign out" In(View::Agents) => Act::SignOut;
    "x" [Char('x')] "hang up" "calls: hang up" In(View::Calls) => Act::HangUp;
    "d" [Char('d')] "drain" "nodes: drain" In(View::Nodes) => Act::Drain;
    "u" [Char('u')] "undrain" "nodes: take a drain back" In(View::Nodes) => Act::Undrain;
    "/" [Char('/')] "filter" "show only matching rows" List => Act::Filter;
    "Tab" [Tab] "" "next view" Everywhere => Act::NextView;
    "?" [Char('?')] "help" "this help" Everywhere => Act::Help;
    "q" [Char('q')] "quit" "quit (also Ctrl-C)" Everywhere => Act::Quit;
    "1" [Char('1')] "" "overview" Everywhere => Act::Show(View::Overview);
    "2" [Char('2')] "" "queues" Everywhere => Act::Show(View::Queues);
    "3" [Char('3')] "" "agents" Everywhere => Act::Show(View::Agents);
    "4" [Char('4')] "" "calls" Everywhere => Act::Show(View::Calls);
    "5" [Char('5')] "" "registrations" Everywhere => Act::Show(View::Registrations);
    "6" [Char('6')] "" "nodes" Everywhere => Act::Show(View::Nodes);
    "Shift-Tab" [BackTab] "" "view before" Everywhere => Act::PreviousView;
    "j ↓" [Char('j'), Down] "" "one down" Everywhere => Act::Go(Step::Down);
    "k ↑" [Char('k'), Up] "" "one up" Everywhere => Act::Go(Step::Up);
    "PgDn" [PageDown] "" "a screen down" Everywhere => Act::Go(Step::PageDown);
    "PgUp" [PageUp] "" "a screen up" Everywhere => Act::Go(Step::PageUp);
    "g Home" [Char('g'), Home] "" "first" Everywhere => Act::Go(Step::First);
    "G End" [Char('G'), End] "" "last" Everywhere => Act::Go(Step::Last);
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_has_two_meanings_in_one_place() {
        let overlap = |a: Scope, b: Scope| match (a, b) {
            (Scope::In(a), Scope::In(b)) => a == b,
            _ => true,
        };
        for (i, a) in BINDINGS.iter().enumerate() {
            for b in &BINDINGS[i + 1..] {
                let shared = a.keys.iter().any(|key| b.keys.contains(key));
                assert!(
                    !(shared && overlap(a.scope, b.scope)),
                    "{} {}",
                    a.help,
                    b.help
                );
            }
        }
    }
}
