//! Reports: one format per file. They read a [`Profile`] and write to any output.

mod dhat;
pub mod difference;
pub mod escape;
mod firefox;
mod flamegraph;
mod folded;
mod html;
mod incident;
mod json;
mod level;
pub mod memleak;
pub mod paper;
mod pprof;
mod speedscope;
#[cfg(test)]
mod tests;
mod text;
pub mod units;
pub mod words;

use std::io::{self, Write};

pub use self::json::capture as capture_json;

use self::paper::Paper;
use crate::{
    capture::Recording,
    cost::Cost,
    profile::{Profile, Site},
};

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: `alloctrace.report/1`.
    Json,
    /// One line a stack: `outermost;…;innermost bytes`.
    Folded,
    /// A page for a browser, in one file.
    Html,
    /// A picture: SVG with search and zoom.
    Flamegraph,
    /// pprof's `profile.proto`, compressed.
    Pprof,
    /// speedscope's JSON.
    Speedscope,
    /// The Firefox Profiler's JSON.
    Firefox,
    /// DHAT's JSON, for valgrind's `dh_view.html`.
    Dhat,
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
    /// pprof opens with what was allocated instead of what is live.
    pub opens_with_allocated: bool,
}

impl Format {
    pub const ALL: [Self; 9] = [
        Self::Text,
        Self::Json,
        Self::Folded,
        Self::Html,
        Self::Flamegraph,
        Self::Pprof,
        Self::Speedscope,
        Self::Firefox,
        Self::Dhat,
    ];

    /// As it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Folded => "folded",
            Self::Html => "html",
            Self::Flamegraph => "flamegraph",
            Self::Pprof => "pprof",
            Self::Speedscope => "speedscope",
            Self::Firefox => "firefox",
            Self::Dhat => "dhat",
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text | Self::Folded => "text/plain; charset=utf-8",
            Self::Json | Self::Speedscope | Self::Firefox | Self::Dhat => "application/json",
            Self::Html => "text/html; charset=utf-8",
            Self::Flamegraph => "image/svg+xml",
            // As Go's servers send it.
            Self::Pprof => "application/octet-stream",
        }
    }

    /// What its files are called, behind the name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "json",
            Self::Folded => "folded",
            Self::Html => "html",
            Self::Flamegraph => "svg",
            Self::Pprof => "pb.gz",
            Self::Speedscope => "speedscope.json",
            Self::Firefox => "firefox.json",
            Self::Dhat => "dhat.json",
        }
    }

    /// Nothing for a terminal.
    pub fn is_binary(self) -> bool {
        self == Self::Pprof
    }

    /// Sites that a report with `options` shows, at most.
    pub fn shown_sites(self, options: &Options) -> usize {
        options.top.unwrap_or(match self {
            Self::Text => text::TOP,
            Self::Html => html::TOP,
            _ => usize::MAX,
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
        Format::Flamegraph => flamegraph::write(profile, options, out),
        Format::Pprof => pprof::write(profile, options, out),
        Format::Speedscope => speedscope::write(profile, options, out),
        Format::Firefox => firefox::write(profile, options, out),
        Format::Dhat => dhat::write(profile, options, out),
    }
}

/// One site and its stack as the text report shows them. `cost` is what it is shown for, and `share` what of all
/// that is, 0 to 1.
///
/// # Errors
/// Those of `out`.
pub fn write_site(
    profile: &Profile,
    place: usize,
    site: &Site,
    cost: Cost,
    share: f64,
    out: &mut Paper<'_>,
) -> io::Result<()> {
    text::site(profile, place, site, cost, share, out)
}

/// The grade and every loss, as the text report shows them.
///
/// # Errors
/// Those of `out`.
pub fn write_trust(profile: &Profile, out: &mut Paper<'_>) -> io::Result<()> {
    text::trust(profile, out)
}

/// One element of `sites` of the JSON report.
pub fn site_json(profile: &Profile, site: &Site) -> serde_json::Value {
    json::site_value(profile, site)
}
