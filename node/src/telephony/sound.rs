//! Prompts and music of the sites in force, and what the RTP engine reports.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use strowger_actors::ports::LegEvent;
use strowger_core::ids::{BlobId, LegId};
use strowger_core::ivr::speech::{Announcement, Key};
use strowger_core::outstanding::Audio;
use strowger_media::{Clip, Event, EventReceiver, LegKey, Repeat};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::{Shared, parting};

/// Bytes of clips held ready: some four hours of sound as it is played. Beyond it those go that
/// nobody has asked for the longest, and are read again when they are played.
const CLIPS_BYTES_MAX: usize = 512 << 20;
/// Bytes of a sample: as it is, and in each of the two codecs.
const SAMPLE_BYTES: usize = 4;

/// Between two looks for music that somebody should hear and does not.
const MISSING_LOOK: Duration = Duration::from_secs(1);

/// Where the bytes of a blob come from.
pub trait BlobSource: Send + Sync + 'static {
    /// The verified bytes of a blob held on this node.
    fn blob(&self, id: BlobId) -> Option<Vec<u8>>;

    /// Told, for one listener, when a blob has come to this node.
    fn came(&self) -> Arc<Notify>;
}

/// Clips by blob.
pub struct Sounds {
    blobs: Arc<dyn BlobSource>,
    clips: RwLock<Clips>,
}

/// Clips that were read.
#[derive(Default)]
struct Clips {
    held: HashMap<BlobId, Held>,
    bytes: usize,
    /// Times anything was asked for.
    asked: AtomicU64,
    /// Those that are no sound, whatever was thought of them when they were accepted.
    unreadable: BTreeSet<BlobId>,
}

struct Held {
    clip: Arc<Clip>,
    /// When it was asked for last, by that count.
    asked: AtomicU64,
}

impl Held {
    fn bytes(&self) -> usize {
        self.clip.pcm().len() * SAMPLE_BYTES
    }
}

impl Clips {
    fn get(&self, id: BlobId) -> Option<Arc<Clip>> {
        let held = self.held.get(&id)?;
        let now = self.asked.fetch_add(1, Ordering::Relaxed);
        held.asked.store(now, Ordering::Relaxed);
        Some(Arc::clone(&held.clip))
    }

    fn hold(&mut self, id: BlobId, clip: Arc<Clip>, bytes_max: usize) {
        let asked = AtomicU64::new(self.asked.fetch_add(1, Ordering::Relaxed));
        let held = Held { clip, asked };
        self.bytes += held.bytes();
        let before = self.held.insert(id, held);
        self.bytes -= before.map_or(0, |held| held.bytes());
        while self.bytes > bytes_max && self.held.len() > 1 {
            let asked = |(_, held): &(&BlobId, &Held)| held.asked.load(Ordering::Relaxed);
            let Some(oldest) = self.held.iter().min_by_key(asked).map(|(id, _)| *id) else {
                return;
            };
            let gone = self.held.remove(&oldest);
            self.bytes -= gone.map_or(0, |held| held.bytes());
        }
    }
}

impl Sounds {
    /// Clips read from `blobs`.
    pub fn new(blobs: Arc<dyn BlobSource>) -> Self {
        Self {
            blobs,
            clips: RwLock::default(),
        }
    }

    /// The clip of a blob; `None` when this node does not hold it (yet).
    pub fn clip(&self, id: BlobId) -> Option<Arc<Clip>> {
        {
            let clips = self.clips.read();
            if let Some(clip) = clips.get(id) {
                return Some(clip);
            }
            if clips.unreadable.contains(&id) {
                return None;
            }
        }
        let bytes = self.blobs.blob(id)?;
        match Clip::from_wav(&bytes) {
            Ok(clip) => {
                let clip = Arc::new(clip);
                let mut clips = self.clips.write();
                clips.hold(id, Arc::clone(&clip), CLIPS_BYTES_MAX);
                Some(clip)
            }
            Err(why) => {
                warn!(blob = %id, %why, "a sound that was accepted cannot be read");
                self.clips.write().unreadable.insert(id);
                None
            }
        }
    }
}

/// The engine's name of a leg.
pub fn key_of(leg: LegId) -> LegKey {
    LegKey(u128::from(leg.0))
}

