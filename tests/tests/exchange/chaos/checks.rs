//! What has to hold after every fault, and at the end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use strowger_tests::apart::Apart;
use strowger_tests::poll::within_time;

use super::PATIENCE;
use super::clients::Clients;
use super::load::{Load, Sums, Talk};

/// What was found so far.
#[derive(Default)]
pub struct Checks {
    pub wrong: Vec<String>,
    pub lost_calls: usize,
    pub records_lost: usize,
    pub records_doubled: usize,
    /// The records read last, by id and in order.
    records: Vec<String>,
    figures: BTreeMap<String, u64>,
    served: usize,
    doubles: BTreeSet<String>,
}

impl Checks {
    /// The cluster has caught up after a fault.
    pub fn after_fault(&mut self, cluster: &Apart, load: &mut Load, clients: &Clients, what: &str) {
        self.after(cluster, load, || clients.judge(cluster), what);
    }

    /// The same, with what is found elsewhere.
    pub fn after(
        &mut self,
        cluster: &Apart,
        load: &mut Load,
        find: impl FnOnce() -> Vec<String>,
        what: &str,
    ) {
        let before = self.wrong.len();
        self.calls(load);
        self.wrong.extend(find());
        self.records(cluster);
        self.figures(cluster);
        self.agents(cluster);
        for number in cluster.numbers() {
            let breaches = cluster
                .api(number)
                .metric("strowger_invariant_breaches_total", &[]);
            if breaches != Some(0.0) {
                let found = format!("node {number}: {breaches:?} breaches of invariants");
                self.wrong.push(found);
            }
        }
        for double in load.doubles() {
            if self.doubles.insert(double.clone()) {
                self.wrong.push(double);
            }
        }
        for found in &mut self.wrong[before..] {
            *found = format!("{what}: {found}");
            println!("  WRONG {found}");
        }
    }

    fn calls(&mut self, load: &mut Load) {
        let (kept, lost): (Vec<Talk>, Vec<Talk>) = std::mem::take(&mut load.talks)
            .into_iter()
            .partition(|talk| within_time(PATIENCE, || talk.is_heard().then_some(())).is_some());
        load.talks = kept;
        self.lost_calls += lost.len();
        for talk in lost {
            let views = talk.ends.each_ref().map(strowger_tests::phone::Call::view);
            self.wrong
                .push(format!("call to {} is lost: {views:?}", talk.number));
            talk.ends
                .iter()
                .for_each(strowger_tests::phone::Call::hang_up);
        }
        for talk in std::mem::take(&mut load.leaving) {
            for end in &talk.ends {
                if end.ended(PATIENCE).is_none() {
                    let view = end.view();
                    self.wrong
                        .push(format!("nobody told that {} ended: {view:?}", talk.number));
                    end.hang_up();
                }
            }
            let byes = talk.ends.iter().map(|end| end.view().byes).max();
            if byes > Some(1) {
                self.wrong.push(format!("{byes:?} BYEs in {}", talk.number));
            }
            load.sums.note(&talk);
        }
        let served = load.served();
        for caller in served.iter().skip(self.served).filter(|one| !one.well) {
            self.lost_calls += 1;
            self.wrong.push(format!(
                "caller {} of the queue {}",
                caller.from, caller.what
            ));
        }
        self.served = served.len();
    }

    /// Records are only ever added, in one order, the same everywhere.
    fn records(&mut self, cluster: &Apart) {
        for number in cluster.numbers() {
            let Some(rows) = cluster.api(number).cdrs() else {
                self.wrong.push(format!("node {number} tells no records"));
                continue;
            };
            let ids: Vec<String> = rows.iter().map(|row| row["id"].to_string()).collect();
            let common = ids.len().min(self.records.len());
            if ids[..common] != self.records[..common] {
                self.wrong.push(format!(
                    "node {number} has other records than were read before"
                ));
            }
            if ids.len() > self.records.len() {
                self.records = ids;
            }
        }
    }

    /// Figures agree with themselves and never fall.
    fn figures(&mut self, cluster: &Apart) {
        let Some(rows) = cluster.any_api().list("/v1/figures") else {
            return self.wrong.push("no figures".to_owned());
        };
        for row in rows {
            let count = |name: &str| row[name].as_u64().unwrap_or(0);
            let parts = [
                "answered",
                "abandoned",
                "overflowed",
                "callback_taken",
                "node_lost",
                "waiting",
            ];
            let sum: u64 = parts.iter().map(|part| count(part)).sum();
            if count("offered") != sum {
                self.wrong.push(format!("figures do not add up: {row}"));
            }
            if count("node_lost") > 0 {
                self.wrong
                    .push(format!("callers were lost with their node: {row}"));
            }
            for name in ["offered", "answered", "abandoned"] {
                let key = format!("{} {} {name}", row["queue"], row["name"]);
                let before = self.figures.insert(key, count(name)).unwrap_or(0);
                if count(name) < before {
                    self.wrong.push(format!("{name} fell from {before}: {row}"));
                }
            }
        }
    }

    /// Nobody is kept by a call that is over.
    fn agents(&mut self, cluster: &Apart) {
        let mut stuck = Vec::new();
        let free = within_time(PATIENCE, || {
            let api = cluster.any_api();
            let agents = api.list("/v1/agents")?;
            let calls = api.list("/v1/calls")?;
            let live = |id: &Value| calls.iter().any(|call| call["agent"] == *id);
            let busy = |row: &&Value| {
                let state = row["state"].as_str().unwrap_or_default();
                matches!(state, "talking" | "held") && !live(&row["id"])
            };
            stuck = agents.iter().filter(busy).map(Value::to_string).collect();
            stuck.is_empty().then_some(())
        });
        if free.is_none() {
            self.wrong.push(format!("agents are stuck: {stuck:?}"));
        }
    }

    /// Everybody has hung up: each call has left one record.
    pub fn at_the_end(&mut self, cluster: &Apart, sums: &Sums) {
        let rows = cluster.any_api().cdrs().unwrap_or_default();
        let mut of_call: BTreeMap<String, usize> = BTreeMap::new();
        let mut by: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for row in &rows {
            *of_call.entry(row["call"].to_string()).or_default() += 1;
            for key in ["to", "from"] {
                by.entry(row[key].as_str().unwrap_or_default())
                    .or_default()
                    .push(row);
            }
        }
        self.records_doubled += of_call.values().filter(|count| **count > 1).count();
        let served = sums.served.iter().map(|one| &one.from);
        for number in sums.talked.iter().chain(served) {
            let own = by.get(number.as_str()).map_or(&[][..], Vec::as_slice);
            match own {
                [row] if row["disposition"] == "answered" => {}
                [] => {
                    self.records_lost += 1;
                    self.wrong.push(format!("no record of {number}"));
                }
                rows => {
                    self.records_doubled += usize::from(rows.len() > 1);
                    self.wrong.push(format!("records of {number}: {rows:?}"));
                }
            }
        }
        for number in cluster.numbers() {
            for event in cluster.log(number) {
                let code = event["fields"]["code"].as_str().unwrap_or_default();
                if matches!(code, "SW0403" | "SW0404" | "SW0405") {
                    self.wrong
                        .push(format!("node {number} stood aside: {event}"));
                }
            }
        }
    }
}
