//! Reads WAV files (RIFF): PCM of 8, 16, 24, 32 bits and G.711, any channel count and usual
//! rate, to 8 kHz mono.
//!
//! Every length is checked against the file before it is used, and every refusal names the
//! byte. Chunks that are not needed are skipped.

use crate::g711;
use crate::limits;
use crate::resample;
use crate::types::Codec;

/// Why a file cannot be played. Offsets are bytes from the start of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClipError {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Larger than [`limits::WAV_BYTES_MAX`].
    #[error("the file has {bytes} bytes, {max} are possible", max = limits::WAV_BYTES_MAX)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not a WAV file at all.
    #[error("not a WAV file: expected `{expected}` at byte {offset}")]
    NotWav {
        /// The four letters missing.
        expected: &'static str,
        /// Where they should stand.
        offset: usize,
    },
    /// A chunk says it is longer than the file.
    #[error("truncated: chunk `{chunk}` at byte {offset} needs {needed} bytes, {present} follow")]
    Truncated {
        /// Its name, with unprintable letters replaced.
        chunk: String,
        /// Where its header stands.
        offset: usize,
        /// Bytes it claims.
        needed: usize,
        /// Bytes there are.
        present: usize,
    },
    /// A chunk that must be there is not.
    #[error("no `{chunk}` chunk before byte {offset}")]
    Missing {
        /// Its name.
        chunk: &'static str,
        /// Where the search ended.
        offset: usize,
    },
    /// A field with an impossible value.
    #[error("corrupt: {field} is {value} at byte {offset}")]
    Corrupt {
        /// Which.
        field: &'static str,
        /// What it says.
        value: u32,
        /// Where.
        offset: usize,
    },
    /// A format, width or rate we do not read.
    #[error("unsupported: {field} is {value} at byte {offset}")]
    Unsupported {
        /// Which.
        field: &'static str,
        /// What it says.
        value: u32,
        /// Where.
        offset: usize,
    },
    /// A header and not one sample.
    #[error("no sound: the `data` chunk at byte {offset} is empty")]
    NoSound {
        /// Where the chunk stands.
        offset: usize,
    },
    /// Longer than [`limits::CLIP_SECONDS_MAX`].
    #[error("{seconds} s long, {max} s are possible", max = limits::CLIP_SECONDS_MAX)]
    TooLong {
        /// Its length.
        seconds: u64,
    },
}

const PCM: u16 = 1;
const A_LAW: u16 = 6;
const MU_LAW: u16 = 7;
const EXTENSIBLE: u16 = 0xfffe;

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    G711(Codec),
    Unsigned8,
    /// Bytes per sample, little endian, signed.
    Signed(usize),
}

struct Format {
    coding: Coding,
    channels: usize,
    rate: u32,
}

/// Reads a file to 8 kHz mono samples.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<i16>, ClipError> {
    if bytes.is_empty() {
        return Err(ClipError::Empty);
    }
    if bytes.len() > limits::WAV_BYTES_MAX {
        return Err(ClipError::TooLarge { bytes: bytes.len() });
    }
    for (offset, expected) in [(0, "RIFF"), (8, "WAVE")] {
        if bytes.get(offset..offset + 4) != Some(expected.as_bytes()) {
            return Err(ClipError::NotWav { expected, offset });
        }
    }
    let (format, body, offset) = chunks(bytes)?;
    let frame = format.channels * format.coding.bytes();
    let frames = body.len() / frame;
    if frames == 0 {
        return Err(ClipError::NoSound { offset });
    }
    let seconds = u64::try_from(frames).unwrap_or(u64::MAX) / u64::from(format.rate);
    if seconds > u64::from(limits::CLIP_SECONDS_MAX) {
        return Err(ClipError::TooLong { seconds });
    }
    let mono: Vec<f32> = body
        .chunks_exact(frame)
        .map(|frame| mix(&format, frame))
        .collect();
    Ok(resample::to_8000(&mono, format.rate))
}

/// Finds `fmt ` and `data`; returns the format, the sound and where its chunk stands.
fn chunks(bytes: &[u8]) -> Result<(Format, &[u8], usize), ClipError> {
    let mut format = None;
    let mut offset = 12;
    while let Some((name, length)) = chunk_header(bytes, offset) {
        let start = offset + 8;
        let present = bytes.len() - start;
        let body = bytes.get(start..).and_then(|rest| rest.get(..length));
        let body = body.ok_or_else(|| ClipError::Truncated {
            chunk: printable(name),
            offset,
            needed: length,
            present,
        })?;
        match (&name, &format) {
            (b"fmt ", _) => format = Some(read_format(body, start)?),
            (b"data", Some(_)) => {
                let missing = ClipError::Missing {
                    chunk: "fmt ",
                    offset,
                };
                return Ok((format.ok_or(missing)?, body, offset));
            }
            (b"data", None) => {
                return Err(ClipError::Missing {
                    chunk: "fmt ",
                    offset,
                });
            }
            _ => {}
        }
        // Chunks are padded to even lengths.
        offset = start + length + (length & 1);
    }
    let chunk = if format.is_some() { "data" } else { "fmt " };
    Err(ClipError::Missing {
        chunk,
        offset: offset.min(bytes.len()),
    })
}

