//! A node started by its node file, outside a demonstration.

use std::path::{Path, PathBuf};
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::api::Api;
use crate::cluster::{spawn, wait_for_line};
use crate::programs;

/// A running node. Ends with SIGKILL when dropped.
pub struct Daemon {
    child: Child,
    number: u64,
    file: PathBuf,
}

/// Writes the node file of node `number` at 127.0.0.`number` into `folder`, which is made;
/// data and log lie beside it.
pub fn node_file(folder: &Path, number: u64) -> PathBuf {
    std::fs::create_dir_all(folder.join("log")).expect("a temporary folder");
    let file = folder.join("node.toml");
    let text = format!(
        "[node]\nid = {number}\ndata = \"data\"\n[listen]\naddress = \"127.0.0.{number}\"\n\
         [limits]\ntrusted_sources = [\"127.0.0.0/8\"]\n\
         [log]\nfile = \"log/strowgerd.log\"\nlevel = \"info\"\n"
    );
    std::fs::write(&file, text).expect("a temporary folder");
    file
}

/// Runs a verb of the daemon with its node file; exit code, stdout, stderr.
pub fn verb(verb: &str, file: &Path, rest: &[&str]) -> (i32, String, String) {
    let mut command = std::process::Command::new("timeout");
    command.args(["--kill-after=5", "120"]);
    command.arg(programs::path("strowgerd"));
    command.arg(verb).arg("--config").arg(file).args(rest);
    programs::run(&mut command)
}

impl Daemon {
    /// Starts the node of `file` and waits until it serves.
    pub fn run(file: &Path, number: u64) -> Self {
        Self::run_with(file, number, &[])
    }

    /// The same with these variables in its environment.
    pub fn run_with(file: &Path, number: u64, environment: &[(&str, &str)]) -> Self {
        let mut command = programs::strowgerd();
        command.arg("run").arg("--config").arg(file);
        command.envs(environment.iter().copied());
        let (child, lines) = spawn(command);
        let daemon = Self {
            child,
            number,
            file: file.to_owned(),
        };
        let ready = format!("ready node={number} ");
        wait_for_line(&lines, |line| line.starts_with(&ready).then_some(()))
            .unwrap_or_else(|seen| panic!("node {number} was not ready; it said {seen:?}"));
        daemon
    }

    /// Starts the node of `file` without waiting: it may never serve.
    pub fn try_run(file: &Path) -> Self {
        let mut command = programs::strowgerd();
        command.arg("run").arg("--config").arg(file);
        let (child, _) = spawn(command);
        Self {
            child,
            number: 0,
            file: file.to_owned(),
        }
    }

    /// Its interface.
    pub fn api(&self) -> Api {
        let token = self.file.with_file_name("data").join("admin.token");
        let token = std::fs::read_to_string(token).expect("a node has a token");
        Api::new(
            &format!("http://127.0.0.{}:8080", self.number),
            token.trim(),
        )
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }

    /// Ends it with SIGTERM; the exit code.
    pub fn end(mut self) -> Option<i32> {
        kill(self.pid(), Signal::SIGTERM).expect("it runs");
        self.child.wait().expect("our own child").code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
