//! A list on its way to the screen: columns, rows, the filter and the selection.
//!
//! Views make grids from the model; only `draw` knows the terminal.

use crate::render::Align;
use crate::text;

/// How a cell stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Like any text.
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// Less important.
    Dim,
}

/// A cell; its text is safe to draw.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// How it stands out.
    pub tone: Tone,
}

/// A cell of text the exchange or a peer wrote; absent is a dash.
pub fn words(text: &str) -> Cell {
    Cell {
        text: text::clean(text).into_owned(),
        tone: Tone::Plain,
    }
}

/// A cell of optional text.
pub fn maybe(text: Option<&str>) -> Cell {
    text.map_or(
        Cell {
            text: "-".to_owned(),
            tone: Tone::Dim,
        },
        words,
    )
}

/// A cell of a number.
pub fn number(value: u64) -> Cell {
    Cell {
        text: value.to_string(),
        tone: Tone::Plain,
    }
}

/// A cell of an optional number.
pub fn maybe_number(value: Option<u64>) -> Cell {
    value.map_or_else(|| maybe(None), number)
}

/// A cell of a duration.
pub fn lasting(ms: Option<u64>) -> Cell {
    ms.map_or_else(|| maybe(None), |ms| words(&text::duration(ms)))
}

impl Cell {
    /// The cell in another tone.
    pub fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// A column. Short terminals leave out columns from the right.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Heading.
    pub head: &'static str,
    /// Columns of the terminal it never falls below.
    pub min: usize,
    /// Edge its cells keep to.
    pub align: Align,
}

/// A column of words at least `min` wide.
pub const fn left(head: &'static str, min: usize) -> Column {
    Column {
        head,
        min,
        align: Align::Left,
    }
}

/// A column of numbers at least `min` wide.
pub const fn right(head: &'static str, min: usize) -> Column {
    Column {
        head,
        min,
        align: Align::Right,
    }
}

/// A row; its id stays when the row moves.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the selection holds on to.
    pub id: String,
    /// As many as there are columns.
    pub cells: Vec<Cell>,
}

/// A list.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Columns.
    pub columns: &'static [Column],
    /// Rows that pass the filter.
    pub rows: Vec<Row>,
    /// Rows before the filter.
    pub total: usize,
}

impl Grid {
    /// The rows of which a cell contains `filter`, in any case of letters.
    pub fn new(columns: &'static [Column], rows: Vec<Row>, filter: &str) -> Self {
        let total = rows.len();
        let wanted = filter.to_lowercase();
        let fits = |row: &Row| {
            wanted.is_empty()
                || row
                    .cells
                    .iter()
                    .any(|cell| cell.text.to_lowercase().contains(&wanted))
        };
        Self {
            columns,
            rows: rows.into_iter().filter(fits).collect(),
            total,
        }
    }

    /// Widths for `space` terminal columns, two blanks apart: first everybody's least,
    /// then a column at a time to whoever needs more. Fewer widths than columns: the
    /// others do not fit.
    pub fn widths(&self, space: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = Vec::new();
        let mut used = 0;
        for column in self.columns {
            let least = column.min.max(text::width(column.head));
            let gap = if widths.is_empty() { 0 } else { 2 };
            if used + gap + least > space {
                break;
            }
            used += gap + least;
            widths.push(least);
        }
        let needs: Vec<usize> = (0..widths.len())
            .map(|i| {
                let cells = self.rows.iter().filter_map(|row| row.cells.get(i));
                cells.map(|cell| text::width(&cell.text)).max().unwrap_or(0)
            })
            .collect();
        loop {
            let before = used;
            for (width, need) in widths.iter_mut().zip(&needs) {
                if *width < *need && used < space {
                    *width += 1;
                    used += 1;
                }
            }
            if used == before {
                return widths;
            }
        }
    }
}

/// Where the user stands in a list: on an id, or at a place when that is gone.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    id: Option<String>,
    place: usize,
}

/// A move in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One up.
    Up,
    /// One down.
    Down,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// To the first.
    First,
    /// To the last.
    Last,
}

impl Step {
    /// The place `page` rows a screen lead to from `place` among `count`.
    pub fn from(self, place: usize, count: usize, page: usize) -> usize {
        let last = count.saturating_sub(1);
        match self {
            Self::Up => place.saturating_sub(1),
            Self::Down => (place + 1).min(last),
            Self::PageUp => place.saturating_sub(page),
            Self::PageDown => (place + page).min(last),
            Self::First => 0,
            Self::Last => last,
        }
    }
}

impl Selection {
    /// The place selected among `rows`; `None` when there are none.
    pub fn place(&self, rows: &[Row]) -> Option<usize> {
        let last = rows.len().checked_sub(1)?;
        let found = self
            .id
            .as_ref()
            .and_then(|id| rows.iter().position(|row| row.id == *id));
        Some(found.unwrap_or(self.place.min(last)))
    }

    /// The id selected among `rows`.
    pub fn id<'a>(&self, rows: &'a [Row]) -> Option<&'a str> {
        rows.get(self.place(rows)?).map(|row| row.id.as_str())
    }

    /// Moves among `rows`.
    pub fn step(&mut self, step: Step, rows: &[Row], page: usize) {
        let Some(place) = self.place(rows) else {
            return;
        };
        let place = step.from(place, rows.len(), page);
        self.place = place;
        self.id = rows.get(place).map(|row| row.id.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static COLUMNS: [Column; 3] = [left("NAME", 6), right("CALLS", 5), left("CONTACT", 8)];

    fn row(id: &str, contact: &str) -> Row {
        Row {
            id: id.to_owned(),
            cells: vec![words(id), number(3), words(contact)],
        }
    }

    #[test]
    fn the_selection_stays_on_its_row_when_rows_move() {
        let rows = [row("a", ""), row("b", ""), row("c", "")];
        let mut selection = Selection::default();
        selection.step(Step::Down, &rows, 10);
        assert_eq!(selection.id(&rows), Some("b"));
        let moved = [row("b", ""), row("c", "")];
        assert_eq!(selection.id(&moved), Some("b"));
        let gone = [row("a", ""), row("c", "")];
        assert_eq!(selection.id(&gone), Some("c"), "the place is kept");
        assert_eq!(selection.id(&[]), None);
    }

    #[test]
    fn widths_fill_the_space_and_drop_columns_from_the_right() {
        let rows = vec![row("東京支店東京支店", "sip:a@b.example;line=1234567890")];
        let grid = Grid::new(&COLUMNS, rows, "");
        assert_eq!(grid.widths(80), [16, 5, 31]);
        assert_eq!(grid.widths(40).iter().sum::<usize>() + 4, 40);
        assert_eq!(grid.widths(14), [7, 5]);
    }

    #[test]
    fn the_filter_finds_any_cell_in_any_case() {
        let rows = vec![row("Anna", "sip:x"), row("Bert", "SIP:Y")];
        assert_eq!(Grid::new(&COLUMNS, rows.clone(), "sip:y").rows.len(), 1);
        assert_eq!(Grid::new(&COLUMNS, rows.clone(), "AN").rows.len(), 1);
        let none = Grid::new(&COLUMNS, rows, "zz");
        assert_eq!((none.rows.len(), none.total), (0, 2));
    }
}
