//! Answers: asks whoever knows, makes pages of what he says, and sees to it that no flood of questions reaches him.

use std::{collections::HashMap, io, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot},
    task::{spawn_blocking, spawn_local},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    health, lists, metrics,
    overview::{Limits, Overview},
    page::Page,
    question::{About, Excerpt, Kinds, Question, Span},
    render,
    route::{Pprof, Wanted},
    source::{Own, Source},
};
use crate::report::{Format, escape::printable};

/// Pages that only say where everybody stands are made once in this time, however often they are asked for.
const FRESH: Duration = Duration::from_secs(1);

/// An answer that takes longer is none.
const ANSWER: Duration = Duration::from_secs(10);

/// Pages that take work are made two at a time, and so many may wait for that.
const AT_ONCE: usize = 2;
const QUEUE: usize = 16;

/// Profiles of a time to come that are waited for.
const MAX_WAITING: usize = 64;

/// After whoever knows has given a copy away he is left alone for so many times as long: a tenth of his time is ours.
const REST: u32 = 9;
const LONGEST_REST: Duration = Duration::from_secs(2);

/// Processes that are named where one is not known.
const MAX_NAMED: usize = 50;

const TOO_BUSY: &str = "There is too much to do; ask again in a moment.";

pub(super) struct Desk {
    source: Arc<dyn Source>,
    limits: Limits,
    standing: Mutex<Option<Standing>>,
    queue: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// When he may be asked for a copy again.
    rested: Mutex<Instant>,
}

/// Where everybody stood, and the pages that were made of it.
struct Standing {
    since: Instant,
    /// `None`: nobody answered.
    overview: Option<Rc<Overview>>,
    own: Own,
    pages: HashMap<Wanted, Page>,
}

impl Desk {
    pub(super) fn new(source: Arc<dyn Source>, limits: Limits) -> Self {
        Self {
            source,
            limits,
            standing: Mutex::new(None),
            queue: Arc::new(Semaphore::new(QUEUE)),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            rested: Mutex::new(Instant::now()),
        }
    }

    pub(super) async fn answer(self: &Rc<Self>, wanted: Wanted) -> Page {
        match wanted {
            Wanted::Index => lists::index(),
            Wanted::Robots => lists::robots(),
            Wanted::Metrics { .. }
            | Wanted::Health
            | Wanted::Alive
            | Wanted::PprofIndex
            | Wanted::Processes(_) => self.standing_page(wanted).await,
            Wanted::Pprof(pprof) => self.pprof(pprof).await,
            Wanted::Process { pid, format } => {
                let is_told_apart = matches!(format, Format::Text | Format::Json);
                let kinds = if is_told_apart { Kinds::All } else { Kinds::Holding };
                self.excerpt(About { pid: Some(pid), span: Span::History, kinds }, format, false).await
            }
            Wanted::Incidents(look) => {
                self.files(move |source| Ok(lists::incidents(&source.incidents()?, look))).await
            }
            Wanted::Incident { name, format } => self.incident(name, format).await,
        }
    }

    /// Where everybody stands, as of a moment ago.
    async fn standing_page(&self, wanted: Wanted) -> Page {
        self.with_standing(|it| {
            let Standing { overview, own, pages, .. } = it;
            let make = || match (&wanted, overview) {
                (Wanted::Health, overview) => health::page(overview.as_deref()),
                (_, None) => Page::busy(TOO_BUSY),
                (Wanted::Metrics { open }, Some(overview)) => metrics::page(overview, *own, *open),
                (Wanted::Processes(look), Some(overview)) => lists::processes(overview, *look),
                (Wanted::PprofIndex, Some(overview)) => lists::pprof_index(overview),
                (_, Some(_)) => Page::text(200, "alive"),
            };
            pages.entry(wanted.clone()).or_insert_with(make).clone()
        })
        .await
    }

    async fn with_standing<T>(&self, read: impl FnOnce(&mut Standing) -> T) -> T {
        let mut standing = self.standing.lock().await;
        let fresh = match standing.take() {
            Some(it) if it.since.elapsed() < FRESH => it,
            _ => {
                let overview = self.ask_overview().await.map(Rc::new);
                Standing { since: Instant::now(), overview, own: self.source.own(), pages: HashMap::new() }
            }
        };
        read(standing.insert(fresh))
    }

    async fn ask_overview(&self) -> Option<Overview> {
        let (to, answer) = oneshot::channel();
        if !self.source.put(Question::Overview(self.limits, to)) {
            return None;
        }
        timeout(ANSWER, answer).await.ok()?.ok().map(|it| *it)
    }

    async fn overview(&self) -> Option<Rc<Overview>> {
        self.with_standing(|it| it.overview.clone()).await
    }

    async fn pprof(self: &Rc<Self>, pprof: Pprof) -> Page {
        let kinds = pprof.kind.map_or(Kinds::Holding, Kinds::One);
        let span = match pprof.seconds {
            None => Span::History,
            Some(seconds) => match self.wait(pprof.pid, seconds).await {
                Ok(from_s) => Span::Since(from_s),
                Err(page) => return page,
            },
        };
        let about = About { pid: pprof.pid, span, kinds };
        let name = if pprof.opens_with_allocated { "allocs" } else { "heap" };
        let page = self.excerpt(about, Format::Pprof, pprof.opens_with_allocated).await;
        match page.status {
            200 => page.with("content-disposition", &format!("attachment; filename=\"{name}.pb.gz\"")),
            _ => page,
        }
    }

