//! The families that are only looked at.

use super::Session;
use super::args::{CdrVerb, ClusterVerb, ListVerb, ThingVerb, Verb};
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
        Verb::Trunk { verb } => thing(session, "/v1/trunks", &shape::TRUNK, &verb),
        Verb::Registration {
            verb: ListVerb::List,
        } => session.list("/v1/registrations", &shape::REGISTRATION),
        Verb::Cdr {
            verb: CdrVerb::List { after, limit },
        } => session.list(&cdr_path(after.as_deref(), limit), &shape::CDR),
        Verb::Figures => session.list("/v1/figures", &shape::FIGURES),
        Verb::Node { .. }
        | Verb::Site { .. }
        | Verb::Extension { .. }
        | Verb::Agent { .. }
        | Verb::Call { .. }
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
