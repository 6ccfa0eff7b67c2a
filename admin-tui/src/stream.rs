//! The event stream of one node over a WebSocket.
//!
//! It connects to exactly the node it is given; which node comes next after a loss is
//! its caller's choice.

use futures_util::StreamExt;
use serde_json::Value;
use strowger_core::api::{ErrorBody, Event};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::client::segment;
use crate::endpoint::{Access, Endpoint};
use crate::error::{Exit, Failure};
use crate::limits;

/// Both kinds of connection in one.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// An open event stream.
pub struct EventStream {
    socket: WebSocketStream<Box<dyn Wire>>,
    url: String,
    /// When anything came last.
    heard_at: Instant,
}

/// What the stream brought.
#[derive(Debug)]
pub enum Delivery {
    /// An event with the JSON it came as.
    Event(Box<Event>, Value),
    /// The node ended the stream or died.
    Ended(String),
    /// The node refuses to go on from this cursor.
    Refused(Failure),
}

impl EventStream {
    /// Connects and asks for the events after `from`, a cursor or `now`.
    ///
    /// # Errors
    /// No connection in time, or the node refuses.
    pub async fn open(access: &Access, endpoint: &Endpoint, from: &str) -> Result<Self, Failure> {
        let url = endpoint.to_string();
        let opened = tokio::time::timeout(limits::CONSOLE_TIMEOUT, connect(access, endpoint, from));
        match opened.await {
            Ok(Ok(socket)) => Ok(Self {
                socket,
                url,
                heard_at: Instant::now(),
            }),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::NoNode {
                tried: format!("{url} gave no answer in time"),
            }),
        }
    }

    /// Waits for the next delivery. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Delivery {
        loop {
            let until = self.heard_at + limits::STREAM_SILENCE;
            let Ok(arrived) = tokio::time::timeout_at(until, self.socket.next()).await else {
                return Delivery::Ended("the node stands still".to_owned());
            };
            self.heard_at = Instant::now();
            match arrived {
                Some(Ok(Message::Text(text))) => return read(&self.url, text.as_str()),
                Some(Ok(Message::Close(frame))) => {
                    let why = frame
                        .map(|frame| frame.reason.to_string())
                        .unwrap_or_default();
                    return Delivery::Ended(format!("stream closed {why}"));
                }
                // Pings are answered by the library; nothing else is expected.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Delivery::Ended(error.to_string()),
                None => return Delivery::Ended("stream closed".to_owned()),
            }
        }
    }
}

fn read(url: &str, text: &str) -> Delivery {
    let garbled = |why: String| {
        Delivery::Refused(Failure::Garbled {
            url: url.to_owned(),
            why,
        })
    };
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return garbled(error.to_string()),
    };
    if value.get("cursor").is_none()
        && let Ok(body) = serde_json::from_value::<ErrorBody>(value.clone())
    {
        return Delivery::Refused(Failure::Answered {
            exit: Exit::Refused,
            status: None,
            problem: body.error,
        });
    }
    match serde_json::from_value::<Event>(value.clone()) {
        Ok(event) => Delivery::Event(Box::new(event), value),
        Err(error) => garbled(error.to_string()),
    }
}

async fn connect(
    access: &Access,
    endpoint: &Endpoint,
    from: &str,
) -> Result<WebSocketStream<Box<dyn Wire>>, Failure> {
    let unreachable = |why: String| Failure::NoNode {
        tried: format!("{endpoint} {why}"),
    };
    let wire = dial(access, endpoint).await.map_err(unreachable)?;
    let path = format!("/v1/events?from={}", segment(from));
    let mut request = endpoint
        .ws_url(&path)
        .into_client_request()
        .map_err(|error| unreachable(error.to_string()))?;
    if let Some(token) = &access.token
        && let Ok(mut value) = HeaderValue::from_str(&token.header())
    {
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits::EVENT_BYTES_MAX))
        .max_frame_size(Some(limits::EVENT_BYTES_MAX));
    match tokio_tungstenite::client_async_with_config(request, wire, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(WsError::Http(answer)) => {
            let text = answer.body().as_deref().unwrap_or_default();
            let text = String::from_utf8_lossy(text);
            Err(crate::client::refusal(
                endpoint,
                answer.status().as_u16(),
                &text,
            ))
        }
        Err(error) => Err(unreachable(error.to_string())),
    }
}

async fn dial(access: &Access, endpoint: &Endpoint) -> Result<Box<dyn Wire>, String> {
    let connecting = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
    let tcp = tokio::time::timeout(limits::CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| "took no connection in time".to_owned())?
        .map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    if !endpoint.tls {
        return Ok(Box::new(tcp));
    }
    let config = access.tls().map_err(|failure| failure.to_string())?;
    let name = rustls_pki_types::ServerName::try_from(endpoint.host.clone())
        .map_err(|error| error.to_string())?;
    let tls = tokio_rustls::TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map_err(|error| error.to_string())?;
    Ok(Box::new(tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_deliveries() {
        let event = r#"{"cursor":"7.0","at":"2026-11-22T01:00:00.000Z","type":"call.arrived",
            "entity":"call_1","queue":"main"}"#;
        match read("http://x", event) {
            Delivery::Event(event, value) => {
                assert_eq!(event.kind, "call.arrived");
                assert_eq!(value["queue"], "main");
            }
            other => panic!("not an event: {other:?}"),
        }
        let resync = r#"{"error":{"code":"SW0123","what":"cursor too old","where":null,
            "next":"start from now"}}"#;
        match read("http://x", resync) {
            Delivery::Refused(failure) => assert_eq!(failure.problem().code, "SW0123"),
            other => panic!("not a refusal: {other:?}"),
        }
        assert!(matches!(
            read("http://x", "{}"),
            Delivery::Refused(Failure::Garbled { .. })
        ));
    }
}
