//! Sites: validated with file and line, compared, sealed, spread and put in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use serde::Deserialize;
use strowger_core::api;
use strowger_core::call::CallRow;
use strowger_core::floor::agent::AgentState;
use strowger_core::ids::{Extension, TenantId};
use strowger_core::ports::{RowsRead, Table};
use strowger_core::site::Site;
use strowger_core::state::command::{Command, Reply, SiteApply};
use strowger_core::state::store::site_key;
use strowger_core::state::{SiteRow, decode_row};

use super::answer::{Body, Refused};
use super::changes::commit;
use super::{Office, tenant};
use crate::fault::{Fault, code};
use crate::limits;
use crate::secrets::{Credentials, password};
use crate::site::diff::{Difference, difference};
use crate::site::{self, SiteRead};

type Shared = State<Arc<Office>>;
type Answer<T> = Result<Json<T>, Refused>;

/// Validates a site, shows the difference and puts it in force unless it is a dry run.
#[utoipa::path(post, path = "/v1/site", request_body = api::SiteUpload,
    responses((status = 200, body = api::SiteChange), (status = 422, body = api::ErrorBody),
        (status = 409, body = api::ErrorBody), (status = 503, body = api::ErrorBody)))]
pub async fn upload(
    State(office): Shared,
    Body(upload): Body<api::SiteUpload>,
) -> Answer<api::SiteChange> {
    let dry_run = upload.dry_run;
    let (base, imported) = in_force(&office);
    let reading = tokio::task::spawn_blocking(move || read(&upload, &imported));
    let read = reading.await.map_err(|error| defect(&error))??;
    only_tenant(&office, &read.site.tenant)?;
    let plan = plan(&office, &read.site, base);
    if dry_run || plan.unchanged(&office, &read) {
        return Ok(Json(plan.change(plan.base, true, Vec::new())));
    }
    for bytes in read.blobs.values() {
        let put = office.blobs.store().put(bytes).await;
        put.map_err(|error| Fault::new(code::DATA_FOLDER, error.to_string(), "free some space"))?;
    }
    let (secrets, generated) = sealed(&office, &read);
    apply(&office, plan, read.site, read.text, secrets, generated).await
}

/// The version in force, and what was imported into it: what is worked out from the one holds
/// only as long as the other, so the version is the base of the change.
pub(super) fn in_force(office: &Office) -> (u64, BTreeSet<Extension>) {
    let state = office.state.read();
    let row = state.sites.values().next();
    row.map_or_else(Default::default, |row| {
        (row.version, row.site.imported.clone())
    })
}

fn read(upload: &api::SiteUpload, imported: &BTreeSet<Extension>) -> Result<SiteRead, Fault> {
    if upload.attachments.len() > limits::SITE_ATTACHMENTS_MAX {
        let next = format!("use at most {}", limits::SITE_ATTACHMENTS_MAX);
        return Err(Fault::new(code::SITE_ATTACHMENT, "too many files", next));
    }
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut attachments = BTreeMap::new();
    for (path, text) in &upload.attachments {
        let bytes = base64.decode(text).map_err(|error| {
            let what = format!("\"{path}\" is not base64: {error}");
            Fault::new(
                code::BAD_REQUEST,
                what,
                "encode it with the standard alphabet",
            )
        })?;
        attachments.insert(path.clone(), bytes);
    }
    site::read_with(&upload.file, &upload.text, &attachments, imported)
}

pub(super) fn defect(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(
        code::START,
        error.to_string(),
        "look into the log of this node",
    )
}

/// Commands name no tenant yet, so there is one.
fn only_tenant(office: &Office, wanted: &TenantId) -> Result<(), Refused> {
    match tenant(&office.state.read()) {
        Some(known) if known != *wanted => {
            let what = format!("this exchange serves tenant {known}, not {wanted}");
            Err(Refused(Fault::new(
                code::REFUSED,
                what,
                "use the tenant name in force",
            )))
        }
        _ => Ok(()),
    }
}

