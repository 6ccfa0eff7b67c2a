//! Many calls that talk at once by way of one node, between one caller's phone and one device.

use std::net::SocketAddr;
use std::time::Duration;

use crate::phone::{Call, Phone, Policy};
use crate::poll::eventually;

/// What is done soon on a busy machine.
const SOON: Duration = Duration::from_secs(15);
/// Between two new calls of one phone: a tenth of what one source may send.
const PAUSE: Duration = Duration::from_millis(20);
/// Who is heard is heard within this time.
const HEARD: Duration = Duration::from_millis(500);

/// Calls that talk by way of a node, both ends of each.
pub struct Talks {
    /// How many calls.
    pub calls: usize,
    /// Their ends, callers first.
    pub ends: Vec<Call>,
    _phones: [Phone; 2],
}

impl Talks {
    /// `caller` calls so many numbers from `first` on by way of `server`; all of them are
    /// those of `device`, which answers. Everybody is heard, and counts anew.
    pub fn begin(
        server: SocketAddr,
        caller: Phone,
        device: Phone,
        first: usize,
        calls: usize,
    ) -> Self {
        device.set_policy(Policy::Answer {
            after: Duration::ZERO,
            talk: None,
        });
        let mut ends: Vec<Call> = (0..calls)
            .map(|n| {
                std::thread::sleep(PAUSE);
                caller.call(server, &(first + n).to_string())
            })
            .collect();
        for call in &ends {
            assert!(call.answered(SOON), "{:?}", call.view());
        }
        ends.extend(device.calls());
        assert_eq!(ends.len(), 2 * calls, "each call has two ends");
        for end in &ends {
            end.wait(SOON, |_| end.audio().counts().received > 50)
                .expect("everybody is heard");
        }
        ends.iter().for_each(|end| end.audio().reset());
        Self {
            calls,
            ends,
            _phones: [caller, device],
        }
    }

    /// The two ends of a call that still talks, the caller's first.
    pub fn other_call(&self) -> (&Call, &Call) {
        let (callers, called) = self.ends.split_at(self.calls);
        let talks = |end: &&Call| {
            let last = end.audio().counts().last;
            end.view().ended.is_none() && last.is_some_and(|last| last.elapsed() < HEARD)
        };
        let one = callers.iter().find(talks).expect("a caller talks");
        let other = called.iter().find(talks).expect("and somebody is called");
        (one, other)
    }

    /// How long each end heard nothing, ms; everybody is still heard.
    pub fn gaps(&self) -> Vec<f64> {
        let heard = |end: &Call| {
            let counts = end.audio().counts();
            assert!(end.view().ended.is_none(), "{:?}", end.view());
            let last = counts.last.expect("heard before");
            let view = end.view();
            assert!(last.elapsed() < HEARD, "{} is heard no more", view.peer);
            counts.gap_max.as_secs_f64() * 1_000.0
        };
        self.ends.iter().map(heard).collect()
    }

    /// Half of the callers hang up, and all that are left of the called.
    pub fn end(&self) {
        let (callers, called) = self.ends.split_at(self.calls);
        callers.iter().step_by(2).for_each(Call::hang_up);
        let told = callers.iter().step_by(2).count();
        eventually(SOON, "half of the called are told", || {
            let ended = called.iter().filter(|end| end.view().ended.is_some());
            (ended.count() == told).then_some(())
        });
        let left = called.iter().filter(|end| end.view().ended.is_none());
        left.for_each(Call::hang_up);
        for end in &self.ends {
            end.ended(SOON).expect("every end is told");
        }
    }
}
