//! The handle signalling holds: commands to legs, the directory of who serves which leg.
//!
//! Every method returns at once except `stats`, a `bridge` that must move a leg to another
//! worker, and what says how a leg is to be while its worker's queue is full: those wait for a
//! worker's round, about a millisecond. The directory's lock orders commands; workers never take
//! it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError, bounded};
use parking_lot::Mutex;

use crate::clip::{Clip, SAMPLE_RATE};
use crate::command::{Command, Playback};
use crate::error::{MediaError, OpenError, StartError};
use crate::event::{EventReceiver, LegStats, Totals};
use crate::leg::Leg;
use crate::limits;
use crate::ports::{PortLease, PortPool};
use crate::socket::{self, Waker};
use crate::tone::Tone;
use crate::types::{Codec, Digit, EngineConfig, LegKey, LegMedia, OpenLeg, PlayToken, Repeat};
use crate::worker::{self, WorkerTotals};

/// The RTP engine. Clones share it; it stops with [`Engine::stop`] or the last clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    directory: Mutex<Directory>,
    workers: Vec<WorkerHandle>,
    pool: Arc<PortPool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    digits_refused: AtomicU64,
    in_doubt: Arc<AtomicBool>,
}

#[derive(Default)]
struct Directory {
    legs: HashMap<LegKey, Entry>,
    /// Legs per worker.
    load: Vec<usize>,
    stopped: bool,
}

struct Entry {
    worker: usize,
    codec: Option<Codec>,
    telephone_events: bool,
}

struct WorkerHandle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    totals: Arc<WorkerTotals>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("workers", &self.inner.workers.len())
            .finish()
    }
}

