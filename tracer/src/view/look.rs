//! What the parts of the screen share: colours, texts that fit, areas that are used up line by line.

use ratatui::{
    layout::Rect,
    style::{Color, Modifier, Style},
    text::Span,
};

use crate::profile::Verdict;

/// Colours, for those who want them. Nothing is said by colour alone.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) has_colours: bool,
}

impl Look {
    fn colour(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) fn plain(self) -> Style {
        Style::new()
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn warn(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn good(self) -> Style {
        self.colour(Color::Cyan)
    }

    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn verdict(self, verdict: Verdict) -> Style {
        match verdict {
            Verdict::Growing { .. } => self.warn(),
            _ => self.plain(),
        }
    }
}

/// `text` in at most `width` cells; what is cut off leaves an ellipsis.
pub(super) fn fit(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for it in text.chars() {
        used += Span::raw(it.to_string()).width();
        if used >= width {
            break;
        }
        cut.push(it);
    }
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// Hands out the lines of an area from both ends.
pub(super) struct Lines {
    pub(super) area: Rect,
}

impl Lines {
    pub(super) fn top(&mut self, height: u16) -> Rect {
        let height = height.min(self.area.height);
        let taken = Rect { height, ..self.area };
        self.area.y += height;
        self.area.height -= height;
        taken
    }

    pub(super) fn bottom(&mut self, height: u16) -> Rect {
        let height = height.min(self.area.height);
        self.area.height -= height;
        Rect { y: self.area.y + self.area.height, height, ..self.area }
    }
}
