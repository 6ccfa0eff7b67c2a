//! Wake-ups from the apply thread, coalesced so that they take bounded room however
//! slow their readers are: a wake-up that is already waiting is not kept twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use strowger_core::state::{Wake, WakeSink};
use tokio::sync::{Notify, watch};

/// Distinct wake-ups kept; beyond it "everything" stands for all of them.
const WAITING_MAX: usize = 65_536;

/// Where wake-ups are left and picked up. Cheap to clone.
#[derive(Clone)]
pub struct WakeHub {
    calls: Arc<Waiting>,
    cluster: watch::Sender<u64>,
    site: watch::Sender<u64>,
    events: watch::Sender<u64>,
    deadline: watch::Sender<u64>,
}

#[derive(Default)]
struct Waiting {
    wakes: Mutex<BTreeSet<Wake>>,
    notify: Notify,
}

/// Reads wake-ups about calls. One reader at a time.
pub struct CallWakes {
    waiting: Arc<Waiting>,
}

impl Default for WakeHub {
    fn default() -> Self {
        Self {
            calls: Arc::default(),
            cluster: watch::Sender::new(0),
            site: watch::Sender::new(0),
            events: watch::Sender::new(0),
            deadline: watch::Sender::new(0),
        }
    }
}

impl WakeHub {
    /// Wake-ups about calls.
    pub fn calls(&self) -> CallWakes {
        CallWakes {
            waiting: Arc::clone(&self.calls),
        }
    }

    /// Changes when nodes or service addresses may have.
    pub fn cluster(&self) -> watch::Receiver<u64> {
        self.cluster.subscribe()
    }

    /// Changes when a site was put in force.
    pub fn site(&self) -> watch::Receiver<u64> {
        self.site.subscribe()
    }

    /// Changes when events were written.
    pub fn events(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    /// Changes when the first deadline may have.
    pub fn deadline(&self) -> watch::Receiver<u64> {
        self.deadline.subscribe()
    }
}

impl CallWakes {
    /// Waits for wake-ups and takes all that are waiting.
    pub async fn next(&mut self) -> BTreeSet<Wake> {
        loop {
            let notified = self.waiting.notify.notified();
            let taken = std::mem::take(&mut *self.waiting.wakes.lock());
            if !taken.is_empty() {
                return taken;
            }
            notified.await;
        }
    }
}

impl WakeSink for WakeHub {
    fn wake(&mut self, wakes: Vec<Wake>) {
        let bump = |sender: &watch::Sender<u64>| sender.send_modify(|count| *count += 1);
        let mut calls = false;
        for wake in wakes {
            match wake {
                Wake::Cluster => bump(&self.cluster),
                Wake::Site(_) => bump(&self.site),
                Wake::Events => bump(&self.events),
                Wake::Deadline => bump(&self.deadline),
                Wake::All => {
                    for sender in [&self.cluster, &self.site, &self.events, &self.deadline] {
                        bump(sender);
                    }
                    self.calls.wakes.lock().insert(Wake::All);
                    calls = true;
                }
                Wake::Call(_) => {
                    let mut waiting = self.calls.wakes.lock();
                    if waiting.len() < WAITING_MAX {
                        waiting.insert(wake);
                    } else {
                        waiting.insert(Wake::All);
                    }
                    calls = true;
                }
            }
        }
        if calls {
            self.calls.notify.notify_one();
        }
    }
}
