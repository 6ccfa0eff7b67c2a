//! Figures, live and by intervals. Each is a fold of [`crate::figures`].

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use strowger_core::api;
use strowger_core::time::TimeMs;

use super::Office;
use super::answer::Refused;
use crate::figures::{self, By, Of, Wanted};

type Shared = State<Arc<Office>>;
type List = Result<Json<Vec<api::Figures>>, Refused>;

/// Whose live figures.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub struct Live {
    /// Queues unless given.
    #[serde(default)]
    of: Of,
    /// Only this one.
    name: Option<String>,
}

/// Figures since the cluster was made.
#[utoipa::path(get, path = "/v1/figures", params(Live),
    responses((status = 200, body = [api::Figures]), (status = 404, body = api::ErrorBody)))]
pub async fn figures(State(office): Shared, Query(live): Query<Live>) -> List {
    let now = office.now();
    let mut list = figures::live(&office.state.read(), live.of, now);
    if let Some(name) = &live.name {
        list.retain(|one| one.name == *name);
        if list.is_empty() {
            return Err(Refused::not_found(format!("figures of {name}")));
        }
    }
    Ok(Json(list))
}

/// Which intervals.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub struct Intervals {
    /// Queues unless given.
    #[serde(default)]
    of: Of,
    /// Only this one.
    name: Option<String>,
    /// Quarters of an hour unless given.
    #[serde(default)]
    by: By,
    /// From the interval in which this lies: RFC 3339, or a day of the tenant's time zone.
    from: Option<String>,
    /// Up to, not including, this.
    to: Option<String>,
}

/// Figures of intervals in which something was counted, by name and time.
#[utoipa::path(get, path = "/v1/figures/intervals", params(Intervals),
    responses((status = 200, body = [api::Figures]), (status = 400, body = api::ErrorBody)))]
pub async fn intervals(State(office): Shared, Query(asked): Query<Intervals>) -> List {
    let now = office.now();
    let (wanted, sources) = {
        let state = office.state.read();
        let tenant = super::tenant(&state);
        let zone = tenant.map(|tenant| figures::zone_of(&state, &tenant));
        let zone = zone.unwrap_or(jiff::tz::TimeZone::UTC);
        let moment = |text: Option<&String>, default: TimeMs| match text {
            None => Ok(default),
            Some(text) => figures::moment(text, &zone).ok_or_else(|| {
                let next = "write 2026-11-22 or 2026-11-22T09:00:00Z";
                Refused::bad_request(format!("\"{text}\" is no time"), next)
            }),
        };
        let to = moment(asked.to.as_ref(), now.plus(1))?;
        let back = figures::default_span(asked.by).as_millis();
        let back = u64::try_from(back).unwrap_or(0);
        let from = moment(asked.from.as_ref(), TimeMs(to.0.saturating_sub(back)))?;
        let wanted = Wanted {
            of: asked.of,
            name: asked.name,
            by: asked.by,
            from,
            to,
        };
        let sources = figures::sources(&state, &wanted, now);
        (wanted, sources)
    };
    if let (Some(name), true) = (&wanted.name, sources.is_empty()) {
        return Err(Refused::not_found(format!("figures of {name}")));
    }
    let rows = office.cluster.rows();
    let reading =
        tokio::task::spawn_blocking(move || figures::intervals(&*rows, sources, &wanted)).await;
    let list = reading.map_err(|error| {
        let next = "look into the log of this node";
        let code = crate::fault::code::START;
        Refused(crate::fault::Fault::new(code, error.to_string(), next))
    })?;
    let next = "narrow the range, or name one queue or agent";
    list.map(Json)
        .map_err(|error| Refused::bad_request(error.to_string(), next))
}
