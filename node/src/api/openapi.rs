//! The description of the interface (OpenAPI 3.1), made from the handlers.

use axum::Json;
use utoipa::OpenApi;

use super::{backup, changes, customers, health, imports, reads, reports, sites};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Strowger",
        description = "The interface of a Strowger node, version 1."
    ),
    paths(
        reads::cluster,
        reads::overview,
        reads::nodes,
        reads::node,
        reads::extensions,
        reads::extension,
        imports::import,
        reads::registrations,
        reads::agents,
        reads::agent,
        reads::queues,
        reads::queue,
        reads::all_hours,
        reads::hours,
        reads::hours_day,
        reads::calls,
        reads::call,
        reads::why,
        reads::callbacks,
        reads::trunks,
        reads::trunk,
        reads::cdrs,
        reports::figures,
        reports::intervals,
        sites::upload,
        sites::current,
        sites::history,
        sites::rollback,
        changes::command,
        changes::invite,
        changes::withdraw,
        backup::take,
        customers::list,
        customers::create,
        customers::card,
        customers::put,
        customers::patch,
        customers::remove,
        customers::import,
        customers::imports,
        customers::progress,
        customers::rejects,
        health::live,
        health::ready,
        health::metrics,
    ),
    components(schemas(strowger_core::api::Event))
)]
struct Description;

/// The description as JSON.
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Description::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_of_the_interface_is_described() {
        let text = Description::openapi().to_json().expect("JSON");
        let wanted = [
            "/v1/nodes",
            "/v1/commands",
            "/v1/site/rollback",
            "SiteChange",
            "/v1/extensions/import",
            "\"Cdr\"",
            "/v1/customers/import",
            "\"CustomerCard\"",
        ];
        for name in wanted {
            assert!(text.contains(name), "{name}");
        }
    }
}
