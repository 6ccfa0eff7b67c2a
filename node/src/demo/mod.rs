//! The demonstration: a three-node exchange on this machine with phones that call.
//!
//! Three real processes with three data folders that share nothing are founded, joined and
//! given a sample site; phones of our own keep the board alive. A dead node is never
//! restarted here: that is the operator's to see and to do.
//!
//! | module | what lives there |
//! |---|---|
//! | `folder` | what the folder holds and who may use it |
//! | `nodes` | the processes: starting, recognising, ending |
//! | `establish` | founding, joining, waiting until all serve |
//! | `site` | the sample site and the operator's own |
//! | `traffic`, `line`, `voice` | the phones of our own |
//! | `screen` | what is printed, and the console |

mod establish;
mod folder;
mod http;
mod line;
mod nodes;
mod screen;
mod site;
mod traffic;
mod voice;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::fault::{Fault, code};
use establish::Exchange;
use folder::Folder;
use nodes::Nodes;
pub use nodes::note_pid;
use site::DemoSite;
use traffic::Traffic;

/// Interval at which the nodes are looked at while nobody watches the console.
const WATCH: Duration = Duration::from_millis(500);

/// Words of `strowgerd demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoOptions {
    /// Folder of the demonstration; made when it is not there
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Open no console
    #[arg(long)]
    pub headless: bool,
    /// Start over: remove what an earlier demonstration left in the folder
    #[arg(long)]
    pub fresh: bool,
    /// Let no phones of the demonstration's own call
    #[arg(long)]
    pub no_traffic: bool,
    /// Site file to apply instead of the sample
    #[arg(long, value_name = "FILE")]
    pub site: Option<PathBuf>,
    /// Number of nodes
    #[arg(long, value_name = "N", default_value = "3",
          value_parser = clap::value_parser!(u8).range(1..=i64::from(folder::NODES_MAX)))]
    pub nodes: u8,
}

/// Runs the demonstration until it is told to end (SIGTERM, SIGINT, SIGHUP) or its
/// console is left. All its nodes have ended when this returns.
///
/// # Errors
/// `SW05xx`, `SW0107` or `SW02xx`; what was started by then has been ended.
pub async fn run(options: &DemoOptions) -> Result<(), Fault> {
    let mut stop = Stop::listen()?;
    let folder = Folder::open(&options.dir, options.nodes, options.fresh)?;
    let mut nodes = Nodes::default();
    let outcome = tokio::select! {
        outcome = play(options, &folder, &mut nodes) => outcome,
        () = stop.told() => Ok(()),
    };
    nodes.end(&folder).await;
    outcome
}

async fn play(options: &DemoOptions, folder: &Folder, nodes: &mut Nodes) -> Result<(), Fault> {
    // Whatever is wrong with a site of the operator's own is said before anything starts.
    let own = options.site.as_deref().map(DemoSite::load).transpose()?;
    let resumed = !options.fresh && folder.site_file().is_file();
    let site = match own {
        Some(site) => site,
        None if resumed => DemoSite::load(&folder.site_file())?,
        None => DemoSite::sample()?,
    };
    let sip = service_addresses(&site);
    if options.fresh {
        nodes::end_leftovers(folder).await;
    }
    if nodes::none_running(folder) {
        // Before anything is removed or written.
        nodes::free_addresses(folder, &sip)?;
    }
    if options.fresh {
        folder.clear()?;
    }
    let exchange = Exchange::establish(folder, nodes).await?;
    if !(resumed && site.is_applied(folder)) {
        site.apply(exchange.first(), folder).await?;
    }
    exchange.serves(folder, nodes, &sip).await?;
    screen::print(&ready_line(folder, &exchange.urls(), &sip))?;
    let phones = folder.phones()?;
    let traffic = (!options.no_traffic).then(|| Traffic::start(&site, &phones, &sip));
    let played = traffic
        .as_ref()
        .map(Traffic::extensions)
        .unwrap_or_default();
    if screen::wanted(options.headless) {
        let free = phones
            .keys()
            .filter(|extension| !played.contains(*extension));
        screen::guide(folder, &sip, &site, free.map(String::as_str))?;
        screen::console(folder, &exchange.urls()).await
    } else {
        watch(folder, nodes).await
    }
}

/// Watches without a console; says when a node has ended, and restarts none.
async fn watch(folder: &Folder, nodes: &mut Nodes) -> Result<(), Fault> {
    loop {
        for number in nodes.departed() {
            let file = folder.node_file(number);
            screen::note(&format!(
                "node {number} has ended; start it again with strowgerd run --config {}",
                file.display()
            ));
        }
        tokio::time::sleep(WATCH).await;
    }
}

fn service_addresses(site: &DemoSite) -> Vec<SocketAddr> {
    let addresses = site.read.site.service_addresses.iter();
    addresses
        .map(|ip| SocketAddr::new(*ip, folder::SIP_PORT))
        .collect()
}

/// What scripts wait for on standard output.
fn ready_line(folder: &Folder, urls: &[String], sip: &[SocketAddr]) -> String {
    let sip: Vec<String> = sip.iter().map(SocketAddr::to_string).collect();
    format!(
        "ready nodes={} dir={} api={} sip={}\n",
        urls.len(),
        folder.root().display(),
        urls.join(","),
        sip.join(",")
    )
}

/// The signals that end a demonstration.
struct Stop {
    signals: [Signal; 3],
}

impl Stop {
    fn listen() -> Result<Self, Fault> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                let what = format!("cannot listen to signals: {error}");
                Fault::new(code::START, what, "see what the system says")
            })
        };
        let signals = [
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
            listen(SignalKind::hangup())?,
        ];
        Ok(Self { signals })
    }

    async fn told(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.signals;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        options: DemoOptions,
    }

    #[test]
    fn the_ready_line_is_the_promised_one() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = Folder::open(dir.path(), 2, false).expect("new");
        let urls = [
            "http://127.0.0.1:8080".to_owned(),
            "http://127.0.0.2:8080".to_owned(),
        ];
        let sample = DemoSite::sample().expect("valid");
        let line = ready_line(&folder, &urls, &service_addresses(&sample)[..2]);
        let root = folder.root().display();
        assert_eq!(
            line,
            format!(
                "ready nodes=2 dir={root} api=http://127.0.0.1:8080,http://127.0.0.2:8080 \
                 sip=127.0.0.1:5060,127.0.0.2:5060\n"
            )
        );
    }

    #[test]
    fn words_have_their_defaults_and_bounds() {
        let parse = |words: &[&str]| Words::try_parse_from([&["demo"], words].concat());
        let options = parse(&["--dir", "d"]).expect("valid").options;
        assert_eq!(
            (options.nodes, options.headless, options.fresh),
            (3, false, false)
        );
        assert!(parse(&[]).is_err(), "the folder must be named");
        assert!(parse(&["--dir", "d", "--nodes", "0"]).is_err());
        assert!(parse(&["--dir", "d", "--nodes", "6"]).is_err());
    }
}
