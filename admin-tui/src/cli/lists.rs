//! The families that are looked at more than changed.

use strowger_core::api::Action;

use super::Session;
use super::args::{By, CallbackVerb, CdrVerb, ClusterVerb, FiguresArgs, ListVerb, ThingVerb, Verb};
use crate::client::segment;
use crate::error::{Exit, Failure};
use crate::render::{Shape, shape};

/// Lists or shows what the verb names.
pub fn run(session: &Session, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Cluster {
            verb: ClusterVerb::Show,
        } => {
            let cluster = session.client.get("/v1/cluster")?;
            session.one(&shape::CLUSTER, &cluster)
        }
        Verb::Queue { verb } => thing(session, "/v1/queues", &shape::QUEUE, &verb),
        Verb::Callback {
            verb: CallbackVerb::List,
        } => session.list("/v1/callbacks", &shape::CALLBACK),
        Verb::Callback {
            verb: CallbackVerb::Cancel { id },
        } => session.act(Action::CallbackCancel { callback: id }),
        Verb::Trunk { verb } => thing(session, "/v1/trunks", &shape::TRUNK, &verb),
        Verb::Registration {
            verb: ListVerb::List,
        } => session.list("/v1/registrations", &shape::REGISTRATION),
        Verb::Cdr {
            verb: CdrVerb::List { after, limit },
        } => session.list(&cdr_path(after.as_deref(), limit), &shape::CDR),
        Verb::Figures(asked) => figures(session, &asked),
        Verb::Node { .. }
        | Verb::Site { .. }
        | Verb::Extension { .. }
        | Verb::Agent { .. }
        | Verb::Call { .. }
        | Verb::Hours { .. }
        | Verb::Customer { .. }
        | Verb::Why { .. }
        | Verb::Events { .. }
        | Verb::Doctor
        | Verb::Console => unreachable!("these families have rooms of their own"),
    }
}

fn thing(session: &Session, path: &str, shape: &Shape, verb: &ThingVerb) -> Result<Exit, Failure> {
    match verb {
        ThingVerb::List => session.list(path, shape),
        ThingVerb::Show { name } => session.show(path, name, shape),
    }
}

fn figures(session: &Session, asked: &FiguresArgs) -> Result<Exit, Failure> {
    let (of, name) = [
        ("agent", &asked.agent),
        ("team", &asked.team),
        ("tenant", &asked.tenant),
        ("queue", &asked.queue),
    ]
    .into_iter()
    .find_map(|(of, given)| given.as_ref().map(|name| (of, name.as_deref())))
    .unwrap_or(("queue", None));
    let mut query = format!("of={of}");
    let by = asked.by.map(|by| match by {
        By::Quarter => "quarter",
        By::Hour => "hour",
        By::Day => "day",
        By::Month => "month",
    });
    let given = [
        ("name", name),
        ("by", by),
        ("from", asked.from.as_deref()),
        ("to", asked.to.as_deref()),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            query.push_str(&format!("&{key}={}", segment(value)));
        }
    }
    let path = match by {
        Some(_) => "/v1/figures/intervals",
        None => "/v1/figures",
    };
    let by_calls = matches!(of, "queue" | "tenant");
    let shape = match (by_calls, by.is_some()) {
        (true, false) => &shape::FIGURES,
        (true, true) => &shape::FIGURES_INTERVAL,
        (false, false) => &shape::WORK,
        (false, true) => &shape::WORK_INTERVAL,
    };
    session.list(&format!("{path}?{query}"), shape)
}

fn cdr_path(after: Option<&str>, limit: Option<u64>) -> String {
    let mut query = Vec::new();
    if let Some(after) = after {
        query.push(format!("after={}", segment(after)));
    }
    if let Some(limit) = limit {
        query.push(format!("limit={limit}"));
    }
    if query.is_empty() {
        return "/v1/cdrs".to_owned();
    }
    format!("/v1/cdrs?{}", query.join("&"))
}
