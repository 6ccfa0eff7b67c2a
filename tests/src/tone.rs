//! Tones as identity: each phone sends its own frequency, the other end recognises it.

use std::f64::consts::TAU;
use std::path::Path;

/// Samples per second of everything here.
pub const RATE: u32 = 8_000;
/// A tone counts as heard when it holds at least this share of the energy.
const SHARE_MIN: f64 = 0.5;
/// Below this mean square (full scale = 1) a stretch counts as silence.
const SILENCE: f64 = 1e-5;

/// The sample at position `n` of a tone of `hz` at about half of full scale.
pub fn sample(hz: u32, n: u64) -> i16 {
    let phase = TAU * f64::from(hz) * ((n % u64::from(RATE)) as f64) / f64::from(RATE);
    (phase.sin() * 12_000.0) as i16
}

/// Writes `seconds` of a tone as a mono 16-bit WAV file.
pub fn write_wav(path: &Path, hz: u32, seconds: u32) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).expect("the folder is writable");
    for n in 0..u64::from(RATE * seconds) {
        writer
            .write_sample(sample(hz, n))
            .expect("the disk takes a short file");
    }
    writer.finalize().expect("the disk takes a short file");
}

/// Reads a 16-bit WAV file (channels averaged); returns rate and samples. A file that is
/// still being written states no length yet: it is read as far as it goes.
pub fn read_wav(path: &Path) -> Option<(u32, Vec<i16>)> {
    let bytes = std::fs::read(path).ok()?;
    let word = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (mut channels, mut rate) = (1, RATE);
    // Chunks follow the twelve bytes of `RIFF….WAVE`.
    let mut at = 12;
    loop {
        let length = usize::try_from(long(at + 4)?).ok()?;
        match bytes.get(at..at + 4)? {
            b"fmt " => (channels, rate) = (word(at + 10)?.max(1), long(at + 12)?),
            b"data" => break,
            _ => {}
        }
        at += 8 + length + length % 2;
    }
    let samples = bytes.get(at + 8..)?;
    let mixed = samples
        .chunks_exact(2 * usize::from(channels))
        .map(|frame| {
            let pairs = frame
                .chunks_exact(2)
                .map(|s| i32::from(i16::from_le_bytes([s[0], s[1]])));
            (pairs.sum::<i32>() / i32::from(channels)) as i16
        })
        .collect();
    Some((rate, mixed))
}

/// The share (0 to 1) of the energy of `samples` that lies at `hz`, by Goertzel's method.
pub fn share(samples: &[i16], rate: u32, hz: u32) -> f64 {
    let length = samples.len() as f64;
    let energy: f64 = samples
        .iter()
        .map(|&s| (f64::from(s) / 32_768.0).powi(2))
        .sum();
    if samples.is_empty() || energy / length < SILENCE {
        return 0.0;
    }
    let coefficient = 2.0 * (TAU * f64::from(hz) / f64::from(rate)).cos();
    let (mut s1, mut s2) = (0.0, 0.0);
    for &sample in samples {
        let s0 = f64::from(sample) / 32_768.0 + coefficient * s1 - s2;
        (s2, s1) = (s1, s0);
    }
    let power = s1 * s1 + s2 * s2 - coefficient * s1 * s2;
    (2.0 * power / (length * energy)).min(1.0)
}

/// Which of `candidates` is heard in `samples`, if any.
pub fn heard(samples: &[i16], rate: u32, candidates: &[u32]) -> Option<u32> {
    candidates
        .iter()
        .copied()
        .find(|&hz| share(samples, rate, hz) >= SHARE_MIN)
}

/// How many of the 100 ms stretches of `samples` hold the tone.
pub fn stretches_with(samples: &[i16], rate: u32, hz: u32) -> usize {
    samples
        .chunks_exact((rate / 10) as usize)
        .filter(|stretch| share(stretch, rate, hz) >= SHARE_MIN)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: u32, n: u64) -> Vec<i16> {
        (0..n).map(|i| sample(hz, i)).collect()
    }

    #[test]
    fn a_tone_is_heard_and_its_neighbours_are_not() {
        let samples = tone(440, 1_600);
        assert!(share(&samples, RATE, 440) > 0.98);
        assert!(share(&samples, RATE, 520) < 0.05);
        assert_eq!(heard(&samples, RATE, &[350, 520, 440]), Some(440));
    }

    #[test]
    fn a_tone_survives_the_telephone_codec() {
        let coded: Vec<i16> = tone(620, 800)
            .into_iter()
            .map(|s| crate::g711::decode(crate::g711::encode(s)))
            .collect();
        assert!(share(&coded, RATE, 620) > 0.95);
    }

    #[test]
    fn silence_and_noise_are_no_tone() {
        assert_eq!(heard(&[0; 800], RATE, &[440]), None);
        let mut seed = 1u32;
        let noise: Vec<i16> = (0..1_600)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 16) as u16 as i16
            })
            .collect();
        assert_eq!(heard(&noise, RATE, &[440, 620]), None);
    }

    #[test]
    fn a_wav_file_keeps_its_tone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tone.wav");
        write_wav(&path, 520, 1);
        let (rate, samples) = read_wav(&path).expect("just written");
        assert_eq!((rate, samples.len()), (RATE, 8_000));
        assert_eq!(stretches_with(&samples, rate, 520), 10);
    }
}
