//! Figures as people and programs read them: the one fold of what was counted, live and by
//! intervals, for the console, the commands, the metrics and reports.
//!
//! A queue's and an agent's figures are stored; those of a team or tenant are sums of them,
//! made here. Hours, days and months are sums of quarters in the tenant's time zone, which
//! the log knows nothing of.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use strowger_core::api::{Figures, WaitClass};
use strowger_core::floor::figure::{
    Formula, QUARTER_MS, Subject, Tally, figure_key, interval_key, interval_quarter, quarter_of,
    wait_bound_ms,
};
use strowger_core::ids::{AgentId, QueueName, TenantId};
use strowger_core::ports::{RowsRead, Table};
use strowger_core::site::Site;
use strowger_core::state::{State, count, decode_row};
use strowger_core::time::TimeMs;

use crate::limits;

/// Whose figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// Each queue.
    #[default]
    Queue,
    /// Each agent.
    Agent,
    /// Each team.
    Team,
    /// Each tenant.
    Tenant,
}

impl Of {
    fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Agent => "agent",
            Self::Team => "team",
            Self::Tenant => "tenant",
        }
    }
}

/// Length of the intervals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A quarter of an hour.
    #[default]
    Quarter,
    /// An hour.
    Hour,
    /// A day of the tenant's time zone.
    Day,
    /// A month of the tenant's time zone.
    Month,
}

/// How the service level of a group is computed: the formula and target its queues share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    formula: Formula,
    /// `None` when queues of different targets are added up.
    target_ms: Option<u64>,
}

impl Rule {
    fn of(site: Option<&Site>, queue: &QueueName) -> Self {
        let spec = site.and_then(|site| site.queues.get(queue));
        Self {
            formula: spec.map_or(Formula::default(), |spec| spec.sl_formula),
            target_ms: spec.map(|spec| spec.sl_ms),
        }
    }

    /// The rule of several queues: theirs where they agree.
    fn shared(site: Option<&Site>) -> Self {
        let queues = site.into_iter().flat_map(|site| site.queues.keys());
        let mut rules = queues.map(|queue| Self::of(site, queue));
        let none = Self {
            formula: Formula::default(),
            target_ms: None,
        };
        let Some(first) = rules.next() else {
            return none;
        };
        rules.fold(first, |shared, next| Self {
            formula: if shared.formula == next.formula {
                shared.formula
            } else {
                Formula::default()
            },
            target_ms: shared
                .target_ms
                .filter(|target| Some(*target) == next.target_ms),
        })
    }
}

/// A line of figures: its subjects are added up.
struct Group {
    tenant: TenantId,
    name: String,
    rule: Rule,
    /// Whose tallies, and whether only the time of agents is taken of them.
    parts: Vec<(Subject, bool)>,
}

/// The lines of `of`, in order of their names.
fn groups(state: &State, of: Of) -> Vec<Group> {
    match of {
        Of::Queue => queues(state),
        Of::Agent => agents(state),
        Of::Team => teams(state),
        Of::Tenant => tenants(state),
    }
}

fn queues(state: &State) -> Vec<Group> {
    let known = state.figures.keys().filter_map(|(tenant, subject)| {
        let Subject::Queue(queue) = subject else {
            return None;
        };
        Some(Group {
            tenant: tenant.clone(),
            name: queue.to_string(),
            rule: Rule::of(state.site(tenant).map(|site| &**site), queue),
            parts: vec![(subject.clone(), false)],
        })
    });
    known.collect()
}

/// Agents of the sites and those who have figures.
fn agent_keys(state: &State) -> std::collections::BTreeSet<(TenantId, AgentId)> {
    let counted = state.figures.keys().filter_map(|(tenant, subject)| {
        let Subject::Agent(agent) = subject else {
            return None;
        };
        Some((tenant.clone(), agent.clone()))
    });
    state.agents.keys().cloned().chain(counted).collect()
}

fn agents(state: &State) -> Vec<Group> {
    let group = |(tenant, agent): (TenantId, AgentId)| Group {
        name: agent.to_string(),
        rule: Rule::shared(state.site(&tenant).map(|site| &**site)),
        tenant,
        parts: vec![(Subject::Agent(agent), false)],
    };
    agent_keys(state).into_iter().map(group).collect()
}

