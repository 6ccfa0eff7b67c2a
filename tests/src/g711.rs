//! G.711 µ-law for the test phones, written apart from the product's codec on purpose.

/// Added to the magnitude before the segment is found (ITU-T G.711, table 2a).
const BIAS: i32 = 0x84;
/// The largest magnitude that can be coded.
const CLIP: i32 = 32_635;

/// Codes one 16-bit sample.
pub fn encode(sample: i16) -> u8 {
    let sign: u8 = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(CLIP) + BIAS;
    let segment = (magnitude.ilog2().saturating_sub(7)).min(7);
    let mantissa = (magnitude >> (segment + 3)) & 0x0F;
    let code = u8::try_from(segment << 4).expect("segment is at most 7")
        | u8::try_from(mantissa).expect("masked to four bits");
    !(sign | code)
}

/// Decodes one byte to a 16-bit sample.
pub fn decode(byte: u8) -> i16 {
    let code = !byte;
    let segment = (code >> 4) & 0x07;
    let magnitude = (((i32::from(code & 0x0F)) << 3) + BIAS) << segment;
    let value = magnitude - BIAS;
    let signed = if code & 0x80 != 0 { -value } else { value };
    i16::try_from(signed).expect("the largest coded magnitude is 32124")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_a_round_trip() {
        for byte in 0..=u8::MAX {
            let sample = decode(byte);
            // 0x7F and 0xFF both mean zero.
            assert_eq!(decode(encode(sample)), sample, "code {byte:#04x}");
        }
    }

    #[test]
    fn known_values_of_the_table() {
        assert_eq!(decode(0x80), 32_124);
        assert_eq!(decode(0x00), -32_124);
        assert_eq!(encode(0), 0xFF);
    }
}
