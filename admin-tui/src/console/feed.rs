//! What brings messages to the console: requests and the event stream. Both use the
//! client's attached node; whichever finds it dead moves on, and the other follows.

use strowger_core::api::{Action, Command};
use tokio::sync::mpsc::Sender;

use super::app::Msg;
use super::model::{Answer, Topic};
use crate::client::Client;
use crate::error::Failure;
use crate::limits;
use crate::stream::{Delivery, EventStream};

/// Asks for `topic`; the answer becomes a message.
pub fn ask(client: &Client, topic: Topic, to: &Sender<Msg>) {
    let (client, to) = (client.clone(), to.clone());
    tokio::task::spawn_blocking(move || {
        let msg = match fetch(&client, topic) {
            Ok(answer) => {
                let node = client.endpoint(client.attached()).clone();
                Msg::Answered(Box::new(answer), node)
            }
            Err(failure) => Msg::Missed(topic, failure),
        };
        // The console ended: nobody is left to tell.
        let _ = to.blocking_send(msg);
    });
}

fn fetch(client: &Client, topic: Topic) -> Result<Answer, Failure> {
    let path = topic.path();
    Ok(match topic {
        Topic::Overview => Answer::Overview(client.get(path)?),
        Topic::Queues => Answer::Queues(client.get(path)?),
        Topic::Agents => Answer::Agents(client.get(path)?),
        Topic::Calls => Answer::Calls(client.get(path)?),
        Topic::Registrations => Answer::Registrations(client.get(path)?),
        Topic::Nodes => Answer::Nodes(client.get(path)?),
        Topic::Cluster => Answer::Cluster(client.get(path)?),
    })
}

/// Sends a command; its outcome becomes a message.
pub fn act(client: &Client, what: String, action: Action, to: &Sender<Msg>) {
    let (client, to) = (client.clone(), to.clone());
    tokio::task::spawn_blocking(move || {
        let command = Command {
            id: crate::cli::command_id(),
            action,
        };
        let outcome = client.post("/v1/commands", &command).map(|_| ());
        let _ = to.blocking_send(Msg::Outcome(what, outcome));
    });
}

/// Keeps an event stream open to the attached node, for ever.
pub async fn stream(client: Client, to: Sender<Msg>) {
    let count = client.access().endpoints.len();
    let mut refused = 0;
    loop {
        let index = client.attached();
        let endpoint = client.endpoint(index).clone();
        let why = match EventStream::open(client.access(), &endpoint, "now").await {
            Ok(open) => {
                refused = 0;
                if to.send(Msg::Attached(endpoint)).await.is_err() {
                    return;
                }
                follow(&client, index, open, &to).await
            }
            Err(failure) => {
                refused += 1;
                failure.to_string()
            }
        };
        if to.send(Msg::Lost(why)).await.is_err() {
            return;
        }
        // A request may have moved on already; then its choice stands.
        if client.attached() == index {
            client.attach((index + 1) % count);
        }
        if refused > 0 && refused % count == 0 {
            tokio::time::sleep(limits::STREAM_RETRY).await;
        }
    }
}

/// Passes events on until the stream ends or requests moved to another node.
async fn follow(client: &Client, index: usize, mut open: EventStream, to: &Sender<Msg>) -> String {
    let mut look = tokio::time::interval(limits::TICK_INTERVAL);
    loop {
        tokio::select! {
            delivery = open.next() => match delivery {
                Delivery::Event(..) => {
                    if to.send(Msg::Event).await.is_err() {
                        return String::new();
                    }
                }
                Delivery::Ended(why) => return why,
                Delivery::Refused(failure) => return failure.to_string(),
            },
            _ = look.tick() => {
                if client.attached() != index {
                    return format!("{} gave no answer", client.endpoint(index));
                }
            }
        }
    }
}