/// Teams by the present membership; agents without one are of none.
fn teams(state: &State) -> Vec<Group> {
    let mut teams: BTreeMap<(TenantId, String), Vec<(Subject, bool)>> = BTreeMap::new();
    for (tenant, agent) in agent_keys(state) {
        let site = state.site(&tenant);
        let spec = site.and_then(|site| site.agents.get(&agent));
        if let Some(team) = spec.and_then(|spec| spec.team.as_ref()) {
            let team = teams.entry((tenant, team.to_string())).or_default();
            team.push((Subject::Agent(agent), false));
        }
    }
    let group = |((tenant, name), parts): ((TenantId, String), _)| Group {
        rule: Rule::shared(state.site(&tenant).map(|site| &**site)),
        tenant,
        name,
        parts,
    };
    teams.into_iter().map(group).collect()
}

/// Calls are counted by their queues; agents add the time they were at work.
fn tenants(state: &State) -> Vec<Group> {
    let mut tenants: BTreeMap<TenantId, Vec<(Subject, bool)>> = BTreeMap::new();
    for tenant in state.sites.keys() {
        tenants.insert(tenant.clone(), Vec::new());
    }
    for (tenant, subject) in state.figures.keys() {
        if matches!(subject, Subject::Queue(_)) {
            let parts = tenants.entry(tenant.clone()).or_default();
            parts.push((subject.clone(), false));
        }
    }
    for (tenant, agent) in agent_keys(state) {
        let parts = tenants.entry(tenant).or_default();
        parts.push((Subject::Agent(agent), true));
    }
    let group = |(tenant, parts): (TenantId, _)| Group {
        name: tenant.to_string(),
        rule: Rule::shared(state.site(&tenant).map(|site| &**site)),
        tenant,
        parts,
    };
    tenants.into_iter().map(group).collect()
}

/// What was counted of a subject up to `now`, the time of an agent that runs included.
fn live_tally(state: &State, tenant: &TenantId, subject: &Subject, now: TimeMs) -> Tally {
    let mut tally = state
        .figures
        .get(&(tenant.clone(), subject.clone()))
        .cloned()
        .unwrap_or_default();
    for (_, running) in running(state, tenant, subject, now) {
        tally.add(&running);
    }
    tally
}

/// The time of an agent that runs and is not counted yet, by quarters.
fn running(
    state: &State,
    tenant: &TenantId,
    subject: &Subject,
    now: TimeMs,
) -> Vec<(TimeMs, Tally)> {
    let Subject::Agent(agent) = subject else {
        return Vec::new();
    };
    let agent = state.agents.get(&(tenant.clone(), agent.clone()));
    agent.map_or_else(Vec::new, |agent| count::uncounted(agent, now))
}

/// Live figures.
pub fn live(state: &State, of: Of, now: TimeMs) -> Vec<Figures> {
    let groups = groups(state, of).into_iter();
    groups
        .map(|group| {
            let (tally, waiting) = sum(state, &group, now);
            let mut figures = shown(&tally, waiting, group.rule);
            of.as_str().clone_into(&mut figures.of);
            figures.tenant = group.tenant.to_string();
            figures.queue = (of == Of::Queue).then(|| group.name.clone());
            figures.name = group.name;
            figures
        })
        .collect()
}

fn sum(state: &State, group: &Group, now: TimeMs) -> (Tally, u64) {
    let mut sum = Tally::default();
    let mut waiting = 0;
    for (subject, time_only) in &group.parts {
        let tally = live_tally(state, &group.tenant, subject, now);
        sum.add(&if *time_only { tally.time_only() } else { tally });
        if let Subject::Queue(queue) = subject {
            waiting += state.waiting_count(&(group.tenant.clone(), queue.clone()));
        }
    }
    (sum, waiting)
}

/// Live figures of all tenants together.
pub fn total(state: &State, now: TimeMs) -> Figures {
    let mut sum_all = Tally::default();
    let mut waiting_all = 0;
    let mut rules = Vec::new();
    for group in tenants(state) {
        let (tally, waiting) = sum(state, &group, now);
        sum_all.add(&tally);
        waiting_all += waiting;
        rules.push(group.rule);
    }
    rules.dedup();
    let rule = match rules.as_slice() {
        [one] => *one,
        _ => Rule::shared(None),
    };
    let mut figures = shown(&sum_all, waiting_all, rule);
    "all".clone_into(&mut figures.of);
    figures
}

