//! Puts the console on the screen. Drawing reads and changes nothing.
//!
//! ```text
//! title and the figures that matter always
//! tabs
//! rule with the filter
//! body: list, details, overview or help
//! status line: the node attached, how fresh, the last outcome
//! key bar
//! ```

mod body;
mod overview;
mod theme;

use std::time::Instant;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::{Clear, Widget};

pub use theme::Theme;

use super::app::{App, Mode, View};
use super::grid::Tone;
use super::keys::{Act, Binding};
use super::model::Topic;
use crate::limits;
use crate::text;

/// Lines above and below the body.
const FRAME_LINES: u16 = 5;

/// Rows of a list a terminal of `height` lines shows.
pub fn page(height: u16) -> usize {
    usize::from(height.saturating_sub(FRAME_LINES + 1)).max(1)
}

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, now: Instant) {
    let area = frame.area();
    let buf = frame.buffer_mut();
    if area.width < limits::TERMINAL_MIN.0 || area.height < limits::TERMINAL_MIN.1 {
        let (width, height) = limits::TERMINAL_MIN;
        put(
            buf,
            area,
            0,
            &format!("at least {width}×{height}, please"),
            Style::default(),
        );
        return;
    }
    let line = |y: u16| Rect {
        y,
        height: 1,
        ..area
    };
    title(buf, line(0), app, theme);
    tabs(buf, line(1), app, theme);
    rule(buf, line(2), app, theme, now);
    let middle = Rect {
        y: 3,
        height: area.height - FRAME_LINES,
        ..area
    };
    match (&app.mode, &app.open) {
        (Mode::Help, _) => body::help(buf, middle, theme),
        (_, Some(id)) => body::detail(buf, middle, app, id, theme, now),
        (_, None) if app.view == View::Overview => overview::draw(buf, middle, app, theme, now),
        (_, None) => body::list(buf, middle, app, theme, now),
    }
    status(buf, line(area.height - 2), app, theme, now);
    key_bar(buf, line(area.height - 1), app, theme);
    if let Mode::Confirm { question, .. } = &app.mode {
        confirm(buf, area, question, theme);
    }
}

/// Puts text at the left of line `y` of `area`, cut at its edge; the column after it.
fn put(buf: &mut Buffer, area: Rect, y: u16, text: &str, style: Style) -> u16 {
    put_at(buf, area, 0, y, text, style)
}

/// Puts text at (`x`, `y`) of `area`, cut at its edge; the column after it.
fn put_at(buf: &mut Buffer, area: Rect, x: u16, y: u16, text: &str, style: Style) -> u16 {
    if x >= area.width || y >= area.height {
        return x;
    }
    let space = usize::from(area.width - x);
    let fitted = if text::width(text) > space {
        text::fit(text, space)
    } else {
        text.to_owned()
    };
    let (after, _) = buf.set_stringn(area.x + x, area.y + y, fitted, space, style);
    after - area.x
}

fn title(buf: &mut Buffer, line: Rect, app: &App, theme: Theme) {
    buf.set_style(line, theme.title());
    let name = app
        .model
        .cluster
        .as_ref()
        .map_or("", |cluster| cluster.name.as_str());
    let name = text::clean(name);
    let overview = &app.model.overview;
    let figures = format!(
        "calls {}  waiting {}  longest {}  ready {} ",
        overview.calls,
        overview.waiting,
        text::duration(overview.longest_wait_ms),
        app.model.agents_in("ready"),
    );
    let width = text::width(&figures).min(usize::from(line.width));
    let x = line.width - u16::try_from(width).unwrap_or(line.width);
    let left = Rect { width: x, ..line };
    put(buf, left, 0, &format!(" Strowger {name}"), theme.title());
    put_at(buf, line, x, 0, &figures, theme.title());
}

fn tabs(buf: &mut Buffer, line: Rect, app: &App, theme: Theme) {
    let mut x = 1;
    for (number, view) in View::ALL.iter().enumerate() {
        let style = if *view == app.view {
            theme.selected()
        } else {
            Style::default()
        };
        let tab = format!(" {} {} ", number + 1, view.title());
        x = put_at(buf, line, x, 0, &tab, style);
    }
}

