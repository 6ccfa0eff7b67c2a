//! Requests to the cluster: the attached node first, the others in order when it does
//! not take the connection.
//!
//! A reading request goes to the next node on any failure to answer. A writing request
//! goes on only when it was surely not carried out: no connection, or 503.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use strowger_core::api::{ErrorBody, Problem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};

use crate::endpoint::{Access, Endpoint, Token};
use crate::error::{Exit, Failure};
use crate::limits;
use crate::tls::TlsLayer;

/// A client of the cluster; clones share connections and the attached node.
#[derive(Clone, Debug)]
pub struct Client {
    access: Arc<Access>,
    agent: ureq::Agent,
    attached: Arc<AtomicUsize>,
}

/// How a request is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Asks for something to be done.
    Post,
    /// Replaces.
    Put,
    /// Changes a part.
    Patch,
    /// Removes.
    Delete,
}

/// What a request does when no answer comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Asking twice changes nothing.
    Harmless,
    /// It may have been carried out.
    Doubtful,
}

/// One attempt that brought no answer.
struct Missed {
    why: String,
    sent: bool,
}

impl Client {
    /// A client that gives up on an answer after `timeout`.
    ///
    /// # Errors
    /// A CA certificate that is no certificate.
    pub fn new(access: Access, timeout: Duration) -> Result<Self, Failure> {
        let tls = if access.roots.is_empty() {
            None
        } else {
            Some(access.tls()?)
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(limits::CONNECT_TIMEOUT))
            .timeout_global(Some(timeout))
            .user_agent(concat!("strowger/", env!("CARGO_PKG_VERSION")))
            .build();
        let connector = TcpConnector::default().chain(TlsLayer(tls));
        let agent = ureq::Agent::with_parts(config, connector, DefaultResolver::default());
        let attached = Arc::new(AtomicUsize::new(0));
        Ok(Self {
            access: Arc::new(access),
            agent,
            attached,
        })
    }

    /// How to reach the nodes.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Index of the node asked first.
    pub fn attached(&self) -> usize {
        self.attached.load(Ordering::Relaxed)
    }

    /// Makes node `index` the one asked first.
    pub fn attach(&self, index: usize) {
        self.attached.store(index, Ordering::Relaxed);
    }

    /// The node with `index`, counted round.
    pub fn endpoint(&self, index: usize) -> &Endpoint {
        let endpoints = &self.access.endpoints;
        &endpoints[index % endpoints.len()]
    }

    /// Reads `path` as a value of the interface.
    ///
    /// # Errors
    /// Any [`Failure`] of a request.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let (endpoint, value) = self.request(Verb::Get, path, None::<&()>, Repeat::Harmless)?;
        typed(endpoint, value)
    }

    /// Reads `path` from one node, without turning to another.
    ///
    /// # Errors
    /// Any [`Failure`] of a request.
    pub fn get_from<T: DeserializeOwned>(&self, index: usize, path: &str) -> Result<T, Failure> {
        let endpoint = self.endpoint(index);
        match self.attempt(endpoint, Verb::Get, path, None::<&()>) {
            Ok((status, text)) => typed(endpoint, judge(endpoint, status, &text)?),
            Err(missed) => Err(Failure::NoNode {
                tried: format!("{endpoint} {}", missed.why),
            }),
        }
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    /// Any [`Failure`] of a request.
    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        self.send(Verb::Post, path, Some(body))
    }

    /// Sends `body`, if any, to `path` with `verb`.
    ///
    /// # Errors
    /// Any [`Failure`] of a request.
    pub fn send(
        &self,
        verb: Verb,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Value, Failure> {
        Ok(self.request(verb, path, body, Repeat::Doubtful)?.1)
    }

    fn request(
        &self,
        verb: Verb,
        path: &str,
        body: Option<&impl Serialize>,
        repeat: Repeat,
    ) -> Result<(&Endpoint, Value), Failure> {
        let first = self.attached();
        let mut tried = Vec::new();
        let mut unavailable = None;
        for step in 0..self.access.endpoints.len() {
            let index = (first + step) % self.access.endpoints.len();
            let endpoint = self.endpoint(index);
            match self.attempt(endpoint, verb, path, body) {
                Ok((503, text)) => {
                    let failure = judge(endpoint, 503, &text).err();
                    unavailable = unavailable.or(failure);
                }
                Ok((status, text)) => {
                    self.attach(index);
                    return judge(endpoint, status, &text).map(|value| (endpoint, value));
                }
                Err(missed) if missed.sent && repeat == Repeat::Doubtful => {
                    return Err(Failure::NoAnswer {
                        url: endpoint.to_string(),
                        why: missed.why,
                    });
                }
                Err(missed) => tried.push(format!("{endpoint} {}", missed.why)),
            }
        }
        Err(unavailable.unwrap_or(Failure::NoNode {
            tried: tried.join(", "),
        }))
    }

    fn attempt(
        &self,
        endpoint: &Endpoint,
        verb: Verb,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<(u16, String), Missed> {
        let url = endpoint.url(path);
        let bearer = self.access.token.as_ref().map(Token::header);
        let answer = match body {
            None => {
                let mut request = match verb {
                    Verb::Delete => self.agent.delete(&url),
                    _ => self.agent.get(&url),
                };
                if let Some(bearer) = &bearer {
                    request = request.header("Authorization", bearer);
                }
                request.call()
            }
            Some(body) => {
                let mut request = match verb {
                    Verb::Put => self.agent.put(&url),
                    Verb::Patch => self.agent.patch(&url),
                    Verb::Get | Verb::Post | Verb::Delete => self.agent.post(&url),
                };
                if let Some(bearer) = &bearer {
                    request = request.header("Authorization", bearer);
                }
                let text = serde_json::to_string(body).map_err(|error| Missed {
                    why: error.to_string(),
                    sent: false,
                })?;
                request
                    .header("Content-Type", "application/json")
                    .send(text)
            }
        };
        let mut answer = answer.map_err(|error| missed(&error))?;
        let status = answer.status().as_u16();
        let text = answer
            .body_mut()
            .with_config()
            .limit(limits::ANSWER_BYTES_MAX)
            .read_to_string()
            .map_err(|error| Missed {
                why: error.to_string(),
                sent: true,
            })?;
        Ok((status, text))
    }
}

fn missed(error: &ureq::Error) -> Missed {
    use ureq::Timeout;
    let sent = match error {
        ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => false,
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => false,
        ureq::Error::Io(error) => error.kind() != io::ErrorKind::ConnectionRefused,
        ureq::Error::Rustls(_) | ureq::Error::BadUri(_) => false,
        _ => true,
    };
    let why = match error {
        ureq::Error::Timeout(Timeout::Connect) => "took no connection in time".to_owned(),
        ureq::Error::Timeout(_) => "gave no answer in time".to_owned(),
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => "refused the connection".to_owned(),
            _ => error.to_string(),
        },
        other => other.to_string(),
    };
    Missed { why, sent }
}

