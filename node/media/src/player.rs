//! Cuts a clip into frames: once, looped without a gap, or for so long.

use crate::command::Playback;
use crate::g711;
use crate::types::{Codec, PlayToken, Repeat};

/// What is being played on a leg.
pub(crate) struct Player {
    playback: Playback,
    at: usize,
    left: Option<u64>,
}

impl Player {
    pub(crate) fn new(playback: Playback) -> Self {
        let left = playback.samples_max;
        Self {
            playback,
            at: 0,
            left,
        }
    }

    pub(crate) fn token(&self) -> PlayToken {
        self.playback.token
    }

    /// Fills a frame, the last one up with silence. Returns the samples that came from the clip
    /// (none means: nothing to send) and whether more follow.
    pub(crate) fn fill(&mut self, codec: Codec, frame: &mut [u8]) -> (usize, bool) {
        let mut filled = 0;
        while filled < frame.len() && self.more() {
            let wanted = self.left.map_or(frame.len(), |left| {
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                filled.saturating_add(left).min(frame.len())
            });
            let Some(room) = frame.get_mut(filled..wanted) else {
                break;
            };
            let count = self.playback.clip.frame(codec, self.at, room);
            filled += count;
            self.at += count;
            let taken = u64::try_from(count).unwrap_or(u64::MAX);
            self.left = self.left.map(|left| left.saturating_sub(taken));
        }
        if filled > 0 {
            for rest in frame.iter_mut().skip(filled) {
                *rest = g711::encode(codec, 0);
            }
        }
        (filled, self.more())
    }

    /// Is anything left? Goes back to the start of a looped clip.
    fn more(&mut self) -> bool {
        let length = self.playback.clip.len();
        if self.left == Some(0) || length == 0 {
            return false;
        }
        if self.at >= length && self.playback.repeat == Repeat::Loop {
            self.at = 0;
        }
        self.at < length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;
    use std::sync::Arc;

    fn player(samples: i16, repeat: Repeat, samples_max: Option<u64>) -> Player {
        let clip = Arc::new(Clip::from_pcm((0..samples).map(|n| n * 100).collect()));
        Player::new(Playback {
            clip,
            repeat,
            samples_max,
            token: PlayToken(1),
        })
    }

    #[test]
    fn once_ends_with_its_last_frame_filled_up() {
        let mut player = player(250, Repeat::Once, None);
        let mut frame = [0; 160];
        assert_eq!(player.fill(Codec::Pcma, &mut frame), (160, true));
        assert_eq!(player.fill(Codec::Pcma, &mut frame), (90, false));
        assert_eq!(frame[90..], [0xd5; 70]);
        assert_eq!(player.fill(Codec::Pcma, &mut frame), (0, false));
    }

    #[test]
    fn a_clip_of_whole_frames_ends_with_its_last_one() {
        let mut player = player(320, Repeat::Once, None);
        let mut frame = [0; 160];
        assert_eq!(player.fill(Codec::Pcmu, &mut frame), (160, true));
        assert_eq!(player.fill(Codec::Pcmu, &mut frame), (160, false));
    }

    #[test]
    fn a_loop_has_no_gap_whether_encoded_before_or_not() {
        for encoded in [true, false] {
            let mut player = player(100, Repeat::Loop, None);
            if encoded {
                player.playback.clip.encoded(Codec::Pcmu);
            }
            let mut heard = Vec::new();
            for _ in 0..5 {
                let mut frame = [0; 160];
                assert_eq!(player.fill(Codec::Pcmu, &mut frame), (160, true));
                heard.extend_from_slice(&frame);
            }
            let wanted: Vec<u8> = (0..800)
                .map(|n| g711::encode(Codec::Pcmu, (n % 100) * 100))
                .collect();
            assert_eq!(heard, wanted);
        }
    }

    #[test]
    fn a_limit_ends_a_loop_and_nothing_is_played_of_nothing() {
        let mut limited = player(100, Repeat::Loop, Some(240));
        let mut frame = [0; 160];
        assert_eq!(limited.fill(Codec::Pcmu, &mut frame), (160, true));
        assert_eq!(limited.fill(Codec::Pcmu, &mut frame), (80, false));
        assert_eq!(
            player(0, Repeat::Loop, None).fill(Codec::Pcmu, &mut frame),
            (0, false)
        );
    }
}
