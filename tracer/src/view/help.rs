//! What the keys and the signs mean.

use ratatui::{
    Frame,
    layout::Rect,
    text::Line,
    widgets::{Block, Clear},
};

use super::look::{Lines, Look, fit};

const HELP: [&str; 21] = [
    "j k, arrows, PgUp PgDn, Home End   move",
    "Enter    the whole stack; in Functions: the sites with it",
    "Esc      back; clears the filter",
    "Tab      sites / functions",
    "p        processes; Enter: the sites of one, Esc: back",
    "l g b a  sort by live bytes, growth, blocks, age",
    "t        heap / mappings / both",
    "/        filter by name",
    "w        window of growth and curves: 10 s, 1 min, 5 min, all",
    "Space    pause; the tracing goes on",
    "m        place a mark",
    "s        save a capture of everything so far",
    "f        save a flamegraph of what is live",
    "q        quit; the traced process goes on",
    "",
    "GROWTH   bytes a second, the median slope over the window",
    "OWN      allocated by the function itself, not by those it calls",
    "▲        grows to the end, and its blocks stay",
    "=        holds what it got      ~  holds it in ever new blocks",
    "-        everything was freed   ?  too short to judge",
    "RSS      resident memory, that from before the tracing included",
];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, look: Look) {
    let width = area.width.min(68);
    let height = area.height.min(HELP.len() as u16 + 2);
    let box_area =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, box_area);
    let block = Block::bordered().title(" alloctrace top ").style(look.plain());
    let inner = if width > 2 && height > 2 { block.inner(box_area) } else { box_area };
    if width > 2 && height > 2 {
        frame.render_widget(block, box_area);
    }
    let mut lines = Lines { area: inner };
    for text in HELP.iter().take(inner.height.into()) {
        frame.render_widget(Line::raw(fit(text, inner.width.into())), lines.top(1));
    }
}
