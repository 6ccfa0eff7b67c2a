//! Ranges such as `1001-1020` and `b000-b099`: a common prefix, then digits of the
//! same width that count up.

use crate::limits;

/// The names of a range, in order.
///
/// # Errors
/// What is wrong with it, in words.
pub fn names(range: &str) -> Result<Vec<String>, String> {
    let Some((first, last)) = range.split_once('-') else {
        return Ok(vec![range.to_owned()]);
    };
    let (prefix, from) = split(first.trim()).ok_or("the first name ends in no digit")?;
    let (other, to) = split(last.trim()).ok_or("the last name ends in no digit")?;
    if prefix != other || from.len() != to.len() {
        return Err("both ends need the same letters and as many digits".to_owned());
    }
    let number = |digits: &str| {
        digits
            .parse::<usize>()
            .map_err(|_| "too many digits".to_owned())
    };
    let (low, high) = (number(from)?, number(to)?);
    if high < low {
        return Err("the last name comes before the first".to_owned());
    }
    if high - low >= limits::RANGE_MAX {
        return Err(format!("a range holds at most {} names", limits::RANGE_MAX));
    }
    let width = from.len();
    Ok((low..=high)
        .map(|n| format!("{prefix}{n:0width$}"))
        .collect())
}

/// Prefix and trailing digits.
fn split(name: &str) -> Option<(&str, &str)> {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| name.split_at(name.len() - digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_count_up_with_their_prefix_and_width() {
        assert_eq!(
            names("1001-1003"),
            Ok(["1001", "1002", "1003"].map(String::from).to_vec())
        );
        assert_eq!(names("b098-b100").map(|all| all.len()), Ok(3));
        assert_eq!(
            names("b009-b010"),
            Ok(["b009", "b010"].map(String::from).to_vec())
        );
        assert_eq!(names("7"), Ok(vec![String::from("7")]));
    }

    #[test]
    fn nonsense_is_refused() {
        for range in [
            "a-b",
            "1-",
            "-5",
            "b1-c2",
            "01-002",
            "20-10",
            "00000-99999",
            "é-ü",
        ] {
            assert!(names(range).is_err(), "{range}");
        }
    }
}
