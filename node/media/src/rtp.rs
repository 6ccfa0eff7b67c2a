//! The RTP header (RFC 3550 §5.1): read with every length checked, written without options.
//!
//! Nothing is interpreted here; extension and CSRC entries are skipped, padding is taken off.

/// Bytes of a header without CSRC and extension.
pub(crate) const HEADER: usize = 12;

/// A received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None` when the bytes are no RTP packet: short, another version, CSRC list, extension
    /// or padding longer than the packet, padding of no bytes.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, mut rest) = bytes.split_first_chunk::<HEADER>()?;
        let [flags, kind, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *header;
        if flags >> 6 != 2 {
            return None;
        }
        rest = rest.get(usize::from(flags & 0x0f) * 4..)?;
        if flags & 0x10 != 0 {
            let (extension, after) = rest.split_first_chunk::<4>()?;
            let [_, _, high, low] = *extension;
            rest = after.get(usize::from(u16::from_be_bytes([high, low])) * 4..)?;
        }
        if flags & 0x20 != 0 {
            let padding = usize::from(*rest.last()?);
            if padding == 0 {
                return None;
            }
            rest = rest.get(..rest.len().checked_sub(padding)?)?;
        }
        Some(Self {
            marker: kind & 0x80 != 0,
            payload_type: kind & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            payload: rest,
        })
    }
}

/// What stands in a header we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

impl Header {
    /// Writes the header; returns the room behind it, `None` when there is not enough.
    pub(crate) fn write<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let (head, body) = buffer.split_first_chunk_mut::<HEADER>()?;
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let kind = (self.payload_type & 0x7f) | if self.marker { 0x80 } else { 0 };
        *head = [0x80, kind, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![flags, 0x88, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn a_written_header_reads_back() {
        let header = Header {
            marker: true,
            payload_type: 101,
            sequence: 9,
            timestamp: 77,
            ssrc: 5,
        };
        let mut buffer = [7; 20];
        let body = header.write(&mut buffer).expect("room");
        assert_eq!(body.len(), 8);
        let read = Packet::parse(&buffer).expect("valid");
        assert_eq!(
            (read.marker, read.payload_type, read.sequence),
            (true, 101, 9)
        );
        assert_eq!(
            (read.timestamp, read.ssrc, read.payload),
            (77, 5, &[7u8; 8][..])
        );
        assert!(header.write(&mut [0; 11]).is_none());
    }

    #[test]
    fn csrc_extension_and_padding_are_taken_off() {
        let mut rest = vec![0; 4];
        rest.extend_from_slice(&[0xbe, 0xde, 0, 1, 1, 1, 1, 1]);
        rest.extend_from_slice(&[42, 43, 0, 2]);
        let bytes = packet(0xb1, &rest);
        assert_eq!(
            Packet::parse(&bytes).map(|p| p.payload),
            Some(&[42u8, 43][..])
        );
    }

    #[test]
    fn packets_that_lie_about_their_length_are_refused() {
        assert!(Packet::parse(&[]).is_none());
        assert!(Packet::parse(&packet(0x80, &[])[..11]).is_none());
        assert!(Packet::parse(&packet(0x40, &[1, 2])).is_none(), "version 1");
        assert!(
            Packet::parse(&packet(0x8f, &[0; 59])).is_none(),
            "15 CSRC need 60 bytes"
        );
        assert!(
            Packet::parse(&packet(0x90, &[0; 3])).is_none(),
            "extension header cut"
        );
        assert!(Packet::parse(&packet(0x90, &[0, 0, 0, 2, 0, 0, 0, 0])).is_none());
        assert!(
            Packet::parse(&packet(0xa0, &[1, 2, 4])).is_none(),
            "padding beyond payload"
        );
        assert!(
            Packet::parse(&packet(0xa0, &[1, 2, 0])).is_none(),
            "padding of nothing"
        );
        assert!(Packet::parse(&packet(0xa0, &[])).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.payload.len() + HEADER <= bytes.len());
            }
        }
    }
}
