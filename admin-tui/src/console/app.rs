//! The console's state and what moves it. Messages go in, effects come out; no
//! terminal, socket or clock is touched here, so a test drives the whole of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use strowger_core::api::Action;

use super::grid::{Grid, Selection, Step};
use super::keys::{Act, BINDINGS, Binding, Scope};
use super::model::{Answer, Model, Topic};
use super::views;
use crate::endpoint::Endpoint;
use crate::error::{self, Failure};
use crate::limits;

/// A screen of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// Service at a glance.
    Overview,
    /// Queues.
    Queues,
    /// Agents.
    Agents,
    /// Live calls.
    Calls,
    /// Registered phones.
    Registrations,
    /// Nodes.
    Nodes,
}

impl View {
    /// All, in the order of their number keys.
    pub const ALL: [Self; 6] = [
        Self::Overview,
        Self::Queues,
        Self::Agents,
        Self::Calls,
        Self::Registrations,
        Self::Nodes,
    ];

    /// Its name on the tab.
    pub fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Queues => "Queues",
            Self::Agents => "Agents",
            Self::Calls => "Calls",
            Self::Registrations => "Registrations",
            Self::Nodes => "Nodes",
        }
    }

    fn beside(self, step: usize) -> Self {
        let place = Self::ALL.iter().position(|view| *view == self).unwrap_or(0);
        Self::ALL[(place + step) % Self::ALL.len()]
    }

    /// What the list of the view is made of, first, and what else it or its details
    /// show, beside what every view shows.
    fn topics(self, details: bool) -> &'static [Topic] {
        match (self, details) {
            (Self::Overview | Self::Queues, true) => &[Topic::Queues, Topic::Agents, Topic::Calls],
            (Self::Overview | Self::Queues, false) => &[Topic::Queues],
            (Self::Agents, _) => &[Topic::Agents, Topic::Calls],
            (Self::Calls, _) => &[Topic::Calls],
            (Self::Registrations, _) => &[Topic::Registrations],
            (Self::Nodes, _) => &[Topic::Nodes, Topic::Cluster],
        }
    }
}

/// What the keys mean just now.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// Commands.
    Browse,
    /// Letters go into the filter.
    Filter,
    /// The help is shown.
    Help,
    /// A question waits for y or n.
    Confirm {
        /// The question.
        question: String,
        /// What yes does.
        action: Action,
    },
}

/// Something that happened.
#[derive(Debug)]
pub enum Msg {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// The terminal changed its size.
    Resize,
    /// A request was answered by the node with this URL.
    Answered(Box<Answer>, Endpoint),
    /// A request was not answered.
    Missed(Topic, Failure),
    /// A command was answered.
    Outcome(String, Result<(), Failure>),
    /// The event stream of this node is open.
    Attached(Endpoint),
    /// The event stream brought an event.
    Event,
    /// The event stream was lost.
    Lost(String),
    /// Time passed.
    Tick,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask for a topic.
    Ask(Topic),
    /// Send a command; the text names it in the notice.
    Act(String, Action),
    /// End.
    Quit,
}

/// A short message on the status line.
#[derive(Clone, Debug)]
pub struct Notice {
    /// What it says.
    pub text: String,
    /// True for a failure.
    pub bad: bool,
    until: Instant,
}

/// The link to the cluster.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// The node that answered last.
    pub node: Option<Endpoint>,
    /// True while its event stream is open.
    pub stream: bool,
    /// Why the last request or stream failed, until one succeeds.
    pub trouble: Option<String>,
}

/// The console.
#[derive(Debug)]
pub struct App {
    /// What is known.
    pub model: Model,
    /// The view shown.
    pub view: View,
    /// What keys mean.
    pub mode: Mode,
    /// The row whose details are shown.
    pub open: Option<String>,
    /// Lines the details are scrolled by.
    pub scroll: usize,
    /// The link to the cluster.
    pub link: Link,
    /// Rows a screen holds, as last drawn.
    pub page: usize,
    filters: BTreeMap<View, String>,
    selections: BTreeMap<View, Selection>,
    notice: Option<Notice>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            model: Model::default(),
            view: View::Overview,
            mode: Mode::Browse,
            open: None,
            scroll: 0,
            link: Link::default(),
            page: 10,
            filters: BTreeMap::new(),
            selections: BTreeMap::new(),
            notice: None,
        }
    }
}

