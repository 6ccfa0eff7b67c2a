//! The voice of a demonstration's phone: one RTP socket, one tone, 20 ms packets.
//!
//! It sends whatever is agreed and throws away what it hears (RFC 3550 §5.1, RFC 3551).
//! Nothing here is used by the exchange.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use strowger_media::{Clip, Tone};
use strowger_sip::sdp::{Answered, Codec, Direction, LocalMedia};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Time one packet covers.
const PACKET: Duration = Duration::from_millis(20);
/// Samples of 8 kHz in a packet.
const SAMPLES: usize = 160;
/// Packets read for each one sent; what is left is dropped by the system.
const HEARD_MAX: usize = 8;

/// A phone's ear and mouth.
#[derive(Debug)]
pub(super) struct Voice {
    socket: Arc<UdpSocket>,
    address: SocketAddr,
    tone: Arc<Clip>,
    speaking: Option<JoinHandle<()>>,
}

impl Voice {
    /// A voice at any port of `ip` that sounds as a third above `hz`.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn open(ip: IpAddr, hz: u16) -> std::io::Result<Self> {
        let socket = UdpSocket::bind((ip, 0)).await?;
        let address = socket.local_addr()?;
        let third = hz.saturating_add(hz / 4);
        Ok(Self {
            socket: Arc::new(socket),
            address,
            tone: Tone::Dual(hz, third).clip(),
            speaking: None,
        })
    }

    /// Our side of a call.
    pub(super) fn media(&self) -> LocalMedia {
        LocalMedia {
            ip: self.address.ip(),
            port: self.address.port(),
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            direction: Direction::SendRecv,
            session: rand::random::<u32>().into(),
            previous: None,
        }
    }

    /// Speaks as agreed from now on.
    pub(super) fn speak(&mut self, agreed: &Answered) {
        self.hush();
        let Some(remote) = agreed.remote.filter(|_| agreed.direction.sends()) else {
            return;
        };
        let codec = match agreed.codec {
            Codec::Pcmu => strowger_media::Codec::Pcmu,
            Codec::Pcma => strowger_media::Codec::Pcma,
        };
        let (socket, tone) = (Arc::clone(&self.socket), Arc::clone(&self.tone));
        let number = agreed.payload_type;
        self.speaking = Some(tokio::spawn(async move {
            speak(&socket, remote, number, tone.encoded(codec)).await;
        }));
    }

    /// Says no more.
    pub(super) fn hush(&mut self) {
        if let Some(speaking) = self.speaking.take() {
            speaking.abort();
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.hush();
    }
}

async fn speak(socket: &UdpSocket, remote: SocketAddr, payload_type: u8, sound: &[u8]) {
    let mut every = tokio::time::interval(PACKET);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let source = rand::random::<u32>();
    let mut sequence = rand::random::<u16>();
    let mut timestamp = rand::random::<u32>();
    let mut heard = [0u8; 512];
    let mut first = true;
    for piece in sound.chunks_exact(SAMPLES).cycle() {
        every.tick().await;
        let packet = packet(first, payload_type, sequence, timestamp, source, piece);
        // A packet that cannot be sent is lost, as on any network.
        let _ = socket.try_send_to(&packet, remote);
        for _ in 0..HEARD_MAX {
            if socket.try_recv_from(&mut heard).is_err() {
                break;
            }
        }
        first = false;
        sequence = sequence.wrapping_add(1);
        timestamp = timestamp.wrapping_add(SAMPLES as u32);
    }
}

/// An RTP packet (RFC 3550 §5.1); the first of a talk spurt is marked (RFC 3551 §4.1).
fn packet(
    first: bool,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    source: u32,
    piece: &[u8],
) -> Vec<u8> {
    let mut packet = Vec::with_capacity(12 + piece.len());
    packet.extend([0x80, (u8::from(first) << 7) | (payload_type & 0x7f)]);
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(source.to_be_bytes());
    packet.extend(piece);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use strowger_sip::sdp;

    #[tokio::test]
    async fn a_voice_sends_its_tone_until_it_is_hushed() {
        let ip: IpAddr = "127.0.0.1".parse().expect("an address");
        let ear = UdpSocket::bind((ip, 0)).await.expect("bind");
        let mut voice = Voice::open(ip, 400).await.expect("bind");
        let there = LocalMedia {
            port: ear.local_addr().expect("bound").port(),
            ..voice.media()
        };
        let agreed = sdp::answer(&sdp::offer(&there), &voice.media()).expect("common codec");
        voice.speak(&agreed);
        let mut buffer = [0u8; 512];
        let mut sequences = Vec::new();
        for _ in 0..3 {
            let (length, _) = ear.recv_from(&mut buffer).await.expect("heard");
            assert_eq!((length, buffer[0], buffer[1] & 0x7f), (172, 0x80, 0));
            sequences.push(u16::from_be_bytes([buffer[2], buffer[3]]));
        }
        assert_eq!(sequences[1], sequences[0].wrapping_add(1));
        assert_eq!(sequences[2], sequences[1].wrapping_add(1));
        voice.hush();
        assert!(voice.speaking.is_none());
    }
}
