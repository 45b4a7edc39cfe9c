//! A run in progress: one task owns the heap and feeds it from the ring; everything slow, names and
//! files, happens on the recorder's own thread.

mod about;
mod account;
mod black_box;
mod budget;
mod delivery;
mod expense;
mod forecast;
mod governor;
mod guard;
mod interval;
mod learning;
mod onlooker;
pub mod outstanding;
mod place;
mod printer;
mod progress;
mod reception;
mod recorder;
mod room;
mod saving;
mod screen;
mod signals;
mod silence;
mod sink;
mod spent;
mod state_dir;
mod tally;
mod tiers;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

pub use self::{
    about::About,
    account::Used,
    black_box::BlackBox,
    forecast::Forecast,
    guard::{Asker, Guard},
    onlooker::{Ends, Onlooker, Style},
    place::Place,
    reception::Reception,
    recorder::{MachineSample, Recorder},
    saving::Saving,
    signals::Signals,
    sink::Sink,
    state_dir::{Incidents, Kept, incidents},
};
use self::{
    budget::{Budget, JUDGE, Stage},
    progress::Progress,
    room::Room,
    silence::Silence,
    tiers::Tiers,
};
use crate::{
    event::{Event, ProcessId},
    heap::Heap,
    kernel::{self, Kernel, Launched, Tier},
    watch::Wanted,
};

/// How a run goes on and ends.
pub struct Options {
    pub interval: Duration,
    /// `None`: until the target ends or a signal comes.
    pub duration: Option<Duration>,
    /// Say on standard error how it goes.
    pub progress: bool,
    /// Say on standard error when something looks wrong.
    pub warnings: bool,
    pub tier: Tier,
}

/// What whoever looks on may ask of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Place a mark.
    Mark,
    /// With [`Tier::Auto`], follow each call of the allocators of these processes and of no others, the most urgent first.
    Closer(Vec<Wanted>),
    /// End.
    Quit,
}

/// The requests to a run that nobody looks at: none will come.
pub fn no_requests() -> UnboundedReceiver<Request> {
    unbounded_channel().1
}

/// How often the ring is looked at when nothing wakes us. At a million events a second this is 20,000
/// events, a hundredth of the ring.
const POLL: Duration = Duration::from_millis(20);

/// How often it is looked whether a target lives, and whether it allocates.
const LIFE: Duration = Duration::from_secs(1);

/// Records handled before timers and signals get their turn: some ten milliseconds of work.
const BATCH: usize = 100_000;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The time asked for is over.
    Duration,
    /// SIGINT or SIGTERM.
    Signal,
    /// A [`Request`].
    Quit,
    /// Every traced process has ended.
    TargetEnded,
}

impl Ending {
    pub fn name(self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Signal => "signal",
            Self::Quit => "quit",
            Self::TargetEnded => "target-ended",
        }
    }
}

/// A trace that feeds a capture.
pub struct Run {
    kernel: Kernel,
    heap: Heap,
    recorder: Recorder,
    launched: Option<Launched>,
    /// Traced processes that have not ended.
    alive: BTreeMap<ProcessId, u32>,
    /// Those of them that were found to be gone when this was looked at last.
    missing: BTreeSet<ProcessId>,
    /// Their control groups.
    groups: HashMap<ProcessId, String>,
    /// Which of them grow.
    tiers: Tiers,
    budget: Budget,
    silence: Silence,
    room: Room,
    /// The OOM killer has chosen somebody since the last interval.
    has_victims: bool,
    /// In a run without an end: when it was looked last which files are still needed.
    files_looked_at: Option<Instant>,
}

