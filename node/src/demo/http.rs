//! A few words of HTTP/1.1: enough to ask our own nodes on loopback for JSON.
//!
//! One connection for each request, closed by the node (RFC 9112 §6.3); neither redirects
//! nor chunked bodies, which our own interface does not send to such a client.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use strowger_core::api::{ErrorBody, Problem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of an answer that are read; a larger one is cut off and then not understood.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// One node's interface.
#[derive(Clone, Debug)]
pub(super) struct Api {
    address: SocketAddr,
    token: String,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// Why there is no useful answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The node cannot be reached or did not answer in time.
    #[error("{0} does not answer: {1}")]
    Unreachable(SocketAddr, String),
    /// The node refused.
    #[error("{}: {}", .1.code, .1.what)]
    Refused(u16, Problem),
    /// The node answered something else than expected.
    #[error("{0} answered what is not understood: {1}")]
    Strange(SocketAddr, String),
}

impl Api {
    /// The interface at `address`, entered with the admin token.
    pub(super) fn new(address: SocketAddr, token: &str) -> Self {
        Self {
            address,
            token: token.to_owned(),
        }
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// GET, decoded.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let answer = self.ask("GET", path, None, Duration::from_secs(5)).await?;
        self.decode(&answer)
    }

    /// Whether GET is answered with 200.
    pub(super) async fn says_yes(&self, path: &str) -> bool {
        let answer = self.ask("GET", path, None, Duration::from_secs(2)).await;
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// POST, decoded.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
        patience: Duration,
    ) -> Result<T, AskError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| AskError::Strange(self.address, error.to_string()))?;
        let answer = self.ask("POST", path, Some(body), patience).await?;
        self.decode(&answer)
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
        patience: Duration,
    ) -> Result<Answer, AskError> {
        let body = body.unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            self.token,
            body.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
            let mut bytes = Vec::new();
            stream
                .take(ANSWER_BYTES_MAX)
                .read_to_end(&mut bytes)
                .await?;
            Ok::<_, std::io::Error>(bytes)
        };
        let unreachable = |why: String| AskError::Unreachable(self.address, why);
        let bytes = tokio::time::timeout(patience, exchange)
            .await
            .map_err(|_| unreachable("no answer in time".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        parse(&bytes).ok_or_else(|| unreachable("it hung up".to_owned()))
    }

    fn decode<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, AskError> {
        let strange = |why: String| AskError::Strange(self.address, why);
        if (200..300).contains(&answer.status) {
            return serde_json::from_slice(&answer.body)
                .map_err(|error| strange(error.to_string()));
        }
        match serde_json::from_slice::<ErrorBody>(&answer.body) {
            Ok(body) => Err(AskError::Refused(answer.status, body.error)),
            Err(_) => Err(strange(format!("status {}", answer.status))),
        }
    }
}

/// Takes an answer apart; `None` when it is not whole.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, rest) = bytes.split_at(end);
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let body = rest.get(4..)?;
    let body = match length {
        Some(length) => body.get(..length)?,
        None => body,
    };
    Some(Answer {
        status,
        body: body.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart_and_cut_ones_are_noticed() {
        let whole = b"HTTP/1.1 409 Conflict\r\ncontent-length: 2\r\n\r\n{}";
        let answer = parse(whole).expect("whole");
        assert_eq!((answer.status, answer.body.as_slice()), (409, &b"{}"[..]));
        for cut in [0, 12, 30, whole.len() - 1] {
            assert!(parse(&whole[..cut]).is_none(), "cut at {cut}");
        }
        let open = parse(b"HTTP/1.1 200 OK\r\n\r\nxyz").expect("until the end");
        assert_eq!(open.body, b"xyz");
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_code() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bind");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let mut asked = vec![0; 4_096];
            let length = stream.read(&mut asked).await.expect("read");
            let body = r#"{"error":{"code":"SW0604","what":"no","where":null,"next":null}}"#;
            let answer = format!(
                "HTTP/1.1 409 Conflict\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.expect("write");
            asked.truncate(length);
            String::from_utf8(asked).expect("text")
        });
        let api = Api::new(address, "secret");
        let refused = api.get::<serde_json::Value>("/v1/nodes").await;
        assert!(
            matches!(refused, Err(AskError::Refused(409, problem)) if problem.code == "SW0604")
        );
        let asked = server.await.expect("served");
        assert!(asked.starts_with("GET /v1/nodes HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("Authorization: Bearer secret\r\n"));
    }
}
