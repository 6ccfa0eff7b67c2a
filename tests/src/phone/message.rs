//! SIP messages of the test phones: text in, text out (RFC 3261 §7), nothing clever.

use std::net::{IpAddr, SocketAddr};

use md5::{Digest, Md5};
use sha2::Sha256;

use crate::rtp::EVENT_TYPE;

/// A request or a response.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The request or status line.
    pub start: String,
    /// Header names (long forms) and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Message {
    /// Takes a datagram apart; `None` when it is no SIP message.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines
            .next()
            .filter(|line| line.contains("SIP/2.0"))?
            .to_owned();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            if line.starts_with([' ', '\t']) {
                // A folded line continues the one before (RFC 3261 §7.3.1).
                let last = headers.last_mut()?;
                last.1 = format!("{} {}", last.1, line.trim());
                continue;
            }
            let (name, value) = line.split_once(':')?;
            headers.push((long_name(name.trim()).to_owned(), value.trim().to_owned()));
        }
        Some(Self {
            start,
            headers,
            body: body.to_owned(),
        })
    }

    /// A message with a start line and nothing else.
    pub fn new(start: String) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }

    /// Adds a header.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body as SDP.
    pub fn with_sdp(mut self, sdp: String) -> Self {
        if !sdp.is_empty() {
            self = self.with("Content-Type", "application/sdp");
            self.body = sdp;
        }
        self
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fitting = self
            .headers
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name));
        fitting.next().map(|(_, value)| value.as_str())
    }

    /// Every value of a header.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The status of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request.
    pub fn method(&self) -> Option<&str> {
        self.status()
            .is_none()
            .then(|| self.start.split(' ').next())?
    }

    /// The number and method of CSeq.
    pub fn cseq(&self) -> Option<(u32, &str)> {
        let (number, method) = self.header("CSeq")?.split_once(' ')?;
        Some((number.parse().ok()?, method.trim()))
    }

    /// The Call-ID, empty when there is none.
    pub fn call_id(&self) -> String {
        self.header("Call-ID").unwrap_or_default().to_owned()
    }

    /// The branch of the topmost Via.
    pub fn branch(&self) -> Option<String> {
        parameter(self.header("Via")?, "branch")
    }

    /// The tag of From or To.
    pub fn tag(&self, header: &str) -> Option<String> {
        let value = self.header(header)?;
        parameter(
            value.rsplit_once('>').map_or(value, |(_, rest)| rest),
            "tag",
        )
    }

    /// The user part of the address in From or To.
    pub fn user(&self, header: &str) -> String {
        let uri = uri_of(self.header(header).unwrap_or_default());
        let bare = uri.split_once(':').map_or("", |(_, rest)| rest);
        bare.split_once('@')
            .map_or(String::new(), |(user, _)| user.to_owned())
    }

    /// The bytes to send.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!(
            "Content-Length: {}\r\n\r\n{}",
            self.body.len(),
            self.body
        ));
        text.into_bytes()
    }
}

fn long_name(name: &str) -> &str {
    match name {
        "v" => "Via",
        "f" => "From",
        "t" => "To",
        "i" => "Call-ID",
        "m" => "Contact",
        "l" => "Content-Length",
        "c" => "Content-Type",
        other => other,
    }
}

/// The URI within `Name <sip:…>;params` or `sip:…;params`.
pub fn uri_of(value: &str) -> String {
    match value
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
    {
        Some((uri, _)) => uri.to_owned(),
        None => value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned(),
    }
}

/// A `;name=value` parameter.
pub fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|part| {
        let (own, text) = part.split_once('=')?;
        own.trim()
            .eq_ignore_ascii_case(name)
            .then(|| text.trim().to_owned())
    })
}

/// The numeric address a SIP URI names, port 5060 when it names none.
pub fn address_of(uri: &str) -> Option<SocketAddr> {
    let rest = uri.split_once(':')?.1;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split([';', '?']).next()?;
    host.parse()
        .ok()
        .or_else(|| format!("{host}:5060").parse().ok())
}

/// A phone's description of its audio: G.711 and keys.
pub fn description(ip: IpAddr, port: u16, direction: &str, version: u32) -> String {
    format!(
        "v=0\r\no=- {port} {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 {EVENT_TYPE}\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:{EVENT_TYPE} telephone-event/8000\r\na=fmtp:{EVENT_TYPE} 0-15\r\n\
         a=ptime:20\r\na={direction}\r\n"
    )
}

/// Where an SDP wants its audio, and the direction it states.
pub fn audio_of(sdp: &str) -> Option<(SocketAddr, &'static str)> {
    let line = |prefix: &str| sdp.lines().find_map(|line| line.strip_prefix(prefix));
    let address = line("c=IN IP4 ")?.trim().parse().ok()?;
    let port = line("m=audio ")?.split(' ').next()?.parse().ok()?;
    let direction = ["sendonly", "recvonly", "inactive"]
        .into_iter()
        .find(|direction| line(&format!("a={direction}")).is_some())
        .unwrap_or("sendrecv");
    Some((SocketAddr::new(address, port), direction))
}

