//! Reading a session description, line by line, with bounds.

use super::{Direction, Media, Origin, Payload, Sdp};
use crate::limits;
use std::net::IpAddr;

/// Why a description cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("SDP line {line}: {reason}")]
pub struct SdpError {
    /// Line number, from 1.
    pub line: usize,
    /// The fault.
    pub reason: &'static str,
}

/// Session-level values that media sections inherit, and the section being read.
struct Reader {
    origin: Option<Origin>,
    address: Option<(Option<IpAddr>, bool)>,
    direction: Option<Direction>,
    ptime_ms: Option<u32>,
    sections: Vec<Section>,
}

struct Section {
    media: Media,
    own_address: Option<(Option<IpAddr>, bool)>,
    own_direction: Option<Direction>,
    maps: Vec<(u8, String, u32)>,
    fmtps: Vec<(u8, String)>,
}

/// Reads a description; unknown lines and attributes are passed over.
///
/// # Errors
/// [`SdpError`] with the line and the fault.
pub fn parse(text: &str) -> Result<Sdp, SdpError> {
    let mut reader = Reader {
        origin: None,
        address: None,
        direction: None,
        ptime_ms: None,
        sections: Vec::new(),
    };
    let mut last = 0;
    for (at, line) in text.lines().enumerate() {
        last = at + 1;
        let fault = |reason| SdpError { line: last, reason };
        if last > limits::SDP_LINES_MAX {
            return Err(fault("too many lines"));
        }
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            continue;
        }
        let (kind, value) = line.split_once('=').ok_or(fault("not a type=value line"))?;
        if last == 1 && (kind, value.trim()) != ("v", "0") {
            return Err(fault("does not begin with v=0"));
        }
        reader.line(kind, value).map_err(fault)?;
    }
    reader
        .finish()
        .map_err(|reason| SdpError { line: last, reason })
}

impl Reader {
    fn line(&mut self, kind: &str, value: &str) -> Result<(), &'static str> {
        match kind {
            "o" => self.origin = Some(origin(value)?),
            "c" => {
                let address = Some(connection(value)?);
                match self.sections.last_mut() {
                    Some(section) => section.own_address = address,
                    None => self.address = address,
                }
            }
            "m" => {
                if self.sections.len() >= limits::SDP_MEDIA_MAX {
                    return Err("too many media");
                }
                self.sections.push(section(value)?);
            }
            "a" => self.attribute(value)?,
            _ if kind.len() != 1 => return Err("not a type=value line"),
            _ => {}
        }
        Ok(())
    }

    fn attribute(&mut self, value: &str) -> Result<(), &'static str> {
        let (name, rest) = value.split_once(':').unwrap_or((value, ""));
        let direction = Direction::from_name(name.trim());
        let Some(section) = self.sections.last_mut() else {
            if direction.is_some() {
                self.direction = direction;
            } else if name == "ptime" {
                self.ptime_ms = rest.trim().parse().ok();
            }
            return Ok(());
        };
        if direction.is_some() {
            section.own_direction = direction;
            return Ok(());
        }
        match name {
            "ptime" => section.media.ptime_ms = rest.trim().parse().ok(),
            "rtpmap" => section.maps.push(rtpmap(rest)?),
            "fmtp" => {
                let (number, params) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
                let number = number.parse().map_err(|_| "malformed fmtp")?;
                section.fmtps.push((number, params.trim().to_owned()));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Sdp, &'static str> {
        let origin = self.origin.ok_or("no o= line")?;
        let (address, direction, ptime_ms) = (self.address, self.direction, self.ptime_ms);
        let media = self
            .sections
            .into_iter()
            .map(|section| section.finish(address, direction, ptime_ms))
            .collect::<Result<_, _>>()?;
        Ok(Sdp { origin, media })
    }
}

