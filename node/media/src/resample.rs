//! Sample rates to 8 kHz: a windowed-sinc low-pass as a polyphase filter.
//!
//! The ratio is kept exact (8000/rate in lowest terms), so a clip neither drifts nor beats.

use crate::clip::SAMPLE_RATE;

/// Zero crossings of the sinc on each side; more make the edge of the pass band steeper.
const CROSSINGS: f64 = 16.0;
/// Pass band as a part of half the lower rate: leaves room for the filter's slope.
const PASS: f64 = 0.92;
/// Phases kept; rates that need more share too little with 8 kHz to be real.
const PHASES_MAX: u32 = 320;
const RATE_MIN: u32 = 4_000;
const RATE_MAX: u32 = 192_000;

/// Is this a rate we turn into 8 kHz?
pub(crate) fn supported(rate: u32) -> bool {
    (RATE_MIN..=RATE_MAX).contains(&rate)
        && SAMPLE_RATE / greatest_common_divisor(rate, SAMPLE_RATE) <= PHASES_MAX
}

/// Samples in the range of sixteen bits at a supported rate, to 8 kHz.
pub(crate) fn to_8000(samples: &[f32], rate: u32) -> Vec<i16> {
    if rate == SAMPLE_RATE {
        return samples.iter().map(|sample| to_i16(*sample)).collect();
    }
    let divisor = greatest_common_divisor(rate, SAMPLE_RATE);
    let (phases, step) = (SAMPLE_RATE / divisor, rate / divisor);
    let filter = Filter::new(f64::from(rate), phases);
    let (phases, step) = (u64::from(phases), u64::from(step));
    let length = u64::try_from(samples.len()).unwrap_or(0) * phases / step;
    (0..length)
        .map(|n| {
            let position = n * step;
            let phase = usize::try_from(position % phases).unwrap_or(0);
            let at = usize::try_from(position / phases).unwrap_or(usize::MAX);
            to_i16(filter.at(samples, at, phase))
        })
        .collect()
}

struct Filter {
    /// Taps of every phase, one after the other.
    taps: Vec<f32>,
    half: usize,
}

impl Filter {
    fn new(rate: f64, phases: u32) -> Self {
        let lower = rate.min(f64::from(SAMPLE_RATE));
        // Cut-off in cycles per input sample, times two.
        let cutoff = PASS * lower / rate;
        let reach = CROSSINGS / cutoff;
        let half = reach.ceil() as usize;
        let mut taps = Vec::new();
        for phase in 0..phases {
            let shift = f64::from(phase) / f64::from(phases);
            let raw: Vec<f64> = (0..2 * half)
                .map(|tap| {
                    let distance = (tap as f64 - (half as f64 - 1.0)) - shift;
                    sinc(distance * cutoff) * window(distance / (reach + 1.0))
                })
                .collect();
            // Each phase passes a constant unchanged, whatever the window cut off.
            let sum: f64 = raw.iter().sum();
            taps.extend(raw.iter().map(|tap| (tap / sum) as f32));
        }
        Self { taps, half }
    }

    fn at(&self, samples: &[f32], at: usize, phase: usize) -> f32 {
        let width = 2 * self.half;
        let taps = self.taps.chunks_exact(width).nth(phase).unwrap_or_default();
        // Tap 0 lies half − 1 samples before; outside the clip there is silence.
        let before = (self.half - 1).saturating_sub(at);
        let from = at.saturating_sub(self.half - 1);
        let rest = samples.get(from..).unwrap_or_default();
        taps.iter()
            .skip(before)
            .zip(rest)
            .map(|(tap, sample)| tap * sample)
            .sum()
    }
}

fn sinc(x: f64) -> f64 {
    let angle = std::f64::consts::PI * x;
    if angle.abs() < 1e-9 {
        1.0
    } else {
        angle.sin() / angle
    }
}

/// Blackman window over −1…1.
fn window(x: f64) -> f64 {
    if x.abs() >= 1.0 {
        return 0.0;
    }
    let angle = std::f64::consts::PI * x;
    0.42 + 0.5 * angle.cos() + 0.08 * (2.0 * angle).cos()
}

fn to_i16(sample: f32) -> i16 {
    sample
        .round()
        .clamp(f32::from(i16::MIN), f32::from(i16::MAX)) as i16
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn sine(rate: u32, hz: f64, seconds: f64) -> Vec<f32> {
        let count = (f64::from(rate) * seconds) as usize;
        let step = TAU * hz / f64::from(rate);
        (0..count)
            .map(|n| ((step * n as f64).sin() * 10_000.0) as f32)
            .collect()
    }

    fn loudness(samples: &[i16]) -> f64 {
        // Without the ends, where the filter meets the silence around the clip.
        let middle = &samples[400..samples.len() - 400];
        let power: f64 = middle.iter().map(|s| f64::from(*s).powi(2)).sum();
        (power / middle.len() as f64).sqrt()
    }

    #[test]
    fn tones_keep_their_level_and_frequency_from_every_usual_rate() {
        for rate in [
            11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000,
        ] {
            assert!(supported(rate));
            let out = to_8000(&sine(rate, 440.0, 0.5), rate);
            assert!((3_999..=4_000).contains(&out.len()), "{rate}");
            let wanted = sine(8_000, 440.0, 0.5);
            let worst = out.iter().zip(&wanted).skip(400).take(3_200);
            let worst = worst
                .map(|(a, b)| (f32::from(*a) - b).abs())
                .fold(0.0, f32::max);
            assert!(worst < 60.0, "{rate}: off by {worst}");
        }
        assert!(!supported(0) && !supported(44_101) && !supported(400_000));
    }

    #[test]
    fn what_8_khz_cannot_carry_is_taken_out() {
        for hz in [4_600.0, 6_000.0, 15_000.0] {
            let out = to_8000(&sine(48_000, hz, 0.5), 48_000);
            assert!(loudness(&out) < 10.0, "{hz} Hz leaks at {}", loudness(&out));
        }
        let kept = loudness(&to_8000(&sine(48_000, 3_000.0, 0.5), 48_000));
        assert!((kept - 7_071.0).abs() < 80.0, "{kept}");
    }
}