/// Plays music that was not on this node when it was asked for, once it has come, or that the
/// engine did not take.
pub async fn keep(shared: Arc<Shared>) {
    let came = shared.sounds.blobs.came();
    loop {
        // Either way it is time to look.
        let _ = tokio::time::timeout(MISSING_LOOK, came.notified()).await;
        // Read before the legs are held up, and where it holds up nobody else.
        let missing = shared.legs.missing();
        if missing.is_empty() {
            continue;
        }
        let sounds = Arc::clone(&shared.sounds);
        let read = tokio::task::spawn_blocking(move || {
            let clips = missing.into_iter().map(|id| (id, sounds.clip(id)));
            clips.collect::<HashMap<BlobId, Option<Arc<Clip>>>>()
        });
        let Ok(clips) = read.await else { continue };
        shared.legs.play_missing(|leg, id, token| {
            let clip = clips.get(&id).cloned().flatten();
            let engine = &shared.engine;
            clip.is_some_and(|clip| engine.play(key_of(leg), clip, Repeat::Loop, token).is_ok())
        });
    }
}

/// Hands the engine's events to the calls they are about, on a thread of its own.
pub fn pump(shared: Arc<Shared>, events: EventReceiver) {
    let run = move || {
        while let Some(event) = events.recv() {
            take(&shared, &event);
        }
    };
    if let Err(why) = std::thread::Builder::new()
        .name("media-events".into())
        .spawn(run)
    {
        warn!(%why, "media events cannot be read");
    }
}

fn take(shared: &Shared, event: &Event) {
    match event {
        Event::PlayEnded {
            leg,
            token,
            complete: true,
        } => {
            let Some(id) = leg_of(*leg) else { return };
            match shared.legs.played(id, *token) {
                Some((_, Audio::Say(_, Announcement::CallerLeft))) => parting::said(shared, id),
                Some((call, audio)) => tell(shared, call, id, audio),
                None => {}
            }
        }
        Event::NoAudio {
            leg,
            for_ms,
            packets_received,
        } => {
            debug!(%leg, for_ms, "no audio from the far end");
            if let Some(id) = leg_of(*leg) {
                let now = std::time::Instant::now();
                shared.silent.begins(id, *packets_received, now);
            }
        }
        Event::Digit { leg, digit, .. } => {
            let Some(id) = leg_of(*leg) else { return };
            if let Some(key) = Key::parse(digit.as_char()) {
                key_pressed(shared, id, key);
            }
        }
        _ => {}
    }
}

/// Tells a call that a key was pressed at a leg. Keys are not written into the log of the
/// daemon: they may be secrets.
pub fn key_pressed(shared: &Shared, leg: LegId, key: Key) {
    if let Some((call, switchboard)) = shared.legs.call_of(leg).zip(shared.switchboard()) {
        switchboard.leg(call, leg, LegEvent::Key(key));
    }
}

/// Tells a call that something was played to its end.
pub fn tell(shared: &Shared, call: strowger_core::ids::CallId, leg: LegId, audio: Audio) {
    if let Some(switchboard) = shared.switchboard() {
        switchboard.leg(call, leg, LegEvent::Played(audio));
    }
}

fn leg_of(key: LegKey) -> Option<LegId> {
    u64::try_from(key.0).ok().map(LegId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_go_that_nobody_has_asked_for_the_longest() {
        let clip = || Arc::new(Clip::from_pcm(vec![0; 100]));
        let id = |n: u8| BlobId([n; 32]);
        let mut clips = Clips::default();
        let three = 3 * 100 * SAMPLE_BYTES;
        for n in 1..=3 {
            clips.hold(id(n), clip(), three);
        }
        assert!(clips.get(id(1)).is_some());
        clips.hold(id(3), clip(), three);
        clips.hold(id(4), clip(), three);
        let held = [1, 2, 3, 4].map(|n| clips.get(id(n)).is_some());
        assert_eq!(held, [true, false, true, true]);
        assert_eq!(clips.bytes, three);
        clips.hold(id(5), Arc::new(Clip::from_pcm(vec![0; 1_000])), three);
        assert_eq!(clips.held.len(), 1, "one that is too long is held alone");
    }
}
