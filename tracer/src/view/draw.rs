//! The screen. What matters least is left out first, so that any size shows something.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    View, curve, detail, help, list,
    look::{Lines, Look, fit},
    picture::{self, Picture},
    state::Tab,
};
use crate::{
    profile::{Expense, Sort, trust::Grade},
    report::{
        escape::printable,
        units::{bytes, count, seconds},
        words,
    },
};

/// Heights from which on something has a place. The list comes first.
const NUMBERS_FROM: u16 = 6;
const FOOTER_FROM: u16 = 8;
const TABS_FROM: u16 = 10;
const LIVE_CURVE_FROM: u16 = 13;
const RSS_CURVE_FROM: u16 = 16;
const OUTLOOK_FROM: u16 = 20;
const HIGH_CURVES_FROM: u16 = 34;

pub(super) fn draw(view: &mut View, frame: &mut Frame<'_>, has_colours: bool) {
    let area = frame.area();
    if area.width == 0 || area.height == 0 {
        return;
    }
    let look = Look { has_colours };
    let mut lines = Lines { area };
    let height = area.height;
    let put = |frame: &mut Frame<'_>, line: Line<'_>, area: Rect| frame.render_widget(line, area);

    put(frame, title(view, area.width, height, look), lines.top(1));
    if height >= NUMBERS_FROM {
        put(frame, numbers(view, area.width.into(), look), lines.top(1));
    }
    if height >= OUTLOOK_FROM {
        put(frame, outlook(&view.picture, look), lines.top(1));
    }
    let footer = (height >= FOOTER_FROM || view.state.message.is_some()).then(|| lines.bottom(1));
    let curve_height = if height >= HIGH_CURVES_FROM { 3 } else { 1 };
    let picture = &view.picture;
    if height >= LIVE_CURVE_FROM {
        let values = |it: &picture::Moment| Some(it.live_bytes);
        draw_curve(frame, picture, "live", values, lines.top(curve_height), look);
    }
    if height >= RSS_CURVE_FROM {
        let values = |it: &picture::Moment| it.rss_bytes.map(|it| it as i64);
        draw_curve(frame, picture, "RSS ", values, lines.top(curve_height), look);
        if picture.marks_s.iter().any(|it| *it >= picture.from_s) {
            let area = lines.top(1);
            put(frame, marks(picture, area.width, look), area);
        }
    }
    if height >= TABS_FROM {
        put(frame, tabs(view, look), lines.top(1));
    }
    if view.detail.is_some() {
        detail::draw(view, frame, lines.area, look);
    } else {
        list::draw(view, frame, lines.area, look);
    }
    if let Some(area) = footer {
        put(frame, self::footer(view, area.width.into(), look), area);
    }
    if view.state.help {
        help::draw(frame, area, look);
    }
}

/// Who is watched, for how long, and whether it goes on.
fn title(view: &View, width: u16, height: u16, look: Look) -> Line<'static> {
    let picture = &view.picture;
    if height < NUMBERS_FROM || width < 30 {
        let name = picture.processes.first().map_or_else(String::new, |it| printable(&it.row.name).into());
        return Line::styled(format!("{} {name}", bytes(picture.live.bytes)), look.bold());
    }
    let who = who(picture);
    let mut spans = vec![Span::styled(who, look.bold()), Span::raw(format!("   {}", seconds(picture.at_s)))];
    if let Some(state) = ending(picture) {
        spans.push(Span::styled(format!("   {state}"), look.warn()));
    }
    if view.state.paused {
        let behind = match view.behind {
            0 => String::new(),
            1 => ", 1 interval behind".to_owned(),
            many => format!(", {} intervals behind", count(many as i64)),
        };
        spans.push(Span::styled(format!("   PAUSED{behind}"), look.warn()));
    }
    Line::from(spans)
}