impl Run {
    /// Takes over a kernel that has begun to trace.
    pub fn new(
        mut kernel: Kernel,
        recorder: Recorder,
        launched: Option<Launched>,
        max_overhead: Option<f64>,
    ) -> Self {
        kernel::run_first();
        let budget = Budget::new(max_overhead, launched.is_none(), &mut kernel);
        let now_ns = kernel::now_ns();
        let mut heap = Heap::new(now_ns);
        if !kernel.newcomers_rate().is_exact() {
            heap.sample_all();
        }
        let mut run = Self {
            kernel,
            heap,
            recorder,
            launched,
            alive: BTreeMap::new(),
            missing: BTreeSet::new(),
            groups: HashMap::new(),
            tiers: Tiers::default(),
            budget,
            silence: Silence::default(),
            room: Room::default(),
            has_victims: false,
            files_looked_at: None,
        };
        run.begin(now_ns);
        let Self { budget, kernel, alive, .. } = &mut run;
        budget.measure(kernel, alive);
        run
    }

    /// For a run without an end: what is kept of what has ended is bounded, and so is how well old times are known. To be
    /// called first.
    pub fn keep_lean(&mut self) {
        self.heap.keep_lean();
        self.files_looked_at = Some(Instant::now());
    }

    /// Takes in the processes that were found running.
    fn begin(&mut self, now_ns: u64) {
        for event in self.kernel.beginnings(now_ns) {
            note_life(&event, &mut self.alive, &self.recorder);
            self.heap.apply(&event);
        }
    }

    /// Follows the target to the end of the run, and finishes the recording. The returned thread takes
    /// the probes out, so that the user need not wait for that before reading the report.
    ///
    /// # Errors
    /// If the capture cannot be written; what was written until then is readable.
    pub async fn follow(
        mut self,
        options: &Options,
        signals: &mut Signals,
        mut requests: UnboundedReceiver<Request>,
    ) -> Result<(Ending, JoinHandle<()>)> {
        let start = Instant::now();
        let mut poll = ticks(POLL);
        let mut interval = ticks(options.interval);
        let mut progress = Progress::new(start);
        let mut redraw = ticks(progress.period());
        let mut look = ticks(LIFE);
        let mut measure = ticks(LIFE);
        self.room.share(&mut self.kernel, &mut self.heap, !options.warnings);
        let mut judge = ticks(JUDGE);
        self.budget.says_so = options.warnings;
        let end = start + options.duration.unwrap_or(Duration::from_secs(u32::MAX.into()));
        match &mut self.launched {
            Some(launched) => launched.open_gate()?,
            // What it held before is known from here on.
            None => drop(self.take_interval()?),
        }
        let ending = loop {
            tokio::select! {
                biased;
                () = sleep_until(end) => break Ending::Duration,
                _ = signals.interrupt.recv() => break Ending::Signal,
                _ = signals.terminate.recv() => break Ending::Signal,
                _ = signals.snapshot.recv() => drop(self.take_interval()?),
                _ = signals.mark.recv() => self.mark()?,
                Some(request) = requests.recv() => match request {
                    Request::Mark => self.mark()?,
                    Request::Closer(wanted) => {
                        self.tiers.ask(wanted);
                        self.judge_tiers(&HashMap::new(), options)?;
                    }
                    Request::Quit => break Ending::Quit,
                },
                _ = interval.tick() => {
                    let rss_bytes = self.take_interval()?;
                    self.judge_tiers(&rss_bytes, options)?;
                    self.forget_vanished(&rss_bytes);
                    self.kernel.look_for_more();
                    self.begin(kernel::now_ns());
                }
                _ = redraw.tick(), if options.progress => {
                    let share = self.budget.share();
                    progress.draw(self.heap.live(), self.heap.events(), share, &self.kernel.losses());
                }
                _ = measure.tick() => self.room.share(&mut self.kernel, &mut self.heap, !options.warnings),
                _ = judge.tick() => self.judge()?,
                _ = look.tick(), if options.warnings && options.tier == Tier::Exact => self.silence.complain(self.alive.values().copied()),
                ready = self.kernel.filling() => {
                    ready.context("watch the ring buffer")?;
                    self.drain();
                    self.look_at_victims()?;
                }
                _ = poll.tick() => {
                    self.kernel.yield_files();
                    self.drain();
                    self.look_at_victims()?;
                    if self.budget.is_busy() {
                        self.judge()?;
                    }
                }
            }
            if self.alive.is_empty() && !self.kernel.expects_more() && self.drain() == 0 {
                break Ending::TargetEnded;
            }
        };
        if options.progress {
            progress.clear();
        }
        // What has happened until now belongs to the recording, however far behind we are; what happens from now on does not.
        self.kernel.switch_off();
        while self.drain() > 0 {}
        self.take_interval()?;
        // The kernel takes its time for that; meanwhile names are found and the user reads the report.
        let Self { kernel, .. } = self;
        let detaching = std::thread::spawn(move || drop(kernel));
        self.recorder.finish(ending.name(), kernel::now_ns())?;
        if let Some(launched) = &mut self.launched {
            launched.try_wait();
        }
        Ok((ending, detaching))
    }

