//! What a site file says of those who wait in a queue: announcements, adverts, ways out.

use strowger_core::ids::{Extension, QueueName};
use strowger_core::ivr::speech::{Key, Language};
use strowger_core::site::{Callback, Comfort, RungFirst, Target};
use strowger_core::state::comfort::overflow_loop;

use super::read::{Part, Rest, referred, wrong};
use crate::document::At;
use crate::fault::{Fault, code};

/// How long a place is kept unless the file says otherwise, s: hanging up was a mistake or
/// the line broke, and who is to be served calls again at once.
const REDIAL_S: u64 = 60;

impl Rest<'_> {
    /// Reads the keys of `[[queue]]` about waiting callers.
    pub(super) fn comfort(&mut self, part: &mut Part<'_, '_>) -> Result<Comfort, Fault> {
        let language = match part.text("language")? {
            None => Language::default(),
            Some(text) => Language::parse(&text.value)
                .ok_or_else(|| wrong(&text, "a language", "use \"en\" or \"zh\""))?,
        };
        let announce_s = part.number("announce_s", 5..=3_600)?;
        let position = part.flag("announce_position")?.unwrap_or(false);
        let expected_wait = part.flag("announce_wait")?.unwrap_or(false);
        let advert_key = part.text("advert_key")?;
        let advert = part.text("advert")?;
        let exit_key = part.text("exit_key")?;
        let exit = part.text("exit")?;
        let max_wait_s = part.number("max_wait_s", 1..=86_400)?;
        let max_length = part.number("max_length", 1..=100_000)?;
        let overflow = part.text("overflow")?;
        let unstaffed = part.text("no_agents")?;
        let callback = self.callback(part)?;
        let redial_s = part.number("redial_s", 0..=3_600)?;

        if let Some(seconds) = &announce_s
            && !(position || expected_wait || exit.is_some() || advert.is_some())
            && callback.is_none()
        {
            return Err(alone(
                &seconds.place,
                "`announce_s` is set, but there is nothing to announce",
                "add announce_position = true, announce_wait = true, an advert, an exit or a callback",
            ));
        }
        let advert = match (advert_key, advert) {
            (Some(key), Some(file)) => Some((key_of(&key)?, self.sound(&file)?)),
            (None, None) => None,
            (one, other) => {
                return Err(alone(
                    &place_of(one, other),
                    "an advert needs `advert` and `advert_key`",
                    "write advert = \"news.wav\" and advert_key = \"2\"",
                ));
            }
        };
        let exit_place = exit_key.as_ref().map(|key| key.place.clone());
        let exit = match (exit_key, exit) {
            (Some(key), Some(target)) => Some((key_of(&key)?, self.way(&target)?)),
            (None, None) => None,
            (one, other) => {
                return Err(alone(
                    &place_of(one, other),
                    "a way out by key needs `exit` and `exit_key`",
                    "write exit = \"queue:other\" and exit_key = \"0\"",
                ));
            }
        };
        if let (Some((advert, _)), Some((exit, _))) = (&advert, &exit)
            && advert == exit
        {
            return Err(alone(
                &exit_place.unwrap_or_default(),
                "`advert_key` and `exit_key` are the same key",
                "use two keys",
            ));
        }
        if let Some((rule, place)) = &callback {
            let others = [
                advert.as_ref().map(|(key, _)| *key),
                exit.as_ref().map(|(key, _)| *key),
            ];
            if others.contains(&Some(rule.key)) {
                return Err(alone(
                    place,
                    "`callback_key` is the key of something else",
                    "use a key for each",
                ));
            }
        }
        let overflow = overflow.map(|target| self.way(&target)).transpose()?;
        let limit_place = max_wait_s.as_ref().map(|limit| limit.place.clone());
        let limit_place = limit_place.or(max_length.as_ref().map(|limit| limit.place.clone()));
        let (max_wait, max_length) = match (overflow, limit_place) {
            (Some(target), _) => (
                max_wait_s.map(|seconds| (seconds.value * 1_000, target.clone())),
                max_length.map(|most| (u32::try_from(most.value).unwrap_or(u32::MAX), target)),
            ),
            (None, Some(place)) => {
                return Err(alone(
                    &place,
                    "`max_wait_s` and `max_length` need `overflow`",
                    "write overflow = \"queue:other\" or \"extension:1001\"",
                ));
            }
            (None, None) => (None, None),
        };
        let unstaffed = unstaffed.map(|target| self.way(&target)).transpose()?;
        Ok(Comfort {
            language,
            announce_ms: announce_s.map_or(0, |seconds| seconds.value * 1_000),
            position,
            expected_wait,
            advert,
            exit,
            max_wait,
            max_length,
            unstaffed,
            callback: callback.map(|(rule, _)| rule),
            redial_ms: redial_s.map_or(REDIAL_S, |seconds| seconds.value) * 1_000,
        })
    }

    /// Where a way out leads. Queues may be written later in the file.
    fn way(&mut self, text: &At<String>) -> Result<Target, Fault> {
        match text.value.split_once(':') {
            Some(("queue", name)) => {
                self.ways.push(At {
                    value: name.to_owned(),
                    place: text.place.clone(),
                });
                Ok(Target::Queue(QueueName::from(name)))
            }
            Some(("extension", name)) => {
                let known = self.read.site.extensions.keys().map(Extension::as_str);
                referred("extension", name, &text.place, known)?;
                Ok(Target::Extension(Extension::from(name)))
            }
            _ => Err(wrong(
                text,
                "a way out",
                "write queue:NAME or extension:NUMBER",
            )),
        }
    }

    /// Checks the ways out of all queues, once all have been read.
    pub(super) fn ways_lead_somewhere(&self) -> Result<(), Fault> {
        for way in &self.ways {
            self.queue_named(&way.value, &way.place)?;
        }
        let Some(round) = overflow_loop(&self.read.site.queues) else {
            return Ok(());
        };
        let names: Vec<&str> = round.iter().map(QueueName::as_str).collect();
        let what = format!("callers would be sent round: {}", names.join(" → "));
        let next = "let one of these queues end the way, or lead to an extension";
        let fault = Fault::new(code::SITE_VALUE, what, next);
        let second = round.get(1).map(QueueName::as_str);
        let place = self
            .ways
            .iter()
            .find(|way| Some(way.value.as_str()) == second);
        Err(match place {
            Some(way) => fault.at(way.place.clone()),
            None => fault,
        })
    }

    /// How callers are called back, and where the file says so.
    fn callback(&self, part: &mut Part<'_, '_>) -> Result<Option<(Callback, String)>, Fault> {
        let key = part.text("callback_key")?;
        let after_s = part.number("callback_after_s", 0..=3_600)?;
        let attempts = part.number("callback_attempts", 1..=20)?;
        let pause_s = part.number("callback_pause_s", 10..=86_400)?;
        let prefix = part.text("callback_prefix")?;
        let hours = part.text("callback_hours")?;
        let first = part.text("callback_first")?;
        let Some(key) = key else {
            let numbers = [after_s, attempts, pause_s].into_iter().flatten();
            let places = numbers.map(|number| number.place);
            let texts = [prefix, hours, first].into_iter().flatten();
            let place = places.chain(texts.map(|text| text.place)).next();
            return match place {
                Some(place) => Err(alone(
                    &place,
                    "callbacks need `callback_key`",
                    "write callback_key = \"1\"",
                )),
                None => Ok(None),
            };
        };
        if let Some(prefix) = &prefix
            && (prefix.value.len() > 8 || !prefix.value.bytes().all(|byte| byte.is_ascii_digit()))
        {
            let next = "use at most 8 digits, such as \"0\"";
            return Err(wrong(prefix, "a prefix", next));
        }
        let hours = hours.map(|name| self.hours_named(&name)).transpose()?;
        let first = match first {
            None => RungFirst::default(),
            Some(text) => RungFirst::from_word(&text.value).ok_or_else(|| {
                let next = "use \"customer\" or \"agent\"";
                wrong(&text, "who is rung first", next)
            })?,
        };
        let attempts = attempts.map_or(3, |number| number.value);
        let rule = Callback {
            key: key_of(&key)?,
            after_ms: after_s.map_or(0, |seconds| seconds.value) * 1_000,
            attempts: u32::try_from(attempts).unwrap_or(1),
            pause_ms: pause_s.map_or(600, |seconds| seconds.value) * 1_000,
            prefix: prefix.map(|text| text.value).unwrap_or_default(),
            hours,
            first,
        };
        Ok(Some((rule, key.place)))
    }
}

/// A key that means nothing without another one.
fn alone(place: &str, what: &str, next: &str) -> Fault {
    Fault::new(code::SITE_VALUE, what, next).at(place.to_owned())
}

fn place_of(one: Option<At<String>>, other: Option<At<String>>) -> String {
    one.or(other).map(|text| text.place).unwrap_or_default()
}

fn key_of(text: &At<String>) -> Result<Key, Fault> {
    let mut chars = text.value.chars();
    let key = chars.next().and_then(Key::parse);
    key.filter(|key| chars.next().is_none() && key.as_char().is_ascii_digit())
        .ok_or_else(|| wrong(text, "a key", "use one digit, such as \"0\""))
}
