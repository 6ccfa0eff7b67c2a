//! What is said to a caller, as words that are played one after the other.
//!
//! An [`Announcement`] is a fact (it stands in the call's row); its words are the same on
//! every node, because every node carries the same recordings.

use serde::{Deserialize, Serialize};

/// A language the exchange speaks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Mandarin.
    Zh,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 2] = [Self::En, Self::Zh];

    /// The word in the site file and the folder of its recordings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
        }
    }

    /// The language of a word in the site file.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|language| language.as_str() == word)
    }
}

/// A key of a telephone, as its character: `0` to `9`, `*`, `#`, `A` to `D`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(u8);

impl Key {
    /// The key with this character; letters in either case.
    pub fn parse(c: char) -> Option<Self> {
        let c = c.to_ascii_uppercase();
        let known = c.is_ascii_digit() || matches!(c, '*' | '#' | 'A'..='D');
        u8::try_from(c).ok().filter(|_| known).map(Self)
    }

    /// Its character.
    pub fn as_char(self) -> char {
        char::from(self.0)
    }

    /// The digit it stands for.
    fn digit(self) -> Option<u16> {
        self.as_char()
            .to_digit(10)
            .and_then(|n| u16::try_from(n).ok())
    }
}

/// Something said to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Announcement {
    /// Where he stands in the queue and what he may do there.
    Waiting(Standing),
    /// His place is kept and he will be called back.
    CallbackKept,
    /// To an agent: the caller left while he answered.
    CallerLeft,
    /// Nobody is there at this time.
    Closed,
}

/// What a waiting caller is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// His place, from 1; `None` where places are not told.
    pub position: Option<u16>,
    /// How long he may have to wait, in whole minutes, 0 for less than one; `None` where it
    /// is not told or nothing is known.
    pub wait_min: Option<u16>,
    /// The key that takes a callback.
    pub callback: Option<Key>,
    /// The key that plays adverts.
    pub advert: Option<Key>,
    /// The key that leaves the queue.
    pub exit: Option<Key>,
}

impl Standing {
    /// True when there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The largest number that can be said; larger ones are said as this.
pub const NUMBER_MAX: u16 = 999;

/// The name of a recording.
pub type Word = &'static str;

/// The words of an announcement.
pub fn words(language: Language, announcement: &Announcement) -> Vec<Word> {
    match announcement {
        Announcement::Waiting(standing) => standing_words(language, standing),
        Announcement::CallbackKept => vec!["callback-kept"],
        Announcement::CallerLeft => vec!["caller-left"],
        Announcement::Closed => vec!["closed"],
    }
}

fn standing_words(language: Language, standing: &Standing) -> Vec<Word> {
    let mut words = Vec::new();
    if let Some(position) = standing.position {
        words.push("position");
        words.extend(number(language, position));
        words.push("in-line");
    }
    match standing.wait_min {
        None => {}
        Some(0) => words.extend(["wait", "less-than-a-minute"]),
        Some(minutes) => {
            words.push("wait");
            words.extend(counted(language, minutes));
            words.push(if minutes == 1 { "minute" } else { "minutes" });
        }
    }
    let choices = [
        (standing.callback, "for-callback"),
        (standing.advert, "for-adverts"),
        (standing.exit, "to-leave"),
    ];
    for (key, what) in choices {
        // Keys without a digit have no recording: such a choice is left to the greeting.
        if let Some(digit) = key.and_then(Key::digit) {
            words.push("press");
            words.extend(number(language, digit));
            words.push(what);
        }
    }
    words
}

/// A number before the thing it counts: two of something is another word in Mandarin.
fn counted(language: Language, n: u16) -> Vec<Word> {
    match (language, n) {
        (Language::Zh, 2) => vec!["two"],
        _ => number(language, n),
    }
}

/// The words of a number.
pub fn number(language: Language, n: u16) -> Vec<Word> {
    let n = n.min(NUMBER_MAX);
    let (hundreds, rest) = (n / 100, n % 100);
    let mut words = Vec::new();
    if hundreds > 0 {
        words.extend([UNITS[usize::from(hundreds)], "hundred"]);
        if rest == 0 {
            return words;
        }
    }
    match language {
        Language::En => match rest {
            0..=19 => words.push(UNITS[usize::from(rest)]),
            _ => {
                words.push(TENS[usize::from(rest / 10)]);
                if rest % 10 > 0 {
                    words.push(UNITS[usize::from(rest % 10)]);
                }
            }
        },
        Language::Zh => {
            let (tens, units) = (rest / 10, rest % 10);
            match tens {
                // 101 is "one hundred zero one".
                0 if hundreds > 0 => words.push("0"),
                0 => {}
                // 12 is "ten two", 112 is "one hundred one ten two".
                1 if hundreds == 0 => words.push("10"),
                _ => words.extend([UNITS[usize::from(tens)], "10"]),
            }
            if units > 0 || rest == 0 {
                words.push(UNITS[usize::from(units)]);
            }
        }
    }
    words
}

const UNITS: [Word; 20] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    "17", "18", "19",
];
const TENS: [Word; 10] = ["0", "10", "20", "30", "40", "50", "60", "70", "80", "90"];

#[cfg(test)]
mod tests {
    use super::*;

    fn said(language: Language, n: u16) -> String {
        number(language, n).join(" ")
    }

    #[test]
    fn numbers_are_said_as_people_say_them() {
        let table = [
            (0, "0", "0"),
            (7, "7", "7"),
            (10, "10", "10"),
            (12, "12", "10 2"),
            (20, "20", "2 10"),
            (35, "30 5", "3 10 5"),
            (100, "1 hundred", "1 hundred"),
            (101, "1 hundred 1", "1 hundred 0 1"),
            (110, "1 hundred 10", "1 hundred 1 10"),
            (219, "2 hundred 19", "2 hundred 1 10 9"),
            (999, "9 hundred 90 9", "9 hundred 9 10 9"),
            (5_000, "9 hundred 90 9", "9 hundred 9 10 9"),
        ];
        for (n, en, zh) in table {
            assert_eq!(said(Language::En, n), en, "{n}");
            assert_eq!(said(Language::Zh, n), zh, "{n}");
        }
    }

    #[test]
    fn a_waiting_caller_hears_place_wait_and_choices() {
        let standing = Standing {
            position: Some(3),
            wait_min: Some(2),
            callback: Key::parse('1'),
            advert: None,
            exit: Key::parse('*'),
        };
        let said = |language| words(language, &Announcement::Waiting(standing)).join(" ");
        assert_eq!(
            said(Language::En),
            "position 3 in-line wait 2 minutes press 1 for-callback"
        );
        assert_eq!(
            said(Language::Zh),
            "position 3 in-line wait two minutes press 1 for-callback"
        );
        assert!(words(Language::En, &Announcement::Waiting(Standing::default())).is_empty());
    }

    #[test]
    fn keys_are_those_of_a_telephone() {
        for c in "0123456789*#ABCDabcd".chars() {
            let key = Key::parse(c).expect("a key");
            assert_eq!(key.as_char(), c.to_ascii_uppercase());
        }
        assert_eq!(Key::parse('x'), None);
        assert_eq!(Key::parse('五'), None);
    }
}
