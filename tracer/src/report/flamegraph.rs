//! Flame graphs as SVG with search and zoom, drawn by inferno: what is live, or what has changed between two reports.

use std::io::{self, Write};

use inferno::flamegraph::{
    self, Direction, Options as Style, Palette, TextTruncateDirection,
    color::{BasicPalette, Color, PaletteMap},
};

use super::{
    Options, folded,
    level::{Level, printable},
    units, words,
};
use crate::profile::{Difference, Profile};

/// What stands above a graph.
struct Heading {
    title: String,
    subtitle: String,
}

pub(super) fn write(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let folded = folded::fold(profile, options);
    let heading = Heading { title: title(profile), subtitle: subtitle(profile, folded.left_out) };
    let line = |(stack, bytes): (String, i64)| stack + " " + &bytes.to_string();
    let lines: Vec<String> = folded.lines.into_iter().map(line).collect();
    draw(&heading, &lines, "Nothing is live.", out)
}

/// Draws each stack as wide as the larger of what it holds before and after, in red where it holds more after and in
/// blue where it holds less: what a fix has removed is what one wants to see.
pub(super) fn write_difference(
    difference: &Difference,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    // inferno draws the second number, and colours by how much it is above the first.
    let line = |(stack, before, after): (String, i64, i64)| {
        let widest = before.max(after);
        format!("{stack} {} {widest}", widest - (after - before))
    };
    let lines: Vec<String> = folded::fold_difference(difference, options).into_iter().map(line).collect();
    let (before, after) = difference.totals();
    let heading = Heading {
        title: format!("{}, before and after", title(&difference.after)),
        subtitle: format!(
            "{} -> {} ({}); as wide as the larger of the two; red: more after, blue: less; trust {} -> {}",
            units::bytes(before.bytes),
            units::bytes(after.bytes),
            units::change(after.bytes - before.bytes),
            difference.before.grade,
            difference.after.grade
        ),
    };
    draw(&heading, &lines, "Nothing is live, neither before nor after.", out)
}

/// `lines` are in the order of their stacks. If they hold nothing, the picture says `nothing`.
fn draw(heading: &Heading, lines: &[String], nothing: &str, out: &mut dyn Write) -> io::Result<()> {
    if !lines.iter().any(|it| it.rsplit(' ').next().is_some_and(|it| it != "0")) {
        return draw_nothing(heading, nothing, out);
    }
    let mut colors = PaletteMap::default();
    colors.insert(Level::EndsEarly.name().into_owned(), Color { r: 160, g: 160, b: 160 });
    for via in ["mmap", "mremap", "brk"] {
        colors.insert(Level::Mapping(via).name().into_owned(), Color { r: 230, g: 170, b: 80 });
    }
    let mut style = Style::default();
    style.colors = Palette::Basic(BasicPalette::Mem);
    style.palette_map = Some(&mut colors);
    // Colours by name, the same every time.
    style.deterministic = true;
    style.count_name = "bytes".to_owned();
    style.title = heading.title.clone();
    style.subtitle = Some(heading.subtitle.clone());
    // A golden text is about what we tell inferno, not about its script.
    style.no_javascript = cfg!(test);
    style.no_sort = true;
    style.text_truncate_direction = TextTruncateDirection::Right;
    // From the top: stacks can be two hundred deep, and a page opens at its top.
    style.direction = Direction::Inverted;
    flamegraph::from_lines(&mut style, lines.iter().map(String::as_str), &mut *out)?;
    writeln!(out)
}

/// A title is one line of a page, beside the word that searches.
const MAX_TITLE_CHARS: usize = 80;

fn title(profile: &Profile) -> String {
    let target = printable(&profile.header.target).into_owned();
    let target = match target.char_indices().nth(MAX_TITLE_CHARS) {
        Some((end, _)) => format!("{}…", &target[..end]),
        None => target,
    };
    format!("Live memory of {target}")
}

fn subtitle(profile: &Profile, left_out: usize) -> String {
    let (live, _, _) = profile.totals();
    let mut text = format!(
        "{} in {} blocks; recorded {} for {}",
        units::bytes(live.bytes),
        units::count(live.blocks),
        seconds_of(&profile.header.started),
        units::seconds(profile.duration_s),
    );
    if profile.is_windowed() {
        let (from, to) = (units::seconds(profile.from_s), units::seconds(profile.to_s));
        text.push_str(&format!("; allocated from {from} to {to}, live at {}", units::seconds(profile.at_s)));
    }
    text.push_str(&format!("; trust {}", profile.grade));
    if let Some(sampled) = words::sampled(profile) {
        text.push_str(&format!("; {sampled}"));
    }
    if left_out > 0 {
        text.push_str(&format!("; without {} stacks that hold nothing", units::count(left_out as i64)));
    }
    text
}

/// A time without its fractions.
fn seconds_of(time: &str) -> String {
    let short = time.split_once('.').map(|(short, _)| format!("{short}Z"));
    printable(&short.unwrap_or_else(|| time.to_owned())).into_owned()
}

/// inferno refuses to draw nothing.
fn draw_nothing(heading: &Heading, nothing: &str, out: &mut dyn Write) -> io::Result<()> {
    let escape = |it: &str| it.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    writeln!(out, r#"<?xml version="1.0" standalone="no"?>"#)?;
    writeln!(out, r#"<svg version="1.1" width="1200" height="110" xmlns="http://www.w3.org/2000/svg">"#)?;
    writeln!(out, r##"<rect width="100%" height="100%" fill="#eef2ee"/>"##)?;
    writeln!(out, r#"<g font-family="monospace" text-anchor="middle">"#)?;
    for (y, size, text) in [(24, 17, &*heading.title), (48, 12, &*heading.subtitle), (84, 14, nothing)] {
        writeln!(out, r#"<text x="600" y="{y}" font-size="{size}">{}</text>"#, escape(text))?;
    }
    writeln!(out, "</g>\n</svg>")
}