/// The process, or how many.
pub(super) fn who(picture: &Picture) -> String {
    match &picture.processes[..] {
        [] => printable(&picture.target).into_owned(),
        [process] => format!("{} {}", process.row.pid, printable(&process.row.name)),
        [first, ..] => {
            let ended = picture.processes.iter().filter(|it| it.row.ended.is_some()).count();
            let ended = match (ended, picture.forgotten) {
                (0, _) => String::new(),
                (_, 0) => format!(", {ended} ended"),
                (_, forgotten) => format!(", {ended} ended ({forgotten} more are no longer listed)"),
            };
            let (name, many) = (printable(&first.row.name), picture.processes.len());
            format!("{} {name} and {} more{ended}", first.row.pid, many - 1)
        }
    }
}

/// How the target ended, or the tracing.
pub(super) fn ending(picture: &Picture) -> Option<String> {
    let over = picture.processes.iter().all(|it| it.row.ended.is_some());
    match picture.processes.first().and_then(words::ended) {
        Some(ended) if over => Some(ended),
        _ => picture.ended.as_ref().map(|reason| format!("TRACING ENDED ({})", reason.replace('-', " "))),
    }
}

/// Live, resident, rate and trust.
pub(super) fn summary(view: &View) -> (String, String) {
    let picture = &view.picture;
    let rss = picture.rss_bytes.map_or_else(String::new, |it| format!("   RSS {}", bytes(it as i64)));
    let sampled = picture.sample_bytes.map_or_else(String::new, |it| {
        format!(" ± {} (one byte in {} sampled)", bytes(picture.live_error_bytes), bytes(it))
    });
    let expense: Expense = picture.processes.iter().filter_map(|it| it.expense).sum();
    let slower = if expense == Expense::default() {
        String::new()
    } else {
        format!("   tracing adds {}", words::share(expense.share()))
    };
    let numbers = format!(
        "live {}{sampled} in {} blocks{rss}   {} events/s{slower}",
        bytes(picture.live.bytes),
        count(picture.live.blocks),
        count(view.events_per_s.round() as i64)
    );
    let losses: Vec<String> = picture
        .losses
        .iter()
        .map(|(loss, many)| format!("{} {}", count(*many as i64), loss.name().replace('_', " ")))
        .collect();
    let losses = if losses.is_empty() { "nothing lost".to_owned() } else { losses.join(", ") };
    (numbers, format!("trust {}: {losses}", picture.grade))
}

fn numbers(view: &View, width: usize, look: Look) -> Line<'static> {
    let (numbers, trust) = summary(view);
    let numbers = fit(&numbers, width);
    let trust = fit(&format!("   {trust}"), width - Span::raw(numbers.as_str()).width());
    let style = match view.picture.grade {
        it if it > Grade::C => look.warn(),
        _ => look.plain(),
    };
    Line::from(vec![Span::raw(numbers), Span::styled(trust, style)])
}

/// What the process that matters most looks like.
fn outlook(picture: &Picture, look: Look) -> Line<'static> {
    let largest = picture.processes.iter().max_by_key(|it| it.rss_last_bytes);
    largest.map_or_else(Line::default, |it| Line::styled(words::outlook(it.outlook), look.dim()))
}

/// Characters before a curve, and behind it.
const CURVE_NAME: u16 = 5;
const CURVE_VALUE: u16 = 12;

pub(super) fn curve_width(width: u16) -> usize {
    width.saturating_sub(CURVE_NAME + CURVE_VALUE).into()
}

