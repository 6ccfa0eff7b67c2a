//! Queues and agents of a site file, and what they name of each other: skills, teams,
//! queues of steps, reasons for pauses.

use std::collections::{BTreeMap, BTreeSet};

use strowger_core::floor::figure::Formula;
use strowger_core::ids::{AgentId, QueueName, SkillName, TeamName};
use strowger_core::limits as core_limits;
use strowger_core::site::{AgentSpec, PauseSpec, QueueSpec, RelaxStep, Strategy};
use strowger_core::skill::{LEVEL_MAX, SkillRule};

use super::read::{
    Part, Rest, checked, contact_of, duplicate, named, names, qualify, referred, wrong,
};
use crate::document::At;
use crate::fault::{Fault, code};
use crate::limits;

/// Names declared, and names used before it is known whether they mean something.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Skills of `[[skill]]`; when there are none, agents declare them.
    skills: BTreeSet<SkillName>,
    /// Teams of `[[team]]`; when there are none, agents declare them.
    teams: BTreeSet<TeamName>,
    /// Skills in the rules of queues.
    rules: Vec<At<String>>,
    /// Queues and teams in the steps of queues.
    step_queues: Vec<At<String>>,
    step_teams: Vec<At<String>>,
}

fn formula(part: &mut Part<'_, '_>) -> Result<Formula, Fault> {
    let Some(text) = part.text("sl_formula")? else {
        return Ok(Formula::default());
    };
    let next = "use \"SL-A\", \"SL-B\" or \"SL-C\"";
    Formula::named(&text.value).ok_or_else(|| wrong(&text, "a formula of the service level", next))
}