/// A hash for digest answers (RFC 8760 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `MD5`.
    Md5,
    /// `SHA-256`.
    Sha256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hex::encode(Md5::digest(text.as_bytes())),
            Self::Sha256 => hex::encode(Sha256::digest(text.as_bytes())),
        }
    }
}

/// The answer to a challenge with one of the `known` algorithms (RFC 3261 §22, RFC 2617 with
/// `qop=auth`, RFC 8760), for a method and URI, by a user with a password.
pub fn authorization(
    challenge: &str,
    known: &[Algorithm],
    (method, uri): (&str, &str),
    (user, password): (&str, &str),
) -> Option<String> {
    let field = |name: &str| -> Option<String> {
        let rest = challenge.trim_start().strip_prefix("Digest ")?;
        rest.split(',').find_map(|part| {
            let (own, value) = part.split_once('=')?;
            (own.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    let asked = field("algorithm").unwrap_or_else(|| "MD5".to_owned());
    let algorithm = *known
        .iter()
        .find(|one| asked.eq_ignore_ascii_case(one.name()))?;
    let (realm, nonce) = (field("realm")?, field("nonce")?);
    let hash = |text: String| algorithm.hash(&text);
    let ha1 = hash(format!("{user}:{realm}:{password}"));
    let ha2 = hash(format!("{method}:{uri}"));
    let mut value = format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         algorithm={}",
        algorithm.name()
    );
    if let Some(opaque) = field("opaque") {
        value.push_str(&format!(", opaque=\"{opaque}\""));
    }
    // The quoted list of qop values may hold commas, hence the search in the whole text.
    if challenge.contains("qop=") {
        let response = hash(format!("{ha1}:{nonce}:00000001:0a4f113b:auth:{ha2}"));
        value.push_str(&format!(
            ", qop=auth, nc=00000001, cnonce=\"0a4f113b\", response=\"{response}\""
        ));
    } else {
        value.push_str(&format!(
            ", response=\"{}\"",
            hash(format!("{ha1}:{nonce}:{ha2}"))
        ));
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_wire() {
        let message = Message::new("INVITE sip:a@127.0.0.1 SIP/2.0".to_owned())
            .with("Via", "SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKx;rport")
            .with("From", "\"A; b\" <sip:1001@127.0.0.1;user=phone>;tag=t1")
            .with("CSeq", "7 INVITE")
            .with_sdp(
                "v=0\r\nc=IN IP4 127.0.0.9\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\n".into(),
            );
        let again = Message::parse(&message.bytes()).expect("our own text");
        assert_eq!(again.branch().as_deref(), Some("z9hG4bKx"));
        assert_eq!(again.tag("From").as_deref(), Some("t1"));
        assert_eq!(again.user("From"), "1001");
        assert_eq!(again.cseq(), Some((7, "INVITE")));
        let audio = audio_of(&again.body).expect("has audio");
        assert_eq!(
            audio,
            ("127.0.0.9:4000".parse().expect("an address"), "sendonly")
        );
    }

    #[test]
    fn addresses_in_uris() {
        let address = |text: &str| address_of(text).map(|address| address.to_string());
        assert_eq!(
            address("sip:a@127.0.0.3;x=y").as_deref(),
            Some("127.0.0.3:5060")
        );
        assert_eq!(
            address("sip:127.0.0.3:5080").as_deref(),
            Some("127.0.0.3:5080")
        );
        assert_eq!(address("sip:a@demo.invalid"), None);
    }

    #[test]
    fn the_digest_example_of_rfc_2617() {
        // §3.5 without the fixed cnonce: the legacy form is checked against RFC 2069's rule.
        let value = authorization(
            "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"",
            &[Algorithm::Md5],
            ("GET", "/dir/index.html"),
            ("Mufasa", "Circle Of Life"),
        )
        .expect("MD5 is spoken");
        assert!(
            value.contains("response=\"670fd8c2df070c60b045671b8b24ff02\""),
            "{value}"
        );
        let other = "Digest algorithm=SHA-256, realm=\"a\", nonce=\"n\", qop=\"auth\"";
        let answer = |known: &[Algorithm]| authorization(other, known, ("M", "u"), ("a", "b"));
        assert_eq!(answer(&[Algorithm::Md5]), None);
        let value = answer(&[Algorithm::Md5, Algorithm::Sha256]).expect("SHA-256 is spoken");
        let response = value
            .split("response=\"")
            .nth(1)
            .and_then(|rest| rest.find('"'));
        assert_eq!(response, Some(64), "{value}");
    }
}