fn draw_curve(
    frame: &mut Frame<'_>,
    picture: &Picture,
    name: &str,
    value: impl Fn(&picture::Moment) -> Option<i64>,
    area: Rect,
    look: Look,
) {
    let times = curve::times(picture.from_s, picture.at_s, curve_width(area.width));
    let mut moments = picture.curve.iter().peekable();
    let mut last = None;
    let at = |t_s: &f64| {
        while let Some(moment) = moments.next_if(|it| it.t_s <= *t_s) {
            last = value(moment);
        }
        last
    };
    let values: Vec<Option<i64>> = times.iter().map(at).collect();
    let now = values.iter().rev().flatten().next().map_or_else(String::new, |it| bytes(*it));
    let rows = curve::lines(&values, area.height.into());
    for (y, row) in (area.y..).zip(&rows) {
        let is_last = y + 1 == area.y + area.height;
        let (name, now) = if is_last { (name, now.as_str()) } else { ("", "") };
        let spans = vec![
            Span::styled(format!("{name:<5}"), look.dim()),
            Span::styled(row.clone(), look.good()),
            Span::raw(format!(" {now}")),
        ];
        frame.render_widget(Line::from(spans), Rect { y, height: 1, ..area });
    }
}

/// The numbers of the marks, below their moments in the curves.
fn marks(picture: &Picture, width: u16, look: Look) -> Line<'static> {
    let width = curve_width(width);
    let span_s = picture.at_s - picture.from_s;
    let mut row = vec![' '; width];
    for (number, t_s) in (1..).zip(&picture.marks_s) {
        let part = (t_s - picture.from_s) / span_s;
        if span_s <= 0.0 || !(0.0..=1.0).contains(&part) {
            continue;
        }
        let at = ((part * width as f64) as usize).min(width.saturating_sub(1));
        for (digit, offset) in format!("{number}").chars().zip(0..) {
            if let Some(cell) = row.get_mut(at + offset) {
                *cell = digit;
            }
        }
    }
    Line::styled(format!("mark {}", row.into_iter().collect::<String>()), look.dim())
}

fn tabs(view: &View, look: Look) -> Line<'static> {
    let state = &view.state;
    let tab = |tab: Tab, name: &str| {
        let style = if state.tab == tab { look.chosen() } else { look.dim() };
        Span::styled(format!(" {name} "), style)
    };
    let sort = match state.sort {
        Sort::Bytes => "live",
        Sort::Blocks => "blocks",
        Sort::Growth => "growth",
        Sort::Age => "age",
    };
    let kind = state.kind.map_or("heap and mmap", |it| it.name());
    let many = count(view.list.len() as i64);
    let chosen = format!("   {many} by {sort}   {kind}   window {}", state.span.name());
    let mut spans = vec![tab(Tab::Sites, "Sites"), tab(Tab::Functions, "Functions")];
    if view.picture.processes.len() > 1 {
        spans.push(tab(Tab::Processes, "Processes"));
    }
    spans.push(Span::raw(chosen));
    if let Some(process) = state.process {
        let pid = view.picture.process(process).map_or(0, |it| it.row.pid);
        let name = fit(&super::processes::name(&view.picture, process), 30);
        spans.push(Span::styled(format!("   of {pid} {name}"), look.bold()));
    }
    if state.typing || !state.filter.is_empty() {
        let caret = if state.typing { "_" } else { "" };
        spans.push(Span::styled(format!("   /{}{caret}", printable(&state.filter)), look.bold()));
    }
    Line::from(spans)
}

fn footer(view: &View, width: usize, look: Look) -> Line<'static> {
    let state = &view.state;
    if let Some(message) = &state.message {
        return Line::styled(fit(&printable(message), width), look.bold());
    }
    let keys = if state.typing {
        "Enter keeps the filter   Esc clears it"
    } else if state.open.is_some() {
        "? help   q quit   Esc back   j/k scroll   w window   Space pause"
    } else if state.tab == Tab::Processes {
        "? help   q quit   Enter its sites   p all sites   l/g/b/a sort   / filter   w window   Space pause"
    } else if state.process.is_some() {
        "? help   q quit   Enter stack   Esc processes   Tab functions   l/g/b/a sort   / filter   w window"
    } else {
        "? help   q quit   Enter stack   Tab functions   l/g/b/a sort   / filter   w window   Space pause"
    };
    Line::styled(fit(keys, width), look.dim())
}