impl Section {
    fn finish(
        self,
        address: Option<(Option<IpAddr>, bool)>,
        direction: Option<Direction>,
        ptime_ms: Option<u32>,
    ) -> Result<Media, &'static str> {
        let mut media = self.media;
        let address = self.own_address.or(address);
        if address.is_none() && media.port != 0 {
            return Err("no c= line for a medium");
        }
        let (ip, hold) = address.unwrap_or((None, false));
        media.address = ip;
        media.direction = self
            .own_direction
            .or(direction)
            .unwrap_or(Direction::SendRecv);
        if hold {
            // RFC 2543 hold: the writer has nowhere to receive.
            media.direction = Direction::of(media.direction.sends(), false);
        }
        media.ptime_ms = media.ptime_ms.or(ptime_ms);
        if media.protocol.starts_with("RTP/") {
            let numbers = media
                .formats
                .iter()
                .filter_map(|format| format.parse().ok());
            media.payloads = numbers
                .filter_map(|number| payload(number, &self.maps, &self.fmtps))
                .collect();
        }
        Ok(media)
    }
}

fn payload(number: u8, maps: &[(u8, String, u32)], fmtps: &[(u8, String)]) -> Option<Payload> {
    let mapped = maps.iter().find(|(n, _, _)| *n == number);
    let (name, rate) = match (mapped, number) {
        (Some((_, name, rate)), _) => (name.clone(), *rate),
        (None, 0) => ("PCMU".to_owned(), 8_000),
        (None, 8) => ("PCMA".to_owned(), 8_000),
        (None, 9) => ("G722".to_owned(), 8_000),
        (None, 18) => ("G729".to_owned(), 8_000),
        (None, _) => return None,
    };
    let fmtp = fmtps
        .iter()
        .find(|(n, _)| *n == number)
        .map(|(_, params)| params.clone());
    Some(Payload {
        number,
        name,
        rate,
        fmtp,
    })
}

fn origin(value: &str) -> Result<Origin, &'static str> {
    let mut words = value.split_ascii_whitespace();
    let mut next = || words.next().ok_or("malformed o= line");
    let user = next()?.to_owned();
    let (session, version) = (next()?, next()?);
    let (network, _family, address) = (next()?, next()?, next()?);
    if network != "IN" {
        return Err("network type is not IN");
    }
    // Some phones write numbers beyond 64 bits here; only equality and growth of ours matter.
    Ok(Origin {
        user,
        session: session.parse().unwrap_or(0),
        version: version.parse().unwrap_or(0),
        address: address.to_owned(),
    })
}

/// The address, and whether it means hold.
fn connection(value: &str) -> Result<(Option<IpAddr>, bool), &'static str> {
    let mut words = value.split_ascii_whitespace();
    let (Some("IN"), Some("IP4" | "IP6"), Some(address)) =
        (words.next(), words.next(), words.next())
    else {
        return Err("malformed c= line");
    };
    let address = address.split('/').next().unwrap_or(address);
    let ip: Option<IpAddr> = address.parse().ok();
    let hold = ip.is_some_and(|ip| ip.is_unspecified());
    Ok((ip, hold))
}

fn section(value: &str) -> Result<Section, &'static str> {
    let mut words = value.split_ascii_whitespace();
    let (Some(kind), Some(port), Some(protocol)) = (words.next(), words.next(), words.next())
    else {
        return Err("malformed m= line");
    };
    let port = port.split('/').next().unwrap_or(port);
    let port = port.parse().map_err(|_| "malformed port in m= line")?;
    let formats: Vec<String> = words.map(str::to_owned).collect();
    if formats.is_empty() {
        return Err("m= line without a format");
    }
    Ok(Section {
        media: Media {
            kind: kind.to_owned(),
            port,
            protocol: protocol.to_owned(),
            formats,
            payloads: Vec::new(),
            address: None,
            direction: Direction::SendRecv,
            ptime_ms: None,
        },
        own_address: None,
        own_direction: None,
        maps: Vec::new(),
        fmtps: Vec::new(),
    })
}

fn rtpmap(value: &str) -> Result<(u8, String, u32), &'static str> {
    let (number, encoding) = value.trim().split_once(' ').ok_or("malformed rtpmap")?;
    let mut parts = encoding.trim().split('/');
    let name = parts.next().unwrap_or("");
    let rate = parts.next().and_then(|rate| rate.trim().parse().ok());
    match (number.parse(), rate) {
        (Ok(number), Some(rate)) if !name.is_empty() => Ok((number, name.to_owned(), rate)),
        _ => Err("malformed rtpmap"),
    }
}
