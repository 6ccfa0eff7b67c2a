//! `strowger events`: follows the stream, over a change of node too, until it is
//! interrupted. After a loss it goes on from the last cursor, so nothing is left out.

use serde_json::Value;
use strowger_core::api::Event;

use super::Session;
use crate::error::{Exit, Failure};
use crate::render::{self, Output, shape};
use crate::stream::{Delivery, EventStream};
use crate::{limits, text};

/// Prints events until `limit`, an interrupt, or no node is left.
pub fn run(session: &Session, from: &str, limit: Option<u64>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Terminal {
            why: format!("no runtime: {error}"),
        })?;
    runtime.block_on(follow(session, from, limit))
}

async fn follow(session: &Session, from: &str, limit: Option<u64>) -> Result<Exit, Failure> {
    let mut cursor = from.to_owned();
    let mut left = limit.unwrap_or(u64::MAX);
    let mut first = 0;
    if session.output == Output::Csv {
        session.print("cursor,at,type,entity,fields\n")?;
    }
    while left > 0 {
        let (node, mut stream) = open_any(session, first, &cursor).await?;
        // Whose stream ended may be behind, or about to end.
        first = node + 1;
        let before = left;
        while left > 0 {
            match stream.next().await {
                Delivery::Event(event, value) => {
                    cursor.clone_from(&event.cursor);
                    session.print(&line(session.output, &event, &value))?;
                    left -= 1;
                }
                Delivery::Refused(failure) => return Err(failure),
                Delivery::Ended(_) => break,
            }
        }
        if left == before {
            tokio::time::sleep(limits::STREAM_RETRY).await;
        }
    }
    Ok(Exit::Done)
}

/// The first node from `first` on that takes the stream, in three rounds, and which it is.
async fn open_any(
    session: &Session,
    first: usize,
    cursor: &str,
) -> Result<(usize, EventStream), Failure> {
    let access = session.client.access();
    let mut tried = Vec::new();
    for round in 0..3 {
        if round > 0 {
            tokio::time::sleep(limits::STREAM_RETRY).await;
        }
        tried.clear();
        for step in 0..access.endpoints.len() {
            let node = (first + step) % access.endpoints.len();
            match EventStream::open(access, &access.endpoints[node], cursor).await {
                Ok(stream) => return Ok((node, stream)),
                Err(Failure::NoNode { tried: why }) => tried.push(why),
                Err(failure) if failure.exit() == Exit::Unreachable => {
                    tried.push(failure.to_string());
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    Err(Failure::NoNode {
        tried: tried.join(", "),
    })
}

fn line(output: Output, event: &Event, value: &Value) -> String {
    match output {
        Output::Json => render::json_line(value),
        Output::Table => {
            let time = text::moment(&event.at);
            let kind = text::fit(&text::clean(&event.kind), 20);
            let entity = text::clean(&event.entity);
            let fields = fields(event);
            format!("{time}  {kind}  {entity}  {fields}")
                .trim_end()
                .to_owned()
                + "\n"
        }
        Output::Csv => {
            let mut row = value.clone();
            if let Some(object) = row.as_object_mut() {
                object.insert("fields".to_owned(), Value::String(fields(event)));
            }
            let csv = render::list(Output::Csv, &shape::EVENT, &[row]);
            csv.lines()
                .skip(1)
                .map(|line| format!("{line}\n"))
                .collect()
        }
    }
}

/// Further fields as `name=value`.
fn fields(event: &Event) -> String {
    let word = |value: &Value| match value {
        Value::String(word) => word.clone(),
        other => other.to_string(),
    };
    let pairs: Vec<String> = event
        .fields
        .iter()
        .map(|(name, value)| format!("{name}={}", word(value)))
        .collect();
    text::clean(&pairs.join(" ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_in_each_form() {
        let value = serde_json::json!({"cursor": "9.1", "at": "2026-11-22T01:00:00.250Z",
            "type": "agent.state", "entity": "a1", "state": "ready", "note": "x\ny"});
        let event: Event = serde_json::from_value(value.clone()).expect("an event");
        assert_eq!(
            line(Output::Table, &event, &value),
            "2026-11-22 01:00:00Z  agent.state           a1  note=x\\u{a}y state=ready\n"
        );
        assert_eq!(
            line(Output::Csv, &event, &value),
            "9.1,2026-11-22T01:00:00.250Z,agent.state,a1,note=x\\u{a}y state=ready\n"
        );
        let json: Value =
            serde_json::from_str(&line(Output::Json, &event, &value)).expect("valid JSON");
        assert_eq!(json, value);
    }
}
