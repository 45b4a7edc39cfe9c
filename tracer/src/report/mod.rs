//! Reports: one format per file. They read a [`Profile`] and write to any output.

pub mod difference;
pub mod escape;
mod folded;
mod html;
mod json;
pub mod memleak;
pub mod paper;
#[cfg(test)]
mod tests;
mod text;
pub mod units;
pub mod words;

use std::io::{self, Write};

use crate::{capture::Recording, profile::Profile};

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: `alloctrace.report/1`.
    Json,
    /// One line a stack: `outermost;…;innermost bytes`.
    Folded,
    /// A page for a browser, in one file.
    Html,
}

/// What else the writer must know.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Path of the capture, as the user gave it.
    pub path: String,
    /// Sites that are shown; `None`: what suits the format.
    pub top: Option<usize>,
    /// The window with which a report opens that lets its reader choose another, in seconds since tracing began.
    pub from_s: Option<f64>,
    pub to_s: Option<f64>,
    /// Text may have colours.
    pub color: bool,
}

impl Format {
    /// Sites that a report with `options` shows, at most.
    pub fn shown_sites(self, options: &Options) -> usize {
        options.top.unwrap_or(match self {
            Self::Text => text::TOP,
            Self::Json | Self::Folded => usize::MAX,
            Self::Html => html::TOP,
        })
    }
}

/// Writes `profile` to `out`. `recording` is what it was made from: some formats show what happened on the way.
///
/// # Errors
/// Those of `out`.
pub fn write(
    format: Format,
    recording: &Recording,
    profile: &Profile,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Text => text::write(profile, options, out),
        Format::Json => json::write(profile, options, out),
        Format::Folded => folded::write(profile, options, out),
        Format::Html => html::write(recording, profile, options, out),
    }
}