/// The rule names the list, how much of it the filter leaves, and the filter.
fn rule(buf: &mut Buffer, line: Rect, app: &App, theme: Theme, now: Instant) {
    put(
        buf,
        line,
        0,
        &"─".repeat(usize::from(line.width)),
        theme.tone(Tone::Dim),
    );
    let typing = app.mode == Mode::Filter;
    if app.filter().is_empty() && !typing {
        return;
    }
    let grid = app.grid(now);
    let mut x = put_at(buf, line, 2, 0, " filter /", theme.strong());
    x = put_at(buf, line, x, 0, &text::clean(app.filter()), theme.strong());
    if typing {
        x = put_at(buf, line, x, 0, "▏", theme.strong());
    }
    let found = format!(" {} of {} ", grid.rows.len(), grid.total);
    put_at(buf, line, x, 0, &found, Style::default());
}

fn status(buf: &mut Buffer, line: Rect, app: &App, theme: Theme, now: Instant) {
    let age = app.model.age(Topic::Overview, now);
    let stale = age.is_none_or(|age| age > limits::STALE_AFTER);
    let mut x = 1;
    if stale {
        let text = match age {
            None => " NO DATA YET ".to_owned(),
            Some(age) => format!(" STALE {} s ", age.as_secs()),
        };
        x = put_at(buf, line, x, 0, &text, theme.alarm()) + 1;
    }
    let attached = match &app.link.node {
        None => "attaching …".to_owned(),
        Some(node) => {
            let id = app
                .model
                .node_at(&node.host)
                .map_or("", |node| node.id.as_str());
            let state = match (app.link.stream, stale) {
                (true, _) => "live",
                (false, false) => "polling",
                (false, true) => "attaching …",
            };
            text::clean(&format!("{id} {node} {state}"))
                .trim_start()
                .to_owned()
        }
    };
    x = put_at(buf, line, x, 0, &attached, Style::default()) + 2;
    if let Some(notice) = app.notice(now) {
        let tone = if notice.bad { Tone::Bad } else { Tone::Good };
        put_at(buf, line, x, 0, &notice.text, theme.tone(tone));
    } else if let Some(trouble) = &app.link.trouble {
        put_at(buf, line, x, 0, trouble, theme.tone(Tone::Warn));
    }
}

fn key_bar(buf: &mut Buffer, line: Rect, app: &App, theme: Theme) {
    let mut x = 1;
    match app.mode {
        Mode::Filter => {
            for (key, word) in [("Enter", "keep the filter"), ("Esc", "no filter")] {
                x = key_word(buf, line, x, key, word, theme);
            }
        }
        Mode::Confirm { .. } => {
            for (key, word) in [("y", "yes"), ("n", "no")] {
                x = key_word(buf, line, x, key, word, theme);
            }
        }
        Mode::Browse | Mode::Help => {
            let (always, others): (Vec<_>, Vec<_>) = app
                .bindings()
                .filter(|binding| !binding.bar.is_empty())
                .partition(|binding| matches!(binding.act, Act::Help | Act::Quit));
            let columns =
                |binding: &Binding| text::width(binding.name) + text::width(binding.bar) + 3;
            // Help and quit are never crowded out; the help knows the rest.
            let reserved: usize = always.iter().map(|binding| columns(binding)).sum();
            let space = usize::from(line.width).saturating_sub(reserved);
            for binding in others {
                if usize::from(x) + columns(binding) <= space + 2 {
                    x = key_word(buf, line, x, binding.name, binding.bar, theme);
                }
            }
            for binding in always {
                x = key_word(buf, line, x, binding.name, binding.bar, theme);
            }
        }
    }
}

fn key_word(buf: &mut Buffer, line: Rect, x: u16, key: &str, word: &str, theme: Theme) -> u16 {
    let x = put_at(buf, line, x, 0, key, theme.key());
    put_at(buf, line, x, 0, &format!(" {word}"), Style::default()) + 2
}

/// The question in a box in the middle, over everything.
fn confirm(buf: &mut Buffer, area: Rect, question: &str, theme: Theme) {
    let inner = text::width(question).clamp(20, usize::from(area.width) - 6);
    let width = u16::try_from(inner + 4).unwrap_or(area.width);
    let x = (area.width - width) / 2;
    let y = area.height / 2 - 2;
    let popup = Rect {
        x,
        y,
        width,
        height: 5,
    };
    Clear.render(popup, buf);
    buf.set_style(popup, theme.popup());
    let edge = "─".repeat(inner + 2);
    let lines = [
        format!("┌{edge}┐"),
        format!("│ {} │", text::fit(question, inner)),
        format!("│ {} │", text::fit("", inner)),
        format!("│ {} │", text::fit("y  yes     n  no", inner)),
        format!("└{edge}┘"),
    ];
    for (y, line) in (0..).zip(&lines) {
        put(buf, popup, y, line, theme.popup());
    }
}