/// What applying a site means for the floor as it is.
pub(super) struct Plan {
    base: u64,
    difference: Difference,
    calls: u64,
    agents: u64,
}

pub(super) fn plan(office: &Office, new: &Site, base: u64) -> Plan {
    let state = office.state.read();
    let row = state.sites.get(&new.tenant);
    let difference = difference(row.map(|row| &*row.site), new);
    let touched = |call: &&CallRow| {
        let queue = call
            .visit
            .as_ref()
            .is_some_and(|v| difference.queues.contains(&v.queue));
        let agent = call
            .agent
            .as_ref()
            .is_some_and(|agent| difference.agents.contains(agent));
        let caller = call.from.extension.as_ref();
        queue || agent || caller.is_some_and(|one| difference.extensions.contains(one))
    };
    let of_tenant = state
        .calls
        .values()
        .filter(|call| call.tenant == new.tenant);
    let calls = of_tenant.filter(touched).count();
    let agents = state
        .agents
        .values()
        .filter(|agent| agent.tenant == new.tenant && difference.agents.contains(&agent.id))
        .filter(|agent| state.agent_state(agent) != AgentState::SignedOut)
        .count();
    Plan {
        base,
        calls: u64::try_from(calls).unwrap_or(u64::MAX),
        agents: u64::try_from(agents).unwrap_or(u64::MAX),
        difference,
    }
}

impl Plan {
    /// True when applying would change neither site nor text nor a password.
    fn unchanged(&self, office: &Office, read: &SiteRead) -> bool {
        let state = office.state.read();
        let same = state
            .sites
            .get(&read.site.tenant)
            .is_some_and(|row| *row.site == read.site && row.text == read.text);
        drop(state);
        same && sealed(office, read).0.is_empty()
    }

    fn change(
        &self,
        version: u64,
        dry_run: bool,
        generated: Vec<api::GeneratedSecret>,
    ) -> api::SiteChange {
        api::SiteChange {
            version,
            dry_run,
            diff: self.difference.lines.clone(),
            calls_affected: self.calls,
            agents_affected: self.agents,
            generated,
        }
    }
}

pub(super) type Sealed = (Vec<(Extension, Vec<u8>)>, Vec<api::GeneratedSecret>);

/// Seals the passwords that are new or changed, and generates those that are missing.
/// A secret made for another domain is of no use and is made anew.
pub(super) fn sealed(office: &Office, read: &SiteRead) -> Sealed {
    let rows = office.cluster.rows();
    let (tenant, realm) = (&read.site.tenant, read.site.domain.as_str());
    let known = |extension: &Extension| office.vault.credentials(&*rows, tenant, extension);
    let mut secrets = Vec::new();
    for (extension, word) in &read.passwords {
        if known(extension) != Some(Credentials::of(extension.as_str(), realm, word)) {
            let sealed = office.vault.seal(tenant, extension, realm, word);
            secrets.push((extension.clone(), sealed));
        }
    }
    let lacking = read
        .generated
        .iter()
        .filter(|one| known(one).is_none_or(|credentials| credentials.realm != realm));
    let mut generated = Vec::new();
    for extension in lacking {
        let word = password();
        secrets.push((
            extension.clone(),
            office.vault.seal(tenant, extension, realm, &word),
        ));
        let extension = extension.to_string();
        generated.push(api::GeneratedSecret {
            extension,
            password: word,
        });
    }
    (secrets, generated)
}

pub(super) async fn apply(
    office: &Office,
    plan: Plan,
    site: Site,
    text: String,
    secrets: Vec<(Extension, Vec<u8>)>,
    generated: Vec<api::GeneratedSecret>,
) -> Answer<api::SiteChange> {
    let blobs: BTreeSet<_> = site.blobs.keys().copied().collect();
    if !office.blobs.spread(&office.cluster, &blobs).await {
        let what = "no majority of nodes could be given the sound files of this site";
        return Err(Refused(Fault::new(
            code::BLOB_MAJORITY,
            what,
            "start the nodes that are down",
        )));
    }
    let command = SiteApply {
        times: site::hours::times(&site, office.now()),
        site: Arc::new(site),
        text,
        base: plan.base,
        secrets,
    };
    match commit(
        office,
        &Command::SiteApply(command),
        limits::SITE_COMMIT_DEADLINE,
    )
    .await?
    {
        Reply::Site { version } => Ok(Json(plan.change(version, false, generated))),
        other => Err(Refused(defect(&format!("unexpected reply {other:?}")))),
    }
}

