//! The event stream over WebSocket (RFC 6455), resumable from a cursor.
//!
//! Nothing is buffered for a reader: events are read from the rows when the reader can
//! take them. A reader that does not take them in time is closed with code 1008; a
//! cursor whose event is no longer kept is answered with a `resync` error, code 4000. One who
//! has seen more at another node than this one has is closed with code 1013: nothing is
//! lost, any other node goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use strowger_core::ports::Table;
use strowger_core::state::command::Command;
use strowger_core::state::decode_row;
use strowger_core::state::event::{EventRow, event_key};
use strowger_core::state::machine::encode_command;
use tokio::time::{Instant, timeout};

use super::Office;
use super::answer::Refused;
use crate::fault::{Fault, code};
use crate::{limits, view};

/// Close code: start anew, because events between have been dropped.
const CLOSE_RESYNC: u16 = 4000;
/// Close code: the reader is too slow (RFC 6455 §7.4.1, policy).
const CLOSE_SLOW: u16 = 1008;
/// Close code: this node ends.
const CLOSE_ENDING: u16 = 1001;
/// Close code: not here and now, but elsewhere (RFC 6455 §7.4.2, registered as "try again
/// later").
const CLOSE_BEHIND: u16 = 1013;
/// How long this node may be behind a reader's cursor before the reader is sent elsewhere: one
/// that comes from another node may have seen more than this one has applied.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Where to begin.
#[derive(Debug, Deserialize)]
pub struct From {
    from: Option<String>,
}

/// Where a reader stands: after this event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// After what is known now.
    Now,
    /// At the oldest event kept.
    Oldest,
    /// After this event.
    After(u64, u32),
}

fn start(from: Option<&str>) -> Option<Start> {
    match from {
        None | Some("" | "now") => Some(Start::Now),
        Some("0") => Some(Start::Oldest),
        Some(cursor) => {
            let (index, n) = cursor.split_once('.')?;
            Some(Start::After(index.parse().ok()?, n.parse().ok()?))
        }
    }
}

/// Connects a reader.
pub async fn connect(
    State(office): State<Arc<Office>>,
    Query(from): Query<From>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refused> {
    let text = from.from.as_deref();
    let start = start(text).ok_or_else(|| {
        let what = format!("\"{}\" is no cursor", text.unwrap_or(""));
        Refused::bad_request(what, "use from=now, from=0 or the cursor of an event")
    })?;
    let place = Place::take(&office).ok_or_else(|| {
        let what = "too many event readers are connected";
        Refused(Fault::new(
            code::BUSY,
            what,
            "close some, or ask another node",
        ))
    })?;
    let upgrade = upgrade
        .max_message_size(4_096)
        .max_write_buffer_size(256 << 10);
    Ok(upgrade.on_upgrade(move |socket| async move { serve(&place.0, socket, start).await }))
}

/// A place among the readers, given back when dropped.
struct Place(Arc<Office>);

impl Place {
    fn take(office: &Arc<Office>) -> Option<Self> {
        let before = office.readers.fetch_add(1, Ordering::Relaxed);
        let place = Self(Arc::clone(office));
        let max = u64::try_from(limits::EVENT_READERS_MAX).unwrap_or(u64::MAX);
        (before < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a reader's stream ends.
enum End {
    /// The reader left.
    Left,
    /// Closed by us with this code.
    Close(u16, &'static str),
    /// Its cursor is too old.
    Resync,
}

async fn serve(office: &Office, mut socket: WebSocket, start: Start) {
    let end = stream(office, &mut socket, start).await;
    let (code, reason) = match end {
        End::Left => return,
        End::Close(code, reason) => (code, reason),
        End::Resync => {
            let what = "the events after this cursor are no longer kept";
            let next = "read the lists anew and continue with from=now";
            let body = Fault::new(code::RESYNC, what, next).body();
            if let Ok(text) = serde_json::to_string(&body) {
                let _ = put(&mut socket, Message::text(text)).await;
            }
            (CLOSE_RESYNC, "resync")
        }
    };
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    let _ = put(&mut socket, Message::Close(Some(frame))).await;
}

async fn put(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match timeout(limits::EVENT_WRITE_TIMEOUT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Left),
        Err(_) => Err(End::Close(CLOSE_SLOW, "too slow")),
    }
}

async fn stream(office: &Office, socket: &mut WebSocket, start: Start) -> End {
    let mut applied = office.cluster.applied();
    let mut after = match begin(office, start).await {
        Ok(after) => after,
        Err(end) => return end,
    };
    let mut ping =
        tokio::time::interval_at(Instant::now() + limits::EVENT_PING, limits::EVENT_PING);
    loop {
        // Marked before reading, so that nothing applied meanwhile is missed.
        applied.mark_unchanged();
        loop {
            match batch(office, socket, &mut after).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(end) => return end,
            }
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() {
                return End::Close(CLOSE_ENDING, "the node ends");
            },
            () = office.stop.cancelled() => return End::Close(CLOSE_ENDING, "the node ends"),
            _ = ping.tick() => if let Err(end) = put(socket, Message::Ping(Vec::new().into())).await {
                return end;
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Left,
                // Readers have nothing to say; pongs are noted by the library.
                Some(Ok(_)) => {}
            },
        }
    }
}

/// The key to read after.
async fn begin(office: &Office, start: Start) -> Result<Vec<u8>, End> {
    match start {
        Start::Now => Ok(event_key(office.state.read().meta.index, u32::MAX).to_vec()),
        Start::Oldest => Ok(Vec::new()),
        Start::After(index, n) => {
            let reached = timeout(CATCH_UP, office.cluster.wait_applied(index)).await;
            if reached != Ok(true) {
                return Err(match is_unknown(office, index).await {
                    true => End::Resync,
                    false => End::Close(CLOSE_BEHIND, "this node is behind, ask another"),
                });
            }
            let key = event_key(index, n).to_vec();
            match office.cluster.rows().get(Table::Event, &key) {
                Some(_) => Ok(key),
                None => Err(End::Resync),
            }
        }
    }
}

/// True when nobody has an entry of this index: one that is committed only now comes before it.
async fn is_unknown(office: &Office, index: u64) -> bool {
    let command = encode_command(&Command::Tick);
    let (_, committed) = office.cluster.propose_indexed(command, CATCH_UP).await;
    committed != 0 && committed < index
}

/// Sends the next events; whether there may be more.
async fn batch(office: &Office, socket: &mut WebSocket, after: &mut Vec<u8>) -> Result<bool, End> {
    let rows = office.cluster.rows();
    let from = (!after.is_empty()).then_some(after.as_slice());
    let page = rows.scan(Table::Event, &[], from, limits::EVENTS_PER_READ);
    let full = page.len() == limits::EVENTS_PER_READ;
    for (key, value) in page {
        let event = decode_row::<EventRow>(&value).and_then(|row| view::event(&key, row));
        *after = key;
        let text = event.and_then(|event| serde_json::to_string(&event).ok());
        if let Some(text) = text {
            put(socket, Message::text(text)).await?;
        }
    }
    Ok(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_or_refused() {
        let table = [
            (None, Some(Start::Now)),
            (Some("now"), Some(Start::Now)),
            (Some("0"), Some(Start::Oldest)),
            (Some("42.7"), Some(Start::After(42, 7))),
            (Some("42"), None),
            (Some("x.1"), None),
            (Some("-1.1"), None),
        ];
        for (text, wanted) in table {
            assert_eq!(start(text), wanted, "{text:?}");
        }
    }
}
