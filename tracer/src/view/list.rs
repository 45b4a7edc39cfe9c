//! The list of sites or functions.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    View,
    columns::{Column, TREND_CHARS},
    curve,
    look::{Lines, Look, fit},
    picture, processes,
    state::{Id, Tab},
};
use crate::event::Kind;

pub(super) fn draw(view: &mut View, frame: &mut Frame<'_>, area: Rect, look: Look) {
    let mut lines = Lines { area };
    let width: usize = area.width.into();
    let several = view.picture.processes.len() > 1;
    let columns = Column::that_fit(width, view.state.tab, several);
    if area.height > 2 {
        let mut head: Vec<String> = columns.iter().map(|it| it.align(it.title())).collect();
        head.push(title(view.state.tab).to_owned());
        frame.render_widget(Line::styled(fit(&head.join(" "), width), look.dim()), lines.top(1));
    }
    let page: usize = lines.area.height.into();
    view.state.page = page.max(1);
    let first = view.state.cursor.saturating_sub(page.saturating_sub(1));
    // A page of its own, so that the cursor walks over it instead of dragging the list along.
    let first = (view.state.cursor / view.state.page * view.state.page).max(first.min(view.state.cursor));
    let first = if view.list.len() > page { first.min(view.list.len() - page) } else { 0 };
    if view.list.is_empty() {
        let text = if !view.state.filter.is_empty() {
            "nothing has such a name"
        } else if !view.picture.has_sites {
            "no allocation was seen yet"
        } else {
            "nothing is held"
        };
        frame.render_widget(Line::styled(fit(text, width), look.dim()), lines.top(1));
        return;
    }
    let all = view.picture.live_of(view.state.kind.map(Kind::name));
    let times = curve::times(view.picture.from_s, view.picture.at_s, TREND_CHARS);
    for (at, line) in view.list.iter().enumerate().skip(first).take(page) {
        let trend = if columns.contains(&Column::Trend) {
            let values = picture::history(&view.recording, &view.names, line.id, &times);
            curve::line(&values)
        } else {
            String::new()
        };
        let pid = match line.id {
            Id::Site(site) => view.picture.site(site).and_then(|it| it.pid).unwrap_or_default(),
            Id::Function(_) => 0,
            Id::Process(id) => view.picture.process(id).map_or(0, |it| it.row.pid),
        };
        let cells: Vec<String> = columns.iter().map(|it| it.text(line, all, &trend, pid)).collect();
        let cells = cells.join(" ");
        let room = width.saturating_sub(Span::raw(cells.as_str()).width() + 1);
        let name = fit(&name(view, line.id), room);
        let mut row = Line::from(vec![
            Span::styled(cells, look.verdict(line.verdict)),
            Span::raw(" "),
            Span::styled(name, look.plain()),
        ]);
        if at == view.state.cursor {
            row = row.patch_style(look.chosen());
        }
        frame.render_widget(row, lines.top(1));
    }
}

pub(super) fn title(tab: Tab) -> &'static str {
    match tab {
        Tab::Sites => "SITE",
        Tab::Functions => "FUNCTION",
        Tab::Processes => "PROCESS",
    }
}

pub(super) fn name(view: &View, id: Id) -> String {
    match id {
        Id::Site(site) => {
            let stack = view.recording.sites.get(&site).and_then(|it| view.recording.stacks.get(&it.stack));
            stack.map_or_else(|| "(no stack)".to_owned(), |it| view.names.line(it))
        }
        Id::Function(name) => view.names.text(name).to_owned(),
        Id::Process(id) => processes::name(&view.picture, id),
    }
}
