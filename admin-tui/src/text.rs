//! Text on its way to a terminal: made harmless, measured in columns, cut to fit.
//!
//! Whatever a phone, an agent's name or a log brought along passes [`clean`] before it
//! is drawn or printed, so that nobody outside can send control sequences.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text` with control and direction-changing characters written out.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Like [`clean`], in the escapes of JSON, for serialised JSON: the serialiser leaves
/// DEL, C1 and direction marks as they are, and they occur inside strings only.
pub fn clean_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe(c) && c != '\n' {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// C0, DEL and C1 controls, and characters that reorder or break lines.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Columns `text` takes on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// `text` in exactly `columns` columns: padded, or cut with an ellipsis.
pub fn fit(text: &str, columns: usize) -> String {
    let have = width(text);
    if have <= columns {
        return format!("{text}{}", " ".repeat(columns - have));
    }
    let mut cut = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > columns {
            break;
        }
        cut.push(c);
        used += wide;
    }
    if used < columns {
        cut.push('…');
        used += 1;
    }
    cut.push_str(&" ".repeat(columns - used));
    cut
}

/// `text` against the right edge of `columns` columns.
pub fn fit_right(text: &str, columns: usize) -> String {
    let have = width(text);
    if have > columns {
        return fit(text, columns);
    }
    format!("{}{text}", " ".repeat(columns - have))
}

/// Milliseconds as `0:42`, `12:03` or `1:02:03`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    if s < 3_600 {
        format!("{}:{:02}", s / 60, s % 60)
    } else {
        format!("{}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
    }
}

/// Thousandths as per cent.
pub fn share(permille: u64) -> String {
    if permille >= 1_000 {
        return "100%".to_owned();
    }
    format!("{}.{}%", permille / 10, permille % 10)
}

/// An RFC 3339 time as milliseconds since 1970, when it is one.
pub fn instant_ms(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_millisecond)
}

/// An RFC 3339 time without its fraction and with a space, as tables show it.
pub fn moment(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(t) => t.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => clean(time).into_owned(),
    }
}

/// A length of time such as `90s`, `30m`, `2h` or `1d`, in seconds.
///
/// # Errors
/// What to write instead.
pub fn duration_s(text: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let found = units.into_iter().find_map(|(unit, seconds)| {
        let number = text.strip_suffix(unit)?.parse::<u64>().ok()?;
        number.checked_mul(seconds)
    });
    let found = found.filter(|seconds| *seconds > 0);
    found.ok_or_else(|| "write such as 90s, 30m, 2h or 1d".to_owned())
}

/// The time of day of an RFC 3339 time.
pub fn time_of_day(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(t) => t.strftime("%H:%M:%SZ").to_string(),
        Err(_) => clean(time).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_a_unit() {
        let table = [
            ("90s", Some(90)),
            ("30m", Some(1_800)),
            ("2h", Some(7_200)),
            ("1d", Some(86_400)),
            ("2", None),
            ("h", None),
            ("0h", None),
            ("-1h", None),
            ("99999999999999999999d", None),
            ("99999999999999999d", None),
        ];
        for (text, seconds) in table {
            assert_eq!(duration_s(text).ok(), seconds, "{text}");
        }
    }

    #[test]
    fn controls_and_direction_marks_are_written_out() {
        assert_eq!(clean("Anna"), "Anna");
        assert_eq!(clean("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\u{a}");
        assert_eq!(clean("a\u{9b}b\u{202e}c"), "a\\u{9b}b\\u{202e}c");
        assert_eq!(
            clean_json("{\"a\":\"\u{9b}\u{7f}\"}"),
            "{\"a\":\"\\u009b\\u007f\"}"
        );
    }

    #[test]
    fn wide_names_take_exactly_their_columns() {
        for (text, columns) in [
            ("東京支店", 10),
            ("東京支店", 8),
            ("東京支店", 7),
            ("東京支店", 2),
        ] {
            assert_eq!(width(&fit(text, columns)), columns, "{text} in {columns}");
            assert_eq!(
                width(&fit_right(text, columns)),
                columns,
                "{text} in {columns}"
            );
        }
        assert_eq!(fit("東京支店", 7), "東京支…");
        assert_eq!(fit("東京支店", 6), "東京… ");
        assert_eq!(fit_right("7", 3), "  7");
    }

    #[test]
    fn durations_and_times_read_like_a_clock() {
        assert_eq!(duration(42_900), "0:42");
        assert_eq!(duration(723_000), "12:03");
        assert_eq!(duration(3_723_000), "1:02:03");
        assert_eq!(moment("2026-11-22T01:38:35.123Z"), "2026-11-22 01:38:35Z");
        assert_eq!(time_of_day("2026-11-22T01:38:35.123Z"), "01:38:35Z");
        assert_eq!(share(983), "98.3%");
        assert_eq!(share(1_000), "100%");
        assert_eq!(share(4), "0.4%");
        assert_eq!(moment("soon"), "soon");
        assert_eq!(instant_ms("1970-01-01T00:00:01.5Z"), Some(1_500));
    }
}
