//! The words of the command line. Only what works is offered.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::render::Output;
use crate::text;

/// Operator commands of the Strowger telephone exchange.
#[derive(Debug, Parser)]
#[command(
    name = "strowger",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Args {
    /// Nodes to ask, tried in order: URLs separated by commas
    #[arg(
        long,
        global = true,
        env = "STROWGER_API",
        value_name = "URL,…",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8080"
    )]
    pub api: Vec<String>,
    /// File that holds the access token
    #[arg(long, global = true, env = "STROWGER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificate of the cluster's CA (PEM), for https
    #[arg(long, global = true, env = "STROWGER_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Form of the answer
    #[arg(long, short, global = true, value_enum, default_value = "table")]
    pub output: Output,
    /// The command.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The families of commands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The cluster at a glance
    Cluster {
        /// What to do.
        #[command(subcommand)]
        verb: ClusterVerb,
    },
    /// Nodes of the cluster
    Node {
        /// What to do.
        #[command(subcommand)]
        verb: NodeVerb,
    },
    /// The replicated configuration
    Site {
        /// What to do.
        #[command(subcommand)]
        verb: SiteVerb,
    },
    /// Extensions of the site
    Extension {
        /// What to do.
        #[command(subcommand)]
        verb: ExtensionVerb,
    },
    /// Registered phones
    Registration {
        /// What to do.
        #[command(subcommand)]
        verb: ListVerb,
    },
    /// Agents
    Agent {
        /// What to do.
        #[command(subcommand)]
        verb: AgentVerb,
    },
    /// Queues
    Queue {
        /// What to do.
        #[command(subcommand)]
        verb: ThingVerb,
    },
    /// Opening hours
    Hours {
        /// What to do.
        #[command(subcommand)]
        verb: HoursVerb,
    },
    /// Live calls
    Call {
        /// What to do.
        #[command(subcommand)]
        verb: CallVerb,
    },
    /// Customers to be called back
    Callback {
        /// What to do.
        #[command(subcommand)]
        verb: CallbackVerb,
    },
    /// Trunks
    Trunk {
        /// What to do.
        #[command(subcommand)]
        verb: ThingVerb,
    },
    /// Customers and their contacts
    Customer {
        /// What to do.
        #[command(subcommand)]
        verb: CustomerVerb,
    },
    /// Call detail records
    Cdr {
        /// What to do.
        #[command(subcommand)]
        verb: CdrVerb,
    },
    /// Figures of queues, agents, teams or tenants: live, or by intervals
    Figures(FiguresArgs),
    /// Why a call was offered to whom, also after its end
    Why {
        /// The call
        call: String,
    },
    /// Follow the event stream, one event a line
    Events {
        /// Cursor after which to begin, or `now`
        #[arg(long, value_name = "CURSOR", default_value = "now")]
        from: String,
        /// End after this many events
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Check the cluster; exit code 1 when something is wrong
    Doctor,
    /// The live board
    Console,
}

/// Whose figures, and of which time.
#[derive(Debug, clap::Args)]
pub struct FiguresArgs {
    /// Of queues, or of this one (the default)
    #[arg(long, value_name = "NAME", num_args = 0..=1, group = "of")]
    pub queue: Option<Option<String>>,
    /// Of agents, or of this one
    #[arg(long, value_name = "ID", num_args = 0..=1, group = "of")]
    pub agent: Option<Option<String>>,
    /// Of teams, or of this one
    #[arg(long, value_name = "NAME", num_args = 0..=1, group = "of")]
    pub team: Option<Option<String>>,
    /// Of tenants, or of this one
    #[arg(long, value_name = "NAME", num_args = 0..=1, group = "of")]
    pub tenant: Option<Option<String>>,
    /// By intervals of this length, instead of live
    #[arg(long, value_enum, value_name = "LENGTH")]
    pub by: Option<By>,
    /// From the interval of this time: 2026-11-22, or RFC 3339
    #[arg(long, value_name = "TIME", requires = "by")]
    pub from: Option<String>,
    /// Up to, not including, this time
    #[arg(long, value_name = "TIME", requires = "by")]
    pub to: Option<String>,
}

/// Length of intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// A quarter of an hour
    Quarter,
    /// An hour
    Hour,
    /// A day of the tenant's time zone
    Day,
    /// A month of the tenant's time zone
    Month,
}

/// Verbs of the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterVerb {
    /// Show it
    Show,
}

/// Verbs of a family with a list only.
#[derive(Debug, Subcommand)]
pub enum ListVerb {
    /// List all
    List,
}

/// Verbs of a family without actions.
#[derive(Debug, Subcommand)]
pub enum ThingVerb {
    /// List all
    List,
    /// Show one
    Show {
        /// Its name or number
        name: String,
    },
}

/// Verbs of extensions.
#[derive(Debug, Subcommand)]
pub enum ExtensionVerb {
    /// List all
    List,
    /// Show one
    Show {
        /// Its number
        name: String,
    },
    /// Add extensions with known passwords to the site in force, or change their passwords
    Import {
        /// A CSV file with the header extension,password
        file: PathBuf,
        /// Take out what earlier imports brought and this file leaves out
        #[arg(long)]
        replace: bool,
        /// Validate and count only
        #[arg(long)]
        dry_run: bool,
    },
}

