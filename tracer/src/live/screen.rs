//! The terminal as a screen: taken over, drawn on, and given back as it was, however we end.

use std::{
    io::{self, Write as _},
    panic,
    sync::mpsc::SyncSender,
    thread,
    time::Duration,
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyEventKind},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

use super::{
    onlooker::Message,
    printer::{Printed, Printer},
};
use crate::view::View;

pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Printer>>,
    printed: Printed,
    has_colours: bool,
}

impl Screen {
    pub(super) fn open(has_colours: bool) -> io::Result<Self> {
        let (mut printer, printed) = Printer::start()?;
        enable_raw_mode()?;
        give_back_on_panic();
        execute!(printer, EnterAlternateScreen)?;
        let terminal = Terminal::new(CrosstermBackend::new(printer))?;
        Ok(Self { terminal, printed, has_colours })
    }

    /// The terminal has taken what it was given.
    pub(super) fn is_idle(&self) -> bool {
        self.printed.is_idle()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.printed.has_failed()
    }

    pub(super) fn draw(&mut self, view: &mut View) -> io::Result<()> {
        let has_colours = self.has_colours;
        self.terminal.draw(|frame| view.draw(frame, has_colours)).map(drop)
    }

    /// Gives the terminal back. One that takes nothing is left after `patience`.
    pub(super) fn close(mut self, patience: Duration) -> io::Result<()> {
        execute!(self.terminal.backend_mut(), LeaveAlternateScreen, Show)?;
        // A terminal that is gone needs no restoring.
        drop(self.terminal);
        let _ = self.printed.finish(patience);
        disable_raw_mode()
    }
}

/// Whichever thread panics, its message is to be read on an ordinary terminal.
fn give_back_on_panic() {
    let others = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = io::stdout().flush();
        others(info);
    }));
}

/// Sends what is typed, until nobody wants it.
pub(super) fn read_keys(messages: SyncSender<Message>) -> io::Result<()> {
    let read = move || {
        while let Ok(event) = event::read() {
            let message = match event {
                Event::Key(key) if key.kind != KeyEventKind::Release => Message::Key(key),
                Event::Resize(..) => Message::Resize,
                _ => continue,
            };
            if messages.send(message).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".to_owned()).spawn(read).map(drop)
}
