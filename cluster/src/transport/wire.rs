//! Frames on a stream: one request, one answer, then the stream ends.
//!
//! Request: kind (1 byte), body. Answer: 0 and the body, or 1 and a sentence.

use quinn::{RecvStream, SendStream, VarInt};

use crate::limits;

/// What a stream is for. The numbers are on the wire and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Vote in an election.
    Vote = 1,
    /// Would you vote.
    PreVote = 2,
    /// Entries and heartbeats.
    Append = 3,
    /// Take over leadership.
    Transfer = 4,
    /// A snapshot, streamed.
    Snapshot = 5,
    /// Proposals for the leader.
    Propose = 6,
    /// A command of the cluster itself, for the leader.
    Own = 7,
    /// Renew my lease.
    Lease = 8,
    /// I am up, at this address.
    Hello = 9,
    /// Where does your log end.
    Position = 10,
    /// A request of the daemon, ordinary lane.
    Call = 11,
    /// A request of the daemon, bulk lane.
    CallBulk = 12,
    /// Remove a member; for the leader.
    Remove = 13,
    /// Here I stand; have I been further.
    Vouch = 14,
    /// I lead now; how long is it since you heard of another leader.
    OtherLeader = 15,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::Vote,
        Self::PreVote,
        Self::Append,
        Self::Transfer,
        Self::Snapshot,
        Self::Propose,
        Self::Own,
        Self::Lease,
        Self::Hello,
        Self::Position,
        Self::Call,
        Self::CallBulk,
        Self::Remove,
        Self::Vouch,
        Self::OtherLeader,
    ];

    /// The kind with this number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Streams of a higher priority are sent first.
    pub fn priority(self) -> i32 {
        match self {
            Self::Vote
            | Self::PreVote
            | Self::Transfer
            | Self::Lease
            | Self::Position
            | Self::OtherLeader => 20,
            Self::Append => 10,
            Self::Propose | Self::Own | Self::Hello | Self::Call | Self::Remove | Self::Vouch => 0,
            Self::Snapshot | Self::CallBulk => -10,
        }
    }
}

const OK: u8 = 0;
const REFUSED: u8 = 1;

/// Why a frame could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The stream or connection ended.
    #[error("{0}")]
    Stream(String),
    /// The peer answered with a refusal.
    #[error("{0}")]
    Refused(String),
}

impl WireError {
    /// From any error of the transport.
    pub fn stream(error: impl std::fmt::Display) -> Self {
        Self::Stream(error.to_string())
    }
}

/// Sends a whole request and ends our side.
pub async fn send_request(
    stream: &mut SendStream,
    kind: Kind,
    body: &[u8],
) -> Result<(), WireError> {
    stream
        .set_priority(kind.priority())
        .map_err(WireError::stream)?;
    let mut frame = Vec::with_capacity(1 + body.len());
    frame.push(kind as u8);
    frame.extend_from_slice(body);
    stream
        .write_chunk(frame.into())
        .await
        .map_err(WireError::stream)?;
    stream.finish().map_err(WireError::stream)
}

/// Reads a whole answer.
pub async fn read_answer(stream: &mut RecvStream) -> Result<Vec<u8>, WireError> {
    let mut frame = stream
        .read_to_end(limits::RPC_BYTES_MAX)
        .await
        .map_err(WireError::stream)?;
    match frame.first() {
        Some(&OK) => {
            frame.remove(0);
            Ok(frame)
        }
        Some(&REFUSED) => Err(WireError::Refused(
            String::from_utf8_lossy(&frame[1..]).into_owned(),
        )),
        _ => Err(WireError::Stream("an answer of an unknown form".to_owned())),
    }
}

/// Sends an answer and ends our side.
pub async fn send_answer(stream: &mut SendStream, answer: Result<Vec<u8>, String>) {
    let (status, body) = match answer {
        Ok(body) => (OK, body),
        Err(why) => (REFUSED, why.into_bytes()),
    };
    let mut frame = Vec::with_capacity(1 + body.len());
    frame.push(status);
    frame.extend_from_slice(&body);
    // A peer that stopped listening needs no answer.
    if stream.write_chunk(frame.into()).await.is_ok() {
        let _ = stream.finish();
    }
}

/// Reads the kind of a request.
pub async fn read_kind(stream: &mut RecvStream) -> Option<Kind> {
    let mut byte = [0];
    stream.read_exact(&mut byte).await.ok()?;
    Kind::from_byte(byte[0])
}

/// Sends one frame of a stream that goes on: length, then bytes.
pub async fn send_frame(stream: &mut SendStream, body: &[u8]) -> Result<(), WireError> {
    let length = u32::try_from(body.len()).map_err(WireError::stream)?;
    stream
        .write_all(&length.to_be_bytes())
        .await
        .map_err(WireError::stream)?;
    stream.write_all(body).await.map_err(WireError::stream)
}

/// Reads one frame of a stream that goes on, at most `max` bytes.
pub async fn read_frame(stream: &mut RecvStream, max: usize) -> Result<Vec<u8>, WireError> {
    let mut length = [0; 4];
    stream
        .read_exact(&mut length)
        .await
        .map_err(WireError::stream)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > max {
        return Err(WireError::Stream(format!("a frame of {length} bytes")));
    }
    let mut body = vec![0; length];
    stream
        .read_exact(&mut body)
        .await
        .map_err(WireError::stream)?;
    Ok(body)
}

/// Close code: the peer may not be here.
pub const CLOSE_REFUSED: VarInt = VarInt::from_u32(1);
/// Close code: the node ends or drops the peer.
pub const CLOSE_GONE: VarInt = VarInt::from_u32(2);
/// Reset code of a stream: nobody waits for the answer any more.
pub const WITHDRAWN: VarInt = VarInt::from_u32(3);
