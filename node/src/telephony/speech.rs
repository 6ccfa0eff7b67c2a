//! The recordings every node carries, and announcements put together from them.

use std::collections::HashMap;
use std::sync::Arc;

use strowger_core::ivr::speech::{Announcement, Language, Word, words};
use strowger_media::Clip;
use tracing::warn;

/// The recordings of one language: word and WAV file.
macro_rules! recordings {
    ($language:literal, $($word:literal)*) => {
        &[$((
            $word,
            include_bytes!(concat!("../../sounds/", $language, "/", $word, ".wav")).as_slice(),
        )),*]
    };
}

const EN: &[(Word, &[u8])] = recordings!("en",
    "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11" "12" "13" "14" "15" "16" "17" "18" "19"
    "20" "30" "40" "50" "60" "70" "80" "90" "hundred" "position" "in-line" "wait"
    "less-than-a-minute" "minute" "minutes" "press" "for-callback" "for-adverts" "to-leave"
    "callback-kept" "caller-left" "closed");

const ZH: &[(Word, &[u8])] = recordings!("zh",
    "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "hundred" "two" "position" "in-line" "wait"
    "less-than-a-minute" "minute" "minutes" "press" "for-callback" "for-adverts" "to-leave"
    "callback-kept" "caller-left" "closed");

/// The recordings, ready to be played.
pub struct Speech {
    clips: HashMap<(Language, Word), Clip>,
}

impl Speech {
    /// Reads the recordings.
    pub fn load() -> Self {
        let mut clips = HashMap::new();
        for (language, recordings) in [(Language::En, EN), (Language::Zh, ZH)] {
            for (word, wav) in recordings {
                match Clip::from_wav(wav) {
                    Ok(clip) => {
                        clips.insert((language, *word), clip);
                    }
                    Err(why) => warn!(?language, word, %why, "a recording cannot be read"),
                }
            }
        }
        Self { clips }
    }

    /// An announcement as one piece of sound. A word without recording is left out.
    pub fn say(&self, language: Language, announcement: &Announcement) -> Arc<Clip> {
        let mut pcm = Vec::new();
        for word in words(language, announcement) {
            if let Some(clip) = self.clips.get(&(language, word)) {
                pcm.extend_from_slice(clip.pcm());
            }
        }
        Arc::new(Clip::from_pcm(pcm))
    }
}

#[cfg(test)]
mod tests {
    use strowger_core::ivr::speech::{Key, NUMBER_MAX, Standing, number};

    use super::*;

    #[test]
    fn every_word_has_a_recording_in_every_language() {
        let speech = Speech::load();
        let standing = Standing {
            position: Some(1),
            wait_min: Some(1),
            callback: Key::parse('1'),
            advert: Key::parse('2'),
            exit: Key::parse('3'),
        };
        let soon = Standing {
            wait_min: Some(0),
            ..Standing::default()
        };
        let later = Standing {
            wait_min: Some(2),
            ..Standing::default()
        };
        let announcements = [
            Announcement::Waiting(standing),
            Announcement::Waiting(soon),
            Announcement::Waiting(later),
            Announcement::CallbackKept,
            Announcement::CallerLeft,
            Announcement::Closed,
        ];
        for language in Language::ALL {
            let numbers = (0..=NUMBER_MAX).flat_map(|n| number(language, n));
            let said = announcements.iter().flat_map(|one| words(language, one));
            for word in numbers.chain(said) {
                let clip = speech.clips.get(&(language, word));
                let ms = clip.map(Clip::duration_ms);
                assert!(
                    ms.is_some_and(|ms| (100..10_000).contains(&ms)),
                    "{language:?} {word}: {ms:?}"
                );
            }
        }
        let whole = speech.say(Language::En, &announcements[0]).duration_ms();
        assert!((3_000..20_000).contains(&whole), "{whole} ms");
    }
}