impl App {
    /// Takes a message in; the caller carries out the effects in order.
    pub fn handle(&mut self, msg: Msg, now: Instant) -> Vec<Effect> {
        let mut effects = match msg {
            Msg::Key(key) => self.key(key, now),
            Msg::Paste(text) => {
                if self.mode == Mode::Filter {
                    text.chars().for_each(|c| self.type_letter(c));
                }
                Vec::new()
            }
            Msg::Answered(answer, node) => {
                self.link.trouble = None;
                self.link.node = Some(node);
                self.model.fold(*answer, now);
                Vec::new()
            }
            Msg::Missed(topic, failure) => {
                self.model.missed(topic);
                self.link.trouble = Some(error::line(&failure.problem()));
                Vec::new()
            }
            Msg::Outcome(what, outcome) => {
                self.model.changed();
                self.notify(&what, outcome, now);
                Vec::new()
            }
            Msg::Attached(node) => {
                self.link = Link {
                    node: Some(node),
                    stream: true,
                    trouble: None,
                };
                self.model.changed();
                Vec::new()
            }
            Msg::Event => {
                self.model.changed();
                Vec::new()
            }
            Msg::Lost(why) => {
                self.link.stream = false;
                self.link.trouble = Some(crate::text::clean(&why).into_owned());
                Vec::new()
            }
            Msg::Resize | Msg::Tick => Vec::new(),
        };
        let due = self.model.due(&self.needed(), now);
        effects.extend(due.into_iter().map(Effect::Ask));
        effects
    }

    /// The topics on the screen poll fast; names of nodes for the status line slowly.
    fn needed(&self) -> Vec<(Topic, Duration)> {
        let shown = self.view.topics(self.open.is_some());
        let mut needed = vec![(Topic::Overview, limits::POLL_INTERVAL)];
        needed.extend(shown.iter().map(|topic| (*topic, limits::POLL_INTERVAL)));
        for topic in [Topic::Nodes, Topic::Cluster] {
            if !shown.contains(&topic) {
                needed.push((topic, 4 * limits::POLL_INTERVAL));
            }
        }
        needed
    }

    /// True once the list of the present view was answered.
    pub fn is_known(&self, now: Instant) -> bool {
        let list = self.view.topics(false).first();
        list.is_some_and(|topic| self.model.age(*topic, now).is_some())
    }

    /// The list of the present view.
    pub fn grid(&self, now: Instant) -> Grid {
        views::grid(self.view, &self.model, self.filter(), now)
    }

    /// The filter of the present view.
    pub fn filter(&self) -> &str {
        self.filters.get(&self.view).map_or("", String::as_str)
    }

    /// The place selected in `grid`.
    pub fn place(&self, grid: &Grid) -> Option<usize> {
        self.selections
            .get(&self.view)
            .cloned()
            .unwrap_or_default()
            .place(&grid.rows)
    }

    /// The notice, while it is fresh.
    pub fn notice(&self, now: Instant) -> Option<&Notice> {
        self.notice.as_ref().filter(|notice| notice.until > now)
    }

