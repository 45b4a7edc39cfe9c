//! One site in full: its stack with modules and lines, its history, its counters.

use ratatui::{
    Frame as Screen,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    View,
    columns::age,
    curve,
    draw::curve_width,
    look::{Lines, Look, fit},
    picture::{self, Picture},
    state::Id,
};
use crate::{
    capture::Recording,
    cost::Cost,
    profile::{Frame, Site, Stacks},
    report::{
        escape::printable,
        units::{bytes, count, rate},
        words,
    },
    symbol::Places,
};

/// The site that the viewer looks into.
pub(super) struct Detail {
    pub(super) site: Site,
    pub(super) frames: Vec<Frame>,
    pub(super) has_places: bool,
}

impl Detail {
    pub(super) fn new(recording: &Recording, site: &Site) -> Self {
        let frames = Stacks::of_site(recording, site, None);
        Self { site: site.clone(), frames, has_places: false }
    }

    pub(super) fn find_places(&mut self, recording: &Recording, places: &mut dyn Places) {
        self.frames = Stacks::of_site(recording, &self.site, Some(places));
        self.has_places = true;
    }

    /// What is said of the site, in lines of `width` characters at most.
    fn facts(&self, picture: &Picture, width: usize, look: Look) -> Vec<Line<'static>> {
        let site = &self.site;
        let cost = |it: Cost| format!("{} in {} blocks", bytes(it.bytes), count(it.blocks));
        let of_kind = picture.live_of(Some(&site.kind)).bytes.max(1);
        let share = site.live.bytes as f64 * 100.0 / of_kind as f64;
        let oldest = site.oldest_s.map_or_else(String::new, |it| format!("   oldest {}", age(it)));
        let lines = [
            format!(
                "{} by {} in process {}   {}",
                site.kind,
                site.via,
                site.pid.unwrap_or_default(),
                site.verdict
            ),
            format!(
                "live {}{}   {share:.1}%   growth {}{oldest}",
                cost(site.live),
                error(site),
                rate(site.growth_bytes_per_s)
            ),
            format!(
                "allocated {}   freed {}   peak {}",
                cost(site.allocated),
                cost(site.freed),
                bytes(site.peak_bytes)
            ),
        ];
        let styles = [look.verdict(site.verdict), look.plain(), look.plain()];
        lines.into_iter().zip(styles).map(|(it, style)| Line::styled(fit(&it, width), style)).collect()
    }

    /// The stack, innermost first.
    fn stack(&self, width: usize, look: Look) -> Vec<Line<'static>> {
        let mut lines: Vec<Line<'static>> = Vec::with_capacity(self.frames.len() + 1);
        for frame in self.frames.iter().filter(|it| !it.is_plumbing()) {
            let name = printable(&frame.label()).into_owned();
            let inlined = if frame.inlined { " inlined" } else { "" };
            let module = match &frame.function {
                Some(_) => format!("  {}{inlined}", printable(frame.module_name())),
                None => String::new(),
            };
            let text = format!("  {name}{}{module}", place(frame));
            let style = if frame.inlined { look.dim() } else { look.plain() };
            lines.push(Line::styled(fit(&text, width), style));
        }
        if self.frames.is_empty() {
            lines.push(Line::styled(fit("  (no stack)", width), look.dim()));
        }
        if !self.site.is_complete() {
            let why = self.site.stop.replace('_', " ");
            let text = format!("  (the stack ends here too early: {why})");
            lines.push(Line::styled(fit(&text, width), look.warn()));
        }
        if !self.has_places {
            lines.push(Line::styled(fit("  (looking for lines)", width), look.dim()));
        }
        lines
    }
}

pub(super) fn draw(view: &mut View, frame: &mut Screen<'_>, area: Rect, look: Look) {
    let Some(detail) = &view.detail else { return };
    let mut lines = Lines { area };
    let width: usize = area.width.into();
    if area.height > 4 {
        for fact in detail.facts(&view.picture, width, look) {
            frame.render_widget(fact, lines.top(1));
        }
    }
    if area.height > 10 {
        let times = curve::times(view.picture.from_s, view.picture.at_s, curve_width(area.width));
        let values = picture::history(&view.recording, &view.names, Id::Site(detail.site.id), &times);
        let row = curve::line(&values);
        let spans = vec![Span::styled("site ", look.dim()), Span::styled(row, look.good())];
        frame.render_widget(Line::from(spans), lines.top(1));
        lines.top(1);
    }
    let stack = detail.stack(width, look);
    let page: usize = lines.area.height.into();
    view.state.page = page.max(1);
    view.state.scroll = view.state.scroll.min(stack.len().saturating_sub(page.max(1)));
    for line in stack.into_iter().skip(view.state.scroll).take(page) {
        frame.render_widget(line, lines.top(1));
    }
}

/// ` (app.c:12)`
fn place(frame: &Frame) -> String {
    let Some(file) = &frame.file else { return String::new() };
    let name = printable(file.rsplit('/').next().unwrap_or(file));
    match frame.line {
        Some(line) => format!(" ({name}:{line})"),
        None => format!(" ({name})"),
    }
}

/// Of what is known by samples.
fn error(site: &Site) -> String {
    if site.live_error == Cost::default() {
        return String::new();
    }
    format!(" {}", words::error(site.live.bytes, site.live_range, site.live_error.bytes))
}
