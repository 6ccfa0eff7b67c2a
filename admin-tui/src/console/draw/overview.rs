//! The overview: what a supervisor looks at all day, on one screen.

use std::time::Instant;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::body::rows;
use super::{Theme, put_at};
use crate::console::app::App;
use crate::console::grid::{Cell, Tone, lasting, maybe, number, words};
use crate::console::model::Model;
use crate::console::views::{Line, service_totals, states};
use crate::error;
use crate::text;

/// Lines of the panels on top: a heading and nine fields.
const PANEL_LINES: u16 = 10;

/// Columns of a field's name in a panel.
const FIELD_WIDTH: usize = 14;

/// Alarms shown at most; the rest is counted.
const ALARMS_MAX: usize = 4;

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, app: &App, theme: Theme, now: Instant) {
    let model = &app.model;
    let third = area.width / 3;
    let panel = |n: u16| Rect {
        x: area.x + n * third,
        width: third,
        ..area
    };
    fields(buf, panel(0), "NOW", &present(model), theme);
    fields(buf, panel(1), "SINCE THE START", &totals(model), theme);
    fields(buf, panel(2), "AGENTS", &agents(model), theme);
    let alarms = u16::try_from(model.overview.alarms.len().clamp(1, ALARMS_MAX)).unwrap_or(1) + 1;
    let below = area.height.saturating_sub(PANEL_LINES);
    let list = Rect {
        y: area.y + PANEL_LINES,
        height: below.saturating_sub(alarms).max(2).min(below),
        ..area
    };
    let grid = app.grid(now);
    rows(buf, list, &grid, app.place(&grid), theme);
    let rest = Rect {
        y: list.y + list.height,
        height: below.saturating_sub(list.height),
        ..area
    };
    draw_alarms(buf, rest, model, theme);
}

fn fields(buf: &mut Buffer, area: Rect, title: &str, lines: &[(String, Cell)], theme: Theme) {
    put_at(buf, area, 1, 0, title, theme.heading());
    for (y, (name, cell)) in (1..PANEL_LINES).zip(lines) {
        let x = put_at(
            buf,
            area,
            1,
            y,
            &text::fit(name, FIELD_WIDTH),
            Default::default(),
        );
        let space = usize::from(area.width.saturating_sub(x + 1));
        let value = text::fit_right(&cell.text, space.min(10));
        put_at(buf, area, x, y, &value, theme.tone(cell.tone));
    }
}

fn present(model: &Model) -> Vec<(String, Cell)> {
    let overview = &model.overview;
    let busy = if overview.waiting > 0 {
        Tone::Warn
    } else {
        Tone::Plain
    };
    let cluster = model.cluster.as_ref();
    let up = cluster.map(|cluster| format!("{} of {}", cluster.nodes_up, cluster.nodes));
    let all = cluster.is_none_or(|cluster| cluster.nodes_up == cluster.nodes);
    let leader = cluster.and_then(|cluster| cluster.leader.as_deref());
    let field = |name: &str, cell| (name.to_owned(), cell);
    vec![
        field("waiting", number(overview.waiting).tone(busy)),
        field(
            "longest wait",
            lasting(Some(overview.longest_wait_ms)).tone(busy),
        ),
        field("calls", number(overview.calls)),
        field("registrations", number(overview.registrations)),
        field(
            "nodes up",
            maybe(up.as_deref()).tone(if all { Tone::Good } else { Tone::Bad }),
        ),
        field("leader", maybe(leader)),
        field("exchange time", words(&text::time_of_day(&overview.at))),
    ]
}

fn totals(model: &Model) -> Vec<(String, Cell)> {
    let named = service_totals(&model.overview.total)
        .into_iter()
        .filter_map(|line| match line {
            Line::Field(name, cell) => Some((name.to_owned(), cell)),
            Line::Heading(_) | Line::Text(_) => None,
        });
    named.collect()
}

fn agents(model: &Model) -> Vec<(String, Cell)> {
    let states = states(model).into_iter();
    states
        .map(|(state, count, tone)| (state, number(count).tone(tone)))
        .collect()
}

fn draw_alarms(buf: &mut Buffer, area: Rect, model: &Model, theme: Theme) {
    let alarms = &model.overview.alarms;
    put_at(buf, area, 1, 0, "ALARMS", theme.heading());
    if alarms.is_empty() {
        put_at(buf, area, 9, 0, "none", theme.tone(Tone::Good));
        return;
    }
    put_at(buf, area, 9, 0, &alarms.len().to_string(), theme.alarm());
    for (y, alarm) in (1..area.height).zip(alarms) {
        put_at(buf, area, 1, y, &error::line(alarm), theme.tone(Tone::Bad));
    }
}
