//! G.711 by tables made at compile time: decode, encode, and A↔µ transcoding in one look-up.
//!
//! ITU-T G.711; encoding rounds as the reference coders do. Transcoding goes through linear
//! PCM, so silence stays silence and a second transcoding changes nothing more.

use crate::types::Codec;

/// Largest linear magnitude before the µ-law bias overflows its segments.
const MU_CLIP: i32 = 32_635;
/// Shifts the µ-law segments so that each begins at a power of two.
const MU_BIAS: i32 = 0x84;

static MU_TO_LINEAR: [i16; 256] = table_linear(Codec::Pcmu);
static A_TO_LINEAR: [i16; 256] = table_linear(Codec::Pcma);
static MU_TO_A: [u8; 256] = table_transcode(Codec::Pcmu, Codec::Pcma);
static A_TO_MU: [u8; 256] = table_transcode(Codec::Pcma, Codec::Pcmu);

/// One sample to the codec's byte.
pub(crate) const fn encode(codec: Codec, sample: i16) -> u8 {
    match codec {
        Codec::Pcmu => encode_mu(sample),
        Codec::Pcma => encode_a(sample),
    }
}

/// One byte of the codec to a sample.
pub(crate) fn decode(codec: Codec, byte: u8) -> i16 {
    match codec {
        Codec::Pcmu => MU_TO_LINEAR[usize::from(byte)],
        Codec::Pcma => A_TO_LINEAR[usize::from(byte)],
    }
}

/// Copies `from` to `to` (as far as both go), changing the codec where they differ. Returns the
/// bytes written.
pub(crate) fn transcode(source: Codec, from: &[u8], target: Codec, to: &mut [u8]) -> usize {
    let table = match (source, target) {
        (Codec::Pcmu, Codec::Pcma) => &MU_TO_A,
        (Codec::Pcma, Codec::Pcmu) => &A_TO_MU,
        (Codec::Pcmu, Codec::Pcmu) | (Codec::Pcma, Codec::Pcma) => {
            let length = from.len().min(to.len());
            if let (Some(to), Some(from)) = (to.get_mut(..length), from.get(..length)) {
                to.copy_from_slice(from);
            }
            return length;
        }
    };
    to.iter_mut()
        .zip(from)
        .map(|(to, from)| *to = table[usize::from(*from)])
        .count()
}

const fn encode_mu(sample: i16) -> u8 {
    let wide = sample as i32;
    let sign = if wide < 0 { 0x80 } else { 0 };
    let magnitude = if wide < 0 { -wide } else { wide };
    let biased = (if magnitude > MU_CLIP {
        MU_CLIP
    } else {
        magnitude
    }) + MU_BIAS;
    // The segment is the place of the highest bit above bit 7.
    let segment = 24 - biased.leading_zeros() as i32;
    let mantissa = (biased >> (segment + 3)) & 0x0f;
    !(sign | (segment << 4) | mantissa) as u8
}

const fn encode_a(sample: i16) -> u8 {
    // Thirteen bits count; negative values are mirrored so that -1 falls into the lowest step.
    let wide = (sample as i32) >> 3;
    let (mask, magnitude) = if wide >= 0 {
        (0xd5, wide)
    } else {
        (0x55, -wide - 1)
    };
    let byte = if magnitude < 32 {
        magnitude >> 1
    } else {
        let segment = 27 - magnitude.leading_zeros() as i32;
        (segment << 4) | ((magnitude >> segment) & 0x0f)
    };
    (byte ^ mask) as u8
}

const fn decode_mu(byte: u8) -> i16 {
    let value = !byte as i32;
    let magnitude = ((((value & 0x0f) << 3) + MU_BIAS) << ((value & 0x70) >> 4)) - MU_BIAS;
    (if value & 0x80 != 0 {
        -magnitude
    } else {
        magnitude
    }) as i16
}

const fn decode_a(byte: u8) -> i16 {
    let value = (byte ^ 0x55) as i32;
    let segment = (value & 0x70) >> 4;
    let step = ((value & 0x0f) << 4) + 8;
    let magnitude = if segment == 0 {
        step
    } else {
        (step + 0x100) << (segment - 1)
    };
    (if value & 0x80 != 0 {
        magnitude
    } else {
        -magnitude
    }) as i16
}

const fn table_linear(codec: Codec) -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match codec {
            Codec::Pcmu => decode_mu(byte as u8),
            Codec::Pcma => decode_a(byte as u8),
        };
        byte += 1;
    }
    table
}

const fn table_transcode(source: Codec, target: Codec) -> [u8; 256] {
    let linear = table_linear(source);
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = encode(target, linear[byte]);
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_decoding_and_encoding() {
        for byte in 0..=255u8 {
            assert_eq!(encode(Codec::Pcma, decode(Codec::Pcma, byte)), byte);
            // µ-law has two zeros; the negative one comes back as the positive one.
            let wanted = if byte == 0x7f { 0xff } else { byte };
            assert_eq!(encode(Codec::Pcmu, decode(Codec::Pcmu, byte)), wanted);
        }
    }

    #[test]
    fn decoding_agrees_with_another_implementation() {
        use audio_codec::{Decoder, pcma::PcmaDecoder, pcmu::PcmuDecoder};
        let bytes: Vec<u8> = (0..=255).collect();
        let ours = |codec| bytes.iter().map(|b| decode(codec, *b)).collect::<Vec<_>>();
        let theirs = |decoder: &mut dyn Decoder| {
            let mut linear = vec![0; bytes.len()];
            decoder
                .decode_into(&bytes, &mut linear)
                .expect("as many samples as bytes");
            linear
        };
        assert_eq!(theirs(&mut PcmuDecoder::new()), ours(Codec::Pcmu));
        assert_eq!(theirs(&mut PcmaDecoder::new()), ours(Codec::Pcma));
    }

    #[test]
    fn every_sample_encodes_to_one_of_the_nearest_values() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            for sample in (i16::MIN..=i16::MAX).step_by(7) {
                let error =
                    (i32::from(decode(codec, encode(codec, sample))) - i32::from(sample)).abs();
                // Half a step of the segment, plus the clipped top.
                let allowed = (i32::from(sample).abs() / 32).max(8) + 16;
                assert!(error <= allowed, "{codec:?} {sample} is off by {error}");
            }
        }
    }

    #[test]
    fn transcoding_keeps_silence_and_settles() {
        let mut once = [0; 256];
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(transcode(Codec::Pcmu, &bytes, Codec::Pcma, &mut once), 256);
        assert_eq!(once[0xff], 0xd5);
        let (mut back, mut again) = ([0; 256], [0; 256]);
        transcode(Codec::Pcma, &once, Codec::Pcmu, &mut back);
        transcode(Codec::Pcmu, &back, Codec::Pcma, &mut again);
        assert_eq!(once, again);
        let mut short = [0; 3];
        assert_eq!(transcode(Codec::Pcmu, &bytes, Codec::Pcmu, &mut short), 3);
        assert_eq!(short, [0, 1, 2]);
    }
}
