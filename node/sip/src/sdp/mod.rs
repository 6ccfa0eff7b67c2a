//! Session descriptions (RFC 8866): reading and writing what a voice session needs.
//!
//! The parser keeps what it does not interpret out of the result: whatever we send is written
//! anew from typed values. Offer and answer are in [`answer`].

mod negotiate;
mod text;

pub use negotiate::{
    Answered, Codec, LocalMedia, NegotiateError, Refused, accept_answer, answer, offer,
};
pub use text::{SdpError, parse};

use std::fmt;
use std::net::IpAddr;

/// Which way audio flows, seen from the side that wrote the description (RFC 8866 §6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// The writer only sends.
    SendOnly,
    /// The writer only receives.
    RecvOnly,
    /// Neither way.
    Inactive,
}

impl Direction {
    /// The attribute name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [
            Self::SendRecv,
            Self::SendOnly,
            Self::RecvOnly,
            Self::Inactive,
        ]
        .into_iter()
        .find(|direction| direction.as_str() == name)
    }

    /// True when the writer sends.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// True when the writer wants to receive.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The direction with this sending and receiving.
    #[must_use]
    pub fn of(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }
}

/// One payload type of a media description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// RTP payload type.
    pub number: u8,
    /// Encoding name, from `rtpmap` or the static assignment of RFC 3551.
    pub name: String,
    /// Clock rate in Hz.
    pub rate: u32,
    /// `fmtp` parameters.
    pub fmtp: Option<String>,
}

/// One `m=` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video` …
    pub kind: String,
    /// Port; 0 refuses or removes the medium.
    pub port: u16,
    /// Transport, `RTP/AVP` for us.
    pub protocol: String,
    /// Formats as written.
    pub formats: Vec<String>,
    /// The formats that are RTP payload types with a known encoding.
    pub payloads: Vec<Payload>,
    /// Connection address of this medium or the session; `None` for a host name.
    pub address: Option<IpAddr>,
    /// Direction, `c=0.0.0.0` already counted as hold.
    pub direction: Direction,
    /// Packet time in ms.
    pub ptime_ms: Option<u32>,
}

/// The `o=` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// User name.
    pub user: String,
    /// Session id.
    pub session: u64,
    /// Version; rises with every change.
    pub version: u64,
    /// Address.
    pub address: String,
}

/// A session description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sdp {
    /// `o=`
    pub origin: Origin,
    /// `m=` sections in order.
    pub media: Vec<Media>,
}

impl Sdp {
    /// The first audio section that is not refused.
    #[must_use]
    pub fn audio(&self) -> Option<&Media> {
        self.media
            .iter()
            .find(|media| media.is_audio() && media.port != 0)
    }
}

impl Media {
    /// True for audio over plain RTP.
    #[must_use]
    pub fn is_audio(&self) -> bool {
        self.kind == "audio" && self.protocol == "RTP/AVP"
    }
}

impl fmt::Display for Sdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin {
            user,
            session,
            version,
            address,
        } = &self.origin;
        let family = |address: &str| if address.contains(':') { "IP6" } else { "IP4" };
        write!(
            f,
            "v=0\r\no={user} {session} {version} IN {} {address}\r\n",
            family(address)
        )?;
        // Where the audio goes stands at the top too, for phones that look there only.
        let common = self.audio().and_then(|audio| audio.address);
        let common = common.map_or_else(|| address.clone(), |ip| ip.to_string());
        write!(f, "s=-\r\nc=IN {} {common}\r\nt=0 0\r\n", family(&common))?;
        for media in &self.media {
            write!(f, "m={} {} {}", media.kind, media.port, media.protocol)?;
            for format in &media.formats {
                write!(f, " {format}")?;
            }
            f.write_str("\r\n")?;
            if media.port == 0 {
                continue;
            }
            if let Some(ip) = media.address
                && ip.to_string() != common
            {
                let ip = ip.to_string();
                write!(f, "c=IN {} {ip}\r\n", family(&ip))?;
            }
            for payload in &media.payloads {
                let Payload {
                    number,
                    name,
                    rate,
                    fmtp,
                } = payload;
                write!(f, "a=rtpmap:{number} {name}/{rate}\r\n")?;
                if let Some(fmtp) = fmtp {
                    write!(f, "a=fmtp:{number} {fmtp}\r\n")?;
                }
            }
            if let Some(ptime) = media.ptime_ms {
                write!(f, "a=ptime:{ptime}\r\n")?;
            }
            write!(f, "a={}\r\n", media.direction.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
