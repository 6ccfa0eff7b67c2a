//! Is this process alive, does this node serve, and what do its gauges say.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::json;

use super::Office;
use crate::figures::{self, Of};
use crate::metrics::{Readings, text};
use crate::{limits, memory, view};

type Shared = State<Arc<Office>>;

/// The process answers.
#[utoipa::path(get, path = "/health/live", responses((status = 200)))]
pub async fn live() -> impl IntoResponse {
    axum::Json(json!({ "live": true }))
}

impl Office {
    /// Why this node is not ready; empty when it is.
    pub fn unready(&self) -> Vec<&'static str> {
        let figures = self.cluster.figures();
        let behind = figures.last_log.saturating_sub(figures.applied);
        let checks = [
            (self.ending.load(Ordering::Relaxed), "ending"),
            (self.cluster.stood_aside().is_some(), "stands aside"),
            (
                figures.leader.is_none() || !self.cluster.lease_valid(),
                "no contact to a majority",
            ),
            (behind > limits::READY_LAG_MAX, "behind the leader"),
            (!self.gauges.serves_sip(), "SIP is not served yet"),
        ];
        checks
            .into_iter()
            .filter(|(wrong, _)| *wrong)
            .map(|(_, why)| why)
            .collect()
    }
}

/// This node takes calls: it has applied nearly everything, reaches a majority and
/// serves SIP on the addresses it holds.
#[utoipa::path(get, path = "/health/ready", responses((status = 200), (status = 503)))]
pub async fn ready(State(office): Shared) -> impl IntoResponse {
    let why = office.unready();
    let status = if why.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        axum::Json(json!({ "ready": why.is_empty(), "why": why })),
    )
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain")))]
pub async fn metrics(State(office): Shared) -> impl IntoResponse {
    let cluster = office.cluster.figures();
    let now = office.now();
    let (figures, trunks, calls, registrations) = {
        let state = office.state.read();
        let calls = u64::try_from(state.calls.len()).unwrap_or(u64::MAX);
        let registrations = view::registrations_count(&state);
        (
            figures::live(&state, Of::Queue, now),
            view::trunks(&state),
            calls,
            registrations,
        )
    };
    let body = text(&Readings {
        figures: &figures,
        trunks: &trunks,
        calls,
        registrations,
        cluster: &cluster,
        rtp_ports: office.gauges.rtp_ports_in_use(),
        call_actors: office.gauges.call_actors(),
        tasks: u64::try_from(
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks(),
        )
        .unwrap_or(u64::MAX),
        sip_messages: office.gauges.sip_messages(),
        dropped: &office.gauges.dropped(),
        event_readers: office.readers.load(Ordering::Relaxed),
        breaches: office.breaches.load(Ordering::Relaxed),
        // Its allocator is built to count.
        memory: memory::read().unwrap_or_default(),
    });
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        body,
    )
}
