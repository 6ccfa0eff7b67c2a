//! `strowger console`: the live board. A loop brings keys, answers and events to the
//! [`app`], carries out its effects and draws.
//!
//! | module | what lives there |
//! |---|---|
//! | [`app`] | state; messages in, effects out |
//! | [`model`] | answers, folded once; the book of requests |
//! | [`keys`] | the one table of commands |
//! | [`grid`] | lists: columns, filter, selection |
//! | [`views`] | what each view shows |
//! | [`draw`] | the screen |
//! | [`feed`] | requests and the event stream |
//! | [`terminal`] | the terminal, taken over and given back |

mod app;
mod draw;
mod feed;
#[cfg(test)]
mod feed_tests;
mod grid;
mod keys;
mod model;
mod terminal;
#[cfg(test)]
mod tests;
mod views;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::error::Failure;
use crate::limits;
use app::{App, Effect, Msg};
use draw::Theme;
use terminal::Screen;

/// Without messages the screen is drawn this often, because ages grow.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// Runs the console until the user or a signal ends it.
///
/// # Errors
/// No terminal, or one that fails.
pub fn run(client: Client) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::Terminal {
            why: "stdin or stdout is none".to_owned(),
        });
    }
    let broken = |error: io::Error| Failure::Terminal {
        why: error.to_string(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(broken)?;
    let ended = runtime.block_on(watch(client)).map_err(broken);
    // Requests still under way are of no use any more.
    runtime.shutdown_background();
    ended
}

async fn watch(client: Client) -> io::Result<()> {
    let (to, mut messages) = mpsc::channel(limits::MESSAGES_MAX);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let theme = Theme::from_env();
    let mut app = App::default();
    let mut screen = Screen::take()?;
    let mut keys = EventStream::new();
    let mut tick = tokio::time::interval(limits::TICK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut drawn: Option<Instant> = None;
    tokio::spawn(feed::stream(client.clone(), to.clone()));
    loop {
        let msg = tokio::select! {
            key = keys.next() => match key {
                Some(event) => input(event?),
                None => return Ok(()),
            },
            Some(msg) = messages.recv() => Some(msg),
            _ = tick.tick() => Some(Msg::Tick),
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        };
        let Some(msg) = msg else { continue };
        let quiet = matches!(msg, Msg::Tick);
        for effect in app.handle(msg, Instant::now()) {
            match effect {
                Effect::Quit => return Ok(()),
                Effect::Ask(topic) => feed::ask(&client, topic, &to),
                Effect::Act(what, action) => feed::act(&client, what, action, &to),
            }
        }
        if quiet && drawn.is_some_and(|at| at.elapsed() < REDRAW_INTERVAL) {
            continue;
        }
        // A burst is drawn once, after its last message.
        if messages.is_empty() {
            app.page = draw::page(screen.terminal.size()?.height);
            screen
                .terminal
                .draw(|frame| draw::draw(frame, &app, theme, Instant::now()))?;
            drawn = Some(Instant::now());
        }
    }
}

fn input(event: Event) -> Option<Msg> {
    match event {
        Event::Key(key) => Some(Msg::Key(key)),
        Event::Paste(text) => Some(Msg::Paste(text)),
        Event::Resize(..) => Some(Msg::Resize),
        Event::FocusGained | Event::FocusLost | Event::Mouse(_) => None,
    }
}