/// Verbs of nodes.
#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// List all
    List,
    /// Show one
    Show {
        /// Such as 2 or node_2
        id: String,
    },
    /// Print a one-time token for `strowgerd join`
    Invite {
        /// Seconds until it expires
        #[arg(long, value_name = "S", default_value_t = 3_600)]
        ttl_s: u64,
    },
    /// Move a node's addresses and calls away, and wait until it has no calls
    Drain {
        /// Such as 2 or node_2
        id: String,
        /// Seconds to wait; it goes on draining afterwards
        #[arg(long, value_name = "S", default_value_t = 30)]
        within_s: u64,
    },
    /// Take a drain back
    Undrain {
        /// Such as 2 or node_2
        id: String,
    },
    /// Take a node out of the cluster for good
    Remove {
        /// Such as 2 or node_2
        id: String,
        /// Even while it owns live calls
        #[arg(long)]
        force: bool,
    },
}

/// Verbs of the site.
#[derive(Debug, Subcommand)]
pub enum SiteVerb {
    /// Apply a site file with the files it names
    Apply {
        /// The site file (TOML)
        file: PathBuf,
        /// Validate and show the difference only
        #[arg(long)]
        dry_run: bool,
    },
    /// Print the site file in force
    Show,
    /// List the versions
    History,
    /// Apply an earlier version again
    Rollback {
        /// The version
        version: u64,
    },
}

/// Verbs of agents.
#[derive(Debug, Subcommand)]
pub enum AgentVerb {
    /// List all
    List,
    /// Show one
    Show {
        /// The agent
        id: String,
    },
    /// Sign an agent in
    SignIn {
        /// The agent
        id: String,
        /// Extension to work at; the agent's own unless given
        #[arg(long, value_name = "N")]
        extension: Option<String>,
    },
    /// Sign an agent out; a live call goes on
    SignOut {
        /// The agent
        id: String,
    },
    /// Pause an agent
    Pause {
        /// The agent
        id: String,
        /// Why, shown to supervisors
        #[arg(long, value_name = "TEXT", default_value = "operator")]
        reason: String,
    },
    /// End an agent's pause or wrap-up
    Ready {
        /// The agent
        id: String,
    },
    /// Lengthen the wrap-up an agent is in
    Extend {
        /// The agent
        id: String,
        /// Seconds
        #[arg(long, value_name = "S", default_value_t = 60)]
        by_s: u64,
    },
}

/// Verbs of calls.
#[derive(Debug, Subcommand)]
pub enum CallVerb {
    /// List all
    List,
    /// Show one with its legs
    Show {
        /// The call
        id: String,
    },
    /// End a call
    Hangup {
        /// The call
        id: String,
    },
    /// Give a waiting caller a score beside the queue's weight and the wait
    Prioritize {
        /// The call
        id: String,
        /// The score
        #[arg(allow_negative_numbers = true)]
        weight: i64,
    },
    /// Let a waiting caller wait for one agent, for as long as the queue grants
    Prefer {
        /// The call
        id: String,
        /// The agent
        agent: String,
    },
}

/// Verbs of callbacks.
#[derive(Debug, Subcommand)]
pub enum CallbackVerb {
    /// List all
    List,
    /// Take one back; an attempt under way is cancelled
    Cancel {
        /// The callback
        id: String,
    },
}

/// Verbs of opening hours.
#[derive(Debug, Subcommand)]
pub enum HoursVerb {
    /// List all, with their state now and its next change
    List,
    /// Show one
    Show {
        /// Its name
        name: String,
        /// The spans of this day instead, such as 2027-01-01
        #[arg(long, value_name = "DATE")]
        date: Option<String>,
    },
    /// Open them by hand for a while
    Open {
        /// Its name
        name: String,
        /// How long, such as 90s, 30m, 2h or 1d
        #[arg(long = "for", value_name = "TIME", value_parser = text::duration_s)]
        for_s: u64,
    },
    /// Close them by hand for a while
    Close {
        /// Its name
        name: String,
        /// How long, such as 90s, 30m, 2h or 1d
        #[arg(long = "for", value_name = "TIME", value_parser = text::duration_s)]
        for_s: u64,
    },
    /// Let them follow the site again
    Follow {
        /// Its name
        name: String,
    },
}

/// Verbs of call detail records.
#[derive(Debug, Subcommand)]
pub enum CdrVerb {
    /// List them, oldest first
    List {
        /// Cursor of the last record already read
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
        /// At most this many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
}

/// Verbs of customers.
#[derive(Debug, Subcommand)]
pub enum CustomerVerb {
    /// Take in a CSV file with the columns id, name, tier, tags, number, owner; others
    /// become fields
    Import {
        /// The file
        file: PathBuf,
        /// Go on where an earlier import of the same file ended
        #[arg(long)]
        resume: bool,
    },
    /// List them
    List {
        /// Those with this number
        #[arg(long, value_name = "N")]
        number: Option<String>,
        /// Those whose name begins like this
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// Id of the last customer already read
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// At most this many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Show one with the latest contacts
    Show {
        /// The customer
        id: String,
    },
    /// Change one: name, tier, tags, number, owner; other keys are fields
    Edit {
        /// The customer
        id: String,
        /// Make a new one
        #[arg(long)]
        new: bool,
        /// Only if it is at this version
        #[arg(long, value_name = "N", conflicts_with = "new")]
        version: Option<u64>,
        /// What to set; an empty value takes it away
        #[arg(value_name = "KEY=VALUE", required = true)]
        changes: Vec<String>,
    },
    /// Remove one with the timeline
    Remove {
        /// The customer
        id: String,
    },
}
