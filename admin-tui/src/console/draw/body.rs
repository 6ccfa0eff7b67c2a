//! The bodies every view shares: list, details, help.

use std::time::Instant;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Theme, put, put_at};
use crate::console::app::App;
use crate::console::grid::{Grid, Tone};
use crate::console::keys::BINDINGS;
use crate::console::views::{self, Line};
use crate::render::Align;
use crate::text;

/// Columns of a field's name in details.
const FIELD_WIDTH: usize = 16;

/// Columns of a key's name in the help.
const KEY_WIDTH: usize = 10;

/// The list of the view.
pub fn list(buf: &mut Buffer, area: Rect, app: &App, theme: Theme, now: Instant) {
    let grid = app.grid(now);
    if app.is_known(now) {
        rows(buf, area, &grid, app.place(&grid), theme);
    } else {
        put_at(
            buf,
            area,
            1,
            1,
            "waiting for an answer",
            theme.tone(Tone::Dim),
        );
    }
}

/// A grid with its heading; the selected row is kept in sight.
pub fn rows(buf: &mut Buffer, area: Rect, grid: &Grid, place: Option<usize>, theme: Theme) {
    let space = usize::from(area.width).saturating_sub(2);
    let widths = grid.widths(space);
    let heads = grid.columns.iter().map(|column| column.head);
    let heading = line(grid, &widths, heads);
    put_at(buf, area, 1, 0, &heading, theme.heading());
    if grid.rows.is_empty() {
        let why = if grid.total > 0 {
            "nothing matches the filter"
        } else {
            "none"
        };
        put_at(buf, area, 1, 1, why, theme.tone(Tone::Dim));
        return;
    }
    let height = usize::from(area.height.saturating_sub(1));
    let first = place.map_or(0, |place| (place + 1).saturating_sub(height));
    for (index, row) in grid.rows.iter().enumerate().skip(first).take(height) {
        let y = u16::try_from(index - first + 1).unwrap_or(u16::MAX);
        let mut x = 1;
        for ((column, width), cell) in grid.columns.iter().zip(&widths).zip(&row.cells) {
            let text = align(column.align, &cell.text, *width);
            x = put_at(buf, area, x, y, &text, theme.tone(cell.tone)) + 2;
        }
        if place == Some(index) {
            let whole = Rect {
                y: area.y + y,
                height: 1,
                ..area
            };
            buf.set_style(whole.intersection(area), theme.selected());
        }
    }
}

fn line<'a>(grid: &Grid, widths: &[usize], cells: impl Iterator<Item = &'a str>) -> String {
    let cells = grid.columns.iter().zip(widths).zip(cells);
    let cells: Vec<String> = cells
        .map(|((column, width), cell)| align(column.align, cell, *width))
        .collect();
    cells.join("  ")
}

fn align(align: Align, text: &str, width: usize) -> String {
    match align {
        Align::Left => text::fit(text, width),
        Align::Right => text::fit_right(text, width),
    }
}

/// The details of a row.
pub fn detail(buf: &mut Buffer, area: Rect, app: &App, id: &str, theme: Theme, now: Instant) {
    let lines = views::detail(app.view, &app.model, id, now);
    let height = usize::from(area.height);
    let first = app.scroll.min(lines.len().saturating_sub(height));
    for (y, line) in (0..area.height).zip(lines.iter().skip(first)) {
        detail_line(buf, area, y, line, theme);
    }
    let below = lines.len().saturating_sub(first + height);
    if below > 0 {
        let more = format!(" {} more below ", below + 1);
        put(
            buf,
            area,
            area.height - 1,
            &text::fit(&more, usize::from(area.width)),
            theme.key(),
        );
    }
}

/// One line of details.
pub fn detail_line(buf: &mut Buffer, area: Rect, y: u16, line: &Line, theme: Theme) {
    match line {
        Line::Heading(text) => {
            put_at(buf, area, 1, y, text, theme.heading());
        }
        Line::Field(name, cell) => {
            let x = put_at(
                buf,
                area,
                1,
                y,
                &text::fit(name, FIELD_WIDTH),
                theme.strong(),
            );
            put_at(buf, area, x, y, &cell.text, theme.tone(cell.tone));
        }
        Line::Text(text) => {
            put_at(buf, area, 1, y, text, theme.tone(Tone::Plain));
        }
    }
}

/// Every command, in two columns.
pub fn help(buf: &mut Buffer, area: Rect, theme: Theme) {
    put_at(buf, area, 1, 0, "Keys", theme.heading());
    let rows = BINDINGS.len().div_ceil(2);
    let half = area.width / 2;
    for (i, binding) in BINDINGS.iter().enumerate() {
        let x = if i < rows { 1 } else { half };
        let y = u16::try_from(i % rows + 1).unwrap_or(u16::MAX);
        let column = Rect {
            width: if i < rows { half - 1 } else { area.width },
            ..area
        };
        let x = put_at(
            buf,
            column,
            x,
            y,
            &text::fit(binding.name, KEY_WIDTH),
            theme.key(),
        );
        put_at(buf, column, x, y, binding.help, theme.tone(Tone::Plain));
    }
}