/// A tally as figures of the interface, without a name.
fn shown(tally: &Tally, waiting: u64, rule: Rule) -> Figures {
    let offered = tally.left() + waiting;
    let level = |formula| tally.service_level(formula, offered);
    Figures {
        offered,
        answered: tally.answered,
        abandoned: tally.abandoned,
        overflowed: tally.overflowed,
        callback_taken: tally.callback_taken,
        node_lost: tally.node_lost,
        waiting,
        answered_in_target: tally.answered_in_target,
        abandoned_in_target: tally.abandoned_in_target,
        short_abandoned: tally.short_abandoned,
        sl_formula: rule.formula.as_str().to_owned(),
        sl_target_ms: rule.target_ms,
        sl_permille: level(rule.formula),
        sl_a_permille: level(Formula::A),
        sl_b_permille: level(Formula::B),
        sl_c_permille: level(Formula::C),
        asa_ms: tally.mean_wait_ms(),
        wait_p90_ms: tally.wait_p90_ms(),
        wait_max_ms: tally.wait_max_ms,
        answered_wait_ms: tally.answered_wait_ms,
        aht_ms: tally.mean_handling_ms(),
        talk_ms: tally.talk_ms,
        hold_ms: tally.hold_ms,
        wrap_ms: tally.wrap_ms,
        ring_ms: tally.ring_ms,
        offers: tally.offers,
        missed: tally.missed,
        missed_permille: tally.missed_share(),
        adverts: tally.adverts,
        foretold: tally.foretold,
        foretold_wait_ms: tally.foretold_wait_ms,
        foretold_off_ms: tally.foretold_off_ms,
        transfers: tally.transfers,
        staffed_ms: tally.staffed_ms,
        paused_ms: tally.paused_ms,
        busy_ms: tally.busy_ms,
        occupancy_permille: tally.occupancy(),
        waits: tally
            .waits
            .iter()
            .map(|(class, count)| WaitClass {
                le_ms: wait_bound_ms(*class),
                count: *count,
            })
            .collect(),
        ..Figures::default()
    }
}

/// Which intervals.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose.
    pub of: Of,
    /// Only this one.
    pub name: Option<String>,
    /// Their length.
    pub by: By,
    /// From the interval in which this lies.
    pub from: TimeMs,
    /// Up to, not including, this.
    pub to: TimeMs,
}

/// A group as its intervals are read, after the state has been let go.
pub struct Source {
    group: Group,
    zone: TimeZone,
    running: Vec<(TimeMs, Tally)>,
}

/// What of the state intervals need: cheap, to be called under the lock.
pub fn sources(state: &State, wanted: &Wanted, now: TimeMs) -> Vec<Source> {
    let mut zones: BTreeMap<TenantId, TimeZone> = BTreeMap::new();
    let groups = groups(state, wanted.of).into_iter();
    groups
        .filter(|group| wanted.name.as_ref().is_none_or(|name| *name == group.name))
        .map(|group| {
            let zone = zones.entry(group.tenant.clone());
            let zone = zone
                .or_insert_with(|| zone_of(state, &group.tenant))
                .clone();
            let parts = group.parts.iter();
            let running = parts
                .flat_map(|(subject, _)| running(state, &group.tenant, subject, now))
                .collect();
            Source {
                group,
                zone,
                running,
            }
        })
        .collect()
}

/// The time zone of a tenant.
pub fn zone_of(state: &State, tenant: &TenantId) -> TimeZone {
    let name = state.site(tenant).map(|site| site.timezone.as_str());
    let zone = name.and_then(|name| TimeZone::get(name).ok());
    zone.unwrap_or(TimeZone::UTC)
}

/// More quarters than one answer may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "more than {} quarters of an hour would have to be read",
    limits::QUARTERS_READ_MAX
)]
pub struct TooMany;