fn chunk_header(bytes: &[u8], offset: usize) -> Option<([u8; 4], usize)> {
    let header = bytes.get(offset..)?.first_chunk::<8>()?;
    let [a, b, c, d, l0, l1, l2, l3] = *header;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
    Some(([a, b, c, d], length))
}

fn printable(name: [u8; 4]) -> String {
    name.iter()
        .map(|b| {
            if b.is_ascii_graphic() {
                char::from(*b)
            } else {
                '.'
            }
        })
        .collect()
}

fn read_format(body: &[u8], start: usize) -> Result<Format, ClipError> {
    let short = || ClipError::Truncated {
        chunk: "fmt ".to_owned(),
        offset: start - 8,
        needed: 16,
        present: body.len(),
    };
    let half = |at: usize| {
        let two = body.get(at..).and_then(|rest| rest.first_chunk::<2>());
        two.map(|two| u16::from_le_bytes(*two)).ok_or_else(short)
    };
    let (low, high) = (half(4)?, half(6)?);
    let rate = (u32::from(high) << 16) | u32::from(low);
    let (channels, bits) = (half(2)?, half(14)?);
    let mut tag = half(0)?;
    if tag == EXTENSIBLE {
        // The real format begins the sub-format identifier (WAVEFORMATEXTENSIBLE).
        tag = half(24)?;
    }
    if channels == 0 {
        return Err(ClipError::Corrupt {
            field: "channels",
            value: 0,
            offset: start + 2,
        });
    }
    if !resample::supported(rate) {
        let refusal = if rate == 0 {
            corrupt_rate
        } else {
            unsupported_rate
        };
        return Err(refusal(rate, start + 4));
    }
    let coding = match (tag, bits) {
        (A_LAW, 8) => Coding::G711(Codec::Pcma),
        (MU_LAW, 8) => Coding::G711(Codec::Pcmu),
        (PCM, 8) => Coding::Unsigned8,
        (PCM, 16 | 24 | 32) => Coding::Signed(usize::from(bits / 8)),
        (PCM | A_LAW | MU_LAW, _) => {
            let (field, value) = ("bits per sample", u32::from(bits));
            return Err(ClipError::Unsupported {
                field,
                value,
                offset: start + 14,
            });
        }
        _ => {
            let (field, value) = ("format", u32::from(tag));
            return Err(ClipError::Unsupported {
                field,
                value,
                offset: start,
            });
        }
    };
    let aligned = usize::from(channels) * coding.bytes();
    let align = half(12)?;
    if usize::from(align) != aligned {
        let (field, value) = ("bytes per frame", u32::from(align));
        return Err(ClipError::Corrupt {
            field,
            value,
            offset: start + 12,
        });
    }
    Ok(Format {
        coding,
        channels: usize::from(channels),
        rate,
    })
}

fn corrupt_rate(value: u32, offset: usize) -> ClipError {
    ClipError::Corrupt {
        field: "sample rate",
        value,
        offset,
    }
}

fn unsupported_rate(value: u32, offset: usize) -> ClipError {
    ClipError::Unsupported {
        field: "sample rate",
        value,
        offset,
    }
}

impl Coding {
    fn bytes(self) -> usize {
        match self {
            Self::G711(_) | Self::Unsigned8 => 1,
            Self::Signed(bytes) => bytes,
        }
    }

    /// One sample in the range of sixteen bits.
    fn sample(self, bytes: &[u8]) -> f32 {
        let byte = |n: usize| bytes.get(n).copied().unwrap_or_default();
        match self {
            Self::G711(codec) => f32::from(g711::decode(codec, byte(0))),
            Self::Unsigned8 => (f32::from(byte(0)) - 128.0) * 256.0,
            Self::Signed(width) => {
                // The two highest bytes; what is below sixteen bits is inaudible at 8 kHz G.711.
                f32::from(i16::from_le_bytes([byte(width - 2), byte(width - 1)]))
            }
        }
    }
}

