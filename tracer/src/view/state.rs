//! What the viewer has chosen, and what each key makes of it. It knows nothing of terminals but the names of keys.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::{event::Kind, profile::Sort};

/// What a line of the list is about, as the recording numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Id {
    Site(u32),
    /// By [`super::names::Names`].
    Function(u32),
    Process(u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tab {
    #[default]
    Sites,
    Functions,
    Processes,
}

/// How far back growth and curves look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Span {
    TenSeconds,
    #[default]
    Minute,
    FiveMinutes,
    All,
}

impl Span {
    /// `None`: to the beginning.
    pub(super) fn seconds(self) -> Option<f64> {
        match self {
            Self::TenSeconds => Some(10.0),
            Self::Minute => Some(60.0),
            Self::FiveMinutes => Some(300.0),
            Self::All => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TenSeconds => "10 s",
            Self::Minute => "1 min",
            Self::FiveMinutes => "5 min",
            Self::All => "all",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::TenSeconds => Self::Minute,
            Self::Minute => Self::FiveMinutes,
            Self::FiveMinutes => Self::All,
            Self::All => Self::TenSeconds,
        }
    }
}

/// What a key asks of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Quit,
    Mark,
    SaveCapture,
    SaveFlamegraph,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) tab: Tab,
    pub(super) sort: Sort,
    /// `None`: both.
    pub(super) kind: Option<Kind>,
    pub(super) filter: String,
    /// The process whose sites are listed; `None`: those of all.
    pub(super) process: Option<u32>,
    /// Keys go into the filter.
    pub(super) typing: bool,
    pub(super) span: Span,
    pub(super) paused: bool,
    pub(super) help: bool,
    /// The site whose stack is shown.
    pub(super) open: Option<u32>,
    /// Its first line that is shown.
    pub(super) scroll: usize,
    /// `None`: whatever is first.
    pub(super) selected: Option<Id>,
    /// Where in the list that is.
    pub(super) cursor: usize,
    /// Lines that a page has.
    pub(super) page: usize,
    /// What was done for the viewer last.
    pub(super) message: Option<String>,
}

impl State {
    pub(super) fn new(sort: Sort) -> Self {
        // Direct mappings are address space: the stack of an idle thread would be at the top.
        Self { sort, kind: Some(Kind::Heap), page: 1, ..Self::default() }
    }

    /// The heap is not traced: what is shown first is what the processes touched.
    pub(super) fn begin_with_resident(&mut self) {
        self.kind = Some(Kind::Resident);
    }

    /// `list` are the lines as they are now; the first is at the top.
    pub(super) fn press(&mut self, key: KeyEvent, list: &[Id]) -> Option<Wish> {
        self.message = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Wish::Quit);
        }
        if self.help {
            self.help = false;
            return (key.code == KeyCode::Char('q')).then_some(Wish::Quit);
        }
        if self.typing {
            self.type_filter(key.code);
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Char('m') => return Some(Wish::Mark),
            KeyCode::Char('s') => return Some(Wish::SaveCapture),
            KeyCode::Char('f') => return Some(Wish::SaveFlamegraph),
            KeyCode::Char('?') => self.help = true,
            KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Char('w') if self.paused => {
                self.message = Some("paused: the window can be changed when the view goes on".to_owned());
            }
            KeyCode::Char('w') => self.span = self.span.next(),
            _ if self.open.is_some() => self.press_in_stack(key.code),
            _ => self.press_in_list(key.code, list),
        }
        None
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char(it) => self.filter.push(it),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            _ => {}
        }
    }

    fn press_in_stack(&mut self, key: KeyCode) {
        match key {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace | KeyCode::Left => self.open = None,
            KeyCode::Char('j') | KeyCode::Down => self.scroll += 1,
            KeyCode::Char('k') | KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll += self.page,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(self.page),
            KeyCode::Home => self.scroll = 0,
            // Drawing brings it back to the last line.
            KeyCode::End => self.scroll = usize::MAX / 2,
            _ => {}
        }
    }

    fn press_in_list(&mut self, key: KeyCode, list: &[Id]) {
        let last = list.len().saturating_sub(1);
        match key {
            KeyCode::Char('l') => self.sort_by(Sort::Bytes),
            KeyCode::Char('g') => self.sort_by(Sort::Growth),
            KeyCode::Char('b') => self.sort_by(Sort::Blocks),
            KeyCode::Char('a') => self.sort_by(Sort::Age),
            KeyCode::Char('t') => {
                self.kind = match self.kind {
                    Some(Kind::Heap) => Some(Kind::Mmap),
                    Some(Kind::Mmap) => Some(Kind::Resident),
                    Some(Kind::Resident) => None,
                    None => Some(Kind::Heap),
                };
            }
            KeyCode::Tab | KeyCode::BackTab => {
                self.tab = match self.tab {
                    Tab::Sites => Tab::Functions,
                    Tab::Functions | Tab::Processes => Tab::Sites,
                };
                self.go_to_top();
            }
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('p') => {
                self.tab = if self.tab == Tab::Processes { Tab::Sites } else { Tab::Processes };
                self.go_to_top();
            }
            KeyCode::Esc if self.filter.is_empty() && self.process.is_some() => {
                // Back to where the process was chosen.
                self.selected = self.process.take().map(Id::Process);
                self.tab = Tab::Processes;
            }
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Enter | KeyCode::Right => match list.get(self.cursor) {
                Some(Id::Site(site)) => {
                    self.open = Some(*site);
                    self.scroll = 0;
                }
                Some(Id::Process(process)) => {
                    self.process = Some(*process);
                    self.filter.clear();
                    self.tab = Tab::Sites;
                    self.go_to_top();
                }
                Some(Id::Function(_)) | None => {}
            },
            KeyCode::Char('j') | KeyCode::Down => self.select(self.cursor + 1, list),
            KeyCode::Char('k') | KeyCode::Up => self.select(self.cursor.saturating_sub(1), list),
            KeyCode::PageDown => self.select(self.cursor + self.page, list),
            KeyCode::PageUp => self.select(self.cursor.saturating_sub(self.page), list),
            KeyCode::End => self.select(last, list),
            KeyCode::Home => self.go_to_top(),
            _ => {}
        }
    }

    fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.go_to_top();
    }

    fn go_to_top(&mut self) {
        (self.selected, self.cursor) = (None, 0);
    }

    fn select(&mut self, at: usize, list: &[Id]) {
        self.cursor = at.min(list.len().saturating_sub(1));
        self.selected = list.get(self.cursor).copied().filter(|_| self.cursor > 0);
    }

    /// Whether `key` opens what is selected in the list.
    pub(super) fn is_enter_in_list(&self, key: KeyEvent) -> bool {
        let is_list = self.open.is_none() && !self.typing && !self.help;
        is_list && key.modifiers.is_empty() && matches!(key.code, KeyCode::Enter | KeyCode::Right)
    }

    /// Shows the sites that a function is in.
    pub(super) fn look_into_function(&mut self, name: &str) {
        self.filter = name.to_owned();
        self.tab = Tab::Sites;
        self.go_to_top();
    }

    /// The list is another one: what was selected stays so wherever it is now.
    pub(super) fn settle(&mut self, list: &[Id]) {
        let now = self.selected.and_then(|it| list.iter().position(|other| *other == it));
        match (self.selected, now) {
            (None, _) => self.cursor = 0,
            (Some(_), Some(now)) => self.cursor = now,
            (Some(_), None) => self.select(self.cursor, list),
        }
    }
}

#[cfg(test)]
mod tests;
