//! Prompts and music of the sites in force, and what the RTP engine reports.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use strowger_actors::ports::LegEvent;
use strowger_core::ids::{BlobId, LegId};
use strowger_core::ivr::speech::{Announcement, Key};
use strowger_core::outstanding::Audio;
use strowger_media::{Clip, Event, EventReceiver, LegKey, Repeat};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::{Shared, parting};

/// Clips held ready; a site names far fewer. Beyond it the rest is read when played.
const CLIPS_MAX: usize = 256;

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
    clips: RwLock<HashMap<BlobId, Arc<Clip>>>,
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
        if let Some(clip) = self.clips.read().get(&id) {
            return Some(Arc::clone(clip));
        }
        let bytes = self.blobs.blob(id)?;
        match Clip::from_wav(&bytes) {
            Ok(clip) => {
                let clip = Arc::new(clip);
                let mut clips = self.clips.write();
                if clips.len() < CLIPS_MAX {
                    clips.insert(id, Arc::clone(&clip));
                }
                Some(clip)
            }
            Err(why) => {
                warn!(blob = %id, %why, "a sound that was accepted cannot be read");
                None
            }
        }
    }
}

/// The engine's name of a leg.
pub fn key_of(leg: LegId) -> LegKey {
    LegKey(u128::from(leg.0))
}

/// Plays music that was not on this node when it was asked for, once it has come.
pub async fn keep(shared: Arc<Shared>) {
    let came = shared.sounds.blobs.came();
    loop {
        came.notified().await;
        // Read before the legs are held up.
        let missing = shared.legs.missing();
        let clips = missing.into_iter().map(|id| (id, shared.sounds.clip(id)));
        let clips: HashMap<BlobId, Option<Arc<Clip>>> = clips.collect();
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
        Event::NoAudio { leg, for_ms } => debug!(%leg, for_ms, "no audio from the far end"),
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
