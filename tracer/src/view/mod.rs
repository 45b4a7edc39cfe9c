//! The live view: rows and keys go in, and what is to be seen comes out. Pure: the terminal and the clock are in `live`.

mod columns;
mod curve;
mod detail;
mod draw;
mod help;
mod list;
mod look;
mod names;
mod picture;
mod plain;
mod processes;
mod state;
#[cfg(test)]
mod tests;

use ratatui::{
    Frame,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

pub use self::state::Wish;
use self::{
    detail::Detail,
    names::Names,
    picture::{Filter, Line, Picture},
    state::{Id, State, Tab},
};
use crate::{
    capture::{Recording, Row},
    profile::Sort,
    symbol::Places,
};

/// Intervals that are kept: at one a second the last quarter of an hour as it was, and what lies further back
/// ever coarser.
const MAX_INTERVALS: usize = 1024;

/// States of sites that are kept. Each takes 48 bytes: 50 MB.
const MAX_POINTS: usize = 1 << 20;

/// Processes that have ended and are still listed. A machine that compiles starts a hundred a second.
const MAX_ENDED: usize = 1000;

/// However many sites there are, growth needs some intervals to be seen.
const MIN_INTERVALS: usize = 32;

/// All that the viewer has and does.
pub struct View {
    recording: Recording,
    state: State,
    names: Names,
    picture: Picture,
    /// What is listed, in order.
    list: Vec<Line>,
    detail: Option<Detail>,
    /// Intervals that the picture does not know of yet.
    behind: usize,
    events_per_s: f64,
}

impl View {
    pub fn new(sort: Sort) -> Self {
        let recording = Recording::default();
        Self {
            state: State::new(sort),
            names: Names::default(),
            picture: Picture::new(&recording, None, None),
            recording,
            list: Vec::new(),
            detail: None,
            behind: 0,
            events_per_s: 0.0,
        }
    }

    /// Takes rows in; says whether an interval was among them.
    pub fn add(&mut self, rows: Vec<Row>) -> bool {
        let before = self.behind;
        for row in rows {
            self.behind += usize::from(matches!(row, Row::Interval(_)));
            if let Row::Header(header) = &row
                && header.is_growth()
            {
                self.state.begin_with_resident();
            }
            self.recording.add(row);
        }
        while self.recording.times_s.len() > MAX_INTERVALS
            || (self.recording.times_s.len() > MIN_INTERVALS && self.recording.points() > MAX_POINTS)
        {
            self.recording.thin();
        }
        self.recording.forget_ended(MAX_ENDED);
        self.behind > before
    }

    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// There is something new, and the viewer wants to see it.
    pub fn is_stale(&self) -> bool {
        let is_over = self.recording.end.is_some() && self.picture.ended.is_none();
        (self.behind > 0 || is_over) && !self.state.paused
    }

    /// The tracing has ended, and no row will follow.
    pub fn has_ended(&self) -> bool {
        self.recording.end.is_some()
    }

    /// Brings what is seen up to date.
    pub fn refresh(&mut self) {
        let (at_s, events) = (self.picture.at_s, self.picture.events);
        self.names.learn(&self.recording);
        self.picture = Picture::new(&self.recording, self.state.span.seconds(), self.state.open);
        self.behind = 0;
        let passed_s = self.picture.at_s - at_s;
        if passed_s > 0.0 {
            self.events_per_s = self.picture.events.saturating_sub(events) as f64 / passed_s;
        }
        self.make_list();
        self.look_into();
    }

    fn make_list(&mut self) {
        let filter = Filter(&self.state.filter);
        let (recording, names, kind) = (&self.recording, &self.names, self.state.kind);
        self.list = match self.state.tab {
            Tab::Sites => self.picture.site_lines(recording, names, kind, &filter, self.state.process),
            Tab::Processes => self.picture.process_lines(kind, &self.state.filter),
            Tab::Functions => {
                self.picture.function_lines(recording, names, kind, &filter, self.state.process)
            }
        };
        picture::sort(&mut self.list, self.state.sort);
        let ids: Vec<Id> = self.list.iter().map(|it| it.id).collect();
        self.state.settle(&ids);
    }

    /// Has the stack of the open site ready, without lines as yet if it is another one.
    fn look_into(&mut self) {
        let site = self.state.open.and_then(|it| self.picture.site(it));
        self.detail = match (site, self.detail.take()) {
            (None, _) => None,
            (Some(site), Some(known)) if known.site.id == site.id => {
                Some(Detail { site: site.clone(), ..known })
            }
            (Some(site), _) => Some(Detail::new(&self.recording, site)),
        };
    }

    /// What remains to be done by others.
    pub fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        // Escape and a key right behind it: terminals do not tell them from Alt and that key.
        if key.modifiers.contains(KeyModifiers::ALT) {
            let escape = self.press_one(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
            return escape.or(self.press_one(KeyEvent::new(key.code, key.modifiers - KeyModifiers::ALT)));
        }
        self.press_one(key)
    }

    fn press_one(&mut self, key: KeyEvent) -> Option<Wish> {
        let before = self.state.clone();
        let ids: Vec<Id> = self.list.iter().map(|it| it.id).collect();
        let function = match (self.state.is_enter_in_list(key), ids.get(self.state.cursor)) {
            (true, Some(Id::Function(name))) => Some(*name),
            _ => None,
        };
        let wish = self.state.press(key, &ids);
        if let Some(name) = function {
            self.state.look_into_function(self.names.text(name));
        }
        let now = &self.state;
        if now.span != before.span {
            self.refresh();
        } else if (now.tab, now.sort, now.kind, &now.filter, now.process)
            != (before.tab, before.sort, before.kind, &before.filter, before.process)
        {
            self.make_list();
        }
        if before.open != self.state.open {
            self.look_into();
        }
        wish
    }

    /// A stack is shown whose lines nobody has looked for.
    pub fn wants_places(&self) -> bool {
        self.detail.as_ref().is_some_and(|it| !it.has_places)
    }

    /// Looks for lines and inlined functions; that can take a second for a large program.
    pub fn find_places(&mut self, places: &mut dyn Places) {
        if let Some(detail) = &mut self.detail {
            detail.find_places(&self.recording, places);
        }
    }

    /// Tells the viewer something, until the next key.
    pub fn tell(&mut self, message: String) {
        self.state.message = Some(message);
    }

    /// Fills the screen, whatever its size.
    pub fn draw(&mut self, frame: &mut Frame<'_>, has_colours: bool) {
        draw::draw(self, frame, has_colours);
    }

    /// A block of lines, for where there is no screen. `count` sites at most.
    pub fn text(&self, count: usize) -> String {
        plain::text(self, count)
    }
}
