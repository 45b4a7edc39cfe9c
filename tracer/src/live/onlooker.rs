//! Whoever looks on while a run goes on: a thread that takes its rows in and shows them, as a screen or as lines. It
//! never keeps the run waiting: rows first, then keys, then one redraw, and then it rests for some time.

use std::{
    io::{self, Write as _},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ratatui::crossterm::event::KeyEvent;
use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

use super::{
    Request, Sink,
    printer::Printer,
    saving::Saving,
    screen::{self, Screen},
    sink::row_channel,
};
use crate::{
    capture::{Header, Row},
    symbol::LineTable,
    view::{View, Wish},
};

/// What comes to the thread.
pub(super) enum Message {
    Rows(Vec<Row>),
    Key(KeyEvent),
    /// The screen has another size.
    Resize,
    /// Leave, whatever the viewer is doing.
    Leave,
}

impl From<Vec<Row>> for Message {
    fn from(rows: Vec<Row>) -> Self {
        Self::Rows(rows)
    }
}

/// How it is shown.
pub enum Style {
    /// On the whole terminal, until the viewer has seen enough.
    Screen { has_colours: bool },
    /// A block of lines each interval, `count` times at most; or, with `at_end`, one when the run ends.
    Lines { count: Option<usize>, sites: usize, at_end: bool },
}

/// The near end of the thread.
pub struct Onlooker {
    thread: JoinHandle<io::Result<()>>,
    messages: SyncSender<Message>,
    ended: oneshot::Receiver<()>,
}

/// What an [`Onlooker`] gives to a run.
pub struct Ends<S> {
    pub sink: S,
    pub requests: UnboundedReceiver<Request>,
}

impl Onlooker {
    /// # Errors
    /// If the terminal is none, or no thread can be made.
    pub fn start(
        view: View,
        style: Style,
        header: Header,
        saving: Saving,
    ) -> io::Result<(Self, Ends<impl Sink>)> {
        let (sink, messages, inbox) = row_channel::<Message>();
        let (requests_out, requests) = unbounded_channel();
        let (end, ended) = oneshot::channel::<()>();
        let mut work = Work { view, requests: requests_out, saving, redraw_at: Instant::now() };
        work.view.add(vec![Row::Header(header)]);
        let builder = thread::Builder::new().name("onlooker".to_owned());
        let thread = match style {
            Style::Screen { has_colours } => {
                let screen = Screen::open(has_colours)?;
                screen::read_keys(messages.clone())?;
                builder.spawn(move || {
                    let _end = end;
                    work.show(screen, &inbox)
                })?
            }
            Style::Lines { count, sites, at_end } => builder.spawn(move || {
                let _end = end;
                work.print(&inbox, count, sites, at_end)
            })?,
        };
        Ok((Self { thread, messages, ended }, Ends { sink, requests }))
    }

    /// Waits until the viewer has seen enough.
    pub async fn ended(&mut self) {
        // The sender is dropped when the thread ends, by a panic too.
        let _ = (&mut self.ended).await;
    }

    /// Has it leave, and waits until the terminal is as it was.
    ///
    /// # Errors
    /// If what was to be shown could not be.
    pub fn leave(self) -> io::Result<()> {
        // It may have left by itself.
        let _ = self.messages.send(Message::Leave);
        self.thread.join().map_err(|_| io::Error::other("the view's thread panicked"))?
    }
}

/// The far end.
struct Work {
    view: View,
    requests: UnboundedSender<Request>,
    saving: Saving,
    /// When the next redraw of all numbers may be.
    redraw_at: Instant,
}

/// After numbers were put together it rests for so many times as long, so that the view takes a tenth of a processor,
/// however many sites there are.
const REST: u32 = 9;

/// But nobody should look at old numbers since the machine is busy otherwise, and they take long by the clock.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// How often a terminal is looked at that has not taken the last redraw.
const BUSY: Duration = Duration::from_millis(20);

/// How long a terminal may take for the last piece that it gets.
const PATIENCE: Duration = Duration::from_secs(1);

impl Work {
    fn show(&mut self, mut screen: Screen, inbox: &Receiver<Message>) -> io::Result<()> {
        // Made when the first stack is looked into.
        let mut places: Option<LineTable> = None;
        let mut is_seen = false;
        'showing: loop {
            let pause = if !is_seen && !screen.is_idle() {
                Some(BUSY)
            } else if !is_seen {
                Some(Duration::ZERO)
            } else if self.view.is_stale() {
                Some(self.redraw_at.saturating_duration_since(Instant::now()))
            } else {
                None
            };
            let first = match pause {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(pause) => inbox.recv_timeout(pause),
            };
            let first = match first {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            for message in first.into_iter().chain(inbox.try_iter()) {
                match message {
                    Message::Rows(rows) => {
                        // While it is paused the screen says how far behind it is.
                        is_seen &= !self.view.add(rows);
                    }
                    Message::Key(key) => {
                        is_seen = false;
                        let wish = self.view.press(key);
                        if wish.is_some_and(|it| self.grant(it)) {
                            break 'showing;
                        }
                    }
                    Message::Resize => is_seen = false,
                    Message::Leave => break 'showing,
                }
            }
            if screen.has_failed() {
                break;
            }
            if self.refresh_in_time() {
                is_seen = false;
            }
            if !is_seen && screen.is_idle() {
                screen.draw(&mut self.view)?;
                is_seen = true;
                if self.view.wants_places() {
                    self.view.find_places(places.get_or_insert_default());
                    is_seen = false;
                }
            }
        }
        let _ = self.requests.send(Request::Quit);
        screen.close(PATIENCE)
    }

    /// Brings the numbers up to date if there are new ones and it is time.
    fn refresh_in_time(&mut self) -> bool {
        let begun = Instant::now();
        if !self.view.is_stale() || begun < self.redraw_at {
            return false;
        }
        self.view.refresh();
        let done = Instant::now();
        self.redraw_at = done + ((done - begun) * REST).min(LONGEST_REST);
        true
    }

    /// Says whether the viewer has seen enough.
    fn grant(&mut self, wish: Wish) -> bool {
        let said = match wish {
            Wish::Quit => return true,
            Wish::Mark if self.view.has_ended() => {
                "the tracing has ended: there is nothing to mark".to_owned()
            }
            Wish::Mark => {
                let number = self.view.recording().marks.len() + 1;
                let _ = self.requests.send(Request::Mark);
                format!("mark {number} placed")
            }
            Wish::SaveCapture => self.saving.capture(self.view.recording()),
            Wish::SaveFlamegraph => self.saving.flamegraph(self.view.recording()),
        };
        self.view.tell(said);
        false
    }

    /// The interval that says what was there before is over, and another one too.
    fn has_begun(&self) -> bool {
        let recording = self.view.recording();
        recording.end_s() >= recording.header.interval_s / 2.0
    }

    fn print(
        &mut self,
        inbox: &Receiver<Message>,
        count: Option<usize>,
        sites: usize,
        at_end: bool,
    ) -> io::Result<()> {
        let (mut printer, out) = Printer::start()?;
        let mut printed = 0;
        let mut is_new = false;
        while count.is_none_or(|it| printed < it) && !out.has_failed() {
            // A reader that is slow gets fewer blocks.
            let pause = if is_new { Some(BUSY) } else { None };
            let first = match pause {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(pause) => inbox.recv_timeout(pause),
            };
            let mut leave = matches!(first, Err(RecvTimeoutError::Disconnected));
            for message in first.into_iter().chain(inbox.try_iter()) {
                match message {
                    Message::Rows(rows) => is_new |= self.view.add(rows) && self.has_begun(),
                    Message::Leave => leave = true,
                    Message::Key(_) | Message::Resize => {}
                }
            }
            let is_over = self.view.has_ended() || leave;
            let is_due = if at_end { is_over && printed == 0 } else { is_new || (is_over && printed == 0) };
            if is_due && (out.is_idle() || is_over) {
                self.view.refresh();
                if printed > 0 {
                    writeln!(printer)?;
                }
                printer.write_all(self.view.text(sites).as_bytes())?;
                printer.flush()?;
                is_new = false;
                printed += 1;
            } else if at_end {
                is_new = false;
            }
            if is_over {
                break;
            }
        }
        let _ = self.requests.send(Request::Quit);
        drop(printer);
        out.finish(Duration::from_secs(u32::MAX.into()))
    }
}