/// The figures of each interval in which something was counted, by group and time.
///
/// # Errors
/// [`TooMany`] when the range is too wide.
pub fn intervals(
    rows: &dyn RowsRead,
    sources: Vec<Source>,
    wanted: &Wanted,
) -> Result<Vec<Figures>, TooMany> {
    let mut left = limits::QUARTERS_READ_MAX;
    let mut list = Vec::new();
    for source in sources {
        let mut sums: BTreeMap<(TimeMs, TimeMs), Tally> = BTreeMap::new();
        let begin = bounds(wanted.from, wanted.by, &source.zone).0;
        let mut take = |quarter: TimeMs, tally: &Tally| {
            if quarter >= begin && quarter < wanted.to {
                let interval = bounds(quarter, wanted.by, &source.zone);
                sums.entry(interval).or_default().add(tally);
            }
        };
        for (subject, time_only) in &source.group.parts {
            let tenant = &source.group.tenant;
            let quarters = (begin, wanted.to);
            scan(rows, tenant, subject, quarters, &mut left, |at, tally| {
                if *time_only {
                    take(at, &tally.time_only());
                } else {
                    take(at, &tally);
                }
            })?;
        }
        for (quarter, tally) in &source.running {
            take(*quarter, tally);
        }
        for ((from, to), tally) in sums {
            let mut figures = shown(&tally, 0, source.group.rule);
            // Who entered is offered then, whenever he left.
            figures.offered = tally.entered;
            let level = |formula| tally.service_level(formula, tally.entered);
            figures.sl_permille = level(source.group.rule.formula);
            figures.sl_c_permille = level(Formula::C);
            wanted.of.as_str().clone_into(&mut figures.of);
            figures.tenant = source.group.tenant.to_string();
            figures.name.clone_from(&source.group.name);
            figures.queue = (wanted.of == Of::Queue).then(|| source.group.name.clone());
            figures.from_at = Some(from.rfc3339());
            figures.to_at = Some(to.rfc3339());
            list.push(figures);
        }
    }
    Ok(list)
}

/// Reads the stored quarters of a subject, `left` at most.
fn scan(
    rows: &dyn RowsRead,
    tenant: &TenantId,
    subject: &Subject,
    (from, to): (TimeMs, TimeMs),
    left: &mut usize,
    mut take: impl FnMut(TimeMs, Tally),
) -> Result<(), TooMany> {
    let prefix = figure_key(tenant, subject);
    let before = TimeMs(quarter_of(from).0.saturating_sub(1));
    let mut after = interval_key(tenant, subject, before);
    loop {
        let page = rows.scan(
            Table::Interval,
            &prefix,
            Some(&after),
            limits::QUARTERS_PER_READ,
        );
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after.clone_from(last);
        for (key, value) in page {
            let Some(quarter) = interval_quarter(&key).filter(|quarter| *quarter < to) else {
                return Ok(());
            };
            *left = left.checked_sub(1).ok_or(TooMany)?;
            if let Some(tally) = decode_row(&value) {
                take(quarter, tally);
            }
        }
    }
}

/// Beginning and end of the interval `at` lies in.
fn bounds(at: TimeMs, by: By, zone: &TimeZone) -> (TimeMs, TimeMs) {
    let quarter = quarter_of(at);
    let local = || {
        let ms = i64::try_from(quarter.0).unwrap_or(i64::MAX);
        let stamp = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
        stamp.to_zoned(zone.clone())
    };
    let ms = |zoned: &Zoned| TimeMs(u64::try_from(zoned.timestamp().as_millisecond()).unwrap_or(0));
    let found = match by {
        By::Quarter => None,
        // By the minute, so that the hour a clock shows twice is two.
        By::Hour => {
            let past = u64::try_from(local().minute()).unwrap_or(0) * 60_000;
            let begin = TimeMs(quarter.0.saturating_sub(past));
            Some((begin, begin.plus(4 * QUARTER_MS)))
        }
        By::Day => {
            let begin = local().start_of_day().ok();
            // Into the next day whatever the clock does, then back to its beginning.
            let next = |begin: &Zoned| {
                let day = begin.checked_add(jiff::Span::new().days(1)).ok()?;
                day.start_of_day().ok()
            };
            begin.and_then(|begin| Some((ms(&begin), ms(&next(&begin)?))))
        }
        By::Month => {
            let first = local().first_of_month().and_then(|day| day.start_of_day());
            let next = |first: &Zoned| {
                let month = first.checked_add(jiff::Span::new().months(1)).ok()?;
                month.start_of_day().ok()
            };
            let first = first.ok();
            first.and_then(|first| Some((ms(&first), ms(&next(&first)?))))
        }
    };
    found.unwrap_or_else(|| (quarter, quarter.plus(QUARTER_MS)))
}