/// An answer as a value, or the failure its status stands for.
fn judge(endpoint: &Endpoint, status: u16, text: &str) -> Result<Value, Failure> {
    if (200..300).contains(&status) {
        return serde_json::from_str(text).map_err(|error| Failure::Garbled {
            url: endpoint.to_string(),
            why: error.to_string(),
        });
    }
    Err(refusal(endpoint, status, text))
}

/// The failure an answer that is no success stands for.
pub fn refusal(endpoint: &Endpoint, status: u16, text: &str) -> Failure {
    let exit = match status {
        404 => Exit::NotFound,
        503 | 504 | 408 => Exit::Unreachable,
        _ => Exit::Refused,
    };
    let problem = match serde_json::from_str::<ErrorBody>(text) {
        Ok(body) => body.error,
        Err(_) => Problem {
            code: "SW0911".to_owned(),
            what: format!("{endpoint} answered with HTTP status {status} and no reason"),
            place: None,
            next: Some(advice(status).to_owned()),
        },
    };
    Failure::Answered {
        exit,
        status: Some(status),
        problem,
    }
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => "give the token with --token-file",
        404 => "list what exists",
        503 | 504 => "try again when a majority of the nodes is up",
        _ => "look at the log of that node",
    }
}

fn typed<T: DeserializeOwned>(endpoint: &Endpoint, value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| Failure::Garbled {
        url: endpoint.to_string(),
        why: error.to_string(),
    })
}

/// `text` as one segment of a path.
pub fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_escaped() {
        assert_eq!(segment("call_01H"), "call_01H");
        assert_eq!(segment("../a b/東"), "..%2Fa%20b%2F%E6%9D%B1");
    }

    #[test]
    fn statuses_become_exit_codes() {
        let endpoint = Endpoint::parse("http://127.0.0.1:1").expect("a fine URL");
        for (status, exit) in [
            (400, Exit::Refused),
            (401, Exit::Refused),
            (404, Exit::NotFound),
            (409, Exit::Refused),
            (500, Exit::Refused),
            (503, Exit::Unreachable),
            (504, Exit::Unreachable),
        ] {
            let failure = judge(&endpoint, status, "no json").expect_err("a failure");
            assert_eq!(failure.exit(), exit, "{status}");
            assert_eq!(failure.problem().code, "SW0911");
        }
        assert!(matches!(
            judge(&endpoint, 200, "<html>"),
            Err(Failure::Garbled { .. })
        ));
    }
}
