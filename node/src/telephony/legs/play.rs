//! What legs hear that is made here: words, prompts, music and tones.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use strowger_actors::ports::LegEvent;
use strowger_core::call::Confirmation;
use strowger_core::ids::{BlobId, CallId, LegId};
use strowger_core::outstanding::Audio;
use strowger_media::{Clip, PlayToken, Repeat, Tone};
use tracing::warn;

use super::super::sound::{self, key_of};
use super::{Entry, LegTable, NodeLegs, report};

/// Length of the confirmation of a feature code, ms.
const CONFIRMATION_MS: u32 = 600;
/// When the end of a sound has not been reported so long after it, it never will be, and the
/// call would wait for it.
const SLACK: Duration = Duration::from_secs(5);

impl LegTable {
    /// The call and the sound that a finished play belongs to; `None` when something
    /// else is played by now.
    pub fn played(&self, leg: LegId, token: PlayToken) -> Option<(CallId, Audio)> {
        let played = self.with(leg, |entry| {
            let playing = &mut entry.playing;
            let (_, audio) = playing.take_if(|(playing, _)| *playing == token)?;
            Some((entry.call, audio))
        });
        played.flatten()
    }

    /// Notes that something is played from now on; `None` when there is no such leg.
    pub fn next_play(&self, leg: LegId, audio: Audio) -> Option<PlayToken> {
        let token = PlayToken(self.plays.fetch_add(1, Ordering::Relaxed) + 1);
        self.with(leg, |entry| {
            entry.playing = Some((token, audio));
            entry.missing = matches!(audio, Audio::Music(_));
        })?;
        Some(token)
    }

    /// The music that somebody should hear and does not.
    pub fn missing(&self) -> BTreeSet<BlobId> {
        let legs = self.legs.lock();
        let missing = legs.values().filter_map(Entry::missing);
        missing.map(|(_, blob)| blob).collect()
    }

    /// Plays it to them. What a leg should hear does not change meanwhile.
    pub fn play_missing(&self, play: impl Fn(LegId, BlobId, PlayToken) -> bool) {
        for (leg, entry) in &mut *self.legs.lock() {
            if let Some((token, blob)) = entry.missing() {
                entry.missing = !play(*leg, blob, token);
            }
        }
    }
}

impl Entry {
    fn plays(&self, token: PlayToken) -> bool {
        self.playing.is_some_and(|(playing, _)| playing == token)
    }

    fn missing(&self) -> Option<(PlayToken, BlobId)> {
        match self.playing {
            Some((token, Audio::Music(blob))) if self.missing => Some((token, blob)),
            _ => None,
        }
    }
}

impl NodeLegs {
    pub(super) fn play(&self, leg: LegId, audio: Audio) {
        let shared = &self.shared;
        let Some(token) = shared.legs.next_play(leg, audio) else {
            return;
        };
        let engine = &shared.engine;
        let key = key_of(leg);
        let once = |clip: Arc<Clip>| {
            let length = Duration::from_millis(clip.duration_ms());
            let begun = engine.play(key, clip, Repeat::Once, token);
            begun.is_ok().then_some(Some(length))
        };
        // How long it lasts, once it plays.
        let begun = match audio {
            Audio::Say(language, announcement) => once(shared.speech.say(language, &announcement)),
            Audio::Prompt(blob) | Audio::Advert(blob) | Audio::Whisper(blob) => {
                shared.sounds.clip(blob).and_then(once)
            }
            Audio::Music(blob) => shared.sounds.clip(blob).and_then(|clip| {
                let begun = engine.play(key, clip, Repeat::Loop, token);
                begun.is_ok().then_some(None)
            }),
            Audio::Tone(confirmation) => {
                let tone = match confirmation {
                    Confirmation::Done => Tone::Confirmation,
                    Confirmation::Refused => Tone::Refusal,
                };
                let begun = engine.tone(key, tone, Some(CONFIRMATION_MS), token);
                let length = Duration::from_millis(u64::from(CONFIRMATION_MS));
                begun.is_ok().then_some(Some(length))
            }
            Audio::Ringing => {
                let begun = engine.tone(key, Tone::Ringback, None, token);
                begun.is_ok().then_some(None)
            }
            Audio::Silence | Audio::Bridge(_) => None,
        };
        let Some(length) = begun else {
            warn!(%leg, ?audio, "a sound is missing on this node; going on without it");
            return report(shared, leg, LegEvent::Played(audio));
        };
        shared
            .legs
            .with(leg, |entry| entry.missing &= !entry.plays(token));
        if let Some(length) = length {
            self.watch_end(leg, token, length);
        }
    }

    /// Sees to it that a sound ends for its call in any case.
    fn watch_end(&self, leg: LegId, token: PlayToken, length: Duration) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            // Before the far end has described its audio nothing is sent, and nothing ends.
            let state = |entry: &mut Entry| entry.plays(token).then(|| entry.has_agreed());
            while let Some(agreed) = shared.legs.with(leg, state).flatten() {
                tokio::time::sleep(length + SLACK).await;
                if agreed && let Some((call, audio)) = shared.legs.played(leg, token) {
                    warn!(%leg, ?audio, "the end of a sound was not reported");
                    sound::tell(&shared, call, leg, audio);
                }
            }
        });
    }
}
