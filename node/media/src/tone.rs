//! Call progress tones (ITU-T E.180, European cadences), rendered to clips.
//!
//! One cadence is rendered and looped. All frequencies are whole hertz and cadences that sound
//! without pause last whole seconds, so the loop has no seam.

use std::f64::consts::TAU;
use std::sync::{Arc, OnceLock};

use crate::clip::{Clip, SAMPLE_RATE};

/// A tone the engine makes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tone {
    /// 425 Hz without pause.
    Dial,
    /// 425 Hz, 1 s on, 4 s off.
    Ringback,
    /// 425 Hz, 480 ms on and off.
    Busy,
    /// 425 Hz, 240 ms on and off: no way to the number.
    Congestion,
    /// Two short 600 Hz bursts, then silence: done.
    Confirmation,
    /// Low, falling pair, then silence: refused.
    Refusal,
    /// 1400 Hz for 400 ms every 15 s: the call is recorded.
    Recording,
    /// One frequency in hertz (below 4000) without pause.
    Sine(u16),
    /// Two frequencies in hertz (below 4000) without pause.
    Dual(u16, u16),
}

/// Peak of a tone, −10 dB of full scale.
const PEAK: f64 = 10_362.0;
/// Samples over which a burst fades in and out, 4 ms, so that it does not click.
const RAMP: usize = 32;

/// A stretch of a cadence: frequencies (0 = none) and milliseconds.
type Part = (u16, u16, u32);

impl Tone {
    /// The tone as a clip; the named ones are made once.
    pub fn clip(self) -> Arc<Clip> {
        static NAMED: [OnceLock<Arc<Clip>>; 7] = [const { OnceLock::new() }; 7];
        let (slot, cadence): (usize, &[Part]) = match self {
            Self::Dial => (0, &[(425, 0, 1_000)]),
            Self::Ringback => (1, &[(425, 0, 1_000), (0, 0, 4_000)]),
            Self::Busy => (2, &[(425, 0, 480), (0, 0, 480)]),
            Self::Congestion => (3, &[(425, 0, 240), (0, 0, 240)]),
            Self::Confirmation => (4, &[(600, 0, 100), (0, 0, 100), (600, 0, 100), (0, 0, 700)]),
            Self::Refusal => (5, &[(480, 0, 250), (350, 0, 350), (0, 0, 400)]),
            Self::Recording => (6, &[(1_400, 0, 400), (0, 0, 14_600)]),
            Self::Sine(hz) => return render(&[(hz, 0, 1_000)]),
            Self::Dual(low, high) => return render(&[(low, high, 1_000)]),
        };
        Arc::clone(NAMED[slot].get_or_init(|| render(cadence)))
    }
}

fn render(cadence: &[Part]) -> Arc<Clip> {
    let mut pcm = Vec::new();
    for &(first, second, ms) in cadence {
        let samples = usize::try_from(SAMPLE_RATE / 1_000 * ms).unwrap_or_default();
        let fade = cadence.len() > 1;
        pcm.extend((0..samples).map(|n| sample(first, second, n, samples, fade)));
    }
    Arc::new(Clip::from_pcm(pcm))
}

fn sample(first: u16, second: u16, n: usize, of: usize, fade: bool) -> i16 {
    // Frequencies at or above half the rate would only alias.
    let wave = |hz: u16| match u32::from(hz) {
        0 => 0.0,
        hz if hz >= SAMPLE_RATE / 2 => 0.0,
        hz => (TAU * f64::from(hz) * n as f64 / f64::from(SAMPLE_RATE)).sin(),
    };
    let sum = match second {
        0 => wave(first),
        _ => (wave(first) + wave(second)) / 2.0,
    };
    let edge = n.min(of - 1 - n).min(RAMP);
    let gain = if fade { edge as f64 / RAMP as f64 } else { 1.0 };
    // Within ±PEAK by construction, so the cast cannot cut.
    (sum * gain * PEAK) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Power at one frequency (Goertzel), relative to the power of all samples.
    fn share(pcm: &[i16], hz: f64) -> f64 {
        let (mut re, mut im, mut all) = (0.0, 0.0, 0.0);
        for (n, s) in pcm.iter().enumerate() {
            let phase = TAU * hz * n as f64 / 8_000.0;
            re += f64::from(*s) * phase.cos();
            im += f64::from(*s) * phase.sin();
            all += f64::from(*s).powi(2);
        }
        2.0 * (re * re + im * im) / (all * pcm.len() as f64)
    }

    #[test]
    fn tones_have_their_frequencies_and_loop_without_a_seam() {
        let dial = Tone::Dial.clip();
        assert!(share(dial.pcm(), 425.0) > 0.99);
        let twice: Vec<i16> = dial.pcm().iter().chain(dial.pcm()).copied().collect();
        assert!(share(&twice, 425.0) > 0.99);
        let dual = Tone::Dual(350, 440).clip();
        assert!(share(dual.pcm(), 350.0) > 0.49 && share(dual.pcm(), 440.0) > 0.49);
        assert!(Tone::Sine(4_000).clip().pcm().iter().all(|s| *s == 0));
    }

    #[test]
    fn cadences_have_their_lengths_and_are_made_once() {
        assert_eq!(Tone::Ringback.clip().duration_ms(), 5_000);
        assert_eq!(Tone::Confirmation.clip().duration_ms(), 1_000);
        assert!(Arc::ptr_eq(&Tone::Busy.clip(), &Tone::Busy.clip()));
    }
}
