//! Where nodes are and how to prove who we are: URLs, token, certificates.
//!
//! Plain HTTP goes to loopback only, because the token travels with each request;
//! elsewhere a node proves itself with a certificate of the cluster's CA.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Failure;
use crate::limits;

/// One node's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// True for https.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// Parses `http://127.0.0.1:8080`; a path is not part of it.
    ///
    /// # Errors
    /// A URL with another scheme, without a host, or plain HTTP to another machine.
    pub fn parse(url: &str) -> Result<Self, Failure> {
        let refuse = |why| Failure::Address {
            url: url.to_owned(),
            why,
        };
        let (tls, rest) = if let Some(rest) = url.strip_prefix("http://") {
            (false, rest)
        } else if let Some(rest) = url.strip_prefix("https://") {
            (true, rest)
        } else {
            return Err(refuse("it begins with neither http:// nor https://"));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(refuse("only a host and a port may follow the scheme"));
        }
        let (host, port) = split_host(rest).ok_or_else(|| refuse("host or port is wrong"))?;
        let endpoint = Self {
            tls,
            host,
            port: port.unwrap_or(8080),
        };
        if !tls && !endpoint.is_loopback() {
            return Err(refuse("plain HTTP would show the token to the network"));
        }
        Ok(endpoint)
    }

    /// True when the host is this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// `host:port` as a URL and a `Host` header write it.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The URL of `path` in the scheme for requests.
    pub fn url(&self, path: &str) -> String {
        format!("{self}{path}")
    }

    /// The URL of `path` in the scheme for WebSockets.
    pub fn ws_url(&self, path: &str) -> String {
        let scheme = if self.tls { "wss" } else { "ws" };
        format!("{scheme}://{}{path}", self.authority())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

fn split_host(rest: &str) -> Option<(String, Option<u16>)> {
    if let Some(inner) = rest.strip_prefix('[') {
        let (host, tail) = inner.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        let port = match tail.strip_prefix(':') {
            Some(port) => Some(port.parse().ok()?),
            None if tail.is_empty() => None,
            None => return None,
        };
        return Some((host.to_owned(), port));
    }
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (rest, None),
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!host.is_empty() && host.chars().all(fine)).then(|| (host.to_owned(), port))
}

/// A bearer token; it shows itself in one header and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The value of the `Authorization` header.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a client needs to reach the cluster.
#[derive(Clone, Debug)]
pub struct Access {
    /// Nodes, in the order they are tried.
    pub endpoints: Vec<Endpoint>,
    /// Bearer token.
    pub token: Option<Token>,
    /// Certificates of the cluster's CA, DER.
    pub roots: Vec<rustls_pki_types::CertificateDer<'static>>,
}

impl Access {
    /// Reads what the flags name.
    ///
    /// # Errors
    /// A refused URL, or an unusable token or CA file.
    pub fn read(
        urls: &[String],
        token_file: Option<&Path>,
        ca_file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let endpoints = urls
            .iter()
            .map(|url| url.trim())
            .filter(|url| !url.is_empty())
            .map(Endpoint::parse)
            .collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() || endpoints.len() > limits::ENDPOINTS_MAX {
            return Err(Failure::Usage {
                what: format!("--api names {} nodes", endpoints.len()),
                next: format!("name 1 to {}", limits::ENDPOINTS_MAX),
            });
        }
        let roots = ca_file.map(read_roots).transpose()?.unwrap_or_default();
        if roots.is_empty()
            && let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.tls)
        {
            return Err(Failure::Address {
                url: endpoint.to_string(),
                why: "https needs the cluster's CA certificate",
            });
        }
        let token = token_file.map(read_token).transpose()?;
        Ok(Self {
            endpoints,
            token,
            roots,
        })
    }

    /// TLS settings that trust the cluster's CA only.
    ///
    /// # Errors
    /// A CA certificate that is no certificate.
    pub fn tls(&self) -> Result<Arc<rustls::ClientConfig>, Failure> {
        crate::tls::config(&self.roots).map_err(|error| Failure::Secret {
            path: PathBuf::from("the CA file"),
            why: error.to_string(),
        })
    }
}

fn read_token(path: &Path) -> Result<Token, Failure> {
    let text = read_small(path)?;
    let token = text.trim();
    // A header line: nothing in it may end the line.
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        let why = "it holds no token (one word of printable ASCII)".to_owned();
        return Err(Failure::Secret {
            path: path.to_owned(),
            why,
        });
    }
    Ok(Token(token.to_owned()))
}

fn read_roots(path: &Path) -> Result<Vec<rustls_pki_types::CertificateDer<'static>>, Failure> {
    use rustls_pki_types::pem::PemObject;
    let text = read_small(path)?;
    let refuse = |why: String| Failure::Secret {
        path: path.to_owned(),
        why,
    };
    let roots = rustls_pki_types::CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refuse(error.to_string()))?;
    if roots.is_empty() {
        return Err(refuse("it holds no certificate (PEM)".to_owned()));
    }
    Ok(roots)
}

fn read_small(path: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let refuse = |why: String| Failure::Secret {
        path: path.to_owned(),
        why,
    };
    let file = std::fs::File::open(path).map_err(|error| refuse(error.to_string()))?;
    let mut text = String::new();
    let read = file
        .take(limits::SECRET_BYTES_MAX + 1)
        .read_to_string(&mut text);
    match read {
        Ok(n) if n as u64 <= limits::SECRET_BYTES_MAX => Ok(text),
        Ok(_) => Err(refuse("it is too large".to_owned())),
        Err(error) => Err(refuse(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_endpoints() {
        for (url, display) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.0.0.3", "http://127.0.0.3:8080"),
            ("http://localhost:1/", "http://localhost:1"),
            ("http://[::1]:90", "http://[::1]:90"),
            (
                "https://exchange.example:8443",
                "https://exchange.example:8443",
            ),
        ] {
            assert_eq!(
                Endpoint::parse(url).map(|e| e.to_string()),
                Ok(display.to_owned())
            );
        }
    }

    #[test]
    fn plain_http_to_another_machine_and_nonsense_are_refused() {
        for url in [
            "http://192.0.2.1:8080",
            "http://example.org",
            "ftp://127.0.0.1",
            "127.0.0.1:8080",
            "http://",
            "http://127.0.0.1:99999",
            "http://user@127.0.0.1",
            "http://127.0.0.1/v1",
            "http://[::1",
        ] {
            let refused = Endpoint::parse(url);
            assert!(
                matches!(refused, Err(Failure::Address { .. })),
                "{url}: {refused:?}"
            );
        }
    }

    #[test]
    fn https_without_a_ca_is_refused() {
        let urls = ["https://192.0.2.1:8080".to_owned()];
        assert!(matches!(
            Access::read(&urls, None, None),
            Err(Failure::Address { .. })
        ));
    }

    #[test]
    fn a_token_file_holds_one_word() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "abc123\n").expect("written");
        assert_eq!(read_token(&path), Ok(Token("abc123".to_owned())));
        for text in ["", "two words", "x\r\nHost: y"] {
            std::fs::write(&path, text).expect("written");
            assert!(
                matches!(read_token(&path), Err(Failure::Secret { .. })),
                "{text:?}"
            );
        }
    }
}
