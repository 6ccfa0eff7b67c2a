//! Sound ready to be played: 8 kHz mono PCM, encoded for a codec when first needed.
//!
//! A clip is immutable and shared; a thousand legs playing the same music hold it once.

use std::sync::OnceLock;

use crate::g711;
use crate::types::Codec;
use crate::wav::{self, ClipError};

/// Samples per second of everything the engine plays.
pub const SAMPLE_RATE: u32 = 8_000;

/// A piece of sound.
pub struct Clip {
    pcm: Box<[i16]>,
    pcmu: OnceLock<Box<[u8]>>,
    pcma: OnceLock<Box<[u8]>>,
}

impl std::fmt::Debug for Clip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clip({} ms)", self.duration_ms())
    }
}

impl Clip {
    /// Reads a WAV file: PCM of 8, 16, 24 or 32 bits or G.711, mono or more channels (mixed),
    /// any usual rate (resampled).
    ///
    /// # Errors
    /// Says what is wrong with the file and at which byte.
    pub fn from_wav(bytes: &[u8]) -> Result<Self, ClipError> {
        wav::read(bytes).map(Self::from_pcm)
    }

    /// Sound made elsewhere, 8 kHz mono. An empty clip is legal and ends at once.
    pub fn from_pcm(pcm: Vec<i16>) -> Self {
        Self {
            pcm: pcm.into_boxed_slice(),
            pcmu: OnceLock::new(),
            pcma: OnceLock::new(),
        }
    }

    /// The samples, 8 kHz mono.
    pub fn pcm(&self) -> &[i16] {
        &self.pcm
    }

    /// Length in milliseconds.
    pub fn duration_ms(&self) -> u64 {
        let samples = u64::try_from(self.pcm.len()).unwrap_or(u64::MAX);
        samples.saturating_mul(1_000) / u64::from(SAMPLE_RATE)
    }

    /// The clip as the codec's bytes, one per sample; encoded on the first call. Called by the
    /// thread that commands playing, because a long clip takes milliseconds.
    pub fn encoded(&self, codec: Codec) -> &[u8] {
        self.cell(codec).get_or_init(|| {
            self.pcm
                .iter()
                .map(|sample| g711::encode(codec, *sample))
                .collect()
        })
    }

    /// Bytes of one frame from `at`, at most `out.len()`; returns how many. Never encodes the
    /// whole clip: a worker whose leg changed its codec meanwhile encodes frame by frame.
    pub(crate) fn frame(&self, codec: Codec, at: usize, out: &mut [u8]) -> usize {
        match self.cell(codec).get() {
            Some(encoded) => {
                let rest = encoded.get(at..).unwrap_or_default();
                out.iter_mut()
                    .zip(rest)
                    .map(|(to, from)| *to = *from)
                    .count()
            }
            None => {
                let rest = self.pcm.get(at..).unwrap_or_default();
                let pairs = out.iter_mut().zip(rest);
                pairs
                    .map(|(to, from)| *to = g711::encode(codec, *from))
                    .count()
            }
        }
    }

    /// Samples in the clip.
    pub(crate) fn len(&self) -> usize {
        self.pcm.len()
    }

    fn cell(&self, codec: Codec) -> &OnceLock<Box<[u8]>> {
        match codec {
            Codec::Pcmu => &self.pcmu,
            Codec::Pcma => &self.pcma,
        }
    }
}