fn mix(format: &Format, frame: &[u8]) -> f32 {
    let samples = frame.chunks_exact(format.coding.bytes());
    let sum: f32 = samples.map(|bytes| format.coding.sample(bytes)).sum();
    sum / format.channels as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).expect("small");
        let mut bytes = [name.as_slice(), &length.to_le_bytes(), body].concat();
        bytes.resize(bytes.len() + body.len() % 2, 0);
        bytes
    }

    fn file(format: [u16; 3], rate: u32, body: &[u8]) -> Vec<u8> {
        let [tag, channels, bits] = format;
        let align = channels * bits / 8;
        let mut fmt = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
        fmt.extend([rate.to_le_bytes(), (rate * u32::from(align)).to_le_bytes()].concat());
        fmt.extend([align.to_le_bytes(), bits.to_le_bytes()].concat());
        let chunks = [
            chunk(b"fmt ", &fmt),
            chunk(b"LIST", b"odd"),
            chunk(b"data", body),
        ]
        .concat();
        chunk(b"RIFF", &[b"WAVE".as_slice(), &chunks].concat())
    }

    #[test]
    fn pcm_and_g711_mono_and_stereo_are_read() {
        let sixteen = file([PCM, 1, 16], 8_000, &[1, 0, 0, 0x80]);
        assert_eq!(read(&sixteen), Ok(vec![1, i16::MIN]));
        let stereo = file([PCM, 2, 16], 8_000, &[10, 0, 30, 0]);
        assert_eq!(read(&stereo), Ok(vec![20]));
        assert_eq!(
            read(&file([PCM, 1, 8], 8_000, &[128, 129])),
            Ok(vec![0, 256])
        );
        assert_eq!(
            read(&file([PCM, 1, 24], 8_000, &[9, 2, 1])),
            Ok(vec![0x102])
        );
        assert_eq!(
            read(&file([MU_LAW, 1, 8], 8_000, &[0xff, 0x00])),
            Ok(vec![0, -32_124])
        );
        assert_eq!(read(&file([A_LAW, 1, 8], 8_000, &[0xd5])), Ok(vec![8]));
        let slow = file([PCM, 1, 16], 16_000, &[0; 64]);
        assert_eq!(read(&slow).map(|pcm| pcm.len()), Ok(16));
    }

    #[test]
    fn a_file_of_another_writer_is_read() {
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 44_100,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).expect("in memory");
        for _ in 0..44_100 {
            writer.write_sample(1_000i16).expect("in memory");
            writer.write_sample(3_000i16).expect("in memory");
        }
        writer.finalize().expect("in memory");
        let pcm = read(bytes.get_ref()).expect("valid");
        assert_eq!(pcm.len(), 8_000);
        assert!(pcm[200..7_800].iter().all(|s| (1_999..=2_001).contains(s)));
    }

    #[test]
    fn refusals_say_what_and_where() {
        let good = file([PCM, 1, 16], 8_000, &[1, 0, 2, 0]);
        assert_eq!(read(&[]), Err(ClipError::Empty));
        assert_eq!(
            read(b"ID3"),
            Err(ClipError::NotWav {
                expected: "RIFF",
                offset: 0
            })
        );
        assert_eq!(
            read(&good[..10]),
            Err(ClipError::NotWav {
                expected: "WAVE",
                offset: 8
            })
        );
        assert_eq!(
            read(&good[..12]),
            Err(ClipError::Missing {
                chunk: "fmt ",
                offset: 12
            })
        );
        assert_eq!(
            read(&good[..48]),
            Err(ClipError::Missing {
                chunk: "data",
                offset: 48
            })
        );
        let cut = read(&good[..good.len() - 1]);
        let wanted = "truncated: chunk `data` at byte 48 needs 4 bytes, 3 follow";
        assert_eq!(
            cut.map_err(|error| error.to_string()),
            Err(wanted.to_owned())
        );
        let silent = file([PCM, 1, 16], 8_000, &[]);
        assert_eq!(read(&silent), Err(ClipError::NoSound { offset: 48 }));
        let mut channels = good.clone();
        channels[22] = 0;
        let corrupt = ClipError::Corrupt {
            field: "channels",
            value: 0,
            offset: 22,
        };
        assert_eq!(read(&channels), Err(corrupt));
        let mut align = good.clone();
        align[32] = 7;
        let corrupt = ClipError::Corrupt {
            field: "bytes per frame",
            value: 7,
            offset: 32,
        };
        assert_eq!(read(&align), Err(corrupt));
        let refused = |file: Vec<u8>| match read(&file) {
            Err(ClipError::Unsupported {
                field,
                value,
                offset,
            }) => (field, value, offset),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(file([3, 1, 32], 8_000, &[0; 4])), ("format", 3, 20));
        assert_eq!(
            refused(file([PCM, 1, 64], 8_000, &[0; 8])),
            ("bits per sample", 64, 34)
        );
        assert_eq!(
            refused(file([PCM, 1, 16], 44_101, &[0; 2])),
            ("sample rate", 44_101, 24)
        );
        let long = vec![0; 8_000 * 1_802];
        let too_long = ClipError::TooLong { seconds: 1_802 };
        assert_eq!(read(&file([A_LAW, 1, 8], 8_000, &long)), Err(too_long));
    }

    proptest! {
        #[test]
        fn damaged_files_are_refused_or_read_but_do_no_harm(
            at in 0usize..56, value: u8, cut in 0usize..56,
        ) {
            let mut bytes = file([PCM, 1, 16], 8_000, &[1, 0, 2, 0]);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let _ = read(&bytes);
        }
    }
}
