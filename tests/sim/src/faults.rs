//! What goes wrong, drawn from the seed.
//!
//! A majority of the nodes is always to come back, but for moments there may be none; each
//! fault ends by itself.

use crate::world::{Event, World};

/// One fault.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Some fault, and another one will follow.
    Any,
    /// A node is killed, and others will be, at this interval.
    Kill,
}

impl World {
    /// Something goes wrong.
    pub fn fault(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        self.checks.faults += 1;
        match fault {
            Fault::Any => {
                let pause = self.chance.within(1, self.plan.fault_every_ms);
                self.after(pause, Event::Fault(Fault::Any));
                self.go_wrong();
            }
            Fault::Kill => {
                let pause = self.plan.kill_every_ms.unwrap_or(u64::MAX);
                self.after(pause, Event::Fault(Fault::Kill));
                let node = self.chance.within(1, self.plan.nodes);
                let (power, down) = (self.chance.once_in(300), self.chance.span(500, 60_000));
                self.kill(node, power, false);
                self.after(down, Event::Start(node));
            }
        }
    }

    fn go_wrong(&mut self) {
        let node = self.chance.within(1, self.plan.nodes);
        match self.chance.within(0, 99) {
            0..=29 => {
                let (power, silent) = (self.chance.once_in(300), self.chance.once_in(200));
                let down = self.chance.span(20, 20_000);
                self.kill(node, power, silent);
                self.after(down, Event::Start(node));
            }
            30..=34 => {
                // The lights go out everywhere.
                for node in 1..=self.plan.nodes {
                    self.kill(node, true, false);
                    let down = self.chance.span(100, 5_000);
                    self.after(down, Event::Start(node));
                }
            }
            35..=54 => {
                let ms = self.chance.span(200, 20_000);
                self.freeze(node, ms);
            }
            55..=69 => {
                // Cut off from everybody, one way or both.
                let until = self.now() + self.chance.span(100, 15_000);
                let (out, back) = (self.chance.once_in(700), self.chance.once_in(700));
                self.note(&format!("node {node} is cut off, out {out}, in {back}"));
                for other in 1..=self.plan.nodes {
                    if out {
                        self.cuts.insert((node, other), until);
                    }
                    if back {
                        self.cuts.insert((other, node), until);
                    }
                }
            }
            70..=77 => {
                // One direction between two nodes.
                let other = self.chance.within(1, self.plan.nodes);
                let until = self.now() + self.chance.span(100, 15_000);
                self.note(&format!("nothing gets from node {node} to node {other}"));
                self.cuts.insert((node, other), until);
            }
            78..=85 => {
                let until = self.now() + self.chance.span(500, 15_000);
                if let Some(own) = self.nodes.get_mut(&node) {
                    own.slow_until = until;
                }
                self.note(&format!("the disk of node {node} is slow"));
            }
            86..=89 => {
                let offset = self.chance.within(0, 800);
                if let Some(own) = self.nodes.get_mut(&node) {
                    own.clock_offset_ms = i64::try_from(offset).unwrap_or(0) - 400;
                }
            }
            _ => {
                if self.agreement.leader != Some(node) && self.is_electable(node) {
                    self.lead(node);
                }
            }
        }
    }

    /// Faults and new callers come to an end; what is broken is mended.
    pub fn calm_down(&mut self) {
        self.note("calm");
        self.calm = true;
        self.cuts.clear();
        for number in 1..=self.plan.nodes {
            self.thaw(number);
            if let Some(node) = self.nodes.get_mut(&number) {
                node.slow_until = 0;
                node.clock_offset_ms = 0;
            }
            self.after(0, Event::Start(number));
        }
    }
}
