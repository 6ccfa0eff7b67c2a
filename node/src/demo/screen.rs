//! What a demonstration prints, and the console it opens.
//!
//! Standard output carries what scripts read; notes for people go to standard error.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::process::Command;

use super::folder::Folder;
use super::site::DemoSite;
use crate::fault::{Fault, code};

/// The operators' program, which lies beside the daemon.
const CONSOLE: &str = "strowger";

/// Prints to standard output at once.
///
/// # Errors
/// `SW0109` when nobody can read it.
pub(super) fn print(text: &str) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| {
            let what = format!("cannot write to standard output: {error}");
            Fault::new(code::START, what, "start it where its output can be read")
        })
}

/// A note for people.
pub(super) fn note(text: &str) {
    // Where standard error is closed nobody reads notes.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether a console is wanted and possible; says why not.
pub(super) fn wanted(headless: bool) -> bool {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let reason = match (headless, terminal, console_program()) {
        (true, ..) => "as asked",
        (_, false, _) => "there is no terminal",
        (_, _, None) => "there is no program strowger beside this one",
        (false, true, Some(_)) => return true,
    };
    note(&format!(
        "headless: {reason}; SIGTERM or Ctrl-C ends the demonstration"
    ));
    false
}

/// Prints how to register a phone and whom to call.
///
/// # Errors
/// As [`print`].
pub(super) fn guide<'a>(
    folder: &Folder,
    sip: &[SocketAddr],
    site: &DemoSite,
    free: impl Iterator<Item = &'a str>,
) -> Result<(), Fault> {
    print(&guide_text(folder, sip, site, free))
}

fn guide_text<'a>(
    folder: &Folder,
    sip: &[SocketAddr],
    site: &DemoSite,
    free: impl Iterator<Item = &'a str>,
) -> String {
    let free: Vec<&str> = free.collect();
    let (first, last) = (free.first(), free.last());
    let (Some(server), Some(first), Some(last)) = (sip.first(), first, last) else {
        return String::new();
    };
    let numbers = site.queue_numbers().join(" or ");
    format!(
        "\nRegister a phone of your own at any service address:\n\
         \x20 server    {server}, UDP or TCP (the others serve as well)\n\
         \x20 user      {first} … {last} ({} extensions are free)\n\
         \x20 password  beside the extension in {}\n\
         Call {numbers} to stand in the queue, or another extension.\n\
         Dial *11 to sign in as an agent, *12 to sign out, *13 to pause, *14 to be ready.\n\n",
        free.len(),
        folder.phones_file().display(),
    )
}

/// Opens the console and waits until it is left. It dies with this process, and is asked
/// to end when this is dropped.
///
/// # Errors
/// `SW0109` when it cannot be started.
pub(super) async fn console(folder: &Folder, urls: &[String]) -> Result<(), Fault> {
    let failed = |error: &dyn std::fmt::Display| {
        let what = format!("the console does not start: {error}");
        Fault::new(code::START, what, "use --headless")
    };
    let program = console_program().ok_or_else(|| failed(&"it is not there"))?;
    let mut command = Command::new(program);
    command
        .arg("console")
        .env("STROWGER_API", urls.join(","))
        .env("STROWGER_TOKEN_FILE", folder.token_file());
    let child = command.spawn().map_err(|error| failed(&error))?;
    let mut running = Running(child);
    let status = running.0.wait().await.map_err(|error| failed(&error))?;
    if !status.success() {
        note(&format!("the console ended with {status}"));
    }
    Ok(())
}

/// A console that is told to end, so that it can restore the terminal, when we end first.
struct Running(tokio::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid {
            let pid = nix::unistd::Pid::from_raw(pid);
            // It may have ended meanwhile.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
    }
}

fn console_program() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name(CONSOLE);
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_says_where_who_and_whom() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = Folder::open(dir.path(), 3, false).expect("new");
        let site = DemoSite::sample().expect("valid");
        let sip = ["127.0.0.1:5060".parse().expect("an address")];
        let text = guide_text(&folder, &sip, &site, ["1001", "1010"].into_iter());
        for words in [
            "127.0.0.1:5060",
            "1001 … 1010",
            "phones.csv",
            "Call 4008",
            "*11",
        ] {
            assert!(text.contains(words), "{words} in {text}");
        }
        // A site without extensions of its own has nothing to guide to.
        assert_eq!(guide_text(&folder, &sip, &site, std::iter::empty()), "");
    }
}
