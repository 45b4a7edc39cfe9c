//! Tells alerts to whom the configuration names. Each way out has a thread of its own behind a bounded queue: neither the guard
//! nor the run ever waits for a disk, a program or a network.

mod command;
mod log;
mod webhook;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::progress::say;
use crate::watch::{Alert, Outlets};

/// Alerts that may wait for one way out. More at once is a flood, of which the first ones say enough; one with all its stacks
/// takes some ten kilobytes.
const QUEUE: usize = 256;

/// What a thread of ours needs for a TLS handshake and more; memory may be locked, so that it is not to be had for nothing.
const STACK_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Log,
    Command,
    Webhook,
}

impl Way {
    const ALL: [Self; 3] = [Self::Log, Self::Command, Self::Webhook];

    fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Command => "command",
            Self::Webhook => "webhook",
        }
    }

    fn is_wanted(self, outlets: &Outlets) -> bool {
        match self {
            Self::Log => true,
            Self::Command => !outlets.command.is_empty(),
            Self::Webhook => outlets.webhook.is_some(),
        }
    }

    /// # Errors
    /// In words.
    fn deliver(self, alert: &Alert, outlets: &Outlets, leaving: &Leaving) -> Result<(), String> {
        match (self, &outlets.webhook) {
            (Self::Log, _) => log::write(alert, &outlets.log),
            (Self::Command, _) => command::run(alert, &outlets.command, outlets.time_limit),
            (Self::Webhook, Some(webhook)) => webhook::post(alert, webhook, outlets.time_limit, leaving),
            // It has gone from the configuration in the meantime.
            (Self::Webhook, None) => Ok(()),
        }
    }
}

/// The near end.
pub(super) struct Delivery {
    shared: Arc<Shared>,
    lanes: BTreeMap<Way, Lane>,
}

/// What all threads see.
struct Shared {
    outlets: Mutex<Arc<Outlets>>,
    leaving: Leaving,
    counts: BTreeMap<Way, Counts>,
}

#[derive(Default)]
struct Counts {
    /// Since the watch began.
    failures: AtomicU64,
    /// Of those: had no room in the queue, and nobody has been told yet.
    dropped: AtomicU64,
    /// In the queue, or on their way.
    waiting: AtomicU64,
}

struct Lane {
    alerts: SyncSender<Arc<Alert>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// Whether it is time to come to an end.
#[derive(Default)]
struct Leaving {
    is_time: Mutex<bool>,
    bell: Condvar,
}

impl Leaving {
    fn is_time(&self) -> bool {
        *self.is_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        *self.is_time.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_all();
    }

    /// Returns early if it is time to leave.
    fn sleep(&self, time: Duration) {
        let is_time = self.is_time.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.bell.wait_timeout_while(is_time, time, |it| !*it);
    }
}

impl Delivery {
    pub(super) fn new(outlets: Outlets) -> Self {
        let shared = Shared {
            outlets: Mutex::new(Arc::new(outlets)),
            leaving: Leaving::default(),
            counts: Way::ALL.into_iter().map(|it| (it, Counts::default())).collect(),
        };
        Self { shared: Arc::new(shared), lanes: BTreeMap::new() }
    }

    /// From now on this holds, also for what waits.
    pub(super) fn configure(&self, outlets: Outlets) {
        *self.shared.outlets.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(outlets);
    }

    /// Returns at once.
    pub(super) fn tell(&mut self, alert: Alert) {
        let alert = Arc::new(alert);
        let outlets = self.shared.outlets();
        for way in Way::ALL.into_iter().filter(|it| it.is_wanted(&outlets)) {
            let counts = &self.shared.counts[&way];
            counts.waiting.fetch_add(1, Ordering::Relaxed);
            if self.lane(way).is_none_or(|it| it.alerts.try_send(Arc::clone(&alert)).is_err()) {
                let counts = &self.shared.counts[&way];
                counts.waiting.fetch_sub(1, Ordering::Relaxed);
                counts.failures.fetch_add(1, Ordering::Relaxed);
                counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Alerts that could not be told, by whom they were for.
    pub(super) fn failures(&self) -> BTreeMap<&'static str, u64> {
        let failures = |counts: &Counts| counts.failures.load(Ordering::Relaxed);
        self.shared.counts.iter().map(|(way, counts)| (way.name(), failures(counts))).collect()
    }

    /// Gives what waits `patience`, and says what was left.
    pub(super) fn leave(self, patience: Duration) {
        let end = Instant::now() + patience;
        self.shared.leaving.ring();
        for (way, Lane { alerts, ended }) in self.lanes {
            drop(alerts);
            let left = end.saturating_duration_since(Instant::now());
            if ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                let waiting = self.shared.counts[&way].waiting.load(Ordering::Relaxed);
                say(&format!("{waiting} alerts could not be told by {} before the end", way.name()));
            }
        }
    }

    /// The thread is made when it is first needed; `None` if there can be none.
    fn lane(&mut self, way: Way) -> Option<&Lane> {
        if !self.lanes.contains_key(&way) {
            let lane = Lane::start(way, Arc::clone(&self.shared)).ok()?;
            self.lanes.insert(way, lane);
        }
        self.lanes.get(&way)
    }
}

impl Shared {
    fn outlets(&self) -> Arc<Outlets> {
        Arc::clone(&self.outlets.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn deliver(&self, way: Way, alert: &Alert) {
        let counts = &self.counts[&way];
        if let Err(why) = way.deliver(alert, &self.outlets(), &self.leaving) {
            let failures = counts.failures.fetch_add(1, Ordering::Relaxed) + 1;
            let name = way.name();
            say(&format!("an alert could not be told by {name}: {why} (failures so far: {failures})"));
        }
        counts.waiting.fetch_sub(1, Ordering::Relaxed);
        match counts.dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            dropped => say(&format!("{dropped} alerts were not told by {}: too many at once", way.name())),
        }
    }
}

impl Lane {
    fn start(way: Way, shared: Arc<Shared>) -> io::Result<Self> {
        let (alerts, inbox) = sync_channel::<Arc<Alert>>(QUEUE);
        let (end, ended) = sync_channel(0);
        let name = format!("alerts:{}", way.name());
        thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
            let _end: SyncSender<()> = end;
            inbox.iter().for_each(|it| shared.deliver(way, &it));
        })?;
        Ok(Self { alerts, ended })
    }
}

#[cfg(test)]
mod tests;