impl Engine {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// A configuration nobody can serve, or a system out of threads or descriptors.
    pub fn start(config: EngineConfig) -> Result<(Self, EventReceiver), StartError> {
        if config.workers == 0 || config.workers > limits::WORKERS_MAX {
            return Err(StartError::Workers(config.workers));
        }
        let (first, last) = (*config.ports.start(), *config.ports.end());
        let pool = PortPool::new(&config.ports).ok_or(StartError::Ports { first, last })?;
        let (event_sender, queue) = bounded(limits::EVENT_QUEUE);
        let in_doubt = Arc::new(AtomicBool::new(false));
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for number in 0..config.workers {
            let (commands, inbox) = bounded(limits::COMMAND_QUEUE);
            let waker = Arc::new(Waker::new()?);
            let totals = Arc::new(WorkerTotals::default());
            let parts = worker::Parts {
                number,
                config: config.clone(),
                inbox,
                waker: Arc::clone(&waker),
                events: event_sender.clone(),
                totals: Arc::clone(&totals),
                in_doubt: Arc::clone(&in_doubt),
            };
            threads.push(worker::spawn(parts)?);
            workers.push(WorkerHandle {
                commands,
                waker,
                totals,
            });
        }
        let directory = Directory {
            load: vec![0; workers.len()],
            ..Directory::default()
        };
        let inner = Inner {
            directory: Mutex::new(directory),
            workers,
            pool,
            threads: Mutex::new(threads),
            digits_refused: AtomicU64::new(0),
            in_doubt,
        };
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            EventReceiver { queue },
        ))
    }

    /// Closes every leg (each with its `Closed` event) and ends the threads. A second call does
    /// nothing. Waits for the threads.
    pub fn stop(&self) {
        self.inner.stop();
    }

    /// While in doubt, others may have taken this node's calls over without its knowing. All
    /// goes on, but a phone that has ceased to talk to this node is sent nothing: it talks to
    /// the other by now, and would hear both.
    pub fn set_in_doubt(&self, in_doubt: bool) {
        self.inner.in_doubt.store(in_doubt, Ordering::Relaxed);
    }

    /// Opens a leg on the next free port pair of a local address. Nothing is sent or accepted
    /// before [`Engine::configure`].
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is held after an error.
    pub fn open(&self, leg: LegKey, local: IpAddr) -> Result<OpenLeg, OpenError> {
        let mut directory = self.inner.directory.lock();
        let worker = directory.place(leg)?;
        let mut tries = 0;
        // Leases of ports that other processes hold are kept until a free one is found, so that
        // the search goes on; dropping them returns them.
        let mut occupied: Vec<PortLease> = Vec::new();
        loop {
            let lease = self.inner.pool.take(local)?;
            tries += 1;
            match socket::bind_pair(local, lease.port()) {
                Ok(sockets) => {
                    return self
                        .inner
                        .adopt(&mut directory, worker, leg, lease, sockets);
                }
                Err(failure) if failure.occupied() && tries < limits::BIND_TRIES => {
                    occupied.push(lease);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// Opens a leg on a given even port, for a call taken over together with its ports.
    ///
    /// # Errors
    /// As [`Engine::open`], and `PortInUse` or `PortOutOfRange`.
    pub fn open_at(&self, leg: LegKey, local: IpAddr, port: u16) -> Result<OpenLeg, OpenError> {
        let mut directory = self.inner.directory.lock();
        let worker = directory.place(leg)?;
        let lease = self.inner.pool.take_port(local, port)?;
        let sockets = socket::bind_pair(local, port)?;
        self.inner
            .adopt(&mut directory, worker, leg, lease, sockets)
    }

    /// Keeps ports of an address for legs that are to be opened at them, for a minute: other
    /// legs get them only when no other is left.
    ///
    /// # Errors
    /// `TooManyAddresses`.
    pub fn keep_ports(
        &self,
        local: IpAddr,
        ports: impl IntoIterator<Item = u16>,
    ) -> Result<(), OpenError> {
        self.inner.pool.keep(local, ports, limits::PORTS_KEPT)
    }

    /// Sets what was agreed for a leg; may be called again at any time (hold, re-INVITE). A new
    /// `remote` opens the learning of the source again.
    ///
    /// # Errors
    /// `UnknownLeg`, `PayloadType`, `Stopped`.
    pub fn configure(&self, leg: LegKey, media: LegMedia) -> Result<(), MediaError> {
        let types = [Some(media.payload_type), media.dtmf_payload_type];
        if let Some(bad) = types
            .into_iter()
            .flatten()
            .find(|payload_type| *payload_type > 127)
        {
            return Err(MediaError::PayloadType(bad));
        }
        let mut directory = self.inner.directory.lock();
        let worker = directory.entry(leg)?.worker;
        self.inner
            .send_surely(worker, Command::Configure(leg, media))?;
        let entry = directory.entry(leg)?;
        entry.codec = Some(media.codec);
        entry.telephone_events = media.dtmf_payload_type.is_some();
        Ok(())
    }

    /// Relays between two legs, both ways; ends any bridge either had.
    ///
    /// # Errors
    /// `UnknownLeg`, `SameLeg`, `Stopped`.
    pub fn bridge(&self, a: LegKey, b: LegKey) -> Result<(), MediaError> {
        if a == b {
            return Err(MediaError::SameLeg(a));
        }
        let mut directory = self.inner.directory.lock();
        let target = directory.entry(a)?.worker;
        let source = directory.entry(b)?.worker;
        if target != source {
            self.inner.relocate(&mut directory, b, source, target)?;
        }
        self.inner.send_surely(target, Command::Bridge(a, b))
    }

    /// Ends the bridge of a leg, for both sides. Does nothing to a leg without one.
    ///
    /// # Errors
    /// `UnknownLeg`, `Stopped`.
    pub fn unbridge(&self, leg: LegKey) -> Result<(), MediaError> {
        self.surely(leg, Command::Unbridge(leg))
    }

    /// Plays a clip to a leg instead of what it is bridged to or was playing. The first packet
    /// leaves within 20 ms.
    ///
    /// # Errors
    /// `UnknownLeg`, `Overloaded`, `Stopped`.
    pub fn play(
        &self,
        leg: LegKey,
        clip: Arc<Clip>,
        repeat: Repeat,
        token: PlayToken,
    ) -> Result<(), MediaError> {
        self.playback(
            leg,
            Playback {
                clip,
                repeat,
                samples_max: None,
                token,
            },
        )
    }

    /// Plays music until stopped; the same as `play` with [`Repeat::Loop`] and token 0.
    ///
    /// # Errors
    /// As [`Engine::play`].
    pub fn hold_music(&self, leg: LegKey, clip: Arc<Clip>) -> Result<(), MediaError> {
        self.play(leg, clip, Repeat::Loop, PlayToken::default())
    }

    /// Plays a tone for so many milliseconds, or until stopped.
    ///
    /// # Errors
    /// As [`Engine::play`].
    pub fn tone(
        &self,
        leg: LegKey,
        tone: Tone,
        ms: Option<u32>,
        token: PlayToken,
    ) -> Result<(), MediaError> {
        let samples_max = ms.map(|ms| u64::from(ms) * u64::from(SAMPLE_RATE) / 1_000);
        let clip = tone.clip();
        self.playback(
            leg,
            Playback {
                clip,
                repeat: Repeat::Loop,
                samples_max,
                token,
            },
        )
    }

    /// Stops what is played to a leg; a bridge is heard again. Does nothing to a quiet leg.
    ///
    /// # Errors
    /// `UnknownLeg`, `Stopped`.
    pub fn stop_playing(&self, leg: LegKey) -> Result<(), MediaError> {
        self.surely(leg, Command::Stop(leg))
    }

    /// Sends a digit to the phone (RFC 4733) for so many milliseconds, after those already
    /// waiting; other audio to the leg pauses meanwhile.
    ///
    /// # Errors
    /// `NoTelephoneEvents`, `UnknownLeg`, `Overloaded`, `Stopped`.
    pub fn send_digit(&self, leg: LegKey, digit: Digit, ms: u32) -> Result<(), MediaError> {
        let mut directory = self.inner.directory.lock();
        let entry = directory.entry(leg)?;
        if !entry.telephone_events {
            self.inner.digits_refused.fetch_add(1, Ordering::Relaxed);
            return Err(MediaError::NoTelephoneEvents(leg));
        }
        self.inner
            .send(entry.worker, Command::SendDigit(leg, digit, ms))
    }

    /// Closes a leg. Its key may be opened again at once; its ports are free when `Closed`
    /// arrives.
    ///
    /// # Errors
    /// `UnknownLeg` (never opened, or closed before), `Stopped`.
    pub fn close(&self, leg: LegKey) -> Result<(), MediaError> {
        let mut directory = self.inner.directory.lock();
        let worker = directory.entry(leg)?.worker;
        self.inner.send_surely(worker, Command::Close(leg))?;
        directory.forget(leg);
        Ok(())
    }

    /// The statistics of a leg now. Waits for a round of its worker.
    ///
    /// # Errors
    /// `UnknownLeg`, `Overloaded`, `Stopped`.
    pub fn stats(&self, leg: LegKey) -> Result<LegStats, MediaError> {
        let (reply, answer) = bounded(1);
        self.command(leg, Command::Stats(leg, reply))?;
        answer
            .recv_timeout(limits::ANSWER_WAIT)
            .map_err(|_| MediaError::Overloaded)
    }

    /// Port pairs in use, over all local addresses.
    pub fn ports_in_use(&self) -> usize {
        self.inner.pool.in_use()
    }

    /// Port pairs each local address has.
    pub fn ports_per_address(&self) -> usize {
        self.inner.pool.pairs()
    }

    /// Sums over all legs, for metrics. Reads counters only; as old as a worker's last round.
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for worker in &self.inner.workers {
            worker.totals.add_to(&mut sum);
        }
        sum.digits_dropped += self.inner.digits_refused.load(Ordering::Relaxed);
        sum
    }

    fn playback(&self, leg: LegKey, playback: Playback) -> Result<(), MediaError> {
        let codec = self.inner.directory.lock().entry(leg)?.codec;
        if let Some(codec) = codec {
            // Encoded here, outside every lock and worker; the clip remembers.
            playback.clip.encoded(codec);
        }
        self.command(leg, Command::Play(leg, playback))
    }

    fn surely(&self, leg: LegKey, command: Command) -> Result<(), MediaError> {
        let mut directory = self.inner.directory.lock();
        let worker = directory.entry(leg)?.worker;
        self.inner.send_surely(worker, command)
    }

    fn command(&self, leg: LegKey, command: Command) -> Result<(), MediaError> {
        let mut directory = self.inner.directory.lock();
        let worker = directory.entry(leg)?.worker;
        self.inner.send(worker, command)
    }
}

impl Directory {
    fn entry(&mut self, leg: LegKey) -> Result<&mut Entry, MediaError> {
        if self.stopped {
            return Err(MediaError::Stopped);
        }
        self.legs.get_mut(&leg).ok_or(MediaError::UnknownLeg(leg))
    }

    /// The worker for a new leg: the one with the fewest.
    fn place(&self, leg: LegKey) -> Result<usize, OpenError> {
        if self.stopped {
            return Err(OpenError::Stopped);
        }
        if self.legs.contains_key(&leg) {
            return Err(OpenError::AlreadyOpen(leg));
        }
        let least = self.load.iter().enumerate().min_by_key(|(_, load)| **load);
        match least {
            Some((worker, load)) if *load < limits::LEGS_PER_WORKER_MAX => Ok(worker),
            _ => Err(OpenError::TooManyLegs),
        }
    }

    fn forget(&mut self, leg: LegKey) {
        if let Some(entry) = self.legs.remove(&leg) {
            self.load_of(entry.worker, |load| load.saturating_sub(1));
        }
    }

    fn load_of(&mut self, worker: usize, change: impl FnOnce(usize) -> usize) {
        if let Some(load) = self.load.get_mut(worker) {
            *load = change(*load);
        }
    }
}

impl Inner {
    fn adopt(
        &self,
        directory: &mut Directory,
        worker: usize,
        leg: LegKey,
        lease: PortLease,
        sockets: socket::Pair,
    ) -> Result<OpenLeg, OpenError> {
        let rtp_port = lease.port();
        let adopted = Box::new(Leg::new(leg, sockets, lease));
        self.send(worker, Command::Adopt(adopted))
            .map_err(|refused| match refused {
                MediaError::Overloaded => OpenError::Overloaded,
                _ => OpenError::Stopped,
            })?;
        let entry = Entry {
            worker,
            codec: None,
            telephone_events: false,
        };
        directory.legs.insert(leg, entry);
        directory.load_of(worker, |load| load + 1);
        Ok(OpenLeg {
            rtp_port,
            rtcp_port: rtp_port + 1,
        })
    }

    /// Moves a leg between workers. Commands sent before reach it at the old worker, commands
    /// sent after at the new one, because the directory's lock is held throughout.
    fn relocate(
        &self,
        directory: &mut Directory,
        leg: LegKey,
        source: usize,
        target: usize,
    ) -> Result<(), MediaError> {
        let (reply, answer) = bounded(1);
        self.send_surely(source, Command::Release(leg, reply))?;
        // No time limit: giving up here would lose the leg between two workers.
        let released = answer.recv().map_err(|_| MediaError::Stopped)?;
        self.send_surely(target, Command::Adopt(released))?;
        directory.entry(leg)?.worker = target;
        directory.load_of(source, |load| load.saturating_sub(1));
        directory.load_of(target, |load| load + 1);
        Ok(())
    }

    fn send(&self, worker: usize, command: Command) -> Result<(), MediaError> {
        let handle = self.workers.get(worker).ok_or(MediaError::Stopped)?;
        handle
            .commands
            .try_send(command)
            .map_err(|refused| match refused {
                TrySendError::Full(_) => MediaError::Overloaded,
                TrySendError::Disconnected(_) => MediaError::Stopped,
            })?;
        handle.waker.wake();
        Ok(())
    }

    /// Waits a moment for room in a full queue instead of refusing: for what says how a leg is
    /// to be from now on, and its end, because nobody would come back to say so again.
    fn send_surely(&self, worker: usize, command: Command) -> Result<(), MediaError> {
        let handle = self.workers.get(worker).ok_or(MediaError::Stopped)?;
        handle.waker.wake();
        handle
            .commands
            .send(command)
            .map_err(|_| MediaError::Stopped)?;
        handle.waker.wake();
        Ok(())
    }

    fn stop(&self) {
        {
            let mut directory = self.directory.lock();
            directory.stopped = true;
            directory.legs.clear();
        }
        for worker in &self.workers {
            worker.waker.stop();
        }
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a media worker ended in a panic");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}