    /// The commands that apply just now.
    pub fn bindings(&self) -> impl Iterator<Item = &'static Binding> {
        BINDINGS
            .iter()
            .filter(|binding| self.applies(binding.scope))
    }

    fn applies(&self, scope: Scope) -> bool {
        match scope {
            Scope::Everywhere => true,
            Scope::List => self.open.is_none() && self.mode == Mode::Browse,
            Scope::Within => {
                self.open.is_some() || self.mode == Mode::Help || !self.filter().is_empty()
            }
            Scope::In(view) => self.view == view && self.mode == Mode::Browse,
        }
    }

    fn key(&mut self, key: KeyEvent, now: Instant) -> Vec<Effect> {
        if key.kind == KeyEventKind::Release {
            return Vec::new();
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            if key.code == KeyCode::Char('c') {
                return vec![Effect::Quit];
            }
            if key.code == KeyCode::Char('u') && self.mode == Mode::Filter {
                self.filters.remove(&self.view);
            }
            return Vec::new();
        }
        if key.modifiers.contains(KeyModifiers::ALT) {
            return Vec::new();
        }
        match &self.mode {
            Mode::Filter => {
                self.filter_key(key.code);
                Vec::new()
            }
            Mode::Confirm { action, .. } => {
                let action = action.clone();
                self.confirm_key(key.code, action)
            }
            Mode::Browse | Mode::Help => self.command_key(key.code, now),
        }
    }

    fn filter_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(c) => self.type_letter(c),
            KeyCode::Backspace => {
                self.filters.entry(self.view).or_default().pop();
            }
            KeyCode::Enter => self.mode = Mode::Browse,
            KeyCode::Esc => {
                self.filters.remove(&self.view);
                self.mode = Mode::Browse;
            }
            _ => {}
        }
    }

    fn type_letter(&mut self, c: char) {
        let filter = self.filters.entry(self.view).or_default();
        if !c.is_control() && filter.chars().count() < limits::FILTER_CHARS_MAX {
            filter.push(c);
        }
    }

    fn confirm_key(&mut self, code: KeyCode, action: Action) -> Vec<Effect> {
        match code {
            KeyCode::Char('y' | 'Y') => {
                self.mode = Mode::Browse;
                vec![Effect::Act(describe(&action), action)]
            }
            KeyCode::Char('n' | 'N') | KeyCode::Esc => {
                self.mode = Mode::Browse;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn command_key(&mut self, code: KeyCode, now: Instant) -> Vec<Effect> {
        let Some(binding) = self.bindings().find(|binding| binding.keys.contains(&code)) else {
            return Vec::new();
        };
        self.act(binding.act, now)
    }

    fn act(&mut self, act: Act, now: Instant) -> Vec<Effect> {
        match act {
            Act::Quit => return vec![Effect::Quit],
            Act::Show(view) => self.show(view),
            Act::NextView => self.show(self.view.beside(1)),
            Act::PreviousView => self.show(self.view.beside(View::ALL.len() - 1)),
            Act::Go(step) => self.go(step, now),
            Act::Open => {
                self.open = self.selected(now);
                self.scroll = 0;
            }
            Act::Back => self.back(),
            Act::Filter => self.mode = Mode::Filter,
            Act::Help => {
                self.mode = if self.mode == Mode::Help {
                    Mode::Browse
                } else {
                    Mode::Help
                };
            }
            Act::Pause
            | Act::Ready
            | Act::SignIn
            | Act::SignOut
            | Act::HangUp
            | Act::Drain
            | Act::Undrain => return self.ask(act, now),
        }
        Vec::new()
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.open = None;
        self.mode = Mode::Browse;
    }

    fn back(&mut self) {
        if self.mode == Mode::Help {
            self.mode = Mode::Browse;
        } else if self.open.is_some() {
            self.open = None;
        } else {
            self.filters.remove(&self.view);
        }
    }

    fn go(&mut self, step: Step, now: Instant) {
        if let Some(id) = &self.open {
            let lines = views::detail(self.view, &self.model, id, now).len();
            let places = lines.saturating_sub(self.page) + 1;
            self.scroll = step.from(self.scroll, places, self.page);
            return;
        }
        let rows = self.grid(now).rows;
        self.selections
            .entry(self.view)
            .or_default()
            .step(step, &rows, self.page);
    }

    /// The row an action is about: the one open, or the one selected.
    fn selected(&self, now: Instant) -> Option<String> {
        if self.open.is_some() {
            return self.open.clone();
        }
        let rows = self.grid(now).rows;
        let selection = self.selections.get(&self.view).cloned().unwrap_or_default();
        selection.id(&rows).map(str::to_owned)
    }

    /// What cannot be taken back by the next key is asked for first.
    fn ask(&mut self, act: Act, now: Instant) -> Vec<Effect> {
        let Some(id) = self.selected(now) else {
            return Vec::new();
        };
        let action = match act {
            Act::Pause => Action::AgentPause {
                agent: id,
                reason: "supervisor".to_owned(),
            },
            Act::Ready => Action::AgentReady { agent: id },
            Act::SignIn => Action::AgentSignIn {
                agent: id,
                extension: None,
            },
            Act::SignOut => Action::AgentSignOut { agent: id },
            Act::HangUp => Action::CallHangup { call: id },
            Act::Drain => Action::NodeDrain { node: id },
            Act::Undrain => Action::NodeUndrain { node: id },
            Act::Show(_)
            | Act::NextView
            | Act::PreviousView
            | Act::Go(_)
            | Act::Open
            | Act::Back
            | Act::Filter
            | Act::Help
            | Act::Quit => return Vec::new(),
        };
        if matches!(act, Act::Ready | Act::SignIn | Act::Undrain) {
            return vec![Effect::Act(describe(&action), action)];
        }
        let question = views::question(&self.model, &action);
        self.mode = Mode::Confirm { question, action };
        Vec::new()
    }

    fn notify(&mut self, what: &str, outcome: Result<(), Failure>, now: Instant) {
        let until = now + limits::NOTICE_TIME;
        self.notice = Some(match outcome {
            Ok(()) => Notice {
                text: format!("done: {what}"),
                bad: false,
                until,
            },
            Err(failure) => {
                let text = format!("{what}: {}", error::line(&failure.problem()));
                Notice {
                    text,
                    bad: true,
                    until,
                }
            }
        });
    }
}

/// A command in words.
pub fn describe(action: &Action) -> String {
    let text = match action {
        Action::AgentSignIn { agent, .. } => format!("sign in agent {agent}"),
        Action::AgentSignOut { agent } => format!("sign out agent {agent}"),
        Action::AgentPause { agent, .. } => format!("pause agent {agent}"),
        Action::AgentReady { agent } => format!("make agent {agent} ready"),
        Action::AgentExtendWrapUp { agent, by_s } => {
            format!("lengthen the wrap-up of agent {agent} by {by_s} s")
        }
        Action::CallPrioritize { call, weight } => format!("give {call} the score {weight}"),
        Action::CallPrefer { call, agent } => format!("keep {call} for agent {agent}"),
        Action::CallHangup { call } => format!("hang up {call}"),
        Action::CallCustomer { call, customer } => {
            let customer = customer.as_deref().unwrap_or("nobody known");
            format!("say that {call} is with {customer}")
        }
        Action::CallbackCancel { callback } => format!("take back the callback {callback}"),
        Action::NodeDrain { node } => format!("drain {node}"),
        Action::NodeUndrain { node } => format!("undrain {node}"),
        Action::NodeRemove { node } => format!("remove {node}"),
        Action::HoursOverride { hours, open, .. } => match open {
            Some(true) => format!("open the hours {hours}"),
            Some(false) => format!("close the hours {hours}"),
            None => format!("let the hours {hours} follow the site"),
        },
    };
    crate::text::clean(&text).into_owned()
}