/// A moment as asked for: RFC 3339, or a day such as `2026-11-22` of the time zone.
pub fn moment(text: &str, zone: &TimeZone) -> Option<TimeMs> {
    let stamp = text.parse::<Timestamp>().ok().or_else(|| {
        let day = text.parse::<jiff::civil::Date>().ok()?;
        Some(day.to_zoned(zone.clone()).ok()?.timestamp())
    })?;
    u64::try_from(stamp.as_millisecond()).ok().map(TimeMs)
}

/// How far back intervals go unless asked otherwise.
pub fn default_span(by: By) -> SignedDuration {
    match by {
        By::Quarter | By::Hour => SignedDuration::from_hours(24),
        By::Day => SignedDuration::from_hours(31 * 24),
        By::Month => SignedDuration::from_hours(366 * 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> TimeMs {
        moment(text, &TimeZone::UTC).expect("a moment")
    }

    #[test]
    fn intervals_begin_and_end_by_the_clock_of_the_tenant() {
        let table = [
            (
                "UTC",
                By::Quarter,
                "2026-11-22T04:44:59Z",
                "2026-11-22T04:30:00Z",
                "2026-11-22T04:45:00Z",
            ),
            (
                "Asia/Shanghai",
                By::Day,
                "2026-11-22T15:59:59Z",
                "2026-11-21T16:00:00Z",
                "2026-11-22T16:00:00Z",
            ),
            (
                "Asia/Shanghai",
                By::Day,
                "2026-11-22T16:00:00Z",
                "2026-11-22T16:00:00Z",
                "2026-11-23T16:00:00Z",
            ),
            (
                "Asia/Kolkata",
                By::Hour,
                "2026-11-22T04:40:00Z",
                "2026-11-22T04:30:00Z",
                "2026-11-22T05:30:00Z",
            ),
            (
                "Asia/Kathmandu",
                By::Hour,
                "2026-11-22T04:10:00Z",
                "2026-11-22T03:15:00Z",
                "2026-11-22T04:15:00Z",
            ),
            // The day with 25 hours, its doubled hour apart, and the one with 23.
            (
                "Europe/Berlin",
                By::Day,
                "2026-10-25T12:00:00Z",
                "2026-10-24T22:00:00Z",
                "2026-10-25T23:00:00Z",
            ),
            (
                "Europe/Berlin",
                By::Hour,
                "2026-10-25T00:30:00Z",
                "2026-10-25T00:00:00Z",
                "2026-10-25T01:00:00Z",
            ),
            (
                "Europe/Berlin",
                By::Hour,
                "2026-10-25T01:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T02:00:00Z",
            ),
            (
                "Europe/Berlin",
                By::Day,
                "2026-03-29T12:00:00Z",
                "2026-03-28T23:00:00Z",
                "2026-03-29T22:00:00Z",
            ),
            (
                "Europe/Berlin",
                By::Month,
                "2026-03-29T12:00:00Z",
                "2026-02-28T23:00:00Z",
                "2026-03-31T22:00:00Z",
            ),
            (
                "Asia/Shanghai",
                By::Month,
                "2026-12-31T16:00:00Z",
                "2026-12-31T16:00:00Z",
                "2027-01-31T16:00:00Z",
            ),
        ];
        for (zone, by, moment, from, to) in table {
            let found = bounds(at(moment), by, &TimeZone::get(zone).expect("known"));
            assert_eq!(found, (at(from), at(to)), "{zone} {by:?} {moment}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_a_day_of_the_zone() {
        let zone = TimeZone::get("Asia/Shanghai").expect("known");
        assert_eq!(
            moment("2026-11-22", &zone),
            Some(at("2026-11-21T16:00:00Z"))
        );
        let same = moment("2026-11-22T08:00:00+08:00", &zone);
        assert_eq!(same, Some(at("2026-11-22T00:00:00Z")));
        assert_eq!(moment("yesterday", &zone), None);
        assert_eq!(moment("1950-01-01", &zone), None);
    }
}
