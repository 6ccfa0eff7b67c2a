//! Cutting a byte stream into messages by Content-Length (RFC 3261 §18.3, RFC 5626 §3.5.1).

use crate::limits;
use crate::message::{ParseError, parse_length};

/// What a stream holds next.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message.
    Message(Vec<u8>),
    /// A double CRLF: the peer wants a CRLF back.
    Ping,
}

/// The unread part of one stream; never longer than one message and one read.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    scanned: usize,
}

impl Framer {
    /// An empty stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// True when part of a message waits for the rest.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next frame, or `None` until more is read.
    ///
    /// # Errors
    /// [`ParseError`] when the stream cannot be framed; it must be closed then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ParseError> {
        if self.buffer.starts_with(b"\r\n\r\n") {
            self.buffer.drain(..4);
            self.scanned = 0;
            return Ok(Some(Frame::Ping));
        }
        // A lone CRLF before a message (or a pong) means nothing (RFC 3261 §7.5).
        if self.buffer.starts_with(b"\r\n") && self.buffer.len() > 3 {
            self.buffer.drain(..2);
            self.scanned = 0;
            return self.next_frame_behind_crlf();
        }
        if self.buffer == b"\r\n" || self.buffer == b"\r\n\r" {
            return Ok(None);
        }
        self.message()
    }

    fn next_frame_behind_crlf(&mut self) -> Result<Option<Frame>, ParseError> {
        while self.buffer.starts_with(b"\r\n") {
            self.buffer.drain(..2);
        }
        self.message()
    }

    fn message(&mut self) -> Result<Option<Frame>, ParseError> {
        let from = self.scanned.saturating_sub(3);
        let found = self
            .buffer
            .get(from..)
            .and_then(|rest| rest.windows(4).position(|w| w == b"\r\n\r\n"));
        let Some(found) = found else {
            self.scanned = self.buffer.len();
            if self.buffer.len() > limits::MESSAGE_BYTES_MAX {
                return Err(ParseError::new("message too large", None));
            }
            return Ok(None);
        };
        let head = from + found + 4;
        self.scanned = from + found;
        let length = parse_length(self.buffer.get(..head).unwrap_or_default())?;
        let end = head + length;
        if end > limits::MESSAGE_BYTES_MAX {
            return Err(ParseError::new("message too large", None));
        }
        if self.buffer.len() < end {
            return Ok(None);
        }
        self.scanned = 0;
        Ok(Some(Frame::Message(self.buffer.drain(..end).collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 4\r\n\r\nbody";

    fn frames(framer: &mut Framer) -> Vec<Frame> {
        std::iter::from_fn(|| framer.next_frame().expect("frames")).collect()
    }

    #[test]
    fn messages_come_out_whole_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        stream.extend_from_slice(b"\r\n");
        stream.extend_from_slice(ONE);
        stream.extend_from_slice(ONE);
        for cut in 1..stream.len() {
            let mut framer = Framer::new();
            let mut out = Vec::new();
            for part in stream.chunks(cut) {
                framer.push(part);
                out.extend(frames(&mut framer));
            }
            assert_eq!(out.len(), 2, "cut every {cut}");
            assert!(out.iter().all(|f| *f == Frame::Message(ONE.to_vec())));
            assert!(!framer.is_partial());
        }
    }

    #[test]
    fn a_double_crlf_is_a_ping_and_a_missing_length_is_fatal() {
        let mut framer = Framer::new();
        framer.push(b"\r\n\r\n");
        assert_eq!(frames(&mut framer), vec![Frame::Ping]);
        framer.push(b"OPTIONS sip:a SIP/2.0\r\n\r\n");
        assert!(framer.next_frame().is_err());
        let mut framer = Framer::new();
        framer.push(b"OPTIONS sip:a SIP/2.0\r\nl: 99999999\r\n\r\n");
        assert!(framer.next_frame().is_err());
        let mut framer = Framer::new();
        framer.push(&vec![b'x'; limits::MESSAGE_BYTES_MAX + 1]);
        assert!(framer.next_frame().is_err());
    }
}
