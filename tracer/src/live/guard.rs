//! The guard of a long run: a thread that takes its rows in, knows where everybody stands, and does what the configuration
//! says. It never keeps the run waiting: rows first, then one question after the other.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{BlackBox, Ends, Request, Sink, delivery::Delivery, sink::row_channel};
use crate::{
    capture::{Header, Row},
    serve::{self, Facts, Question},
    watch::{Alert, Alerting, Alerts, Config, Severity, Triggers, Wanted, Watched},
};

/// Points that are kept; beyond that the older half is made coarser. A point is 120 bytes.
const MOST_POINTS: usize = 1 << 18;

/// Intervals after which is looked for what nothing refers to any more.
const PRUNE_EVERY: u32 = 10;

/// What comes to the thread.
enum Message {
    Rows(Vec<Row>),
    /// With a place among those that may wait.
    Ask(Question, Arc<()>),
    Configure(Box<Config>),
    Leave,
}

impl From<Vec<Row>> for Message {
    fn from(rows: Vec<Row>) -> Self {
        Self::Rows(rows)
    }
}

/// The near end of the thread.
pub struct Guard {
    thread: JoinHandle<()>,
    messages: SyncSender<Message>,
}

/// Puts questions to a guard.
#[derive(Clone)]
pub struct Asker {
    messages: SyncSender<Message>,
    /// As many copies as questions wait, and ours.
    waiting: Arc<()>,
}

/// Questions that may wait at a time: they share the queue with the rows, which must find room.
const QUESTIONS: usize = 4;

impl Guard {
    /// # Errors
    /// If no thread can be made.
    pub fn start(header: Header, config: Config, black_box: BlackBox) -> io::Result<(Self, Ends<impl Sink>)> {
        let (sink, messages, inbox) = row_channel::<Message>();
        let (requests_out, requests) = unbounded_channel();
        let mut watched = Watched::default();
        watched.add([Row::Header(header)]);
        let alerts = Alerts::new(config.budget.clone(), &config.alerts);
        let delivery = Delivery::new(config.alerts.clone());
        let triggers = Triggers::new(config.triggers());
        let mut work = Work {
            watched,
            triggers,
            wanted: Vec::new(),
            requests: requests_out,
            black_box,
            alerts,
            delivery,
            interval_at: Instant::now(),
            unpruned: 0,
        };
        work.ask();
        let thread = thread::Builder::new().name("guard".to_owned()).spawn(move || {
            work.keep_watch(&inbox);
            work.delivery.leave(LAST_WORDS);
        })?;
        Ok((Self { thread, messages }, Ends { sink, requests }))
    }

    pub fn asker(&self) -> Asker {
        Asker { messages: self.messages.clone(), waiting: Arc::new(()) }
    }

    /// From now on this holds.
    pub fn configure(&self, config: Config) {
        let _ = self.messages.send(Message::Configure(Box::new(config)));
    }

    /// Has it finish what it does, after all rows that were sent to it.
    pub fn leave(self) {
        let _ = self.messages.send(Message::Leave);
        if self.thread.join().is_err() {
            log::error!("the guard's thread panicked");
        }
    }
}

impl Asker {
    /// False if the guard has so much to do that it takes no question, or has left.
    pub fn put(&self, question: Question) -> bool {
        let place = Arc::clone(&self.waiting);
        Arc::strong_count(&place) <= QUESTIONS + 1
            && self.messages.try_send(Message::Ask(question, place)).is_ok()
    }
}

/// The far end.
struct Work {
    watched: Watched,
    triggers: Triggers,
    /// Who is to be looked at closely, as the run was told last.
    wanted: Vec<Wanted>,
    /// To the run.
    requests: UnboundedSender<Request>,
    black_box: BlackBox,
    alerts: Alerts,
    delivery: Delivery,
    /// When the last interval came.
    interval_at: Instant,
    /// Intervals since the recording was pruned.
    unpruned: u32,
}

/// What alerts that wait are given when all is over.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Work {
    fn keep_watch(&mut self, inbox: &Receiver<Message>) {
        for message in inbox {
            match message {
                Message::Rows(rows) => self.take_in(rows),
                Message::Ask(question, _place) => serve::answer(question, &self.facts()),
                Message::Configure(config) => self.configure(*config),
                Message::Leave => return self.black_box.close(),
            }
        }
    }

    /// Rows that belong together: mostly those of an interval, which comes last.
    fn take_in(&mut self, rows: Vec<Row>) {
        let is_interval = matches!(rows.last(), Some(Row::Interval(_)));
        self.black_box.append(&rows);
        self.watched.add(rows);
        if is_interval {
            self.black_box.look(&mut self.watched);
            self.interval_at = Instant::now();
            self.judge();
            self.forget();
        }
    }

    /// What is old is known less finely, and what has ended is forgotten after a while.
    fn forget(&mut self) {
        let recording = &mut self.watched.recording;
        if recording.points() > MOST_POINTS {
            recording.thin();
        }
        // Rarely enough that it costs nothing, often enough that nothing piles up.
        self.unpruned += 1;
        if self.unpruned >= PRUNE_EVERY {
            self.unpruned = 0;
            recording.prune();
        }
    }

    /// What is told to those who ask.
    fn facts(&self) -> Facts<'_> {
        let Alerting { firing, failures } = &self.watched.alerting;
        let name = |((budget, severity), count): (&(String, Severity), &u64)| {
            ((budget.clone(), severity.name().to_owned()), *count)
        };
        Facts {
            watched: &self.watched,
            since_interval_s: self.interval_at.elapsed().as_secs_f64(),
            alerts: firing.iter().map(name).collect(),
            alert_failures: failures.clone(),
            incidents: self.watched.incidents.clone(),
            troubles: self.black_box.trouble().map(str::to_owned).into_iter().collect(),
        }
    }

    /// Once an interval, when everything that happened in it is known.
    fn judge(&mut self) {
        let alerts = self.alerts.judge(&self.watched);
        self.tell(alerts);
        let wanted = self.triggers.look(&self.watched);
        if wanted != self.wanted {
            self.wanted = wanted;
            self.ask();
        }
    }

    fn configure(&mut self, config: Config) {
        self.triggers.configure(config.triggers());
        self.black_box.configure(&config);
        self.delivery.configure(config.alerts.clone());
        let over = self.alerts.configure(&self.watched, config.budget.clone(), &config.alerts);
        self.tell(over);
    }

    fn tell(&mut self, alerts: Vec<Alert>) {
        alerts.into_iter().for_each(|it| self.delivery.tell(it));
        let (firing, failures) = (self.alerts.firing(), self.delivery.failures());
        self.watched.alerting = Alerting { firing, failures };
    }

    /// Tells the run who is to be looked at closely; the first time, that it is told.
    fn ask(&self) {
        let _ = self.requests.send(Request::Closer(self.wanted.clone()));
    }
}
