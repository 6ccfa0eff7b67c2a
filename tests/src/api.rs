//! The HTTP and WebSocket interface as an outsider uses it.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message, WebSocket};

/// One request may take this long; far above what an answer on loopback needs.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// One node's interface.
#[derive(Clone)]
pub struct Api {
    base: String,
    token: String,
    agent: ureq::Agent,
}

/// A status and the body, parsed where it is JSON.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as sent.
    pub text: String,
    /// The body as JSON; null where it is not JSON.
    pub json: Value,
}

impl Api {
    /// The interface at `base` (`http://127.0.0.1:8080`) with a bearer token.
    pub fn new(base: &str, token: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .http_status_as_error(false)
            .build()
            .into();
        Self {
            base: base.trim_end_matches('/').to_owned(),
            token: token.to_owned(),
            agent,
        }
    }

    /// The address given to [`Api::new`].
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same interface with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// The transport's message when no answer came.
    pub fn get(&self, path: &str) -> Result<Answer, String> {
        let response = self
            .agent
            .get(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token))
            .call();
        answer(response)
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// The transport's message when no answer came.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer, String> {
        let response = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token))
            .send_json(body);
        answer(response)
    }

    /// `DELETE path`.
    ///
    /// # Errors
    /// The transport's message when no answer came.
    pub fn delete(&self, path: &str) -> Result<Answer, String> {
        let response = self
            .agent
            .delete(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token))
            .call();
        answer(response)
    }

    /// A list such as `/v1/calls`; `None` when the node does not answer or not with a list.
    pub fn list(&self, path: &str) -> Option<Vec<Value>> {
        let answer = self.get(path).ok().filter(|answer| answer.status == 200)?;
        match answer.json {
            Value::Array(rows) => Some(rows),
            _ => None,
        }
    }

    /// Every call detail record, however many pages that takes.
    pub fn cdrs(&self) -> Option<Vec<Value>> {
        let mut rows: Vec<Value> = Vec::new();
        loop {
            let after = rows.last().and_then(|row| row["cursor"].as_str());
            let path = match after {
                Some(cursor) => format!("/v1/cdrs?limit=500&after={cursor}"),
                None => "/v1/cdrs?limit=500".to_owned(),
            };
            let page = self.list(&path)?;
            if page.is_empty() {
                return Some(rows);
            }
            rows.extend(page);
        }
    }

    /// The sum of a metric's samples whose labels contain all of `labels`.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let text = self
            .get("/metrics")
            .ok()
            .filter(|answer| answer.status == 200)?
            .text;
        let wanted: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}=\"{value}\""))
            .collect();
        let samples: Vec<f64> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let (metric, rest) = series.split_once('{').unwrap_or((series, ""));
                let fits = metric == name && wanted.iter().all(|label| rest.contains(label));
                fits.then(|| value.parse().ok())?
            })
            .collect();
        (!samples.is_empty()).then(|| samples.iter().sum())
    }

    /// Opens the event stream from a cursor (empty: from now).
    ///
    /// # Errors
    /// The transport's message when the stream does not open.
    pub fn events(&self, from: &str) -> Result<Events, String> {
        let url = format!(
            "{}/v1/events?from={from}",
            self.base.replacen("http", "ws", 1)
        );
        let mut request = url
            .into_client_request()
            .map_err(|error| error.to_string())?;
        let value = format!("Bearer {}", self.token);
        let value = value
            .parse()
            .map_err(|_| "the token is no header value".to_owned())?;
        request.headers_mut().insert("authorization", value);
        let (socket, _) =
            tokio_tungstenite::tungstenite::connect(request).map_err(|error| error.to_string())?;
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            let timeout = Some(Duration::from_millis(200));
            stream
                .set_read_timeout(timeout)
                .map_err(|error| error.to_string())?;
        }
        Ok(Events { socket })
    }
}

fn answer(
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Answer, String> {
    let mut response = response.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let text = response
        .body_mut()
        .read_to_string()
        .map_err(|error| error.to_string())?;
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Answer { status, text, json })
}

/// An open event stream.
pub struct Events {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
}

impl Events {
    /// The next event, `None` after about 200 ms without one.
    ///
    /// # Errors
    /// The transport's message once the stream has ended.
    pub fn poll(&mut self) -> Result<Option<Value>, String> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    return serde_json::from_str(&text)
                        .map(Some)
                        .map_err(|e| e.to_string());
                }
                Ok(Message::Close(_)) => return Err("closed".to_owned()),
                Ok(_) => {}
                Err(SocketError::Io(error))
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