    /// Decides who is traced more closely.
    fn judge_tiers(&mut self, rss_bytes: &HashMap<ProcessId, u64>, options: &Options) -> Result<()> {
        if options.tier != Tier::Auto {
            return Ok(());
        }
        let Self { tiers, alive, kernel, recorder, budget, heap, .. } = self;
        tiers.says_so = options.warnings;
        let mut stage = tiers::Stage { alive, kernel, recorder, budget };
        let events = tiers.judge(kernel::now_ns(), rss_bytes, &mut stage)?;
        events.iter().for_each(|it| heap.apply(it));
        Ok(())
    }

    /// Keeps within what tracing may cost.
    fn judge(&mut self) -> Result<()> {
        // Of what is waiting still, the first batch says enough: it would have to be waited for, at the target's cost.
        self.drain();
        let Self { kernel, heap, recorder, alive, budget, .. } = self;
        budget.judge(&mut Stage { kernel, heap, recorder, alive })
    }

    /// What the OOM killer has chosen is dead in a moment, and with it its control group may be: an interval says at once how
    /// things stand.
    fn look_at_victims(&mut self) -> Result<()> {
        if self.has_victims {
            self.take_interval()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> usize {
        let Self { kernel, heap, recorder, alive, budget, silence, has_victims, .. } = self;
        let count = kernel.drain(BATCH, |event| {
            if !budget.admits(&event) {
                return;
            }
            match event {
                Event::Alloc { .. } | Event::Free { .. } => silence.end(),
                _ => {
                    note_life(&event, alive, recorder);
                    *has_victims |= matches!(event, Event::Oom { .. });
                }
            }
            heap.apply(&event);
        });
        if let Some(launched) = &mut self.launched {
            launched.try_wait();
        }
        count
    }

    /// A point in time that the user wants to find again.
    fn mark(&mut self) -> Result<()> {
        self.take_interval()?;
        self.recorder.mark(kernel::now_ns())
    }
}

/// Notes who is alive, and whom the OOM killer has chosen.
fn note_life(event: &Event, alive: &mut BTreeMap<ProcessId, u32>, recorder: &Recorder) {
    match *event {
        Event::Begin { process, tgid, .. }
        | Event::Fork { child: process, child_tgid: tgid, .. }
        | Event::Spawn { child: process, child_tgid: tgid, .. } => {
            alive.insert(process, tgid);
        }
        Event::Exit { process, .. } | Event::Leave { process, .. } => {
            alive.remove(&process);
        }
        Event::Oom { process, time_ns, ref choice } => recorder.oom(process, time_ns, choice),
        _ => {}
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    // After a stall one tick is enough.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// `alloctrace.NAME.PID.TIME.jsonl.zst` in the current directory; without a process's number if it is about several.
pub fn default_capture_path(name: &str, tgid: Option<u32>, time: &str) -> PathBuf {
    let safe = |it: char| if it.is_alphanumeric() || "-_.".contains(it) { it } else { '_' };
    let name: String = name.chars().map(safe).collect();
    let tgid = tgid.map_or_else(String::new, |it| format!("{it}."));
    format!("alloctrace.{name}.{tgid}{time}.jsonl.zst").into()
}
