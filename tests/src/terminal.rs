//! A terminal of a given size with a program in it: keys in, the screen's text out.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::pty::{Winsize, openpty};

use crate::poll::within_time;

/// A program on a screen; killed when dropped.
pub struct Terminal {
    child: Child,
    keys: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Runs `command` on a screen of `rows` by `columns`.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Self {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).expect("the machine has pseudo terminals");
        let inner = File::from(pair.slave);
        let handle = || inner.try_clone().expect("a file handle can be copied");
        // `setsid --ctty` makes the screen the program's controlling terminal.
        let mut wrapped = Command::new("setsid");
        wrapped
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        let child = wrapped
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .stdin(handle())
            .stdout(handle())
            .stderr(handle())
            .spawn()
            .expect("setsid is part of every Debian");
        drop(inner);
        let keys = File::from(pair.master);
        let mut output = keys.try_clone().expect("a file handle can be copied");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let own = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut chunk = [0u8; 8_192];
            // Reading fails once the program and its terminal are gone.
            while let Ok(length @ 1..) = output.read(&mut chunk) {
                own.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .process(&chunk[..length]);
            }
        });
        Self {
            child,
            keys,
            screen,
        }
    }

    /// Types text; `\u{1b}` is Esc, `\r` is Enter.
    pub fn send(&mut self, keys: &str) {
        self.keys
            .write_all(keys.as_bytes())
            .expect("the program's terminal is open");
    }

    /// The screen's text, a line for each row, trailing blanks cut.
    pub fn text(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.screen().contents()
    }

    /// Waits until the screen's text satisfies `fits`; the text then.
    pub fn wait(&self, within: Duration, fits: impl Fn(&str) -> bool) -> Option<String> {
        within_time(within, || Some(self.text()).filter(|text| fits(text)))
    }

    /// Waits for the program's end; its exit code.
    pub fn ended(&mut self, within: Duration) -> Option<i32> {
        within_time(within, || self.child.try_wait().ok().flatten())?.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_sees_its_screen_and_its_keys() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "stty size; tty >/dev/tty && read line && echo \"got $line\"",
        ]);
        let mut terminal = Terminal::start(&command, 24, 80);
        let text = terminal.wait(Duration::from_secs(5), |text| text.contains("24 80"));
        assert!(text.is_some(), "{}", terminal.text());
        terminal.send("hello\r");
        let text = terminal.wait(Duration::from_secs(5), |text| text.contains("got hello"));
        assert!(text.is_some(), "{}", terminal.text());
        assert_eq!(terminal.ended(Duration::from_secs(5)), Some(0));
    }
}