    /// Lets time pass; returns when that began.
    async fn wait(&self, pid: Option<u32>, seconds: u32) -> Result<f64, Page> {
        let busy = || Page::busy(TOO_BUSY);
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let begun = self.overview().await.ok_or_else(busy)?;
        if let Some(pid) = pid
            && begun.other_processes.count == 0
            && !begun.processes.iter().any(|it| it.pid == pid)
        {
            return Err(unknown(pid, &begun));
        }
        sleep(Duration::from_secs(seconds.into())).await;
        // What is known ends with an interval, which may be longer.
        for _ in 0..2 {
            let now = self.overview().await.ok_or_else(busy)?;
            if now.now_s > begun.now_s {
                return Ok(begun.now_s);
            }
            sleep(FRESH.max(Duration::from_secs_f64(now.interval_s))).await;
        }
        Err(Page::busy("Nothing was measured in that time: the intervals of this watch are longer."))
    }

    /// A report of a part of the recording.
    async fn excerpt(self: &Rc<Self>, about: About, format: Format, opens_with_allocated: bool) -> Page {
        let this = Rc::clone(self);
        // To its end even if the reader leaves: else each who came and left would leave work behind.
        let work = spawn_local(async move {
            let Some(turn) = this.turn().await else { return Page::busy(TOO_BUSY) };
            let (pid, title) = (about.pid, title(&about));
            let excerpt = match this.ask_excerpt(about).await {
                Some(Some(excerpt)) => excerpt,
                Some(None) => {
                    let overview = this.overview().await.unwrap_or_default();
                    return unknown(pid.unwrap_or_default(), &overview);
                }
                None => return Page::busy(TOO_BUSY),
            };
            at_leisure(turn, move || render::excerpt(&excerpt, format, title, opens_with_allocated)).await
        });
        work.await.unwrap_or_else(|error| Page::text(500, &format!("The page could not be made: {error}.")))
    }

    /// `None`: no answer; inside: there is no such process.
    async fn ask_excerpt(&self, about: About) -> Option<Option<Box<Excerpt>>> {
        let mut rested = self.rested.lock().await;
        sleep_until(*rested).await;
        let begun = Instant::now();
        let (to, answer) = oneshot::channel();
        if !self.source.put(Question::Excerpt(about, to)) {
            return None;
        }
        let answer = timeout(ANSWER, answer).await.ok()?.ok();
        *rested = Instant::now() + (begun.elapsed() * REST).min(LONGEST_REST);
        answer
    }

    async fn incident(self: &Rc<Self>, name: String, format: Format) -> Page {
        self.files(move |source| {
            // Only what is listed is opened.
            if !source.incidents()?.iter().any(|it| it.name == name) {
                return Ok(Page::text(
                    404,
                    "There is no such incident; /incidents lists those that there are.",
                ));
            }
            Ok(render::incident(&source.incident(&name)?, format, &name))
        })
        .await
    }

    /// What needs a disk.
    async fn files(
        self: &Rc<Self>,
        read: impl FnOnce(&dyn Source) -> io::Result<Page> + Send + 'static,
    ) -> Page {
        let Some(turn) = self.turn().await else { return Page::busy(TOO_BUSY) };
        let source = Arc::clone(&self.source);
        let failed = |error: io::Error| {
            Page::text(500, &format!("The files cannot be read: {}.", printable(&error.to_string())))
        };
        at_leisure(turn, move || read(&*source).unwrap_or_else(failed)).await
    }

    async fn turn(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        let place = Arc::clone(&self.queue).try_acquire_owned().ok()?;
        let turn = timeout(ANSWER, Arc::clone(&self.turns).acquire_owned()).await.ok()?.ok()?;
        Some([place, turn])
    }
}

/// On a thread for work; the turn is over when that is, whether or not anybody waits for it.
async fn at_leisure(turn: [OwnedSemaphorePermit; 2], make: impl FnOnce() -> Page + Send + 'static) -> Page {
    let made = spawn_blocking(move || {
        let _turn = turn;
        make()
    });
    made.await.unwrap_or_else(|error| Page::text(500, &format!("The page could not be made: {error}.")))
}

fn title(about: &About) -> String {
    match about.pid {
        Some(pid) => format!("process {pid}, as of now"),
        None => "all processes, as of now".to_owned(),
    }
}

fn unknown(pid: u32, overview: &Overview) -> Page {
    let all = &overview.processes;
    let named = all.iter().take(MAX_NAMED).map(|it| format!("\n{} {}", it.pid, printable(&it.name)));
    let rest = (all.len().saturating_sub(MAX_NAMED)) as u64 + overview.other_processes.count;
    let rest = if rest > 0 { format!("\n… and {rest} more") } else { String::new() };
    let named: String = named.collect();
    Page::text(404, &format!("No process {pid} is watched. These are, largest first:{named}{rest}"))
}
