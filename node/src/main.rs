//! `strowgerd`: reads the command line and the node file, then hands over.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use strowger_node::backup::{self, BackupOptions, RestoreOptions};
use strowger_node::config::NodeConfig;
use strowger_node::demo::{self, DemoOptions};
use strowger_node::fault::{Exit, Fault, code};
use strowger_node::{daemon, doctor, founding, logging, recover};
use tikv_jemallocator::Jemalloc;

/// Serves RocksDB as well, whose memtables come and go by the dozen of megabytes.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A node of a Strowger telephone exchange.
#[derive(Parser)]
#[command(name = "strowgerd", version, about, arg_required_else_help = true)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Found a cluster with this node as its first
    Init {
        /// Node file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Name of the cluster
        #[arg(long, default_value = "strowger")]
        name: String,
    },
    /// Join a cluster with a token from `strowger node invite`
    Join {
        /// Node file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Join token
        #[arg(long)]
        token: String,
    },
    /// Run this node
    Run {
        /// Node file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Examine the data of a node that does not run
    Doctor {
        /// Data folder of the node
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        output: doctor::Output,
    },
    /// Take a backup of a cluster that runs
    Backup(BackupOptions),
    /// Make a new cluster from a backup
    Restore(RestoreOptions),
    /// Go on with one node when a majority is lost for good
    Recover {
        /// Node file of the survivor, which must not run
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Do it; otherwise only the consequences are printed
        #[arg(long)]
        force: bool,
    },
    /// Run a three-node exchange on this machine
    Demo(DemoOptions),
}

fn main() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return usage(&error),
    };
    let done = match line.verb {
        Verb::Init { config, name } => init(&config, &name),
        Verb::Join { config, token } => join(&config, &token),
        Verb::Run { config } => run(&config),
        Verb::Doctor { data, output } => doctor::run(&data, output),
        Verb::Backup(options) => on_runtime(backup::backup(&options)),
        Verb::Restore(options) => backup::restore(&options),
        Verb::Recover { config, force } => recover::run(&config, force),
        Verb::Demo(options) => on_runtime(demo::run(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            tracing::error!(code = %fault.code, %fault, "not done");
            ExitCode::from(fault.exit as u8)
        }
    }
}

/// Help and version go to standard output; a mistake is told with its code.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nothing can be done about a closed standard output.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let what = text.trim_start_matches("error: ").trim_end();
    eprintln!(
        "{}",
        Fault::new(code::USAGE, what, "see `strowgerd --help`")
    );
    ExitCode::from(Exit::Usage as u8)
}

fn init(file: &Path, name: &str) -> Result<(), Fault> {
    let config = NodeConfig::load(file)?;
    let identity = founding::init(&config, name)?;
    let token = founding::token_file(&config.data);
    println!(
        "initialised cluster={} node={} token={}",
        identity.cluster,
        identity.node,
        token.display()
    );
    Ok(())
}

fn join(file: &Path, token: &str) -> Result<(), Fault> {
    let config = NodeConfig::load(file)?;
    let identity = founding::join(&config, token)?;
    println!("joined cluster={} node={}", identity.cluster, identity.node);
    Ok(())
}

fn run(file: &Path) -> Result<(), Fault> {
    let config = NodeConfig::load(file)?;
    logging::start(&config.log)?;
    on_runtime(daemon::run(config))
}

/// Runs to the end on a runtime of its own. Tasks that still block then are left behind:
/// the process ends anyway.
fn on_runtime(work: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::of(code::START, &error, "free some memory"))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}