impl Rest<'_> {
    /// Reads `[[skill]]`.
    pub(super) fn skill(&mut self, mut part: Part<'_, '_>) -> Result<(), Fault> {
        let name = named(&mut part, "name")?;
        part.finish()?;
        if self.named.skills.insert(SkillName::from(&*name.value)) {
            return Ok(());
        }
        Err(duplicate("skill", &name))
    }

    /// Reads `[[team]]`.
    pub(super) fn team(&mut self, mut part: Part<'_, '_>) -> Result<(), Fault> {
        let name = named(&mut part, "name")?;
        part.finish()?;
        if self.named.teams.insert(TeamName::from(&*name.value)) {
            return Ok(());
        }
        Err(duplicate("team", &name))
    }

    /// Reads `[[pause]]`.
    pub(super) fn pause(&mut self, mut part: Part<'_, '_>) -> Result<(), Fault> {
        let reason = named(&mut part, "reason")?;
        let limit_s = part.number("limit_s", 1..=86_400)?;
        let productive = part.flag("productive")?.unwrap_or(false);
        part.finish()?;
        let pauses = &mut self.read.site.pauses;
        if pauses.iter().any(|pause| pause.reason == reason.value) {
            return Err(duplicate("pause", &reason));
        }
        pauses.push(PauseSpec {
            reason: reason.value,
            limit_ms: limit_s.map(|limit| limit.value * 1_000),
            productive,
        });
        Ok(())
    }

    /// Reads `[[queue]]`.
    pub(super) fn queue(&mut self, mut part: Part<'_, '_>) -> Result<(), Fault> {
        let name = named(&mut part, "name")?;
        let strategy = match part.text("strategy")? {
            None => Strategy::LongestIdle,
            Some(text) => Strategy::from_word(&text.value).ok_or_else(|| {
                let words: Vec<_> = Strategy::ALL.iter().map(|one| one.as_str()).collect();
                let next = format!("use one of {}", words.join(", "));
                wrong(&text, "a strategy", &next)
            })?,
        };
        let mut number = |key, default, range| -> Result<u64, Fault> {
            Ok(part
                .number(key, range)?
                .map_or(default, |number| number.value))
        };
        let ring_ms = number("ring_s", 15, 1..=600)? * 1_000;
        let wrap_ms = number("wrap_s", 10, 0..=3_600)? * 1_000;
        let missed_max = number("missed_max", 3, 0..=1_000)?;
        let weight = number("weight", 0, 0..=1_000_000)?;
        let slope = number("slope", 1, 0..=10_000)?;
        let age_max_ms = number("age_max_s", 600, 0..=86_400)? * 1_000;
        let sticky_ms = number("sticky_s", 0, 0..=3_600)? * 1_000;
        let sl_ms = number("sl_s", 20, 1..=3_600)? * 1_000;
        let short_abandon_ms = number("short_abandon_s", 5, 0..=600)? * 1_000;
        let sl_formula = formula(&mut part)?;
        let music = part.text("music")?;
        let agent_announcement = part.text("agent_announcement")?;
        let comfort = self.comfort(&mut part)?;
        let skills = part.text("skills")?;
        let steps = part.sections("relax")?;
        let place = part.place();
        part.finish()?;
        let skills = match skills {
            Some(text) => self.rule(&text)?,
            None => SkillRule::Anyone,
        };
        if steps.len() > core_limits::RELAX_STEPS {
            let what = format!("`relax` has {} steps", steps.len());
            let next = format!("use at most {}", core_limits::RELAX_STEPS);
            return Err(Fault::new(code::SITE_VALUE, what, next).at(place));
        }
        let mut relax: Vec<RelaxStep> = Vec::with_capacity(steps.len());
        for step in steps {
            let latest = relax.last().map_or(0, |step| step.after_ms);
            relax.push(self.step(step, latest)?);
        }
        let music = music.map(|music| self.sound(&music)).transpose()?;
        let agent_announcement = agent_announcement
            .map(|sound| self.short_sound(&sound, limits::AGENT_ANNOUNCEMENT_MS_MAX))
            .transpose()?;
        let spec = QueueSpec {
            strategy,
            ring_ms,
            wrap_ms,
            missed_max: u32::try_from(missed_max).unwrap_or(u32::MAX),
            music,
            agent_announcement,
            sl_ms,
            short_abandon_ms,
            sl_formula,
            comfort,
            weight: i64::try_from(weight).unwrap_or(0),
            slope: u32::try_from(slope).unwrap_or(0),
            age_max_ms,
            skills,
            relax,
            sticky_ms,
        };
        let queues = &mut self.read.site.queues;
        let known = queues.insert(QueueName::from(name.value.as_str()), spec);
        known.map_or(Ok(()), |_| Err(duplicate("queue", &name)))
    }

    fn rule(&mut self, text: &At<String>) -> Result<SkillRule, Fault> {
        let rule = SkillRule::parse(&text.value).map_err(|why| {
            let what = format!("the rule \"{}\" cannot be understood: {why}", text.value);
            let next = "write such as lang>=2 & (tv | radio)";
            Fault::new(code::SITE_VALUE, what, next).at(text.place.clone())
        })?;
        for skill in rule.names() {
            self.named.rules.push(At {
                value: skill.to_string(),
                place: text.place.clone(),
            });
        }
        Ok(rule)
    }

    /// Reads one step of `relax`, which must come after `latest`, ms.
    fn step(&mut self, mut part: Part<'_, '_>, latest: u64) -> Result<RelaxStep, Fault> {
        let place = part.place();
        let after_s = part.number("after_s", 1..=86_400)?.ok_or_else(|| {
            let what = "a step of `relax` lacks `after_s`";
            Fault::new(code::SITE_VALUE, what, "add after_s = 20").at(place.clone())
        })?;
        let skills = part.text("skills")?;
        let queues = part.texts("queues")?.unwrap_or_default();
        let teams = part.texts("teams")?.unwrap_or_default();
        part.finish()?;
        let after_ms = after_s.value * 1_000;
        if after_ms <= latest {
            let what = format!("the step after {} s does not come later", after_s.value);
            let next = "write the steps in rising order of `after_s`";
            return Err(Fault::new(code::SITE_VALUE, what, next).at(after_s.place));
        }
        if skills.is_none() && queues.is_empty() && teams.is_empty() {
            let what = "a step of `relax` changes nothing";
            let next = "add skills, queues or teams";
            return Err(Fault::new(code::SITE_VALUE, what, next).at(place));
        }
        let skills = skills.map(|text| self.rule(&text)).transpose()?;
        let step = RelaxStep {
            after_ms,
            skills,
            queues: queues
                .iter()
                .map(|queue| QueueName::from(&*queue.value))
                .collect(),
            teams: teams
                .iter()
                .map(|team| TeamName::from(&*team.value))
                .collect(),
        };
        self.named.step_queues.extend(queues);
        self.named.step_teams.extend(teams);
        Ok(step)
    }

    /// Reads `[[agent]]`.
    pub(super) fn agent(&mut self, mut part: Part<'_, '_>) -> Result<(), Fault> {
        let (id, range) = (part.text("id")?, part.text("range")?);
        let extension = part.text("extension")?;
        let contact = part.text("contact")?;
        let devices = part.texts("devices")?.unwrap_or_default();
        let queues = part.texts("queues")?.unwrap_or_default();
        let skills = part.levels("skills", 1..=u64::from(LEVEL_MAX))?;
        let team = part.text("team")?;
        let wrap_s = part.number("wrap_s", 0..=3_600)?;
        let signed_in = part.flag("signed_in")?.unwrap_or(false);
        // Two silences in a row are noticed within 8 s.
        let qualify_s = qualify(&mut part, 4)?;
        let place = part.place();
        part.finish()?;
        let (names, named_at) = match (id, range) {
            (Some(id), None) => (vec![id.value], id.place),
            (None, Some(range)) => (names(&range)?, range.place),
            _ => {
                let next = "write id = \"a1\" or range = \"s001-s050\"";
                let what = "[[agent]] needs either `id` or `range`";
                return Err(Fault::new(code::SITE_VALUE, what, next).at(place));
            }
        };
        if devices.len() >= core_limits::FORKS_PER_CALL {
            let what = format!("an agent has {} devices", devices.len());
            let next = format!("use fewer than {}", core_limits::FORKS_PER_CALL);
            return Err(Fault::new(code::SITE_VALUE, what, next).at(place));
        }
        let queues: BTreeSet<QueueName> = queues
            .iter()
            .map(|queue| self.queue_named(&queue.value, &queue.place))
            .collect::<Result<_, _>>()?;
        let extension = match extension {
            Some(text) => Some(self.extension_named(&text.value, &text.place)?),
            None => None,
        };
        let skills = self.levels(skills)?;
        let team = team.map(|team| self.team_of(&team)).transpose()?;
        for name in names {
            let name = At {
                value: name,
                place: named_at.clone(),
            };
            checked(&name)?;
            let contact_at = |device| contact_of(Some(device), &name.value);
            let devices = devices.iter().map(contact_at);
            let devices = devices.collect::<Result<Vec<_>, _>>()?;
            let agents = &mut self.read.site.agents;
            let spec = AgentSpec {
                extension: extension.clone(),
                contact: contact_of(contact.as_ref(), &name.value)?,
                devices: devices.into_iter().flatten().collect(),
                queues: queues.clone(),
                skills: skills.clone(),
                team: team.clone(),
                wrap_ms: wrap_s.as_ref().map(|wrap| wrap.value * 1_000),
                place: u32::try_from(agents.len()).unwrap_or(u32::MAX),
                signed_in,
                qualify_s,
            };
            if agents
                .insert(AgentId::from(name.value.as_str()), spec)
                .is_some()
            {
                return Err(duplicate("agent", &name));
            }
        }
        Ok(())
    }

    fn levels(&self, levels: Vec<(At<String>, u64)>) -> Result<BTreeMap<SkillName, u8>, Fault> {
        if levels.len() > limits::SKILLS_PER_AGENT_MAX {
            let what = format!("an agent has {} skills", levels.len());
            let next = format!("use at most {}", limits::SKILLS_PER_AGENT_MAX);
            let fault = Fault::new(code::SITE_VALUE, what, next);
            return Err(match levels.first() {
                Some((name, _)) => fault.at(name.place.clone()),
                None => fault,
            });
        }
        let mut found = BTreeMap::new();
        for (name, level) in levels {
            checked(&name)?;
            if !self.named.skills.is_empty() {
                let known = self.named.skills.iter().map(SkillName::as_str);
                referred("skill", &name.value, &name.place, known)?;
            }
            let level = u8::try_from(level).unwrap_or(LEVEL_MAX);
            found.insert(SkillName::from(name.value), level);
        }
        Ok(found)
    }

    fn team_of(&self, team: &At<String>) -> Result<TeamName, Fault> {
        checked(team)?;
        if !self.named.teams.is_empty() {
            let known = self.named.teams.iter().map(TeamName::as_str);
            referred("team", &team.value, &team.place, known)?;
        }
        Ok(TeamName::from(&*team.value))
    }

    /// Checks what queues name of agents and of each other, once all have been read.
    pub(super) fn named_by_queues(&self) -> Result<(), Fault> {
        let site = &self.read.site;
        let agents = || site.agents.values();
        let skills: BTreeSet<&str> = agents()
            .flat_map(|agent| agent.skills.keys())
            .chain(&self.named.skills)
            .map(SkillName::as_str)
            .collect();
        for skill in &self.named.rules {
            referred("skill", &skill.value, &skill.place, skills.iter().copied())?;
        }
        for queue in &self.named.step_queues {
            self.queue_named(&queue.value, &queue.place)?;
        }
        let teams: BTreeSet<&str> = agents()
            .filter_map(|agent| agent.team.as_ref())
            .chain(&self.named.teams)
            .map(TeamName::as_str)
            .collect();
        for team in &self.named.step_teams {
            referred("team", &team.value, &team.place, teams.iter().copied())?;
        }
        Ok(())
    }
}