/// The site in force, with its text.
#[utoipa::path(get, path = "/v1/site",
    responses((status = 200, body = api::SiteVersion), (status = 404, body = api::ErrorBody)))]
pub async fn current(State(office): Shared) -> Answer<api::SiteVersion> {
    let row = office.state.read().sites.values().next().cloned();
    let row = row.ok_or_else(|| Refused::not_found("site; apply one first"))?;
    Ok(Json(version(&row, row.version, true)))
}

/// Versions of the site, newest first.
#[utoipa::path(get, path = "/v1/site/history", responses((status = 200, body = [api::SiteVersion])))]
pub async fn history(State(office): Shared) -> Answer<Vec<api::SiteVersion>> {
    let current = office.state.read().sites.values().next().cloned();
    let Some(current) = current else {
        return Ok(Json(Vec::new()));
    };
    let rows = versions(&*office.cluster.rows(), &current.site.tenant);
    let list = rows
        .iter()
        .rev()
        .map(|row| version(row, current.version, false));
    Ok(Json(list.collect()))
}

fn versions(rows: &dyn RowsRead, tenant: &TenantId) -> Vec<SiteRow> {
    let mut prefix = site_key(tenant, 0);
    prefix.truncate(prefix.len().saturating_sub(8));
    let mut list = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    while list.len() < limits::PAGE_MAX {
        let page = rows.scan(Table::Site, &prefix, after.as_deref(), 64);
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        list.extend(
            page.iter()
                .filter_map(|(_, value)| decode_row::<SiteRow>(value)),
        );
    }
    list
}

fn version(row: &SiteRow, current: u64, with_text: bool) -> api::SiteVersion {
    api::SiteVersion {
        version: row.version,
        applied_at: row.applied_at.rfc3339(),
        hash: blake3::hash(row.text.as_bytes()).to_hex().to_string(),
        text: with_text.then(|| row.text.clone()),
        current: row.version == current,
    }
}

/// Which version to return to.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct Rollback {
    /// A version of the history.
    version: u64,
}

/// Puts an earlier version in force again, as a new version.
#[utoipa::path(post, path = "/v1/site/rollback", request_body = Rollback,
    responses((status = 200, body = api::SiteChange), (status = 404, body = api::ErrorBody)))]
pub async fn rollback(
    State(office): Shared,
    Body(wish): Body<Rollback>,
) -> Answer<api::SiteChange> {
    let tenant = tenant(&office.state.read());
    let tenant = tenant.ok_or_else(|| Refused::not_found("site; apply one first"))?;
    let row = office
        .cluster
        .rows()
        .get(Table::Site, &site_key(&tenant, wish.version));
    let row = row.and_then(|value| decode_row::<SiteRow>(&value));
    let row = row.ok_or_else(|| Refused::not_found(format!("site version {}", wish.version)))?;
    let mut site = Site::clone(&row.site);
    let (base, imported) = in_force(&office);
    site::import::carry_over(&mut site, &imported)?;
    let lacking = site
        .extensions
        .iter()
        .filter(|(_, spec)| spec.contact.is_none());
    let read = SiteRead {
        // Passwords are committed; a changed domain voids them, and an extension that left
        // the site meanwhile has lost its own.
        generated: lacking.map(|(extension, _)| extension.clone()).collect(),
        text: row.text,
        site,
        passwords: BTreeMap::new(),
        blobs: BTreeMap::new(),
    };
    let plan = plan(&office, &read.site, base);
    let (secrets, generated) = sealed(&office, &read);
    apply(&office, plan, read.site, read.text, secrets, generated).await
}
